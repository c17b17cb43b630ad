//! Whatever the other side does, klamm answers with one clear error within its deadline, or asks again: it does not
//! panic, does not believe a length, and leaves nothing out without a word.
//!
//! The other side is a broker made by hand, which tells the truth unless a test has it lie. No Kafka is needed here;
//! `tests/kafka/hostile.rs` holds what only a real broker can do.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests run servers of their own and measure how long something takes"
)]

mod addresses;
mod answers;
mod fetched;
mod groups;
mod liar;
mod options;
mod peak;
mod producing;

use std::{
    alloc::System,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use klamm::{Client, ClientBuilder, Error};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Patient enough for a busy machine, and too short for a default limit to pass for a setting.
const SHORT: Duration = Duration::from_secs(2);

/// What a busy machine may take for what takes milliseconds.
const LONG: Duration = Duration::from_secs(60);

/// No machine is so slow that something with a [`SHORT`] limit takes this long, and every default limit is longer.
const PROMPT: Duration = Duration::from_secs(9);

/// A client whose limits are short.
fn impatient(bootstrap: &str) -> ClientBuilder {
    Client::builder()
        .bootstrap(bootstrap)
        .connect_timeout(SHORT)
        .request_timeout(SHORT)
        .unknown_topic_ttl(Duration::from_millis(300))
        .retry_backoff(Duration::from_millis(10), Duration::from_millis(100))
        .reconnect_backoff(Duration::from_millis(10), Duration::from_millis(100))
}

/// Runs it, and fails when that takes longer than `limit`.
#[track_caller]
fn within<T>(limit: Duration, run: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = run();
    let took = started.elapsed();
    assert!(took <= limit, "it took {took:?}, and may take {limit:?}");
    result
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One sentence that names all of this, without an end of line or a full stop.
#[track_caller]
fn tells(error: &Error, parts: &[&str]) {
    let sentence = error.to_string();
    for part in parts {
        assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
    }
    assert!(!sentence.contains('\n') && !sentence.ends_with('.'), "{sentence:?}");
}

/// Runs it with no other measured piece of a test beside it, and fails when more memory was asked for than that, all
/// allocations added up. What an allocator hands out need not be touched, so the size of the process would not tell.
#[track_caller]
fn allocating_at_most<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone: MutexGuard<'_, ()> = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = COUNTED.stats().bytes_allocated;
    let result = run();
    let allocated = COUNTED.stats().bytes_allocated - before;
    assert!(
        allocated <= bytes,
        "{allocated} bytes were allocated, and {bytes} may be"
    );
    result
}

/// What the small servers and clients of all tests may allocate meanwhile; lies are far above it.
const MODEST: usize = 512 << 20;
