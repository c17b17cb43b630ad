//! What becomes of a batch that a broker refused, but maybe not for all of its records.

use std::{ops::Range, sync::Arc};

use super::{
    memory::{Buffer, Memory},
    partition::{Held, Part},
    split::{halves, split},
};
use crate::{
    error::{Error, ErrorKind, Result},
    wire::batch::Decoder,
};

/// Without the faulty records, if there are any; in two halves otherwise. If it cannot be read, all of it fails.
pub(super) fn take_apart(
    held: &Held,
    faulty: &[(u32, Error)],
    memory: &Arc<Memory>,
    decoder: &mut Decoder,
) -> Vec<Part> {
    let parts = if faulty.is_empty() {
        in_halves(held, decoder).and_then(|ranges| rewrite(held, &ranges, memory, decoder))
    } else {
        rewrite(held, &between(faulty, held.records), memory, decoder)
    };
    match parts {
        Ok(kept) => merge(kept, faulty),
        Err(error) => vec![Part::Failed(error, 0..held.records)],
    }
}

fn in_halves(held: &Held, decoder: &mut Decoder) -> Result<Vec<Range<u32>>> {
    match halves(held.bytes.bytes(), decoder)? {
        Some(middle) => Ok(vec![0..middle, middle..held.records]),
        None => Err(Error::new(
            ErrorKind::TooLarge,
            "the broker refuses the record as too large: the topic's max.message.bytes says how long one may be",
        )),
    }
}

/// What lies between the faulty records, and around them.
fn between(faulty: &[(u32, Error)], records: u32) -> Vec<Range<u32>> {
    let starts = std::iter::once(0).chain(faulty.iter().map(|(index, _)| index + 1));
    let ends = faulty.iter().map(|(index, _)| *index).chain(std::iter::once(records));
    starts
        .zip(ends)
        .map(|(start, end)| start..end)
        .filter(|range| !range.is_empty())
        .collect()
}

fn rewrite(
    held: &Held,
    ranges: &[Range<u32>],
    memory: &Arc<Memory>,
    decoder: &mut Decoder,
) -> Result<Vec<(Range<u32>, Buffer)>> {
    let buffers = split(held.bytes.bytes(), ranges, decoder, |size| {
        memory.buffer(memory.force(size))
    })?;
    Ok(ranges.iter().cloned().zip(buffers).collect())
}

/// All parts, in the order of their records.
fn merge(kept: Vec<(Range<u32>, Buffer)>, faulty: &[(u32, Error)]) -> Vec<Part> {
    let kept = kept.into_iter().map(|(range, buffer)| Part::Kept(buffer, range));
    let failed = faulty
        .iter()
        .map(|(index, error)| Part::Failed(error.clone(), *index..index + 1));
    let mut parts: Vec<Part> = kept.chain(failed).collect();
    parts.sort_by_key(|part| match part {
        Part::Kept(_, range) | Part::Failed(_, range) => range.start,
    });
    parts
}
