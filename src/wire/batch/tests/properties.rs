//! What holds for any records, and for any bytes.

use super::*;

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
