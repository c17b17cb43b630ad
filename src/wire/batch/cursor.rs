//! Walks records in place.

use std::ops::Range;

use super::{
    BatchError, Problem, TimestampType,
    decoder::{Format, Span},
    headers::{self, Headers},
    old, varint,
};

/// Walks the records of one [`Span`], each checked as it is reached; after an `Err` it gives `None`.
///
/// It holds no borrow, so that it can be kept beside the buffer: give it the same bytes and span each time.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    /// Where the next record begins. Equal to the span's end once it has ended.
    at: u32,
    /// How many records are still to come.
    left: u32,
    /// The lowest offset that the next record may have.
    lowest: i64,
}

/// Where the parts of one record lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordView {
    pub(crate) offset: i64,
    /// Milliseconds since 1970; -1 for none.
    pub(crate) timestamp: i64,
    pub(crate) key: Slice,
    pub(crate) value: Slice,
    pub(crate) headers: HeaderSlice,
}

impl Cursor {
    pub(crate) fn new(span: &Span) -> Self {
        Self {
            at: span.start,
            left: span.records,
            lowest: span.base_offset,
        }
    }

    /// Where the next record begins.
    pub(crate) fn position(&self) -> u32 {
        self.at
    }

    /// The next record, if it is of the common shape: of a batch of today, with short fields. None says nothing but
    /// that [`next`](Self::next) has to look; the cursor has not moved then.
    // Always: the caller's loop is the hot path, and a record that is returned through memory costs more than to read it.
    #[inline(always)]
    pub(crate) fn next_common(&mut self, data: &[u8], span: &Span) -> Option<RecordView> {
        if self.left == 0 || span.format != Format::Batch {
            return None;
        }
        let (record, end) = record::<true>(data, self.at as usize, span).ok()?;
        self.accept(&record, end, span).then_some(record)
    }

    #[inline(always)]
    pub(crate) fn next(&mut self, data: &[u8], span: &Span) -> Option<Result<RecordView, BatchError>> {
        if let Some(record) = self.next_common(data, span) {
            return Some(Ok(record));
        }
        if self.left == 0 {
            return self.finish(span);
        }
        let (moved, record) = self.clone().next_of_any_shape(data, span);
        *self = moved;
        Some(record)
    }

    /// Old messages, records with long fields, and those that cannot be read, for which it says why. By value, so that
    /// the caller's cursor can stay in registers.
    #[inline(never)]
    fn next_of_any_shape(mut self, data: &[u8], span: &Span) -> (Self, Result<RecordView, BatchError>) {
        let parsed = match span.format {
            Format::Batch => record::<false>(data, self.at as usize, span),
            Format::Messages { shift } => old::record(data, self.at as usize, shift, span),
        };
        let record = match parsed {
            Ok((record, end)) if self.accept(&record, end, span) => Ok(record),
            Ok(_) => Err(self.fail(Problem::RecordOffset, span)),
            Err(problem) => Err(self.fail(problem, span)),
        };
        (self, record)
    }

    /// Moves behind a record whose offset can be.
    #[inline(always)]
    fn accept(&mut self, record: &RecordView, end: u32, span: &Span) -> bool {
        let fits = record.offset >= self.lowest && record.offset < span.next_offset;
        if fits {
            self.at = end;
            self.left -= 1;
            self.lowest = record.offset + 1;
        }
        fits
    }

    #[cold]
    fn finish(&mut self, span: &Span) -> Option<Result<RecordView, BatchError>> {
        if self.at == span.end {
            None
        } else {
            Some(Err(self.fail(Problem::TrailingBytes, span)))
        }
    }

    #[cold]
    fn fail(&mut self, problem: Problem, span: &Span) -> BatchError {
        let problem = if self.at == span.end {
            Problem::RecordsMissing
        } else {
            problem
        };
        self.left = 0;
        self.at = span.end;
        problem.at(self.lowest)
    }
}

/// The record of a magic 2 batch that begins at `at`, and where it ends. `SHORT` gives up on what is rare, for speed.
#[inline(always)]
fn record<const SHORT: bool>(data: &[u8], at: usize, span: &Span) -> Result<(RecordView, u32), Problem> {
    let Some(records) = data.get(..span.end as usize) else {
        return Err(Problem::Moved);
    };
    let (length, at) = varint::read_i32::<SHORT>(records, at)?;
    let Some(record) = usize::try_from(length)
        .ok()
        .and_then(|length| records.get(..at.checked_add(length)?))
    else {
        return Err(Problem::RecordLength);
    };
    let at = at + 1; // attributes, of which Kafka uses none
    let (timestamp_delta, at) = varint::read_i64::<SHORT>(record, at)?;
    let (offset_delta, at) = varint::read_i32::<SHORT>(record, at)?;
    let (key, at) = slice::<SHORT>(record, at)?;
    let (value, at) = slice::<SHORT>(record, at)?;
    let (count, at) = varint::read_i32::<SHORT>(record, at)?;
    let (headers, at) = if count == 0 {
        (HeaderSlice::EMPTY, at)
    } else {
        headers::check(record, at, count)?
    };
    if at != record.len() {
        return Err(Problem::RecordTrailing);
    }
    let timestamp = match span.timestamp_type {
        TimestampType::LogAppend => span.max_timestamp,
        // Producers write any number here; what it adds up to harms nobody.
        _ => span.first_timestamp.wrapping_add(timestamp_delta),
    };
    let offset = span.base_offset.wrapping_add(i64::from(offset_delta));
    Ok((
        RecordView {
            offset,
            timestamp,
            key,
            value,
            headers,
        },
        at as u32,
    ))
}

#[inline(always)]
fn slice<const SHORT: bool>(record: &[u8], at: usize) -> Result<(Slice, usize), Problem> {
    let (len, at) = varint::read_i32::<SHORT>(record, at)?;
    let slice = Slice { start: at as u32, len };
    match usize::try_from(len) {
        Ok(len) if len > record.len() - at => Err(Problem::FieldBeyondRecord),
        Ok(len) => Ok((slice, at + len)),
        Err(_) if len == -1 => Ok((slice, at)),
        Err(_) => Err(Problem::NegativeLength),
    }
}

/// A nullable piece of the buffer: null, empty and filled are three things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    start: u32,
    /// -1 for null.
    len: i32,
}

impl Slice {
    pub(super) const NULL: Self = Self { start: 0, len: -1 };

    /// `place` lies in a buffer that is addressed with 32 bits, and is no longer than an `i32` says.
    pub(super) fn new(place: Range<usize>) -> Self {
        Self {
            start: place.start as u32,
            len: place.len() as i32,
        }
    }

    /// Its bytes; `None` for null.
    #[inline]
    pub(crate) fn of<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        data.get(self.range()?)
    }

    #[inline]
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        let start = self.start as usize;
        usize::try_from(self.len).ok().map(|len| start..start + len)
    }
}

/// The headers of one record, which have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderSlice {
    start: u32,
    end: u32,
    pub(crate) count: u32,
}

impl HeaderSlice {
    pub(super) const EMPTY: Self = Self {
        start: 0,
        end: 0,
        count: 0,
    };

    /// `place` lies in a buffer that is addressed with 32 bits.
    pub(super) fn new(place: Range<usize>, count: u32) -> Self {
        Self {
            start: place.start as u32,
            end: place.end as u32,
            count,
        }
    }

    #[inline]
    pub(crate) fn iter<'a>(&self, data: &'a [u8]) -> Headers<'a> {
        match data.get(self.start as usize..self.end as usize) {
            Some(bytes) => Headers::new(bytes, self.count as usize),
            None => Headers::new(&[], 0),
        }
    }
}
