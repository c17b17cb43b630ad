//! What lies cost in memory: the most that a whole process has ever had, which is a process of its own for each of them.

use std::process::{Command, Stdio};

use klamm::{Client, Error, ErrorKind, Next, Topics};

use crate::{
    PROMPT, SHORT, impatient,
    liar::{Answer, Batch, COUNT, FETCH, Fate, Liar, METADATA, TOPIC, batches, record, seal, varint},
    wait_until, within,
};

/// `decoded_batch_limit` of the readers here.
const DECODED: usize = 16 << 20;
/// What a process may have had at most, its program and stacks included.
const MOST: usize = 32 << 20;

const BOOTSTRAP: &str = "KLAMM_HOSTILE_BOOTSTRAP";

/// What another process saw.
#[derive(Debug)]
struct Seen {
    /// The program's first error.
    error: String,
    /// How many messages came before it, and after it.
    before: usize,
    behind: usize,
}

/// A process that is told this asks for metadata, reads the topic to its end, and seeks over the first error.
#[track_caller]
fn seen_by_a_process(liar: &Liar) -> Seen {
    let output = Command::new(std::env::current_exe().expect("a test binary has a path"))
        .args([
            "peak::a_process_of_its_own",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(BOOTSTRAP, liar.bootstrap())
        .stdin(Stdio::null())
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name:?} in: {said}")).to_owned()
    };
    let number = |name: &str| value(name).parse().expect("a number");
    let peak: usize = number("peak: ");
    println!("{peak} bytes at most; {}", value("error: "));
    assert!(peak <= MOST, "{peak} bytes: {said}");
    Seen {
        error: value("error: "),
        before: number("before: "),
        behind: number("behind: "),
    }
}

#[test]
#[ignore = "a process that others start"]
fn a_process_of_its_own() {
    let client = impatient(&std::env::var(BOOTSTRAP).expect("it is told whom to ask"))
        .connect()
        .unwrap();
    let mut errors = Vec::new();
    errors.extend(client.metadata(Topics::All).err());
    let (before, behind) = read(&client, &mut errors);
    println!();
    println!("error: {}", errors.first().map_or(String::new(), said));
    println!("before: {before}");
    println!("behind: {behind}");
    println!("peak: {}", peak());
}

fn said(error: &Error) -> String {
    format!("{:?}: {error}", error.kind())
}

fn read(client: &Client, errors: &mut Vec<Error>) -> (usize, usize) {
    let reader = client.reader().topics([TOPIC]).decoded_batch_limit(DECODED);
    let stream = reader.until_end().open().unwrap();
    let mut iter = stream.iter();
    let (mut before, mut behind) = (0, 0);
    loop {
        let count = if errors.is_empty() { &mut before } else { &mut behind };
        match iter.next_timeout(SHORT * 20) {
            Ok(Next::Message(_)) => *count += 1,
            Ok(Next::Ended) => return (before, behind),
            Ok(other) => panic!("{other:?}: {:?}", stream.health()),
            Err(error) => {
                errors.push(error);
                assert!(errors.len() < 3, "{errors:?}");
                // Behind what cannot be read.
                stream.seek((TOPIC, 0), klamm::StartAt::Offset(11)).unwrap();
            }
        }
    }
}

/// As the system tells it; only Linux does so easily.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// The answer to the first such request but one that a connection begins with is this; then all is true.
fn once(api: i16, lie: impl Fn(&mut Answer) -> Fate + Send + Sync + 'static) -> Liar {
    let liar = Liar::start(batches(3));
    let first = usize::from(api == METADATA);
    liar.lie(
        api,
        move |asked, answer| {
            if asked.count == first { lie(answer) } else { Fate::Send }
        },
    );
    liar
}

fn these(bytes: &'static [u8]) -> impl Fn(&mut Answer) -> Fate {
    move |answer| {
        *answer = Answer::Bytes(bytes.to_vec());
        Fate::Send
    }
}

#[test]
fn counts_and_lengths_of_two_gigabytes_are_not_allocated() {
    let not_compact = once(METADATA, these(&[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]));
    not_compact.speak(METADATA, 4, 8);
    let lies = [
        (not_compact, "does not hold"),
        // No tags, throttle time, and 2^31 brokers.
        (once(METADATA, these(ELEVEN)), "does not hold"),
        (
            once(METADATA, |_| {
                Fate::Change(|frame| frame[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]))
            }),
            "2147483647 bytes",
        ),
        (
            once(METADATA, |_| {
                Fate::Change(|frame| frame[..4].copy_from_slice(&[0xff; 4]))
            }),
            "-1 bytes",
        ),
        (
            once(METADATA, |_| Fate::Change(|frame| *frame = HTTP.to_vec())),
            "speaks HTTP",
        ),
    ];
    for (liar, why) in lies {
        let seen = seen_by_a_process(&liar);
        assert!(seen.error.contains(why), "{seen:?}");
        assert_eq!((seen.before, seen.behind), (0, 30), "{seen:?}");
    }
}

const ELEVEN: &[u8] = &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07, 0];
const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

#[test]
fn what_a_fetch_answer_lies_about_is_asked_for_again_and_not_allocated() {
    let lies: [fn(&mut Answer) -> Fate; 4] = [
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff])),
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0x80, 0, 0, 0])),
        |_| Fate::Change(|frame| *frame = HTTP.to_vec()),
        // The number of topics, behind correlation ID, tags, throttle time, error and session ID.
        |_| Fate::Change(|frame| frame[19..24].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f])),
    ];
    for lie in lies {
        let seen = seen_by_a_process(&once(FETCH, lie));
        assert_eq!((&*seen.error, seen.before), ("", 30), "{seen:?}");
    }
}

/// Ten records, one batch of a record that is not, and nine more.
fn with_a_batch(batch: Batch) -> Liar {
    Liar::start(vec![Batch::of(0, 10), batch, Batch::of(11, 9)])
}

#[track_caller]
fn is_an_error_of_its_own(batch: Batch, kind: ErrorKind) {
    let seen = seen_by_a_process(&with_a_batch(batch));
    assert!(seen.error.starts_with(&format!("{kind:?}")), "{seen:?}");
    assert!(seen.error.contains("offset 10"), "{seen:?}");
    assert_eq!((seen.before, seen.behind), (10, 9), "{seen:?}");
}

#[test]
fn counts_and_lengths_in_batches_are_not_allocated() {
    let mut records = Batch::of(10, 1);
    records.bytes[COUNT..COUNT + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    seal(&mut records.bytes);
    is_an_error_of_its_own(records, ErrorKind::Corrupt);

    // A record without key and value, whose headers are 2^31 − 1; and one whose key is as long.
    for fields in [&[0, 0, 0, 1, 1][..], &[0, 0, 0]] {
        let mut body = fields.to_vec();
        varint(&mut body, i64::from(i32::MAX));
        let mut bytes = Vec::new();
        varint(&mut bytes, body.len() as i64);
        bytes.extend(body);
        is_an_error_of_its_own(Batch::from_bytes(10, 1, 0, &bytes), ErrorKind::Corrupt);
    }
    // A record of 2^31 − 1 bytes.
    let mut bytes = Vec::new();
    varint(&mut bytes, i64::from(i32::MAX));
    is_an_error_of_its_own(Batch::from_bytes(10, 1, 0, &bytes), ErrorKind::Corrupt);
    // A batch that is longer than all that follows it is never complete; one of a negative length is none.
    let mut negative = Batch::of(10, 1);
    negative.bytes[8..12].copy_from_slice(&(-1_i32).to_be_bytes());
    is_an_error_of_its_own(negative, ErrorKind::Corrupt);
}

#[test]
fn four_gigabytes_of_snappy_are_not_allocated() {
    // Bare, and in the Java library's framing.
    let bare = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 20]].concat();
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &25_u32.to_be_bytes(), &bare].concat();
    for bytes in [bare, framed] {
        is_an_error_of_its_own(Batch::from_bytes(10, 1, 2, &bytes), ErrorKind::Corrupt);
    }
}

#[test]
fn bombs_of_every_codec_go_off_below_the_limit() {
    use std::io::Write;
    let record = record(0, &vec![0; 200 << 20]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    gzip.write_all(&record).expect("memory");
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&record).expect("memory");
    let bombs = [
        (1, gzip.finish().expect("memory")),
        (3, lz4.finish().expect("memory")),
        (4, zstd::bulk::compress(&record, 1).expect("memory")),
    ];
    drop(record);
    for (codec, bomb) in bombs {
        is_an_error_of_its_own(Batch::from_bytes(10, 1, codec, &bomb), ErrorKind::TooLarge);
    }
}

#[test]
fn a_connection_that_was_lied_to_is_closed() {
    let lies: [fn(&mut Answer) -> Fate; 5] = [
        |answer| these(ELEVEN)(answer),
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff])),
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0xff; 4])),
        |_| Fate::Change(|frame| *frame = HTTP.to_vec()),
        |_| Fate::Change(|frame| frame[7] ^= 1),
    ];
    for lie in lies {
        let liar = once(METADATA, lie);
        let client = impatient(&liar.bootstrap()).connect().unwrap();
        let (open, error) = (liar.hung_up(), client.metadata(Topics::All));
        error.unwrap_err();
        wait_until("the connection is closed", || liar.hung_up() > open);
        within(PROMPT, || client.metadata(Topics::All).unwrap());
    }
}
