//! Message sets of magic 0 and 1: what Kafka wrote before 0.11, and what a topic may hold since.
//!
//! A compressed message wraps a set of others. In magic 0 those carry their own offsets. In magic 1 they count from
//! zero, and the wrapper carries the offset of the *last*; a wrapper with LogAppendTime also decides their timestamp.

use super::{
    BatchError, Compression, Inflated, Problem, RawBatch, TimestampType, bytes,
    codec::Inflater,
    crc::crc32,
    cursor::{HeaderSlice, RecordView, Slice},
    decoder::{Format, Place, Span, narrow},
    raw::PREFIX,
};

struct Message {
    offset: i64,
    magic: i8,
    attributes: i16,
    /// -1 in magic 0.
    timestamp: i64,
    key: Slice,
    value: Slice,
    end: usize,
}

pub(super) fn decode(
    inflater: &mut Inflater,
    fetched: &[u8],
    batch: &RawBatch,
    out: &mut Inflated,
) -> Result<(Place, Span), BatchError> {
    let before = out.len();
    decode_message(inflater, fetched, batch, out).map_err(|problem| {
        out.truncate(before);
        problem.at(batch.base_offset)
    })
}

fn decode_message(
    inflater: &mut Inflater,
    fetched: &[u8],
    batch: &RawBatch,
    out: &mut Inflated,
) -> Result<(Place, Span), Problem> {
    let whole = fetched.get(..batch.end).ok_or(Problem::Moved)?;
    let outer = checked(whole, batch.start)?;
    if outer.end != batch.end || outer.offset != batch.base_offset {
        return Err(Problem::Moved);
    }
    let (start, end) = narrow(&(batch.start..batch.end)).ok_or(Problem::Position)?;
    let span = Span {
        start,
        end,
        base_offset: batch.base_offset,
        next_offset: batch.next_offset,
        first_timestamp: outer.timestamp,
        max_timestamp: outer.timestamp,
        records: 1,
        leader_epoch: -1,
        timestamp_type: if outer.magic == 0 {
            TimestampType::None
        } else {
            TimestampType::of(outer.attributes)
        },
        format: Format::Messages { shift: 0 },
    };
    if Compression::of(outer.attributes) == Some(Compression::None) {
        return Ok((Place::InFetched, span));
    }
    let before = out.len();
    let value = outer.value.of(fetched).ok_or(Problem::EmptyWrapper)?;
    inflater.inflate(outer.attributes, value, out)?;
    Ok((Place::Inflated, unwrap(&outer, span, out.as_slice(), before)?))
}

/// Checks every message inside of a wrapper: only the last one tells where the first one's offset is.
fn unwrap(outer: &Message, span: Span, out: &[u8], before: usize) -> Result<Span, Problem> {
    let (start, end) = narrow(&(before..out.len())).ok_or(Problem::Position)?;
    let (mut at, mut records) = (before, 0);
    let (mut first, mut last) = (0, -1);
    let (mut first_timestamp, mut max_timestamp) = (-1, -1);
    while at < out.len() {
        let message = checked(out, at)?;
        if message.magic != outer.magic || Compression::of(message.attributes) != Some(Compression::None) {
            return Err(Problem::Nested);
        }
        if message.offset <= last {
            return Err(Problem::RecordOffset);
        }
        if records == 0 {
            (first, first_timestamp) = (message.offset, message.timestamp);
        }
        (at, last) = (message.end, message.offset);
        max_timestamp = message.timestamp.max(max_timestamp);
        records += 1;
    }
    if records == 0 {
        return Err(Problem::EmptyWrapper);
    }
    let shift = if outer.magic == 1 { outer.offset - last } else { 0 };
    let base_offset = first + shift;
    if base_offset < 0 || last + shift > outer.offset {
        return Err(Problem::RecordOffset);
    }
    let by_broker = span.timestamp_type == TimestampType::LogAppend;
    Ok(Span {
        start,
        end,
        base_offset,
        first_timestamp: if by_broker {
            span.first_timestamp
        } else {
            first_timestamp
        },
        max_timestamp: if by_broker { span.max_timestamp } else { max_timestamp },
        records,
        format: Format::Messages { shift },
        ..span
    })
}

/// The message that begins at `at`, for a [`Cursor`](super::Cursor); its checksum has been checked.
#[inline(never)]
pub(super) fn record(data: &[u8], at: usize, shift: i64, span: &Span) -> Result<(RecordView, u32), Problem> {
    let data = data.get(..span.end as usize).ok_or(Problem::Moved)?;
    let message = parse(data, at)?;
    let record = RecordView {
        offset: message.offset.wrapping_add(shift),
        timestamp: match span.timestamp_type {
            TimestampType::LogAppend => span.max_timestamp,
            _ => message.timestamp,
        },
        key: message.key,
        value: message.value,
        headers: HeaderSlice::EMPTY,
    };
    Ok((record, message.end as u32))
}

fn checked(data: &[u8], at: usize) -> Result<Message, Problem> {
    let message = parse(data, at)?;
    let body = data.get(at + PREFIX + 4..message.end).ok_or(Problem::Moved)?;
    if bytes::u32_at(data, at + PREFIX) != Some(crc32(body)) {
        return Err(Problem::Checksum);
    }
    Ok(message)
}

fn parse(data: &[u8], at: usize) -> Result<Message, Problem> {
    let rest = data.get(at..).unwrap_or_default();
    let (Some(offset), Some(length)) = (bytes::i64_at(rest, 0), bytes::i32_at(rest, 8)) else {
        return Err(Problem::RecordLength);
    };
    let message = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..PREFIX.checked_add(length)?));
    let message = message.ok_or(Problem::RecordLength)?;
    let (Some(&magic), Some(&attributes)) = (message.get(16), message.get(17)) else {
        return Err(Problem::RecordLength);
    };
    let (timestamp, mut field) = match magic {
        0 => (-1, 18),
        1 => (bytes::i64_at(message, 18).ok_or(Problem::FieldBeyondRecord)?, 26),
        _ => return Err(Problem::Magic(magic as i8)),
    };
    let key = piece(message, &mut field, at)?;
    let value = piece(message, &mut field, at)?;
    if field != message.len() {
        return Err(Problem::RecordTrailing);
    }
    Ok(Message {
        offset,
        magic: magic as i8,
        attributes: i16::from(attributes),
        timestamp,
        key,
        value,
        end: at + message.len(),
    })
}

/// A field with its length before it. `field` counts from the message's start, which lies at `at`.
fn piece(message: &[u8], field: &mut usize, at: usize) -> Result<Slice, Problem> {
    let len = bytes::i32_at(message, *field).ok_or(Problem::FieldBeyondRecord)?;
    *field += 4;
    if len == -1 {
        return Ok(Slice::NULL);
    }
    let len = usize::try_from(len).map_err(|_| Problem::NegativeLength)?;
    if len > message.len() - *field {
        return Err(Problem::FieldBeyondRecord);
    }
    let start = at + *field;
    *field += len;
    Ok(Slice::new(start..start + len))
}
