//! The arguments that every program takes, in whatever language it is written.

use std::{collections::HashMap, path::Path, str::FromStr, time::Duration};

use crate::Values;

/// What a program is to do.
#[derive(Debug)]
pub enum Task {
    Consume(Consume),
    Produce(Produce),
    Latency(Latency),
    Idle(Idle),
    LongPoll(LongPoll),
}

/// Read from the earliest offset of all partitions until so many messages were seen.
#[derive(Debug, Clone)]
pub struct Consume {
    pub bootstrap: String,
    pub topic: String,
    pub messages: u64,
    /// How long each message keeps the program busy.
    pub work: Duration,
    /// With settings for throughput, in place of the client's default.
    pub tuned: bool,
    /// One of several ways to consume, if the client has them.
    pub api: Option<String>,
    /// As the only member of a group with a name that is new.
    pub group: bool,
}

/// Write so many records, without keys, and wait until all are acknowledged by all.
#[derive(Debug)]
pub struct Produce {
    pub bootstrap: String,
    pub topic: String,
    pub messages: u64,
    pub values: Values,
    pub codec: Codec,
    pub tuned: bool,
    pub api: Option<String>,
}

/// Write and read so many records at a steady rate: see [`Delays`](crate::Delays).
#[derive(Debug, Clone)]
pub struct Latency {
    pub bootstrap: String,
    pub topic: String,
    pub messages: u64,
    /// Records a second.
    pub rate: u64,
    pub value_bytes: usize,
    pub tuned: bool,
}

/// Consume a topic in which nothing happens: see [`rest`](crate::rest).
#[derive(Debug, Clone)]
pub struct Idle {
    pub bootstrap: String,
    pub topic: String,
    pub time: Duration,
    pub tuned: bool,
}

/// Commit, ask for metadata and write, beside a long poll and without: see [`Calls`](crate::Calls).
#[derive(Debug, Clone)]
pub struct LongPoll {
    pub bootstrap: String,
    /// In which nothing happens.
    pub topic: String,
    /// Fetched by nobody: a record would end the wait of whoever waits for it.
    pub written: String,
    pub time: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Task {
    /// What the command line says.
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = args;
        let command = args.next().unwrap_or_default();
        let mut given = Given::new(args)?;
        let [bootstrap, topic] = [given.needed("bootstrap")?, given.needed("topic")?];
        let tuned = given.flag("tuned");
        let task = match command.as_str() {
            "consume" => Self::Consume(Consume {
                bootstrap,
                topic,
                messages: given.needed("messages")?,
                work: Duration::from_nanos(given.value("work-ns")?.unwrap_or(0)),
                tuned,
                api: given.value("api")?,
                group: given.flag("group"),
            }),
            "produce" => {
                let file: String = given.needed("values")?;
                let value_bytes = given.needed("value-bytes")?;
                Self::Produce(Produce {
                    bootstrap,
                    topic,
                    messages: given.needed("messages")?,
                    values: Values::read(Path::new(&file), value_bytes)?,
                    codec: given.value("compression")?.unwrap_or(Codec::None),
                    tuned,
                    api: given.value("api")?,
                })
            }
            "latency" => Self::Latency(Latency {
                bootstrap,
                topic,
                messages: given.needed("messages")?,
                rate: given.needed("rate")?,
                value_bytes: given.needed("value-bytes")?,
                tuned,
            }),
            "idle" => Self::Idle(Idle {
                bootstrap,
                topic,
                time: Duration::from_secs(given.needed("seconds")?),
                tuned,
            }),
            "longpoll" => Self::LongPoll(LongPoll {
                bootstrap,
                topic,
                written: given.needed("written")?,
                time: Duration::from_secs(given.needed("seconds")?),
            }),
            _ => {
                return Err(format!(
                    "{command:?} is none of consume, produce, latency, idle and longpoll"
                ));
            }
        };
        given.end()?;
        Ok(task)
    }
}

impl Codec {
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// As Kafka's own settings call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| format!("{name:?} is no codec"))
    }
}

/// Of `--name value` and `--flag` what has not been asked for yet.
struct Given(HashMap<String, Option<String>>);

impl Given {
    fn new(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = HashMap::new();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--");
            let name = name.ok_or_else(|| format!("{arg:?} is the value of no option"))?;
            let value = args.next_if(|next| !next.starts_with("--"));
            given.insert(name.to_owned(), value);
        }
        Ok(Self(given))
    }

    fn flag(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.remove(name).flatten() else {
            return Ok(None);
        };
        let parsed = value.parse();
        parsed.map(Some).map_err(|_| format!("--{name} cannot be {value:?}"))
    }

    fn needed<T: FromStr>(&mut self, name: &str) -> Result<T, String> {
        self.value(name)?.ok_or_else(|| format!("--{name} is missing"))
    }

    fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("--{name} means nothing here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Result<Task, String> {
        Task::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_stand_anywhere() {
        let line = "consume --tuned --bootstrap a:1 --group --topic t --messages 7 --work-ns 2000";
        let Ok(Task::Consume(task)) = task(line) else {
            panic!("not understood");
        };
        assert!(task.tuned && task.group && task.api.is_none());
        assert_eq!((task.messages, task.work), (7, Duration::from_micros(2)));
    }

    #[test]
    fn what_is_missing_wrong_or_unknown_is_named() {
        let complaint = |line| task(line).expect_err("refused");
        assert!(complaint("idle --bootstrap a:1 --topic t").contains("seconds"));
        assert!(complaint("idle --bootstrap a:1 --topic t --seconds x").contains("seconds"));
        assert!(complaint("idle --bootstrap a:1 --topic t --seconds 1 --rate 2").contains("rate"));
        assert!(complaint("read --bootstrap a:1 --topic t").contains("read"));
    }
}
