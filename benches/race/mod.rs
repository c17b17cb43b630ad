//! Contenders that take turns, each run a process of its own: what a shared machine does to one, it does to all.

#![allow(
    dead_code,
    reason = "every bench that races has its own copy, and needs what it needs"
)]

pub(crate) mod process;

use std::{env, fs, path::Path, process::Command, thread, time::Duration};

/// The runs of each contender, round by round.
///
/// The first round fills caches and warms the broker, and counts nothing.
pub(crate) fn rounds<R>(count: usize, contenders: usize, run: impl FnMut(usize) -> R) -> Vec<Vec<R>> {
    let mut runs = turns(count + 1, contenders, run);
    for runs in &mut runs {
        runs.remove(0);
    }
    runs
}

/// The same, when nothing is cold. Every round begins with another contender, and every second one goes backwards, so that
/// none always follows the same one, and meets what that has left behind: who is the first to read a topic that nobody has
/// read for a while is slower than the next.
pub(crate) fn turns<R>(rounds: usize, contenders: usize, mut run: impl FnMut(usize) -> R) -> Vec<Vec<R>> {
    let mut runs: Vec<Vec<R>> = (0..contenders).map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..contenders {
            let turn = if round % 2 == 0 { turn } else { contenders - 1 - turn };
            let contender = (round + turn) % contenders;
            runs[contender].push(run(contender));
        }
    }
    runs
}

/// The numbers that this program prints when it is started with these arguments.
pub(crate) fn numbers_of<const N: usize>(args: &[&str]) -> [f64; N] {
    let this = env::current_exe().expect("this program has a path");
    numbers_of_program(&this, args)
}

/// The numbers that a program prints, which is to [`end_with_parent`](process::end_with_parent).
pub(crate) fn numbers_of_program<const N: usize>(program: &Path, args: &[&str]) -> [f64; N] {
    let mut command = Command::new(program);
    command.args(args);
    let numbers = process::numbers_of(command);
    // What a run leaves in the broker is over before the next one begins.
    thread::sleep(Duration::from_millis(50));
    numbers
}

/// What each run came to, as a multiple of the other's in the same round.
pub(crate) fn ratios<R>(mine: &[R], other: &[R], what: impl Fn(&R) -> f64) -> Vec<f64> {
    mine.iter()
        .zip(other)
        .map(|(mine, other)| what(mine) / what(other))
        .collect()
}

pub(crate) fn median_of<R>(runs: &[R], what: impl Fn(&R) -> f64) -> f64 {
    median(runs.iter().map(what).collect())
}

pub(crate) fn best_of<R>(runs: &[R], what: impl Fn(&R) -> f64) -> f64 {
    runs.iter().map(what).fold(f64::NAN, f64::max)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of this process, in user and system mode.
pub(crate) fn processor_seconds() -> f64 {
    // The clock of a running thread is read when it stops running.
    thread::yield_now();
    processor_seconds_of("self")
}

/// Of the process with this ID.
///
/// For all its threads the kernel counts hundredths of a second, and nanoseconds for those that are still there: neither
/// is ever too much.
pub(crate) fn processor_seconds_of(process: &str) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("Linux tells about threads");
    let nanoseconds = tasks.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    processor_ticks(process, 11).max(nanoseconds.sum::<f64>() / 1e9)
}

/// Of the processes that this one has started and waited for, in hundredths of a second.
pub(crate) fn processor_seconds_of_children() -> f64 {
    processor_ticks("self", 13)
}

/// How often threads of this process that are still there have waited for something: each time is a call to the system, two
/// turns of the scheduler, and work for whoever wakes them.
pub(crate) fn waits() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells about threads");
    let counts = tasks.filter_map(|task| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse::<f64>().ok()
    });
    counts.sum()
}

/// Of this process in user mode, and in system mode, in hundredths of a second.
pub(crate) fn processor_modes() -> [f64; 2] {
    [11, 12].map(|field| ticks_in("self", field, 1))
}

/// How often this process has touched a page of memory that it did not have yet.
pub(crate) fn page_faults() -> f64 {
    sum_in("self", 7, 1)
}

fn processor_ticks(process: &str, field: usize) -> f64 {
    ticks_in(process, field, 2)
}

fn ticks_in(process: &str, field: usize, count: usize) -> f64 {
    sum_in(process, field, count) / 100.0
}

/// The sum of so many fields.
fn sum_in(process: &str, field: usize, count: usize) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux tells about processes");
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let fields = behind_name.split_whitespace().skip(field).take(count);
    fields.filter_map(|number| number.parse::<f64>().ok()).sum()
}

pub(crate) fn peak_megabytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}

/// What a variable says, or the usual.
pub(crate) fn number(variable: &str, usual: usize) -> usize {
    env::var(variable).map_or(usual, |given| given.parse().expect("a number"))
}
