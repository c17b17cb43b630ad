//! Kafka's variable-length integers: zigzag, seven bits a byte, lowest first.

use super::Problem;

/// An integer of up to five bytes at `at`, and where it ends. If `SHORT`, only one of up to two bytes is accepted.
#[inline(always)]
pub(super) fn read_i32<const SHORT: bool>(bytes: &[u8], at: usize) -> Result<(i32, usize), Problem> {
    let (value, end) = match read_short(bytes, at)? {
        Some((value, end)) => (value as u32, end),
        None if SHORT => return Err(Problem::Varint),
        None => {
            let (value, end) = read_long(bytes, at, 5)?;
            (u32::try_from(value).map_err(|_| Problem::Varint)?, end)
        }
    };
    Ok(((value >> 1) as i32 ^ -((value & 1) as i32), end))
}

/// An integer of up to ten bytes at `at`, and where it ends. If `SHORT`, only one of up to two bytes is accepted.
#[inline(always)]
pub(super) fn read_i64<const SHORT: bool>(bytes: &[u8], at: usize) -> Result<(i64, usize), Problem> {
    let (value, end) = match read_short(bytes, at)? {
        Some(short) => short,
        None if SHORT => return Err(Problem::Varint),
        None => read_long(bytes, at, 10)?,
    };
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), end))
}

/// Nearly all lengths, deltas and counts take one byte or two. `None` for those that take more.
#[inline(always)]
fn read_short(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, Problem> {
    let Some(&first) = bytes.get(at) else {
        return Err(Problem::FieldBeyondRecord);
    };
    if first < 0x80 {
        return Ok(Some((u64::from(first), at + 1)));
    }
    let Some(&second) = bytes.get(at + 1) else {
        return Err(Problem::FieldBeyondRecord);
    };
    if second < 0x80 {
        return Ok(Some((u64::from(first & 0x7f) | u64::from(second) << 7, at + 2)));
    }
    Ok(None)
}

// Takes and gives values only: were `at` a reference, it would live in memory on the short path too.
#[cold]
#[inline(never)]
fn read_long(bytes: &[u8], at: usize, longest: usize) -> Result<(u64, usize), Problem> {
    let rest = bytes.get(at..).unwrap_or_default();
    let mut value = 0;
    for (index, &byte) in rest.iter().take(longest).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if index == 9 && bits > 1 {
            return Err(Problem::Varint);
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            return Ok((value, at + index + 1));
        }
    }
    Err(if rest.len() < longest {
        Problem::FieldBeyondRecord
    } else {
        Problem::Varint
    })
}

/// Writes an integer of either width: both take the same bytes.
#[inline]
pub(super) fn write_i64(out: &mut Vec<u8>, value: i64) {
    let bits = zigzag(value);
    if bits < 1 << 7 {
        out.push(bits as u8);
    } else if bits < 1 << 14 {
        out.extend_from_slice(&[bits as u8 | 0x80, (bits >> 7) as u8]);
    } else {
        write_long(out, bits);
    }
}

#[inline(never)]
fn write_long(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A few integers in a row, put together where no vector has to be asked for room. There is room for one of ten bytes and
/// four of five; what is more takes the place of the first ones.
#[derive(Debug, Default)]
pub(super) struct Short {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Short {
    const ROOM: usize = 32;

    #[inline(always)]
    pub(super) fn push(&mut self, value: i64) {
        let bits = zigzag(value);
        if bits < 1 << 7 {
            self.push_byte(bits as u8);
        } else if bits < 1 << 14 {
            self.push_byte(bits as u8 | 0x80);
            self.push_byte((bits >> 7) as u8);
        } else {
            self.push_long(bits);
        }
    }

    #[inline(never)]
    fn push_long(&mut self, mut rest: u64) {
        while rest >= 0x80 {
            self.push_byte(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.push_byte(rest as u8);
    }

    #[inline(always)]
    fn push_byte(&mut self, byte: u8) {
        debug_assert!(self.length < Self::ROOM);
        self.bytes[self.length % Self::ROOM] = byte;
        self.length += 1;
    }

    /// Empties it into the vector.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        if out.capacity() - out.len() >= Self::ROOM {
            // To copy all of it, whose length is known, takes less than to copy less.
            out.extend_from_slice(&self.bytes);
            out.truncate(end);
        } else {
            out.extend_from_slice(&self.bytes[..self.length.min(Self::ROOM)]);
        }
        self.length = 0;
    }
}

/// A few integers in a row as one number, made where no memory is touched: eight bytes at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    /// The first byte is the lowest.
    bits: u64,
    /// In bytes; more than there are if it was too much.
    pub(super) length: usize,
}

impl Packed {
    pub(super) const ZERO: Self = Self { bits: 0, length: 1 };

    /// Where it is written there must be so much, however short it is.
    pub(super) const ROOM: usize = 8;

    /// What takes more than three bytes is too much.
    #[inline(always)]
    pub(super) fn of(value: i64) -> Self {
        let bits = zigzag(value);
        let more = |from: u32| bits >> from & 0x7f | 0x80;
        let (bits, length) = if bits < 1 << 7 {
            (bits, 1)
        } else if bits < 1 << 14 {
            (more(0) | bits >> 7 << 8, 2)
        } else if bits < 1 << 21 {
            (more(0) | more(7) << 8 | bits >> 14 << 16, 3)
        } else {
            (0, Self::ROOM + 1)
        };
        Self { bits, length }
    }

    /// Both, one behind the other.
    #[inline(always)]
    pub(super) fn and(self, next: Self) -> Self {
        Self {
            bits: self.bits | next.bits.wrapping_shl(8 * self.length as u32),
            length: self.length + next.length,
        }
    }

    #[inline(always)]
    pub(super) fn is_whole(self) -> bool {
        self.length <= Self::ROOM
    }

    /// To be written only if it is whole.
    #[inline(always)]
    pub(super) fn write(self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        // To copy what has a length that is known takes less than to copy less.
        out.extend_from_slice(&self.bits.to_le_bytes());
        out.truncate(end);
    }
}

/// How many bytes [`write_i64`] takes.
#[inline]
pub(super) fn size_i64(value: i64) -> usize {
    let bits = zigzag(value);
    // Comparisons that are foreseen cost less than a count of bits.
    if bits < 1 << 7 {
        1
    } else if bits < 1 << 14 {
        2
    } else {
        (64 - bits.leading_zeros() as usize).div_ceil(7)
    }
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}
