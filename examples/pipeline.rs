//! Reads a topic, and writes what it makes of it to another one:
//! `cargo run --example pipeline -- --group shout --from orders --to orders-in-capitals`.

mod arguments;

use std::{process::ExitCode, time::Duration};

use arguments::Arguments;
use klamm::{AckMode, Batch, Client, Delivery, Message, Producer, Record, Stream};

struct Options {
    bootstrap: String,
    group: String,
    from: String,
    to: String,
    instance: Option<String>,
}

fn main() -> ExitCode {
    let help = "\
Reads a topic, and writes each message in capitals to another one, until Ctrl-C. It may be killed at any time, and any
number of them may share a group: no message is left out. One that comes again after a kill is written again.

    --group GROUP       which group; programs with the same one share the partitions (needed)
    --from TOPIC        what to read (needed)
    --to TOPIC          what to write (needed)
    --bootstrap LIST    brokers to ask first, as host:port,host:port (localhost:9092)
    --instance NAME     a name for this member, unlike that of every other: killed and started again, it goes on at once,
                        where else the group waits for a session timeout

Exits with 0 after Ctrl-C, 1 when something could not be read or written, 2 when called wrongly.";
    let arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let options = match read_options(arguments) {
        Ok(options) => options,
        Err(what) => return arguments::wrong(&what),
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
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
        from: String::new(),
        to: String::new(),
        instance: None,
    };
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => options.bootstrap = arguments.value(&option)?,
            "--group" => options.group = arguments.value(&option)?,
            "--from" => options.from = arguments.value(&option)?,
            "--to" => options.to = arguments.value(&option)?,
            "--instance" => options.instance = Some(arguments.value(&option)?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    for (name, value) in [
        ("--group", &options.group),
        ("--from", &options.from),
        ("--to", &options.to),
    ] {
        if value.is_empty() {
            return Err(format!("{name} is missing"));
        }
    }
    Ok(options)
}

fn run(options: &Options) -> klamm::Result<()> {
    let client = Client::connect(&options.bootstrap)?;
    let producer = client.producer().build()?;
    // Only what this program says is done will be committed.
    let mut group = client
        .group(&options.group)
        .topics([&options.from])
        .ack_mode(AckMode::Explicit);
    if let Some(instance) = &options.instance {
        group = group.instance_id(instance);
    }
    let stream = group.join()?;
    let closer = stream.closer();
    if let Err(error) = ctrlc::set_handler(move || closer.close()) {
        eprintln!("Ctrl-C will end this without goodbye, which does no harm: {error}");
    }
    let outcome = pass_on(&stream, &producer, &options.to);
    // What was written is committed, also when something has failed.
    let report = stream.close(Duration::from_secs(10))?;
    for (partition, next) in &report.uncommitted {
        eprintln!("{partition} below offset {next} comes again, since that could not be committed");
    }
    eprintln!("{} messages passed on", outcome?);
    Ok(())
}

/// Gives the number of messages.
fn pass_on(stream: &Stream, producer: &Producer, to: &str) -> klamm::Result<usize> {
    let mut passed = 0;
    // A batch is what there is of one partition: the busier it is, the more travels together.
    for batch in stream.batches() {
        let batch = batch?;
        let sent = send_all(&batch, producer, to)?;
        for outcome in Delivery::wait_all(&sent, WRITTEN) {
            outcome?; // not acked: the whole batch comes again
        }
        batch.ack(); // it is in the other topic: it need not come again
        passed += sent.len();
    }
    Ok(passed)
}

/// A little more than each record has until klamm gives it up.
const WRITTEN: Duration = Duration::from_secs(130);

fn send_all(batch: &Batch, producer: &Producer, to: &str) -> klamm::Result<Vec<Delivery>> {
    let send = |message: klamm::Result<Message>| {
        let message = message?;
        let capitals = message.value().map(<[u8]>::to_ascii_uppercase);
        // With its key, so that what belongs together stays together, and in order.
        let record = Record::to(to)
            .maybe_key(message.key())
            .maybe_value(capitals.as_deref())
            .headers(message.headers())
            .timestamp(message.timestamp());
        producer.send(record)
    };
    batch.iter().map(send).collect()
}
