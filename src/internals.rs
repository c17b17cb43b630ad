//! Doors for benches and fuzz targets. No part of the interface: anything here may change in any version.

use crate::{
    Result,
    wire::batch::{BatchWriter, Compression, Compressor, Cursor, Decoder, Flags, Place, Sequence, Slice, Span, Walk},
};

/// Reads fetched bytes in the two steps in which a fetcher does, and keeps its buffers.
#[derive(Debug)]
pub struct BatchReader {
    decoder: Decoder,
    inflated: Vec<u8>,
    spans: Vec<(Place, Span)>,
}

impl BatchReader {
    /// Inflates a batch to `limit` bytes at most.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            decoder: Decoder::new(limit),
            inflated: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Checks and inflates all batches.
    pub fn decode(&mut self, fetched: &[u8]) -> Result<()> {
        self.inflated.clear();
        self.spans.clear();
        for batch in Walk::new(fetched) {
            let decoded = batch.and_then(|batch| self.decoder.decode(fetched, &batch, &mut self.inflated));
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
                &self.inflated
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

    /// Checks and walks batch by batch, while a batch lies in the processor's cache. Uncompressed batches only; gives
    /// the offset behind the last whole one, if there is any.
    pub fn walk_values(&mut self, fetched: &[u8], mut found: impl FnMut(&[u8])) -> Result<Option<i64>> {
        let mut next_offset = None;
        for batch in Walk::new(fetched) {
            let batch = batch.map_err(|error| error.into_error())?;
            let decoded = self.decoder.decode(fetched, &batch, &mut self.inflated);
            let (_, span) = decoded.map_err(|error| error.into_error())?;
            let mut cursor = Cursor::new(&span);
            while let Some(record) = cursor.next(fetched, &span) {
                let record = record.map_err(|error| error.into_error())?;
                found(record.value.of(fetched).unwrap_or_default());
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
                &self.inflated
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

/// Writes batches with one codec, by its name, and keeps its context.
#[derive(Debug)]
pub struct BatchEncoder(Compressor);

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
        Compressor::new(compression, None).ok().map(Self)
    }

    /// One batch of these values, each with these headers.
    pub fn write(
        &mut self,
        buffer: Vec<u8>,
        base_offset: i64,
        values: &[Vec<u8>],
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<Vec<u8>> {
        let mut writer = BatchWriter::new(buffer);
        for value in values {
            writer.append(1_700_000_000_000, None, Some(value), headers)?;
        }
        writer.finish(Sequence::NONE, base_offset, Flags::default(), &mut self.0)
    }

    /// One batch of as many records, keys and values, as have room in `limit` bytes before they are compressed; tells
    /// their number.
    pub fn fill<'a>(
        &mut self,
        timestamp: i64,
        limit: usize,
        records: impl Iterator<Item = (Option<&'a [u8]>, &'a [u8])>,
    ) -> Result<(Vec<u8>, usize)> {
        let mut writer = BatchWriter::new(Vec::new());
        for (key, value) in records {
            if writer.size() + writer.size_of(timestamp, key, Some(value), &[]) > limit {
                break;
            }
            writer.append(timestamp, key, Some(value), &[])?;
        }
        let count = writer.records() as usize;
        let batch = writer.finish(Sequence::NONE, 0, Flags::default(), &mut self.0)?;
        Ok((batch, count))
    }
}

/// Without looking at the bytes themselves.
fn length(slice: Slice) -> usize {
    slice.range().map_or(0, |range| range.len())
}
