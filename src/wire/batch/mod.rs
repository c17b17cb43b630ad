//! Record batches: magic 2, and the message sets of magic 0 and 1 that old topics still hold.
//!
//! ```text
//! fetched bytes ▸ Walk (headers only) ▸ RawBatch ▸ Decoder (checksum, codec) ▸ Span ▸ Cursor ▸ RecordView
//! ```
//!
//! Nothing is copied but what a codec inflates, and nothing is allocated per record. Every length and count was
//! written by somebody else: it is checked where it is read, and no memory is asked for by it.

mod bytes;
mod codec;
mod crc;
mod cursor;
mod decoder;
mod error;
mod headers;
mod inflated;
mod marker;
mod old;
mod raw;
mod varint;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use codec::Compression;
pub(crate) use cursor::{Cursor, RecordView};
pub use decoder::TimestampType;
pub(crate) use decoder::{Decoder, Place, Span};
pub(crate) use error::{BatchError, Problem};
pub use headers::{Header, Headers};
pub(crate) use inflated::Inflated;
pub(crate) use marker::{Marker, marker};
pub(crate) use raw::{RawBatch, Walk};
pub(crate) use {
    codec::Compressor,
    writer::{BatchWriter, Flags, HeaderRef, Sequence, compress, record_size, stamp},
};
#[cfg(feature = "unstable-internals")]
pub(crate) use {crc::crc32, cursor::Slice};
