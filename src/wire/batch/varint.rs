//! Kafka's variable-length integers: zigzag, seven bits a byte, lowest first.

use super::Problem;

/// Reads one of up to five bytes and moves `at` behind it.
#[inline(always)]
pub(super) fn read_i32(bytes: &[u8], at: &mut usize) -> Result<i32, Problem> {
    // Nearly all lengths, deltas and counts take one byte or two.
    let Some(&first) = bytes.get(*at) else {
        return Err(Problem::FieldBeyondRecord);
    };
    if first < 0x80 {
        *at += 1;
        return Ok(unzigzag_32(u32::from(first)));
    }
    let Some(&second) = bytes.get(*at + 1) else {
        return Err(Problem::FieldBeyondRecord);
    };
    if second < 0x80 {
        *at += 2;
        return Ok(unzigzag_32(u32::from(first & 0x7f) | u32::from(second) << 7));
    }
    let value = read_long(bytes, at, 5)?;
    match u32::try_from(value) {
        Ok(value) => Ok(unzigzag_32(value)),
        Err(_) => Err(Problem::Varint),
    }
}

/// Reads one of up to ten bytes and moves `at` behind it.
#[inline(always)]
pub(super) fn read_i64(bytes: &[u8], at: &mut usize) -> Result<i64, Problem> {
    match bytes.get(*at) {
        Some(&first) if first < 0x80 => {
            *at += 1;
            Ok(unzigzag_64(u64::from(first)))
        }
        Some(&first) => match bytes.get(*at + 1) {
            Some(&second) if second < 0x80 => {
                *at += 2;
                Ok(unzigzag_64(u64::from(first & 0x7f) | u64::from(second) << 7))
            }
            _ => read_long(bytes, at, 10).map(unzigzag_64),
        },
        None => Err(Problem::FieldBeyondRecord),
    }
}

#[inline(never)]
fn read_long(bytes: &[u8], at: &mut usize, longest: usize) -> Result<u64, Problem> {
    let rest = bytes.get(*at..).unwrap_or_default();
    let mut value = 0;
    for (index, &byte) in rest.iter().take(longest).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if index == 9 && bits > 1 {
            return Err(Problem::Varint);
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            *at += index + 1;
            return Ok(value);
        }
    }
    Err(if rest.len() < longest {
        Problem::FieldBeyondRecord
    } else {
        Problem::Varint
    })
}

#[inline]
fn unzigzag_32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[inline]
fn unzigzag_64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(any(test, feature = "unstable-internals"))]
pub(super) use write::{size_i64, write_i64};

#[cfg(any(test, feature = "unstable-internals"))]
mod write {
    /// Writes an integer of either width: both take the same bytes.
    pub(in super::super) fn write_i64(out: &mut Vec<u8>, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    /// How many bytes [`write_i64`] takes.
    pub(in super::super) fn size_i64(value: i64) -> usize {
        let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
        bits.div_ceil(7)
    }

    fn zigzag(value: i64) -> u64 {
        ((value << 1) ^ (value >> 63)) as u64
    }
}
