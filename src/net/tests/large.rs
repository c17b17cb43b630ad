//! Requests of many MiB in many pieces, and requests that are not answered.

use std::thread::ScopedJoinHandle;

use crossbeam_channel::{Receiver, Sender};
use kafka_protocol::messages::{
    ProduceRequest, ProduceResponse,
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
};
use uuid::Uuid;

use super::*;
use crate::{
    error::Result,
    net::SocketOptions,
    wire::{
        frame::Pieces,
        produce::{Produce, ProduceFrame, TopicBatches},
    },
};

const ORDERS: Uuid = Uuid::from_u128(0x1234);

/// Made up of bytes that tell where they belong.
fn batch(partition: i32, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ partition as u8).collect()
}

fn encoded<'a, B: AsRef<[u8]>>(
    acks: i16,
    partitions: &'a [(i32, B)],
) -> impl Fn(i16, i32, &str) -> Result<ProduceFrame<'a>> {
    move |version, id, client_id| {
        let topic = TopicBatches {
            name: "orders",
            id: ORDERS,
            partitions,
        };
        let produce = Produce {
            transactional_id: None,
            acks,
            timeout_ms: 1000,
            topics: &[topic],
        };
        produce.encode(version, id, client_id)
    }
}

fn produce<B: AsRef<[u8]>>(
    connection: &Connection,
    partitions: &[(i32, B)],
    deadline: &Deadline,
) -> Result<Pending<ProduceRequest>> {
    connection.send_frame(i16::MAX, Duration::ZERO, encoded(-1, partitions), deadline)
}

fn produce_unanswered(connection: &Connection, deadline: &Deadline) -> Result<()> {
    let partitions = [(0, b"batch")];
    connection.send_unanswered::<ProduceRequest, _>(i16::MAX, encoded(0, &partitions), deadline)
}

/// More than any buffers on the way hold: the same MiB for each of 32 partitions.
fn too_much(batch: &[u8]) -> Vec<(i32, &[u8])> {
    (0..32).map(|partition| (partition, batch)).collect()
}

fn mib() -> Vec<u8> {
    batch(0, 1024 * 1024)
}

/// A broker that says when something large begins to come, and reads on when it is let go; then it tells how many bytes
/// there were in all.
fn stuck() -> (Broker, Receiver<()>, Sender<()>, Receiver<usize>) {
    let (begins, begun) = bounded(1);
    let (go, wait) = bounded::<()>(0);
    let (ends, ended) = bounded(1);
    let broker = Broker::start(move |mut peer| {
        peer.introduce();
        let first = peer.read(&mut [0; 1000]).unwrap_or_default();
        begins.send(()).ok();
        wait.recv().ok();
        ends.send(first + peer.count_to_end()).ok();
    });
    (broker, begun, go, ended)
}

/// A broker that takes a request, and hangs up when it is let go.
fn hanging_up() -> (Broker, Sender<()>) {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::start(move |mut peer| {
        peer.introduce();
        peer.request();
        wait.recv().ok();
    });
    (broker, go)
}

fn small_buffers() -> NetConfig {
    NetConfig {
        socket: SocketOptions {
            send_buffer: Some(64 * 1024),
            ..SocketOptions::default()
        },
        ..patient()
    }
}

#[test]
fn a_request_of_many_pieces_arrives_whole_however_slowly_it_is_read() {
    for (newest, pause) in [(i16::MAX, 0), (12, 0), (8, 70)] {
        let broker = Broker::start(move |mut peer| {
            peer.introduce();
            let pausing = Stop::new("pause");
            let between = || assert!(!pausing.wait(Duration::from_millis(pause)));
            let asked = peer.request_in_steps(1_200_000, between).unwrap();
            let request: ProduceRequest = asked.body();
            assert_eq!((asked.id, asked.version), (0, newest.min(13)));
            assert_eq!((request.acks, request.timeout_ms), (-1, 1000));
            let [topic] = &request.topic_data[..] else {
                panic!("{} topics", request.topic_data.len())
            };
            match asked.version {
                13 => assert_eq!(topic.topic_id, ORDERS),
                _ => assert_eq!(topic.name, topic_name("orders")),
            }
            for (at, data) in (0..).zip(&topic.partition_data) {
                assert_eq!(data.index, at);
                assert!(
                    data.records.as_deref() == Some(&batch(at, 30_000 + at as usize)[..]),
                    "{at}"
                );
            }
            let partition = PartitionProduceResponse::default()
                .with_base_offset(i64::try_from(topic.partition_data.len()).unwrap());
            let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
            let answer = ProduceResponse::default().with_responses(vec![topic]);
            peer.send(&asked.answer::<ProduceRequest>(&answer));
            peer.wait_for_end();
        });
        let connection = Connection::open(&broker.address, &small_buffers(), &long()).unwrap();
        let partitions: Vec<(i32, Vec<u8>)> = (0..400).map(|at| (at, batch(at, 30_000 + at as usize))).collect();
        let sent =
            connection.send_frame::<ProduceRequest, _>(newest, Duration::ZERO, encoded(-1, &partitions), &long());
        let sent = sent.unwrap();
        assert_eq!(sent.version(), newest.min(13));
        let answer = sent.wait(&long()).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, 400);
        assert!(!connection.is_dead());
    }
}

#[test]
fn a_broker_that_stops_reading_ends_a_write_at_its_deadline_and_the_connection() {
    let (broker, _, go, ended) = stuck();
    let connection = open(&broker);
    let (batch, waiting) = (mib(), ask(&connection, "small"));
    let partitions = too_much(&batch);
    let error = produce(&connection, &partitions, &short()).unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::TimedOut, Some("Produce")));
    let size = encoded(-1, &partitions)(13, 0, "klamm").unwrap().len();
    for part in [
        "gave up waiting for room to write a request after 50ms (the caller's limit): ",
        &format!(
            " of {size} bytes were written, in Produce, at broker {}",
            broker.address
        ),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(connection.is_dead() && !connection.ended().unwrap().was_idle);
    assert_eq!(waiting.wait(&long()).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(go);
    assert!(ended.recv().unwrap() < size);
}

#[test]
fn a_stop_ends_a_write_and_others_are_not_told_that_they_were_stopped() {
    let (broker, begun, _go, _ended) = stuck();
    let connection = open(&broker);
    let stop = Stop::new("producer");
    let batch = mib();
    let deadline = long().with_stop(&stop);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| produce(&connection, &too_much(&batch), &deadline).unwrap_err());
        begun.recv().unwrap();
        stop.stop();
        let error = writing.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().starts_with("the producer was closed"), "{error}");
    });
    assert!(connection.is_dead());
    let error = connection.send(&named("a"), &long()).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.is_retriable());
    assert!(
        error
            .to_string()
            .starts_with("a request was given up in the middle: the producer was closed"),
        "{error}"
    );
}

#[test]
fn an_end_from_elsewhere_ends_a_write_and_those_that_wait_for_their_turn() {
    let (broker, begun, go, ended) = stuck();
    let connection = open(&broker);
    let batch = mib();
    let partitions = too_much(&batch);
    std::thread::scope(|scope| {
        let write = || produce(&connection, &partitions, &long()).unwrap_err();
        let writing: Vec<ScopedJoinHandle<'_, Error>> = (0..2).map(|_| scope.spawn(write)).collect();
        begun.recv().unwrap();
        connection.end(Error::closed("client"));
        for writing in writing {
            let error = writing.join().unwrap();
            assert_eq!((error.kind(), error.api()), (ErrorKind::Closed, Some("Produce")));
            assert!(error.to_string().starts_with("the client was closed"), "{error}");
        }
    });
    drop(go);
    let size = encoded(-1, &partitions)(13, 0, "klamm").unwrap().len();
    assert!(ended.recv().unwrap() < size);
}

#[test]
fn a_request_that_cannot_be_encoded_leaves_the_connection_as_it_was() {
    let broker = Broker::serve(|asked| Some(echo(asked)));
    let connection = open(&broker);
    let refuse = |_: i16, _: i32, _: &str| Err::<ProduceFrame<'_>, _>(Error::new(ErrorKind::TooLarge, "too large"));
    let sent = connection.send_frame::<ProduceRequest, _>(i16::MAX, Duration::ZERO, refuse, &long());
    let error = sent.unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::TooLarge, Some("Produce")));
    let sent = connection.send_unanswered::<ProduceRequest, _>(i16::MAX, refuse, &long());
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(told(connection.call(&named("a"), &long()).unwrap()), "a");
    assert!(connection.end_if_idle_for(Duration::ZERO));
}

#[test]
fn what_is_not_answered_is_followed_by_what_is() {
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        for id in [0, 1] {
            let asked = peer.request().unwrap();
            let request: ProduceRequest = asked.body();
            assert_eq!((asked.id, request.acks), (id, 0));
        }
        for id in [2, 4] {
            let asked = peer.request().unwrap();
            assert_eq!(asked.id, id);
            peer.send(&echo(&asked));
            assert_eq!(peer.request().unwrap().id, id + 1);
        }
        peer.wait_for_end();
    });
    let connection = open(&broker);
    produce_unanswered(&connection, &long()).unwrap();
    produce_unanswered(&connection, &long()).unwrap();
    for name in ["a", "b"] {
        let asked = ask(&connection, name);
        produce_unanswered(&connection, &long()).unwrap();
        assert_eq!(told(asked.wait(&long()).unwrap()), name);
    }
    assert!(!connection.is_dead());
}

#[test]
fn what_is_not_answered_is_never_overdue_and_soon_no_reason_to_keep_a_connection() {
    let broker = silent();
    let config = NetConfig {
        request_timeout: Duration::from_millis(50),
        ..patient()
    };
    let connection = Connection::open(&broker.address, &config, &long()).unwrap();
    produce_unanswered(&connection, &long()).unwrap();
    assert!(!Stop::new("nothing").wait(Duration::from_millis(60)));
    assert!(!connection.is_dead());
    assert!(!connection.end_if_idle_for(Duration::from_secs(60)));
    assert!(connection.end_if_idle_for(Duration::ZERO));
    assert!(connection.ended().unwrap().was_idle);
}

#[test]
fn a_broker_that_hangs_up_on_what_it_does_not_answer_was_not_idle() {
    for (request_timeout, was_idle) in [(60_000, false), (20, true)] {
        let (broker, go) = hanging_up();
        let config = NetConfig {
            request_timeout: Duration::from_millis(request_timeout),
            ..patient()
        };
        let connection = Connection::open(&broker.address, &config, &long()).unwrap();
        produce_unanswered(&connection, &long()).unwrap();
        if !was_idle {
            assert!(!connection.end_if_idle_for(Duration::ZERO));
        }
        assert!(!Stop::new("nothing").wait(Duration::from_millis(30)));
        drop(go);
        wait_until(|| connection.is_dead());
        assert_eq!(connection.ended().unwrap().was_idle, was_idle);
        let error = produce_unanswered(&connection, &long()).unwrap_err();
        assert_eq!((error.kind(), error.api()), (ErrorKind::Io, Some("Produce")));
        assert!(
            error.to_string().starts_with("the broker closed the connection"),
            "{error}"
        );
    }
}

#[test]
fn a_write_that_is_not_answered_is_given_up_and_ends_the_connection_too() {
    let (broker, begun, _go, _ended) = stuck();
    let connection = open(&broker);
    let batch = mib();
    let partitions = too_much(&batch);
    std::thread::scope(|scope| {
        let write = || connection.send_unanswered::<ProduceRequest, _>(i16::MAX, encoded(0, &partitions), &long());
        let writing = scope.spawn(write);
        begun.recv().unwrap();
        // In the middle of it, the connection is in use.
        assert!(!connection.end_if_idle_for(Duration::ZERO));
        connection.end(Error::closed("client"));
        assert_eq!(writing.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert!(!connection.ended().unwrap().was_idle);
}

#[test]
fn a_version_is_the_newest_of_both_sides_and_none_beyond_the_caller_s() {
    let broker = Broker::start(|mut peer| {
        let asked = peer.request().unwrap();
        let produce = ApiVersion::default()
            .with_api_key(ProduceRequest::KEY)
            .with_min_version(5)
            .with_max_version(99);
        let answer = ApiVersionsResponse::default().with_api_keys(vec![produce]);
        peer.send(&asked.answer::<ApiVersionsRequest>(&answer));
        peer.wait_for_end();
    });
    let connection = open(&broker);
    let version = |newest| connection.version_of::<ProduceRequest>(newest);
    assert_eq!((version(i16::MAX).unwrap(), version(12).unwrap()), (13, 12));
    let error = version(4).unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Unsupported, Some("Produce")));
    assert_eq!(error.broker(), Some(&*broker.address.to_string()));
    assert!(connection.version_of::<MetadataRequest>(i16::MAX).is_err());
}

#[test]
fn pieces_of_an_ordinary_request_are_one() {
    assert_eq!(
        bytes::BytesMut::from(&b"whole"[..]).pieces().collect::<Vec<_>>(),
        [b"whole"]
    );
}
