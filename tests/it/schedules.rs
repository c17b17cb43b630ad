//! Faults at random, under a producer and a group that work: whatever happens, what was promised holds.
//!
//! A seed makes a schedule. One that fails is printed, and runs again with `KLAMM_TEST_SEED=n`; so many of them run as
//! `KLAMM_TEST_SCHEDULES` says, from `KLAMM_TEST_FIRST_SEED` on.

#![expect(
    clippy::disallowed_methods,
    reason = "programs sleep, and so do those who watch them; times are only the schedule's"
)]
#![expect(
    clippy::result_large_err,
    reason = "a fault of a whole run, found once, tells all about it"
)]

mod judge;
mod member;
mod run;
mod schedule;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use schedule::Schedule;

use crate::support;

/// So many run at once: they mostly wait.
const AT_ONCE: u64 = 12;

#[test]
fn what_was_promised_holds_whatever_happens() {
    let Some(_) = support::alone("schedules::what_was_promised_holds_whatever_happens", "") else {
        return;
    };
    let seeds = match (number("KLAMM_TEST_SEED"), number("KLAMM_TEST_SCHEDULES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => {
            let first = number("KLAMM_TEST_FIRST_SEED").unwrap_or(1);
            first..first + count.unwrap_or(200)
        }
    };
    let sockets = support::sockets();
    let failed = run_all(seeds.clone());
    if failed.is_empty() {
        support::nothing_is_left(sockets);
    }
    assert!(
        failed.is_empty(),
        "{} of {} schedules failed: KLAMM_TEST_SEED={} runs the first one again\n\n{}",
        failed.len(),
        seeds.end - seeds.start,
        failed[0].0,
        failed
            .iter()
            .map(|(_, said)| said.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")),
    )
}

/// Those that failed, with what is to be said of them.
fn run_all(seeds: Range<u64>) -> Vec<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(seeds.end - seeds.start) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= seeds.end {
                        return;
                    }
                    if seed > seeds.start && (seed - seeds.start) % 500 == 0 {
                        eprintln!("{} schedules have begun", seed - seeds.start);
                    }
                    if let Some(said) = run(seed) {
                        eprintln!("{said}");
                        failed.lock().unwrap().push((seed, said));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn run(seed: u64) -> Option<String> {
    let schedule = Schedule::of(seed);
    let result = catch_unwind(AssertUnwindSafe(|| run::run(&schedule)));
    let complaints = match result {
        Ok(Ok(())) => return None,
        Ok(Err(complaints)) => complaints,
        Err(_) => vec!["something panicked, as is said above".to_owned()],
    };
    let few = &complaints[..complaints.len().min(20)];
    Some(format!(
        "{schedule}  {} complaints:\n  {}\n",
        complaints.len(),
        few.join("\n  ")
    ))
}
