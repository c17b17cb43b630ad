//! Record batches of all formats, as they are and with checksums that hold.

use crate::wire::batch::{Cursor, Decoder, Inflated, Place, RawBatch, RecordView, Slice, Span, Walk, crc32, marker};

/// What one batch may inflate to.
const LIMIT: usize = 64 << 10;

/// All that is fetched together, as often as it takes a fetcher's buffer that is used again.
pub(super) fn run(fetched: &[u8]) {
    read(fetched);
    // Nothing gets past a checksum by chance, so what lies behind it would never be looked at.
    read(&sealed(fetched));
}

fn read(fetched: &[u8]) {
    let mut decoder = Decoder::new(LIMIT);
    let mut inflated = Inflated::default();
    let mut behind = 0;
    for batch in Walk::new(fetched) {
        let Ok(batch) = batch else { return };
        assert_eq!(batch.start, behind, "one behind the other");
        assert!(batch.start < batch.end && batch.end <= fetched.len());
        assert!(0 <= batch.base_offset && batch.base_offset < batch.next_offset);
        behind = batch.end;
        if batch.is_control() {
            let _ = marker(fetched, &batch);
        }
        inflated.truncate(0);
        match decoder.decode_into(fetched, &batch, &mut inflated) {
            Ok((place, span)) => {
                assert!(inflated.len() <= LIMIT, "{} bytes", inflated.len());
                let data = match place {
                    Place::InFetched => fetched,
                    Place::Inflated => inflated.as_slice(),
                };
                records(data, &span, &batch);
            }
            Err(_) => assert!(inflated.is_empty(), "nothing is left of what failed"),
        }
    }
}

fn records(data: &[u8], span: &Span, batch: &RawBatch) {
    let place = data.get(span.start as usize..span.end as usize);
    let room = place.expect("it lies in its buffer").len();
    let (mut cursor, mut lowest, mut count) = (Cursor::new(span), span.base_offset, 0);
    let mut failed = false;
    while let Some(record) = cursor.next(data, span) {
        assert!(!failed, "nothing follows an error");
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        assert!((lowest..batch.next_offset).contains(&record.offset), "{record:?}");
        assert!(fields(data, &record) <= room);
        lowest = record.offset + 1;
        count += 1;
    }
    assert!(failed || count == span.records, "as many as it claims");
    assert!(count as usize <= room, "each takes a byte");
    assert_eq!(cursor.position(), span.end);
}

/// How many bytes it has.
fn fields(data: &[u8], record: &RecordView) -> usize {
    let of = |slice: Slice| match slice.range() {
        Some(_) => slice.of(data).expect("it lies in its buffer").len(),
        None => 0,
    };
    let headers = record.headers.iter(data);
    assert_eq!(headers.len(), record.headers.count as usize);
    let (mut found, mut bytes) = (0, 0);
    for header in headers {
        found += 1;
        bytes += header.key_bytes().len() + header.value().map_or(0, <[u8]>::len);
    }
    assert_eq!(found, record.headers.count);
    of(record.key) + of(record.value) + bytes
}

/// The same with the checksums that it should have, of all batches whose length is true.
fn sealed(fetched: &[u8]) -> Vec<u8> {
    let mut sealed = fetched.to_vec();
    let mut rest = &mut sealed[..];
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some((batch, behind)) = rest.split_at_mut_checked(length.saturating_add(12)) else {
            break;
        };
        match batch.get(16) {
            Some(2) if batch.len() >= 61 => {
                let checksum = crc32c::crc32c(&batch[21..]);
                batch[17..21].copy_from_slice(&checksum.to_be_bytes());
            }
            Some(0 | 1) => {
                let checksum = crc32(&batch[16..]);
                batch[12..16].copy_from_slice(&checksum.to_be_bytes());
            }
            _ => {}
        }
        rest = behind;
    }
    sealed
}
