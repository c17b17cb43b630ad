//! What any bytes are put through, by the fuzz targets in `fuzz/` and by the tests in `tests/fuzzed`.
//!
//! Each body panics when something does not hold. What it may allocate is stated with it: the tests count.

mod batch;
mod codec;
mod member;
mod payloads;
mod response;
mod sasl;

use std::io::Read;

use crate::wire::{frame, layout, request};

pub use response::{Answers, answers};

/// One body.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Target {
    /// Of the fuzz target, and of the folder with its corpus.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// How many bytes it may allocate, all allocations added up: a constant, and so many for each byte of the input.
    pub may_allocate: (usize, usize),
}

/// All that there are.
pub const TARGETS: [Target; 10] = [
    target("frame", frame, (4 * STEP, 8)),
    target("response", response::run, (256 << 10, 1024)),
    target("batch", batch::run, (2 << 20, 64)),
    target("gzip", codec::gzip, (4 << 20, 16)),
    target("snappy", codec::snappy, (4 << 20, 16)),
    target("lz4", codec::lz4, (4 << 20, 16)),
    target("zstd", codec::zstd, (4 << 20, 16)),
    target("payloads", payloads::run, (64 << 10, 256)),
    target("sasl", sasl::run, (64 << 10, 64)),
    target("member", member::run, (1 << 20, 4096)),
];

const fn target(name: &'static str, run: fn(&[u8]), may_allocate: (usize, usize)) -> Target {
    Target {
        name,
        run,
        may_allocate,
    }
}

/// Runs the body of this name.
///
/// # Panics
///
/// If something does not hold, and if there is none.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target").run)(bytes);
}

/// A length, a count, a tag, or a word on whether something follows.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Claim {
    /// `at..end` is where it stands.
    pub at: usize,
    /// `at..end` is where it stands.
    pub end: usize,
    /// Otherwise big-endian, of as many bytes as it has.
    pub is_varint: bool,
}

/// Where the body of an answer claims anything about its own bytes; `None` if it is no answer of this version.
#[must_use]
pub fn claims(api_key: i16, version: i16, body: &[u8]) -> Option<Vec<Claim>> {
    let claims = layout::claims(api_key, version, body).ok()?;
    let public = |claim: layout::Claim| Claim {
        at: claim.at,
        end: claim.end,
        is_varint: claim.is_varint,
    };
    Some(claims.into_iter().map(public).collect())
}

/// What arrives with each read, and how much is believed at once.
const STEP: usize = 64 << 10;

/// A stream of frames, in as many pieces as the first byte says.
fn frame(bytes: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((&step, bytes)) = bytes.split_first() else {
        return;
    };
    let mut from = Trickle(bytes, usize::from(step) + 1);
    let mut behind = 0;
    while let Ok(Some(body)) = frame::read(&mut from, LIMIT) {
        let start = behind + 4;
        behind = start + body.len();
        assert_eq!(bytes.get(start..behind), Some(&body[..]), "a frame is what arrived");
        assert_eq!(bytes[start - 4..start], (body.len() as u32).to_be_bytes());
        assert_eq!(bytes.len() - behind, from.0.len(), "no byte too many was read");
        let id = request::correlation_id(&body).expect("no frame is too short for it");
        assert_eq!(id.to_be_bytes(), body[..4]);
    }
}

/// Hands out a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = later;
        Ok(length)
    }
}
