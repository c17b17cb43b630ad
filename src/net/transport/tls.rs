//! TLS over a socket, for one thread that reads and others that write.
//!
//! Both directions have one state, behind a lock that is held while records are opened or sealed and never across I/O: who
//! reads waits for the socket without it. Who writes holds the outbox from sealing to sending, since records must leave in
//! the order in which they were sealed. It is the outbox that is taken first.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, IoSlice, Read},
    mem,
    sync::Arc,
};

use parking_lot::Mutex;
use rustls::{
    AlertDescription,
    client::UnbufferedClientConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus},
};
use socket2::Socket;

use super::{NO_SIGNAL, is_timeout, set_read_timeout, write_all};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::tls::{Failures, Tls},
};

/// What the halves of a connection share.
pub(super) struct Session {
    state: Mutex<State>,
    outbox: Mutex<Outbox>,
    failures: Failures,
}

struct State {
    connection: UnbufferedClientConnection,
    /// What the connection has seen and not let go of: the beginning of a record, or of a message. It wants to see it again
    /// each time, whoever asks something of it.
    unfinished: Vec<u8>,
    /// Records that what came has caused, such as alerts. They leave before whatever is sealed later.
    caused: Vec<u8>,
    failed: Option<Error>,
}

/// What one step has led to.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// Something may follow without more bytes.
    Again,
    /// The handshake goes on with more bytes.
    Hungry,
    /// All that came was looked at; anything may be sent.
    Ready,
    /// The other side has ended the session in good order.
    Over,
}

/// Shakes hands by the deadline.
pub(super) fn shake_hands(
    socket: &Socket,
    tls: &Tls,
    host: &str,
    deadline: &Deadline,
) -> Result<(Opener, Sealer, Arc<Session>)> {
    let config = tls.client_config()?;
    let name = tls.name_of(host)?;
    let failures = tls.failures();
    let mut state =
        State::new(UnbufferedClientConnection::new(config, name).map_err(|error| failures.explain(&error))?);
    let mut incoming = Incoming::new();
    let mut plain = Vec::new();
    loop {
        let (seen, turn) = state.step(incoming.bytes(), |payload| plain.extend_from_slice(payload));
        incoming.forget(seen);
        let turn = turn.map_err(|error| {
            let error = state.fail(match error {
                // An end that no key vouches for is no end in good order.
                rustls::Error::AlertReceived(AlertDescription::CloseNotify) => closed(incoming.total),
                error => failures.explain(&error),
            });
            // So that the broker's log says why, if there is room at once.
            socket.send_with_flags(&state.caused, NO_SIGNAL).ok();
            error
        })?;
        match turn {
            Turn::Again => {}
            Turn::Over => return Err(closed(incoming.total)),
            Turn::Ready | Turn::Hungry => {
                let caused = mem::take(&mut state.caused);
                let send = |pieces: &[IoSlice<'_>]| socket.send_vectored_with_flags(pieces, NO_SIGNAL);
                let sent = write_all(send, &mut [IoSlice::new(&caused)], deadline, &mut 0);
                sent.map_err(|error| interrupted(error, incoming.total, deadline))?;
                if turn == Turn::Ready {
                    break;
                }
                receive(socket, &mut incoming, deadline)?;
            }
        }
    }
    state.unfinished.extend_from_slice(incoming.bytes());
    let session = Arc::new(Session {
        state: Mutex::new(state),
        outbox: Mutex::new(Outbox::default()),
        failures,
    });
    let opener = Opener {
        session: Arc::clone(&session),
        incoming,
        plain,
        given: 0,
        is_drained: true,
        is_over: false,
    };
    let sealer = Sealer {
        session: Arc::clone(&session),
        gathered: Vec::new(),
    };
    Ok((opener, sealer, session))
}

fn receive(socket: &Socket, incoming: &mut Incoming, deadline: &Deadline) -> Result<()> {
    let so_far = incoming.total;
    deadline.check(SHAKEN)?;
    set_read_timeout(socket, Some(deadline.remaining())).map_err(|error| Error::io("preparing the socket", error))?;
    match incoming.fill(socket) {
        Ok(0) => Err(interrupted(closed(so_far), so_far, deadline)),
        Ok(_) if so_far == 0 => incoming.check_first(),
        Ok(_) => Ok(()),
        Err(error) if is_timeout(&error) || error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(interrupted(Error::io(SHAKING, error), so_far, deadline)),
    }
}

const SHAKEN: &str = "the TLS handshake";
const SHAKING: &str = "the TLS handshake";

/// Whatever broke, a stop or the deadline is the reason if it has come. And a listener without TLS hangs up.
fn interrupted(error: Error, so_far: usize, deadline: &Deadline) -> Error {
    match deadline.check(SHAKEN) {
        Err(ended) => ended,
        Ok(()) if error.kind() == ErrorKind::Io => closed(so_far),
        Ok(()) => error,
    }
}

fn closed(so_far: usize) -> Error {
    let sentence = match so_far {
        0 => "the other side closed the connection instead of a TLS handshake: is the port a listener without TLS?",
        _ => "the other side closed the connection in the middle of the TLS handshake",
    };
    Error::new(ErrorKind::Unreachable, sentence)
}

impl State {
    fn new(connection: UnbufferedClientConnection) -> Self {
        Self {
            connection,
            unfinished: Vec::new(),
            caused: Vec::new(),
            failed: None,
        }
    }

    /// How much of `incoming` is not needed any more, and what came of it; what was in it goes to `take`.
    fn step(&mut self, incoming: &mut [u8], mut take: impl FnMut(&[u8])) -> (usize, Result<Turn, rustls::Error>) {
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(incoming);
        let turn = state.and_then(|state| match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    take(record.payload);
                }
                Ok(Turn::Again)
            }
            ConnectionState::EncodeTlsData(mut record) => {
                let at = self.caused.len();
                if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                    record.encode(&mut [])
                {
                    self.caused.resize(at + required_size, 0);
                    record.encode(&mut self.caused[at..]).ok();
                }
                Ok(Turn::Again)
            }
            ConnectionState::TransmitTlsData(transmit) => {
                // It leaves before anything else does.
                transmit.done();
                Ok(Turn::Again)
            }
            ConnectionState::WriteTraffic(_) => Ok(Turn::Ready),
            ConnectionState::BlockedHandshake => Ok(Turn::Hungry),
            ConnectionState::PeerClosed | ConnectionState::Closed => Ok(Turn::Over),
            other => Err(rustls::Error::General(format!(
                "a TLS session is in the state {other:?}"
            ))),
        });
        (discard, turn)
    }

    /// Nothing else is done with the connection but that the other side is told.
    fn fail(&mut self, error: Error) -> Error {
        while self.connection.wants_write() {
            // What there is to be sent comes before what came is looked at.
            if self.step(&mut [], |_| {}).1.is_err() {
                break;
            }
        }
        self.failed = Some(error.clone());
        error
    }

    /// Until nothing is left that must leave before anything else is sealed.
    fn settle(&mut self, unfinished: &mut [u8]) -> Result<Turn, rustls::Error> {
        loop {
            match self.step(unfinished, |_| {}).1 {
                Ok(Turn::Again) => {}
                turn => return turn,
            }
        }
    }

    /// Takes from the front of `rest`, until enough is sealed for one time.
    fn seal(
        &mut self,
        rest: &mut &mut [IoSlice<'_>],
        gathered: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Result<usize, Fault> {
        if let Some(failed) = &self.failed {
            return Err(Fault::Known(failed.clone()));
        }
        let mut unfinished = mem::take(&mut self.unfinished);
        let turn = self.settle(&mut unfinished);
        out.append(&mut self.caused);
        let sealed = turn.map_err(Fault::New).and_then(|turn| match turn {
            Turn::Ready => match self.connection.process_tls_records(&mut unfinished).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let seal = |plain: &[u8], out: &mut [u8]| traffic.encrypt(plain, out);
                    seal_pieces(seal, rest, gathered, out)
                }
                Ok(_) => Err(Fault::Known(ended())),
                Err(error) => Err(Fault::New(error)),
            },
            _ => Err(Fault::Known(ended())),
        });
        self.unfinished = unfinished;
        sealed
    }
}

enum Fault {
    New(rustls::Error),
    Known(Error),
}

fn ended() -> Error {
    Error::new(ErrorKind::Io, "the broker has ended the TLS session")
}

/// Of the plain text in one record, at most.
const FRAGMENT: usize = 16 * 1024;
/// Sealed and sent at a time: a few records for each call to the system, and no more memory than that.
const SEALED: usize = 4 * FRAGMENT;
/// What a record has around its text, in any cipher suite, and some more.
const AROUND: usize = 64;

/// Long pieces, and one alone, are sealed from where they lie: of a secret, no copy stays here. Short ones are gathered, so
/// that each record is as long as it may be.
fn seal_pieces(
    mut seal: impl FnMut(&[u8], &mut [u8]) -> Result<usize, EncryptError>,
    rest: &mut &mut [IoSlice<'_>],
    gathered: &mut Vec<u8>,
    out: &mut Outbox,
) -> Result<usize, Fault> {
    let mut plain = 0;
    while plain < SEALED && !rest.is_empty() {
        let first = rest[0].len();
        let length = if first >= FRAGMENT {
            let length = first.min((SEALED - plain).max(FRAGMENT)) / FRAGMENT * FRAGMENT;
            out.seal(&rest[0][..length], &mut seal)?;
            length
        } else if rest.len() == 1 {
            out.seal(&rest[0], &mut seal)?;
            first
        } else {
            gathered.clear();
            for piece in rest.iter() {
                let room = FRAGMENT - gathered.len();
                if room == 0 {
                    break;
                }
                gathered.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            out.seal(gathered, &mut seal)?;
            gathered.len()
        };
        plain += length;
        IoSlice::advance_slices(rest, length);
    }
    Ok(plain)
}

impl Session {
    /// Sends what the reader has caused, if nobody writes and there is room; otherwise it goes with what is written next.
    fn flush(&self, socket: &Socket) {
        let Some(mut outbox) = self.outbox.try_lock() else {
            return;
        };
        if outbox.is_broken {
            return;
        }
        outbox.append(&mut self.state.lock().caused);
        if let Some(flags) = AT_ONCE {
            let sent = socket.send_with_flags(outbox.bytes(), flags).unwrap_or(0);
            outbox.forget(sent);
        }
    }

    /// Seals and sends a part at a time.
    fn send(
        &self,
        socket: &Socket,
        mut rest: &mut [IoSlice<'_>],
        gathered: &mut Vec<u8>,
        outbox: &mut Outbox,
        deadline: &Deadline,
        written: &mut usize,
    ) -> Result<()> {
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let mut state = self.state.lock();
            let plain = state.seal(&mut rest, gathered, outbox).map_err(|fault| match fault {
                Fault::Known(error) => error,
                Fault::New(error) => state.fail(self.failures.explain(&error)),
            })?;
            drop(state);
            let (all, mut sent) = (outbox.bytes().len(), 0);
            let send = |pieces: &[IoSlice<'_>]| socket.send_vectored_with_flags(pieces, NO_SIGNAL);
            let result = write_all(send, &mut [IoSlice::new(outbox.bytes())], deadline, &mut sent);
            outbox.forget(sent);
            *written += share(plain, sent, all);
            result?;
            if !rest.is_empty() {
                deadline.check("room to write a request")?;
            }
        }
        Ok(())
    }

    /// Tells the other side that this is the end, if that takes no time.
    pub(super) fn say_goodbye(&self, socket: &Socket) {
        let (Some(flags), Some(mut outbox), Some(mut state)) = (AT_ONCE, self.outbox.try_lock(), self.state.try_lock())
        else {
            return;
        };
        if state.failed.is_some() || outbox.is_broken || !outbox.bytes().is_empty() {
            return;
        }
        let mut unfinished = mem::take(&mut state.unfinished);
        state.settle(&mut unfinished).ok();
        outbox.append(&mut state.caused);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            state.connection.process_tls_records(&mut unfinished).state
        {
            outbox.seal_with(|out| traffic.queue_close_notify(out)).ok();
            socket.send_with_flags(outbox.bytes(), flags).ok();
        }
        state.unfinished = unfinished;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// `MSG_DONTWAIT` beside the flags of all writes, where it is known.
const AT_ONCE: Option<i32> = if cfg!(any(target_os = "linux", target_os = "android")) {
    Some(NO_SIGNAL | 0x40)
} else if cfg!(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)) {
    Some(NO_SIGNAL | 0x80)
} else {
    None
};

/// Sealed, and not sent yet.
#[derive(Default)]
struct Outbox {
    /// Longer than what it holds.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What it holds never leaves, since whoever wrote it was told that it did not.
    is_broken: bool,
}

impl Outbox {
    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Takes all of it.
    fn append(&mut self, more: &mut Vec<u8>) {
        self.room(more.len()).copy_from_slice(more);
        self.end += more.len();
        more.clear();
    }

    fn forget(&mut self, sent: usize) {
        self.start += sent;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn room(&mut self, size: usize) -> &mut [u8] {
        let end = self.end + size;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.end..end]
    }

    fn seal(
        &mut self,
        plain: &[u8],
        seal: &mut impl FnMut(&[u8], &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Fault> {
        self.room(plain.len() + (plain.len() / FRAGMENT + 1) * AROUND);
        self.seal_with(|out| seal(plain, out))
    }

    /// `seal` writes, or says how much room it needs.
    fn seal_with(&mut self, mut seal: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>) -> Result<(), Fault> {
        let room = self.bytes.len() - self.end;
        let sealed = match seal(self.room(room)) {
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                seal(self.room(required_size))
            }
            sealed => sealed,
        };
        let sealed = sealed.map_err(|_| {
            let message = "the TLS session has encrypted as much as its keys are good for";
            Fault::Known(Error::new(ErrorKind::Io, message))
        })?;
        self.end += sealed;
        Ok(())
    }
}

/// The half of a session that writes.
pub(super) struct Sealer {
    session: Arc<Session>,
    /// Short pieces, on their way into one record.
    gathered: Vec<u8>,
}

impl Sealer {
    /// As without TLS. `written` counts what left in whole records, and of others their part; after an error, nothing else
    /// may be written, since what was sealed is missing.
    pub(super) fn write(
        &mut self,
        socket: &Socket,
        rest: &mut [IoSlice<'_>],
        deadline: &Deadline,
        written: &mut usize,
    ) -> Result<()> {
        let Self { session, gathered } = self;
        let mut outbox = session.outbox.lock();
        let result = session.send(socket, rest, gathered, &mut outbox, deadline, written);
        outbox.is_broken |= result.is_err();
        result
    }
}

/// Of `plain` bytes that are sealed within `all`, how many left with `sent` of these.
fn share(plain: usize, sent: usize, all: usize) -> usize {
    let share = plain as u64 * sent as u64 / all.max(1) as u64;
    usize::try_from(share).unwrap_or(plain)
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// The half of a session that reads.
pub(super) struct Opener {
    session: Arc<Session>,
    incoming: Incoming,
    /// What was opened and had no room where it was wanted; `given` bytes of it have been taken since.
    plain: Vec<u8>,
    given: usize,
    /// There is nothing to be opened before more comes.
    is_drained: bool,
    is_over: bool,
}

impl Opener {
    /// The end of the connection is an end, also when the session was not ended before: that something is missing shows in
    /// the length of a frame.
    pub(super) fn read(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        self.read_from(socket, socket, into)
    }

    /// `from` brings what `socket` would.
    fn read_from(&mut self, from: impl Read, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        let left = (self.plain.len() - self.given).min(into.len());
        if left > 0 {
            into[..left].copy_from_slice(&self.plain[self.given..][..left]);
            self.given += left;
            return Ok(left);
        }
        if into.is_empty() {
            return Ok(0);
        }
        if !self.is_drained {
            let got = self.open(socket, into)?;
            if got > 0 {
                return Ok(got);
            }
        }
        if self.is_over {
            return Ok(0);
        }
        if self.incoming.fill(from)? == 0 {
            self.is_over = true;
            return Ok(0);
        }
        match self.open(socket, into)? {
            0 if !self.is_over => Err(io::ErrorKind::Interrupted.into()),
            got => Ok(got),
        }
    }

    fn open(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        let Self {
            session,
            incoming,
            plain,
            ..
        } = self;
        plain.clear();
        self.given = 0;
        self.is_drained = false;
        let mut got = 0;
        let mut state = session.state.lock();
        if let Some(failed) = &state.failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, failed.clone()));
        }
        let failed = loop {
            let (seen, turn) = state.step(incoming.bytes(), |payload| {
                let fits = payload.len().min(into.len() - got);
                into[got..got + fits].copy_from_slice(&payload[..fits]);
                got += fits;
                plain.extend_from_slice(&payload[fits..]);
            });
            incoming.forget(seen);
            match turn {
                Ok(Turn::Again) if got < into.len() => {}
                Ok(Turn::Again) => {
                    // Behind a record of data nothing is unfinished.
                    state.unfinished.clear();
                    break None;
                }
                Ok(Turn::Ready | Turn::Hungry) => {
                    self.is_drained = true;
                    state.unfinished.clear();
                    state.unfinished.extend_from_slice(incoming.bytes());
                    break None;
                }
                Ok(Turn::Over) => {
                    self.is_over = true;
                    self.is_drained = true;
                    state.unfinished.clear();
                    break None;
                }
                Err(error) => break Some(state.fail(session.failures.explain(&error))),
            }
        };
        let has_caused = !state.caused.is_empty();
        drop(state);
        if has_caused {
            session.flush(socket);
        }
        match failed {
            // What came before is good; the error stays.
            Some(error) if got == 0 => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            _ => Ok(got),
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// What the socket has brought, until it is opened.
struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    total: usize,
}

/// Enough for one record, and what is read ahead on a connection where little happens.
const FIRST: usize = 32 * 1024;
/// Read at a time where much comes: sixteen records for one call to the system and one turn with the lock.
const MOST: usize = 256 * 1024;

impl Incoming {
    fn new() -> Self {
        Self {
            buffer: vec![0; FIRST],
            start: 0,
            end: 0,
            total: 0,
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn forget(&mut self, seen: usize) {
        self.start += seen;
    }

    fn fill(&mut self, mut from: impl Read) -> io::Result<usize> {
        if self.start == self.end {
            // Where the last bytes were, which the processor still has at hand.
            (self.start, self.end) = (0, 0);
        } else if self.end > self.buffer.len() / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            let message = "a TLS message is longer than any that is needed";
            return Err(io::Error::new(io::ErrorKind::InvalidData, Error::protocol(message)));
        }
        let got = from.read(&mut self.buffer[self.end..])?;
        self.end += got;
        self.total = self.total.saturating_add(got);
        if self.end == self.buffer.len() && self.end < MOST {
            self.buffer.resize(self.end * 2, 0);
        }
        Ok(got)
    }

    /// Whoever does not speak TLS is known by the first bytes.
    fn check_first(&mut self) -> Result<()> {
        let first = self.bytes();
        let sentence = match first {
            // An alert, or a handshake; which it cannot be is found out later.
            [0x15 | 0x16, ..] => return Ok(()),
            [b'H', b'T', b'T', b'P', ..] => "the port speaks HTTP, not TLS".to_owned(),
            [0, ..] => "the port answers without TLS: is it a PLAINTEXT listener?".to_owned(),
            other => {
                let start = String::from_utf8_lossy(&other[..other.len().min(4)]);
                format!("the port does not speak TLS: it sent {start:?}")
            }
        };
        Err(Error::protocol(sentence))
    }
}
