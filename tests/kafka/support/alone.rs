//! Tests that count what a process has run in one of their own.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::wait_until;

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);

/// Set for a test that runs alone, to what it was given.
pub const ALONE: &str = "KLAMM_TEST_ALONE";

/// Runs a test again in a process of its own, in which this returns what it was given. `None` when that has been done, and
/// it succeeded. The test is named by its path in this binary.
pub fn alone(test: &str, given: &str) -> Option<String> {
    if let Ok(given) = std::env::var(ALONE) {
        return Some(given);
    }
    let binary = std::env::current_exe().expect("a test binary has a path");
    let output = Command::new(binary)
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, given)
        .stdin(Stdio::null())
        .output()
        .expect("a test can be run again");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{test} failed in a process of its own:\n{said}"
    );
    assert!(
        said.contains("1 passed"),
        "{test} is not the name of this test:\n{said}"
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
    None
}

/// The names of this process's threads that belong to klamm.
pub fn klamm_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| name.starts_with("klamm-"))
        .collect()
}

/// How many sockets this process has open.
pub fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("Linux tells of descriptors");
    let targets = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.ok()?.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Waits until no thread of klamm is left, and no more sockets than there were.
#[track_caller]
pub fn nothing_is_left(sockets_before: usize) {
    wait_until("no thread of klamm is left", LONG, || klamm_threads().is_empty());
    wait_until("no socket is left", LONG, || sockets() <= sockets_before);
}

/// A line of /proc/self/status in bytes: VmRSS, VmHWM.
pub fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of memory");
    let found = status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let kilobytes = found.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kilobytes.expect("a number of kilobytes") << 10
}
