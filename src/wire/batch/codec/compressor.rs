//! The other direction, for the producer.

use std::fmt;

use super::Compression;
use crate::{Error, ErrorKind, Result};

/// Compresses, and keeps what a codec needs for that. One per thread.
pub(crate) struct Compressor {
    compression: Compression,
    level: Option<i32>,
    context: Context,
}

enum Context {
    None,
    #[cfg(feature = "gzip")]
    Gzip(flate2::Compress),
    #[cfg(feature = "snappy")]
    Snappy(Box<snap::raw::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(lz4_flex::block::CompressTable),
    #[cfg(feature = "zstd")]
    Zstd(zstd::zstd_safe::CCtx<'static>),
}

impl Compressor {
    /// Without a level, what is best for batches; beyond its [`levels`](Compression::levels), the nearest. Fails for a codec
    /// whose feature is off.
    pub(crate) fn new(compression: Compression, level: Option<i32>) -> Result<Self> {
        let level = level
            .zip(compression.levels())
            .map(|(level, levels)| level.clamp(*levels.start(), *levels.end()));
        let context = match compression {
            Compression::None => Context::None,
            #[cfg(feature = "gzip")]
            Compression::Gzip => Context::Gzip(gzip::context(level)),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Context::Snappy(Box::new(snap::raw::Encoder::new())),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Context::Lz4(lz4_flex::block::CompressTable::large()),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Context::Zstd(zstd_frame::context(level)?),
            #[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
            off => return Err(left_out(off)),
        };
        Ok(Self {
            compression,
            level,
            context,
        })
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends `records` in the codec's format.
    pub(crate) fn compress(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match &mut self.context {
            Context::None => {
                out.extend_from_slice(records);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Context::Gzip(context) => gzip::compress(context, records, out),
            #[cfg(feature = "snappy")]
            Context::Snappy(context) => snappy::compress(context, records, out),
            #[cfg(feature = "lz4")]
            Context::Lz4(table) => lz4::compress(table, records, out),
            #[cfg(feature = "zstd")]
            Context::Zstd(context) => zstd_frame::compress(context, records, out),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("compression", &self.compression)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

#[cfg(not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
fn left_out(compression: Compression) -> Error {
    let name = format!("{compression:?}").to_lowercase();
    Error::new(
        ErrorKind::Unsupported,
        format!("cannot compress with {name}: klamm was built without its feature `{name}`"),
    )
}

#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
fn failed(codec: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("compressing with {codec} failed"))
}

#[cfg(feature = "gzip")]
mod gzip {
    use flate2::{Compress, Compression, FlushCompress, Status};

    use super::{Result, failed};

    /// The next one, which zlib's authors chose, takes half as long again, for batches that are two in a hundred smaller.
    const DEFAULT: u32 = 5;

    pub(super) fn context(level: Option<i32>) -> Compress {
        const WINDOW_BITS: u8 = 15;
        let level = level.map_or(DEFAULT, i32::unsigned_abs);
        Compress::new_gzip(Compression::new(level), WINDOW_BITS)
    }

    pub(super) fn compress(context: &mut Compress, records: &[u8], out: &mut Vec<u8>) -> Result<()> {
        context.reset();
        loop {
            let consumed = context.total_in() as usize;
            out.reserve((records.len() - consumed) / 4 + 1024);
            match context.compress_vec(&records[consumed..], out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(_) => {}
                Err(_) => return Err(failed("gzip")),
            }
        }
    }
}

#[cfg(feature = "snappy")]
mod snappy {
    use snap::raw::{Encoder, max_compress_len};

    use super::{super::snappy::MAGIC, Result, failed};

    /// In the Java library's framing and with its block size, which every client reads.
    pub(super) fn compress(context: &mut Encoder, records: &[u8], out: &mut Vec<u8>) -> Result<()> {
        const BLOCK: usize = 32 * 1024;
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for block in records.chunks(BLOCK) {
            let length_at = out.len();
            let start = length_at + 4;
            out.resize(start + max_compress_len(block.len()), 0);
            let written = context
                .compress(block, &mut out[start..])
                .map_err(|_| failed("snappy"))?;
            out.truncate(start + written);
            out[length_at..start].copy_from_slice(&(written as u32).to_be_bytes());
        }
        Ok(())
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

    use super::{Result, failed};

    /// Magic number; flags: version 1, independent blocks (the Java client reads no others), no checksums beside the
    /// batch's own; blocks of 64 KiB at most; and the checksum of these two bytes.
    const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
    const BLOCK: usize = 64 * 1024;
    /// Marks a block that would not have become smaller.
    const STORED: u32 = 1 << 31;
    const END: [u8; 4] = [0; 4];

    /// A frame made here: blocks go from the records straight to `out`.
    pub(super) fn compress(table: &mut CompressTable, records: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&HEADER);
        for block in records.chunks(BLOCK) {
            let size_at = out.len();
            let start = size_at + 4;
            out.resize(start + get_maximum_output_size(block.len()), 0);
            let written = compress_into_with_table(block, &mut out[start..], table).map_err(|_| failed("lz4"))?;
            let size = if written < block.len() {
                out.truncate(start + written);
                written as u32
            } else {
                out.truncate(start);
                out.extend_from_slice(block);
                block.len() as u32 | STORED
            };
            out[size_at..start].copy_from_slice(&size.to_le_bytes());
        }
        out.extend_from_slice(&END);
        Ok(())
    }
}

#[cfg(feature = "zstd")]
mod zstd_frame {
    use std::io::Cursor;

    use zstd::zstd_safe::{CCtx, CParameter, compress_bound};

    use super::{Result, failed};

    /// What stays in a processor's second cache, tables and all that they point to. The level's own are for inputs of
    /// any size: they take half as long again, and find no more in a batch.
    const WITHIN_CACHE: [CParameter; 4] = [
        CParameter::WindowLog(18),
        CParameter::HashLog(15),
        CParameter::ChainLog(14),
        CParameter::MinMatch(5),
    ];

    /// Keeps its parameters from batch to batch. A level that was asked for is what Zstandard means by it.
    pub(super) fn context(level: Option<i32>) -> Result<CCtx<'static>> {
        let mut context = CCtx::try_create().ok_or_else(|| failed("zstd"))?;
        let own = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
        let tuned = if level.is_none() { &WITHIN_CACHE[..] } else { &[] };
        for &parameter in [CParameter::CompressionLevel(own)].iter().chain(tuned) {
            context.set_parameter(parameter).map_err(|_| failed("zstd"))?;
        }
        Ok(context)
    }

    pub(super) fn compress(context: &mut CCtx<'static>, records: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.reserve(compress_bound(records.len()));
        let before = out.len() as u64;
        let mut tail = Cursor::new(out);
        tail.set_position(before);
        context
            .compress2(&mut tail, records)
            .map(drop)
            .map_err(|_| failed("zstd"))
    }
}
