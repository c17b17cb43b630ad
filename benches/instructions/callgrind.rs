//! A run under valgrind, and how many instructions it took.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{broker::Broker, process};

pub(crate) struct Instructions {
    pub(crate) all: u64,
    pub(crate) caller: u64,
}

pub(crate) fn count(workload: &str, records: usize) -> Instructions {
    let profile = profile(workload, records);
    let folder = profile.parent().expect("a file lies in a folder");
    fs::create_dir_all(folder).expect("a folder for profiles");
    threads(&profile).for_each(|file| fs::remove_file(file).expect("an old profile goes"));
    let broker = Broker::start(records);
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", "--tool=callgrind", "--separate-threads=yes"])
        // Else a busy thread may keep the others waiting for as long as it likes.
        .arg("--fair-sched=try")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe().expect("this program has a path"))
        .args(["run", workload, broker.bootstrap(), &records.to_string()]);
    let [_] = process::numbers_of(valgrind);
    let counts: Vec<_> = threads(&profile).map(|file| total(&file)).collect();
    Instructions {
        all: counts.iter().sum(),
        // The first thread is the one that calls klamm.
        caller: *counts.first().expect("a profile of each thread"),
    }
}

/// What `callgrind_annotate` reads; of each thread there is one with its number behind it.
pub(crate) fn profile(workload: &str, records: usize) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("instructions");
    folder.join(format!("{workload}.{records}"))
}

/// Those that there are, in their order.
fn threads(profile: &Path) -> impl Iterator<Item = PathBuf> {
    let file = |thread| PathBuf::from(format!("{}-{thread:02}", profile.display()));
    (1..=99).map(file).filter(|file| file.exists())
}

fn total(profile: &Path) -> u64 {
    let lines = fs::read_to_string(profile).expect("valgrind has written it");
    let totals = lines.lines().filter_map(|line| line.strip_prefix("totals:"));
    totals.map(|total| total.trim().parse::<u64>().expect("a number")).sum()
}
