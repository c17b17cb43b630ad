//! Writes lines: `cargo run --example produce -- --topic orders --key-separator : < orders.txt`.

mod arguments;

use std::{
    error::Error,
    io::{self, BufRead, IsTerminal},
    process::{self, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arguments::Arguments;
use klamm::{Acks, Client, Compression, Producer, Record, RecordMetadata};

struct Options {
    bootstrap: String,
    topic: String,
    partition: Option<i32>,
    separator: Option<String>,
    is_key_optional: bool,
    null: Option<String>,
    headers: Vec<(String, String)>,
    compression: Compression,
    acks: Acks,
    linger: Option<Duration>,
}

fn main() -> ExitCode {
    let help = "\
Writes each line of the standard input as a record.

    --topic TOPIC           where to (needed)
    --bootstrap LIST        brokers to ask first, as host:port,host:port (localhost:9092)
    --partition NUMBER      all to this partition (else by key; without keys, to one after the other)
    --key-separator TEXT    what is in front of it is the key (none: lines are values)
    --optional-keys         a line without the separator has no key (else it is an error)
    --null TEXT             a value that is this stands for none, which deletes its key in a compacted topic
    --header NAME=VALUE     on every record; more than once for several
    --compression CODEC     none | gzip | snappy | lz4 | zstd (none)
    --acks WHO              all | leader | none: who must have a record (all)
    --linger MILLISECONDS   how long a record may wait for others to travel with (5)

Ends with the input, or with Ctrl-C after the current line; what was read is written. Exits with 0 when all of it is,
1 when something is not, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match produce(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn read_options(mut arguments: Arguments) -> arguments::Result<Options> {
    let mut options = Options {
        bootstrap: "localhost:9092".to_owned(),
        topic: String::new(),
        partition: None,
        separator: None,
        is_key_optional: false,
        null: None,
        headers: Vec::new(),
        compression: Compression::None,
        acks: Acks::All,
        linger: None,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--topic" => options.topic = arguments.value(&option)?,
            "--partition" => {
                let text = arguments.value(&option)?;
                let partition = text.parse().ok().filter(|partition| *partition >= 0);
                options.partition = Some(partition.ok_or(format!("--partition {text:?} is no number from 0 on"))?);
            }
            "--key-separator" => {
                let text = arguments.value(&option)?;
                options.separator = Some(text).filter(|text| !text.is_empty());
            }
            "--optional-keys" => options.is_key_optional = true,
            "--null" => options.null = Some(arguments.value(&option)?),
            "--header" => {
                let text = arguments.value(&option)?;
                let (name, value) = text.split_once('=').ok_or(format!("--header {text:?} has no ="))?;
                options.headers.push((name.to_owned(), value.to_owned()));
            }
            "--compression" => options.compression = compression(&arguments.value(&option)?)?,
            "--acks" => options.acks = acks(&arguments.value(&option)?)?,
            "--linger" => {
                let text = arguments.value(&option)?;
                let milliseconds = text.parse().map_err(|_| format!("--linger {text:?} is no number"))?;
                options.linger = Some(Duration::from_millis(milliseconds));
            }
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.topic.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    if options.is_key_optional && options.separator.is_none() {
        return Err("--optional-keys needs --key-separator".to_owned());
    }
    Ok(options)
}

fn compression(text: &str) -> arguments::Result<Compression> {
    Ok(match text {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => {
            return Err(format!(
                "--compression {text:?} is none of none, gzip, snappy, lz4 and zstd"
            ));
        }
    })
}

fn acks(text: &str) -> arguments::Result<Acks> {
    Ok(match text {
        "all" => Acks::All,
        "leader" => Acks::Leader,
        "none" => Acks::None,
        _ => return Err(format!("--acks {text:?} is none of all, leader and none")),
    })
}

/// Whether all of it is written.
fn produce(options: &Options) -> Result<bool, Box<dyn Error>> {
    let client = Client::connect(&options.bootstrap)?;
    let mut producer = client.producer().compression(options.compression).acks(options.acks);
    if let Some(linger) = options.linger {
        producer = producer.linger(linger);
    }
    let run = Arc::new(Run {
        producer: producer.build()?,
        tally: Arc::default(),
        is_ending: AtomicBool::new(false),
    });
    let interrupted = Arc::clone(&run);
    if let Err(error) = ctrlc::set_handler(move || interrupted.interrupt()) {
        eprintln!("Ctrl-C will end this at once, and lose what was not written: {error}");
    }
    let sent = run.send_lines(options);
    if run.is_ending.swap(true, Ordering::SeqCst) {
        loop {
            // The thread of the signal ends the program, when what was read is written.
            thread::park();
        }
    }
    // Whatever has ended the reading: what was read before is written.
    let is_written = run.finish()?;
    sent?;
    Ok(is_written)
}

struct Run {
    producer: Producer,
    tally: Arc<Tally>,
    /// One thread ends it: whichever is first.
    is_ending: AtomicBool,
}

/// How long the end waits for what is on its way: a little more than each record has.
const WRITTEN: Duration = Duration::from_secs(130);

impl Run {
    fn send_lines(&self, options: &Options) -> Result<(), Box<dyn Error>> {
        let mut input = io::stdin().lock();
        let mut line = Vec::new();
        let mut progress = Progress::new();
        for number in 1.. {
            line.clear();
            if input.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let record = record(options, &line).ok_or_else(|| format!("line {number} has no key"))?;
            let tally = Arc::clone(&self.tally);
            let told = move |outcome| tally.add(number, outcome);
            // Waits when the buffer is full, so this is as fast as the brokers are, and no faster.
            let sent = self.producer.send_with(record, told);
            sent.map_err(|error| format!("line {number}: {error}"))?;
            progress.show(number);
        }
        Ok(())
    }

    /// On the thread of the signal: the one that reads may wait for a line that never comes.
    fn interrupt(&self) {
        if self.is_ending.swap(true, Ordering::SeqCst) {
            return;
        }
        let code = match self.finish() {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        };
        process::exit(code);
    }

    /// Waits for what is on its way, and tells how it went: whether all is written.
    fn finish(&self) -> klamm::Result<bool> {
        let report = self.producer.close(WRITTEN)?;
        for (place, records) in &report.undelivered {
            eprintln!("{place}: {records} records are not known to be written");
        }
        Ok(self.tally.tell())
    }
}

fn record<'a>(options: &'a Options, line: &'a [u8]) -> Option<Record<'a>> {
    let (key, value) = match &options.separator {
        None => (None, line),
        Some(separator) => match split(line, separator.as_bytes()) {
            Some((key, value)) => (Some(key), value),
            None if options.is_key_optional => (None, line),
            None => return None,
        },
    };
    let is_null = options.null.as_ref().is_some_and(|null| null.as_bytes() == value);
    let mut record = Record::to(&options.topic)
        .maybe_key(key)
        .maybe_value(Some(value).filter(|_| !is_null));
    if let Some(partition) = options.partition {
        record = record.partition(partition);
    }
    for (name, value) in &options.headers {
        record = record.header(name, value);
    }
    Some(record)
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|part| part == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// What became of the lines, by what their callbacks were told.
#[derive(Default)]
struct Tally {
    written: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    fn add(&self, line: u64, outcome: klamm::Result<RecordMetadata>) {
        let Err(error) = outcome else {
            self.written.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // One cause often fails thousands of lines.
        if self.failed.fetch_add(1, Ordering::Relaxed) < 5 {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.push(format!("line {line}: {error}"));
        }
    }

    /// Whether all are written.
    fn tell(&self) -> bool {
        let (written, failed) = (
            self.written.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        );
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for failure in &*failures {
            eprintln!("{failure}");
        }
        let untold = failed - failures.len() as u64;
        if untold > 0 {
            eprintln!("and {untold} more lines");
        }
        match failed {
            0 => eprintln!("{written} records written"),
            _ => eprintln!("{written} records written, {failed} not"),
        }
        failed == 0
    }
}

/// On the standard error, once a second, where somebody may be watching.
struct Progress {
    last: Instant,
    is_watched: bool,
}

impl Progress {
    fn new() -> Self {
        Self {
            last: now(),
            is_watched: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, lines: u64) {
        // The clock is not asked for every line.
        if self.is_watched && lines % 1024 == 0 && self.last.elapsed() >= Duration::from_secs(1) {
            eprintln!("{lines} lines read");
            self.last = now();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "people want to see it move")]
fn now() -> Instant {
    Instant::now()
}
