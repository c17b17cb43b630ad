//! Follows topics as they grow, until Ctrl-C: `cargo run --example tail -- --topic orders`.

mod arguments;
mod output;

use std::{io, process::ExitCode, time::Duration};

use arguments::{Arguments, FROM};
use klamm::{Client, Next, StartAt, Stream};
use output::{Format, Output};

struct Options {
    bootstrap: String,
    topics: Vec<String>,
    from: StartAt,
    format: Format,
}

fn main() -> ExitCode {
    let help = format!(
        "\
Follows topics as they grow, until Ctrl-C. Each line is: topic-partition offset key value

    --topic TOPIC       which topic; more than once for several (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --from WHERE        {FROM}
                        (latest)
    --json              a JSON object a line; what is not UTF-8 is {{\"base64\": \"…\"}}

Exits with 0 after Ctrl-C, 1 when something could not be read, 2 when called wrongly."
    );
    let arguments = match Arguments::read(&help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match tail(options) {
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
        from: StartAt::Latest,
        format: Format::Place,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--topic" => options.topics.push(arguments.value(&option)?),
            "--from" => options.from = arguments::start(&arguments.value(&option)?)?,
            "--json" => options.format = Format::Json,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.topics.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    Ok(options)
}

/// Whether all went well until it was told to stop.
fn tail(options: Options) -> klamm::Result<bool> {
    let client = Client::connect(&options.bootstrap)?;
    let stream = client.reader().topics(&options.topics).start_at(options.from).open()?;
    let closer = stream.closer();
    if let Err(error) = ctrlc::set_handler(move || closer.close()) {
        eprintln!("Ctrl-C will end this without goodbye: {error}");
    }
    let mut all_went_well = true;
    match follow(&stream, &mut Output::new(options.format), &mut all_went_well) {
        Err(error) if !output::is_over(&error) => {
            eprintln!("cannot write: {error}");
            all_went_well = false;
        }
        _ => {}
    }
    stream.close(Duration::from_secs(5))?;
    Ok(all_went_well)
}

fn follow(stream: &Stream, output: &mut Output, all_went_well: &mut bool) -> io::Result<()> {
    let mut messages = stream.iter();
    loop {
        let next = match messages.next_timeout(Duration::ZERO) {
            // Nothing to do: what was written so far shall be seen before this waits.
            Ok(Next::TimedOut) => {
                output.flush()?;
                messages.next()
            }
            Ok(Next::Message(message)) => Some(Ok(message)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        match next {
            Some(Ok(message)) => output.write(&message)?,
            Some(Err(error)) => {
                // It concerns one partition; the others go on.
                eprintln!("{error}");
                *all_went_well = false;
            }
            None => return output.flush(),
        }
    }
}
