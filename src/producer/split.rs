//! Taking a refused batch apart.

use std::ops::Range;

use super::memory::Buffer;
use crate::{
    error::{Error, ErrorKind, Result},
    wire::batch::Decoder,
};

pub(super) fn split(
    _batch: &[u8],
    _ranges: &[Range<u32>],
    _decoder: &mut Decoder,
    _buffer: impl FnMut(usize) -> Buffer,
) -> Result<Vec<Buffer>> {
    Err(Error::new(ErrorKind::TooLarge, "cannot be taken apart yet"))
}

pub(super) fn halves(_batch: &[u8], _decoder: &mut Decoder) -> Result<Option<u32>> {
    Ok(None)
}
