//! Compression: one file per codec, each behind a cargo feature, each bounded in what it may inflate to.

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

mod compressor;

use std::ops::RangeInclusive;

pub(crate) use compressor::Compressor;

use super::{Inflated, Problem};

/// How a producer compresses its batches. Kafka: `compression.type`.
///
/// Each codec has a feature of its name, which is on by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None = 0,
    /// The smallest that every Kafka reads, and the slowest.
    Gzip = 1,
    /// Fast.
    Snappy = 2,
    /// The fastest.
    Lz4 = 3,
    /// Small and fast. Kafka has it since 2.1.
    Zstd = 4,
}

impl Compression {
    /// From the attributes of a batch or an old message.
    pub(super) fn of(attributes: i16) -> Option<Self> {
        match attributes & 7 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The levels that a producer may ask for, from fast to small; `None` for a codec that has no choice. As in Kafka
    /// (`compression.gzip.level`, `compression.zstd.level`), except that LZ4 here has its fast mode only.
    pub(crate) fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(-131_072..=22),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

/// Inflates, and keeps what a codec needs for that: setting it up takes longer than inflating a small batch.
#[derive(Debug)]
pub(super) struct Inflater {
    limit: usize,
    #[cfg(feature = "gzip")]
    gzip: gzip::Inflater,
    #[cfg(feature = "zstd")]
    zstd: zstd::Inflater,
}

impl Inflater {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            #[cfg(feature = "gzip")]
            gzip: gzip::Inflater::default(),
            #[cfg(feature = "zstd")]
            zstd: zstd::Inflater::default(),
        }
    }

    /// Appends what `input` inflates to. After an `Err`, `out` holds what it held before.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "zstd")),
        expect(clippy::needless_pass_by_ref_mut, reason = "the codecs that keep something are off")
    )]
    pub(super) fn inflate(&mut self, attributes: i16, input: &[u8], out: &mut Inflated) -> Result<(), Problem> {
        let before = out.len();
        let ceiling = before.saturating_add(self.limit);
        let inflated = match Compression::of(attributes) {
            Some(Compression::None) => copy(input, out, ceiling),
            #[cfg(feature = "gzip")]
            Some(Compression::Gzip) => self.gzip.inflate(input, out, ceiling),
            #[cfg(feature = "snappy")]
            Some(Compression::Snappy) => snappy::inflate(input, out, ceiling),
            #[cfg(feature = "lz4")]
            Some(Compression::Lz4) => lz4::inflate(input, out, ceiling),
            #[cfg(feature = "zstd")]
            Some(Compression::Zstd) => self.zstd.inflate(input, out, ceiling),
            #[cfg(not(feature = "gzip"))]
            Some(Compression::Gzip) => Err(Stop::Off("gzip")),
            #[cfg(not(feature = "snappy"))]
            Some(Compression::Snappy) => Err(Stop::Off("snappy")),
            #[cfg(not(feature = "lz4"))]
            Some(Compression::Lz4) => Err(Stop::Off("lz4")),
            #[cfg(not(feature = "zstd"))]
            Some(Compression::Zstd) => Err(Stop::Off("zstd")),
            None => Err(Stop::Unknown),
        };
        // A codec may pass the ceiling by the byte that tells it.
        let inflated = inflated.and(if out.len() > ceiling {
            Err(Stop::AtCeiling)
        } else {
            Ok(())
        });
        inflated.map_err(|stop| {
            out.truncate(before);
            match stop {
                Stop::AtCeiling => Problem::TooLarge(self.limit),
                Stop::Damaged(codec) => Problem::Inflate(codec),
                Stop::Off(codec) => Problem::CodecOff(codec),
                Stop::Unknown => Problem::UnknownCodec((attributes & 7) as u8),
            }
        })
    }
}

/// Why a codec stopped before the end.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// The output would become longer than it may.
    AtCeiling,
    #[cfg_attr(
        not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        expect(dead_code, reason = "only a codec finds damage")
    )]
    Damaged(&'static str),
    #[cfg_attr(
        all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"),
        expect(dead_code, reason = "only a codec that was left out is off")
    )]
    Off(&'static str),
    Unknown,
}

fn copy(input: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
    if input.len() > ceiling - out.len() {
        return Err(Stop::AtCeiling);
    }
    out.extend_from_slice(input);
    Ok(())
}

/// How much room a codec makes before it knows what comes.
#[cfg(any(feature = "gzip", feature = "zstd"))]
#[derive(Debug)]
struct Growth {
    /// By how many eighths of itself the last batch grew, and a little more: the next one is likely to be similar.
    eighths: usize,
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
impl Default for Growth {
    fn default() -> Self {
        Self { eighths: 32 }
    }
}

#[cfg(any(feature = "gzip", feature = "zstd"))]
impl Growth {
    /// Room behind `out`: what is expected, or as much again as has come since `before`. Not past the ceiling, except
    /// for the byte that tells a batch which just fits from one that goes on.
    fn room<'a>(&self, out: &'a mut Inflated, before: usize, input: usize, ceiling: usize) -> &'a mut [u8] {
        let expected = input.saturating_mul(self.eighths) / 8;
        let wanted = (out.len() - before).max(expected).max(1024);
        let most = (ceiling - out.len()).saturating_add(1);
        out.with_room(wanted.min(most), most).1
    }

    /// Bounded, so that one batch of zeros does not make all others ask for memory that they do not need.
    fn learn(&mut self, input: usize, output: usize) {
        self.eighths = output.saturating_mul(9).div_ceil(input.max(1)).clamp(16, 128);
    }
}
