//! Does a message cost more instructions or allocations than it did?
//!
//! Times say nothing on a machine with other work; instructions are the same on a busy one. Each workload runs under
//! `valgrind --tool=callgrind`, with few messages and with many: the difference, by messages, is what one more message
//! costs, in the whole process and in the thread that calls klamm. What the kernel does is not in it. Allocations are
//! counted the same way, without valgrind, in the whole process.
//!
//! The other side is the broker made by hand of `tests/hostile`, in a process of its own: no Kafka and no Java is needed,
//! but valgrind (`apt-get install valgrind`). One partition, batches of 64 KiB, values of 100 bytes.
//!
//! | Workload | What it does |
//! |---|---|
//! | `batches` | `stream.batches()` of a reader |
//! | `loop` | `for message in stream` |
//! | `group` | the same as a member of a group, with acks and commits |
//! | `send` | `producer.send`; deliveries are dropped |
//! | `send-with` | the same with a callback each |
//! | `send-kept` | deliveries are kept, and waited for at the end |
//!
//! Arguments (`cargo bench … -- --check loop send`); names of workloads behind them choose these, none means all:
//!
//! | Argument | What it does |
//! |---|---|
//! | none | prints what is measured, what is recorded, and the ratio |
//! | `--check` | fails when a workload takes over a tenth more instructions, or an allocation in ten messages more |
//! | `--record` | writes what is measured into `instructions/recorded.txt`, to be committed |
//!
//! What grows on purpose is recorded anew, and so is what shrinks: else it may grow again unseen. Under another compiler,
//! C library or processor figures differ a little (1 % without AVX2), and the tenth has room for that; between runs on one
//! machine, however busy, readers differ by 0.1 %, producers by up to 1 %.

#![expect(clippy::disallowed_methods, reason = "a bench waits for its own processes")]

#[path = "instructions/broker.rs"]
mod broker;
#[path = "instructions/callgrind.rs"]
mod callgrind;
#[path = "../tests/hostile/liar.rs"]
#[allow(dead_code, reason = "nothing is lied about here")]
mod liar;
#[path = "race/process.rs"]
mod process;
#[path = "instructions/recorded.rs"]
mod recorded;
mod values;
#[path = "instructions/workloads.rs"]
mod workloads;

use std::{
    alloc::System,
    env,
    process::{Command, ExitCode},
};

use broker::Broker;
use recorded::{Figures, Recorded};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use workloads::{WORKLOADS, Workload};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Both are enough for every buffer to be there and to be used again, and whole batches.
const FEW: usize = 100_000;
const MANY: usize = 300_000;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", records] => broker::serve(records.parse().expect("a number")),
        ["run", workload, bootstrap, records] => {
            let workload = Workload::named(workload).expect("a workload");
            process::end_with_parent();
            let before = ALLOCATOR.stats().allocations;
            (workload.run)(bootstrap, records.parse().expect("a number"));
            println!("{}", ALLOCATOR.stats().allocations - before);
        }
        ["--check", ref wanted @ ..] => return check(&wanted_of(wanted)),
        ["--record", ref wanted @ ..] => record(&wanted_of(wanted)),
        ref wanted => show(&wanted_of(wanted)),
    }
    ExitCode::SUCCESS
}

fn wanted_of(names: &[&str]) -> Vec<&'static Workload> {
    if names.is_empty() {
        return WORKLOADS.iter().collect();
    }
    let named = |name: &&str| {
        Workload::named(name).unwrap_or_else(|| panic!("nothing is called {name:?}; see the first lines of this bench"))
    };
    names.iter().map(named).collect()
}

// ---- what to do with the figures ----

fn show(workloads: &[&'static Workload]) {
    let recorded = Recorded::read();
    recorded.print_title();
    for workload in workloads {
        recorded.print(workload.name, &measure(workload));
    }
    recorded.print_tools();
}

fn record(workloads: &[&'static Workload]) {
    let mut recorded = Recorded::read();
    recorded.print_title();
    for workload in workloads {
        let figures = measure(workload);
        recorded.print(workload.name, &figures);
        recorded.insert(workload.name, figures);
    }
    recorded.write();
}

fn check(workloads: &[&'static Workload]) -> ExitCode {
    let recorded = Recorded::read();
    recorded.print_title();
    let mut grown = Vec::new();
    for workload in workloads {
        let mut figures = measure(workload);
        if !recorded.grown(workload.name, &figures).is_empty() {
            // Once more, before it is said: threads that wait for each other can only add to a figure.
            figures = figures.least(&measure(workload));
        }
        recorded.print(workload.name, &figures);
        grown.extend(recorded.grown(workload.name, &figures));
    }
    recorded.print_tools();
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    recorded::advise(&grown);
    ExitCode::FAILURE
}

// ---- one measurement ----

fn measure(workload: &Workload) -> Figures {
    let [few, many] = [FEW, MANY].map(|records| callgrind::count(workload.name, records));
    let [allocated_few, allocated_many] = [FEW, MANY].map(|records| allocations(workload.name, records));
    let each = |few: u64, many: u64| (many as f64 - few as f64) / (MANY - FEW) as f64;
    Figures {
        all: each(few.all, many.all),
        caller: each(few.caller, many.caller),
        allocations: each(allocated_few, allocated_many),
    }
}

fn allocations(workload: &str, records: usize) -> u64 {
    let broker = Broker::start(records);
    let this = env::current_exe().expect("this program has a path");
    let mut run = Command::new(this);
    run.args(["run", workload, broker.bootstrap(), &records.to_string()]);
    let [allocations] = process::numbers_of(run);
    allocations as u64
}
