//! A broker that lies to a producer: whatever it says, each record has an outcome in its time, nothing is taken twice, and
//! the next record goes its way once the truth is told.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use kafka_protocol::{
    messages::{
        BrokerId, ProducerId,
        produce_response::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
        },
    },
    protocol::StrBytes,
};
use klamm::{Client, Delivery, Error, ErrorKind, Producer, Record, RecordMetadata};

use crate::{
    MODEST, SHORT, allocating_at_most, impatient,
    liar::{Answer, Asked, Fate, INIT_PRODUCER_ID, Liar, METADATA, PRODUCE, TOPIC, relength, topic_name},
    tells, within,
};

/// What a busy machine may take for what takes milliseconds.
const LONG: Duration = Duration::from_secs(30);
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

const NOT_LEADER: i16 = 6;
const TOO_LARGE: i16 = 10;
const INVALID_RECORD: i16 = 87;

fn connected(liar: &Liar) -> Client {
    impatient(&liar.bootstrap())
        .request_timeout(DELIVERY_TIMEOUT)
        .connect()
        .unwrap()
}

/// One that gives a record up soon.
fn producer(liar: &Liar) -> Producer {
    let client = connected(liar);
    client.producer().delivery_timeout(DELIVERY_TIMEOUT).build().unwrap()
}

fn record(value: &str) -> Record<'_> {
    Record::to(TOPIC).partition(0).value(value)
}

/// Whatever it is, it comes in time, and is no fault of klamm's.
#[track_caller]
fn outcome(producer: &Producer) -> klamm::Result<RecordMetadata> {
    let outcome = within(LONG, || producer.send(record("a"))?.wait(LONG));
    if let Err(error) = &outcome {
        makes_sense(error);
    }
    outcome
}

#[track_caller]
fn makes_sense(error: &Error) {
    assert!(
        !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Closed),
        "{error}"
    );
    tells(error, &[TOPIC]);
    if error.kind() == ErrorKind::TimedOut {
        tells(error, &["delivery_timeout"]);
    }
}

/// From now on the broker tells the truth. What it said before may keep the producer waiting for a while.
#[track_caller]
fn goes_on(liar: &Liar, producer: &Producer) {
    for api in [PRODUCE, INIT_PRODUCER_ID] {
        liar.lie(api, |_, _| Fate::Send);
    }
    let end = Instant::now() + LONG;
    while let Err(error) = outcome(producer) {
        assert!(Instant::now() < end, "{error}");
    }
    let before = liar.written(0);
    let sent: Vec<Delivery> = (0..20).map(|_| producer.send(record("b")).unwrap()).collect();
    for (offset, written) in (before..).zip(Delivery::wait_all(&sent, LONG)) {
        assert_eq!(written.unwrap().offset, Some(offset));
    }
    assert_eq!(liar.written(0), before + 20);
    let report = within(LONG, || producer.close(SHORT * 5)).unwrap();
    assert!(report.undelivered.is_empty(), "{report:?}");
}

/// A record fails, since the broker always lies; and so does no other.
#[track_caller]
fn fails_for_as_long_as(
    api: i16,
    kinds: &[ErrorKind],
    lie: impl Fn(Asked, &mut Answer) -> Fate + Send + Sync + 'static,
) {
    let liar = Liar::start(Vec::new());
    liar.lie(api, lie);
    let producer = producer(&liar);
    let error = allocating_at_most(MODEST, || outcome(&producer).unwrap_err());
    assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
    assert!(liar.asked(api) > 0);
    if api == INIT_PRODUCER_ID {
        assert_eq!(liar.written(0), 0);
    }
    goes_on(&liar, &producer);
}

// ---- frames ----

const WORDS: [i32; 3] = [0, -1, i32::MAX];

#[test]
fn every_length_and_count_of_a_produce_answer_may_be_wrong() {
    let threads = [7, 12].map(|version| {
        std::thread::spawn(move || {
            every(PRODUCE, version, 48 * WORDS.len(), |frame, step| {
                let (at, word) = (step / WORDS.len(), WORDS[step % WORDS.len()]);
                if let Some(changed) = frame.get_mut(at..at + 4) {
                    changed.copy_from_slice(&word.to_be_bytes());
                }
            });
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn every_single_byte_of_a_produce_answer_may_be_wrong() {
    const BYTES: [u8; 4] = [0xff, 0x7f, 0x00, 0x01];
    let threads = [8, 12].map(|version| {
        std::thread::spawn(move || {
            // The length in front is what `every_length_and_count` is about.
            every(PRODUCE, version, 56 * BYTES.len(), |frame, step| {
                let (at, byte) = (4 + step / BYTES.len(), BYTES[step % BYTES.len()]);
                if let Some(changed) = frame.get_mut(at) {
                    *changed = byte;
                }
            });
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_produce_answer_may_end_anywhere() {
    for version in [3, 12] {
        every(PRODUCE, version, 50, |frame, step| {
            frame.truncate(4 + step);
            relength(frame);
        });
    }
}

#[test]
fn every_word_of_what_tells_a_producer_id_may_be_wrong() {
    for version in [1, 4] {
        every(INIT_PRODUCER_ID, version, 26 * WORDS.len(), |frame, step| {
            let (at, word) = (step / WORDS.len(), WORDS[step % WORDS.len()]);
            if let Some(changed) = frame.get_mut(at..at + 4) {
                changed.copy_from_slice(&word.to_be_bytes());
            }
        });
    }
}

/// What is done to a frame at a step.
type Change = fn(&mut Vec<u8>, usize);

/// Every second answer is changed, each in its own way; none is believed twice.
fn every(api: i16, version: i16, steps: usize, change: Change) {
    thread_local! {
        /// A function pointer carries nothing: what a broker's thread is to do.
        static STEP: std::cell::Cell<(Change, usize)> = const { std::cell::Cell::new((|_, _| {}, 0)) };
    }
    let liar = Liar::start(Vec::new());
    liar.speak(api, version, version);
    liar.lie(api, move |asked, _| {
        if asked.count % 2 == 1 {
            return Fate::Send;
        }
        STEP.set((change, asked.count / 2));
        Fate::Change(|frame| {
            let (change, step) = STEP.get();
            change(frame, step);
        })
    });
    let client = connected(&liar);
    let new = || client.producer().delivery_timeout(DELIVERY_TIMEOUT).build().unwrap();
    let mut producer = new();
    let mut sent = 0;
    while liar.asked(api) < 2 * steps {
        outcome(&producer).ok();
        sent += 1;
        if api == INIT_PRODUCER_ID {
            // It asks only once for what it believes.
            within(LONG, || producer.close(SHORT)).unwrap();
            producer = new();
        }
    }
    assert!(liar.written(0) <= sent, "{} of {sent}", liar.written(0));
    goes_on(&liar, &producer);
}

#[test]
fn counts_beyond_an_answer_are_not_believed() {
    for api in [PRODUCE, INIT_PRODUCER_ID] {
        for tail in [
            &[0xff, 0xff, 0xff, 0xff, 0x07][..],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0xff; 40],
        ] {
            for head in [0, 1, 4, 5, 8, 20] {
                let bytes = [&vec![0; head][..], tail].concat();
                let liar = Liar::start(Vec::new());
                liar.lie(api, move |_, answer| {
                    *answer = Answer::Bytes(bytes.clone());
                    Fate::Send
                });
                let producer = producer(&liar);
                allocating_at_most(MODEST, || outcome(&producer).ok());
                goes_on(&liar, &producer);
            }
        }
    }
}

#[test]
fn what_is_no_answer_leaves_the_outcome_open_and_no_more() {
    let lies: [fn() -> Fate; 5] = [
        || Fate::Change(|frame| frame[4..8].copy_from_slice(&[0x7f; 4])),
        || Fate::Change(|frame| *frame = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        || Fate::Change(|frame| frame.truncate(frame.len() / 2)),
        || Fate::Hangup,
        || Fate::Silence,
    ];
    for lie in lies {
        fails_for_as_long_as(PRODUCE, &[ErrorKind::OutcomeUnknown], move |_, _| lie());
        // Nothing was sent yet; what no retry helps against is said at once.
        let kinds = [ErrorKind::TimedOut, ErrorKind::Unreachable, ErrorKind::Protocol];
        fails_for_as_long_as(INIT_PRODUCER_ID, &kinds, move |_, _| lie());
    }
}

// ---- producer IDs ----

#[test]
fn a_producer_id_that_is_none_is_not_used() {
    for (id, epoch) in [(-1, 0), (i64::MIN, 0), (5, -1), (5, i16::MIN), (-1, -1)] {
        fails_for_as_long_as(INIT_PRODUCER_ID, &[ErrorKind::Protocol], move |_, answer| {
            let Answer::Identity(answer) = answer else {
                return Fate::Send;
            };
            answer.producer_id = ProducerId(id);
            answer.producer_epoch = epoch;
            Fate::Send
        });
    }
}

#[test]
fn the_last_producer_id_there_can_be_is_one() {
    let liar = Liar::start(Vec::new());
    liar.lie(INIT_PRODUCER_ID, |_, answer| {
        if let Answer::Identity(answer) = answer {
            answer.producer_id = ProducerId(i64::MAX);
            answer.producer_epoch = i16::MAX;
            answer.throttle_time_ms = i32::MAX;
        }
        Fate::Send
    });
    let producer = producer(&liar);
    assert_eq!(outcome(&producer).unwrap().offset, Some(0));
    goes_on(&liar, &producer);
}

// ---- what is said about batches ----

/// What becomes of records about which this is said, with the truth told to those after them.
#[track_caller]
fn told(
    records: usize,
    lie: impl Fn(Asked, &mut Answer) + Send + Sync + 'static,
) -> Vec<klamm::Result<RecordMetadata>> {
    told_within(DELIVERY_TIMEOUT * 3, records, lie)
}

#[track_caller]
fn told_within(
    delivery_timeout: Duration,
    records: usize,
    lie: impl Fn(Asked, &mut Answer) + Send + Sync + 'static,
) -> Vec<klamm::Result<RecordMetadata>> {
    let liar = Liar::start(Vec::new());
    liar.lie(PRODUCE, move |asked, answer| {
        lie(asked, answer);
        Fate::Send
    });
    let client = connected(&liar);
    let builder = client.producer().delivery_timeout(delivery_timeout);
    let producer = builder.linger(Duration::from_millis(50)).build().unwrap();
    let sent: Vec<Delivery> = (0..records).map(|_| producer.send(record("a")).unwrap()).collect();
    let outcomes = allocating_at_most(MODEST, || within(LONG, || Delivery::wait_all(&sent, LONG)));
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        makes_sense(error);
    }
    goes_on(&liar, &producer);
    outcomes
}

#[test]
fn offsets_at_the_end_of_all_numbers_do_not_overflow() {
    for offset in [i64::MAX, i64::MAX - 1, i64::MAX - 9] {
        for written in told(10, move |_, answer| {
            answer.written().for_each(|told| told.base_offset = offset);
        }) {
            // Either it makes sense, or it is not known.
            assert!(written.unwrap().offset.is_none_or(|found| found >= offset));
        }
    }
    for offset in [-1, -2, i64::MIN] {
        for written in told(10, move |_, answer| {
            answer.written().for_each(|told| told.base_offset = offset);
        }) {
            assert_eq!(written.unwrap().offset, None);
        }
    }
}

#[test]
fn a_duplicate_behind_the_end_of_all_numbers_does_not_overflow() {
    let liar = Liar::start(Vec::new());
    liar.lie(PRODUCE, |asked, answer| {
        for told in answer.written() {
            told.base_offset = if asked.count == 0 { i64::MAX - 1 } else { -1 };
            told.error_code = if asked.count == 0 { 0 } else { 46 };
        }
        Fate::Send
    });
    let producer = producer(&liar);
    for _ in 0..5 {
        outcome(&producer).unwrap();
    }
    // What is refused as out of sequence is looked for behind what was told before.
    liar.lie(PRODUCE, |asked, answer| {
        for told in answer.written() {
            told.error_code = if asked.count % 2 == 0 { 7 } else { 45 };
            told.base_offset = -1;
        }
        Fate::Send
    });
    outcome(&producer).unwrap_err();
    goes_on(&liar, &producer);
}

#[test]
fn times_at_the_end_of_all_numbers_are_times() {
    for time in [i64::MAX, i64::MAX - 1, i64::MIN, -2, 0] {
        for written in told(3, move |_, answer| {
            answer.written().for_each(|told| told.log_append_time_ms = time);
        }) {
            assert!(written.unwrap().timestamp >= SystemTime::UNIX_EPOCH);
        }
    }
}

#[test]
fn an_answer_about_others_leaves_the_outcome_open() {
    let lies: [fn(&mut Answer); 5] = [
        |answer| answer.produce().responses.clear(),
        |answer| answer.written().for_each(|told| told.index = 7),
        |answer| answer.written().for_each(|told| told.index = i32::MIN),
        |answer| {
            for topic in &mut answer.produce().responses {
                topic.name = topic_name("payments");
            }
        },
        |answer| {
            for topic in &mut answer.produce().responses {
                topic.partition_responses.clear();
            }
        },
    ];
    for lie in lies {
        for outcome in told(3, move |_, answer| lie(answer)) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        }
    }
}

#[test]
fn what_nobody_asked_about_is_of_no_interest() {
    for outcome in told(3, |_, answer| {
        let others = (1..10_000).map(|index| {
            PartitionProduceResponse::default()
                .with_index(index * 7)
                .with_error_code(29)
        });
        let topics = (0..100).map(|_| {
            TopicProduceResponse::default()
                .with_name(topic_name("payments"))
                .with_partition_responses(vec![PartitionProduceResponse::default().with_error_code(29)])
        });
        let answer = answer.produce();
        answer.responses[0].partition_responses.extend(others);
        answer.responses.extend(topics);
    }) {
        outcome.unwrap();
    }
}

#[test]
fn records_that_are_not_in_the_batch_are_not_at_fault() {
    let named = |indexes: &[i32]| -> Vec<BatchIndexAndErrorMessage> {
        let message = StrBytes::from_string("no".repeat(1000));
        let named = indexes.iter().map(|index| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(Some(message.clone()))
        });
        named.collect()
    };
    let many: Vec<i32> = (-5_000..0).chain(10..5_000).collect();
    for indexes in [
        &[-1][..],
        &[i32::MIN, i32::MAX],
        &[10],
        &many,
        &[0; 5_000],
        &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        &[9, i32::MAX, 9],
    ] {
        let named = named(indexes);
        for outcome in told(10, move |_, answer| {
            for told in answer.written() {
                told.error_code = INVALID_RECORD;
                told.base_offset = -1;
                told.record_errors.clone_from(&named);
            }
        }) {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), Some(INVALID_RECORD), "{error}");
        }
    }
}

#[test]
fn what_is_too_large_however_small_it_is_made_ends() {
    for outcome in told(100, |_, answer| {
        for told in answer.written() {
            told.error_code = TOO_LARGE;
            told.base_offset = -1;
        }
    }) {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[test]
fn every_error_code_ends_in_an_outcome() {
    let liar = Liar::start(Vec::new());
    static CODE: AtomicI32 = AtomicI32::new(0);
    liar.lie(PRODUCE, |_, answer| {
        // Said once; then the truth.
        let code = CODE.swap(0, Ordering::SeqCst);
        if code != 0 {
            for told in answer.written() {
                told.error_code = code as i16;
                told.base_offset = -1;
            }
        }
        Fate::Send
    });
    let client = connected(&liar);
    let producer = client.producer().delivery_timeout(DELIVERY_TIMEOUT).build().unwrap();
    let codes = (-3..140).chain([i16::MIN, i16::MAX, 9_999]).filter(|code| *code != 0);
    for code in codes {
        CODE.store(i32::from(code), Ordering::SeqCst);
        outcome(&producer).ok();
    }
    goes_on(&liar, &producer);
}

// ---- leaders ----

fn hint(answer: &mut Answer, leader: i32, epoch: i32) {
    for told in answer.written() {
        told.error_code = NOT_LEADER;
        told.base_offset = -1;
        told.current_leader = LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(epoch);
    }
}

fn endpoint(id: i32, host: &'static str, port: i32) -> NodeEndpoint {
    NodeEndpoint::default()
        .with_node_id(BrokerId(id))
        .with_host(StrBytes::from_static_str(host))
        .with_port(port)
}

#[test]
fn leaders_that_do_not_exist_are_not_waited_for() {
    let lies: [fn(&mut Answer); 8] = [
        |answer| hint(answer, 2, 6),
        |answer| hint(answer, i32::MAX, i32::MAX),
        |answer| hint(answer, i32::MIN, 6),
        |answer| hint(answer, 1, i32::MAX),
        |answer| {
            hint(answer, 2, 6);
            for port in [-1, 0, 65_536, i32::MAX, i32::MIN] {
                answer.produce().node_endpoints.push(endpoint(2, "127.0.0.1", port));
            }
        },
        |answer| {
            hint(answer, 2, 6);
            answer
                .produce()
                .node_endpoints
                .push(endpoint(2, "no such host.invalid", 9092));
        },
        |answer| {
            hint(answer, 2, 6);
            answer.produce().node_endpoints.push(endpoint(2, "", 9092));
        },
        |answer| {
            hint(answer, 9_999, i32::MAX);
            answer
                .produce()
                .node_endpoints
                .extend((2..10_002).map(|id| endpoint(id, "127.0.0.1", 1)));
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        // Said once, by a broker that has the batch already and goes on leading.
        let begun = Instant::now();
        for written in told_within(LONG, 3, move |asked, answer| {
            if asked.count == 0 {
                lie(answer);
            }
        }) {
            written.unwrap();
        }
        println!("{number}: {:?}", begun.elapsed());
        // Said always.
        for outcome in told(3, move |_, answer| lie(answer)) {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        }
    }
}

// ---- time ----

#[test]
fn a_broker_that_wants_silence_gets_it_for_no_longer_than_a_record_can_wait() {
    for throttle in [i32::MAX, i32::MIN, -1] {
        let liar = Liar::start(Vec::new());
        liar.lie(PRODUCE, move |_, answer| {
            answer.produce().throttle_time_ms = throttle;
            Fate::Send
        });
        let producer = producer(&liar);
        for _ in 0..3 {
            // The first is written; what waits behind it may be given up, at times just after it was sent.
            if let Err(error) = outcome(&producer) {
                let kinds = [ErrorKind::TimedOut, ErrorKind::OutcomeUnknown];
                assert!(kinds.contains(&error.kind()), "{error}");
            }
        }
        assert!(liar.written(0) > 0);
        goes_on(&liar, &producer);
    }
}

// ---- topics ----

#[test]
fn a_topic_that_was_thought_to_be_gone_is_written_to_under_another_producer_id() {
    const UNKNOWN_TOPIC: i16 = 3;
    let liar = Liar::start(Vec::new());
    let client = impatient(&liar.bootstrap())
        .unknown_topic_ttl(Duration::from_millis(200))
        .connect()
        .unwrap();
    let producer = client.producer().build().unwrap();
    assert_eq!(outcome(&producer).unwrap().offset, Some(0));
    // For a while nobody knows the topic, whose log is as it was.
    liar.lie(METADATA, |_, answer| {
        if let Answer::Metadata(answer) = answer {
            for topic in &mut answer.topics {
                topic.error_code = UNKNOWN_TOPIC;
                topic.partitions.clear();
            }
        }
        Fate::Send
    });
    liar.lie(PRODUCE, |_, answer| {
        answer.written().for_each(|written| written.error_code = UNKNOWN_TOPIC);
        Fate::Send
    });
    outcome(&producer).unwrap_err();
    for api in [METADATA, PRODUCE] {
        liar.lie(api, |_, _| Fate::Send);
    }
    let before = liar.written(0);
    let end = Instant::now() + LONG;
    let written = loop {
        match outcome(&producer) {
            Ok(written) => break written,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    // Counted from 0 under the known ID, it would be taken for the first record, and not be written.
    assert_eq!((written.offset, liar.written(0)), (Some(before), before + 1));
}
