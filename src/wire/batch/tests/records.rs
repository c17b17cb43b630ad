//! What is written and what is read: records, their fields, and the batches around them.

use super::*;

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
