//! What a consuming program does with a message.

use std::{
    hint::{black_box, spin_loop},
    time::{Duration, Instant},
};

use crate::{Consume, Meter, Report};

/// Counts messages, looks at their values, and is kept busy by them.
#[derive(Debug)]
pub struct Reading {
    meter: Meter,
    wanted: u64,
    seen: u64,
    bytes: u64,
    first_seconds: f64,
    work: Duration,
}

impl Reading {
    /// Starts the clock: to be called just before the client is made.
    #[must_use]
    pub fn begin(task: &Consume) -> Self {
        Self {
            meter: Meter::new(),
            wanted: task.messages,
            seen: 0,
            bytes: 0,
            first_seconds: f64::NAN,
            work: task.work,
        }
    }

    /// Takes a message's value. True when all are seen: the program is then to stop, and sees no more.
    #[inline]
    pub fn see(&mut self, value: &[u8]) -> bool {
        if self.seen == 0 {
            self.first_seconds = self.meter.seconds();
        }
        self.bytes += black_box(value).len() as u64;
        self.seen += 1;
        if !self.work.is_zero() {
            work(self.work);
        }
        self.seen >= self.wanted
    }

    /// To be called when all were seen, while the client lives.
    ///
    /// # Panics
    ///
    /// When there was too little, or nothing in it.
    pub fn end(self) -> Report {
        let Self {
            wanted, seen, bytes, ..
        } = self;
        assert!(seen == wanted, "{seen} messages of {wanted}");
        assert!(bytes > 0, "all values are empty");
        self.meter.report(seen, bytes).with("first_seconds", self.first_seconds)
    }
}

/// By the clock, so that it takes as long on a busy machine.
fn work(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        spin_loop();
    }
}
