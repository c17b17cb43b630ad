//! Batches that are damaged, that lie about what they hold, or that hold too much; and what is said of them.

use super::*;

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
