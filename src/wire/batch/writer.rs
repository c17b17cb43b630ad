//! Writes record batches, magic 2.

use super::{
    codec::{Compression, Compressor},
    decoder::LOG_APPEND,
    raw::{CHECKED_FROM, CONTROL, HEADER, PREFIX, TRANSACTIONAL},
    varint::{size_i64, write_i64},
};
use crate::{Error, ErrorKind, Result};

/// A header as it is written: key, and a value that may be null.
pub(crate) type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// Writes records straight into the bytes that are sent; the header is filled in at the end.
#[derive(Debug)]
pub(crate) struct BatchWriter {
    /// Room for the header, then whole records.
    bytes: Vec<u8>,
    records: u32,
    first_timestamp: i64,
    max_timestamp: i64,
}

/// Where a batch stands in what its producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) base_sequence: i32,
}

impl Sequence {
    /// Of a producer that is not idempotent.
    pub(crate) const NONE: Self = Self {
        producer_id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// What a batch says of itself besides its codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) transactional: bool,
    pub(crate) control: bool,
    /// Set by brokers only; every record then has the batch's highest timestamp.
    pub(crate) log_append: bool,
}

impl BatchWriter {
    /// Writes into `buffer`, whose capacity is kept and whose content is not.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER, 0);
        Self {
            bytes: buffer,
            records: 0,
            first_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// What would be sent if nothing was added or compressed.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    /// By how much [`size`](Self::size) would grow.
    pub(crate) fn size_of(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> usize {
        let body = body_size(self.timestamp_delta(timestamp), self.records, key, value, headers);
        size_i64(body as i64) + body
    }

    /// # Errors
    ///
    /// `TooLarge` if the batch would reach 2 GiB, which is more than its header can say; it is left as it was.
    pub(crate) fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[HeaderRef<'_>],
    ) -> Result<()> {
        let timestamp_delta = self.timestamp_delta(timestamp);
        let body = body_size(timestamp_delta, self.records, key, value, headers);
        // Ten bytes are for the record's length.
        if self.bytes.len().saturating_add(body).saturating_add(10) > i32::MAX as usize {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "the record makes its batch longer than 2 GiB",
            ));
        }
        let out = &mut self.bytes;
        out.reserve(body + 10);
        write_i64(out, body as i64);
        out.push(0); // attributes, of which Kafka uses none
        write_i64(out, timestamp_delta);
        write_i64(out, i64::from(self.records));
        write_nullable(out, key);
        write_nullable(out, value);
        write_i64(out, headers.len() as i64);
        for &(key, value) in headers {
            write_nullable(out, Some(key));
            write_nullable(out, value);
        }
        if self.records == 0 {
            self.first_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.records += 1;
        Ok(())
    }

    /// Compresses the records, fills in the header and gives what is to be sent.
    pub(crate) fn finish(
        mut self,
        sequence: Sequence,
        base_offset: i64,
        flags: Flags,
        compressor: &mut Compressor,
    ) -> Result<Vec<u8>> {
        let compression = compressor.compression();
        if compression != Compression::None {
            let mut compressed = Vec::with_capacity(HEADER + self.bytes.len() / 2);
            compressed.resize(HEADER, 0);
            compressor.compress(&self.bytes[HEADER..], &mut compressed)?;
            self.bytes = compressed;
        }
        let length = i32::try_from(self.bytes.len() - PREFIX)
            .map_err(|_| Error::new(ErrorKind::TooLarge, "the batch is longer than 2 GiB"))?;
        let attributes = compression as i16 | flags.bits();
        let last_offset_delta = self.records.saturating_sub(1);

        let bytes = &mut self.bytes;
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &base_offset.to_be_bytes());
        put(8, &length.to_be_bytes());
        put(12, &(-1_i32).to_be_bytes()); // the leader's epoch, which the broker fills in
        put(16, &[2]);
        put(21, &attributes.to_be_bytes());
        put(23, &last_offset_delta.to_be_bytes());
        put(27, &self.first_timestamp.to_be_bytes());
        put(35, &self.max_timestamp.to_be_bytes());
        put(43, &sequence.producer_id.to_be_bytes());
        put(51, &sequence.epoch.to_be_bytes());
        put(53, &sequence.base_sequence.to_be_bytes());
        put(57, &self.records.to_be_bytes());
        let checksum = crc32c::crc32c(&self.bytes[CHECKED_FROM..]);
        self.bytes[17..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
        Ok(self.bytes)
    }

    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.records == 0 {
            0
        } else {
            timestamp.wrapping_sub(self.first_timestamp)
        }
    }
}

impl Flags {
    fn bits(self) -> i16 {
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        bit(self.transactional, TRANSACTIONAL) | bit(self.control, CONTROL) | bit(self.log_append, LOG_APPEND)
    }
}

/// The most that a record takes, wherever in a batch it comes to lie.
pub(crate) fn record_size(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[HeaderRef<'_>]) -> usize {
    let body = body_size(i64::MIN, i32::MAX.unsigned_abs(), key, value, headers);
    size_i64(body as i64) + body
}

/// What follows a record's length.
fn body_size(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[HeaderRef<'_>],
) -> usize {
    let headers_size: usize = headers
        .iter()
        .map(|&(key, value)| nullable_size(Some(key)) + nullable_size(value))
        .sum();
    1 + size_i64(timestamp_delta)
        + size_i64(i64::from(offset_delta))
        + nullable_size(key)
        + nullable_size(value)
        + size_i64(headers.len() as i64)
        + headers_size
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| size_i64(bytes.len() as i64) + bytes.len())
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            write_i64(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => write_i64(out, -1),
    }
}
