//! See klamm at work, with nothing but cargo: `cargo run --example quickstart`.
//!
//! It brings a broker along: one that runs inside this program. With `--bootstrap host:port` it uses yours.

#![allow(
    clippy::disallowed_methods,
    reason = "its members are threads, and it does not wait for ever"
)]

mod arguments;

use std::{
    collections::BTreeMap,
    process::{self, ExitCode},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arguments::Arguments;
use klamm::{Client, Closer, Error, Event, NewTopic, Record, Result, Stream, TopicPartition};
use klamm_fake::FakeCluster;

const PARTITIONS: i32 = 4;
const ORDERS: usize = 12;
const CUSTOMERS: [&str; 6] = ["Ada", "Boris", "Chloe", "Diego", "Elif", "Filip"];

/// Longer than all of it takes on a slow machine: who waits for longer has a broker in trouble.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let help = "\
Writes a few records, reads them as a group of one and then of two, and shows what was committed.

    --bootstrap LIST    brokers of yours, as host:port,host:port (a broker inside this program)

Makes a topic, and deletes it in the end. Exits with 0 when all went well, 1 when not, 2 when called wrongly.";
    let mut arguments = match Arguments::read(help) {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let bootstrap = match read_options(&mut arguments) {
        Ok(bootstrap) => bootstrap,
        Err(what) => return arguments::wrong(&what),
    };
    match bootstrap.map_or_else(with_a_broker_of_its_own, |bootstrap| show(&bootstrap)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn read_options(arguments: &mut Arguments) -> arguments::Result<Option<String>> {
    let mut bootstrap = None;
    while let Some(option) = arguments.option()? {
        match &*option {
            "--bootstrap" => bootstrap = Some(arguments.value(&option)?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(bootstrap)
}

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn with_a_broker_of_its_own() -> Outcome {
    let cluster = FakeCluster::builder().start()?;
    println!("A broker runs inside this program. It is made for tests, and forgets everything in the end.");
    show(&cluster.bootstrap())
}

fn show(bootstrap: &str) -> Outcome {
    // Names that nobody else has, since the cluster may be a real one.
    let topic = &format!("quickstart-{}", process::id());
    let client = Client::connect(bootstrap)?;
    println!("Connected to {bootstrap}.");

    title("A topic is a log that is cut into partitions");
    let admin = client.admin();
    admin.create_topics([NewTopic::new(topic, PARTITIONS, 1)])?.all()?;
    println!("{topic} has {PARTITIONS} of them, so up to {PARTITIONS} programs can share the reading.");
    let outcome = read_and_write(&client, topic);
    admin.delete_topics([topic.as_str()])?.all()?;
    outcome
}

fn read_and_write(client: &Client, topic: &str) -> Outcome {
    title("Writing");
    write(client, topic, 0)?;
    println!("Records of one key (here: the customer) are in one partition, and stay in order.");

    title("Reading, as a group with one member");
    let (tell, news) = channel();
    let mut news = News::new(news);
    let anna = Member::join("anna", client, topic, &tell)?;
    news.wait_for("all orders to be read", |news| news.read == ORDERS)?;
    println!("anna has all partitions, and has read all there is.");

    title("A second member joins: the group shares its partitions out anew (a rebalance)");
    let bert = Member::join("bert", client, topic, &tell)?;
    news.wait_for("both to have partitions", |news| {
        news.has("anna") == 2 && news.has("bert") == 2
    })?;
    write(client, topic, ORDERS)?;
    news.wait_for("all orders to be read", |news| news.read == 2 * ORDERS)?;
    println!("Each order was read once, by one of the two. What anna had finished did not come again.");

    title("A member leaves: the other takes over");
    anna.leave()?;
    news.wait_for("bert to have all partitions", |news| {
        news.has("bert") == PARTITIONS as usize
    })?;

    title("What was committed");
    bert.stream.commit(Duration::from_secs(10))?;
    let partitions = (0..PARTITIONS).map(|partition| (topic, partition));
    let committed: BTreeMap<_, _> = bert.stream.committed(partitions)?.into_iter().collect();
    for (partition, next) in &committed {
        println!("{partition}: everything below offset {next} is done");
    }
    println!("Whoever joins this group next goes on there, also after a crash.");
    bert.leave()?;
    println!();
    println!("That was all. The loop that read is in examples/quickstart.rs: see `for message in &stream`.");
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}");
}

/// Writes some orders, and waits until the broker has each.
fn write(client: &Client, topic: &str, first: usize) -> Result<()> {
    let producer = client.producer().build()?;
    let mut deliveries = Vec::new();
    for number in first..first + ORDERS {
        let customer = CUSTOMERS[number % CUSTOMERS.len()];
        let order = format!("order {number}");
        // Goes into a batch in memory; another thread sends that.
        deliveries.push((customer, producer.send(Record::to(topic).key(customer).value(&order))?));
    }
    for (customer, delivery) in deliveries {
        let written = delivery.wait(Duration::from_secs(10))?;
        let offset = written.offset.unwrap_or(-1);
        println!(
            "written: {customer:>5}'s to partition {} at offset {offset}",
            written.partition
        );
    }
    producer.close(Duration::from_secs(10))?;
    Ok(())
}

/// A program that reads; here it is a thread.
struct Member {
    stream: Arc<Stream>,
    closer: Closer,
    reads: JoinHandle<()>,
}

impl Member {
    fn join(name: &'static str, client: &Client, topic: &str, tell: &Sender<Told>) -> Result<Self> {
        let stream = client
            .group(topic)
            .topics([topic])
            // A member learns by its heartbeat that somebody has joined: every 3 s is usual, and long to look at.
            .heartbeat_interval(Duration::from_millis(200))
            .join()?;
        let stream = Arc::new(stream);
        let (events, told) = (stream.events(), tell.clone());
        thread::spawn(move || {
            for event in events {
                if let Event::Rebalanced { current, .. } = event {
                    let mut partitions: Vec<i32> = current.iter().map(TopicPartition::partition).collect();
                    partitions.sort_unstable();
                    println!("{name} has partitions {partitions:?} now");
                    told.send(Told::Has(name, partitions.len())).ok();
                }
            }
        });
        let (closer, told) = (stream.closer(), tell.clone());
        let stream_to_read = Arc::clone(&stream);
        let reads = thread::spawn(move || {
            if let Err(error) = read(name, &stream_to_read, &told) {
                told.send(Told::Failed(error)).ok();
            }
        });
        Ok(Self { stream, closer, reads })
    }

    /// Ends the loop, commits, and says goodbye to the group.
    fn leave(self) -> Result<()> {
        self.closer.close();
        self.reads.join().expect("reading does not panic");
        if let Some(stream) = Arc::into_inner(self.stream) {
            stream.close(Duration::from_secs(10))?;
        }
        Ok(())
    }
}

/// The loop that all is about: asking for the next message says that the one before is done.
fn read(name: &str, stream: &Stream, tell: &Sender<Told>) -> Result<()> {
    for message in stream {
        let message = message?;
        let customer = String::from_utf8_lossy(message.key().unwrap_or_default());
        let order = String::from_utf8_lossy(message.value().unwrap_or_default());
        println!("{name} reads partition {}: {order} of {customer}", message.partition());
        tell.send(Told::Read).ok();
    }
    Ok(())
}

/// What members tell the main thread.
enum Told {
    Read,
    Has(&'static str, usize),
    Failed(Error),
}

/// What was told so far.
struct News {
    told: Receiver<Told>,
    read: usize,
    has: BTreeMap<&'static str, usize>,
}

impl News {
    fn new(told: Receiver<Told>) -> Self {
        Self {
            told,
            read: 0,
            has: BTreeMap::new(),
        }
    }

    fn has(&self, name: &str) -> usize {
        self.has.get(name).copied().unwrap_or(0)
    }

    fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            match self.told.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Told::Read) => self.read += 1,
                Ok(Told::Has(name, partitions)) => drop(self.has.insert(name, partitions)),
                Ok(Told::Failed(error)) => return Err(error.into()),
                Err(RecvTimeoutError::Timeout) => return Err(format!("{PATIENCE:?} were too short for {what}").into()),
                Err(RecvTimeoutError::Disconnected) => return Err("all members have ended".into()),
            }
        }
        Ok(())
    }
}
