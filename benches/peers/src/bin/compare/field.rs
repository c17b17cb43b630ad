//! Where races are held: a broker, its topics, and what is in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    contenders::{self, Contender},
    longpoll,
    options::Options,
    race::turns,
    rows::{A_SECOND, Kind, Load, Trial},
    runs::{Race, Run, Turn},
    support::{fast_java_tool, run_folder},
    topics::Topics,
    watch::Watch,
};

/// Values: as benches of writing have them, so many that no codec sees one twice, and few enough to stay near the
/// processor.
const POOL: usize = 4 << 20;

pub(crate) struct Field<'a> {
    options: &'a Options,
    topics: Topics,
    /// In a cluster behind a proxy: for who is to be watched.
    watched: Option<Topics>,
    /// Topics to read from, with the number of their records.
    filled: Vec<(Filled, u64, String)>,
    /// For values, and for what programs say; goes when this program does.
    folder: &'static Path,
}

/// What is in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Filled {
    load: Load,
    partitions: usize,
    idle_partitions: usize,
}

impl<'a> Field<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        Self {
            options,
            topics: Topics::new(options.bootstrap.clone()),
            watched: None,
            filled: Vec::new(),
            folder: run_folder(),
        }
    }

    /// All rounds of all who take part.
    pub(crate) fn race(&mut self, trial: &Trial, contenders: &[Contender]) -> Vec<Race> {
        let contenders: Vec<_> = contenders.iter().filter(|one| one.takes_part(trial.kind)).collect();
        let to_read = self.topics_of(trial);
        if trial.kind == Kind::LongPoll && self.options.bootstrap.is_none() {
            self.watched = Some(longpoll::topics());
        }
        let mut failures = vec![None; contenders.len()];
        let mut turn = |at: usize| {
            if failures[at].is_some() {
                return None;
            }
            let turn = self.turn(trial, &to_read, contenders[at]);
            // What a run leaves in the broker is over before the next one begins.
            thread::sleep(Duration::from_millis(50));
            turn.map_err(|failure| failures[at] = Some(failure)).ok()
        };
        for at in (0..contenders.len()).filter(|&at| warms_up(trial.kind, contenders[at])) {
            turn(at);
        }
        let rounds = match trial.kind {
            // Nothing is there to vary, or nobody is compared with others.
            Kind::Idle | Kind::LongPoll => 1,
            _ => self.options.rounds,
        };
        let turns = turns(rounds, contenders.len(), turn);
        let races = contenders.iter().zip(turns).zip(failures);
        races
            .map(|((contender, turns), failure)| Race::new(contender, turns, failure))
            .collect()
    }

    /// Deletes what the last row has read.
    pub(crate) fn clear(&mut self) {
        for (_, _, topic) in self.filled.drain(..) {
            self.topics.delete(&topic);
        }
        self.watched = None;
    }

    fn turn(&self, trial: &Trial, to_read: &[String], contender: &Contender) -> Result<Turn, String> {
        eprintln!("{}: {}", trial.name, contender.name);
        match trial.kind {
            Kind::Read | Kind::Neighbours(_) => {
                let runs = to_read.iter().map(|topic| self.read(trial, topic, contender));
                runs.collect()
            }
            Kind::Write => Ok(vec![self.write(trial, contender)?]),
            Kind::Latency => Ok(vec![self.delay(trial, contender)?]),
            Kind::Idle => Ok(vec![self.rest(trial, contender)?]),
            Kind::LongPoll => Ok(vec![self.wait(trial, contender)?]),
        }
    }

    fn read(&self, trial: &Trial, topic: &str, contender: &Contender) -> Result<Run, String> {
        // With work to do for each message, nobody is slow.
        let part = if trial.work_ns == 0 {
            contender.reads_one_in()
        } else {
            1
        };
        let messages = (trial.messages / part).max(1);
        let mut command = self.command(contender, "consume", topic);
        command.args(["--messages", &messages.to_string()]);
        if trial.work_ns > 0 {
            command.args(["--work-ns", &trial.work_ns.to_string()]);
        }
        self.run(command, messages)
    }

    fn write(&self, trial: &Trial, contender: &Contender) -> Result<Run, String> {
        let values = self.values(&trial.load, b"");
        let messages = (trial.messages / contender.writes_one_in()).max(1);
        let topic = self.topics.create(trial.partitions);
        let mut command = self.command(contender, "produce", &topic);
        command
            .args(["--messages", &messages.to_string()])
            .arg("--values")
            .arg(values)
            .args(["--value-bytes", &trial.load.value_bytes.to_string()])
            .args(["--compression", trial.load.codec]);
        let run = self.run(command, messages);
        let written = self.topics.records_in(&topic, trial.partitions) as u64;
        self.topics.delete(&topic);
        match run {
            Ok(_) if written != messages => Err(format!("{written} records are there, not {messages}")),
            run => run,
        }
    }

    fn delay(&self, trial: &Trial, contender: &Contender) -> Result<Run, String> {
        let topic = self.topics.create(trial.partitions);
        let mut command = self.command(contender, "latency", &topic);
        command
            .args(["--messages", &trial.messages.to_string()])
            .args(["--rate", &A_SECOND.to_string()])
            .args(["--value-bytes", &trial.load.value_bytes.to_string()]);
        let run = self.run(command, trial.messages);
        self.topics.delete(&topic);
        run
    }

    fn rest(&self, trial: &Trial, contender: &Contender) -> Result<Run, String> {
        let topic = self.topics.create(trial.partitions);
        let mut command = self.command(contender, "idle", &topic);
        command.args(["--seconds", &trial.seconds.to_string()]);
        let run = self.run(command, 0);
        self.topics.delete(&topic);
        run
    }

    fn wait(&self, trial: &Trial, contender: &Contender) -> Result<Run, String> {
        let topics = self.watched.as_ref().unwrap_or(&self.topics);
        let watch = self.watched.as_ref().map(|topics| Watch::over(topics.kafka().proxy(1)));
        let [read, written] = [(), ()].map(|()| topics.create(trial.partitions));
        let mut command = command(contender, "longpoll", topics, &read);
        command
            .args(["--written", &written])
            .args(["--seconds", &trial.seconds.to_string()]);
        let mut run = self.run(command, 0);
        if let (Ok(run), Some(watch)) = (&mut run, watch) {
            longpoll::add_seen(run, &watch);
        }
        [read, written].iter().for_each(|topic| topics.delete(topic));
        run
    }

    fn command(&self, contender: &Contender, task: &str, topic: &str) -> Command {
        command(contender, task, &self.topics, topic)
    }

    fn run(&self, command: Command, messages: u64) -> Result<Run, String> {
        Run::of(command, messages, self.options.limit, self.folder)
    }

    // ---- what is read ----

    /// The topics of a trial: one, or the busy partitions alone and among idle ones.
    fn topics_of(&mut self, trial: &Trial) -> Vec<String> {
        let idle_partitions = match trial.kind {
            Kind::Read => vec![0],
            Kind::Neighbours(all) => vec![0, all - trial.partitions],
            Kind::Write | Kind::Latency | Kind::Idle | Kind::LongPoll => vec![],
        };
        let wanted = idle_partitions.into_iter().map(|idle_partitions| Filled {
            load: trial.load,
            partitions: trial.partitions,
            idle_partitions,
        });
        wanted.map(|wanted| self.filled(wanted, trial.messages)).collect()
    }

    /// Kafka's own producer fills a topic before the idle partitions are there.
    fn filled(&mut self, wanted: Filled, records: u64) -> String {
        // A topic may hold more than is read.
        let suits = |(filled, holds, _): &&(Filled, u64, String)| *filled == wanted && *holds >= records;
        if let Some((_, _, topic)) = self.filled.iter().find(suits) {
            return topic.clone();
        }
        let Filled {
            load,
            partitions,
            idle_partitions,
        } = wanted;
        eprintln!(
            "{records} records of {} bytes, {}, in {partitions} of {} partitions",
            load.value_bytes,
            load.codec,
            partitions + idle_partitions
        );
        let topic = self.topics.create(partitions);
        self.fill(&topic, &load, records);
        let found = self.topics.records_in(&topic, partitions) as u64;
        assert_eq!(found, records, "all that was written is there");
        if idle_partitions > 0 {
            self.topics.grow(&topic, partitions + idle_partitions);
        }
        self.filled.push((wanted, records, topic.clone()));
        topic
    }

    fn fill(&self, topic: &str, load: &Load, records: u64) {
        let [records, codec] = [records.to_string(), format!("compression.type={}", load.codec)];
        let bootstrap = format!("bootstrap.servers={}", self.topics.bootstrap());
        let lines = self.values(load, b"\n").display().to_string();
        let what = ["--topic", topic, "--num-records", &records, "--payload-file", &lines];
        let settings = ["acks=1", "batch.size=65536", "linger.ms=5", &codec, &bootstrap];
        let args = [&what[..], &["--throughput", "-1", "--producer-props"], &settings].concat();
        fast_java_tool("org.apache.kafka.tools.ProducerPerformance", &args);
    }

    /// A file with some, one behind the other.
    fn values(&self, load: &Load, delimiter: &[u8]) -> PathBuf {
        let kind = if delimiter.is_empty() { "values" } else { "lines" };
        let file = self.folder.join(format!("{}-{}-{kind}", load.codec, load.value_bytes));
        if !file.is_file() {
            let values: Vec<_> = (0..POOL / load.value_bytes).map(|i| load.value(i)).collect();
            fs::write(&file, values.join(delimiter)).expect("values can be written");
        }
        file
    }
}

/// Whether it runs once before all, for nothing: so that caches are full, and the broker is warm.
fn warms_up(kind: Kind, contender: &Contender) -> bool {
    match kind {
        Kind::Read | Kind::Write | Kind::Neighbours(_) => !contender.tuned,
        // Each warms up for itself, when the broker has.
        Kind::Latency => contenders::is_floor(&contender.name) || contenders::is_klamm(&contender.name),
        Kind::Idle | Kind::LongPoll => false,
    }
}

fn command(contender: &Contender, task: &str, topics: &Topics, topic: &str) -> Command {
    let mut command = contender.command(task);
    command
        .args(["--bootstrap", &topics.bootstrap()])
        .args(["--topic", topic]);
    command
}
