//! What only a real broker can do to a program that means no harm: refuse it, send it to the wrong address, and have
//! its answers damaged on the way. `tests/hostile` holds the brokers that lie.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure how long it takes until something is told"
)]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use klamm::{Client, ClientBuilder, ErrorKind, Event, Iter, Next, StartAt, Topics};

use crate::support::{Asked, Fate, Kafka, shared_behind_a_proxy, unique};

const FETCH: i16 = 1;
const LONG: Duration = Duration::from_secs(60);

fn impatient(bootstrap: &str) -> ClientBuilder {
    Client::builder()
        .bootstrap(bootstrap)
        .connect_timeout(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(5))
        .unknown_topic_ttl(Duration::from_millis(500))
}

/// The offset of the next message, or an error.
#[track_caller]
fn next(messages: &mut Iter<'_>) -> klamm::Result<i64> {
    match messages.next_timeout(LONG)? {
        Next::Message(message) => Ok(message.offset()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_not_be_read_is_an_error_and_the_rest_is_read() {
    let kafka = Kafka::builder()
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("allow.everyone.if.no.acl.found", "true")
        .start();
    let (open, secret, hidden) = (unique("open"), unique("secret"), unique("hidden"));
    for topic in [&open, &secret, &hidden] {
        kafka.create_topic(topic, 1, &[]);
        kafka.fill(topic, 1, 100, "none", 20);
    }
    // Where there is a rule, nothing is allowed without one.
    let anybody = "User:ANONYMOUS";
    kafka.allow(anybody, "DESCRIBE", "TOPIC", &secret);
    kafka.deny(anybody, "READ", "TOPIC", &secret);
    kafka.deny(anybody, "DESCRIBE", "TOPIC", &hidden);

    let client = impatient(&kafka.bootstrap()).connect().unwrap();
    let started = Instant::now();
    let refused = client.reader().topics([&open, &hidden]).open().map(drop).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::Authorization, Some(29)),
        "{refused}"
    );
    assert_eq!(refused.topic(), Some(&*hidden));
    assert!(
        !refused.is_retriable() && started.elapsed() < Duration::from_secs(2),
        "{refused}"
    );
    for error in [
        client.partitions(&hidden).unwrap_err(),
        client.offset_for(&hidden, 0, StartAt::Latest).unwrap_err(),
        client.leader(&hidden, 0).unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.topic()),
            (ErrorKind::Authorization, Some(&*hidden)),
            "{error}"
        );
    }
    let seen = client.metadata(Topics::All).unwrap().topics;
    assert!(seen.iter().any(|topic| topic.name == open) && seen.iter().all(|topic| topic.name != hidden));

    // Reading is refused where it is tried, for the one topic only.
    let stream = client.reader().topics([&open, &secret]).until_end().open().unwrap();
    let mut errors = Vec::new();
    let mut read = 0;
    for message in &stream {
        match message {
            Ok(message) => {
                assert_eq!((message.topic(), message.offset()), (&*open, read));
                read += 1;
            }
            Err(error) => errors.push(error),
        }
    }
    assert_eq!((read, errors.len()), (100, 1), "{errors:?}");
    assert_eq!(errors[0].kind(), ErrorKind::Authorization);
    assert_eq!(
        (errors[0].topic(), errors[0].partition(), errors[0].api()),
        (Some(&*secret), Some(0), Some("Fetch"))
    );
}

#[test]
fn an_advertised_address_that_nobody_can_reach_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kafka = Kafka::builder()
        .advertise(nobody.port())
        .property("auto.create.topics.enable", "true")
        .start();
    let topic = unique("advertised");
    kafka.create_topic(&topic, 1, &[]);
    let bootstrap = kafka.direct_address(1).to_string();
    let client = impatient(&bootstrap).connect().unwrap();
    assert_eq!(client.partitions(&topic).unwrap(), 1);
    let started = Instant::now();
    let error = client.offset_for(&topic, 0, StartAt::Latest).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    let sentence = error.to_string();
    assert!(
        sentence.contains(&nobody.to_string()) && sentence.contains("connection refused"),
        "{sentence}"
    );

    // The same broker would make a topic for anybody who asks: a reader does not.
    let unknown = unique("unknown");
    let error = client.reader().topics([&unknown]).open().map(drop).unwrap_err();
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::UnknownTopic, Some(&*unknown)),
        "{error}"
    );
    let topics = client.metadata(Topics::All).unwrap().topics;
    assert!(topics.iter().all(|topic| topic.name != unknown));
}

const PARTITIONS: usize = 3;
const RECORDS: usize = 30_000;

/// Reads all of it, and checks each partition's offsets and values against the log.
fn read_the_log(kafka: &Kafka, topic: &str) -> (Vec<Event>, Duration) {
    let started = Instant::now();
    let client = impatient(&kafka.bootstrap()).connect().unwrap();
    let stream = client
        .reader()
        .topics([topic])
        .max_bytes(256 << 10)
        .until_end()
        .open()
        .unwrap();
    let mut read: BTreeMap<i32, i64> = BTreeMap::new();
    for message in &stream {
        let message = message.unwrap();
        let expected = read.entry(message.partition()).or_default();
        assert_eq!(message.offset(), *expected, "partition {}", message.partition());
        let written = format!("{}:{}:", message.partition(), message.offset());
        let value = message.value().unwrap();
        assert!(
            value.starts_with(written.as_bytes()),
            "{:?}",
            String::from_utf8_lossy(value)
        );
        *expected += 1;
    }
    let ends = kafka.offsets(topic).into_iter().zip(0..);
    let ends: BTreeMap<i32, i64> = ends.map(|(offsets, partition)| (partition, offsets.latest)).collect();
    assert_eq!(read, ends);
    (
        std::iter::from_fn(|| stream.events().try_next()).collect(),
        started.elapsed(),
    )
}

/// Of a large answer: these bytes are records, with nothing behind them that is longer than a few tags.
fn damage(frame: &mut [u8]) {
    let at = frame.len() - 100;
    frame[at] ^= 0x20;
}

#[test]
fn whatever_happens_to_answers_on_the_way_the_log_is_read_as_it_is() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("damaged");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    kafka.fill(&topic, PARTITIONS, RECORDS, "none", 100);
    let proxy = kafka.proxy(1);
    // Warm, and the measure for the rest.
    let (events, clean) = read_the_log(&kafka, &topic);
    assert!(
        events.iter().all(|event| matches!(event, Event::Assigned { .. })),
        "{events:?}"
    );

    type Harm = fn(usize, &mut Vec<u8>) -> Fate;
    let harms: [(&str, Harm); 6] = [
        ("every second answer damaged", |count, frame| {
            if count % 2 == 0 {
                damage(frame);
            }
            Fate::Forward
        }),
        ("every third answer cut", |count, frame| {
            if count % 3 == 0 {
                frame.truncate(frame.len() / 2);
            }
            Fate::Forward
        }),
        ("every third connection ended instead of one", |count, _| {
            if count % 3 != 0 {
                return Fate::Forward;
            }
            Fate::Cut
        }),
        ("every third answer for another request", |count, frame| {
            if count % 3 == 0 {
                frame[3] ^= 1;
            }
            Fate::Forward
        }),
        ("every third length a lie", |count, frame| {
            if count % 3 != 0 {
                return Fate::Forward;
            }
            frame.splice(0..0, [0x7f, 0xff, 0xff, 0xff]);
            Fate::ForwardRaw
        }),
        // Correlation ID, tags, throttle time, error code; then the session.
        ("every second session another one", |count, frame| {
            if count % 2 == 0 {
                frame[14] ^= 0x55;
            }
            Fate::Forward
        }),
    ];
    for (name, harm) in harms {
        let count = Arc::new(AtomicUsize::new(0));
        proxy.on_answer({
            let count = Arc::clone(&count);
            move |asked: Asked, frame: &mut Vec<u8>| {
                if asked.api_key != FETCH || frame.len() < 1000 {
                    return Fate::Forward;
                }
                harm(count.fetch_add(1, Ordering::SeqCst), frame)
            }
        });
        let (events, took) = read_the_log(&kafka, &topic);
        proxy.no_hooks();
        println!(
            "{name}: {took:?}, without {clean:?}; {} answers",
            count.load(Ordering::SeqCst)
        );
        if name.contains("damaged") {
            assert!(
                events.iter().any(|event| matches!(event, Event::Refetched { .. })),
                "{events:?}"
            );
        }
        assert!(took < Duration::from_secs(30), "{name}: {took:?}");
    }
}

#[test]
fn an_answer_that_is_always_damaged_is_told_within_seconds_and_the_rest_goes_on() {
    let kafka = shared_behind_a_proxy();
    let topic = unique("rotten");
    kafka.create_topic(&topic, 1, &[]);
    kafka.fill(&topic, 1, 1000, "lz4", 100);
    kafka.proxy(1).on_answer(|asked, frame| {
        if asked.api_key == FETCH && frame.len() > 1000 {
            damage(frame);
        }
        Fate::Forward
    });
    let client = impatient(&kafka.bootstrap()).connect().unwrap();
    let stream = client.reader().topics([&topic]).open().unwrap();
    let mut messages = stream.iter();
    let started = Instant::now();
    let error = loop {
        if let Err(error) = next(&mut messages) {
            break error;
        }
    };
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(
        (error.kind(), error.topic()),
        (ErrorKind::Corrupt, Some(&*topic)),
        "{error}"
    );
    assert!(error.to_string().contains("seek beyond offset"), "{error}");
    // The partition waits, and says so; when the network is better, the program goes on where it stood.
    assert!(matches!(
        messages.next_timeout(Duration::from_millis(300)),
        Ok(Next::TimedOut)
    ));
    assert!(!stream.health().is_healthy());
    kafka.proxy(1).no_hooks();
    let at = stream.position([(&topic, 0)]).unwrap()[&(&topic, 0).into()];
    stream.seek((&topic, 0), StartAt::Offset(at)).unwrap();
    for expected in at..1000 {
        assert_eq!(next(&mut messages).unwrap(), expected);
    }
    assert!(stream.health().is_healthy());
}
