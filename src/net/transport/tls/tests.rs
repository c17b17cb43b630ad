//! Sessions with brokers that do what the test says, right or wrong.

use std::{io::Write, iter, thread, time::Duration};

use crossbeam_channel::{Receiver, bounded};
use proptest::{collection::vec, option, prelude::*};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection, StreamOwned};

use super::{
    super::{Hangup, Reader, Unfinished, Writer, connect, secure},
    *,
};
use crate::net::{
    SocketOptions,
    scripted::{Broker, Duplex, Peer},
    tls::{
        TlsVersion,
        tests::{Authority, Clients, long, server},
    },
};

type Stream = StreamOwned<ServerConnection, Box<dyn Duplex>>;

/// One broker for a test, and those who trust it.
struct Fixture {
    tls: Tls,
    config: Arc<ServerConfig>,
}

impl Fixture {
    fn new(version: TlsVersion) -> Self {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"]), &Clients::Anybody, version);
        let tls = Tls::new().root_pem(&authority.pem);
        Self { tls, config }
    }

    /// Runs `script` over TLS with each who connects.
    fn broker(&self, script: impl Fn(Stream) + Send + Sync + 'static) -> Broker {
        let config = Arc::clone(&self.config);
        Broker::start(move |peer| script(stream(peer, &config)))
    }

    fn connect(&self, broker: &Broker) -> Result<(Reader, Writer, Hangup)> {
        let halves = connect(&broker.address, &SocketOptions::default(), &long())?;
        let halves = secure(halves, &self.tls, &broker.address.host, &long())?;
        halves.0.set_read_timeout(None).unwrap();
        Ok(halves)
    }
}

fn stream(peer: Peer, config: &Arc<ServerConfig>) -> Stream {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), peer.into_stream())
}

/// No part of it looks like another one.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32).to_le_bytes()
    };
    iter::repeat_with(next).flatten().take(length).collect()
}

/// Something, or why there is nothing.
fn read(reader: &mut Reader, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn write(writer: &mut Writer, pieces: &[&[u8]]) -> Result<(), Unfinished> {
    let mut frame: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    writer.write_frame(&mut frame, &long())
}

#[test]
fn megabytes_go_each_way_at_once_while_keys_are_renewed() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let fixture = Fixture::new(version);
        let broker = fixture.broker(move |mut stream| {
            let mut buffer = vec![0; 50_000];
            let mut turns = 0_u32;
            while let Ok(got @ 1..) = stream.read(&mut buffer) {
                stream.write_all(&buffer[..got]).unwrap();
                turns += 1;
                // It asks the other side to renew its keys as well.
                if version == TlsVersion::Tls13 && turns % 16 == 0 {
                    stream.conn.refresh_traffic_keys().unwrap();
                }
            }
        });
        let (mut reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
        let sent = noise(6 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rest = &sent[..];
                for length in [1, 40, 5_000, 70_000, 16_384, 300_000, 16_385, 65_536]
                    .into_iter()
                    .cycle()
                {
                    let (frame, later) = rest.split_at(rest.len().min(length));
                    let (header, body) = frame.split_at(frame.len() / 7);
                    write(&mut writer, &[header, &[], body]).unwrap();
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            });
            let mut got = Vec::with_capacity(sent.len());
            for length in [1, 7, 1000, 16_384, 100_000, 1 << 20].into_iter().cycle() {
                if got.len() == sent.len() {
                    break;
                }
                let at = got.len();
                got.resize(sent.len().min(at + length), 0);
                reader.read_exact(&mut got[at..]).unwrap();
            }
            assert!(got == sent, "what comes back is what was sent");
        });
        hangup.shutdown();
    }
}

#[test]
fn what_a_broker_says_with_its_handshake_is_not_lost() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let broker = fixture.broker(|mut stream| {
        while !stream.conn.wants_write() {
            stream.conn.read_tls(&mut stream.sock).unwrap();
            stream.conn.process_new_packets().unwrap();
        }
        // Half a round trip before the client may say anything.
        stream.conn.writer().write_all(b"early").unwrap();
        stream.write_all(b" and late").unwrap();
        stream.read_exact(&mut [0; 1]).ok();
    });
    let (mut reader, _writer, hangup) = fixture.connect(&broker).unwrap();
    let mut got = [0; 14];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"early and late");
    hangup.shutdown();
}

/// Between a client and a broker: hands on what `change` leaves of what the broker says.
struct Between<S, F> {
    stream: S,
    change: F,
}

impl<S: Read, F> Read for Between<S, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl<S: Write, F: FnMut(&mut Vec<u8>) -> bool> Write for Between<S, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut changed = bytes.to_vec();
        let goes_on = (self.change)(&mut changed);
        self.stream.write_all(&changed)?;
        match goes_on {
            true => Ok(bytes.len()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A broker of which only so many bytes come across; then the connection ends.
fn cut_after(fixture: &Fixture, bytes: usize, says: &'static [u8]) -> Broker {
    let config = Arc::clone(&fixture.config);
    Broker::start(move |peer| {
        let mut left = bytes;
        let peer = peer.over(|stream| Between {
            stream,
            change: move |bytes: &mut Vec<u8>| {
                bytes.truncate(left);
                left -= bytes.len();
                left > 0
            },
        });
        let mut stream = stream(peer, &config);
        if stream.write_all(says).is_ok() {
            stream.flush().ok();
        }
    })
}

#[test]
fn a_connection_that_is_cut_anywhere_never_says_more_than_came() {
    const SAYS: &[u8] = b"this is said after the handshake, and then something else";
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let fixture = Fixture::new(version);
        let (mut no_handshake, mut some, mut all) = (0, 0, 0);
        // With post-quantum keys a handshake is longer by a thousand.
        for bytes in (1..60).chain((60..3000).step_by(29)) {
            let broker = cut_after(&fixture, bytes, SAYS);
            let mut reader = match fixture.connect(&broker) {
                Ok((reader, ..)) => reader,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unreachable, "after {bytes} bytes: {error}");
                    no_handshake += 1;
                    continue;
                }
            };
            let mut got = Vec::new();
            // However it ends.
            reader.read_to_end(&mut got).ok();
            assert!(SAYS.starts_with(&got), "after {bytes} bytes: {got:?}");
            if got.len() == SAYS.len() { all += 1 } else { some += 1 }
        }
        assert!(no_handshake > 60 && some > 0 && all > 0, "{no_handshake} {some} {all}");
    }
}

#[test]
fn what_is_damaged_on_its_way_is_never_taken_for_good() {
    const SAYS: &[u8] = b"this is said after the handshake";
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let fixture = Fixture::new(version);
        let (mut no_handshake, mut unread) = (0, 0);
        for at in (0..12_usize).chain((12..1500).step_by(37)) {
            let config = Arc::clone(&fixture.config);
            let broker = Broker::start(move |peer| {
                let mut seen = 0;
                let peer = peer.over(|stream| Between {
                    stream,
                    change: move |bytes: &mut Vec<u8>| {
                        let here = at.checked_sub(seen);
                        if let Some(byte) = here.and_then(|here| bytes.get_mut(here)) {
                            *byte ^= 0x20;
                        }
                        seen += bytes.len();
                        true
                    },
                });
                let mut stream = stream(peer, &config);
                stream.write_all(SAYS).ok();
                stream.flush().ok();
            });
            let deadline = Deadline::after(Duration::from_millis(300), "patience");
            let halves = connect(&broker.address, &SocketOptions::default(), &long()).unwrap();
            let Ok((mut reader, ..)) = secure(halves, &fixture.tls, &broker.address.host, &deadline) else {
                no_handshake += 1;
                continue;
            };
            let mut got = Vec::new();
            let result = reader.read_to_end(&mut got);
            assert!(SAYS.starts_with(&got), "byte {at}: {got:?}");
            if let Err(error) = result {
                let error = Error::io("", error);
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Protocol), "{error}");
                unread += 1;
            }
        }
        assert!(no_handshake > 10, "{no_handshake} {unread}");
    }
}

#[test]
fn a_broker_learns_why_it_is_left_and_that_it_is() {
    let (tell, told) = bounded(2);
    let fixture = Fixture::new(TlsVersion::Tls13);
    let broker = fixture.broker(move |mut stream| {
        let mut word = [0; 5];
        stream.read_exact(&mut word).unwrap();
        if &word == b"break" {
            // A record of application data that no key fits.
            stream.sock.write_all(&[23, 3, 3, 0, 24]).unwrap();
            stream.sock.write_all(&[7; 24]).unwrap();
        }
        tell.send(stream.read(&mut word).map_err(|error| error.to_string()))
            .unwrap();
    });
    let (mut reader, mut writer, _hangup) = fixture.connect(&broker).unwrap();
    write(&mut writer, &[b"break"]).unwrap();
    let error = Error::io("reading", read(&mut reader, &mut [0; 10]).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("damaged on its way"), "{error}");
    let alert = told.recv().unwrap().unwrap_err();
    assert!(alert.contains("BadRecordMac"), "{alert}");
    // It stays so, for both halves.
    assert!(reader.read(&mut [0; 10]).is_err());
    let refused = write(&mut writer, &[b"more"]).unwrap_err();
    assert_eq!((refused.written, refused.error.to_string()), (0, error.to_string()));

    let (_reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    write(&mut writer, &[b"leave"]).unwrap();
    hangup.shutdown();
    assert_eq!(told.recv().unwrap(), Ok(0), "an end in good order");
}

#[test]
fn a_hang_up_wakes_who_reads() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let broker = fixture.broker(|mut stream| {
        stream.read_exact(&mut [0; 1]).ok();
    });
    let (mut reader, _writer, hangup) = fixture.connect(&broker).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(|| read(&mut reader, &mut [0; 10]));
        hangup.shutdown();
        assert!(matches!(reading.join().unwrap(), Ok(0) | Err(_)));
    });
}

#[test]
fn nothing_follows_half_a_frame() {
    let (go, wait) = bounded::<()>(0);
    let fixture = Fixture::new(TlsVersion::Tls13);
    let broker = fixture.broker(move |mut stream| {
        stream.read_exact(&mut [0; 1]).unwrap();
        wait.recv().ok();
        let mut count = 0;
        while let Ok(got @ 1..) = stream.read(&mut [0; 60_000]) {
            count += got;
        }
        assert!(count > 0);
    });
    let (_reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    let go = go; // whatever fails, the broker goes on before it is joined
    let part = vec![0; 1024 * 1024];
    let mut frame = [IoSlice::new(&part); 32];
    let soon = Deadline::after(Duration::from_millis(50), "the caller's limit");
    let unfinished = writer.write_frame(&mut frame, &soon).unwrap_err();
    assert_eq!(unfinished.error.kind(), ErrorKind::TimedOut);
    assert!((1..32 * part.len()).contains(&unfinished.written), "{unfinished:?}");
    assert!(unfinished.broken.is_some());
    drop(go);
    let refused = write(&mut writer, &[b"next"]).unwrap_err();
    assert_eq!(refused.written, 0);
    assert_eq!(refused.error.to_string(), unfinished.error.to_string());
    hangup.shutdown();
}

#[test]
fn what_was_encrypted_and_did_not_leave_breaks_the_connection() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let (go, wait) = bounded::<()>(0);
    let broker = fixture.broker(move |mut stream| {
        stream.conn.complete_io(&mut stream.sock).ok();
        wait.recv().ok();
    });
    let (_reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    let go = go; // whatever fails, the broker goes on before it is joined
    let part = vec![0; 1024 * 1024];
    let socket = Arc::clone(&writer.socket);
    let passed = Deadline::after(Duration::ZERO, "the caller's limit");
    let unfinished = loop {
        // Until there is no room at all, which may take several times.
        socket.set_nonblocking(true).unwrap();
        while (&*socket).write(&part).is_ok() {}
        socket.set_nonblocking(false).unwrap();
        if let Err(unfinished) = writer.write_frame(&mut [IoSlice::new(b"small")], &passed) {
            break unfinished;
        }
    };
    assert_eq!((unfinished.error.kind(), unfinished.written), (ErrorKind::TimedOut, 0));
    assert!(unfinished.broken.is_some(), "a record is missing now");
    drop(go);
    hangup.shutdown();
}

#[test]
fn what_did_not_leave_in_time_never_leaves() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let (go, wait) = bounded::<usize>(0);
    let (tell, told) = bounded(1);
    let broker = fixture.broker(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        let left = wait.recv().unwrap_or_default();
        let (mut count, mut buffer) = (0, vec![0; 100_000]);
        while count < left {
            count += stream.sock.read(&mut buffer).unwrap();
        }
        // There is room now, and this is something to complain about.
        stream.sock.write_all(&[23, 3, 3, 0, 24]).unwrap();
        stream.sock.write_all(&[7; 24]).unwrap();
        while let Ok(got @ 1..) = stream.sock.read(&mut buffer) {
            count += got;
        }
        tell.send(count).unwrap();
    });
    let (mut reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    let go = go; // whatever fails, the broker goes on before it is joined
    assert_eq!(read(&mut reader, &mut [0; 5]).unwrap(), 5);
    let part = vec![0; 1024 * 1024];
    let socket = Arc::clone(&writer.socket);
    let passed = Deadline::after(Duration::ZERO, "the caller's limit");
    let mut left = 0;
    loop {
        // Until there is no room at all, which may take several times.
        socket.set_nonblocking(true).unwrap();
        while let Ok(more) = (&*socket).write(&part) {
            left += more;
        }
        socket.set_nonblocking(false).unwrap();
        match writer.write_frame(&mut [IoSlice::new(b"small")], &passed) {
            Ok(()) => left += SMALL,
            Err(_) => break,
        }
    }
    go.send(left).unwrap();
    let damaged = read(&mut reader, &mut [0; 5]).unwrap_err();
    assert_eq!(damaged.kind(), io::ErrorKind::InvalidData, "{damaged}");
    hangup.shutdown();
    let came = told.recv().unwrap();
    assert!(
        (left..left + SMALL).contains(&came),
        "{came} bytes came where {left} had left"
    );
}

/// "small" in a record of TLS 1.3.
const SMALL: usize = 5 + 5 + 1 + 16;

#[test]
fn what_the_reader_has_caused_leaves_before_the_goodbye() {
    let (tell, told) = bounded(1);
    let fixture = Fixture::new(TlsVersion::Tls13);
    let broker = fixture.broker(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        let mut came = Vec::new();
        stream.sock.read_to_end(&mut came).ok();
        tell.send(came).unwrap();
    });
    let (mut reader, _writer, hangup) = fixture.connect(&broker).unwrap();
    assert_eq!(read(&mut reader, &mut [0; 5]).unwrap(), 5);
    let session = Arc::clone(hangup.tls.as_ref().unwrap());
    session.state.lock().caused.extend_from_slice(b"an alert");
    hangup.shutdown();
    let came = told.recv().unwrap();
    let goodbye = came.strip_prefix(b"an alert").expect("what was sealed first is first");
    assert_eq!(goodbye.len(), 5 + 2 + 1 + 16, "an alert in a record");
}

#[test]
fn shares_of_what_left_fit_into_any_machine() {
    assert_eq!(share(0, 0, 0), 0);
    assert_eq!(share(65_536, 65_600, 65_600), 65_536);
    assert_eq!(share(65_536, 32_800, 65_600), 32_768);
    assert_eq!(share(5, 5, 27), 0);
}

#[test]
fn a_record_is_full_before_pieces_are_left_for_the_next() {
    let pieces: Vec<Vec<u8>> = (0..3_000_u32).map(|at| at.to_be_bytes().repeat(5)).collect();
    let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    let mut records = Vec::new();
    let seal = |plain: &[u8], _: &mut [u8]| {
        records.push(plain.to_vec());
        Ok(0)
    };
    let (mut gathered, mut out) = (Vec::new(), Outbox::default());
    let plain = seal_pieces(seal, &mut rest, &mut gathered, &mut out).ok().unwrap();
    assert_eq!((plain, rest.len()), (60_000, 0));
    let lengths: Vec<_> = records.iter().map(Vec::len).collect();
    assert_eq!(lengths, [FRAGMENT, FRAGMENT, FRAGMENT, 60_000 - 3 * FRAGMENT]);
    assert_eq!(records.concat(), pieces.concat());
}

#[test]
fn of_a_frame_in_one_piece_no_copy_is_made() {
    for length in [1, FRAGMENT - 1, FRAGMENT, FRAGMENT + 1, SEALED + 1] {
        let frame = noise(length);
        let mut records = Vec::new();
        let seal = |plain: &[u8], _: &mut [u8]| {
            records.push(plain.to_vec());
            Ok(0)
        };
        let (mut gathered, mut out) = (Vec::new(), Outbox::default());
        let plain = seal_pieces(seal, &mut &mut [IoSlice::new(&frame)][..], &mut gathered, &mut out);
        assert_eq!(plain.ok().unwrap(), length.min(SEALED));
        assert_eq!(records.concat(), frame[..length.min(SEALED)]);
        assert_eq!(gathered.capacity(), 0);
    }
}

#[test]
fn who_reads_looks_at_the_clock_while_half_a_record_trickles_in() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let config = Arc::clone(&fixture.config);
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::start(move |peer| {
        let mut stream = stream(peer, &config);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.conn.writer().write_all(b"some data").unwrap();
        let mut record = Vec::new();
        stream.conn.write_tls(&mut record).unwrap();
        let (first, last) = record.split_at(record.len() - 1);
        stream.sock.write_all(first).unwrap();
        wait.recv().ok();
        stream.sock.write_all(last).unwrap();
        stream.read_exact(&mut word).ok();
    });
    let (mut reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    let go = go; // whatever fails, the broker goes on before it is joined
    write(&mut writer, &[b"tell"]).unwrap();
    reader.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 20];
    let timed_out = read(&mut reader, &mut buffer).unwrap_err();
    assert!(is_timeout(&timed_out), "{timed_out}");
    // Whoever writes meanwhile does no harm to what has come so far.
    write(&mut writer, &[b"more"]).unwrap();
    drop(go);
    reader.set_read_timeout(None).unwrap();
    assert_eq!(read(&mut reader, &mut buffer).unwrap(), 9);
    assert_eq!(&buffer[..9], b"some data");
    hangup.shutdown();
}

#[test]
fn who_writes_is_not_troubled_by_half_a_message_of_the_handshake() {
    let fixture = Fixture::new(TlsVersion::Tls13);
    let mut config = (*fixture.config).clone();
    // A ticket fills several records then.
    config.max_fragment_size = Some(64);
    let config = Arc::new(config);
    let (tell, told) = bounded(1);
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::start(move |peer| {
        let mut stream = stream(peer, &config);
        while stream.conn.is_handshaking() {
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock).unwrap();
            }
            stream.conn.read_tls(&mut stream.sock).unwrap();
            stream.conn.process_new_packets().unwrap();
        }
        let mut tickets = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut tickets).unwrap();
        }
        let (first, others) = tickets.split_at(5 + usize::from(u16::from_be_bytes([tickets[3], tickets[4]])));
        stream.sock.write_all(first).unwrap();
        tell.send(()).unwrap();
        wait.recv().ok();
        stream.sock.write_all(others).unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
        stream.read_exact(&mut word).ok();
    });
    let (mut reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
    let go = go; // whatever fails, the broker goes on before it is joined
    told.recv().unwrap();
    let mut word = [0; 4];
    let nothing = reader.read(&mut word).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::Interrupted);
    write(&mut writer, &[b"more"]).unwrap();
    drop(go);
    reader.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"more");
    hangup.shutdown();
}

/// What a broker does after the handshake.
#[derive(Debug, Clone)]
enum Says {
    Text(usize),
    /// It has new keys, and wants the other side to have some.
    NewKeys,
}

fn says() -> impl Strategy<Value = Says> {
    let length = prop_oneof![4 => 0..200_usize, 4 => 10_000..40_000_usize, 1 => 200_000..400_000_usize];
    prop_oneof![8 => length.prop_map(Says::Text), 1 => Just(Says::NewKeys)]
}

/// Lengths of what is read at a time, by a caller or from a network.
fn steps() -> impl Strategy<Value = Vec<usize>> {
    let step = prop_oneof![2 => 1..120_usize, 1 => 1000..20_000_usize, 1 => 16_384..300_000_usize];
    vec(step, 1..8)
}

/// Bytes that come in pieces of these lengths, again and again.
struct Pieces<'a, S> {
    rest: &'a [u8],
    steps: S,
}

impl<S: Iterator<Item = usize>> Read for Pieces<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.steps.next().unwrap().min(into.len());
        self.rest.read(&mut into[..length])
    }
}

/// Shakes hands, and then gives what it says, encrypted, to be brought across by the test.
fn aside(fixture: &Fixture, longest: Option<usize>, says: Vec<Says>) -> (Broker, Receiver<Vec<u8>>) {
    let mut config = (*fixture.config).clone();
    config.max_fragment_size = longest;
    let config = Arc::new(config);
    let (tell, told) = bounded(1);
    let broker = Broker::start(move |peer| {
        let mut stream = stream(peer, &config);
        stream.conn.set_buffer_limit(None);
        while stream.conn.is_handshaking() {
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut stream.sock).unwrap();
            }
            if stream.conn.is_handshaking() {
                stream.conn.read_tls(&mut stream.sock).unwrap();
                stream.conn.process_new_packets().unwrap();
            }
        }
        while stream.conn.protocol_version() == Some(ProtocolVersion::TLSv1_2) && stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
        for says in &says {
            match says {
                Says::Text(length) => stream.conn.writer().write_all(&noise(*length)).unwrap(),
                Says::NewKeys => drop(stream.conn.refresh_traffic_keys()),
            }
        }
        stream.conn.send_close_notify();
        // With TLS 1.3, its tickets are in front.
        let mut bytes = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut bytes).unwrap();
        }
        tell.send(bytes).unwrap();
        stream.sock.read_to_end(&mut Vec::new()).ok();
    });
    (broker, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_text_is_the_same_however_its_bytes_come_and_are_asked_for(
        is_new in any::<bool>(),
        longest in option::of(prop_oneof![4 => 32..80_usize, 1 => 1000..16_384_usize]),
        said in vec(says(), 1..8),
        brought in steps(),
        wanted in steps(),
        writes in vec(any::<bool>(), 1..8),
    ) {
        let version = if is_new { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
        let fixture = Fixture::new(version);
        let (broker, told) = aside(&fixture, longest, said.clone());
        let (mut reader, mut writer, hangup) = fixture.connect(&broker).unwrap();
        let bytes = told.recv().unwrap();
        let mut from = Pieces { rest: &bytes, steps: brought.iter().copied().cycle() };
        let opener = reader.tls.as_mut().unwrap();
        let mut text = Vec::new();
        let mut buffer = vec![0; 300_000];
        // Whoever writes meanwhile looks at the same session.
        let writes = writes.iter().cycle().take(100).chain(iter::repeat(&false));
        for (&length, &writes) in wanted.iter().cycle().zip(writes) {
            if writes {
                write(&mut writer, &[b"meanwhile"]).unwrap();
            }
            match opener.read_from(&mut from, &reader.socket, &mut buffer[..length]) {
                Ok(0) => break,
                Ok(got) => text.extend_from_slice(&buffer[..got]),
                Err(error) => prop_assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{}", error),
            }
            prop_assert!(opener.plain.len() <= FRAGMENT && opener.incoming.buffer.len() <= MOST);
        }
        let lengths = said.iter().map(|says| match says {
            Says::Text(length) => *length,
            Says::NewKeys => 0,
        });
        let expected: Vec<u8> = lengths.flat_map(noise).collect();
        prop_assert!(text == expected, "{} of {} bytes", text.len(), expected.len());
        hangup.shutdown();
    }
}
