//! What each codec is written as by others.

use super::*;

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

    use super::{super::old::message, *};

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
