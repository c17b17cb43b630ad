//! Stores messages in files, each of them at least once handled and exactly once there, wherever it is killed:
//! `cargo run --example at_least_once -- --group archive --topic orders --into archive`.

mod arguments;
mod store;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use arguments::Arguments;
use klamm::{AckMode, Batch, Client, Message, Stream};
use store::Store;

struct Options {
    bootstrap: String,
    group: String,
    topics: Vec<String>,
    into: PathBuf,
    instance: Option<String>,
}

fn main() -> ExitCode {
    let help = "\
Stores what comes in topics, until Ctrl-C: one file per partition, one line per message, with offset, checksum, key and
value. It may be killed at any time, and any number of them may share a group and a folder: nothing is missing, and
nothing is there twice.

    --group GROUP       which group; programs with the same one share the partitions (needed)
    --topic TOPIC       which topic; more than once for several (needed)
    --into FOLDER       where the files are to be (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --instance NAME     a name for this member, unlike that of every other: killed and started again, it goes on at once,
                        where else the group waits for a session timeout

A topic that was deleted and made anew needs a new folder: its offsets begin anew.
Exits with 0 after Ctrl-C, 1 when something could not be read, stored or committed, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match archive(options) {
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
        into: PathBuf::new(),
        instance: None,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--group" => options.group = arguments.value(&option)?,
            "--topic" => options.topics.push(arguments.value(&option)?),
            "--into" => options.into = arguments.value(&option)?.into(),
            "--instance" => options.instance = Some(arguments.value(&option)?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.group.is_empty() {
        return Err("--group is missing".to_owned());
    }
    if options.topics.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    if options.into.as_os_str().is_empty() {
        return Err("--into is missing".to_owned());
    }
    Ok(options)
}

/// Whether all went well.
fn archive(options: Options) -> Result<bool, Box<dyn Error>> {
    let mut store = Store::open(&options.into)?;
    let client = Client::connect(&options.bootstrap)?;
    // Only what this program says is done will be committed.
    let mut group = client
        .group(options.group)
        .topics(options.topics)
        .ack_mode(AckMode::Explicit);
    if let Some(name) = options.instance {
        group = group.instance_id(name);
    }
    let stream = group.join()?;
    let closer = stream.closer();
    if let Err(error) = ctrlc::set_handler(move || closer.close()) {
        eprintln!("Ctrl-C will end this without goodbye, which does no harm: {error}");
    }
    let mut done = Done::default();
    let outcome = store_all(&stream, &mut store, &mut done);
    // What was stored is committed, also when something has failed.
    let report = stream.close(Duration::from_secs(10))?;
    outcome?;
    eprintln!("{} messages stored, {} were there already", done.new, done.known);
    for (partition, next) in &report.uncommitted {
        eprintln!("{partition} below offset {next} comes again, since that could not be committed");
    }
    Ok(done.errors == 0 && report.uncommitted.is_empty())
}

#[derive(Default)]
struct Done {
    new: usize,
    known: usize,
    errors: usize,
}

fn store_all(stream: &Stream, store: &mut Store, done: &mut Done) -> Result<(), Box<dyn Error>> {
    // A batch is what there is of one partition: the busier it is, the fewer waits for the disk.
    for batch in stream.batches() {
        match batch {
            Ok(batch) => store_batch(&batch, store, done)?,
            Err(error) => {
                // It concerns one partition; the others go on.
                eprintln!("{error}");
                done.errors += 1;
            }
        }
    }
    Ok(())
}

fn store_batch(batch: &Batch, store: &mut Store, done: &mut Done) -> Result<(), Box<dyn Error>> {
    let messages: Vec<Message> = batch.iter().collect::<klamm::Result<_>>()?;
    let new = store.write(batch.topic(), batch.partition(), &messages)?;
    done.new += new;
    done.known += messages.len() - new;
    // It is on the disk: from now on it need not come again. Killed before this is committed, it does come again, and
    // the store knows it. That this member has lost the partition meanwhile (false) is no different.
    batch.ack();
    Ok(())
}
