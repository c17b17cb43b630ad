//! Answers to the quiet requests (ApiVersions, Metadata, ListOffsets) that are cut, mixed up or full of lies.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak, mpsc},
    time::{Duration, Instant},
};

use klamm::{Client, ErrorKind, Health, Next, StartAt, Stream, Topics};

use crate::{
    MODEST, PROMPT, SHORT, allocating_at_most, impatient,
    liar::{
        API_VERSIONS, Answer, Fate, LIST_OFFSETS, Liar, METADATA, OFFSET_FOR_LEADER_EPOCH, TOPIC, batches, relength,
    },
    tells, within,
};

fn connected(liar: &Liar) -> Client {
    impatient(&liar.bootstrap()).connect().unwrap()
}

/// The call, its error, and that the client is as good as before once the broker has stopped lying.
fn fails_until_truth_is_told(api: i16, lie: impl Fn(&mut Answer) -> Fate + Send + Sync + 'static, parts: &[&str]) {
    let liar = Liar::start(batches(1));
    let client = connected(&liar);
    liar.lie(api, move |_, answer| lie(answer));
    // Who measures memory waits for others who do, and that is not of the time.
    let error = allocating_at_most(MODEST, || {
        within(PROMPT, || match api {
            METADATA => client.metadata(Topics::All).map(drop).unwrap_err(),
            _ => client.offset_for(TOPIC, 0, StartAt::Latest).map(drop).unwrap_err(),
        })
    });
    tells(&error, parts);
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Unreachable | ErrorKind::Protocol | ErrorKind::TooLarge | ErrorKind::Io | ErrorKind::TimedOut
        ),
        "{error:?}"
    );
    liar.lie(api, |_, _| Fate::Send);
    within(PROMPT, || {
        client.metadata(Topics::All).unwrap();
        assert_eq!(client.offset_for(TOPIC, 0, StartAt::Latest).unwrap(), Some(10));
    });
}

/// Both requests, each the same way.
fn fail_until_truth_is_told(lie: fn(&mut Answer) -> Fate, parts: &[&str]) {
    fails_until_truth_is_told(METADATA, lie, parts);
    fails_until_truth_is_told(LIST_OFFSETS, lie, parts);
}

#[test]
fn a_frame_that_claims_two_gigabytes_is_not_waited_for() {
    fail_until_truth_is_told(
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff])),
        &["2147483647 bytes", "limit"],
    );
}

#[test]
fn a_frame_just_under_the_limit_is_not_allocated_before_it_comes() {
    let liar = Liar::start(batches(1));
    let client = connected(&liar);
    liar.lie(METADATA, |_, _| {
        Fate::Change(|frame| frame[..4].copy_from_slice(&[6, 0, 0, 0]))
    });
    let error = allocating_at_most(90 << 20, || {
        within(PROMPT, || client.metadata(Topics::All).unwrap_err())
    });
    tells(&error, &["request_timeout"]);
}

#[test]
fn a_negative_length_is_named() {
    fail_until_truth_is_told(
        |_| Fate::Change(|frame| frame[..4].copy_from_slice(&[0xff, 0xff, 0xff, 0xfe])),
        &["-2 bytes"],
    );
}

#[test]
fn a_frame_cut_in_the_middle_and_ended_is_named() {
    fail_until_truth_is_told(
        |_| {
            Fate::Change(|frame| {
                frame.truncate(frame.len() / 2);
                relength(frame);
            })
        },
        &["does not hold"],
    );
}

#[test]
fn an_answer_to_another_request_is_not_taken_for_ours() {
    fail_until_truth_is_told(|_| Fate::Change(|frame| frame[4] = 0x55), &["request 14"]);
}

#[test]
fn an_answer_that_never_comes_costs_the_request_timeout() {
    fail_until_truth_is_told(|_| Fate::Silence, &["request_timeout"]);
}

#[test]
fn a_broker_that_hangs_up_instead_of_answering_is_named() {
    fail_until_truth_is_told(|_| Fate::Hangup, &["closed the connection"]);
}

#[test]
fn bytes_behind_an_answer_do_no_harm() {
    for api in [METADATA, LIST_OFFSETS] {
        let liar = Liar::start(batches(1));
        let client = connected(&liar);
        liar.lie(api, |_, _| {
            Fate::Change(|frame| {
                frame.extend([0xff; 100]);
                relength(frame);
            })
        });
        // Accepted or refused, but not believed.
        within(PROMPT, || drop(client.offset_for(TOPIC, 0, StartAt::Latest)));
    }
}

#[test]
fn six_bytes_do_not_make_two_billion_topics() {
    // Not compact (Metadata 8): throttle time, brokers.
    for lie in [
        vec![0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
        vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
    ] {
        let liar = Liar::start(batches(1));
        liar.speak(METADATA, 4, 8);
        let client = connected(&liar);
        liar.lie(METADATA, move |_, answer| {
            *answer = Answer::Bytes(lie.clone());
            Fate::Send
        });
        let error = allocating_at_most(MODEST, || within(PROMPT, || client.metadata(Topics::All).unwrap_err()));
        tells(&error, &["does not hold"]);
    }
}

#[test]
fn six_compact_bytes_do_not_make_two_billion_topics_either() {
    // Header tags, throttle time, and a count in a varint.
    for count in [
        &[0xff, 0xff, 0xff, 0xff, 0x07][..],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff; 9],
    ] {
        for api in [METADATA, LIST_OFFSETS] {
            let count = count.to_vec();
            fails_until_truth_is_told(
                api,
                move |answer| {
                    *answer = Answer::Bytes([&[0, 0, 0, 0, 0][..], &count].concat());
                    Fate::Send
                },
                &["does not hold"],
            );
        }
    }
}

#[test]
fn every_single_byte_of_an_answer_may_be_wrong() {
    for api in [METADATA, LIST_OFFSETS] {
        let liar = Liar::start(batches(1));
        let client = impatient(&liar.bootstrap())
            .request_timeout(Duration::from_millis(100))
            .connect()
            .unwrap();
        for byte in [0xff, 0x7f, 0x80, 0x00] {
            // The length is left as it is: a longer one would be waited for.
            for at in 8..70 {
                liar.lie(api, move |_, answer| {
                    AT.with(|place| place.set((at, byte)));
                    let _ = answer;
                    Fate::Change(|frame| {
                        let (at, byte) = AT.with(std::cell::Cell::get);
                        if let Some(changed) = frame.get_mut(at) {
                            *changed = byte;
                        }
                    })
                });
                // Whatever comes of it, it comes, and is no panic.
                within(PROMPT, || {
                    drop(client.metadata(Topics::All));
                    drop(client.offset_for(TOPIC, 0, StartAt::Latest));
                });
            }
        }
        liar.lie(api, |_, _| Fate::Send);
        let client = connected(&liar);
        assert_eq!(client.offset_for(TOPIC, 0, StartAt::Latest).unwrap(), Some(10));
    }
}

thread_local! {
    /// A function pointer carries nothing: which byte a broker's thread is to change.
    static AT: std::cell::Cell<(usize, u8)> = const { std::cell::Cell::new((0, 0)) };
}

#[test]
fn a_broker_without_a_common_version_is_named_as_such() {
    let liar = Liar::start(batches(1));
    liar.speak(METADATA, 90, 99);
    let error = within(PROMPT, || impatient(&liar.bootstrap()).connect().unwrap_err());
    tells(&error, &["Metadata"]);
    assert!(!error.is_retriable(), "{error}");

    let liar = Liar::start(batches(1));
    liar.lie(API_VERSIONS, |_, answer| {
        let Answer::Versions(versions) = answer else {
            panic!("versions")
        };
        versions.api_keys.clear();
        Fate::Send
    });
    let error = within(PROMPT, || impatient(&liar.bootstrap()).connect().unwrap_err());
    tells(&error, &["Metadata"]);
}

#[test]
fn an_api_versions_answer_full_of_nonsense_is_refused() {
    let liar = Liar::start(batches(1));
    liar.lie(API_VERSIONS, |_, answer| {
        let Answer::Versions(versions) = answer else {
            panic!("versions")
        };
        for key in &mut versions.api_keys {
            (key.min_version, key.max_version) = (i16::MAX, i16::MIN);
        }
        Fate::Send
    });
    let error = within(PROMPT, || impatient(&liar.bootstrap()).connect().unwrap_err());
    tells(&error, &["Metadata"]);
    for code in [35, 42, -1, 12_345] {
        liar.lie(API_VERSIONS, move |_, answer| {
            let Answer::Versions(versions) = answer else {
                panic!("versions")
            };
            versions.error_code = code;
            Fate::Send
        });
        within(PROMPT, || impatient(&liar.bootstrap()).connect().unwrap_err());
    }
}

#[test]
fn offsets_that_cannot_be_are_errors() {
    for (offset, index) in [(-7, 0), (i64::MIN, 0), (3, 99), (3, -1)] {
        let liar = Liar::start(batches(1));
        let client = connected(&liar);
        liar.lie(LIST_OFFSETS, move |_, answer| {
            let Answer::Offsets(answer) = answer else {
                panic!("offsets")
            };
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                (partition.offset, partition.partition_index) = (offset, index);
            }
            Fate::Send
        });
        let stream = client.reader().topics([TOPIC]).open().unwrap();
        let error = within(PROMPT, || stream.iter().next().unwrap().unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        tells(&error, &["orders-0"]);
        // The program may begin elsewhere, and the broker may come to its senses.
        stream.seek((TOPIC, 0), StartAt::Offset(4)).unwrap();
        let message = within(PROMPT, || stream.iter().next().unwrap().unwrap());
        assert_eq!(message.value(), Some(&b"v4"[..]));
    }
}

#[test]
fn the_end_of_an_epoch_of_some_other_partition_is_asked_again() {
    let liar = Liar::start(batches(1));
    let client = impatient(&liar.bootstrap())
        .metadata_max_age(Duration::from_millis(20))
        .connect()
        .unwrap();
    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let mut iter = stream.iter();
    assert_eq!(iter.by_ref().take(10).filter(Result::is_ok).count(), 10);
    liar.lie(OFFSET_FOR_LEADER_EPOCH, |asked, answer| {
        let Answer::Epochs(answer) = answer else {
            panic!("epochs")
        };
        for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if asked.count < 3 {
                partition.partition = 99;
            }
        }
        Fate::Send
    });
    liar.elect();
    let epochs = || liar.asked(OFFSET_FOR_LEADER_EPOCH);
    let since = Instant::now();
    while epochs() < 4 {
        assert!(since.elapsed() < PROMPT, "asked {} times only", epochs());
        let next = iter.next_timeout(Duration::from_millis(10)).unwrap();
        assert!(matches!(next, Next::TimedOut), "{next:?}");
    }
    liar.grow();
    let message = within(PROMPT, || iter.next().unwrap().unwrap());
    assert_eq!((message.value(), epochs()), (Some(&b"v10"[..]), 4));
}

#[test]
fn metadata_with_brokers_that_cannot_be_is_survived() {
    for (port, host) in [
        (-1, "127.0.0.1"),
        (0, "127.0.0.1"),
        (70_000, "127.0.0.1"),
        (9092, ""),
        (9092, "a b\0c"),
    ] {
        let liar = Liar::start(batches(1));
        let client = connected(&liar);
        liar.lie(METADATA, move |_, answer| {
            let Answer::Metadata(answer) = answer else {
                panic!("metadata")
            };
            answer.brokers[0].port = port;
            answer.brokers[0].host = host.into();
            Fate::Send
        });
        client.metadata(Topics::All).unwrap();
        let error = within(PROMPT, || client.offset_for(TOPIC, 0, StartAt::Latest).unwrap_err());
        assert!(!error.to_string().is_empty());
        liar.lie(METADATA, |_, _| Fate::Send);
        client.metadata(Topics::All).unwrap();
        assert_eq!(client.offset_for(TOPIC, 0, StartAt::Latest).unwrap(), Some(10));
    }
}

#[test]
fn metadata_with_partitions_that_cannot_be_is_survived() {
    for index in [-1, 1, i32::MAX, i32::MIN] {
        let liar = Liar::start(batches(1));
        liar.lie(METADATA, move |_, answer| {
            let Answer::Metadata(answer) = answer else {
                panic!("metadata")
            };
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.partition_index = index;
            }
            Fate::Send
        });
        let client = connected(&liar);
        assert_eq!(client.partitions(TOPIC).unwrap(), 0);
        within(PROMPT, || client.offset_for(TOPIC, 0, StartAt::Latest).unwrap_err());
    }
    // A leader that is not among the brokers.
    let liar = Liar::start(batches(1));
    liar.lie(METADATA, |_, answer| {
        let Answer::Metadata(answer) = answer else {
            panic!("metadata")
        };
        for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.leader_id = 99.into();
        }
        Fate::Send
    });
    let client = connected(&liar);
    let error = within(PROMPT, || client.offset_for(TOPIC, 0, StartAt::Latest).unwrap_err());
    tells(&error, &["broker 99", "orders-0"]);
    let error = within(PROMPT, || client.leader(TOPIC, 0).unwrap_err());
    tells(&error, &["broker 99"]);
}

// ---- a program's logger ----

/// Asks for health while its stream's keeper has something to say.
struct Curious {
    stream: Mutex<Weak<Stream>>,
    told: Mutex<Option<mpsc::Sender<Health>>>,
}

static CURIOUS: Curious = Curious {
    stream: Mutex::new(Weak::new()),
    told: Mutex::new(None),
};

impl log::Log for Curious {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        std::thread::current().name() == Some("klamm-keep")
    }

    fn log(&self, record: &log::Record<'_>) {
        let is_told = self.enabled(record.metadata());
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(stream) = stream.filter(|_| is_told) {
            let health = stream.health();
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.iter().for_each(|told| drop(told.send(health.clone())));
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_that_is_told_of_missing_metadata_may_ask_for_health() {
    let liar = Liar::start(batches(1));
    let client = impatient(&liar.bootstrap())
        .metadata_max_age(Duration::from_millis(100))
        .connect()
        .unwrap();
    let stream = Arc::new(client.reader().topics([TOPIC]).open().unwrap());
    // Should it be stuck, dropping it would be as well.
    std::mem::forget(Arc::clone(&stream));
    let (tell, told) = mpsc::channel();
    *CURIOUS.stream.lock().unwrap() = Arc::downgrade(&stream);
    *CURIOUS.told.lock().unwrap() = Some(tell);
    log::set_logger(&CURIOUS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    liar.lie(METADATA, |_, _| Fate::Silence);
    let health = told
        .recv_timeout(SHORT * 10)
        .expect("the logger is told, and is answered");
    let Health::Unhealthy(problems) = health else {
        panic!("{health:?}")
    };
    tells(&problems[0].error, &["request_timeout"]);
    *CURIOUS.told.lock().unwrap() = None;
    stream.closer().close();
}
