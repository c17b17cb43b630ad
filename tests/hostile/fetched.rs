//! Fetch answers that lie: what is delivered is the log, or an error says what is missing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use klamm::{Client, Error, ErrorKind, Event, Next, ReaderBuilder, StartAt, Stream};

use crate::{
    MODEST, PROMPT, SHORT, allocating_at_most, impatient,
    liar::{
        ATTRIBUTES, Batch, COUNT, FETCH, Fate, LAST_OFFSET_DELTA, LENGTH, Liar, MAGIC, METADATA, RECORDS, TOPIC,
        batches, record, relength, seal, topic_name, varint,
    },
    tells, within,
};

/// Long enough for whatever is retried.
const LIMIT: Duration = Duration::from_secs(10);

fn client(liar: &Liar) -> Client {
    impatient(&liar.bootstrap()).connect().unwrap()
}

fn reader(client: &Client) -> ReaderBuilder {
    client.reader().topics([TOPIC]).max_wait(Duration::from_millis(50))
}

/// What a stream gave until it had so many messages, an error, its end, or no more time.
#[derive(Debug, Default)]
struct Given {
    offsets: Vec<i64>,
    error: Option<Error>,
    events: Vec<Event>,
}

impl Given {
    /// Offsets and values are those of the log, without a gap, up to here.
    #[track_caller]
    fn is_the_log(&self, until: i64) {
        assert_eq!(self.offsets, (0..until).collect::<Vec<_>>(), "{:?}", self.error);
    }

    fn refetched(&self) -> usize {
        let refetched = self.events.iter();
        refetched
            .filter(|event| matches!(event, Event::Refetched { .. }))
            .count()
    }
}

#[track_caller]
fn take(stream: &Stream, most: usize) -> Given {
    let mut given = Given::default();
    let until = Instant::now() + LIMIT;
    let mut iter = stream.iter();
    while given.offsets.len() < most {
        match iter.next_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Next::Message(message)) => {
                let expected = format!("v{}", message.offset());
                assert_eq!(
                    message.value(),
                    Some(expected.as_bytes()),
                    "another value than the log's"
                );
                given.offsets.push(message.offset());
            }
            Ok(Next::Ended) => break,
            Ok(_) => panic!(
                "nothing comes any more after {:?}: {:?}",
                given.offsets,
                stream.health()
            ),
            Err(error) => {
                given.error = Some(error);
                break;
            }
        }
    }
    given.events.extend(std::iter::from_fn(|| stream.events().try_next()));
    given
}

/// Three batches of ten records, read to their end through this lie.
fn read_through(lie: impl FnOnce(&Liar)) -> (Given, Liar) {
    let liar = Liar::start(batches(3));
    lie(&liar);
    let client = client(&liar);
    let stream = reader(&client).until_end().open().unwrap();
    let given = take(&stream, usize::MAX);
    (given, liar)
}

fn change(partition: &mut PartitionData, change: impl FnOnce(&mut Vec<u8>)) {
    let mut records = partition.records.take().unwrap_or_default().to_vec();
    change(&mut records);
    partition.records = Some(Bytes::from(records));
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

// ---- damage ----

#[test]
fn damage_on_the_way_is_fetched_again_and_told() {
    // In each of the three batches.
    let length = Batch::of(0, 10).bytes.len();
    for place in [RECORDS + 3, length + 70, 2 * length + 70] {
        let (given, _liar) = read_through(|liar| {
            liar.lie_about_records(move |count, partition| {
                if count == 0 {
                    change(partition, |records| records[place] ^= 0x40);
                }
            });
        });
        assert!(given.error.is_none(), "{:?}", given.error);
        given.is_the_log(30);
        assert_eq!(given.refetched(), 1, "{:?}", given.events);
    }
}

#[test]
fn damage_in_the_log_is_an_error_and_a_seek_goes_on_behind_it() {
    let mut log = batches(3);
    log[1].bytes[RECORDS + 3] ^= 0x40;
    let liar = Liar::start(log);
    let client = client(&liar);
    let stream = reader(&client).until_end().open().unwrap();
    let given = take(&stream, usize::MAX);
    given.is_the_log(10);
    let error = given.error.as_ref().expect("the damage is told");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    tells(error, &["offset 10", "checksum", "orders-0"]);
    assert_eq!(given.refetched(), 3, "{:?}", given.events);
    assert!(
        given
            .events
            .iter()
            .any(|event| matches!(event, Event::PartitionFailed { .. }))
    );
    assert!(!stream.health().is_healthy());
    assert_eq!(stream.position([(TOPIC, 0)]).unwrap()[&(TOPIC, 0).into()], 10);

    stream.seek((TOPIC, 0), StartAt::Offset(20)).unwrap();
    let given = take(&stream, 10);
    assert_eq!(given.offsets, (20..30).collect::<Vec<_>>());
    assert!(given.error.is_none() && stream.health().is_healthy());
}

#[test]
fn damage_in_one_partition_holds_up_no_other() {
    let mut log = batches(1);
    log[0].bytes[RECORDS + 3] ^= 0x40;
    let liar = Liar::start(log);
    liar.set_partitions(3);
    let client = client(&liar);
    let stream = reader(&client).until_end().open().unwrap();
    let errors = within(LIMIT, || stream.into_iter().filter_map(Result::err).collect::<Vec<_>>());
    assert_eq!(errors.len(), 1);
    tells(&errors[0], &["orders-0"]);
}

#[test]
fn fields_of_a_batch_that_lie_under_a_good_checksum_are_told() {
    type Change = fn(&mut Vec<u8>);
    let lies: [(&str, Change); 12] = [
        ("more records than there are", |batch| put(batch, COUNT, &[0, 0, 0, 11])),
        ("two billion records", |batch| {
            put(batch, COUNT, &[0x7f, 0xff, 0xff, 0xff]);
            put(batch, LAST_OFFSET_DELTA, &[0x7f, 0xff, 0xff, 0xfe]);
        }),
        ("fewer records than there are", |batch| put(batch, COUNT, &[0, 0, 0, 9])),
        ("a negative number of records", |batch| put(batch, COUNT, &[0xff; 4])),
        ("a negative last offset", |batch| {
            put(batch, LAST_OFFSET_DELTA, &[0xff; 4])
        }),
        ("a last offset below the records", |batch| {
            put(batch, LAST_OFFSET_DELTA, &[0, 0, 0, 3]);
            put(batch, COUNT, &[0, 0, 0, 4]);
        }),
        ("a magic of the future", |batch| batch[MAGIC] = 3),
        ("a negative magic", |batch| batch[MAGIC] = 0xff),
        ("a codec of the future", |batch| batch[ATTRIBUTES + 1] = 6),
        ("a codec that it is not", |batch| batch[ATTRIBUTES + 1] = 4),
        ("a record of two gigabytes", |batch| {
            put(batch, RECORDS, &[0xfe, 0xff, 0xff, 0xff, 0x0f])
        }),
        ("a record of negative length", |batch| batch[RECORDS] = 0x01),
    ];
    for (name, lie) in lies {
        let mut log = batches(3);
        lie(&mut log[1].bytes);
        seal(&mut log[1].bytes);
        let liar = Liar::start(log);
        let client = client(&liar);
        let stream = reader(&client).until_end().open().unwrap();
        let given = allocating_at_most(MODEST, || take(&stream, usize::MAX));
        let error = given.error.as_ref().unwrap_or_else(|| panic!("{name}: no error"));
        assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported),
            "{name}: {error}"
        );
        tells(error, &["orders-0"]);
        // Records before the lie are given; those of the batch itself only as far as they hold.
        let upto = given.offsets.len() as i64;
        given.is_the_log(upto);
        assert!((10..=20).contains(&upto), "{name}: {upto}");
        stream.seek((TOPIC, 0), StartAt::Offset(20)).unwrap();
        assert_eq!(take(&stream, 10).offsets, (20..30).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn lengths_inside_of_records_that_lie_are_told() {
    // Key, value, header count, header key, header value.
    let lie = |which: usize| {
        let mut fields = vec![0];
        for value in [0, 0] {
            varint(&mut fields, value);
        }
        let huge = |at: usize| if at == which { i64::from(i32::MAX) } else { -1 };
        varint(&mut fields, huge(0));
        varint(&mut fields, huge(1));
        if which < 2 {
            varint(&mut fields, 0);
        } else if which == 2 {
            varint(&mut fields, i64::from(i32::MAX));
        } else {
            varint(&mut fields, 1);
            varint(&mut fields, if which == 3 { i64::from(i32::MAX) } else { 0 });
            varint(&mut fields, huge(4));
        }
        let mut record = Vec::new();
        varint(&mut record, fields.len() as i64);
        record.extend(fields);
        record
    };
    for which in 0..5 {
        let liar = Liar::start(vec![
            Batch::of(0, 10),
            Batch::from_bytes(10, 1, 0, &lie(which)),
            Batch::of(11, 9),
        ]);
        let client = client(&liar);
        let stream = reader(&client).until_end().open().unwrap();
        let given = allocating_at_most(MODEST, || take(&stream, usize::MAX));
        given.is_the_log(10);
        assert_eq!(
            given.error.map(|error| error.kind()),
            Some(ErrorKind::Corrupt),
            "field {which}"
        );
        stream.seek((TOPIC, 0), StartAt::Offset(11)).unwrap();
        assert_eq!(take(&stream, 9).offsets, (11..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_whose_length_lies_is_told() {
    for length in [[0xff; 4], [0, 0, 0, 0], [0, 0, 0, 48]] {
        let (given, _liar) = read_through(|liar| {
            liar.lie_about_records(move |_, partition| change(partition, |records| put(records, LENGTH, &length)));
        });
        given.is_the_log(0);
        assert_eq!(
            given.error.map(|error| error.kind()),
            Some(ErrorKind::Corrupt),
            "{length:?}"
        );
    }
}

#[test]
fn a_batch_that_is_never_complete_is_told_in_the_end() {
    // A length beyond the answer looks like a batch that Kafka has cut, which is normal behind a whole one only.
    let liar = Liar::start(batches(3));
    liar.lie_about_records(|_, partition| change(partition, |records| put(records, LENGTH, &[0x7f, 0xff, 0xff, 0xff])));
    let client = client(&liar);
    let stream = reader(&client).until_end().open().unwrap();
    let given = take(&stream, usize::MAX);
    let error = given.error.expect("it is told");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    tells(&error, &["offset 0", "first batch", "orders-0"]);
    assert!(liar.asked(FETCH) < 10, "asked {} times", liar.asked(FETCH));
}

#[test]
fn a_batch_cut_at_the_end_of_an_answer_is_fetched_as_a_whole() {
    for cut in [1, 40, 80] {
        let (given, _liar) = read_through(|liar| {
            liar.lie_about_records(move |count, partition| {
                if count == 0 {
                    change(partition, |records| records.truncate(records.len() - cut));
                }
            });
        });
        given.is_the_log(30);
        assert!(given.error.is_none() && given.refetched() == 0, "{:?}", given.events);
    }
}

#[test]
fn a_bomb_is_an_error_that_names_the_limit_and_is_not_inflated() {
    let zeros = vec![0; 32 << 20];
    let record = record(0, &zeros);
    drop(zeros);
    let gzip = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&record).expect("memory");
        encoder.finish().expect("memory")
    };
    let zstd = zstd::bulk::compress(&record, 1).expect("memory");
    let lz4 = {
        use std::io::Write;
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(&record).expect("memory");
        encoder.finish().expect("memory")
    };
    let snappy = snap::raw::Encoder::new().compress_vec(&record).expect("memory");
    drop(record);
    for (codec, bomb) in [(1, gzip), (2, snappy), (3, lz4), (4, zstd)] {
        let log = vec![
            Batch::of(0, 10),
            Batch::from_bytes(10, 1, codec, &bomb),
            Batch::of(11, 9),
        ];
        let liar = Liar::start(log);
        let client = client(&liar);
        let stream = reader(&client).decoded_batch_limit(1 << 20).until_end().open().unwrap();
        let given = allocating_at_most(MODEST, || take(&stream, usize::MAX));
        given.is_the_log(10);
        let error = given.error.unwrap_or_else(|| panic!("codec {codec}: no error"));
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        tells(&error, &["decoded_batch_limit", "offset 10", "orders-0"]);
        assert_eq!(
            given
                .events
                .iter()
                .filter(|event| matches!(event, Event::Refetched { .. }))
                .count(),
            0
        );
        stream.seek((TOPIC, 0), StartAt::Offset(11)).unwrap();
        assert_eq!(take(&stream, 9).offsets, (11..20).collect::<Vec<_>>());
    }
}

// ---- offsets ----

#[test]
fn batches_in_the_wrong_order_are_never_given_in_the_wrong_order() {
    let (given, _liar) = read_through(|liar| {
        liar.lie_about_records(|count, partition| {
            if count == 0 {
                let log = batches(3);
                let mixed = [&log[0].bytes[..], &log[2].bytes, &log[1].bytes].concat();
                partition.records = Some(mixed.into());
            }
        });
    });
    given.is_the_log(30);
    assert_eq!(given.refetched(), 1, "{:?}", given.events);
}

#[test]
fn batches_that_come_twice_are_given_once_or_told() {
    for times in [1, usize::MAX] {
        let (given, _liar) = read_through(|liar| {
            liar.lie_about_records(move |count, partition| {
                if count < times {
                    change(partition, |records| {
                        let again = records.clone();
                        records.extend(again);
                    });
                }
            });
        });
        match given.error {
            None => assert!(times == 1 && given.refetched() == 1),
            Some(ref error) => {
                assert!(times > 1 && error.kind() == ErrorKind::Corrupt, "{error}");
                tells(error, &["order", "offset 20", "orders-0"]);
            }
        }
        given.is_the_log(if times == 1 { 30 } else { 20 });
    }
}

#[test]
fn a_partition_that_is_answered_twice_is_given_once() {
    let (given, _liar) = read_through(|liar| {
        liar.lie(FETCH, |_, answer| {
            let topics = &mut answer.fetch().responses;
            let again = topics.clone();
            topics.extend(again);
            Fate::Send
        });
    });
    assert!(given.error.is_none(), "{:?}", given.error);
    given.is_the_log(30);
}

#[test]
fn records_before_the_position_are_left_out() {
    let liar = Liar::start(batches(3));
    liar.lie_about_records(|_, partition| {
        let all: Vec<u8> = batches(3).into_iter().flat_map(|batch| batch.bytes).collect();
        partition.records = Some(all.into());
    });
    let client = client(&liar);
    let stream = reader(&client)
        .start_at(StartAt::Offset(17))
        .until_end()
        .open()
        .unwrap();
    assert_eq!(take(&stream, usize::MAX).offsets, (17..30).collect::<Vec<_>>());
}

#[test]
fn offsets_at_the_end_of_what_can_be_do_not_overflow() {
    for base in [i64::MAX, i64::MAX - 9, i64::MAX - 10, -1, i64::MIN] {
        let liar = Liar::start(batches(3));
        liar.lie_about_records(move |count, partition| {
            if count < 5 {
                change(partition, |records| put(records, 0, &base.to_be_bytes()));
            }
        });
        let client = client(&liar);
        let stream = reader(&client).open().unwrap();
        // The base offset is not covered by the checksum: records may be given under it, or refused.
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            drop(stream.iter().next_timeout(Duration::from_millis(50)));
        }
        drop((stream.position([(TOPIC, 0)]), stream.lag(), stream.health()));
        within(PROMPT, || stream.close(SHORT)).unwrap();
    }
}

#[test]
fn ends_of_the_log_that_cannot_be_do_no_harm() {
    for end in [i64::MIN, -1, i64::MAX] {
        let liar = Liar::start(batches(3));
        liar.lie(FETCH, move |_, answer| {
            if let Some(partition) = answer.partition() {
                partition.high_watermark = end;
                partition.last_stable_offset = end;
                partition.log_start_offset = end;
            }
            Fate::Send
        });
        let client = client(&liar);
        let stream = reader(&client).open().unwrap();
        take(&stream, 30).is_the_log(30);
        let lag = stream.lag().unwrap()[&(TOPIC, 0).into()];
        assert!(end == i64::MAX || lag == 0, "{lag}");
    }
}

#[test]
fn aborted_transactions_that_cannot_be_do_no_harm() {
    let (given, _liar) = read_through(|liar| {
        liar.lie_about_records(|_, partition| {
            let aborted = [(i64::MIN, i64::MAX), (-1, -1), (i64::MAX, i64::MIN)].map(|(producer, first)| {
                AbortedTransaction::default()
                    .with_producer_id(producer.into())
                    .with_first_offset(first)
            });
            partition.aborted_transactions = Some(aborted.to_vec());
        });
    });
    // None of the batches is transactional.
    given.is_the_log(30);
}

// ---- the answer as a whole ----

#[test]
fn an_answer_whose_bytes_do_not_hold_is_asked_for_again() {
    let lies: [fn(&mut Vec<u8>); 8] = [
        |frame| frame[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]),
        |frame| frame[..4].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]),
        |frame| frame[..4].copy_from_slice(&[0, 0, 0, 4]),
        |frame| frame[7] ^= 1,
        |frame| {
            frame.truncate(frame.len() - 7);
            relength(frame);
        },
        |frame| {
            frame.extend([0; 9]);
            relength(frame);
        },
        // The number of topics (behind correlation ID, tags, throttle time, error, session ID).
        |frame| put(frame, 19, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        |frame| put(frame, 19, &[0xff; 12]),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let (given, _liar) = allocating_at_most(MODEST, || {
            read_through(|liar| {
                liar.lie(FETCH, move |asked, _| match asked.count {
                    0 | 1 => Fate::Change(lie),
                    _ => Fate::Send,
                });
            })
        });
        assert!(given.error.is_none(), "lie {number}: {:?}", given.error);
        given.is_the_log(30);
        let told = given
            .events
            .iter()
            .any(|event| matches!(event, Event::Disconnected { .. }));
        assert!(told, "lie {number}: {:?}", given.events);
    }
}

#[test]
fn records_are_given_before_the_end_of_an_answer_that_can_say_nothing_more() {
    let liar = Liar::start(batches(3));
    liar.lie(FETCH, |asked, _| match asked.count {
        // It comes with the next answer, and that is asked for only if nobody waits for this end.
        0 => Fate::Change(|frame| frame.truncate(frame.len() - 3)),
        1 => Fate::Change(|frame| drop(frame.splice(..0, [0; 3]))),
        _ => Fate::Send,
    });
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    take(&stream, 30).is_the_log(30);
    liar.grow();
    let given = take(&stream, 10); // with the one before that was not finished
    assert_eq!(given.offsets, (29..39).collect::<Vec<_>>(), "{:?}", given.error);
    assert!(given.events.is_empty(), "{:?}", given.events);
}

#[test]
fn an_answer_that_ends_in_nonsense_is_told_and_nothing_is_given_twice() {
    let lies: [fn(&mut Vec<u8>); 2] = [
        |frame| {
            let end = frame.len();
            put(frame, end - 3, &[1, 7, 9]);
        },
        |frame| frame.truncate(frame.len() - 1),
    ];
    for lie in lies {
        let liar = Liar::start(batches(3));
        liar.lie(FETCH, move |asked, _| match asked.count {
            0 => Fate::Change(lie),
            _ => Fate::Send,
        });
        let client = client(&liar);
        let stream = reader(&client).open().unwrap();
        take(&stream, 30).is_the_log(30);
        liar.grow();
        let given = take(&stream, 10); // as well
        assert_eq!(given.offsets, (29..39).collect::<Vec<_>>(), "{:?}", given.error);
        let is_told = |event: &Event| matches!(event, Event::Disconnected { .. });
        assert!(given.events.iter().any(is_told), "{:?}", given.events);
    }
}

#[test]
fn every_single_byte_of_a_fetch_answer_may_be_wrong() {
    static AT: AtomicUsize = AtomicUsize::new(0);
    let length = 4 + 4 + 1 + 4 + 2 + 4 + 1 + 7 + 1 + 70;
    let liar = Liar::start(batches(1));
    let client = client(&liar);
    for at in 8..length {
        AT.store(at, Ordering::SeqCst);
        let count = liar.asked(FETCH);
        liar.lie(FETCH, move |asked, _| {
            if asked.count > count {
                return Fate::Send;
            }
            Fate::Change(|frame| {
                if let Some(byte) = frame.get_mut(AT.load(Ordering::SeqCst)) {
                    *byte ^= 0xff;
                }
            })
        });
        let stream = reader(&client).open().unwrap();
        let mut iter = stream.iter();
        let mut offsets = Vec::new();
        let until = Instant::now() + Duration::from_millis(150);
        while Instant::now() < until && offsets.len() < 10 {
            match iter.next_timeout(Duration::from_millis(50)) {
                Ok(Next::Message(message)) => offsets.push(message.offset()),
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Internal, "byte {at}: {error}");
                    break;
                }
            }
        }
        // Where the batch begins is outside of its checksum; what is in it is not.
        assert!(
            offsets.windows(2).all(|two| two[1] == two[0] + 1),
            "byte {at}: {offsets:?}"
        );
        drop(iter);
        stream
            .close(Duration::from_secs(30))
            .unwrap_or_else(|error| panic!("byte {at}: {error}"));
    }
}

#[test]
fn a_lie_for_ever_shows_in_health_and_is_not_asked_for_without_a_pause() {
    let liar = Liar::start(batches(3));
    liar.lie(FETCH, |_, _| Fate::Change(|frame| frame[7] ^= 1));
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    assert!(matches!(
        stream.iter().next_timeout(Duration::from_secs(1)),
        Ok(Next::TimedOut)
    ));
    let asked = liar.asked(FETCH);
    assert!((2..60).contains(&asked), "asked {asked} times in a second");
    let klamm::Health::Unhealthy(problems) = stream.health() else {
        panic!("it is not healthy");
    };
    tells(&problems[0].error, &["answered request", "Fetch"]);
    within(PROMPT, || stream.close(SHORT)).unwrap();
}

#[test]
fn an_error_of_the_whole_answer_is_retried_with_pauses_and_told() {
    // Unknown server error, cluster authorization, session not found, invalid session epoch, request timed out,
    // unsupported version, topic ID errors, and one of the future.
    for code in [-1, 31, 70, 71, 7, 35, 106, 103, 999] {
        let liar = Liar::start(batches(3));
        let for_ever = Arc::new(AtomicUsize::new(1));
        liar.lie(FETCH, {
            let for_ever = Arc::clone(&for_ever);
            move |_, answer| {
                if for_ever.load(Ordering::SeqCst) == 1 {
                    *answer.fetch() = FetchResponse::default().with_error_code(code);
                }
                Fate::Send
            }
        });
        let client = client(&liar);
        let stream = reader(&client).open().unwrap();
        let first = stream.iter().next_timeout(Duration::from_millis(700));
        let asked = liar.asked(FETCH);
        assert!(asked < 60, "code {code}: asked {asked} times in 0.7 s");
        match first {
            Err(error) => assert!(error.code() == Some(code), "{error}"),
            Ok(_) => {
                assert!(!stream.health().is_healthy(), "code {code} is silent");
                for_ever.store(0, Ordering::SeqCst);
                take(&stream, 30).is_the_log(30);
                assert!(stream.health().is_healthy());
            }
        }
    }
}

#[test]
fn each_error_of_a_partition_is_retried_or_told() {
    for code in (-1..=140).chain([999, i16::MAX, i16::MIN]).filter(|code| *code != 0) {
        let liar = Liar::start(batches(3));
        liar.lie(FETCH, move |asked, answer| {
            if let Some(partition) = answer.partition().filter(|_| asked.count < 3) {
                partition.error_code = code;
                partition.records = None;
            }
            Fate::Send
        });
        let client = client(&liar);
        let stream = reader(&client).open().unwrap();
        let given = take(&stream, 30);
        match &given.error {
            None => given.is_the_log(30),
            Some(error) => {
                assert!(given.offsets.is_empty() && !error.is_retriable(), "{code}: {error}");
                assert_eq!(error.code(), Some(code), "{error}");
                tells(error, &["orders-0", "Fetch"]);
                // Nothing is lost: the program may say where to go on.
                stream.seek((TOPIC, 0), StartAt::Earliest).unwrap();
                let mut again = take(&stream, 30);
                while again.error.take().is_some() {
                    stream.seek((TOPIC, 0), StartAt::Earliest).unwrap();
                    again = take(&stream, 30);
                }
                again.is_the_log(30);
            }
        }
    }
}

#[test]
fn records_that_come_with_an_error_are_not_believed() {
    let (given, _liar) = read_through(|liar| {
        liar.lie(FETCH, |asked, answer| {
            if let Some(partition) = answer.partition().filter(|_| asked.count == 0) {
                partition.error_code = 6;
                partition.records = Some(Batch::of(20, 10).bytes.into());
            }
            Fate::Send
        });
    });
    given.is_the_log(30);
}

#[test]
fn partitions_that_nobody_asked_for_are_passed_over() {
    for by_id in [false, true] {
        let (given, _liar) = read_through(|liar| {
            if by_id {
                liar.speak(FETCH, 4, 17);
            }
            liar.lie(FETCH, move |_, answer| {
                let answer = answer.fetch();
                let partition = |index: i32| {
                    PartitionData::default()
                        .with_partition_index(index)
                        .with_high_watermark(10)
                        .with_records(Some(Batch::of(0, 10).bytes.into()))
                };
                let indexes = [1, -1, i32::MAX].map(partition).to_vec();
                if let Some(topic) = answer.responses.first_mut() {
                    topic.partitions.extend(indexes.clone());
                }
                let mut other = FetchableTopicResponse::default().with_partitions(indexes);
                if by_id {
                    other.topic_id = uuid::Uuid::from_u128(5);
                } else {
                    other.topic = topic_name("strangers");
                }
                answer.responses.push(other);
                Fate::Send
            });
        });
        assert!(given.error.is_none(), "{:?}", given.error);
        given.is_the_log(30);
    }
}

#[test]
fn an_answer_of_strangers_only_is_not_asked_for_without_a_pause() {
    let liar = Liar::start(batches(3));
    liar.lie(FETCH, |_, answer| {
        for topic in &mut answer.fetch().responses {
            topic.topic = topic_name("strangers");
        }
        Fate::Send
    });
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    assert!(matches!(
        stream.iter().next_timeout(Duration::from_secs(1)),
        Ok(Next::TimedOut)
    ));
    let asked = liar.asked(FETCH);
    assert!((2..60).contains(&asked), "asked {asked} times in a second");
    assert!(!stream.health().is_healthy());
}

#[test]
fn an_empty_answer_that_comes_at_once_is_not_asked_for_without_a_pause() {
    let liar = Liar::start(batches(3));
    liar.lie(FETCH, |_, answer| {
        answer.fetch().responses.clear();
        Fate::Send
    });
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    assert!(matches!(
        stream.iter().next_timeout(Duration::from_secs(1)),
        Ok(Next::TimedOut)
    ));
    let asked = liar.asked(FETCH);
    assert!((2..60).contains(&asked), "asked {asked} times in a second");
    liar.lie(FETCH, |_, _| Fate::Send);
    take(&stream, 30).is_the_log(30);
}

#[test]
fn a_session_whose_id_changes_all_the_time_reads_the_log() {
    let (given, _liar) = read_through(|liar| {
        liar.speak(FETCH, 4, 17);
        liar.lie(FETCH, |asked, answer| {
            let ids = [7, i32::MAX, -5, 0, i32::MIN, 7];
            answer.fetch().session_id = ids[asked.count % ids.len()];
            Fate::Send
        });
    });
    assert!(given.error.is_none(), "{:?}", given.error);
    given.is_the_log(30);
}

#[test]
fn a_throttle_time_that_lasts_for_weeks_can_be_closed() {
    let liar = Liar::start(batches(3));
    liar.lie(FETCH, |_, answer| {
        answer.fetch().throttle_time_ms = i32::MAX;
        Fate::Send
    });
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    take(&stream, 30).is_the_log(30);
    within(PROMPT, || stream.close(SHORT)).unwrap();
    liar.lie(FETCH, |_, answer| {
        answer.fetch().throttle_time_ms = i32::MIN;
        Fate::Send
    });
    let stream = reader(&client).open().unwrap();
    take(&stream, 30).is_the_log(30);
}

// ---- who leads ----

#[test]
fn a_hint_at_a_leader_that_does_not_exist_is_no_dead_end() {
    for endpoint in [false, true] {
        for epoch in [6, i32::MAX] {
            let (given, _liar) = read_through(|liar| {
                liar.speak(FETCH, 4, 17);
                liar.lie(FETCH, move |asked, answer| {
                    if asked.count == 0 {
                        if let Some(partition) = answer.partition() {
                            partition.error_code = 6;
                            partition.records = None;
                            partition.current_leader = LeaderIdAndEpoch::default()
                                .with_leader_id(99.into())
                                .with_leader_epoch(epoch);
                        }
                        if endpoint {
                            let nowhere = NodeEndpoint::default()
                                .with_node_id(99.into())
                                .with_host("127.0.0.1".into())
                                .with_port(1);
                            answer.fetch().node_endpoints = vec![nowhere];
                        }
                    }
                    Fate::Send
                });
            });
            assert!(given.error.is_none(), "{:?}", given.error);
            given.is_the_log(30);
        }
    }
}

#[test]
fn a_preferred_replica_that_does_not_exist_is_no_dead_end() {
    let (given, _liar) = read_through(|liar| {
        liar.lie(FETCH, |asked, answer| {
            if let Some(partition) = answer.partition().filter(|_| asked.count == 0) {
                partition.preferred_read_replica = 99.into();
                partition.records = None;
            }
            Fate::Send
        });
    });
    assert!(given.error.is_none(), "{:?}", given.error);
    given.is_the_log(30);
}

#[test]
fn a_topic_that_changes_its_id_all_the_time_is_read_or_told() {
    let liar = Liar::start(batches(3));
    liar.speak(FETCH, 4, 17);
    liar.lie(METADATA, |asked, answer| {
        if let crate::liar::Answer::Metadata(metadata) = answer {
            for topic in &mut metadata.topics {
                topic.topic_id = uuid::Uuid::from_u128(asked.count as u128 + 1);
            }
        }
        Fate::Send
    });
    let client = client(&liar);
    let stream = reader(&client).open().unwrap();
    take(&stream, 30).is_the_log(30);
}
