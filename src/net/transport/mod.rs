//! A stream of bytes to a broker: a half to read, a half to write, and a handle to end both from any thread.
//!
//! Only here is it known what carries the bytes. With TLS the halves share one session, which has locks of its own
//! (`tls`); whoever uses the halves does not notice.

mod tcp;
#[cfg(feature = "tls")]
mod tls;

use std::{
    io::{self, IoSlice, Read},
    net::Shutdown,
    sync::Arc,
    time::Duration,
};

use socket2::Socket;

#[cfg(feature = "tls")]
use crate::net::tls::Tls;
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{Address, SocketOptions},
};

/// The half that reads. Owned by the one thread that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Arc<Socket>,
    #[cfg(feature = "tls")]
    tls: Option<Box<tls::Opener>>,
}

/// The half that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Arc<Socket>,
    /// Why nothing else is written: what follows half a frame would be taken for the rest of it.
    broken: Option<Error>,
    #[cfg(feature = "tls")]
    tls: Option<tls::Sealer>,
}

/// Ends both directions, and wakes whoever is in them.
#[derive(Debug, Clone)]
pub(crate) struct Hangup {
    socket: Arc<Socket>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<tls::Session>>,
}

/// A frame that was not written to its end.
#[derive(Debug)]
pub(crate) struct Unfinished {
    /// Bytes of it that left, fewer than the frame has; with TLS about so many.
    pub(crate) written: usize,
    /// For whoever wrote it.
    pub(crate) error: Error,
    /// For all others, if nothing else is written to this connection any more; so it is once some of a frame has left, and
    /// with TLS once some of it was encrypted.
    pub(crate) broken: Option<Error>,
}

/// Connects to each of the addresses that the name stands for, in turn, until one answers.
pub(crate) fn connect(
    address: &Address,
    options: &SocketOptions,
    deadline: &Deadline,
) -> Result<(Reader, Writer, Hangup)> {
    let socket = Arc::new(tcp::connect(address, options, deadline)?);
    let reader = Reader {
        socket: Arc::clone(&socket),
        #[cfg(feature = "tls")]
        tls: None,
    };
    let writer = Writer {
        socket: Arc::clone(&socket),
        broken: None,
        #[cfg(feature = "tls")]
        tls: None,
    };
    let hangup = Hangup {
        socket,
        #[cfg(feature = "tls")]
        tls: None,
    };
    Ok((reader, writer, hangup))
}

/// Encrypts a connection over which nothing was sent so far: shakes hands by the deadline. Whoever may stop that hangs up.
#[cfg(feature = "tls")]
pub(crate) fn secure(
    (mut reader, mut writer, mut hangup): (Reader, Writer, Hangup),
    tls: &Tls,
    host: &str,
    deadline: &Deadline,
) -> Result<(Reader, Writer, Hangup)> {
    let (opener, sealer, session) = tls::shake_hands(&reader.socket, tls, host, deadline)?;
    reader.tls = Some(Box::new(opener));
    writer.tls = Some(sealer);
    hangup.tls = Some(session);
    Ok((reader, writer, hangup))
}

impl Reader {
    /// `None` waits for ever, or until the connection is hung up.
    pub(crate) fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        set_read_timeout(&self.socket, limit)
    }
}

/// What is less than the system's unit would be nothing to it, and nothing means for ever.
fn set_read_timeout(socket: &Socket, limit: Option<Duration>) -> io::Result<()> {
    socket.set_read_timeout(limit.map(|limit| limit.max(Duration::from_millis(1))))
}

impl Read for Reader {
    /// With TLS it is `Interrupted` when something has come that holds nothing for the caller, so that whoever looks at the
    /// clock in between can do so.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.read(&self.socket, buffer);
        }
        (&*self.socket).read(buffer)
    }
}

impl Writer {
    /// Writes all of it, which may lie in pieces, by the deadline. A caller that is stopped gives up within 50 ms.
    ///
    /// After an error the other side never gets the whole of it: once a part has left, all later frames are refused with
    /// the error that this one met, whoever writes them and however soon.
    pub(crate) fn write_frame(&mut self, frame: &mut [IoSlice<'_>], deadline: &Deadline) -> Result<(), Unfinished> {
        let mut written = 0;
        let result = match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.write(frame, deadline, &mut written),
        };
        result.map_err(|error| {
            let gave_up = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Closed);
            if self.broken.is_none() && (written > 0 || !gave_up || self.is_encrypted()) {
                self.broken = Some(for_others(&error));
            }
            Unfinished {
                written,
                error,
                broken: self.broken.clone(),
            }
        })
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::needless_pass_by_ref_mut, reason = "TLS seals with what changes each time")
    )]
    fn write(&mut self, frame: &mut [IoSlice<'_>], deadline: &Deadline, written: &mut usize) -> Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.write(&self.socket, frame, deadline, written);
        }
        let send = |pieces: &[IoSlice<'_>]| self.socket.send_vectored_with_flags(pieces, NO_SIGNAL);
        write_all(send, frame, deadline, written)
    }

    /// What was encrypted counts in what follows, whether it left or not.
    #[cfg(feature = "tls")]
    fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with TLS it depends")]
    fn is_encrypted(&self) -> bool {
        false
    }
}

/// That one caller was stopped does not mean that the others were.
fn for_others(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Closed => Error::new(
            ErrorKind::Io,
            format!("a request was given up in the middle: {}", error.reason()),
        ),
        _ => error.clone(),
    }
}

/// `written` counts what left, also when it is not all.
fn write_all(
    mut send: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    mut rest: &mut [IoSlice<'_>],
    deadline: &Deadline,
    written: &mut usize,
) -> Result<()> {
    // Empty pieces in front would look like a socket that takes nothing.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let pieces = rest.len().min(MOST_PIECES);
        match send(&rest[..pieces]) {
            Ok(0) => return Err(Error::io("writing a request", io::ErrorKind::WriteZero.into())),
            Ok(more) => {
                *written += more;
                IoSlice::advance_slices(&mut rest, more);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(Error::io("writing a request", error)),
        }
        if !rest.is_empty() {
            // Also after progress: who reads a little now and then keeps nobody for ever.
            deadline.check("room to write a request")?;
        }
    }
    Ok(())
}

/// In one call to the system, which refuses more than 1024 on most.
const MOST_PIECES: usize = 512;

/// libc's `MSG_NOSIGNAL`: a lost connection is an error, and no SIGPIPE that ends a program which, as those do that write
/// to pipes, has given that signal its first meaning back. Apple has an option for it, which socket2 sets.
const NO_SIGNAL: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    0x4000
} else if cfg!(target_os = "freebsd") {
    0x2_0000
} else if cfg!(any(
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly"
)) {
    0x400
} else {
    0
};

impl Hangup {
    /// Both halves see the end of the connection from now on. Waits for nothing, and for no lock.
    pub(crate) fn shutdown(&self) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.say_goodbye(&self.socket);
        }
        // It may already be gone.
        self.socket.shutdown(Shutdown::Both).ok();
    }
}

/// What a socket's own timeout ends a read or a write with; it differs between systems.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::net::scripted::Broker;

    /// Takes as many bytes at a time as it is told, and none when told none, as a socket that is full does.
    struct Narrow {
        room: Vec<usize>,
        taken: Vec<u8>,
    }

    impl Narrow {
        fn send(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            assert!(!pieces.is_empty() && pieces.len() <= 1024);
            let room = match self.room.pop() {
                Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
                Some(1000) => return Err(io::ErrorKind::Interrupted.into()),
                Some(room) => room,
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            let before = self.taken.len();
            let bytes = pieces.iter().flat_map(|piece| piece.iter());
            self.taken.extend(bytes.take(room));
            Ok(self.taken.len() - before)
        }
    }

    fn write(pieces: &[Vec<u8>], room: Vec<usize>, deadline: &Deadline) -> (Vec<u8>, usize, Result<()>) {
        let mut to = Narrow {
            room,
            taken: Vec::new(),
        };
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut written = 0;
        let result = write_all(|pieces| to.send(pieces), &mut slices, deadline, &mut written);
        (to.taken, written, result)
    }

    fn long() -> Deadline {
        Deadline::after(Duration::from_secs(60), "the test's limit")
    }

    proptest! {
        #[test]
        fn pieces_are_written_in_order_wherever_a_write_ends(
            pieces in vec(vec(any::<u8>(), 0..6), 0..12),
            room in vec(prop_oneof![0..8_usize, Just(1000)], 0..30),
        ) {
            let whole = pieces.concat();
            let (taken, written, result) = write(&pieces, room.clone(), &long());
            prop_assert_eq!(written, taken.len());
            prop_assert_eq!(&taken[..], &whole[..written]);
            let could: usize = room.iter().filter(|room| **room < 1000).sum();
            prop_assert_eq!(result.is_ok(), could >= whole.len());
            if let Err(error) = result {
                prop_assert_eq!(error.kind(), ErrorKind::Io);
            }
        }
    }

    #[test]
    fn thousands_of_pieces_take_several_writes() {
        let pieces: Vec<Vec<u8>> = (0..5000_u32)
            .map(|at| at.to_be_bytes()[..at as usize % 4].to_vec())
            .collect();
        let whole = pieces.concat();
        let (taken, written, result) = write(&pieces, vec![usize::MAX; 20], &long());
        result.unwrap();
        assert_eq!((&taken[..], written), (&whole[..], whole.len()));
    }

    #[test]
    fn nothing_follows_half_a_frame() {
        let (go, wait) = bounded::<()>(0);
        let (tell, told) = bounded(1);
        let broker = Broker::start(move |mut peer| {
            wait.recv().ok();
            tell.send(peer.count_to_end()).unwrap();
        });
        let (_reader, mut writer, hangup) = connect(&broker.address, &SocketOptions::default(), &long()).unwrap();
        let part = vec![0; 1024 * 1024];
        let mut frame = [IoSlice::new(&part); 32];
        let soon = Deadline::after(Duration::from_millis(50), "the caller's limit");
        let unfinished = writer.write_frame(&mut frame, &soon).unwrap_err();
        assert!((1..32 * part.len()).contains(&unfinished.written), "{unfinished:?}");
        // Now there is room, but it belongs to the rest of that frame.
        drop(go);
        let refused = writer.write_frame(&mut [IoSlice::new(b"next")], &long()).unwrap_err();
        assert_eq!(refused.written, 0);
        assert_eq!(refused.error.to_string(), unfinished.error.to_string());
        hangup.shutdown();
        assert_eq!(told.recv().unwrap(), unfinished.written);
    }

    #[test]
    fn hardly_any_time_to_read_is_not_for_ever() {
        let (go, wait) = bounded::<()>(0);
        // It hangs up at last, so that a failure shows.
        let broker = Broker::start(move |_peer| {
            wait.recv_timeout(Duration::from_secs(60)).ok();
        });
        let (mut reader, _writer, _hangup) = connect(&broker.address, &SocketOptions::default(), &long()).unwrap();
        let go = go; // whatever fails, the broker goes on before it is joined
        for limit in [Duration::ZERO, Duration::from_nanos(1)] {
            reader.set_read_timeout(Some(limit)).unwrap();
            let error = reader.read(&mut [0; 1]).unwrap_err();
            assert!(is_timeout(&error), "{error}");
        }
        drop(go);
    }

    #[test]
    fn a_deadline_is_looked_at_whenever_something_is_left() {
        let passed = Deadline::after(Duration::ZERO, "the caller's limit");
        let (taken, written, result) = write(&[b"abc".to_vec(), b"def".to_vec()], vec![9, 4], &passed);
        let error = result.unwrap_err();
        assert_eq!(
            (&taken[..], written, error.kind()),
            (&b"abcd"[..], 4, ErrorKind::TimedOut)
        );
        assert!(error.to_string().contains("room to write a request"), "{error}");
        // All in one go needs no time.
        let (taken, _, result) = write(&[b"abc".to_vec()], vec![9], &passed);
        result.unwrap();
        assert_eq!(taken, b"abc");
    }
}
