#![allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

use proptest::prelude::*;

use super::{super::memory::Memory, *};
use crate::wire::batch::{
    Compression, Compressor, Sequence, stamp,
    tests::{Owned, TestBatch, any_record, compressors, read, write},
};

fn plain() -> Compressor {
    Compressor::new(Compression::None, None).unwrap()
}

/// A record whose value has this length.
fn record(timestamp: i64, length: usize) -> Owned {
    Owned {
        offset: 0,
        timestamp,
        key: None,
        value: Some(vec![7; length]),
        headers: Vec::new(),
    }
}

fn decoder() -> Decoder {
    Decoder::new(1 << 20)
}

fn cut_of(batch: &[u8]) -> Option<u32> {
    halves(batch, &mut decoder()).unwrap()
}

/// Splits, and sees to it that each piece fills the buffer that it was given, and needs no more.
fn pieces(batch: &[u8], ranges: &[Range<u32>]) -> Vec<Vec<u8>> {
    let memory = Memory::new(1 << 20, || {});
    let mut given = Vec::new();
    let pieces = split(batch, ranges, &mut decoder(), |size| {
        let mut buffer = memory.buffer(memory.force(size));
        given.push((size, buffer.as_ptr()));
        buffer.bytes_mut().push(7); // what a buffer holds is of no account
        buffer
    })
    .unwrap();
    let filled: Vec<_> = pieces.iter().map(|piece| (piece.len(), piece.as_ptr())).collect();
    assert_eq!(filled, given);
    assert_eq!(memory.held(), given.iter().map(|(size, _)| size).sum::<usize>());
    let stamped = |piece: &Buffer| {
        let mut piece = piece.to_vec();
        stamp(&mut piece, Sequence::NONE);
        piece
    };
    pieces.iter().map(stamped).collect()
}

fn i64_at(batch: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(*batch[at..].first_chunk().unwrap())
}

/// Ranges within `0..count`: by how many records each is away from the one before, and how many it has.
fn ranges_of(count: u32, steps: &[(u32, u32)]) -> Vec<Range<u32>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    for &(gap, length) in steps {
        let start = at + gap;
        if start >= count {
            break;
        }
        at = (start + length).min(count);
        ranges.push(start..at);
    }
    ranges
}

fn at_offsets_from_0(records: &[Owned]) -> Vec<Owned> {
    let mut records = records.to_vec();
    for (record, offset) in records.iter_mut().zip(0..) {
        record.offset = offset;
    }
    records
}

proptest! {
    #[test]
    fn any_records_are_the_same_in_any_pieces(
        records in prop::collection::vec(any_record(), 1..40),
        steps in prop::collection::vec((0..4_u32, 1..9_u32), 0..20),
    ) {
        let ranges = ranges_of(records.len() as u32, &steps);
        for mut compressor in compressors() {
            let batch = write(&records, 0, &mut compressor);
            let pieces = pieces(&batch, &ranges);
            prop_assert_eq!(pieces.len(), ranges.len());
            for (piece, range) in pieces.iter().zip(&ranges) {
                let expected = at_offsets_from_0(&records[range.start as usize..range.end as usize]);
                prop_assert_eq!(&read(piece).unwrap(), &expected);
                prop_assert_eq!(i64_at(piece, 27), expected[0].timestamp);
                prop_assert_eq!(Some(i64_at(piece, 35)), expected.iter().map(|record| record.timestamp).max());
            }
        }
    }

    #[test]
    fn no_other_cut_makes_the_longer_half_shorter(
        lengths in prop::collection::vec(prop_oneof![0..40_usize, 0..3000_usize], 1..60),
    ) {
        let mut batch = TestBatch::new();
        let mut ends = Vec::new();
        for &length in &lengths {
            batch.append_owned(&record(5, length));
            ends.push(batch.size() - 61);
        }
        let total = ends[ends.len() - 1];
        let longer = |cut: usize| ends[cut - 1].max(total - ends[cut - 1]);
        let least = (1..lengths.len()).map(longer).min();
        let batch = batch.finish(0, Flags::default(), &mut plain());
        let cut = cut_of(&batch);
        prop_assert_eq!(cut.map(|cut| longer(cut as usize)), least);
        prop_assert_eq!(cut.is_none(), lengths.len() == 1);
    }
}

#[test]
fn headers_keep_order_duplicates_and_nulls() {
    let record = Owned {
        offset: 0,
        timestamp: 3,
        key: Some(vec![]),
        value: None,
        headers: vec![
            (b"b".to_vec(), Some(b"1".to_vec())),
            (b"a".to_vec(), None),
            (b"b".to_vec(), Some(vec![])),
            (vec![], Some(b"2".to_vec())),
        ],
    };
    let batch = write(&[self::record(9, 5), record.clone()], 0, &mut plain());
    assert_eq!(read(&pieces(&batch, &[1..2])[0]).unwrap(), [record]);
}

#[test]
fn timestamps_count_from_the_first_of_each_piece() {
    let records = [1000, i64::MAX, i64::MIN, -1, 7].map(|timestamp| record(timestamp, 10));
    let batch = write(&records, 0, &mut plain());
    let pieces = pieces(&batch, &[0..1, 1..3, 3..5]);
    let timestamps = |piece: &[u8]| (i64_at(piece, 27), i64_at(piece, 35));
    assert_eq!(timestamps(&pieces[0]), (1000, 1000));
    assert_eq!(timestamps(&pieces[1]), (i64::MAX, i64::MAX));
    assert_eq!(timestamps(&pieces[2]), (-1, 7));
    assert_eq!(read(&pieces[1]).unwrap(), at_offsets_from_0(&records[1..3]));
}

#[test]
fn a_transaction_s_batch_stays_one_and_a_codec_does_not() {
    let mut batch = TestBatch::new();
    for _ in 0..100 {
        batch.append_owned(&record(5, 50));
    }
    let flags = Flags {
        transactional: true,
        ..Flags::default()
    };
    for mut compressor in compressors() {
        let bytes = batch.clone().finish(0, flags, &mut compressor);
        for piece in pieces(&bytes, &[0..30, 30..100]) {
            let raw = Walk::new(&piece).next().unwrap().unwrap();
            assert!(raw.is_transactional());
            assert_eq!(raw.compression(), Some(Compression::None));
            assert_eq!(raw.end, piece.len());
        }
    }
}

#[test]
fn half_of_a_batch_is_half_of_its_bytes() {
    let cut = |lengths: &[usize]| {
        let records: Vec<_> = lengths.iter().map(|&length| record(5, length)).collect();
        let cuts: Vec<_> = compressors()
            .map(|mut compressor| cut_of(&write(&records, 0, &mut compressor)))
            .collect();
        assert!(cuts.iter().all(|cut| *cut == cuts[0]), "a codec changes nothing");
        cuts[0]
    };
    assert_eq!(cut(&[100]), None);
    assert_eq!(cut(&[100, 100]), Some(1));
    assert_eq!(cut(&[0, 100_000]), Some(1));
    assert_eq!(cut(&[5000, 1, 1, 1, 1]), Some(1));
    assert_eq!(cut(&[1, 1, 1, 1, 5000]), Some(4));
    assert_eq!(cut(&[100, 100, 100, 100]), Some(2));
    assert_eq!(cut(&[100, 900, 900, 100, 100]), Some(2));
}

#[test]
fn halves_of_halves_end_at_single_records() {
    let records: Vec<_> = (0..37).map(|i| record(i, 10 * i as usize)).collect();
    let mut left = vec![write(&records, 0, &mut plain())];
    let mut single = Vec::new();
    while let Some(batch) = left.pop() {
        let count = read(&batch).unwrap().len() as u32;
        match cut_of(&batch) {
            Some(cut) => left.extend(pieces(&batch, &[0..cut, cut..count]).into_iter().rev()),
            None => single.extend(read(&batch).unwrap()),
        }
    }
    assert_eq!(single, records);
}

#[test]
fn what_cannot_be_split_is_refused_before_a_buffer_is_asked_for() {
    let batch = write(&[record(5, 10), record(5, 20), record(5, 30)], 0, &mut plain());
    let refused = |batch: &[u8], ranges: &[Range<u32>]| {
        let error = split(batch, ranges, &mut decoder(), |_| panic!("a buffer is asked for")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        error.to_string()
    };
    let empty_or_backwards: [&[Range<u32>]; 5] = [
        &[1..1],
        &[0..1, 1..1],
        &[0..2, 1..3],
        &[2..3, 0..1],
        &[Range { start: 2, end: 1 }],
    ];
    for ranges in empty_or_backwards {
        assert!(refused(&batch, ranges).ends_with("ranges that are none"));
    }
    for ranges in [&[0..1, 1..4][..], &[3..4], &[0..u32::MAX]] {
        assert!(refused(&batch, ranges).ends_with("behind its end"));
    }
    let mut damaged = batch.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(refused(&damaged, &[0..1, 1..3]).contains("checksum does not hold"));
    assert!(refused(&batch[..batch.len() - 1], &[0..1]).ends_with("it is cut off"));
    assert!(halves(&damaged, &mut decoder()).is_err() && halves(&[], &mut decoder()).is_err());
}
