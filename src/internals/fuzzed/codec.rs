//! Each codec, in both directions.

use crate::wire::batch::{Compression, Compressor, Decoder, Inflated, Place, Walk};

/// What may be inflated; less than what a few bytes can claim.
const LIMIT: usize = 64 << 10;

/// Compressors are tried with less, so that they do not take all of the time.
const MOST_TO_COMPRESS: usize = 16 << 10;

pub(super) fn gzip(bytes: &[u8]) {
    both_ways(Compression::Gzip, bytes);
}

pub(super) fn snappy(bytes: &[u8]) {
    both_ways(Compression::Snappy, bytes);
}

pub(super) fn lz4(bytes: &[u8]) {
    both_ways(Compression::Lz4, bytes);
}

pub(super) fn zstd(bytes: &[u8]) {
    both_ways(Compression::Zstd, bytes);
}

fn both_ways(codec: Compression, bytes: &[u8]) {
    if let Some(inflated) = inflate(codec, bytes, LIMIT) {
        assert!(inflated.len() <= LIMIT, "{} bytes", inflated.len());
        // Into a buffer with room, and with a decoder that has learned something: the same.
        assert_eq!(inflate(codec, bytes, inflated.len()), Some(inflated));
    }
    let bytes = &bytes[..bytes.len().min(MOST_TO_COMPRESS)];
    // A codec that was left out compresses nothing.
    let Ok(mut compressor) = Compressor::new(codec, None) else {
        return;
    };
    let mut compressed = b"before".to_vec();
    compressor
        .compress(bytes, &mut compressed)
        .expect("anything can be compressed");
    let compressed = compressed.strip_prefix(b"before").expect("what was there stays");
    assert_eq!(inflate(codec, compressed, bytes.len()).as_deref(), Some(bytes));
    if !bytes.is_empty() {
        assert_eq!(inflate(codec, compressed, bytes.len() - 1), None, "beyond the limit");
    }
}

/// As what a batch holds. What was in the buffer before stays.
fn inflate(codec: Compression, bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    const BEFORE: &[u8] = b"what was there";
    let fetched = holding(codec, bytes);
    let batch = Walk::new(&fetched).next()?.expect("a batch that was just written");
    let mut decoder = Decoder::new(limit);
    let mut found = Vec::new();
    // The second time the codec has its context, and knows what to expect.
    for _ in 0..2 {
        let mut buffer = BEFORE.to_vec();
        let decoded = decoder.decode(&fetched, &batch, &mut buffer);
        assert!(buffer.starts_with(BEFORE));
        let Ok((place, span)) = decoded else {
            assert_eq!(buffer, BEFORE, "nothing is left of what failed");
            found.push(None);
            continue;
        };
        assert_eq!(place, Place::Inflated);
        assert_eq!((span.start as usize, span.end as usize), (BEFORE.len(), buffer.len()));
        found.push(Some(buffer.split_off(BEFORE.len())));
    }
    // And into a buffer that holds something else where there is room.
    let mut used = Inflated::over(vec![0x55; 3 * LIMIT]);
    let again = decoder.decode_into(&fetched, &batch, &mut used);
    found.push(again.ok().map(|_| used.as_slice().to_vec()));
    let last = found.pop().flatten();
    assert!(found.iter().all(|earlier| *earlier == last), "the same each time");
    last
}

/// A batch of one record, whose bytes these are.
fn holding(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut batch = vec![0; 61];
    batch.extend_from_slice(bytes);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[22] = codec as u8;
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch
}
