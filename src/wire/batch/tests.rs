use proptest::prelude::*;

use super::*;
use crate::ErrorKind;

/// Larger than anything the tests inflate on purpose.
const LIMIT: usize = 4 << 20;

/// A record as values, to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Everything in fetched bytes, or the first thing that is wrong with them.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Owned>, BatchError> {
    read_with(&mut Decoder::new(LIMIT), bytes)
}

fn read_with(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Owned>, BatchError> {
    let mut out = b"what another batch left".to_vec();
    let mut records = Vec::new();
    for batch in Walk::new(bytes) {
        let before = out.clone();
        let decoded = decoder.decode(bytes, &batch?, &mut out);
        if decoded.is_err() {
            assert!(out == before, "an error leaves the buffer as it was");
        }
        let (place, span) = decoded?;
        let data = if place == Place::InFetched { bytes } else { &out };
        let mut cursor = Cursor::new(&span);
        while let Some(record) = cursor.next(data, &span) {
            if record.is_err() {
                assert!(cursor.next(data, &span).is_none(), "an error ends the walk");
            }
            records.push(owned(&record?, data));
        }
        assert!(cursor.next(data, &span).is_none());
    }
    Ok(records)
}

#[test]
fn what_a_buffer_was_used_for_before_changes_nothing() {
    for mut compressor in compressors() {
        let mut writer = TestBatch::new();
        for i in 0..3000 {
            let value = format!("{i} and {}", i * 7919 % 1000);
            writer.append(i, None, Some(value.as_bytes()), &[]);
        }
        let bytes = writer.finish(0, Flags::default(), &mut compressor);
        let batch = Walk::new(&bytes).next().unwrap().unwrap();
        for used in [0, 100, 10_000, 1 << 20] {
            let mut out = Inflated::over(vec![0xaa; used]);
            let decoded = Decoder::new(LIMIT).decode_into(&bytes, &batch, &mut out);
            let (place, span) = decoded.unwrap();
            let data = if place == Place::InFetched {
                &bytes
            } else {
                out.as_slice()
            };
            let mut cursor = Cursor::new(&span);
            let records = std::iter::from_fn(|| cursor.next(data, &span));
            let records: Vec<_> = records.map(|record| owned(&record.unwrap(), data)).collect();
            assert_eq!(records, read(&bytes).unwrap());
        }
    }
}

fn owned(record: &RecordView, data: &[u8]) -> Owned {
    let headers = record.headers.iter(data);
    assert_eq!(headers.len(), record.headers.count as usize);
    let owned = Owned {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.of(data).map(<[u8]>::to_vec),
        value: record.value.of(data).map(<[u8]>::to_vec),
        headers: headers
            .map(|h| (h.key_bytes().to_vec(), h.value().map(<[u8]>::to_vec)))
            .collect(),
    };
    assert_eq!(owned.headers.len(), record.headers.count as usize);
    owned
}

/// The codecs whose features are on.
pub(crate) fn compressors() -> impl Iterator<Item = Compressor> {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    [None, Gzip, Snappy, Lz4, Zstd]
        .into_iter()
        .filter_map(|codec| Compressor::new(codec, Option::None).ok())
}

/// A batch that is written record by record, to be read as if it had been fetched.
#[derive(Debug, Clone)]
pub(crate) struct TestBatch {
    bytes: Vec<u8>,
    writer: BatchWriter,
}

impl TestBatch {
    pub(crate) fn new() -> Self {
        let mut bytes = b"an old buffer".to_vec();
        let writer = BatchWriter::start(&mut bytes);
        Self { bytes, writer }
    }

    pub(crate) fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) {
        self.writer
            .append(&mut self.bytes, timestamp, key, value, headers)
            .unwrap();
    }

    pub(crate) fn append_owned(&mut self, record: &Owned) {
        let headers: Vec<HeaderRef<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| (&key[..], value.as_deref()))
            .collect();
        self.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
    }

    /// What it takes if nothing is added or compressed.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Compressed even where that makes it longer.
    pub(crate) fn finish(self, base_offset: i64, flags: Flags, compressor: &mut Compressor) -> Vec<u8> {
        let Self { mut bytes, writer } = self;
        writer.close(&mut bytes, flags);
        let mut payload = Vec::new();
        compressor.compress(&bytes[61..], &mut payload).unwrap();
        bytes.truncate(61);
        bytes.append(&mut payload);
        bytes[22] |= compressor.compression() as u8;
        bytes[43..57].fill(0xff);
        with_field(bytes, 0, &base_offset.to_be_bytes())
    }
}

fn finished(batch: TestBatch, base_offset: i64, flags: Flags) -> Vec<u8> {
    let mut compressor = Compressor::new(Compression::None, None).unwrap();
    batch.finish(base_offset, flags, &mut compressor)
}

/// Values at ascending offsets, uncompressed.
fn batch_of(base_offset: i64, values: &[&[u8]]) -> Vec<u8> {
    let mut writer = TestBatch::new();
    for value in values {
        writer.append(1000, Some(b"key"), Some(value), &[]);
    }
    finished(writer, base_offset, Flags::default())
}

/// Makes length and checksum of a single batch hold again.
fn fixed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn with_field(mut bytes: Vec<u8>, at: usize, field: &[u8]) -> Vec<u8> {
    bytes[at..at + field.len()].copy_from_slice(field);
    fixed(bytes)
}

fn problem(bytes: &[u8]) -> Problem {
    read(bytes).unwrap_err().problem
}

fn values(records: &[Owned]) -> Vec<&[u8]> {
    records.iter().map(|record| record.value.as_deref().unwrap()).collect()
}

#[test]
fn what_was_written_is_read_with_every_codec() {
    for mut compressor in compressors() {
        let mut writer = TestBatch::new();
        for i in 0..1000 {
            let value = format!("value {i}");
            writer.append(i, Some(b"key"), Some(value.as_bytes()), &[(b"h", Some(b"x"))]);
        }
        let bytes = writer.finish(70, Flags::default(), &mut compressor);

        let batch = Walk::new(&bytes).next().unwrap().unwrap();
        assert_eq!((batch.base_offset, batch.next_offset, batch.magic), (70, 1070, 2));
        assert_eq!(
            (batch.records(), batch.producer_id(), batch.leader_epoch),
            (1000, -1, -1)
        );
        assert!(!batch.is_transactional() && !batch.is_control());
        assert_eq!(batch.compression(), Some(compressor.compression()));

        let records = read(&bytes).unwrap();
        assert_eq!(records.len(), 1000);
        for (i, record) in records.iter().enumerate() {
            assert_eq!((record.offset, record.timestamp), (70 + i as i64, i as i64));
            assert_eq!(record.value, Some(format!("value {i}").into_bytes()));
        }
    }
}

#[test]
fn null_and_empty_are_two_things() {
    let mut writer = TestBatch::new();
    writer.append(0, None, None, &[(b"", None), (b"", Some(b""))]);
    writer.append(0, Some(b""), Some(b""), &[]);
    let records = read(&finished(writer, 0, Flags::default())).unwrap();
    assert_eq!((&records[0].key, &records[0].value), (&None, &None));
    assert_eq!(records[0].headers, [(vec![], None), (vec![], Some(vec![]))]);
    assert_eq!((&records[1].key, &records[1].value), (&Some(vec![]), &Some(vec![])));
}

#[test]
fn headers_keep_order_duplicates_and_keys_that_are_not_text() {
    let mut writer = TestBatch::new();
    let written: [HeaderRef<'_>; 3] = [(b"b", Some(b"1")), (b"\xff\xfe", Some(b"2")), (b"b", None)];
    writer.append(0, None, None, &written);
    let bytes = finished(writer, 0, Flags::default());
    let batch = Walk::new(&bytes).next().unwrap().unwrap();
    let (_, span) = Decoder::new(LIMIT).decode(&bytes, &batch, &mut Vec::new()).unwrap();
    let record = Cursor::new(&span).next(&bytes, &span).unwrap().unwrap();
    let headers = record.headers.iter(&bytes);
    assert_eq!(
        headers.clone().map(|h| (h.key_bytes(), h.value())).collect::<Vec<_>>(),
        written
    );
    assert_eq!(
        headers.clone().map(|h| h.key()).collect::<Vec<_>>(),
        [Some("b"), None, Some("b")]
    );
    assert_eq!(format!("{headers:?}"), r#"["b": "1", "��": "2", "b": null]"#);
}

#[test]
fn timestamps_may_lie_any_distance_apart() {
    let timestamps = [5, i64::MIN, i64::MAX, -1, 0, 4];
    let mut writer = TestBatch::new();
    for timestamp in timestamps {
        writer.append(timestamp, None, None, &[]);
    }
    let records = read(&finished(writer, 0, Flags::default())).unwrap();
    assert_eq!(
        records.iter().map(|record| record.timestamp).collect::<Vec<_>>(),
        timestamps
    );
}

#[test]
fn log_append_time_is_the_batch_s_highest_for_every_record() {
    let mut writer = TestBatch::new();
    writer.append(50, None, None, &[]);
    writer.append(90, None, None, &[]);
    writer.append(70, None, None, &[]);
    let bytes = finished(
        writer,
        0,
        Flags {
            log_append: true,
            ..Flags::default()
        },
    );
    assert!(read(&bytes).unwrap().iter().all(|record| record.timestamp == 90));
    let batch = Walk::new(&bytes).next().unwrap().unwrap();
    let (_, span) = Decoder::new(LIMIT).decode(&bytes, &batch, &mut Vec::new()).unwrap();
    assert_eq!(span.timestamp_type, TimestampType::LogAppend);
    assert_eq!((span.first_timestamp, span.max_timestamp), (50, 90));
}

fn control(key: &[u8]) -> Vec<u8> {
    let mut writer = TestBatch::new();
    writer.append(0, Some(key), Some(&[0, 0, 0, 0, 0, 1]), &[]);
    finished(
        writer,
        3,
        Flags {
            transactional: true,
            control: true,
            log_append: false,
        },
    )
}

fn marker_of(bytes: &[u8]) -> Result<Marker, Problem> {
    marker(bytes, &Walk::new(bytes).next().unwrap().unwrap()).map_err(|error| error.problem)
}

#[test]
fn control_batches_say_how_a_transaction_ended() {
    assert_eq!(marker_of(&control(&[0, 0, 0, 0])), Ok(Marker::Abort));
    assert_eq!(marker_of(&control(&[0, 0, 0, 1])), Ok(Marker::Commit));
    assert_eq!(marker_of(&control(&[0, 7, 0, 1, 9])), Ok(Marker::Commit));
    assert_eq!(marker_of(&control(&[0, 0, 0, 2])), Ok(Marker::Other));
    let compacted = with_field(control(&[0, 0, 0, 1])[..61].to_vec(), 57, &0_i32.to_be_bytes());
    assert_eq!(marker_of(&compacted), Ok(Marker::Other));
}

#[test]
fn a_marker_that_is_none_is_refused() {
    assert_eq!(marker_of(&control(&[0, 0, 0])), Err(Problem::Control));
    assert_eq!(marker_of(&control(&[255, 0, 0, 1])), Err(Problem::Control));
    assert_eq!(marker_of(&batch_of(0, &[b"data"])), Err(Problem::Control));
    let compressed = with_field(control(&[0, 0, 0, 1]), 21, &0x31_i16.to_be_bytes());
    assert_eq!(marker_of(&compressed), Err(Problem::Control));
    let mut flipped = control(&[0, 0, 0, 1]);
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(marker_of(&flipped), Err(Problem::Checksum));
}

#[test]
fn a_batch_that_was_cut_off_ends_the_walk_quietly() {
    let first = batch_of(10, &[b"a", b"b"]);
    let second = batch_of(12, &[b"c"]);
    for length in 0..=second.len() {
        let mut bytes = first.clone();
        bytes.extend_from_slice(&second[..length]);
        let mut walk = Walk::new(&bytes);
        let whole: Vec<_> = walk.by_ref().map(Result::unwrap).collect();
        let expected = if length == second.len() { 2 } else { 1 };
        assert_eq!(whole.len(), expected);
        assert_eq!(walk.position(), whole[expected - 1].end);
        assert_eq!(whole[0].next_offset, 12);
        assert_eq!(values(&read(&bytes).unwrap())[..2], [b"a", b"b"]);
    }
    assert!(Walk::new(&first[..first.len() - 1]).next().is_none());
}

#[test]
fn headers_that_cannot_be_are_refused_and_end_the_walk() {
    let good = batch_of(10, &[b"a"]);
    let cases: [(usize, &[u8], Problem); 10] = [
        (0, &(-1_i64).to_be_bytes(), Problem::Offsets),
        (0, &i64::MAX.to_be_bytes(), Problem::Offsets),
        (8, &(-1_i32).to_be_bytes(), Problem::Length(-1)),
        (8, &48_i32.to_be_bytes(), Problem::Length(48)),
        (16, &[3], Problem::Magic(3)),
        (16, &[0xff], Problem::Magic(-1)),
        (23, &(-1_i32).to_be_bytes(), Problem::Offsets),
        (23, &i32::MIN.to_be_bytes(), Problem::Offsets),
        (57, &(-1_i32).to_be_bytes(), Problem::Count(-1)),
        (57, &2_i32.to_be_bytes(), Problem::Count(2)),
    ];
    for (at, field, expected) in cases {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        bytes.extend_from_slice(&good);
        let mut walk = Walk::new(&bytes);
        assert_eq!(walk.next().unwrap().unwrap_err().problem, expected);
        assert!(walk.next().is_none());
        assert_eq!(walk.position(), 0);
    }
}

#[test]
fn a_batch_that_compaction_emptied_still_moves_the_offset() {
    for attributes in 0..5_i16 {
        let mut bytes = batch_of(10, &[b"a", b"b", b"c"])[..61].to_vec();
        bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
        let bytes = with_field(bytes, 57, &0_i32.to_be_bytes());
        assert_eq!(Walk::new(&bytes).next().unwrap().unwrap().next_offset, 13);
        assert_eq!(read(&bytes).unwrap(), []);
    }
}

#[test]
fn compacted_batches_keep_their_offsets() {
    let whole = batch_of(10, &[b"a", b"b", b"c", b"d"]);
    let record = (whole.len() - 61) / 4;
    let mut bytes = whole[..61].to_vec();
    bytes.extend_from_slice(&whole[61 + record..61 + 2 * record]);
    bytes.extend_from_slice(&whole[61 + 3 * record..]);
    let records = read(&with_field(bytes, 57, &2_i32.to_be_bytes())).unwrap();
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [11, 13]);
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    for mut compressor in compressors() {
        let mut writer = TestBatch::new();
        for _ in 0..3 {
            writer.append(5, Some(b"key"), Some(b"some value"), &[(b"h", Some(b"x"))]);
        }
        let good = writer.finish(1 << 40, Flags::default(), &mut compressor);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let read = read(&bytes);
                match at {
                    // What brokers write without computing the checksum again.
                    0..8 => assert!(read.is_ok_and(|r| r.len() == 3) || at == 0 && bit == 7),
                    12..16 => assert_eq!(read.unwrap().len(), 3),
                    // A longer batch has not all arrived.
                    8..12 => assert!(read.is_err() || read == Ok(vec![])),
                    _ => assert!(read.is_err(), "byte {at} bit {bit}"),
                }
            }
        }
    }
}

/// A batch of offsets 0 to 9 that claims `count` records and holds these bytes.
fn batch_with(count: i32, records: &[u8]) -> Vec<u8> {
    let mut bytes = batch_of(0, &[&b"x"[..]; 10])[..61].to_vec();
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(records);
    fixed(bytes)
}

#[test]
fn records_that_lie_are_refused() {
    // length, attributes, timestamp delta, offset delta, key, value, headers
    let good = [14, 0, 0, 0, 1, 2, b'v', 0];
    assert_eq!(read(&batch_with(1, &good)).unwrap().len(), 1);
    let second = [14, 0, 0, 2, 1, 2, b'w', 0];
    assert_eq!(read(&batch_with(2, &[good, second].concat())).unwrap().len(), 2);

    let cases: [(i32, &[u8], Problem); 23] = [
        (0, &good, Problem::TrailingBytes),
        (1, &[good, second].concat(), Problem::TrailingBytes),
        (2, &good, Problem::RecordsMissing),
        (10, &good, Problem::RecordsMissing),
        (1, &[], Problem::RecordsMissing),
        (2, &[good, good].concat(), Problem::RecordOffset),
        (2, &[second, good].concat(), Problem::RecordOffset),
        (1, &[14, 0, 0, 1, 1, 2, b'v', 0], Problem::RecordOffset), // -1
        (1, &[14, 0, 0, 20, 1, 2, b'v', 0], Problem::RecordOffset), // 10
        (1, &[16, 0, 0, 0, 1, 2, b'v', 0], Problem::RecordLength),
        (1, &[1, 0, 0, 0, 1, 2, b'v', 0], Problem::RecordLength), // -1
        (1, &[12, 0, 0, 0, 1, 2, b'v', 0], Problem::FieldBeyondRecord),
        (1, &[0], Problem::FieldBeyondRecord),
        (1, &[16, 0, 0, 0, 1, 2, b'v', 0, 0], Problem::RecordTrailing),
        (1, &[14, 0, 0, 0, 1, 8, b'v', 0], Problem::FieldBeyondRecord),
        (1, &[14, 0, 0, 0, 3, 2, b'v', 0], Problem::NegativeLength),
        (1, &[14, 0, 0, 0, 1, 3, b'v', 0], Problem::NegativeLength),
        (1, &[14, 0, 0, 0, 1, 2, b'v', 1], Problem::Headers), // -1 of them
        (1, &[14, 0, 0, 0, 1, 2, b'v', 2], Problem::FieldBeyondRecord),
        (
            1,
            &[22, 0, 0, 0, 1, 2, b'v', 0xfe, 0xff, 0xff, 0xff, 0x0f],
            Problem::FieldBeyondRecord,
        ),
        (1, &[18, 0, 0, 0, 1, 2, b'v', 2, 1, 1], Problem::Headers), // a null key
        (1, &[18, 0, 0, 0, 1, 2, b'v', 2, 0, 4], Problem::Headers), // a value that reaches out
        (1, &[18, 0, 0, 0, 1, 2, b'v', 2, 0, 3], Problem::Headers), // a value of -2 bytes
    ];
    for (count, records, expected) in cases {
        assert_eq!(problem(&batch_with(count, records)), expected, "{count} of {records:?}");
    }
}

#[test]
fn long_integers_are_read_and_too_long_ones_refused() {
    let zero_in_five = [0x80, 0x80, 0x80, 0x80, 0];
    let record = |offset_delta: &[u8]| {
        let mut record = vec![2 * (6 + offset_delta.len()) as u8, 0, 0];
        record.extend_from_slice(offset_delta);
        record.extend_from_slice(&[1, 2, b'v', 0]);
        batch_with(1, &record)
    };
    assert_eq!(read(&record(&zero_in_five)).unwrap()[0].offset, 0);
    assert_eq!(problem(&record(&[0x80, 0x80, 0x80, 0x80, 0x80, 0])), Problem::Varint);
    assert_eq!(problem(&record(&[0x80, 0x80, 0x80, 0x80, 0x10])), Problem::Varint); // 33 bits

    let with_timestamp = |delta: &[u8]| {
        let mut record = vec![2 * (6 + delta.len()) as u8, 0];
        record.extend_from_slice(delta);
        record.extend_from_slice(&[0, 1, 2, b'v', 0]);
        batch_with(1, &record)
    };
    let nine = [0x80; 9];
    assert_eq!(
        read(&with_timestamp(&[&nine[..], &[1]].concat())).unwrap()[0].timestamp,
        1000 + (1 << 62)
    );
    assert_eq!(problem(&with_timestamp(&[&nine[..], &[2]].concat())), Problem::Varint);
    assert_eq!(
        problem(&with_timestamp(&[&nine[..], &[0x80, 0]].concat())),
        Problem::Varint
    );
}

#[test]
fn records_that_are_cut_off_anywhere_are_refused() {
    for mut compressor in compressors() {
        let mut writer = TestBatch::new();
        for i in 0..20_i64 {
            let value = format!("some value, {i}").repeat(3);
            writer.append(i * 1000, Some(b"key"), Some(value.as_bytes()), &[(b"h", None)]);
        }
        let good = writer.finish(0, Flags::default(), &mut compressor);
        for length in 61..good.len() {
            let cut = read(&fixed(good[..length].to_vec()));
            // The last bytes of a gzip or lz4 stream hold no records, and are missed all the same.
            assert!(cut.is_err(), "{compressor:?} cut to {length} of {}", good.len());
        }
    }
}

#[test]
fn inflated_bytes_that_lie_are_refused() {
    for mut compressor in compressors() {
        let mut payload = Vec::new();
        compressor
            .compress(&[14, 0, 0, 0, 1, 2, b'v', 0, 0], &mut payload)
            .unwrap();
        let bytes = batch_with(1, &payload);
        let bytes = with_field(bytes, 21, &(compressor.compression() as i16).to_be_bytes());
        assert_eq!(problem(&bytes), Problem::TrailingBytes);
    }
}

#[test]
fn a_batch_may_inflate_to_the_limit_and_not_beyond() {
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let mut writer = TestBatch::new();
        for i in 0..3000_i64 {
            writer.append(i, None, Some(format!("{i} again and again").as_bytes()), &[]);
        }
        let inflated = writer.size() - 61;
        let bytes = writer.finish(0, Flags::default(), &mut compressor);
        assert_eq!(read_with(&mut Decoder::new(inflated), &bytes).unwrap().len(), 3000);
        for limit in [0, 1, inflated / 2, inflated - 1] {
            let error = read_with(&mut Decoder::new(limit), &bytes).unwrap_err();
            assert_eq!(error.problem, Problem::TooLarge(limit));
        }
    }
}

#[test]
fn bombs_are_refused_before_they_take_memory() {
    const BOMB: usize = 8 << 20;
    const SMALL: usize = 256 << 10;
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let mut writer = TestBatch::new();
        writer.append(0, None, Some(&vec![0; BOMB]), &[]);
        let bytes = writer.finish(0, Flags::default(), &mut compressor);
        let batch = Walk::new(&bytes).next().unwrap().unwrap();
        let mut out = b"before".to_vec();
        let mut decoder = Decoder::new(SMALL);
        let error = decoder.decode(&bytes, &batch, &mut out).unwrap_err();
        assert_eq!(error.problem, Problem::TooLarge(SMALL));
        assert_eq!(out, b"before");
        assert!(
            out.capacity() <= 2 * SMALL + 4096,
            "{compressor:?} reserved {}",
            out.capacity()
        );

        let good = {
            let mut writer = TestBatch::new();
            writer.append(0, None, Some(b"fine"), &[]);
            writer.finish(0, Flags::default(), &mut compressor)
        };
        assert_eq!(values(&read_with(&mut decoder, &good).unwrap()), [b"fine"]);
    }
}

#[test]
fn errors_say_who_must_act() {
    let unknown = with_field(batch_of(7, &[b"x"]), 21, &5_i16.to_be_bytes());
    let error = read(&unknown).unwrap_err().into_error();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let mut damaged = batch_of(7, &[b"x"]);
    *damaged.last_mut().unwrap() ^= 1;
    let error = read(&damaged).unwrap_err().into_error();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        "the record batch at offset 7 cannot be read: its checksum does not hold"
    );
    let error = Problem::TooLarge(64).at(7).into_error();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("`decoded_batch_limit` (64 bytes)"));
    assert!(!error.is_retriable());
}

#[test]
fn a_codec_that_was_left_out_is_named() {
    let codecs = [
        (Compression::Gzip, "gzip", cfg!(feature = "gzip")),
        (Compression::Snappy, "snappy", cfg!(feature = "snappy")),
        (Compression::Lz4, "lz4", cfg!(feature = "lz4")),
        (Compression::Zstd, "zstd", cfg!(feature = "zstd")),
    ];
    for (codec, name, on) in codecs {
        let bytes = with_field(batch_of(0, &[b"x"]), 21, &(codec as i16).to_be_bytes());
        let error = read(&bytes).unwrap_err();
        if on {
            assert_eq!(error.problem, Problem::Inflate(name));
        } else {
            assert_eq!(error.problem, Problem::CodecOff(name));
            let error = error.into_error();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(
                error.to_string().ends_with(&format!("without its feature `{name}`")),
                "{error}"
            );
            let error = Compressor::new(codec, None).unwrap_err();
            assert!(
                error.to_string().ends_with(&format!("without its feature `{name}`")),
                "{error}"
            );
        }
    }
}

#[test]
fn old_checksums_are_zlib_s() {
    assert_eq!(crc::crc32(b""), 0);
    assert_eq!(crc::crc32(b"123456789"), 0xcbf4_3926);
}

/// A message of magic 0 or 1. Attributes: codec, and LogAppendTime in bit 3.
fn message(magic: i8, offset: i64, attributes: u8, timestamp: i64, value: Option<&[u8]>) -> Vec<u8> {
    let mut body = vec![magic as u8, attributes];
    if magic == 1 {
        body.extend_from_slice(&timestamp.to_be_bytes());
    }
    body.extend_from_slice(&3_i32.to_be_bytes());
    body.extend_from_slice(b"key");
    match value {
        Some(value) => {
            body.extend_from_slice(&(value.len() as i32).to_be_bytes());
            body.extend_from_slice(value);
        }
        None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    bytes.extend_from_slice(&crc::crc32(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn compressed(compressor: &mut Compressor, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    compressor.compress(&messages.concat(), &mut out).unwrap();
    out
}

/// Offsets, timestamps and values.
fn summary(records: &[Owned]) -> Vec<(i64, i64, Option<&[u8]>)> {
    records
        .iter()
        .map(|record| (record.offset, record.timestamp, record.value.as_deref()))
        .collect()
}

#[test]
fn plain_old_messages_are_read() {
    let bytes = [
        message(0, 5, 0, 0, Some(b"a")),
        message(0, 7, 0, 0, None),
        message(1, 8, 0, 1234, Some(b"")),
        message(1, 9, 8, 5678, Some(b"d")),
        batch_of(10, &[b"e"]),
    ]
    .concat();
    let walked: Vec<_> = Walk::new(&bytes).map(|batch| batch.unwrap()).collect();
    assert_eq!(
        walked.iter().map(|batch| batch.next_offset).collect::<Vec<_>>(),
        [6, 8, 9, 10, 11]
    );
    let types: Vec<_> = walked
        .iter()
        .map(|batch| {
            Decoder::new(0)
                .decode(&bytes, batch, &mut Vec::new())
                .unwrap()
                .1
                .timestamp_type
        })
        .collect();
    use TimestampType::{Create, LogAppend, None as NoTime};
    assert_eq!(types, [NoTime, NoTime, Create, LogAppend, Create]);
    let records = read(&bytes).unwrap();
    assert_eq!(
        summary(&records),
        [
            (5, -1, Some(&b"a"[..])),
            (7, -1, None),
            (8, 1234, Some(b"")),
            (9, 5678, Some(b"d")),
            (10, 1000, Some(b"e"))
        ]
    );
}

#[test]
fn messages_inside_of_a_magic_0_wrapper_carry_their_own_offsets() {
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let codec = compressor.compression() as u8;
        let inner = [message(0, 40, 0, 0, Some(b"a")), message(0, 42, 0, 0, Some(b"b"))];
        let bytes = message(0, 42, codec, 0, Some(&compressed(&mut compressor, &inner)));
        let batch = Walk::new(&bytes).next().unwrap().unwrap();
        assert_eq!((batch.next_offset, batch.magic, batch.records()), (43, 0, 1));
        let records = read(&bytes).unwrap();
        assert_eq!(summary(&records), [(40, -1, Some(&b"a"[..])), (42, -1, Some(b"b"))]);
    }
}

#[test]
fn messages_inside_of_a_magic_1_wrapper_count_up_to_its_offset() {
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let codec = compressor.compression() as u8;
        // Compaction took the ones between.
        let inner = [message(1, 0, 0, 100, Some(b"a")), message(1, 3, 0, 50, Some(b"b"))];
        let inner = compressed(&mut compressor, &inner);
        let bytes = message(1, 42, codec, 7, Some(&inner));
        assert_eq!(
            summary(&read(&bytes).unwrap()),
            [(39, 100, Some(&b"a"[..])), (42, 50, Some(b"b"))]
        );

        let batch = Walk::new(&bytes).next().unwrap().unwrap();
        let mut out = Vec::new();
        let (place, span) = Decoder::new(LIMIT).decode(&bytes, &batch, &mut out).unwrap();
        assert_eq!(
            (place, span.base_offset, span.next_offset, span.records),
            (Place::Inflated, 39, 43, 2)
        );
        assert_eq!((span.first_timestamp, span.max_timestamp), (100, 100));

        let by_broker = message(1, 42, codec | 8, 7, Some(&inner));
        assert_eq!(
            summary(&read(&by_broker).unwrap()),
            [(39, 7, Some(&b"a"[..])), (42, 7, Some(b"b"))]
        );
    }
}

#[test]
fn wrappers_that_lie_are_refused() {
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let codec = compressor.compression() as u8;
        let mut wrapped = |magic: i8, offset: i64, inner: &[Vec<u8>]| {
            message(magic, offset, codec, 0, Some(&compressed(&mut compressor, inner)))
        };
        let a = message(1, 0, 0, 0, Some(b"a"));
        assert_eq!(problem(&wrapped(1, 9, &[])), Problem::EmptyWrapper);
        assert_eq!(problem(&wrapped(1, 9, &[a.clone(), a.clone()])), Problem::RecordOffset);
        assert_eq!(
            problem(&wrapped(0, 9, &[message(0, 10, 0, 0, None)])),
            Problem::RecordOffset
        );
        assert_eq!(
            problem(&wrapped(1, 0, &[a.clone(), message(1, 1, 0, 0, None)])),
            Problem::RecordOffset
        );
        assert_eq!(problem(&wrapped(0, 9, std::slice::from_ref(&a))), Problem::Nested);
        assert_eq!(
            problem(&wrapped(1, 9, &[message(1, 0, codec, 0, Some(b"a"))])),
            Problem::Nested
        );
        assert_eq!(
            problem(&wrapped(1, 9, &[a[..a.len() - 1].to_vec()])),
            Problem::RecordLength
        );
        let mut damaged = a.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(problem(&wrapped(1, 9, &[damaged])), Problem::Checksum);
        assert_eq!(problem(&message(1, 9, codec, 0, None)), Problem::EmptyWrapper);
    }
}

#[test]
fn no_flipped_bit_of_an_old_message_goes_unnoticed() {
    let good = message(1, 1 << 40, 0, 99, Some(b"value"));
    for at in 8..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let read = read(&bytes);
            assert!(read.is_err() || (at < 12 && read == Ok(vec![])), "byte {at} bit {bit}");
        }
    }
}

#[cfg(feature = "snappy")]
mod snappy {
    use super::*;

    fn raw(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    const RECORD: [u8; 8] = [14, 0, 0, 0, 1, 2, b'v', 0];

    fn batch(payload: &[u8]) -> Vec<u8> {
        with_field(batch_with(1, payload), 21, &2_i16.to_be_bytes())
    }

    fn framed(blocks: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for block in blocks {
            let block = raw(block);
            bytes.extend_from_slice(&(block.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&block);
        }
        bytes
    }

    #[test]
    fn bare_framed_and_concatenated_data_are_read() {
        let (head, tail) = RECORD.split_at(3);
        for payload in [
            raw(&RECORD),
            framed(&[&RECORD]),
            framed(&[head, tail]),
            [framed(&[head]), framed(&[tail])].concat(),
        ] {
            assert_eq!(values(&read(&batch(&payload)).unwrap()), [b"v"]);
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let claims_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let bytes = batch(&claims_4_gib);
        let raw_batch = Walk::new(&bytes).next().unwrap().unwrap();
        let mut out = Vec::new();
        let error = Decoder::new(usize::MAX)
            .decode(&bytes, &raw_batch, &mut out)
            .unwrap_err();
        assert_eq!((error.problem, out.capacity()), (Problem::Inflate("snappy"), 0));
    }

    #[test]
    fn frames_that_lie_are_refused() {
        let mut newer = framed(&[&RECORD]);
        newer[15] = 2;
        let mut long = framed(&[&RECORD]);
        long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        for payload in [&newer[..], &long, &b"\x82SNAPPY\0\0\0\0\x01"[..], &[]] {
            assert_eq!(problem(&batch(payload)), Problem::Inflate("snappy"));
        }
    }
}

#[cfg(feature = "gzip")]
mod gzip {
    use std::io::Write;

    use flate2::{Compression as Level, GzBuilder, write::GzEncoder};

    use super::*;

    fn batch(payload: &[u8]) -> Vec<u8> {
        with_field(batch_with(1, payload), 21, &1_i16.to_be_bytes())
    }

    fn member(bytes: &[u8], builder: GzBuilder) -> Vec<u8> {
        let mut encoder: GzEncoder<_> = builder.write(Vec::new(), Level::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_may_follow_each_other_and_have_names() {
        let record = [14, 0, 0, 0, 1, 2, b'v', 0];
        let named = GzBuilder::new().filename("f").comment("c").extra(vec![1, 2, 3]);
        let payload = [member(&record[..2], named), member(&record[2..], GzBuilder::new())].concat();
        assert_eq!(values(&read(&batch(&payload)).unwrap()), [b"v"]);
        for length in 0..payload.len() {
            assert!(read(&batch(&payload[..length])).is_err());
        }
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    /// Repeats itself over long distances, so that blocks that depend on each other do.
    fn long_value() -> Vec<u8> {
        (0..40_000_u32)
            .flat_map(|i| (i % 9000).wrapping_mul(0x9e37_79b9).to_be_bytes())
            .collect()
    }

    fn record(value: &[u8]) -> Vec<u8> {
        let mut writer = TestBatch::new();
        writer.append(0, None, Some(value), &[]);
        finished(writer, 0, Flags::default()).split_off(61)
    }

    fn frame(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn batch(payload: &[u8]) -> Vec<u8> {
        with_field(batch_with(1, payload), 21, &3_i16.to_be_bytes())
    }

    #[test]
    fn every_kind_of_frame_is_read() {
        let value = long_value();
        let record = record(&value);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [
                BlockSize::Max64KB,
                BlockSize::Max256KB,
                BlockSize::Max1MB,
                BlockSize::Max4MB,
            ] {
                for extras in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(extras)
                        .content_checksum(extras)
                        .content_size(extras.then_some(record.len() as u64));
                    assert_eq!(values(&read(&batch(&frame(info, &record))).unwrap()), [&value]);
                }
            }
        }
    }

    #[test]
    fn dense_and_stored_blocks_and_several_frames_are_read() {
        let dense = vec![0; 3 << 20];
        let info = || FrameInfo::new().block_size(BlockSize::Max4MB);
        assert_eq!(
            values(&read(&batch(&frame(info(), &record(&dense)))).unwrap()),
            [&dense]
        );
        let small = record(b"v");
        let frames = [frame(info(), &small[..3]), frame(info(), &small[3..])].concat();
        assert_eq!(values(&read(&batch(&frames)).unwrap()), [b"v"]);
    }

    #[test]
    fn the_wrong_header_checksum_of_old_clients_is_accepted() {
        let inner = message(0, 3, 0, 0, Some(b"old"));
        let mut payload = frame(FrameInfo::new().block_size(BlockSize::Max64KB), &inner);
        payload[6] ^= 0x55;
        assert_eq!(values(&read(&message(0, 3, 3, 0, Some(&payload))).unwrap()), [b"old"]);
    }
}

pub(crate) fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let nullable = move || prop::option::of(bytes());
    let headers = prop::collection::vec((bytes(), nullable()), 0..4);
    let timestamp = prop_oneof![any::<i64>(), 1_700_000_000_000..1_700_000_100_000_i64];
    (timestamp, nullable(), nullable(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        offset: 0,
        timestamp,
        key,
        value,
        headers,
    })
}

pub(crate) fn write(records: &[Owned], base_offset: i64, compressor: &mut Compressor) -> Vec<u8> {
    let mut writer = TestBatch::new();
    for record in records {
        writer.append_owned(record);
    }
    writer.finish(base_offset, Flags::default(), compressor)
}

proptest! {
    #[test]
    fn any_records_come_back(
        mut records in prop::collection::vec(any_record(), 1..30),
        base_offset in 0..i64::MAX - 100,
    ) {
        for (record, offset) in records.iter_mut().zip(base_offset..) {
            record.offset = offset;
        }
        for mut compressor in compressors() {
            let bytes = write(&records, base_offset, &mut compressor);
            prop_assert_eq!(&read(&bytes).unwrap(), &records);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0..3_u8) {
        let _ = read(&bytes);
        let mut bytes = bytes;
        if bytes.len() >= 61 {
            bytes[0] = 0;
            bytes[16] = magic;
            bytes[23..25].fill(0);
            bytes[57..60].fill(0);
            let checksum = if magic == 2 { crc32c::crc32c(&bytes[21..]) } else { crc::crc32(&bytes[16..]) };
            let (at, length) = (if magic == 2 { 17 } else { 12 }, bytes.len() as i32 - 12);
            bytes[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            let _ = read(&bytes);
        }
    }

    #[test]
    fn batches_with_changed_bytes_are_read_or_refused(
        records in prop::collection::vec(any_record(), 1..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for mut compressor in compressors() {
            let mut bytes = write(&records, 5, &mut compressor);
            for (index, value) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = read(&fixed(bytes));
        }
    }

    #[test]
    fn any_records_bytes_are_walked_or_refused(bytes in prop::collection::vec(0..30_u8, 0..60), count in 0..10_i32) {
        let _ = read(&batch_with(count, &bytes));
    }
}
