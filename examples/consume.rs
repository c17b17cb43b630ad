//! Shares topics with the other members of a group: `cargo run --example consume -- --group billing --topic orders`.

mod arguments;
mod output;

use std::{io, process::ExitCode, time::Duration};

use arguments::Arguments;
use klamm::{Client, CloseReport, Stream};
use output::{Format, Output};

struct Options {
    bootstrap: String,
    group: String,
    topics: Vec<String>,
    messages: u64,
    format: Format,
}

fn main() -> ExitCode {
    let help = "\
Reads topics together with the other members of a group, until Ctrl-C, and remembers how far it got.
Each line is: topic-partition offset key value

    --group GROUP       which group; programs with the same one share the partitions (needed)
    --topic TOPIC       which topic; more than once for several (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --messages N        ends after so many
    --json              a JSON object a line; what is not UTF-8 is {\"base64\": \"…\"}

A group that has committed nothing begins with the first record there is. What was done is told at the end, on the
standard error. Exits with 0 after Ctrl-C, 1 when something could not be read, written or committed, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match consume(&options) {
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
        group: String::new(),
        topics: Vec::new(),
        messages: u64::MAX,
        format: Format::Place,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--group" => options.group = arguments.value(&option)?,
            "--topic" => options.topics.push(arguments.value(&option)?),
            "--messages" => options.messages = arguments.number(&option)?,
            "--json" => options.format = Format::Json,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.group.is_empty() {
        return Err("--group is missing".to_owned());
    }
    if options.topics.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    Ok(options)
}

/// Whether all went well.
fn consume(options: &Options) -> klamm::Result<bool> {
    let client = Client::connect(&options.bootstrap)?;
    let stream = client.group(&options.group).topics(&options.topics).join()?;
    let closer = stream.closer();
    if let Err(error) = ctrlc::set_handler(move || closer.close()) {
        eprintln!("Ctrl-C will end this without goodbye: {error}");
    }
    let mut handled = Handled::default();
    let mut all_went_well = true;
    match write_all(&stream, options, &mut handled) {
        Err(error) if !output::is_over(&error) => {
            eprintln!("cannot write: {error}");
            all_went_well = false;
        }
        _ => {}
    }
    // Commits what is done, and leaves the group, so that the others need not wait for a session timeout.
    let report = stream.close(Duration::from_secs(10))?;
    handled.tell(&report);
    Ok(all_went_well && handled.errors == 0 && report.uncommitted.is_empty())
}

fn write_all(stream: &Stream, options: &Options, handled: &mut Handled) -> io::Result<()> {
    let mut output = Output::new(options.format);
    for message in stream {
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // It concerns one partition; the others go on.
                eprintln!("{error}");
                handled.errors += 1;
                continue;
            }
        };
        output.write(&message)?;
        // Before the loop turns, which says that this message is done.
        output.flush()?;
        handled.messages += 1;
        if handled.messages >= options.messages {
            // The loop will not turn again.
            message.ack();
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Handled {
    messages: u64,
    errors: u64,
}

impl Handled {
    fn tell(&self, report: &CloseReport) {
        let left = if report.left_group {
            "left the group"
        } else {
            "the group will notice after the session timeout"
        };
        if report.uncommitted.is_empty() {
            eprintln!("{} messages, all committed; {left}", self.messages);
        } else {
            eprintln!(
                "{} messages; {left}; these come again, since they could not be committed:",
                self.messages
            );
            for (partition, next) in &report.uncommitted {
                eprintln!("    {partition} below offset {next}");
            }
        }
    }
}
