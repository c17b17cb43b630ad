use proptest::prelude::*;

use super::{
    super::{
        Walk,
        tests::{Owned, any_record, compressors, read},
    },
    *,
};

const FIRST: Sequence = Sequence {
    producer_id: 1 << 40,
    epoch: 3,
    base_sequence: 77,
};
const SECOND: Sequence = Sequence {
    producer_id: 9,
    epoch: 0,
    base_sequence: i32::MAX,
};

fn headers(record: &Owned) -> Vec<HeaderRef<'_>> {
    let headers = record.headers.iter();
    headers.map(|(key, value)| (&key[..], value.as_deref())).collect()
}

/// A closed batch, whose every record took what it was said to take, and had room for no more.
fn closed(records: &[Owned], flags: Flags) -> Vec<u8> {
    let mut bytes = b"an old buffer".to_vec();
    let mut writer = BatchWriter::start(&mut bytes);
    for (at, record) in records.iter().enumerate() {
        let (timestamp, key, value) = (record.timestamp, record.key.as_deref(), record.value.as_deref());
        let headers = headers(record);
        let size = writer.size_of(timestamp, key, value, &headers);
        assert!(size <= record_size(key, value, &headers));
        let before = bytes.len();
        bytes.reserve_exact(size);
        bytes.shrink_to(before + size);
        let (place, capacity) = (bytes.as_ptr(), bytes.capacity());
        writer.append(&mut bytes, timestamp, key, value, &headers).unwrap();
        assert_eq!(bytes.len(), before + size);
        assert_eq!((bytes.as_ptr(), bytes.capacity()), (place, capacity));
        assert_eq!(writer.records(), at as u32 + 1);
        let timestamps = records[..=at].iter().map(|record| record.timestamp);
        assert_eq!(writer.max_timestamp, timestamps.max().unwrap());
    }
    writer.close(&mut bytes, flags);
    bytes
}

fn field<const N: usize>(batch: &[u8], at: usize) -> [u8; N] {
    *batch[at..].first_chunk().unwrap()
}

fn identity(batch: &[u8]) -> Sequence {
    Sequence {
        producer_id: i64::from_be_bytes(field(batch, 43)),
        epoch: i16::from_be_bytes(field(batch, 51)),
        base_sequence: i32::from_be_bytes(field(batch, 53)),
    }
}

/// Repetitive, as most records are.
fn texts(count: usize) -> Vec<Owned> {
    (0..count)
        .map(|i| Owned {
            offset: i as i64,
            timestamp: 1_700_000_000_000 + i as i64 / 3,
            key: Some(format!("key {}", i % 7).into_bytes()),
            value: Some(format!("{{\"number\":{i},\"kind\":\"order.created\"}}").into_bytes()),
            headers: vec![(b"source".to_vec(), Some(b"billing".to_vec()))],
        })
        .collect()
}

/// Nothing that a codec could make shorter.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Lengths and numbers on both sides of where they take a byte more.
fn any_length() -> impl Strategy<Value = usize> {
    let near = |border: usize| border.saturating_sub(8)..border + 8;
    prop_oneof![0..10_usize, near(64), near(8192), near(1 << 20)]
}

proptest! {
    #[test]
    fn the_short_way_writes_what_the_long_way_does_or_nothing(
        (key, value) in (prop::option::of(any_length()), prop::option::of(any_length())),
        timestamp in prop_oneof![any::<i64>(), (0..4_usize, any_length()).prop_map(|(n, far)| (n * far) as i64)],
        records in any_length(),
        (more_room, more_limit) in (-20..20_isize, -20..20_isize),
    ) {
        let (key, value) = (key.map(|length| vec![1; length]), value.map(|length| vec![2; length]));
        let (key, value) = (key.as_deref(), value.as_deref());
        let mut long = Vec::new();
        let mut writer = BatchWriter::start(&mut long);
        for _ in 0..records {
            writer.count(1000);
        }
        let mut short = long.clone();
        let mut short_writer = writer;

        let needed = HEADER + writer.size_of(timestamp, key, value, &[]);
        writer.append(&mut long, timestamp, key, value, &[]).unwrap();
        short.reserve_exact((needed - HEADER).saturating_add_signed(more_room));
        let (place, capacity) = (short.as_ptr(), short.capacity());
        let limit = needed.saturating_add_signed(more_limit);

        let is_in = short_writer.append_short(&mut short, limit, timestamp, key, value);
        prop_assert_eq!((short.as_ptr(), short.capacity()), (place, capacity));
        if is_in {
            prop_assert!(short == long && needed <= limit && needed <= capacity);
            prop_assert_eq!(short_writer, writer);
        } else {
            prop_assert_eq!(short.len(), HEADER);
            prop_assert_eq!(short_writer.records() as usize, records);
        }
        let is_soon = records == 0 || (1000..9000).contains(&timestamp);
        let is_usual = is_soon && records < 8192 && needed < 8000;
        prop_assert!(is_in || !is_usual || more_room < 8 || more_limit < 0);
    }

    #[test]
    fn any_records_are_read_after_every_step_and_under_every_identity(
        mut records in prop::collection::vec(any_record(), 1..30),
        repeated in 1..8_usize,
        transactional: bool,
    ) {
        records = records.iter().cycle().take(records.len() * repeated).cloned().collect();
        for (record, offset) in records.iter_mut().zip(0..) {
            record.offset = offset;
        }
        let flags = Flags { transactional, ..Flags::default() };
        let closed = closed(&records, flags);
        let mut scratch = b"of another batch".to_vec();
        for mut compressor in compressors() {
            let mut bytes = closed.clone();
            let smaller = compress(&mut bytes, &mut compressor, &mut scratch).unwrap();
            if smaller {
                prop_assert!(bytes.len() < closed.len());
            } else {
                prop_assert_eq!(&bytes, &closed);
            }
            stamp(&mut bytes, FIRST);
            let first = bytes.clone();
            prop_assert_eq!(&read(&bytes).unwrap(), &records);
            stamp(&mut bytes, SECOND);
            prop_assert_eq!(identity(&bytes), SECOND);
            prop_assert_eq!(&read(&bytes).unwrap(), &records);

            let batch = Walk::new(&bytes).next().unwrap().unwrap();
            let codec = if smaller { compressor.compression() } else { Compression::None };
            prop_assert_eq!(batch.compression(), Some(codec));
            prop_assert_eq!((batch.is_transactional(), batch.is_control()), (transactional, false));
            prop_assert_eq!((batch.base_offset, batch.next_offset), (0, records.len() as i64));
            prop_assert_eq!((batch.producer_id(), batch.leader_epoch), (9, -1));

            stamp(&mut bytes, FIRST);
            prop_assert!(bytes == first, "what a stamp has written, the next one leaves nothing of");
        }
    }
}

#[test]
fn a_record_s_size_is_known_at_every_border_of_a_length() {
    let mut bytes = Vec::new();
    let mut writer = BatchWriter::start(&mut bytes);
    for length in [0, 1, 50, 62, 63, 64, 65, 100, 8100, 8191, 8192, 100_000, 1 << 20] {
        let value = vec![7; length];
        let headers: [HeaderRef<'_>; 2] = [(b"key", Some(&value)), (b"null", None)];
        for timestamp in [1000, 0, 1063, 1064, 9191, 9192, i64::MIN, i64::MAX] {
            for headers in [&headers[..], &[]] {
                let expected = bytes.len() + writer.size_of(timestamp, Some(&value), None, headers);
                let most = bytes.len() + record_size(Some(&value), None, headers);
                writer
                    .append(&mut bytes, timestamp, Some(&value), None, headers)
                    .unwrap();
                assert_eq!(bytes.len(), expected);
                assert!(expected <= most);
            }
        }
    }
    writer.close(&mut bytes, Flags::default());
    stamp(&mut bytes, Sequence::NONE);
    assert_eq!(read(&bytes).unwrap().len(), 208);
}

#[test]
fn a_size_says_how_long_its_length_is() {
    let borders = [6, 13, 20, 27, 30].map(|bits| 1_usize << bits);
    let around = borders.iter().flat_map(|border| border.saturating_sub(10)..border + 10);
    for body in (1..100_000).chain(around) {
        assert_eq!(body_of(body + size_i64(body as i64)), body);
    }
}

#[test]
fn timestamps_count_from_the_first_and_the_highest_is_told() {
    let mut bytes = Vec::new();
    let mut writer = BatchWriter::start(&mut bytes);
    for timestamp in [500, 300, 900, -1] {
        writer.append(&mut bytes, timestamp, None, None, &[]).unwrap();
    }
    assert_eq!(writer.max_timestamp, 900);
    writer.close(&mut bytes, Flags::default());
    assert_eq!(i64::from_be_bytes(field(&bytes, 27)), 500);
    assert_eq!(i64::from_be_bytes(field(&bytes, 35)), 900);
}

#[test]
fn the_highest_timestamp_may_be_below_none() {
    let mut bytes = Vec::new();
    let mut writer = BatchWriter::start(&mut bytes);
    for timestamp in [-7, i64::MIN] {
        writer.append(&mut bytes, timestamp, None, None, &[]).unwrap();
    }
    assert_eq!(writer.max_timestamp, -7);
}

#[test]
fn a_record_beyond_two_gib_is_refused_and_nothing_of_it_is_written() {
    let mut bytes = Vec::new();
    let mut writer = BatchWriter::start(&mut bytes);
    writer.append(&mut bytes, 5, Some(b"key"), Some(b"value"), &[]).unwrap();
    let (before, capacity) = (bytes.clone(), bytes.capacity());
    let large = vec![0; 1 << 26];
    let headers: Vec<HeaderRef<'_>> = vec![(b"again", Some(&large)); 32];
    assert!(writer.size_of(9, None, None, &headers) > i32::MAX as usize);
    let error = writer.append(&mut bytes, 9, None, None, &headers).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!((bytes, writer.records(), writer.max_timestamp), (before, 1, 5));
    assert!(capacity < 1 << 20, "and no memory is asked for");
}

/// None of the two gibibytes is touched but the last: they take no memory.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_batch_may_grow_to_two_gib_and_not_beyond() {
    const LONGEST: usize = i32::MAX as usize;
    let mut writer = BatchWriter::start(&mut Vec::new());
    let size = writer.size_of(0, None, Some(b"value"), &[]);
    let mut bytes = vec![0; LONGEST];
    bytes.truncate(LONGEST - size + 1);
    let error = writer.append(&mut bytes, 0, None, Some(b"value"), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!((bytes.len(), writer.records()), (LONGEST - size + 1, 0));
    bytes.truncate(LONGEST - size);
    writer.append(&mut bytes, 0, None, Some(b"value"), &[]).unwrap();
    writer.close(&mut bytes, Flags::default());
    assert_eq!((bytes.len(), bytes.capacity()), (LONGEST, LONGEST));
    assert_eq!(i32::from_be_bytes(field(&bytes, 8)), i32::MAX - 12);
}

#[test]
fn what_does_not_become_smaller_stays_as_it_is() {
    let mut bytes = Vec::with_capacity(1 << 20);
    let mut writer = BatchWriter::start(&mut bytes);
    let noise = noise(100_000);
    writer.append(&mut bytes, 0, None, Some(&noise), &[]).unwrap();
    writer.close(&mut bytes, Flags::default());
    let (closed, place) = (bytes.clone(), bytes.as_ptr());
    for mut compressor in compressors() {
        assert!(!compress(&mut bytes, &mut compressor, &mut Vec::new()).unwrap());
        assert!(bytes == closed, "{compressor:?}");
        assert_eq!((bytes.as_ptr(), bytes.capacity()), (place, 1 << 20));
    }
    stamp(&mut bytes, FIRST);
    assert_eq!(read(&bytes).unwrap()[0].value.as_ref(), Some(&noise));
}

#[test]
fn what_becomes_smaller_does_so_in_place_and_takes_its_scratch_once() {
    let records = texts(3000);
    let closed = closed(&records, Flags::default());
    for mut compressor in compressors().filter(|c| c.compression() != Compression::None) {
        let mut bytes = closed.clone();
        let (place, capacity) = (bytes.as_ptr(), bytes.capacity());
        let mut scratch = Vec::new();
        assert!(compress(&mut bytes, &mut compressor, &mut scratch).unwrap());
        assert!(bytes.len() < closed.len() / 2, "{compressor:?}: {}", bytes.len());
        assert_eq!((bytes.as_ptr(), bytes.capacity()), (place, capacity));
        let made = scratch.as_ptr();
        let first = bytes.clone();
        bytes.clone_from(&closed);
        assert!(compress(&mut bytes, &mut compressor, &mut scratch).unwrap());
        assert!(bytes == first, "{compressor:?} remembers a batch");
        assert_eq!(scratch.as_ptr(), made);
        stamp(&mut bytes, FIRST);
        assert_eq!(read(&bytes).unwrap(), records);
    }
}

/// Some codecs keep what they have seen: it must not show in the next batch, whatever the last one was.
#[test]
fn a_compressor_that_was_used_writes_what_a_new_one_would() {
    let batches = [texts(1), texts(3000), texts(40), texts(1000)].map(|records| closed(&records, Flags::default()));
    for mut used in compressors() {
        for batch in &batches {
            let mut new = Compressor::new(used.compression(), None).unwrap();
            let (mut by_used, mut by_new) = (batch.clone(), batch.clone());
            compress(&mut by_used, &mut used, &mut Vec::new()).unwrap();
            compress(&mut by_new, &mut new, &mut Vec::new()).unwrap();
            assert!(by_used == by_new, "{used:?}");
        }
    }
}

fn at_level(compression: Compression, level: Option<i32>, closed: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(compression, level).unwrap();
    let mut bytes = closed.to_vec();
    compress(&mut bytes, &mut compressor, &mut Vec::new()).unwrap();
    stamp(&mut bytes, FIRST);
    bytes
}

#[test]
fn every_level_is_read_and_a_higher_one_is_smaller() {
    let records = texts(500);
    let closed = closed(&records, Flags::default());
    for compression in compressors().map(|compressor| compressor.compression()) {
        let Some(levels) = compression.levels() else {
            let plain = at_level(compression, None, &closed);
            assert!(at_level(compression, Some(3), &closed) == plain, "{compression:?}");
            continue;
        };
        let (low, high) = levels.into_inner();
        let mut last = usize::MAX;
        for level in [low, 1, high] {
            let bytes = at_level(compression, Some(level), &closed);
            assert_eq!(read(&bytes).unwrap(), records, "{compression:?} {level}");
            assert!(bytes.len() <= last, "{compression:?} {level}: {}", bytes.len());
            last = bytes.len();
        }
        let fastest = at_level(compression, Some(1), &closed);
        assert!(last < fastest.len(), "{compression:?}");
        for (beyond, nearest) in [(i32::MIN, low), (i32::MAX, high)] {
            let nearest = at_level(compression, Some(nearest), &closed);
            assert!(at_level(compression, Some(beyond), &closed) == nearest);
        }
    }
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_has_the_levels_of_its_library() {
    assert_eq!(Compression::Zstd.levels(), Some(zstd::compression_level_range()));
}

/// The frame's header is written here as it is, checksum included, which readers look at.
#[cfg(feature = "lz4")]
#[test]
fn lz4_frames_are_what_a_strict_reader_reads() {
    use std::io::Read;

    let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
    for records in [texts(0), texts(1), texts(5000)] {
        let mut bytes = closed(&records, Flags::default()).split_off(HEADER);
        bytes.extend(noise(70_000)); // a block that is stored
        for length in [0, 1, 65_535, 65_536, 65_537, bytes.len()] {
            let mut frame = Vec::new();
            compressor.compress(&bytes[..length], &mut frame).unwrap();
            let mut inflated = Vec::new();
            lz4_flex::frame::FrameDecoder::new(&frame[..])
                .read_to_end(&mut inflated)
                .unwrap();
            assert!(inflated == bytes[..length]);
        }
    }
}
