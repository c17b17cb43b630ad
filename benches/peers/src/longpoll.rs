//! What waits behind a long poll: two clients do the same in turns, call by call, and what the machine does to one, it
//! does to the other. One of them has a Fetch waiting in the broker all the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{LongPoll, Meter, Report, delays::percentile};

/// So long a Fetch waits for a record that does not come.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// A Fetch from before all was paused is soon back.
const BRIEFLY: Duration = Duration::from_millis(100);
/// As often as members of groups are told to send a heartbeat, so that there are enough to compare.
pub const HEARTBEATS: Duration = Duration::from_millis(20);

/// Until the first Fetch waits in the broker, and for connections to be made.
const SETTLING: Duration = Duration::from_secs(1);
const WARM_UP: usize = 100;
const WARM_UP_AT_MOST: Duration = Duration::from_secs(2);
/// Who waits longer waits for the long poll itself: once tells it all.
const LONG: Duration = Duration::from_secs(1);
/// Between two turns: nobody works without a pause.
const PAUSE: Duration = Duration::from_millis(1);

/// One of the two clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Fetches what does not come.
    Polling,
    /// Fetches nothing: it is a member, too, but all is paused.
    Paused,
}

/// How long each call took.
#[derive(Debug)]
pub struct Calls {
    time: Duration,
    begun: Instant,
    /// `None` while nothing counts.
    meter: Option<Meter>,
    turns: usize,
    /// What nobody calls any more.
    long: BTreeSet<&'static str>,
    taken: BTreeMap<(&'static str, Side), Vec<u64>>,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Polling, Self::Paused];

    /// By which whoever watches its requests knows it.
    #[must_use]
    pub fn client_id(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Paused => "paused",
        }
    }

    /// How long its Fetches wait in the broker.
    #[must_use]
    pub fn max_wait(self) -> Duration {
        match self {
            Self::Polling => MAX_WAIT,
            Self::Paused => BRIEFLY,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Polling => "",
            Self::Paused => "without_",
        }
    }
}

impl Calls {
    /// To be called when both clients have their partitions.
    #[must_use]
    pub fn begin(task: &LongPoll) -> Self {
        thread::sleep(SETTLING);
        Self {
            time: task.time,
            begun: Instant::now(),
            meter: None,
            turns: 0,
            long: BTreeSet::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Begins one more turn. False when the time is over.
    pub fn go_on(&mut self) -> bool {
        thread::sleep(PAUSE);
        match &self.meter {
            // At least one turn counts, however long it takes.
            None if self.turns > 0 && (self.turns >= WARM_UP || self.begun.elapsed() >= WARM_UP_AT_MOST) => {
                self.meter = Some(Meter::new());
                self.taken.retain(|(name, _), _| self.long.contains(name));
            }
            Some(meter) if meter.seconds() >= self.time.as_secs_f64() => return false,
            _ => {}
        }
        self.turns += 1;
        true
    }

    /// Whose turn it is to call this, one after another: both, as long as neither has to wait long.
    pub fn sides(&self, name: &'static str) -> impl Iterator<Item = Side> + use<> {
        // Neither is always the first.
        let mut sides = Side::BOTH;
        sides.rotate_left(self.turns % 2);
        let is_long = self.long.contains(name);
        sides.into_iter().filter(move |_| !is_long)
    }

    pub fn time<T>(&mut self, name: &'static str, side: Side, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let called = call();
        self.add(name, side, begun);
        called
    }

    pub async fn time_async<T>(&mut self, name: &'static str, side: Side, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let called = call.await;
        self.add(name, side, begun);
        called
    }

    /// While both live.
    ///
    /// # Panics
    ///
    /// When the time is not over.
    pub fn end(self) -> Report {
        let meter = self.meter.expect("all turns are done");
        let calls = self.taken.values().map(Vec::len).max().unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut report = meter
            .report(0, 0)
            .with("calls", calls)
            // To close them may take long.
            .with("ended_at", now.as_secs_f64());
        for ((name, side), mut taken) in self.taken {
            taken.sort_unstable();
            for percent in [50, 99] {
                let microseconds = percentile(&taken, f64::from(percent) / 100.0) as f64 / 1000.0;
                report = report.with(&format!("{name}_{}p{percent}_us", side.prefix()), microseconds);
            }
        }
        report
    }

    fn add(&mut self, name: &'static str, side: Side, begun: Instant) {
        let taken = begun.elapsed();
        if taken >= LONG {
            self.long.insert(name);
        }
        self.taken
            .entry((name, side))
            .or_default()
            .push(taken.as_nanos() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls() -> Calls {
        Calls {
            time: Duration::ZERO,
            begun: Instant::now(),
            meter: None,
            turns: WARM_UP,
            long: BTreeSet::new(),
            taken: BTreeMap::new(),
        }
    }

    fn number(report: &Report, name: &str) -> f64 {
        let report: serde_json::Value = serde_json::from_str(&report.to_string()).expect("JSON");
        report[name].as_f64().expect("a number")
    }

    #[test]
    fn each_side_is_told_of_by_itself_and_one_turn_always_counts() {
        let mut calls = calls();
        calls.add("commit", Side::Paused, Instant::now());
        let mut turns = 0;
        while calls.go_on() {
            turns += 1;
            for side in calls.sides("commit") {
                let pause = if side == Side::Polling { 20 } else { 0 };
                calls.time("commit", side, || thread::sleep(Duration::from_millis(pause)));
            }
        }
        assert_eq!(turns, 1);
        let report = calls.end();
        assert!(number(&report, "commit_p99_us") >= 20_000.0);
        assert!(number(&report, "commit_without_p50_us") < number(&report, "commit_p50_us"));
        assert_eq!(number(&report, "calls"), 1.0, "what was called before is forgotten");
    }

    #[test]
    fn what_takes_long_is_called_once() {
        let mut calls = calls();
        let long_ago = Instant::now().checked_sub(LONG).expect("a machine that runs");
        calls.add("metadata", Side::Polling, long_ago);
        assert_eq!(calls.sides("metadata").count(), 0);
        assert_eq!(calls.sides("commit").count(), 2);
        while calls.go_on() {}
        assert!(
            number(&calls.end(), "metadata_p99_us") >= 1e6,
            "also when nothing counts yet"
        );
    }
}
