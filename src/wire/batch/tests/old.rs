//! Messages of the formats before record batches: plain, and wrapped in others.

use super::*;

#[test]
fn old_checksums_are_zlib_s() {
    assert_eq!(crc::crc32(b""), 0);
    assert_eq!(crc::crc32(b"123456789"), 0xcbf4_3926);
}

/// A message of magic 0 or 1. Attributes: codec, and LogAppendTime in bit 3.
pub(super) fn message(magic: i8, offset: i64, attributes: u8, timestamp: i64, value: Option<&[u8]>) -> Vec<u8> {
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
