//! gzip (RFC 1952), whose header is read here: the inflater can be reset, and so kept, for raw deflate data only.

use flate2::{Decompress, FlushDecompress, Status};

use super::{Growth, Inflated, Stop};

const DAMAGED: Stop = Stop::Damaged("gzip");

#[derive(Debug, Default)]
pub(super) struct Inflater {
    /// Made when first needed: it takes some 40 KiB.
    context: Option<Decompress>,
    growth: Growth,
}

impl Inflater {
    pub(super) fn inflate(&mut self, mut input: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
        // A gzip file may have several members, one after the other.
        loop {
            let deflated = skip_header(input).ok_or(DAMAGED)?;
            let consumed = self.inflate_member(deflated, out, ceiling)?;
            // CRC-32 and length: what they protect is under the batch's own checksum.
            let Some(rest) = deflated.get(consumed + 8..) else {
                return Err(DAMAGED);
            };
            if rest.is_empty() {
                return Ok(());
            }
            input = rest;
        }
    }

    /// Gives the number of bytes that were the member's.
    fn inflate_member(&mut self, deflated: &[u8], out: &mut Inflated, ceiling: usize) -> Result<usize, Stop> {
        let context = self.context.get_or_insert_with(|| Decompress::new(false));
        context.reset(false);
        let before = out.len();
        loop {
            if out.len() > ceiling {
                return Err(Stop::AtCeiling);
            }
            let (consumed, produced) = (context.total_in() as usize, context.total_out());
            let rest = deflated.get(consumed..).ok_or(DAMAGED)?;
            let room = self.growth.room(out, before, deflated.len(), ceiling);
            let had_room = room.len();
            let status = context.decompress(rest, room, FlushDecompress::None);
            let written = (context.total_out() - produced) as usize;
            out.wrote(written);
            match status {
                Ok(Status::StreamEnd) => break,
                // There was room for more, so it is the input that ended too early.
                Ok(_) if written < had_room => return Err(DAMAGED),
                Ok(_) => {}
                Err(_) => return Err(DAMAGED),
            }
        }
        let consumed = context.total_in() as usize;
        self.growth.learn(consumed, out.len() - before);
        Ok(consumed)
    }
}

/// What follows a member's header.
fn skip_header(input: &[u8]) -> Option<&[u8]> {
    const CHECKSUM: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;

    let (header, mut rest) = input.split_first_chunk::<10>()?;
    let &[0x1f, 0x8b, 8, flags, ..] = header else {
        return None;
    };
    if flags & EXTRA != 0 {
        let (length, extra) = rest.split_first_chunk()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & CHECKSUM != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
