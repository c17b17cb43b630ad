//! What is measured.

use serde_json::{Map, Value};

use crate::{
    options::Options,
    values::{noise, text},
};

/// Named on the command line.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    kind: Kind,
    partitions: usize,
    load: Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Latency,
    Idle,
    /// Beside so many partitions in all, of which the row's have the records.
    Neighbours(usize),
    LongPoll,
}

/// What is in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    pub(crate) value_bytes: usize,
    pub(crate) codec: &'static str,
    /// How many times fewer records than of the first.
    fewer: u64,
}

/// What contenders do in turns, and are compared by.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) partitions: usize,
    pub(crate) load: Load,
    pub(crate) messages: u64,
    pub(crate) seconds: u64,
    pub(crate) work_ns: u64,
}

const SMALL: Load = Load {
    value_bytes: 100,
    codec: "none",
    fewer: 1,
};
const LARGE: Load = Load {
    value_bytes: 1024,
    codec: "none",
    fewer: 4,
};
const GZIP: Load = text_in("gzip");
const SNAPPY: Load = text_in("snappy");
const LZ4: Load = text_in("lz4");
const ZSTD: Load = text_in("zstd");

const fn text_in(codec: &'static str) -> Load {
    Load {
        value_bytes: 200,
        codec,
        fewer: 2,
    }
}

const ROWS: &[Row] = &[
    row("read-100B", Kind::Read, 12, SMALL),
    row("read-100B-1", Kind::Read, 1, SMALL),
    row("read-1KiB", Kind::Read, 12, LARGE),
    row("read-gzip", Kind::Read, 12, GZIP),
    row("read-snappy", Kind::Read, 12, SNAPPY),
    row("read-lz4", Kind::Read, 12, LZ4),
    row("read-zstd", Kind::Read, 12, ZSTD),
    row("write-100B", Kind::Write, 12, SMALL),
    row("write-100B-1", Kind::Write, 1, SMALL),
    row("write-1KiB", Kind::Write, 12, LARGE),
    row("write-gzip", Kind::Write, 12, GZIP),
    row("write-snappy", Kind::Write, 12, SNAPPY),
    row("write-lz4", Kind::Write, 12, LZ4),
    row("write-zstd", Kind::Write, 12, ZSTD),
    row("latency", Kind::Latency, 1, SMALL),
    row("idle", Kind::Idle, 1000, SMALL),
    row("neighbours-1", Kind::Neighbours(53), 1, SMALL),
    row("neighbours-2", Kind::Neighbours(53), 2, SMALL),
    row("longpoll", Kind::LongPoll, 12, SMALL),
];

const fn row(name: &'static str, kind: Kind, partitions: usize, load: Load) -> Row {
    Row {
        name,
        kind,
        partitions,
        load,
    }
}

/// Behind a row's name.
const SLOW: &str = ", 2 µs each";

/// Of `latency`.
pub(crate) const A_SECOND: u64 = 1000;

impl Row {
    pub(crate) fn all() -> impl Iterator<Item = &'static Self> {
        ROWS.iter()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|row| row.name == name)
    }

    /// Whose trial has this name.
    fn of_trial(name: &str) -> Option<&'static Self> {
        Self::named(name.strip_suffix(SLOW).unwrap_or(name))
    }

    /// One, or one for a fast loop and one for a slow one.
    pub(crate) fn trials(&self, options: &Options) -> Vec<Trial> {
        let most = |usual: u64| options.messages.unwrap_or(usual);
        let seconds = |usual: u64| options.seconds.unwrap_or(usual);
        let trial = |messages: u64, seconds| Trial {
            messages: messages / self.load.fewer,
            seconds,
            ..self.trial()
        };
        match self.kind {
            Kind::Read => vec![trial(most(5_000_000), 0)],
            Kind::Write => vec![trial(most(2_000_000), 0)],
            Kind::Latency => vec![trial(seconds(5) * A_SECOND, seconds(5))],
            Kind::Idle => vec![trial(0, seconds(20))],
            Kind::LongPoll => vec![trial(0, seconds(10))],
            Kind::Neighbours(_) => {
                // With 2 µs of work each, one in ten takes as long as all for the fastest.
                let slow = Trial {
                    name: format!("{}{SLOW}", self.name),
                    messages: most(5_000_000) / 10,
                    work_ns: 2000,
                    ..self.trial()
                };
                vec![trial(most(5_000_000) / 5 * 2, 0), slow]
            }
        }
    }

    /// With nothing to do.
    fn trial(&self) -> Trial {
        Trial {
            name: self.name.to_owned(),
            kind: self.kind,
            partitions: self.partitions,
            load: self.load,
            messages: 0,
            seconds: 0,
            work_ns: 0,
        }
    }
}

impl Trial {
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let numbers = [
            ("messages", self.messages),
            ("seconds", self.seconds),
            ("work_ns", self.work_ns),
        ];
        let mut fields = Map::from_iter(numbers.map(|(name, number)| (name.to_owned(), number.into())));
        fields.insert("trial".to_owned(), self.name.clone().into());
        fields
    }

    /// `None` when its row is not known any more.
    pub(crate) fn from_json(fields: &Value) -> Option<Self> {
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let name = fields.get("trial")?.as_str()?;
        Some(Self {
            name: name.to_owned(),
            messages: number("messages")?,
            seconds: number("seconds")?,
            work_ns: number("work_ns")?,
            ..Row::of_trial(name)?.trial()
        })
    }

    /// Where it stands among all: as its row does.
    pub(crate) fn place(&self) -> usize {
        let known = |row: &Row| self.name.strip_suffix(SLOW).unwrap_or(&self.name) == row.name;
        Row::all().position(known).unwrap_or(usize::MAX)
    }
}

impl Load {
    /// One value.
    pub(crate) fn value(&self, i: usize) -> Vec<u8> {
        match self.codec {
            "none" => noise(i, self.value_bytes),
            _ => text(i),
        }
    }
}
