//! What a member process is told, by its environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use klamm::{AckMode, Assignor, Client, CommitOrder, GroupBuilder, Stream};

use crate::support::Kafka;

const PREFIX: &str = "KLAMM_MEMBER_";

/// How a member's program is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// `for message in &stream { work }`
    #[default]
    Loop,
    /// Messages are moved to a pool of so many threads, and acked there by name.
    Pool(usize),
    /// Up to so many messages are collected, then worked on and acked by name; and again, with the same iterator. What
    /// has come within 50 ms of the first is enough.
    Collect(usize),
}

/// Members of one group: settings that each [`start`](Self::start) uses. What is not set has klamm's default.
#[must_use = "nothing runs until `start`"]
#[derive(Debug, Clone)]
pub struct Members {
    values: Vec<(&'static str, String)>,
}

impl Members {
    pub fn new(kafka: &Kafka, group: &str, topics: &[&str]) -> Self {
        let members = Self { values: Vec::new() };
        members
            .set("BOOTSTRAP", kafka.bootstrap())
            .set("GROUP", group)
            .set("TOPICS", topics.join(","))
    }

    /// Each process reads all partitions for itself, from the beginning, as a plain reader: nothing is committed.
    pub fn without_group(self) -> Self {
        self.set("READER", true)
    }

    /// Other addresses than the cluster's: a proxy of this member's own.
    pub fn bootstrap(self, bootstrap: &str) -> Self {
        self.set("BOOTSTRAP", bootstrap)
    }

    pub fn session_timeout(self, timeout: Duration) -> Self {
        self.set_time("SESSION_TIMEOUT", timeout)
    }

    pub fn heartbeat_interval(self, interval: Duration) -> Self {
        self.set_time("HEARTBEAT_INTERVAL", interval)
    }

    pub fn rebalance_timeout(self, timeout: Duration) -> Self {
        self.set_time("REBALANCE_TIMEOUT", timeout)
    }

    pub fn revoke_timeout(self, timeout: Duration) -> Self {
        self.set_time("REVOKE_TIMEOUT", timeout)
    }

    /// Session timeout 3 s, heartbeats each 300 ms: for tests that wait for them.
    pub fn quick(self) -> Self {
        self.session_timeout(Duration::from_secs(3))
            .heartbeat_interval(Duration::from_millis(300))
    }

    /// None: only when something else commits.
    pub fn commit_interval(self, interval: Option<Duration>) -> Self {
        match interval {
            Some(interval) => self.set_time("COMMIT_INTERVAL", interval),
            None => self.set("COMMIT_INTERVAL", "none"),
        }
    }

    /// Acks and commits each time that an iterating thread has handled so many messages: 1 is after each. With
    /// `Pattern::Collect` it is after so many rounds.
    pub fn commit_each(self, count: usize) -> Self {
        self.set("COMMIT_EACH", count)
    }

    /// `AckMode::Explicit`. Loops then ack by name.
    pub fn explicit_acks(self) -> Self {
        self.set("EXPLICIT", true)
    }

    pub fn commit_order(self, order: CommitOrder) -> Self {
        match order {
            CommitOrder::Monotonic => self.set("COMMIT_ORDER", "monotonic"),
            CommitOrder::LastWins => self.set("COMMIT_ORDER", "last"),
            _ => self.set("COMMIT_ORDER", "contiguous"),
        }
    }

    /// What each message takes.
    pub fn work(self, time: Duration) -> Self {
        self.set("WORK", time.as_micros())
    }

    /// So many threads iterate over the stream.
    pub fn threads(self, count: usize) -> Self {
        self.set("THREADS", count)
    }

    pub fn pattern(self, pattern: Pattern) -> Self {
        match pattern {
            Pattern::Loop => self.set("PATTERN", "loop"),
            Pattern::Pool(threads) => self.set("PATTERN", format!("pool:{threads}")),
            Pattern::Collect(count) => self.set("PATTERN", format!("collect:{count}")),
        }
    }

    pub fn instance_id(self, id: &str) -> Self {
        self.set("INSTANCE_ID", id)
    }

    pub fn assignor(self, assignor: Assignor) -> Self {
        match assignor {
            Assignor::RoundRobin => self.set("ASSIGNOR", "roundrobin"),
            _ => self.set("ASSIGNOR", "range"),
        }
    }

    /// An environment variable as it is: `KLAMM_MEMBER_…` without the prefix.
    fn set(mut self, name: &'static str, value: impl ToString) -> Self {
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, value.to_string()));
        self
    }

    fn set_time(self, name: &'static str, time: Duration) -> Self {
        self.set(name, time.as_millis())
    }

    pub(super) fn variables(&self, name: &str, log: &Path) -> Vec<(String, String)> {
        let mut variables: Vec<_> = self
            .values
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), value.clone()))
            .collect();
        variables.push((format!("{PREFIX}NAME"), name.to_owned()));
        variables.push((format!("{PREFIX}LOG"), log.display().to_string()));
        variables
    }
}

/// The other side: what the process was told.
pub(super) struct Told {
    pub name: String,
    pub log: PathBuf,
    pub pattern: Pattern,
    pub threads: usize,
    pub work: Duration,
    pub explicit: bool,
    pub commit_each: Option<usize>,
}

impl Told {
    /// None when nobody has told anything.
    pub(super) fn read() -> Option<Self> {
        Some(Self {
            name: value("NAME")?,
            log: PathBuf::from(needed("LOG")),
            pattern: value("PATTERN").map_or(Pattern::Loop, |text| match text.split_once(':') {
                Some(("pool", threads)) => Pattern::Pool(number(threads)),
                Some(("collect", count)) => Pattern::Collect(number(count)),
                _ => Pattern::Loop,
            }),
            threads: value("THREADS").map_or(1, |text| number(&text)),
            work: value("WORK").map_or(Duration::ZERO, |text| Duration::from_micros(number(&text))),
            explicit: value("EXPLICIT").is_some(),
            commit_each: value("COMMIT_EACH").map(|text| number(&text)),
        })
    }

    pub(super) fn connect() -> klamm::Result<Client> {
        Client::connect(&needed("BOOTSTRAP"))
    }

    pub(super) fn open(&self, client: &Client) -> klamm::Result<Stream> {
        let topics = needed("TOPICS");
        let topics = topics.split(',');
        if value("READER").is_some() {
            return client.reader().topics(topics).open();
        }
        self.group(client.group(needed("GROUP")).topics(topics)).join()
    }

    fn group(&self, mut group: GroupBuilder) -> GroupBuilder {
        if let Some(time) = time("SESSION_TIMEOUT") {
            group = group.session_timeout(time);
        }
        if let Some(time) = time("HEARTBEAT_INTERVAL") {
            group = group.heartbeat_interval(time);
        }
        if let Some(time) = time("REBALANCE_TIMEOUT") {
            group = group.rebalance_timeout(time);
        }
        if let Some(time) = time("REVOKE_TIMEOUT") {
            group = group.revoke_timeout(time);
        }
        match value("COMMIT_INTERVAL").as_deref() {
            Some("none") => group = group.commit_interval(None),
            Some(text) => group = group.commit_interval(Duration::from_millis(number(text))),
            None => {}
        }
        match value("COMMIT_ORDER").as_deref() {
            Some("monotonic") => group = group.commit_order(CommitOrder::Monotonic),
            Some("last") => group = group.commit_order(CommitOrder::LastWins),
            _ => {}
        }
        match value("ASSIGNOR").as_deref() {
            Some("roundrobin") => group = group.assignors([Assignor::RoundRobin]),
            Some(_) => group = group.assignors([Assignor::Range]),
            None => {}
        }
        if let Some(id) = value("INSTANCE_ID") {
            group = group.instance_id(id);
        }
        if self.explicit {
            group = group.ack_mode(AckMode::Explicit);
        }
        group
    }
}

fn value(name: &str) -> Option<String> {
    std::env::var(format!("{PREFIX}{name}")).ok()
}

fn needed(name: &str) -> String {
    value(name).unwrap_or_else(|| panic!("{PREFIX}{name} is not set"))
}

fn time(name: &str) -> Option<Duration> {
    value(name).map(|text| Duration::from_millis(number(&text)))
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}
