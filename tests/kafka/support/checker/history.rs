//! What members have recorded: lines of a log, and what they amount to.
//!
//! A line is a time in nanoseconds since 1970, a word, and its values, separated by tabs: see [`What`].

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use klamm::TopicPartition;

/// The time since 1970, which all processes of a machine share; within one of them it never goes back.
pub fn now() -> Duration {
    static START: std::sync::OnceLock<(Duration, Instant)> = std::sync::OnceLock::new();
    let (start, since) = START.get_or_init(|| {
        let start = SystemTime::now().duration_since(UNIX_EPOCH);
        (start.expect("it is later than 1970"), Instant::now())
    });
    *start + since.elapsed()
}

/// The handling of one message by one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    pub member: String,
    /// Counts this member's assignments of this partition, from 1.
    pub assignment: u32,
    pub partition: TopicPartition,
    pub offset: i64,
    /// What its value says; -1 when it says something else than `Kafka::fill` writes.
    pub number: i64,
    pub begin: Duration,
    /// None: never ended, as in a process that was killed.
    pub end: Option<Duration>,
    /// When the member set about acking it by name.
    pub acked: Option<Duration>,
    /// It was no longer its member's own when it began.
    pub stale: bool,
}

/// From an assignment to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub member: String,
    pub partition: TopicPartition,
    pub assignment: u32,
    pub from: Duration,
    /// None when it is still owned.
    pub to: Option<Duration>,
    pub ending: Option<Ending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Revoked,
    Lost,
    /// Told by an event, or by the report of a close: something of it was still in hand.
    Abandoned,
    /// By the end of the stream.
    Closed,
    /// By the death of the process.
    Died,
    /// Assigned or moved again, without an end before.
    Superseded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalance {
    pub member: String,
    pub at: Duration,
    pub generation: i32,
    pub claimed: Vec<TopicPartition>,
    pub released: Vec<TopicPartition>,
    pub current: Vec<TopicPartition>,
}

/// A time in which the process of a member was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub member: String,
    pub from: Duration,
    pub to: Duration,
}

/// One line of a member's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// `begin call topic partition offset number assignment stale`
    Begin {
        /// Counts the handlings of this member.
        call: u64,
        partition: TopicPartition,
        offset: i64,
        number: i64,
        assignment: u32,
        stale: bool,
    },
    /// `end call`
    End { call: u64 },
    /// `acking call`: before the ack, since what is acked may be committed at once.
    Acking { call: u64 },
    /// `acked call counted`
    Acked { call: u64, counted: bool },
    /// `assigned topic partition position`
    Assigned { partition: TopicPartition, position: i64 },
    /// `moved topic partition`: by a seek, or because the log is another one now. Order begins anew.
    Moved { partition: TopicPartition },
    /// `revoked topic partition`
    Revoked { partition: TopicPartition },
    /// `lost topic partition why`
    Lost { partition: TopicPartition, why: String },
    /// `abandoned topic partition oldest`
    Abandoned { partition: TopicPartition, oldest: i64 },
    /// `rebalancing`
    Rebalancing,
    /// `rebalanced generation claimed released current`, each of them as `topic:partition,…`
    Rebalanced {
        generation: i32,
        claimed: Vec<TopicPartition>,
        released: Vec<TopicPartition>,
        current: Vec<TopicPartition>,
    },
    /// `joined`: the stream is there.
    Joined,
    /// `committed`: a commit that was asked for has succeeded.
    Committed,
    /// `failed where why`: an error that the program was given.
    Failed { place: String, why: String },
    /// `closed left unread unfinished uncommitted`, the last three as `topic:partition:offset,…`
    Closed {
        left_group: bool,
        unread: Vec<(TopicPartition, i64)>,
        unfinished: Vec<(TopicPartition, i64)>,
        uncommitted: Vec<(TopicPartition, i64)>,
    },
    /// `note text`: other events, and what a test wants to say.
    Note { text: String },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t", self.at.as_nanos())?;
        match &self.what {
            What::Begin {
                call,
                partition,
                offset,
                number,
                assignment,
                stale,
            } => {
                let name = Name(partition);
                write!(f, "begin\t{call}\t{name}\t{offset}\t{number}\t{assignment}\t{stale}")
            }
            What::End { call } => write!(f, "end\t{call}"),
            What::Acking { call } => write!(f, "acking\t{call}"),
            What::Acked { call, counted } => write!(f, "acked\t{call}\t{counted}"),
            What::Assigned { partition, position } => write!(f, "assigned\t{}\t{position}", Name(partition)),
            What::Moved { partition } => write!(f, "moved\t{}", Name(partition)),
            What::Revoked { partition } => write!(f, "revoked\t{}", Name(partition)),
            What::Lost { partition, why } => write!(f, "lost\t{}\t{}", Name(partition), one_line(why)),
            What::Abandoned { partition, oldest } => write!(f, "abandoned\t{}\t{oldest}", Name(partition)),
            What::Rebalancing => f.write_str("rebalancing"),
            What::Rebalanced {
                generation,
                claimed,
                released,
                current,
            } => {
                let [claimed, released, current] = [claimed, released, current].map(|list| names(list));
                write!(f, "rebalanced\t{generation}\t{claimed}\t{released}\t{current}")
            }
            What::Joined => f.write_str("joined"),
            What::Committed => f.write_str("committed"),
            What::Failed { place, why } => write!(f, "failed\t{}\t{}", one_line(place), one_line(why)),
            What::Closed {
                left_group,
                unread,
                unfinished,
                uncommitted,
            } => {
                let [unread, unfinished, uncommitted] = [unread, unfinished, uncommitted].map(|list| offsets(list));
                write!(f, "closed\t{left_group}\t{unread}\t{unfinished}\t{uncommitted}")
            }
            What::Note { text } => write!(f, "note\t{}", one_line(text)),
        }
    }
}

impl Line {
    /// # Panics
    ///
    /// When it is no line of a log.
    pub fn parse(line: &str) -> Self {
        Self::parsed(line).unwrap_or_else(|| panic!("no line of a member's log: {line:?}"))
    }

    fn parsed(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split('\t').collect();
        let (at, words) = words.split_first()?;
        let what = match *words {
            ["begin", call, topic, partition, offset, number, assignment, stale] => What::Begin {
                call: call.parse().ok()?,
                partition: name(topic, partition)?,
                offset: offset.parse().ok()?,
                number: number.parse().ok()?,
                assignment: assignment.parse().ok()?,
                stale: stale.parse().ok()?,
            },
            ["end", call] => What::End {
                call: call.parse().ok()?,
            },
            ["acking", call] => What::Acking {
                call: call.parse().ok()?,
            },
            ["acked", call, counted] => What::Acked {
                call: call.parse().ok()?,
                counted: counted.parse().ok()?,
            },
            ["assigned", topic, partition, position] => What::Assigned {
                partition: name(topic, partition)?,
                position: position.parse().ok()?,
            },
            ["moved", topic, partition] => What::Moved {
                partition: name(topic, partition)?,
            },
            ["revoked", topic, partition] => What::Revoked {
                partition: name(topic, partition)?,
            },
            ["lost", topic, partition, why] => What::Lost {
                partition: name(topic, partition)?,
                why: why.to_owned(),
            },
            ["abandoned", topic, partition, oldest] => What::Abandoned {
                partition: name(topic, partition)?,
                oldest: oldest.parse().ok()?,
            },
            ["rebalancing"] => What::Rebalancing,
            ["rebalanced", generation, claimed, released, current] => What::Rebalanced {
                generation: generation.parse().ok()?,
                claimed: list(claimed, split_name)?,
                released: list(released, split_name)?,
                current: list(current, split_name)?,
            },
            ["joined"] => What::Joined,
            ["committed"] => What::Committed,
            ["failed", place, why] => What::Failed {
                place: place.to_owned(),
                why: why.to_owned(),
            },
            ["closed", left_group, unread, unfinished, uncommitted] => What::Closed {
                left_group: left_group.parse().ok()?,
                unread: list(unread, split_offset)?,
                unfinished: list(unfinished, split_offset)?,
                uncommitted: list(uncommitted, split_offset)?,
            },
            ["note", text] => What::Note { text: text.to_owned() },
            _ => return None,
        };
        let at = Duration::from_nanos(at.parse().ok()?);
        Some(Self { at, what })
    }
}

struct Name<'a>(&'a TopicPartition);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}", self.0.topic(), self.0.partition())
    }
}

fn name(topic: &str, partition: &str) -> Option<TopicPartition> {
    Some((topic, partition.parse().ok()?).into())
}

fn names(list: &[TopicPartition]) -> String {
    let names = list.iter().map(|one| format!("{}:{}", one.topic(), one.partition()));
    names.collect::<Vec<_>>().join(",")
}

fn offsets(list: &[(TopicPartition, i64)]) -> String {
    let names = list
        .iter()
        .map(|(one, offset)| format!("{}:{}:{offset}", one.topic(), one.partition()));
    names.collect::<Vec<_>>().join(",")
}

fn list<T>(text: &str, one: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

fn split_name(text: &str) -> Option<TopicPartition> {
    let (topic, partition) = text.rsplit_once(':')?;
    name(topic, partition)
}

fn split_offset(text: &str) -> Option<(TopicPartition, i64)> {
    let (rest, offset) = text.rsplit_once(':')?;
    Some((split_name(rest)?, offset.parse().ok()?))
}

fn one_line(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}

/// What one member or more have done. Handlings are in the order in which each member recorded them.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub handled: Vec<Handled>,
    pub owned: Vec<Owned>,
    pub rebalances: Vec<Rebalance>,
    pub pauses: Vec<Pause>,
    /// When the processes of members died.
    pub died: BTreeMap<String, Duration>,
    /// All that each member recorded.
    pub lines: BTreeMap<String, Vec<Line>>,
}

impl History {
    pub fn of_lines(member: &str, lines: Vec<Line>) -> Self {
        let mut history = Self::default();
        let mut calls: HashMap<u64, usize> = HashMap::new();
        let mut current: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        let mut assignments: HashMap<TopicPartition, u32> = HashMap::new();
        for Line { at, what } in &lines {
            match what {
                What::Begin {
                    call,
                    partition,
                    offset,
                    number,
                    assignment,
                    stale,
                } => {
                    calls.insert(*call, history.handled.len());
                    history.handled.push(Handled {
                        member: member.to_owned(),
                        assignment: *assignment,
                        partition: partition.clone(),
                        offset: *offset,
                        number: *number,
                        begin: *at,
                        end: None,
                        acked: None,
                        stale: *stale,
                    });
                }
                What::End { call } => history.handled[calls[call]].end = Some(*at),
                What::Acking { call } => history.handled[calls[call]].acked = Some(*at),
                What::Acked { call, counted } => {
                    if !counted {
                        history.handled[calls[call]].acked = None;
                    }
                }
                What::Assigned { partition, .. } | What::Moved { partition } => {
                    history.ends(&mut current, partition, *at, Ending::Superseded);
                    let assignment = assignments.entry(partition.clone()).or_default();
                    *assignment += 1;
                    current.insert(partition.clone(), history.owned.len());
                    history.owned.push(Owned {
                        member: member.to_owned(),
                        partition: partition.clone(),
                        assignment: *assignment,
                        from: *at,
                        to: None,
                        ending: None,
                    });
                }
                What::Revoked { partition } => history.ends(&mut current, partition, *at, Ending::Revoked),
                What::Lost { partition, .. } => history.ends(&mut current, partition, *at, Ending::Lost),
                What::Abandoned { partition, .. } => history.ends(&mut current, partition, *at, Ending::Abandoned),
                What::Rebalanced {
                    generation,
                    claimed,
                    released,
                    current,
                } => history.rebalances.push(Rebalance {
                    member: member.to_owned(),
                    at: *at,
                    generation: *generation,
                    claimed: claimed.clone(),
                    released: released.clone(),
                    current: current.clone(),
                }),
                What::Closed { unfinished, .. } => {
                    for partition in current.keys().cloned().collect::<Vec<_>>() {
                        let in_hand = unfinished.iter().any(|(one, _)| *one == partition);
                        let ending = if in_hand { Ending::Abandoned } else { Ending::Closed };
                        history.ends(&mut current, &partition, *at, ending);
                    }
                }
                What::Rebalancing | What::Joined | What::Committed | What::Failed { .. } | What::Note { .. } => {}
            }
        }
        history.lines.insert(member.to_owned(), lines);
        history
    }

    fn ends(
        &mut self,
        current: &mut BTreeMap<TopicPartition, usize>,
        partition: &TopicPartition,
        at: Duration,
        ending: Ending,
    ) {
        if let Some(index) = current.remove(partition) {
            self.owned[index].to = Some(at);
            self.owned[index].ending = Some(ending);
        }
    }

    /// The process of this member was stopped for a while.
    pub fn paused(&mut self, member: &str, from: Duration, to: Duration) {
        self.pauses.push(Pause {
            member: member.to_owned(),
            from,
            to,
        });
    }

    /// The process of this member has ended: nothing of it runs any more.
    pub fn died(&mut self, member: &str, at: Duration) {
        for owned in self
            .owned
            .iter_mut()
            .filter(|owned| owned.member == member && owned.to.is_none())
        {
            owned.to = Some(at);
            owned.ending = Some(Ending::Died);
        }
        self.died.insert(member.to_owned(), at);
    }

    /// Takes in what other members did. No two may have one name.
    pub fn add(&mut self, other: Self) {
        for (member, lines) in other.lines {
            let known = self.lines.insert(member.clone(), lines);
            assert!(known.is_none(), "two members are called {member}");
        }
        self.handled.extend(other.handled);
        self.owned.extend(other.owned);
        self.rebalances.extend(other.rebalances);
        self.pauses.extend(other.pauses);
        self.died.extend(other.died);
    }

    /// Who owns each partition, after all that is recorded. Two owners of one are two names.
    pub fn owners(&self) -> BTreeMap<TopicPartition, Vec<&str>> {
        self.owners_when(|owned| owned.to.is_none())
    }

    /// Who owned each partition at this time.
    pub fn owners_at(&self, at: Duration) -> BTreeMap<TopicPartition, Vec<&str>> {
        self.owners_when(|owned| owned.from <= at && owned.to.is_none_or(|to| to > at))
    }

    fn owners_when(&self, when: impl Fn(&Owned) -> bool) -> BTreeMap<TopicPartition, Vec<&str>> {
        let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for owned in self.owned.iter().filter(|owned| when(owned)) {
            let of_one = owners.entry(owned.partition.clone()).or_default();
            of_one.push(owned.member.as_str());
        }
        owners
    }

    /// The errors that programs were given, as `member: where: why`.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for (member, lines) in &self.lines {
            for line in lines {
                if let What::Failed { place, why } = &line.what {
                    failures.push(format!("{member}: {place}: {why}"));
                }
            }
        }
        failures
    }

    /// How many messages were handled to their end.
    pub fn finished(&self) -> usize {
        self.handled.iter().filter(|handled| handled.end.is_some()).count()
    }
}

/// A log that another process is writing: what has come since the last look is added.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    read: u64,
    rest: Vec<u8>,
    lines: Vec<Line>,
}

impl LogFile {
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: 0,
            rest: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// All whole lines so far; a process that is killed may leave half a line.
    pub fn lines(&mut self) -> &[Line] {
        if let Ok(mut file) = File::open(&self.path) {
            file.seek(SeekFrom::Start(self.read))
                .expect("a file can be read from anywhere");
            let read = file.read_to_end(&mut self.rest).expect("the log can be read");
            self.read += read as u64;
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.rest.split_off(end + 1);
                let whole = std::mem::replace(&mut self.rest, rest);
                let text = String::from_utf8(whole).expect("logs are text");
                self.lines.extend(text.lines().map(Line::parse));
            }
        }
        &self.lines
    }
}
