//! Snappy: in the framing of the Java library (blocks with their length before them), or bare.

use super::{
    super::bytes::{i32_at, u32_at},
    Inflated, Stop,
};

const DAMAGED: Stop = Stop::Damaged("snappy");

pub(super) const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
/// Magic, version, and the lowest version that can read it.
const FRAME_HEADER: usize = 16;
/// Snappy's densest element makes 64 bytes out of three.
const HIGHEST_RATIO: usize = 22;

pub(super) fn inflate(input: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
    if !input.starts_with(MAGIC) {
        return inflate_block(input, out, ceiling);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // Streams may be put one behind the other, each with its header.
        if rest.starts_with(MAGIC) {
            if i32_at(rest, 12).is_none_or(|lowest_reader| lowest_reader > 1) {
                return Err(DAMAGED);
            }
            rest = &rest[FRAME_HEADER..];
            continue;
        }
        let length = u32_at(rest, 0).ok_or(DAMAGED)? as usize;
        let Some((block, behind)) = rest[4..].split_at_checked(length) else {
            return Err(DAMAGED);
        };
        inflate_block(block, out, ceiling)?;
        rest = behind;
    }
    Ok(())
}

fn inflate_block(block: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
    let length = snap::raw::decompress_len(block).map_err(|_| DAMAGED)?;
    if length > block.len().saturating_mul(HIGHEST_RATIO) {
        return Err(DAMAGED);
    }
    if length > ceiling - out.len() {
        return Err(Stop::AtCeiling);
    }
    let (_, room) = out.with_room(length, length);
    match snap::raw::Decoder::new().decompress(block, room) {
        Ok(written) if written == length => {
            out.wrote(written);
            Ok(())
        }
        _ => Err(DAMAGED),
    }
}
