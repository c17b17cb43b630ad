//! Batches as they are written here and read again, and as others write them.

mod codecs;
mod lies;
mod markers;
mod old;
mod properties;
mod records;

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

/// A batch of offsets 0 to 9 that claims `count` records and holds these bytes.
fn batch_with(count: i32, records: &[u8]) -> Vec<u8> {
    let mut bytes = batch_of(0, &[&b"x"[..]; 10])[..61].to_vec();
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(records);
    fixed(bytes)
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
