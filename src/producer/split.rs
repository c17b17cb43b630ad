//! Taking a refused batch apart: in two where it is too long, or around the records that the broker does not take.

use std::ops::Range;

use super::memory::Buffer;
use crate::{
    error::{Error, ErrorKind, Result},
    wire::batch::{BatchWriter, Cursor, Decoder, Flags, HeaderRef, Place, RecordView, Span, Walk},
};

#[cfg(test)]
mod tests;

/// Where to cut a batch in two so that the longer half is as short as it can be: the index of the second half's first
/// record. `None` for a single record, which cannot be cut.
///
/// Lengths are those before compression: how well a part of the records compresses, nobody knows.
///
/// # Errors
///
/// As [`split`].
pub(super) fn halves(batch: &[u8], decoder: &mut Decoder) -> Result<Option<u32>> {
    let records = Records::of(batch, decoder)?;
    let Span { start, end, .. } = records.span;
    let mut cursor = records.cursor();
    let mut best = None;
    for cut in 1..records.span.records {
        records.next(&mut cursor)?;
        let at = cursor.position();
        let longer = (at - start).max(end - at);
        // From the best cut on, it only becomes longer.
        if best.is_some_and(|(shortest, _)| longer >= shortest) {
            break;
        }
        best = Some((longer, cut));
    }
    Ok(best.map(|(_, cut)| cut))
}

/// Writes the records of a batch of our own, stamped and maybe compressed, as several: one for each of `ranges`, which
/// are record indexes, ascend, and neither overlap nor are empty. Records in none of them are left out.
///
/// A new batch goes into what `buffer` gives for its exact size. It is closed, not compressed, and not stamped. Beside
/// these buffers, it takes as much memory as the batch inflates to.
///
/// # Errors
///
/// `Internal` where the batch cannot be read, or has no such ranges. No buffer has been asked for then.
pub(super) fn split(
    batch: &[u8],
    ranges: &[Range<u32>],
    decoder: &mut Decoder,
    mut buffer: impl FnMut(usize) -> Buffer,
) -> Result<Vec<Buffer>> {
    let records = Records::of(batch, decoder)?;
    let mut cursor = records.cursor();
    let mut pieces = Vec::with_capacity(ranges.len());
    let mut index = 0;
    for range in ranges {
        if range.start < index || range.is_empty() {
            return Err(Error::new(
                ErrorKind::Internal,
                "a batch is split at ranges that are none",
            ));
        }
        for _ in index..range.start {
            records.next(&mut cursor)?;
        }
        let start = cursor.clone();
        let size = records.measure(&mut cursor, range.len())?;
        pieces.push((start, range.len(), size));
        index = range.end;
    }
    pieces
        .into_iter()
        .map(|(start, count, size)| records.write(start, count, buffer(size)))
        .collect()
}

/// A batch of our own, opened.
struct Records<'a> {
    batch: &'a [u8],
    inflated: Vec<u8>,
    place: Place,
    span: Span,
    flags: Flags,
}

impl<'a> Records<'a> {
    fn of(batch: &'a [u8], decoder: &mut Decoder) -> Result<Self> {
        let raw = match Walk::new(batch).next() {
            Some(raw) => raw.map_err(|error| unreadable(&error.to_string()))?,
            None => return Err(unreadable("it is cut off")),
        };
        let mut inflated = Vec::new();
        let (place, span) = decoder
            .decode(batch, &raw, &mut inflated)
            .map_err(|error| unreadable(&error.to_string()))?;
        Ok(Self {
            batch,
            inflated,
            place,
            span,
            flags: Flags {
                transactional: raw.is_transactional(),
                ..Flags::default()
            },
        })
    }

    fn cursor(&self) -> Cursor {
        Cursor::new(&self.span)
    }

    fn next(&self, cursor: &mut Cursor) -> Result<RecordView> {
        match cursor.next(self.data(), &self.span) {
            Some(record) => record.map_err(|error| unreadable(&error.to_string())),
            None => Err(Error::new(ErrorKind::Internal, "a batch is split behind its end")),
        }
    }

    /// How long a batch of the next `count` records becomes.
    fn measure(&self, cursor: &mut Cursor, count: usize) -> Result<usize> {
        let mut header = Vec::new();
        let mut writer = BatchWriter::start(&mut header);
        let mut size = header.len();
        let mut headers = Vec::new();
        for _ in 0..count {
            let record = self.next(cursor)?;
            let (key, value) = self.key_and_value(&record, &mut headers);
            size = size.saturating_add(writer.size_of(record.timestamp, key, value, &headers));
            writer.count(record.timestamp);
        }
        // Deltas to another first timestamp may be longer than they were.
        if size > i32::MAX as usize {
            return Err(Error::new(
                ErrorKind::Internal,
                "a part of a batch is longer than a batch",
            ));
        }
        Ok(size)
    }

    fn write(&self, mut cursor: Cursor, count: usize, mut buffer: Buffer) -> Result<Buffer> {
        let bytes = buffer.bytes_mut();
        let mut writer = BatchWriter::start(bytes);
        let mut headers = Vec::new();
        for _ in 0..count {
            let record = self.next(&mut cursor)?;
            let (key, value) = self.key_and_value(&record, &mut headers);
            writer.append(bytes, record.timestamp, key, value, &headers)?;
        }
        writer.close(bytes, self.flags);
        Ok(buffer)
    }

    /// And the headers, into a buffer that is kept from record to record.
    fn key_and_value<'b>(
        &'b self,
        record: &RecordView,
        headers: &mut Vec<HeaderRef<'b>>,
    ) -> (Option<&'b [u8]>, Option<&'b [u8]>) {
        let data = self.data();
        headers.clear();
        headers.extend(
            record
                .headers
                .iter(data)
                .map(|header| (header.key_bytes(), header.value())),
        );
        (record.key.of(data), record.value.of(data))
    }

    fn data(&self) -> &[u8] {
        match self.place {
            Place::InFetched => self.batch,
            Place::Inflated => &self.inflated,
        }
    }
}

#[cold]
fn unreadable(why: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("a batch that this producer wrote cannot be taken apart: {why}"),
    )
}
