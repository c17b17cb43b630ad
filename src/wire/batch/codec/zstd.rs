//! Zstandard, a whole frame at a time: without a window buffer, whose size the frame would claim (up to 128 MiB).

use std::fmt;

use zstd::zstd_safe::{DCtx, zstd_sys::ZSTD_ErrorCode};

use super::{Growth, Inflated, Stop};

#[derive(Default)]
pub(super) struct Inflater {
    /// Made when first needed: it takes some 100 KiB.
    context: Option<DCtx<'static>>,
    growth: Growth,
}

impl Inflater {
    pub(super) fn inflate(&mut self, input: &[u8], out: &mut Inflated, ceiling: usize) -> Result<(), Stop> {
        const DAMAGED: Stop = Stop::Damaged("zstd");
        let context = match &mut self.context {
            Some(context) => context,
            empty => empty.insert(DCtx::try_create().ok_or(DAMAGED)?),
        };
        let before = out.len();
        let most = (ceiling - before).saturating_add(1);
        let mut room = self.growth.room(out, before, input.len(), ceiling);
        // The frame is inflated from its start until the room is enough. A try that fails has filled all of the room,
        // so four times as much is asked for by data that came, and tries take a third more time at most.
        loop {
            let had_room = room.len();
            match context.decompress(room, input) {
                Ok(written) => {
                    self.growth.learn(input.len(), written);
                    out.wrote(written);
                    return Ok(());
                }
                Err(code) if !is_too_small(code) => return Err(DAMAGED),
                Err(_) if had_room >= most => return Err(Stop::AtCeiling),
                Err(_) => room = out.with_room(had_room.saturating_mul(4).min(most), most).1,
            }
        }
    }
}

fn is_too_small(code: usize) -> bool {
    code == (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg()
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}
