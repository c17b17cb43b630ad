//! What is written.

#![allow(
    dead_code,
    reason = "the floor beside peers has a copy, with values that it is given"
)]

use std::fmt;

use super::values::{noise, text};

#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) partitions: usize,
    pub(crate) value_bytes: usize,
    pub(crate) codec: &'static str,
    pub(crate) keyed: bool,
    /// How many times fewer records than of the first.
    fewer: usize,
}

pub(crate) const WORKLOADS: &[Workload] = &[
    PLAIN,
    Workload {
        name: "1-partition",
        partitions: 1,
        ..PLAIN
    },
    Workload {
        name: "keyed",
        keyed: true,
        ..PLAIN
    },
    Workload {
        name: "1KiB",
        value_bytes: 1024,
        fewer: 4,
        ..PLAIN
    },
    compressed("gzip"),
    compressed("snappy"),
    compressed("lz4"),
    compressed("zstd"),
];

const PLAIN: Workload = Workload {
    name: "100B",
    partitions: 12,
    value_bytes: 100,
    codec: "none",
    keyed: false,
    fewer: 1,
};

const fn compressed(codec: &'static str) -> Workload {
    Workload {
        name: codec,
        value_bytes: 200,
        codec,
        fewer: 2,
        ..PLAIN
    }
}

impl Workload {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// One of somebody else's, with values that are his.
    pub(crate) fn of(partitions: usize, value_bytes: usize, codec: &'static str) -> Self {
        Self {
            name: "given",
            partitions,
            value_bytes,
            codec,
            ..PLAIN
        }
    }

    pub(crate) fn records(&self, plain: usize) -> usize {
        plain / self.fewer
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partitions,
            value_bytes,
            codec,
            keyed,
            ..
        } = self;
        let key = if *keyed { ", with keys" } else { "" };
        write!(out, "{value_bytes} bytes, {codec}, {partitions} partitions{key}")
    }
}

/// The values of a workload: some megabytes, again and again. More than the largest batch, so that no codec sees a value
/// twice; little enough to stay near the processor, as what a program has just made would be.
pub(crate) struct Load {
    pub(crate) workload: &'static Workload,
    pub(crate) records: usize,
    values: Vec<u8>,
    keys: Vec<u8>,
}

const POOL: usize = 4 << 20;
const KEY_BYTES: usize = 8;

impl Load {
    pub(crate) fn new(workload: &'static Workload, records: usize) -> Self {
        let count = POOL / workload.value_bytes;
        let value = |i| match workload.codec {
            "none" => noise(i, workload.value_bytes),
            _ => text(i),
        };
        let keys = if workload.keyed { count } else { 0 };
        Self {
            workload,
            records,
            values: (0..count).flat_map(value).collect(),
            keys: (0..keys).flat_map(|i| noise(i, KEY_BYTES)).collect(),
        }
    }

    /// Of values that lie one behind the other.
    pub(crate) fn of(workload: &'static Workload, records: usize, values: Vec<u8>) -> Self {
        Self {
            workload,
            records,
            values,
            keys: Vec::new(),
        }
    }

    /// Keys and values without end, from one of the first few on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let values = self.values.chunks_exact(self.workload.value_bytes).cycle();
        let mut keys = self.keys.chunks_exact(KEY_BYTES).cycle();
        let records = values.map(move |value| (keys.next(), value));
        records.skip(first)
    }

    /// The values, a line each.
    pub(crate) fn lines(&self) -> Vec<u8> {
        self.values
            .chunks_exact(self.workload.value_bytes)
            .collect::<Vec<_>>()
            .join(&b'\n')
    }
}
