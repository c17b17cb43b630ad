//! Where batches lie in fetched bytes, and what their headers say.

#[cfg(test)]
use super::Compression;
use super::{BatchError, Problem, bytes};

/// One complete record batch, or one old message (magic 0 or 1) with its offset and size, as it lies in fetched bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawBatch {
    /// `start..end` is its place in the fetched bytes.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Of an old message that is compressed, this is the *last* offset in it: the first is known once it is inflated.
    pub(crate) base_offset: i64,
    /// The first offset behind it, whether or not a record is left at the one before. Above `base_offset`.
    pub(crate) next_offset: i64,
    /// -1 for none.
    pub(crate) leader_epoch: i32,
    pub(crate) magic: i8,
    attributes: i16,
    producer_id: i64,
    records: i32,
}

/// Offset (8 bytes) and length (4): what the length does not count.
pub(super) const PREFIX: usize = 12;
/// Where the first record of a magic 2 batch lies.
pub(super) const HEADER: usize = 61;
/// What the checksum of a magic 2 batch covers begins with its attributes.
pub(super) const CHECKED_FROM: usize = 21;
/// The lowest number of bytes behind offset and length, by magic.
const SHORTEST: [i32; 3] = [14, 22, (HEADER - PREFIX) as i32];

/// The same bits in all magics; of an old message it is all that its attributes' low byte says of it.
const CODEC: i16 = 7;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

impl RawBatch {
    /// Whether it holds a transaction's end instead of records.
    #[inline]
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    #[inline]
    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// -1 for none.
    #[inline]
    pub(crate) fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// `None` for a codec that klamm does not know.
    #[cfg(test)]
    pub(crate) fn compression(&self) -> Option<Compression> {
        Compression::of(self.attributes)
    }

    /// How many records it claims to hold; an old message is one, however many it wraps. Not negative.
    #[inline]
    pub(crate) fn records(&self) -> i32 {
        self.records
    }

    /// The same as a number of things.
    #[inline]
    pub(crate) fn claimed_records(&self) -> usize {
        usize::try_from(self.records).unwrap_or(0)
    }

    /// Whether its records are to be inflated before they can be walked.
    #[inline]
    pub(crate) fn is_compressed(&self) -> bool {
        self.attributes & CODEC != 0
    }

    pub(super) fn attributes(&self) -> i16 {
        self.attributes
    }
}

/// Walks batch headers without looking at records.
///
/// Kafka may end a fetch in the middle of a batch, which ends the walk quietly. A header that cannot be is an `Err`,
/// which ends it too: where the next batch begins is not known.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next batch begins: once the walk has ended, behind the last complete one.
    #[cfg(test)]
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<RawBatch, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        match header(rest, self.at) {
            Ok(batch) => {
                let batch = batch?;
                self.at = batch.end;
                Some(Ok(batch))
            }
            Err(problem) => {
                self.bytes = &[];
                Some(Err(problem.at(bytes::i64_at(rest, 0).unwrap_or(-1))))
            }
        }
    }
}

/// The batch at the head of `rest`; `None` where it is not all there.
#[inline]
fn header(rest: &[u8], start: usize) -> Result<Option<RawBatch>, Problem> {
    let (Some(base_offset), Some(length), Some(magic)) = (
        bytes::i64_at(rest, 0),
        bytes::i32_at(rest, 8),
        rest.get(16).map(|&byte| byte as i8),
    ) else {
        return Ok(None);
    };
    let Some(&shortest) = usize::try_from(magic).ok().and_then(|magic| SHORTEST.get(magic)) else {
        return Err(Problem::Magic(magic));
    };
    if length < shortest {
        return Err(Problem::Length(length));
    }
    let Some(whole) = rest.get(..PREFIX + length as usize) else {
        return Ok(None);
    };
    let batch = RawBatch {
        start,
        end: start + whole.len(),
        base_offset,
        next_offset: next_offset(base_offset, 0)?,
        leader_epoch: -1,
        magic,
        attributes: i16::from(whole[17]),
        producer_id: -1,
        records: 1,
    };
    if magic == 2 {
        batch_header(whole, batch).map(Some)
    } else {
        Ok(Some(batch))
    }
}

#[inline]
fn batch_header(whole: &[u8], batch: RawBatch) -> Result<RawBatch, Problem> {
    let Some(header) = whole.first_chunk::<HEADER>() else {
        return Err(Problem::Moved);
    };
    let field = |at: usize| bytes::i32_at(header, at).unwrap_or_default();
    let (last_offset_delta, records) = (field(23), field(57));
    // A batch that compaction emptied claims no records, and still covers its offsets.
    if records < 0 || i64::from(records) > i64::from(last_offset_delta) + 1 {
        return Err(if last_offset_delta < 0 {
            Problem::Offsets
        } else {
            Problem::Count(records)
        });
    }
    Ok(RawBatch {
        next_offset: next_offset(batch.base_offset, last_offset_delta)?,
        leader_epoch: field(12),
        attributes: bytes::i16_at(header, 21).unwrap_or_default(),
        producer_id: bytes::i64_at(header, 43).unwrap_or(-1),
        records,
        ..batch
    })
}

#[inline]
fn next_offset(base_offset: i64, last_offset_delta: i32) -> Result<i64, Problem> {
    if base_offset < 0 || last_offset_delta < 0 {
        return Err(Problem::Offsets);
    }
    base_offset
        .checked_add(i64::from(last_offset_delta) + 1)
        .ok_or(Problem::Offsets)
}
