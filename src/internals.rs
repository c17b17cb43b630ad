//! Doors for benches and fuzz targets. No part of the interface: anything here may change in any version.

pub mod fuzzed;

use crate::{
    Result,
    wire::batch::{
        self, BatchWriter, Compression, Compressor, Cursor, Decoder, Flags, Inflated, Place, Sequence, Slice, Span,
        Walk,
    },
};

/// Reads fetched bytes in the two steps in which a fetcher does, and keeps its buffers.
#[derive(Debug)]
pub struct BatchReader {
    decoder: Decoder,
    inflated: Inflated,
    spans: Vec<(Place, Span)>,
}

impl BatchReader {
    /// Inflates a batch to `limit` bytes at most.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            decoder: Decoder::new(limit),
            inflated: Inflated::default(),
            spans: Vec::new(),
        }
    }

    /// Checks and inflates all batches.
    pub fn decode(&mut self, fetched: &[u8]) -> Result<()> {
        self.inflated.truncate(0);
        self.spans.clear();
        for batch in Walk::new(fetched) {
            let decoded = batch.and_then(|batch| self.decoder.decode_into(fetched, &batch, &mut self.inflated));
            self.spans.push(decoded.map_err(|error| error.into_error())?);
        }
        Ok(())
    }

    /// Walks the records of what was decoded: their number, and the bytes of keys, values and headers.
    pub fn walk(&self, fetched: &[u8]) -> Result<(usize, usize)> {
        let (mut records, mut bytes) = (0, 0);
        for (place, span) in &self.spans {
            let data = if *place == Place::InFetched {
                fetched
            } else {
                self.inflated.as_slice()
            };
            let mut cursor = Cursor::new(span);
            while let Some(record) = cursor.next(data, span) {
                let record = record.map_err(|error| error.into_error())?;
                records += 1;
                bytes += length(record.key) + length(record.value) + record.headers.count as usize;
            }
        }
        Ok((records, bytes))
    }

    /// Checks, inflates and walks batch by batch, while a batch lies in the processor's cache. Gives the offset behind the
    /// last whole one, if there is any.
    pub fn walk_values(&mut self, fetched: &[u8], mut found: impl FnMut(&[u8])) -> Result<Option<i64>> {
        let mut next_offset = None;
        for batch in Walk::new(fetched) {
            let batch = batch.map_err(|error| error.into_error())?;
            self.inflated.truncate(0);
            let decoded = self.decoder.decode_into(fetched, &batch, &mut self.inflated);
            let (place, span) = decoded.map_err(|error| error.into_error())?;
            let data = match place {
                Place::InFetched => fetched,
                Place::Inflated => self.inflated.as_slice(),
            };
            let mut cursor = Cursor::new(&span);
            while let Some(record) = cursor.next(data, &span) {
                let record = record.map_err(|error| error.into_error())?;
                found(record.value.of(data).unwrap_or_default());
            }
            next_offset = Some(batch.next_offset);
        }
        Ok(next_offset)
    }

    /// Touches every header, as a program would that looks for one.
    pub fn walk_headers(&self, fetched: &[u8]) -> Result<usize> {
        let mut bytes = 0;
        for (place, span) in &self.spans {
            let data = if *place == Place::InFetched {
                fetched
            } else {
                self.inflated.as_slice()
            };
            let mut cursor = Cursor::new(span);
            while let Some(record) = cursor.next(data, span) {
                let record = record.map_err(|error| error.into_error())?;
                bytes += record
                    .headers
                    .iter(data)
                    .map(|header| header.key_bytes().len())
                    .sum::<usize>();
            }
        }
        Ok(bytes)
    }
}

/// Any bytes, through everything that reads batches.
pub fn decode_all(fetched: &[u8], limit: usize) -> Result<(usize, usize)> {
    let mut reader = BatchReader::new(limit);
    reader.decode(fetched)?;
    reader.walk(fetched)
}

/// Writes batches with one codec, by its name, in the steps in which a producer does, and keeps what they need.
#[derive(Debug)]
pub struct BatchEncoder {
    writer: BatchWriter,
    compressor: Compressor,
    compressed: Vec<u8>,
}

impl BatchEncoder {
    /// `None` for a codec that was left out.
    #[must_use]
    pub fn new(codec: &str) -> Option<Self> {
        let compression = match codec {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return None,
        };
        Some(Self {
            writer: BatchWriter::start(&mut Vec::new()),
            compressor: Compressor::new(compression, None).ok()?,
            compressed: Vec::new(),
        })
    }

    /// One batch of these values, each with these headers.
    pub fn write(
        &mut self,
        mut buffer: Vec<u8>,
        base_offset: i64,
        values: &[Vec<u8>],
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<Vec<u8>> {
        self.append(&mut buffer, values, headers)?;
        self.close(&mut buffer);
        self.compress(&mut buffer)?;
        self.stamp(&mut buffer);
        buffer[..8].copy_from_slice(&base_offset.to_be_bytes());
        Ok(buffer)
    }

    /// Begins a batch and appends these values, each with these headers, if it has room for them.
    pub fn append(
        &mut self,
        buffer: &mut Vec<u8>,
        values: &[Vec<u8>],
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<()> {
        const LIMIT: usize = 64 << 20;
        self.writer = BatchWriter::start(buffer);
        for value in values {
            let (timestamp, value) = (1_700_000_000_000, Some(&value[..]));
            let size = self.writer.size_of(timestamp, None, value, headers);
            if buffer.len() + size <= LIMIT {
                self.writer
                    .append_sized(buffer, size, timestamp, None, value, headers)?;
            }
        }
        Ok(())
    }

    /// Closes what was appended last.
    pub fn close(&self, buffer: &mut [u8]) {
        self.writer.close(buffer, Flags::default());
    }

    /// Says whether that made it smaller.
    pub fn compress(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        batch::compress(buffer, &mut self.compressor, &mut self.compressed)
    }

    /// Gives a closed batch its identity, as one that has none.
    pub fn stamp(&self, buffer: &mut [u8]) {
        batch::stamp(buffer, Sequence::NONE);
    }

    /// One batch of as many records, keys and values, as have room in `limit` bytes before they are compressed; tells
    /// their number.
    pub fn fill<'a>(
        &mut self,
        timestamp: i64,
        limit: usize,
        records: impl Iterator<Item = (Option<&'a [u8]>, &'a [u8])>,
    ) -> Result<(Vec<u8>, usize)> {
        let mut buffer = Vec::new();
        self.writer = BatchWriter::start(&mut buffer);
        let mut count = 0;
        for (key, value) in records {
            let size = self.writer.size_of(timestamp, key, Some(value), &[]);
            if buffer.len() + size > limit {
                break;
            }
            self.writer
                .append_sized(&mut buffer, size, timestamp, key, Some(value), &[])?;
            count += 1;
        }
        self.close(&mut buffer);
        self.compress(&mut buffer)?;
        self.stamp(&mut buffer);
        Ok((buffer, count))
    }
}

/// Without looking at the bytes themselves.
fn length(slice: Slice) -> usize {
    slice.range().map_or(0, |range| range.len())
}
