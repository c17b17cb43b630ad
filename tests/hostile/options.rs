//! Options that cannot work are refused by name, before anything is sent.

use std::time::{Duration, SystemTime};

use klamm::{Client, ErrorKind, ReaderBuilder, StartAt};

use crate::{
    PROMPT, impatient,
    liar::{FETCH, Liar, TOPIC, batches},
    tells, within,
};

#[test]
fn each_invalid_option_of_a_client_is_named() {
    let builder = || Client::builder().bootstrap("localhost:9092");
    let (short, long) = (Duration::from_millis(1), Duration::from_secs(1));
    for (builder, name) in [
        (Client::builder(), "bootstrap"),
        (builder().request_timeout(Duration::ZERO), "request_timeout"),
        (builder().connect_timeout(Duration::ZERO), "connect_timeout"),
        (builder().metadata_max_age(Duration::ZERO), "metadata_max_age"),
        (builder().connections_max_idle(Duration::ZERO), "connections_max_idle"),
        (builder().retry_backoff(Duration::ZERO, long), "retry_backoff"),
        (builder().retry_backoff(long, short), "retry_backoff"),
        (builder().reconnect_backoff(long, short), "reconnect_backoff"),
        (builder().client_id("x".repeat(40_000)), "client_id"),
        (builder().rack("x".repeat(40_000)), "rack"),
    ] {
        for result in [builder.clone().connect_lazy(), builder.connect()] {
            let error = result.map(drop).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            tells(&error, &[name]);
        }
    }
}

#[test]
fn limits_beyond_the_clock_are_as_good_as_none() {
    let liar = Liar::start(batches(1));
    let client = impatient(&liar.bootstrap())
        .request_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .metadata_max_age(Duration::MAX)
        .unknown_topic_ttl(Duration::from_millis(200))
        .connections_max_idle(Duration::MAX)
        .retry_backoff(Duration::from_millis(10), Duration::MAX)
        .reconnect_backoff(Duration::from_millis(10), Duration::MAX)
        .connect()
        .unwrap();
    let mut stream = client
        .reader()
        .topics([TOPIC])
        .stall_after(Duration::MAX)
        .until_end()
        .open()
        .unwrap()
        .into_iter();
    assert!(matches!(
        stream.next_timeout(Duration::MAX),
        Ok(klamm::Next::Message(_))
    ));
    assert_eq!(stream.count(), 9);
}

#[test]
fn each_invalid_option_of_a_reader_is_named() {
    let liar = Liar::start(batches(1));
    let client = impatient(&liar.bootstrap()).connect().unwrap();
    let reader = || client.reader().topics([TOPIC]);
    let before_1970 = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let refused: Vec<(ReaderBuilder, &str)> = vec![
        (client.reader(), "topics or partitions"),
        (reader().partitions([(TOPIC, 0)]), "topics or partitions"),
        (reader().prefetch_count(0), "prefetch_count"),
        (reader().prefetch_bytes(0), "prefetch_bytes"),
        (reader().prefetch_total_bytes(0), "prefetch_total_bytes"),
        (reader().min_bytes(0), "min_bytes"),
        (reader().min_bytes(5 << 20), "min_bytes"),
        (reader().max_bytes(0), "max_bytes"),
        (reader().max_bytes(usize::MAX), "max_bytes"),
        (reader().partition_max_bytes(0), "partition_max_bytes"),
        (reader().decoded_batch_limit(0), "decoded_batch_limit"),
        (reader().decoded_batch_limit(usize::MAX), "decoded_batch_limit"),
        (reader().max_wait(Duration::ZERO), "max_wait"),
        (reader().max_wait(Duration::MAX), "max_wait"),
        (reader().start_at(StartAt::Offset(-1)), "start_at"),
        (reader().start_at(StartAt::Timestamp(before_1970)), "start_at"),
        (client.reader().topics([""]), ""),
    ];
    for (builder, name) in refused {
        let error = within(PROMPT, || builder.open().map(drop).expect_err(name));
        if !name.is_empty() {
            assert_eq!(error.kind(), ErrorKind::Config, "{name}: {error}");
        }
        tells(&error, &[name]);
    }
    assert_eq!(liar.asked(FETCH), 0);
}

#[test]
fn extreme_options_that_are_allowed_work() {
    let liar = Liar::start(batches(3));
    let client = impatient(&liar.bootstrap()).connect().unwrap();
    let reader = || client.reader().topics([TOPIC]).until_end();
    for builder in [
        reader().prefetch_count(1),
        reader().prefetch_bytes(1),
        reader().prefetch_total_bytes(1),
        reader().prefetch_total_bytes(usize::MAX).prefetch_bytes(1 << 30),
        reader().max_bytes(1),
        reader().partition_max_bytes(1),
        reader().max_wait(Duration::from_nanos(1)),
        reader().start_at(StartAt::Ago(Duration::MAX)),
    ] {
        let name = format!("{builder:?}");
        let stream = builder.open().unwrap();
        let offsets: Vec<i64> = within(PROMPT, || {
            stream
                .into_iter()
                .map(|message| message.expect(&name).offset())
                .collect()
        });
        // The liar knows no times: every time is behind its last record.
        let expected = if name.contains("Ago") { 30..30 } else { 0..30 };
        assert_eq!(offsets, expected.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn positions_asked_for_beyond_all_logs_are_reset_or_refused() {
    let liar = Liar::start(batches(2));
    let client = impatient(&liar.bootstrap()).connect().unwrap();
    let reader = || client.reader().topics([TOPIC]).start_at(StartAt::Offset(i64::MAX));
    let stream = reader().open().unwrap();
    assert!(matches!(
        stream.iter().next_timeout(Duration::from_millis(500)),
        Ok(klamm::Next::TimedOut)
    ));
    let mut events = std::iter::from_fn(|| stream.events().try_next());
    assert!(events.any(|event| matches!(event, klamm::Event::OffsetReset { to: 20, .. })));
    assert_eq!(stream.lag().unwrap()[&(TOPIC, 0).into()], 0);

    let stream = reader().out_of_range(klamm::OutOfRange::Fail).open().unwrap();
    let error = within(PROMPT, || stream.iter().next().unwrap().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::OutOfRange);
    tells(&error, &["9223372036854775807", "from 0 to 20", "orders-0"]);

    for (partition, at) in [(("orders", 7), StartAt::Earliest), (("orders", 0), StartAt::Offset(-5))] {
        assert_eq!(stream.seek(partition, at).unwrap_err().kind(), ErrorKind::Config);
    }
    stream.seek((TOPIC, 0), StartAt::Offset(15)).unwrap();
    let message = within(PROMPT, || stream.iter().next().unwrap().unwrap());
    assert_eq!(message.offset(), 15);
}

#[test]
fn unknown_topics_and_partitions_are_told_after_the_ttl() {
    let liar = Liar::start(batches(1));
    let client = impatient(&liar.bootstrap()).connect().unwrap();
    let unknown = |result: klamm::Result<()>, parts: &[&str]| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
        tells(&error, parts);
    };
    within(PROMPT, || {
        unknown(client.partitions("nobody").map(drop), &["nobody"]);
        unknown(client.leader("nobody", 0).map(drop), &["nobody"]);
        unknown(client.reader().topics([TOPIC, "nobody"]).open().map(drop), &["nobody"]);
        unknown(client.reader().partitions([(TOPIC, 9)]).open().map(drop), &[TOPIC, "9"]);
        unknown(
            client.reader().partitions([(TOPIC, -1)]).open().map(drop),
            &[TOPIC, "-1"],
        );
        unknown(client.offset_for(TOPIC, 9, StartAt::Latest).map(drop), &["orders-9"]);
        unknown(client.leader(TOPIC, -1).map(drop), &["orders--1"]);
    });
}
