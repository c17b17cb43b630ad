//! From a batch as it was fetched to records that can be walked: checksum and codec.

use std::ops::Range;

use super::{
    BatchError, Compression, Inflated, Problem, RawBatch, bytes,
    codec::Inflater,
    old,
    raw::{CHECKED_FROM, HEADER},
};

/// Checks batches and inflates them. It keeps the codecs' contexts, so make one per thread and keep it.
#[derive(Debug)]
pub(crate) struct Decoder {
    inflater: Inflater,
}

/// In which buffer the records of a [`Span`] lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    InFetched,
    Inflated,
}

impl Decoder {
    /// Refuses a batch that inflates to more than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            inflater: Inflater::new(limit),
        }
    }

    /// Checks the batch's checksum and says where its records lie: in `fetched`, or, if it is compressed, behind what
    /// was in `out` before. After an `Err`, `out` holds what it held before.
    ///
    /// The records themselves are checked as a [`Cursor`](super::Cursor) reaches them.
    pub(crate) fn decode(
        &mut self,
        fetched: &[u8],
        batch: &RawBatch,
        out: &mut Vec<u8>,
    ) -> Result<(Place, Span), BatchError> {
        let mut inflated = Inflated::behind(std::mem::take(out));
        let decoded = self.decode_into(fetched, batch, &mut inflated);
        *out = inflated.into_vec();
        decoded
    }

    /// The same into a buffer that is used again and again, without clearing it.
    pub(crate) fn decode_into(
        &mut self,
        fetched: &[u8],
        batch: &RawBatch,
        out: &mut Inflated,
    ) -> Result<(Place, Span), BatchError> {
        if batch.magic != 2 {
            return old::decode(&mut self.inflater, fetched, batch, out);
        }
        let header = check(fetched, batch)?;
        let records = header.records_start..batch.end;
        let compression = Compression::of(batch.attributes());
        // A batch that compaction has emptied keeps its codec in the header, with nothing that could be inflated.
        if compression == Some(Compression::None) || (records.is_empty() && batch.records() == 0) {
            return Ok((Place::InFetched, Span::of_batch(&header, batch, records)?));
        }
        let before = out.len();
        self.inflater
            .inflate(batch.attributes(), &fetched[records], out)
            .map_err(|problem| problem.at(batch.base_offset))?;
        match Span::of_batch(&header, batch, before..out.len()) {
            Ok(span) => Ok((Place::Inflated, span)),
            Err(error) => {
                out.truncate(before);
                Err(error)
            }
        }
    }
}

/// The records of one batch inside a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Of a compressed old message, that of the first record in it.
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    /// -1 where records have none.
    pub(crate) first_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// As the batch claims, which a [`Cursor`](super::Cursor) holds it to; of old messages, as counted.
    pub(crate) records: u32,
    pub(crate) leader_epoch: i32,
    pub(crate) timestamp_type: TimestampType,
    pub(super) format: Format,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Batch,
    /// Old messages. `shift` makes their offsets absolute: inside of a magic 1 wrapper they are relative.
    Messages {
        shift: i64,
    },
}

/// What a record's timestamp means (Kafka's `message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampType {
    /// The record has no timestamp: it was written in the format of Kafka 0.9 or older.
    None,
    /// The time that the producer gave.
    Create,
    /// The time at which the broker appended the batch.
    LogAppend,
}

impl TimestampType {
    pub(super) fn of(attributes: i16) -> Self {
        if attributes & LOG_APPEND == 0 {
            Self::Create
        } else {
            Self::LogAppend
        }
    }
}

/// The same bit in magic 1 and 2.
pub(super) const LOG_APPEND: i16 = 1 << 3;

/// What is needed of a header whose checksum holds.
pub(super) struct Checked {
    pub(super) records_start: usize,
    first_timestamp: i64,
    max_timestamp: i64,
}

/// Checks the checksum of a magic 2 batch.
pub(super) fn check(fetched: &[u8], batch: &RawBatch) -> Result<Checked, BatchError> {
    let whole = fetched.get(batch.start..batch.end).unwrap_or_default();
    let (Some(header), Some(checked)) = (whole.first_chunk::<HEADER>(), whole.get(CHECKED_FROM..)) else {
        return Err(Problem::Moved.at(batch.base_offset));
    };
    if bytes::u32_at(header, 17) != Some(crc32c::crc32c(checked)) {
        return Err(Problem::Checksum.at(batch.base_offset));
    }
    Ok(Checked {
        records_start: batch.start + HEADER,
        first_timestamp: bytes::i64_at(header, 27).unwrap_or(-1),
        max_timestamp: bytes::i64_at(header, 35).unwrap_or(-1),
    })
}

impl Span {
    pub(super) fn of_batch(header: &Checked, batch: &RawBatch, place: Range<usize>) -> Result<Self, BatchError> {
        let (start, end) = narrow(&place).ok_or(Problem::Position.at(batch.base_offset))?;
        Ok(Self {
            start,
            end,
            base_offset: batch.base_offset,
            next_offset: batch.next_offset,
            first_timestamp: header.first_timestamp,
            max_timestamp: header.max_timestamp,
            records: batch.records().unsigned_abs(),
            leader_epoch: batch.leader_epoch,
            timestamp_type: TimestampType::of(batch.attributes()),
            format: Format::Batch,
        })
    }
}

/// Records are addressed with 32 bits, which halves what a message weighs.
pub(super) fn narrow(place: &Range<usize>) -> Option<(u32, u32)> {
    Some((u32::try_from(place.start).ok()?, u32::try_from(place.end).ok()?))
}
