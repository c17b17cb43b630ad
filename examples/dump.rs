//! Writes out what a topic holds now, and ends: `cargo run --example dump -- --topic orders`.

#![allow(clippy::disallowed_methods, reason = "progress goes by the clock")]

mod arguments;
mod output;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use arguments::{Arguments, FROM};
use klamm::{Client, Isolation, StartAt, Stream};
use output::{Format, Output};

struct Options {
    bootstrap: String,
    topics: Vec<String>,
    from: StartAt,
    isolation: Isolation,
    format: Format,
}

fn main() -> ExitCode {
    let help = format!(
        "\
Writes out what topics hold now, a value a line, and ends.

    --topic TOPIC       which topic; more than once for several (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --from WHERE        {FROM}
                        (earliest)
    --isolation LEVEL   committed | uncommitted: whether to leave out aborted and open transactions (committed)
    --keys              the key and a tab before each value
    --json              a JSON object a line; what is not UTF-8 is {{\"base64\": \"…\"}}

Progress is shown on a terminal. Exits with 0, 1 when something could not be read, 2 when called wrongly."
    );
    let arguments = match Arguments::read(&help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match dump(options) {
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
        topics: Vec::new(),
        from: StartAt::Earliest,
        isolation: Isolation::ReadCommitted,
        format: Format::Value,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--topic" => options.topics.push(arguments.value(&option)?),
            "--from" => options.from = arguments::start(&arguments.value(&option)?)?,
            "--isolation" => {
                options.isolation = match &*arguments.value(&option)? {
                    "committed" => Isolation::ReadCommitted,
                    "uncommitted" => Isolation::ReadUncommitted,
                    other => return Err(format!("--isolation {other:?} is neither committed nor uncommitted")),
                };
            }
            "--keys" if options.format != Format::Json => options.format = Format::KeyAndValue,
            "--keys" => {} // JSON has them
            "--json" => options.format = Format::Json,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.topics.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    Ok(options)
}

/// Whether everything could be read.
fn dump(options: Options) -> klamm::Result<bool> {
    let client = Client::connect(&options.bootstrap)?;
    let reader = client.reader().topics(&options.topics).start_at(options.from);
    let stream = reader.isolation(options.isolation).until_end().open()?;
    let mut progress = Progress::new();
    let done = write_all(&stream, &mut Output::new(options.format), &mut progress);
    progress.end();
    match done {
        Err(error) if !output::is_over(&error) => {
            eprintln!("cannot write: {error}");
            Ok(false)
        }
        _ => Ok(progress.errors == 0),
    }
}

fn write_all(stream: &Stream, output: &mut Output, progress: &mut Progress) -> io::Result<()> {
    for message in stream {
        match message {
            Ok(message) => output.write(&message)?,
            Err(error) => {
                // It concerns one partition; the others go on.
                eprintln!("{error}");
                progress.errors += 1;
            }
        }
        progress.count();
    }
    output.flush()
}

/// How much was read, and how fast, for whoever watches.
struct Progress {
    started: Instant,
    shown: Instant,
    is_shown: bool,
    messages: u64,
    errors: u64,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            shown: now,
            is_shown: io::stderr().is_terminal(),
            messages: 0,
            errors: 0,
        }
    }

    fn count(&mut self) {
        self.messages += 1;
        // The clock costs more than a message.
        if self.is_shown && self.messages % 1024 == 0 && self.shown.elapsed() > Duration::from_millis(500) {
            self.shown = Instant::now();
            self.show('\r');
        }
    }

    fn end(&self) {
        if self.is_shown {
            self.show('\n');
        }
    }

    fn show(&self, end: char) {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let rate = self.messages as f64 / seconds;
        let mut to = io::stderr().lock();
        // Nobody is told that nobody can be told.
        let _ = write!(to, "{} messages in {seconds:.1} s, {rate:.0}/s   {end}", self.messages);
    }
}
