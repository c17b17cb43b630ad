//! The headers of a record.

use std::{fmt, iter::FusedIterator};

use super::{Problem, cursor::HeaderSlice, varint};

/// The headers of one record, in their order; a key may occur more than once.
#[derive(Clone)]
pub struct Headers<'a> {
    /// Checked: `left` whole headers, and nothing behind them.
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

/// One header of a record: a key, and a value that may be null.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The key, if it is UTF-8, as Kafka asks for; other clients write other bytes too.
    #[must_use]
    pub fn key(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }

    /// The key as it was written.
    #[must_use]
    pub fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// The value; null (`None`) and empty are two things.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

/// The key's bytes and the value, as a [`Record`](crate::Record) takes them.
impl<'a> From<Header<'a>> for (&'a [u8], Option<&'a [u8]>) {
    fn from(header: Header<'a>) -> Self {
        (header.key, header.value)
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", String::from_utf8_lossy(self.key))?;
        match self.value {
            Some(value) => write!(f, "{:?}", String::from_utf8_lossy(value)),
            None => f.write_str("null"),
        }
    }
}

impl<'a> Headers<'a> {
    /// `bytes` have been checked to hold `count` headers.
    pub(super) fn new(bytes: &'a [u8], count: usize) -> Self {
        Self {
            bytes,
            at: 0,
            left: count,
        }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (header, end) = read(self.bytes, self.at).ok()?;
        self.at = end;
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Checks the headers at the end of a record, so that walking them later cannot fail, and says where they end.
#[inline(never)]
pub(super) fn check(record: &[u8], start: usize, count: i32) -> Result<(HeaderSlice, usize), Problem> {
    let count = u32::try_from(count).map_err(|_| Problem::Headers)?;
    let mut end = start;
    for _ in 0..count {
        // A count that lies ends here: each header takes two bytes at least.
        (_, end) = read(record, end)?;
    }
    Ok((HeaderSlice::new(start..end, count), end))
}

#[inline(always)]
fn read(bytes: &[u8], at: usize) -> Result<(Header<'_>, usize), Problem> {
    let (Some(key), at) = piece(bytes, at)? else {
        return Err(Problem::Headers);
    };
    let (value, at) = piece(bytes, at)?;
    Ok((Header { key, value }, at))
}

#[inline(always)]
fn piece(bytes: &[u8], at: usize) -> Result<(Option<&[u8]>, usize), Problem> {
    let (len, at) = varint::read_i32::<false>(bytes, at)?;
    if len == -1 {
        return Ok((None, at));
    }
    let Some(piece) = usize::try_from(len).ok().and_then(|len| bytes.get(at..)?.get(..len)) else {
        return Err(Problem::Headers);
    };
    Ok((Some(piece), at + piece.len()))
}
