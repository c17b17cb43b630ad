//! How a transaction ended.

use super::{
    BatchError, Problem, RawBatch,
    bytes::i16_at,
    cursor::Cursor,
    decoder::{Span, check},
};

/// What a control batch says about the transaction of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Commit,
    Abort,
    /// A control record that says nothing about a transaction, or one that compaction has removed.
    Other,
}

/// Reads a control batch's marker, checksum included: whether records are shown hangs on it.
pub(crate) fn marker(bytes: &[u8], batch: &RawBatch) -> Result<Marker, BatchError> {
    if !batch.is_control() || batch.attributes() & 7 != 0 {
        return Err(Problem::Control.at(batch.base_offset));
    }
    let header = check(bytes, batch)?;
    let span = Span::of_batch(&header, batch, header.records_start..batch.end)?;
    let Some(record) = Cursor::new(&span).next(bytes, &span).transpose()? else {
        return Ok(Marker::Other);
    };
    let key = record.key.of(bytes).unwrap_or_default();
    match (i16_at(key, 0), i16_at(key, 2)) {
        (Some(version), Some(_)) if version < 0 => Err(Problem::Control.at(record.offset)),
        (Some(_), Some(0)) => Ok(Marker::Abort),
        (Some(_), Some(1)) => Ok(Marker::Commit),
        (Some(_), Some(_)) => Ok(Marker::Other),
        _ => Err(Problem::Control.at(record.offset)),
    }
}
