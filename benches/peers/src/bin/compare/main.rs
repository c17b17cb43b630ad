//! Puts klamm beside other clients: the same work against the same broker, each run a process of its own, in turns.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml --all-features --bin compare
//! ```
//!
//! starts a Kafka, fills topics with Java's producer, and does all that the table shows. On a shared machine only ratios
//! within one round mean anything: of every round the ratios are taken, and of those the median. A run of each with
//! default settings warms up and counts nothing, and every round begins with another client. A client that fails, or
//! takes too long, is said to, and left out of what is left of the row.
//!
//! Arguments choose rows; without any, all are done:
//!
//! | Row | What it is |
//! |---|---|
//! | `read-100B` | reads values of 100 bytes, that no codec finds anything in, from 12 partitions |
//! | `read-100B-1` | the same from 1 partition |
//! | `read-1KiB` | a quarter as many, ten times as long |
//! | `read-gzip` `read-snappy` `read-lz4` `read-zstd` | half as many, of 200 bytes of text, compressed |
//! | `write-100B` `write-100B-1` `write-1KiB` `write-gzip` … | the same written, with acks of all; each into a topic of its own, which is counted afterwards |
//! | `latency` | a thousand records a second of 100 bytes, without lingering, through 1 partition: from just before they are sent until they are in hand |
//! | `idle` | a thousand partitions in which nothing happens; once, since there is nothing to vary |
//! | `neighbours-1` `neighbours-2` | one or two partitions with all records and 52 or 51 empty ones beside them, against the same without those; with as little work as above, and with 2 µs for each message |
//! | `longpoll` | commits, heartbeats, metadata and records that are acknowledged, while the same client waits up to 10 s for idle partitions; each against one without that, in turns, in one run |
//!
//! | Option | Meaning |
//! |---|---|
//! | `--peers a,b,c` | Who takes part beside the floor; everybody unless set. `rdkafka:batch` is `rdkafka` with `--api batch`, and `klamm:group` klamm as a group of one |
//! | `--tuned` | Adds every peer that has them once more, with settings for throughput, where rates are measured: `read-…` and `write-…` |
//! | `--rounds N` | How often each runs beside the first time; 3 unless set |
//! | `--messages N` | For rows of 100 bytes; 5 million reading and 2 million writing unless set. Other rows derive theirs from it, and slow clients read a part of it |
//! | `--seconds N` | How long `idle`, `latency` and `longpoll` last: 20, 5 and 10 unless set |
//! | `--limit N` | Seconds after which a run is ended; 180 unless set |
//! | `--bootstrap H:P` | A running cluster to use instead of starting one; one broker, or the floor does not find its partitions |
//! | `--json FILE` | Writes all that all runs have said there, too, after each row: what is aborted has its rows |
//! | `--deadline MIN` | No row begins later than so many minutes after the first |
//! | `--from a.json,b.json` | Takes rows that `--json` has written, of the last file that has them; then only rows that are named are done, and replace them |
//! | `--write` | Writes `RESULTS.md` and the table in klamm's `README.md`, each between its two marks |
//!
//! It fails when the floor or klamm did, in any row.
//!
//! The variables of `tests/kafka/support` tell where Java and Kafka's jars are.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock, and waits by it")]

mod contenders;
mod documents;
mod field;
mod longpoll;
mod options;
mod results;
mod rows;
mod runs;
mod tables;

#[path = "../../../../race/mod.rs"]
mod race;
#[path = "../../../../../tests/kafka/support/mod.rs"]
mod support;
#[path = "../../../../produce/topics.rs"]
mod topics;
#[path = "../../../../values/mod.rs"]
mod values;
#[path = "../../../../longpoll/watch.rs"]
#[expect(dead_code, reason = "its own bench waits until a Fetch is there")]
mod watch;

use std::{env, process::ExitCode, time::Instant};

use field::Field;
use options::Options;
use results::Results;

fn main() -> ExitCode {
    let options = match Options::new(env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}; see the first lines of compare/main.rs");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("\nWhat all is compared with has failed:\n{}", missed.join("\n"));
            ExitCode::FAILURE
        }
        Err(complaint) => {
            eprintln!("{complaint}");
            ExitCode::from(2)
        }
    }
}

/// Says who failed of those who must not.
fn run(options: &Options) -> Result<Vec<String>, String> {
    let mut results = Results::read(&options.from)?;
    if !options.rows.is_empty() {
        compare(options, &mut results)?;
    }
    println!("\n## All\n\n{}", tables::of_all(&results.rows));
    if options.write {
        documents::write(&results)?;
        let absent = documents::absent(&results);
        if !absent.is_empty() {
            eprintln!("The documents do without {}.", absent.join(", "));
        }
    }
    Ok(results.missed())
}

fn compare(options: &Options, results: &mut Results) -> Result<(), String> {
    let contenders = contenders::find(options)?;
    let begun = Instant::now();
    let circumstances = results::circumstances(options);
    println!("{circumstances}");
    let mut field = Field::new(options);
    for row in &options.rows {
        if options.deadline.is_some_and(|deadline| begun.elapsed() > deadline) {
            eprintln!("{}: there was no time left", row.name());
            continue;
        }
        for trial in row.trials(options) {
            let races = field.race(&trial, &contenders);
            println!("\n### {}\n\n{}", trial.name, tables::of_trial(&trial, &races));
            results.add(trial, races, &circumstances);
            if let Some(file) = &options.json {
                results.write(file);
            }
        }
        field.clear();
    }
    println!("{:.0} s in all", begun.elapsed().as_secs_f64());
    Ok(())
}
