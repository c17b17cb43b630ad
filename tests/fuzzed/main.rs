//! What the fuzz targets run, over what was recorded from a real Kafka and over every lie that its answers have room for:
//! nothing panics, nothing that was accepted makes no sense, and no claim is allocated. On any compiler, in seconds.
//!
//! The bodies and what they may allocate are in `src/internals/fuzzed`, the recordings in `fuzz/corpus`.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests run servers of their own and wait for them"
)]

mod corpus;
mod lies;
mod recorded;
mod served;

#[allow(dead_code, reason = "what other tests lie about")]
#[path = "../hostile/liar.rs"]
mod liar;

use std::{
    alloc::System,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many bytes were asked for meanwhile, all allocations added up. Tests that count must be alone.
fn allocated<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = COUNTED.stats().bytes_allocated;
    let result = run();
    (result, COUNTED.stats().bytes_allocated - before)
}

/// One test at a time: allocations are counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything, instead of what takes seconds.
fn is_long() -> bool {
    std::env::var("KLAMM_TEST_LONG").is_ok_and(|long| long == "1")
}
