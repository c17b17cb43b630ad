//! What it costs to consume where nothing happens.

use std::{fs, thread, time::Duration};

use crate::{Idle, Meter, Report};

/// Until every partition has been fetched from: what comes before that is not idle.
const SETTLING: Duration = Duration::from_secs(3);

/// Waits a little, and then for the time of the task, and says what the latter has cost. To be called when partitions are
/// assigned; the client must do its work on other threads.
pub fn rest(task: &Idle) -> Report {
    thread::sleep(SETTLING);
    let meter = Meter::new();
    thread::sleep(task.time);
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    meter
        .report(0, 0)
        .with("threads", threads)
        .with("connections", sockets())
}

fn sockets() -> usize {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return 0;
    };
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}
