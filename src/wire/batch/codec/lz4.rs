//! LZ4 frames, walked here so that blocks are inflated straight into the buffer.
//!
//! The frame's own checksums are not looked at. The batch's checksum covers all of it already, and the header's is
//! wrong in what clients of Kafka 0.8 and 0.9 wrote (they also summed the magic number).

use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

use super::{Inflated, Stop};

const DAMAGED: Stop = Stop::Damaged("lz4");

const MAGIC: u32 = 0x184d_2204;
/// How far back a block that depends on those before it may reach.
const WINDOW: usize = 64 * 1024;

pub(super) fn inflate(mut input: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
    // Frames may be put one behind the other.
    loop {
        inflate_frame(&mut input, out, ceiling)?;
        if input.is_empty() {
            return Ok(());
        }
    }
}

struct Frame {
    independent_blocks: bool,
    block_checksums: bool,
    content_checksum: bool,
    block_limit: usize,
}

fn inflate_frame(input: &mut &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
    let frame = header(input)?;
    let before = out.len();
    loop {
        let size = word(input)?;
        if size == 0 {
            break;
        }
        let stored = size & (1 << 31) != 0;
        let block = take(input, (size & !(1 << 31)) as usize)?;
        if block.len() > frame.block_limit {
            return Err(DAMAGED);
        }
        if stored {
            super::copy(block, out, ceiling)?;
        } else {
            let history = if frame.independent_blocks {
                out.len()
            } else {
                before.max(out.len().saturating_sub(WINDOW))
            };
            inflate_block(block, out, history, frame.block_limit, ceiling)?;
        }
        if frame.block_checksums {
            take(input, 4)?;
        }
    }
    if frame.content_checksum {
        take(input, 4)?;
    }
    Ok(())
}

fn header(input: &mut &[u8]) -> Result<Frame, Stop> {
    if word(input)? != MAGIC {
        return Err(DAMAGED);
    }
    let &[flags, block_size] = take(input, 2)? else {
        return Err(DAMAGED);
    };
    let (version, content_size, dictionary) = (flags >> 6, flags & (1 << 3) != 0, flags & 1 != 0);
    let block_size = (block_size >> 4) & 7;
    if version != 1 || dictionary || block_size < 4 {
        return Err(DAMAGED);
    }
    // The content's size is a claim like any other; then the header's checksum.
    take(input, if content_size { 9 } else { 1 })?;
    Ok(Frame {
        independent_blocks: flags & (1 << 5) != 0,
        block_checksums: flags & (1 << 4) != 0,
        content_checksum: flags & (1 << 2) != 0,
        block_limit: 1 << (8 + 2 * block_size),
    })
}

/// Inflates behind `out`, whose bytes from `history` on the block may repeat.
fn inflate_block(
    block: &[u8],
    out: &mut Inflated,
    history: usize,
    block_limit: usize,
    ceiling: usize,
) -> Result<(), Stop> {
    let before = out.len();
    let most = block_limit.min(ceiling - before);
    // A frame may allow blocks of 4 MiB and hold one of a kilobyte: room is made for what its size makes likely.
    let mut room = most.min(block.len().saturating_mul(8) + 1024);
    loop {
        let (done, tail) = out.with_room(room, most);
        room = tail.len();
        let inflated = if history == before {
            decompress_into(block, tail)
        } else {
            decompress_into_with_dict(block, tail, &done[history..])
        };
        match inflated {
            Ok(written) => {
                out.wrote(written);
                return Ok(());
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < most => room = most.min(room.saturating_mul(4)),
            Err(DecompressError::OutputTooSmall { .. }) if most < block_limit => return Err(Stop::AtCeiling),
            Err(_) => return Err(DAMAGED),
        }
    }
}

fn word(input: &mut &[u8]) -> Result<u32, Stop> {
    let (word, rest) = input.split_first_chunk().ok_or(DAMAGED)?;
    *input = rest;
    Ok(u32::from_le_bytes(*word))
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Stop> {
    let (taken, rest) = input.split_at_checked(length).ok_or(DAMAGED)?;
    *input = rest;
    Ok(taken)
}
