//! The harness does what it says: what other tests build on is tried here once.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure what a fault delays, and run a server of their own"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::{Direction, Fate, Kafka, Proxy, Then, dump_log_segments, shared, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn java_tools_and_the_corner_program_agree_on_a_topic() {
    let kafka = shared();
    let topic = unique("agree");
    kafka.create_topic(&topic, 3, &[("retention.ms", "123456789")]);
    let described = kafka.topic_command(&["--describe", "--topic", &topic]);
    assert!(described.contains("PartitionCount: 3"), "{described}");
    assert!(described.contains("retention.ms=123456789"), "{described}");

    kafka.fill(&topic, 3, 3000, "zstd", 50);
    let offsets = kafka.offsets(&topic);
    assert!(offsets.iter().all(|offsets| offsets.latest == 1000), "{offsets:?}");
    let printed = kafka.console_consumer(&topic, 3000, &[]);
    assert_eq!(printed.lines().count(), 3000);
    assert!(printed.contains("\n2:999:"), "the last of partition 2 is there");
    kafka.delete_records(&topic, 0, 10);
    assert_eq!(kafka.offsets(&topic)[0].earliest, 10);
}

#[test]
fn corner_records_read_back_as_written() {
    let kafka = shared();
    let topic = unique("corner");
    kafka.create_topic(&topic, 1, &[]);
    let written = kafka.write_corner_records(&topic, 0);
    assert_eq!(written.len(), 8);
    assert_eq!(written[4].headers.len(), 6);
    assert_eq!(kafka.java_reads(&topic, 100), written);
}

#[test]
fn transactions_are_read_as_their_names_say() {
    let kafka = shared();
    let topic = unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    let transactions = kafka.write_transactions(&topic, 0);
    let values = |wanted: &[&str]| {
        let mut written: Vec<_> = transactions
            .written
            .iter()
            .filter(|(_, value)| wanted.iter().any(|fate| value.starts_with(fate)))
            .collect();
        written.sort();
        written.into_iter().cloned().collect::<Vec<_>>()
    };
    let read = |records: Vec<crate::support::Seen>| -> Vec<(i64, String)> {
        records
            .into_iter()
            .map(|record| (record.offset, record.text()))
            .collect()
    };
    assert_eq!(
        read(kafka.java_reads_committed(&topic, 1000)),
        values(&["committed", "plain"])
    );
    assert_eq!(read(kafka.java_reads(&topic, 1000)), values(&[""]));
    let all = values(&["committed", "plain", "open", "after"]);
    transactions.commit();
    assert_eq!(read(kafka.java_reads_committed(&topic, 1000)), all);
}

#[test]
fn a_compacted_topic_has_gaps_and_empty_batches() {
    let kafka = Kafka::builder().start();
    let topic = unique("compacted");
    let left = kafka.create_compacted_topic(&topic);
    assert_eq!(left.len(), 7, "{left:?}");
    let offsets = kafka.offsets(&topic)[0];
    assert!(left[0].offset > offsets.earliest, "a gap at the head");
    assert!(left[6].offset + 1 < offsets.latest, "a gap at the tail");
    let dumped = dump_log_segments(&kafka.partition_folder(1, &topic, 0));
    let empty = dumped
        .lines()
        .filter(|line| line.contains("count: 0") || line.contains("count: null"))
        .count();
    assert!(empty >= 2, "{dumped}");
}

#[test]
fn broker_keeps_address_and_data_over_kill_and_freeze() {
    let kafka = Kafka::builder().property("connections.max.idle.ms", 2000).start();
    let topic = unique("killed");
    kafka.create_topic(&topic, 1, &[]);
    assert_eq!(kafka.java_writes(&topic, 0, &["before"]), [0]);

    kafka.sigstop(1);
    let mut frozen = TcpStream::connect(kafka.address(1)).expect("the kernel accepts for a frozen broker");
    frozen.write_all(&API_VERSIONS).expect("the kernel takes it");
    frozen
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    frozen
        .read_exact(&mut [0; 4])
        .expect_err("a frozen broker says nothing");
    kafka.sigcont(1);
    frozen.set_read_timeout(Some(LONG)).expect("a timeout");
    frozen.read_exact(&mut [0; 4]).expect("it answers when it goes on");

    kafka.kill9(1);
    TcpStream::connect(kafka.address(1)).expect_err("nobody listens");
    kafka.start(1);
    kafka.wait_for_topic(&topic, 1);
    assert_eq!(kafka.java_writes(&topic, 0, &["after"]), [1]);
    kafka.stop(1);
    TcpStream::connect(kafka.address(1)).expect_err("nobody listens");
}

#[test]
fn three_brokers_survive_the_kill_of_one() {
    let kafka = Kafka::builder().brokers(3).behind_proxies().start();
    let topic = unique("survives");
    kafka.create_topic_on(&topic, &[&[2, 1, 3]], &[]);
    kafka.wait_until_in_sync(&topic);
    assert_eq!(kafka.leader(&topic, 0), 2);
    assert!((1..=3).contains(&kafka.coordinator("some group")));
    assert_eq!(kafka.java_writes(&topic, 0, &["one"]), [0]);
    let started = Instant::now();
    kafka.kill9(2);
    wait_until("another leader", LONG, || {
        kafka
            .partition_states(&topic)
            .iter()
            .all(|state| state.leader == 1 || state.leader == 3)
    });
    println!("another broker led {:?} after the kill", started.elapsed());
    assert_eq!(kafka.java_writes(&topic, 0, &["two"]), [1]);
    kafka.start(2);
    kafka.wait_until_in_sync(&topic);
    kafka.elect_preferred_leader(&topic, 0);
    wait_until("the old leader", LONG, || kafka.leader(&topic, 0) == 2);
    kafka.reassign(&topic, 0, &[3, 1]);
    assert_eq!(kafka.partition_states(&topic)[0].replicas, [3, 1]);

    // Clients are sent to the proxies, which know what they pass on.
    assert_eq!(kafka.address(3), kafka.proxy(3).address());
    let mut client = connect(kafka.address(3));
    client.write_all(&API_VERSIONS).expect("written");
    read_frame(&mut client);
    assert_eq!(kafka.proxy(3).requests(18), 1);
}

#[test]
fn proxy_cuts_stalls_delays_and_trickles() {
    let proxy = Proxy::start(echo());
    let mut client = connect(proxy.address());
    assert_eq!(round_trip(&mut client, 0), ANSWER);
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert_eq!(proxy.passed(Direction::ToBroker), 12);

    proxy.delay(Direction::ToClient, Duration::from_millis(200));
    let asked = Instant::now();
    round_trip(&mut client, 1);
    assert!(asked.elapsed() >= Duration::from_millis(200));
    proxy.heal();

    proxy.trickle(Direction::ToClient, 4, Duration::from_millis(20));
    let asked = Instant::now();
    round_trip(&mut client, 2);
    assert!(
        asked.elapsed() >= Duration::from_millis(60),
        "three pieces of four bytes"
    );
    proxy.heal();

    proxy.stall(Direction::ToClient);
    client.write_all(&request(3)).expect("written");
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    client.read_exact(&mut [0]).expect_err("nothing comes through a stall");
    client.set_read_timeout(Some(LONG)).expect("a timeout");
    proxy.resume();
    read_frame(&mut client);

    // Five bytes of the answer, and then the end.
    proxy.after(Direction::ToClient, 5, Then::Cut);
    client.write_all(&request(4)).expect("written");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an end, no error");
    assert_eq!(rest.len(), 5);
    assert!(!proxy.is_pending(Direction::ToClient));
    wait_until("the cut connection is gone", LONG, || proxy.open() == 0);

    let mut client = connect(proxy.address());
    round_trip(&mut client, 5);
    proxy.reset();
    let error = client.read_exact(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    proxy.refuse(true);
    let mut refused = connect(proxy.address());
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    let address = proxy.address();
    drop(proxy);
    TcpStream::connect(address).expect_err("a dropped proxy does not listen");
}

#[test]
fn proxy_hooks_change_swallow_and_count() {
    let proxy = Proxy::start(echo());
    let (sender, seen) = channel();
    proxy.on_request(move |asked, _| {
        sender.send(asked.correlation).expect("the test listens");
        if asked.correlation == 1 {
            Fate::Drop
        } else {
            Fate::Forward
        }
    });
    proxy.on_answer(|asked, frame| {
        assert_eq!((asked.api_key, asked.version), (18, 0));
        match asked.correlation {
            2 => frame.push(b'!'),
            3 => {
                frame.splice(0..0, [0, 0, 1, 0]);
                return Fate::ForwardRaw;
            }
            4 => return Fate::Cut,
            _ => {}
        }
        Fate::Forward
    });
    let mut client = connect(proxy.address());
    for correlation in 0..5 {
        client.write_all(&request(correlation)).expect("written");
    }
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("an end, no error");
    let parts: [&[u8]; 6] = [
        &ANSWER[..4],
        &[0, 0, 0, 0],
        &[0, 0, 0, 9],
        &[0, 0, 0, 2],
        b"echo!",
        &[0, 0, 1, 0],
    ];
    let mut expected = parts[..2].concat();
    expected.extend(b"echo");
    expected.extend(parts[2..].concat());
    expected.extend([0, 0, 0, 3]);
    expected.extend(b"echo");
    assert_eq!(all, expected);
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(proxy.requests(18), 5);

    // What is no frame passes as it is.
    proxy.no_hooks();
    let mut client = connect(proxy.address());
    client.write_all(&[0x16, 3, 1, 9]).expect("written");
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    client
        .read_exact(&mut [0])
        .expect_err("the echo waits for more of what it takes for a frame");
    assert!(proxy.passed(Direction::ToBroker) >= 4);
}

/// Length, API key 18, version 0, correlation 0, null client id.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// The echo's answer to correlation 0.
const ANSWER: [u8; 12] = [0, 0, 0, 8, 0, 0, 0, 0, b'e', b'c', b'h', b'o'];

fn request(correlation: u8) -> [u8; 12] {
    [0, 0, 0, 8, 0, 18, 0, 0, 0, 0, 0, correlation]
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    stream
}

fn round_trip(client: &mut TcpStream, correlation: u8) -> Vec<u8> {
    client.write_all(&request(correlation)).expect("written");
    read_frame(client)
}

fn read_frame(client: &mut TcpStream) -> Vec<u8> {
    let mut frame = vec![0; 4];
    client.read_exact(&mut frame).expect("a length");
    let length = u32::from_be_bytes(frame[..4].try_into().expect("four bytes")) as usize;
    frame.resize(4 + length, 0);
    client.read_exact(&mut frame[4..]).expect("a frame");
    frame
}

/// A server that answers every frame with its correlation id and "echo". It lives as long as the tests.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut frame = [0; 12];
                while stream.read_exact(&mut frame).is_ok() {
                    let mut answer = vec![0, 0, 0, 8];
                    answer.extend(&frame[8..]);
                    answer.extend(b"echo");
                    if stream.write_all(&answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}
