//! What somebody may do is taken from them and given back while they read and write.

use std::time::{Duration, Instant};

use klamm::{Client, Error, ErrorKind, Next, Producer, Record, Sasl, StartAt, Stream, Token};

use super::refusals::{SECRETS, tells_no_secret};
use super::{LONG, at, plain, take, write};
use crate::support::{LogWatch, Proxy, Seen, User, secured, unique, unsecured_token, wait_until};

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const METADATA: i16 = 3;

const ALICE: &str = "User:alice";
/// Whose right remains, so that a topic is not everybody's again.
const BOB: &str = "User:bob";

fn alice(listener: &str) -> Client {
    at(listener).sasl(plain(User::ALICE)).connect().expect("she is let in")
}

/// What a client does through a proxy from now on.
struct Traffic<'a> {
    proxy: &'a Proxy,
    begun: Instant,
    connections: usize,
    requests: [u64; 3],
}

impl<'a> Traffic<'a> {
    fn of(proxy: &'a Proxy) -> Self {
        Self {
            proxy,
            begun: Instant::now(),
            connections: proxy.accepted(),
            requests: Self::count(proxy),
        }
    }

    fn count(proxy: &Proxy) -> [u64; 3] {
        [PRODUCE, FETCH, METADATA].map(|api| proxy.requests(api))
    }

    /// So many requests at most, beside a few, in each second: whoever asks without a pause asks thousands of times.
    #[track_caller]
    fn is_calm(&self, a_second: [u64; 3]) {
        let took = self.begun.elapsed();
        let connections = self.proxy.accepted() - self.connections;
        let counts = Self::count(self.proxy);
        println!(
            "{connections} connections, requests {:?} to {counts:?} in {took:?}",
            self.requests
        );
        assert!(connections <= 2, "{connections} connections in {took:?}");
        for ((now, before), a_second) in counts.into_iter().zip(self.requests).zip(a_second) {
            let most = 10 + a_second * (1 + took.as_secs());
            assert!(now - before <= most, "{:?} to {counts:?} in {took:?}", self.requests);
        }
    }
}

/// Two topics of one partition which only Alice and Bob may read and write.
fn two_topics() -> [String; 2] {
    ["revoked", "left"].map(|name| {
        let (kafka, topic) = (&secured().kafka, unique(name));
        kafka.create_topic(&topic, 1, &[]);
        for operation in ["READ", "WRITE", "DESCRIBE"] {
            kafka.allow(ALICE, operation, "TOPIC", &topic);
            kafka.allow(BOB, operation, "TOPIC", &topic);
        }
        topic
    })
}

/// The next error; messages before it are passed.
#[track_caller]
fn error_of(stream: &Stream) -> Error {
    let mut iter = stream.iter();
    loop {
        match iter.next_timeout(LONG) {
            Ok(Next::Message(message)) => drop(message.ack()),
            Err(error) => return error,
            other => panic!("no error but {other:?}; {:?}", stream.health()),
        }
    }
}

fn attempt(producer: &Producer, topic: &str, text: &str) -> Result<(), Error> {
    let record = Record::to(topic).partition(0).value(text);
    producer.send(record)?.wait(LONG).map(drop)
}

#[test]
fn a_topic_that_may_be_read_no_more_fails_alone_and_goes_on_when_it_may_again() {
    let kafka = &secured().kafka;
    let [revoked, left] = two_topics();
    for topic in [&revoked, &left] {
        kafka.java_writes(topic, 0, &["one", "two"]);
    }
    let client = alice("READ");
    let stream = client
        .group(unique("revoked"))
        .topics([&revoked, &left])
        .start_at(StartAt::Earliest)
        .join()
        .expect("it joins");
    take(&stream, 4);

    let log = LogWatch::start(&SECRETS);
    let traffic = Traffic::of(kafka.listener_proxy(1, "READ"));
    kafka.revoke(ALICE, "READ", "TOPIC", &revoked);
    let error = error_of(&stream);
    println!("{error}");
    tells_no_secret(&error);
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    assert_eq!(
        (error.topic(), error.partition()),
        (Some(&*revoked), Some(0)),
        "{error}"
    );
    kafka.java_writes(&revoked, 0, &["three"]);
    kafka.java_writes(&left, 0, &["three"]);
    assert_eq!(take(&stream, 1), [(left.clone(), "three".to_owned())]);
    std::thread::sleep(Duration::from_secs(1));
    traffic.is_calm([0, 20, 2]);
    log.assert_clean();

    kafka.allow(ALICE, "READ", "TOPIC", &revoked);
    stream
        .seek((&*revoked, 0), StartAt::Offset(2))
        .expect("it is still this member's");
    assert_eq!(take(&stream, 1), [(revoked.clone(), "three".to_owned())]);
    let report = stream.close(LONG).expect("a report");
    assert!(report.uncommitted.is_empty(), "{report:?}");
}

#[test]
fn a_topic_that_may_be_written_no_more_fails_alone_and_goes_on_when_it_may_again() {
    let kafka = &secured().kafka;
    let [revoked, left] = two_topics();
    let client = alice("WRITTEN");
    let producer = client.producer().build().expect("good settings");
    for topic in [&revoked, &left] {
        write(&producer, topic, 0, ["one"]);
    }
    let log = LogWatch::start(&SECRETS);
    let traffic = Traffic::of(kafka.listener_proxy(1, "WRITTEN"));
    kafka.revoke(ALICE, "WRITE", "TOPIC", &revoked);
    let error = attempt(&producer, &revoked, "refused").expect_err("it may not");
    println!("{error}");
    tells_no_secret(&error);
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    assert_eq!(
        (error.topic(), error.partition()),
        (Some(&*revoked), Some(0)),
        "{error}"
    );
    assert!(!error.is_retriable(), "{error}");
    write(&producer, &left, 0, ["two"]);
    std::thread::sleep(Duration::from_secs(1));
    traffic.is_calm([0, 0, 2]);
    log.assert_clean();

    kafka.allow(ALICE, "WRITE", "TOPIC", &revoked);
    wait_until("it may again", LONG, || attempt(&producer, &revoked, "two").is_ok());
    let report = producer.close(LONG).expect("a report");
    assert!(report.is_clean(), "{report:?}");
    for topic in [&revoked, &left] {
        let texts: Vec<_> = kafka.java_reads(topic, 10).iter().map(Seen::text).collect();
        assert_eq!(texts, ["one", "two"]);
    }
}

#[test]
fn what_others_may_read_is_refused_by_its_name() {
    let [closed, _] = two_topics();
    let client = at("SASL").sasl(Sasl::oauthbearer(|_| Ok(Token::new(unsecured_token("mallory", 600)))));
    let client = client.connect().expect("whoever has a token is let in");
    let error = client
        .reader()
        .topics([&closed])
        .open()
        .map(drop)
        .expect_err("it may not");
    println!("{error}");
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::Authorization, Some(&*closed)),
        "{error}"
    );
    let producer = client.producer().build().expect("good settings");
    let error = attempt(&producer, &closed, "refused").expect_err("it may not");
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::Authorization, Some(&*closed)),
        "{error}"
    );
}
