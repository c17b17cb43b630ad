//! Hands messages to a pool of threads: `cargo run --example worker_pool -- --group billing --topic orders --workers 8`.

#![allow(clippy::disallowed_methods, reason = "its work is to sleep")]

mod arguments;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use arguments::Arguments;
use crossbeam_channel::{Receiver, bounded};
use klamm::{AckMode, Client, Message};

struct Options {
    bootstrap: String,
    group: String,
    topics: Vec<String>,
    workers: usize,
    work: Duration,
}

fn main() -> ExitCode {
    let help = "\
Hands the messages of topics to a pool of threads, which do some work (they sleep) and print where each was, in any
order, until Ctrl-C. What is in the pool then is finished, and committed.

    --group GROUP       which group; programs with the same one share the partitions (needed)
    --topic TOPIC       which topic; more than once for several (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --workers N         how many threads (4)
    --work MS           how long they work for a message at most, in milliseconds (10)

Exits with 0 after Ctrl-C, 1 when something could not be read or committed, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match run(&options) {
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
        workers: 4,
        work: Duration::from_millis(10),
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--group" => options.group = arguments.value(&option)?,
            "--topic" => options.topics.push(arguments.value(&option)?),
            "--workers" => options.workers = arguments.number(&option)?.try_into().unwrap_or(usize::MAX),
            "--work" => options.work = Duration::from_millis(arguments.number(&option)?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if options.group.is_empty() {
        return Err("--group is missing".to_owned());
    }
    if options.topics.is_empty() {
        return Err("--topic is missing".to_owned());
    }
    if options.workers > 1000 {
        return Err(format!("--workers {} is more than 1000", options.workers));
    }
    Ok(options)
}

/// Whether all went well.
fn run(options: &Options) -> klamm::Result<bool> {
    let client = Client::connect(&options.bootstrap)?;
    // Asking for the next message says nothing about those that the pool has.
    let group = client
        .group(&options.group)
        .topics(&options.topics)
        .ack_mode(AckMode::Explicit);
    let stream = group.join()?;
    let closer = stream.closer();
    if let Err(error) = ctrlc::set_handler(move || closer.close()) {
        eprintln!("Ctrl-C will end this without goodbye: {error}");
    }
    let (done, lost) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut errors = 0;
    thread::scope(|scope| {
        // Enough that nobody waits for the thread that reads; what waits here may have to be given up in a rebalance.
        let (sender, receiver) = bounded::<Message>(options.workers);
        for _ in 0..options.workers {
            let (messages, done, lost) = (receiver.clone(), &done, &lost);
            scope.spawn(move || work(&messages, options.work, done, lost));
        }
        drop(receiver);
        for message in &stream {
            match message {
                Ok(message) => {
                    if sender.send(message).is_err() {
                        break; // no worker is left
                    }
                }
                Err(error) => {
                    // It concerns one partition; the others go on.
                    eprintln!("{error}");
                    errors += 1;
                }
            }
        }
        // The sender goes, so that the workers finish what they have, and end; the scope waits for them. Until the stream
        // itself is closed, their acks count.
    });
    let report = stream.close(Duration::from_secs(10))?;
    let (done, lost) = (done.into_inner(), lost.into_inner());
    eprintln!("{done} messages done, {lost} of them for partitions that others have by now");
    for (partition, next) in &report.uncommitted {
        eprintln!("{partition} below offset {next} comes again, since that could not be committed");
    }
    Ok(errors == 0 && report.uncommitted.is_empty())
}

fn work(messages: &Receiver<Message>, most: Duration, done: &AtomicU64, lost: &AtomicU64) {
    for message in messages {
        // Some messages take longer than others.
        thread::sleep(most * u32::try_from(message.offset() % 10 + 1).unwrap_or(1) / 10);
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        if writeln!(io::stdout(), "{topic}-{partition} {offset}").is_err() {
            return; // as with `| head`: nobody wants to know any more
        }
        // Only now. One that fails is not acked: what is behind it is not committed before it, and it comes again.
        if !message.ack() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}
