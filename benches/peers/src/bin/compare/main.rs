//! Puts klamm beside other clients: the same work against the same broker, each run a process of its own, in turns.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml --all-features --bin compare
//! ```
//!
//! starts a Kafka, fills topics with Java's producer, and does all that the table shows. On a shared machine only ratios
//! within one round mean anything: of every round the ratios are taken, and of those the median. The first round of each
//! row warms up and counts nothing, and every round begins with another client. A client that fails, or takes too long,
//! is said to, and left out of what is left of the row.
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
//!
//! | Option | Meaning |
//! |---|---|
//! | `--peers a,b,c` | Who takes part beside the floor; everybody unless set. `rdkafka:batch` is `rdkafka` with `--api batch`, and `klamm:group` klamm as a group of one |
//! | `--tuned` | Adds every peer that has them once more, with settings for throughput |
//! | `--rounds N` | How often each runs beside the first time; 3 unless set |
//! | `--messages N` | For rows of 100 bytes; 5 million reading and 2 million writing unless set. Other rows derive theirs from it, and slow clients read a part of it |
//! | `--seconds N` | How long `idle` and `latency` last: 20 and 5 unless set |
//! | `--limit N` | Seconds after which a run is ended; 180 unless set |
//! | `--bootstrap H:P` | A running cluster to use instead of starting one; one broker, or the floor does not find its partitions |
//! | `--json FILE` | Writes all that all runs have said there, too |
//!
//! The variables of `tests/kafka/support` tell where Java and Kafka's jars are.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock, and waits by it")]

mod contenders;
mod field;
mod options;
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

use std::{env, fs, process::ExitCode, time::Instant};

use contenders::Contender;
use field::Field;
use options::Options;

fn main() -> ExitCode {
    let options = match Options::new(env::args().skip(1)) {
        Ok(options) => options,
        Err(complaint) => {
            eprintln!("{complaint}; see the first lines of compare/main.rs");
            return ExitCode::from(2);
        }
    };
    let contenders = match contenders::find(&options) {
        Ok(contenders) => contenders,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::from(2);
        }
    };
    compare(&options, &contenders);
    ExitCode::SUCCESS
}

fn compare(options: &Options, contenders: &[Contender]) {
    let begun = Instant::now();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("Cores: {cores}; rounds: {}; medians.", options.rounds);
    let mut field = Field::new(options);
    let (mut summary, mut raw) = (Vec::new(), Vec::new());
    for row in &options.rows {
        for trial in row.trials(options) {
            let races = field.race(&trial, contenders);
            println!("\n{}", tables::of_trial(&trial, &races));
            raw.extend(races.iter().flat_map(|race| race.raw(&trial)));
            summary.push((trial, races));
            // What there is, should the machine not live to see the end.
            if let Some(file) = &options.json {
                let text = serde_json::to_string_pretty(&raw).expect("numbers and names");
                fs::write(file, text).expect("the file of --json can be written");
            }
        }
        field.clear();
    }
    println!("\n{}", tables::of_all(&summary));
    println!("{:.0} s in all", begun.elapsed().as_secs_f64());
}
