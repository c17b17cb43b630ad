//! Lane, fetcher and iterator of one partition as values: any order of what can happen to them, against a model.
//!
//! Nothing is started and nothing waits. The test does what the threads would do, one step at a time: an answer may come
//! late, for a Fetch that does not count any more; batches arrive damaged; the log is cut; the program seeks, and drops
//! its iterator in the middle of a batch.

#![allow(clippy::disallowed_methods, reason = "the test plays the drivers")]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use uuid::Uuid;

use super::{preparing::Prepared, *};
use crate::{
    cluster::{Cluster, ClusterConfig},
    consumer::{
        buffer::{Subscription, Turn},
        config::FetchConfig,
        fetch_lane::{LaneEntry, Role},
        fetch_plan::{Landed, Plan},
        lease::Lease,
        partition::{Ends, Partition},
    },
    offset::{StartAt, TopicPartition},
    wire::batch::{Compression, Compressor, Flags, tests::TestBatch},
};

const BROKERS: [i32; 2] = [1, 2];

#[derive(Debug, Clone)]
enum Step {
    /// A lane asks; what an earlier Fetch brings still counts unless something else has happened.
    Ask,
    /// The answer to one of the Fetches that are under way, with this many batches.
    Answer {
        which: usize,
        batches: usize,
        damaged: Option<usize>,
        cut_short: bool,
    },
    /// A Fetch fails.
    Fail(usize),
    Decode,
    /// The program asks for so many messages.
    Read(usize),
    /// The program drops its iterator.
    Drop {
        acked: bool,
    },
    Seek(usize),
    /// Another broker leads.
    Lead,
    /// The new leader has lost everything from here on, and has written something else since.
    Truncate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Ask),
        5 => (0_usize..4, 0_usize..5, prop::option::weighted(0.1, 0_usize..4), any::<bool>())
            .prop_map(|(which, batches, damaged, cut_short)| Step::Answer { which, batches, damaged, cut_short }),
        1 => (0_usize..4).prop_map(Step::Fail),
        5 => Just(Step::Decode),
        6 => (1_usize..30).prop_map(Step::Read),
        2 => any::<bool>().prop_map(|acked| Step::Drop { acked }),
        1 => (0_usize..400).prop_map(Step::Seek),
        1 => Just(Step::Lead),
        1 => (0_usize..400).prop_map(Step::Truncate),
    ]
}

#[derive(Clone)]
/// A log of one partition, with gaps between batches and in front.
struct Log {
    /// By base offset: the batch's bytes, and the offset behind it.
    batches: BTreeMap<i64, (Vec<u8>, i64)>,
    /// What each offset holds.
    records: BTreeMap<i64, Vec<u8>>,
    end: i64,
    version: u8,
}

impl Log {
    fn new(shape: &[(u8, u8, bool)]) -> Self {
        let mut log = Self {
            batches: BTreeMap::new(),
            records: BTreeMap::new(),
            end: 0,
            version: 0,
        };
        for &(gap, records, compressed) in shape {
            log.append(gap, records, compressed);
        }
        log
    }

    fn append(&mut self, gap: u8, records: u8, compressed: bool) {
        let base = self.end + i64::from(gap);
        let mut writer = TestBatch::new();
        for at in 0..i64::from(records) {
            let value = format!("{}:{}", self.version, base + at).into_bytes();
            writer.append(base + at, None, Some(&value), &[]);
            self.records.insert(base + at, value);
        }
        let codec = if compressed {
            Compression::Lz4
        } else {
            Compression::None
        };
        let mut compressor = Compressor::new(codec, None).unwrap();
        let bytes = writer.finish(base, Flags::default(), &mut compressor);
        self.end = base + i64::from(records);
        self.batches.insert(base, (bytes, self.end));
    }

    /// Cuts the log at a batch's border, and writes something else.
    fn truncate(&mut self, at: i64) -> i64 {
        let at = self.batches.range(..=at).next_back().map_or(0, |(&base, _)| base);
        self.batches.split_off(&at);
        self.records.split_off(&at);
        self.end = at;
        self.version += 1;
        self.append(0, 7, false);
        self.append(2, 5, true);
        at
    }

    /// As a broker answers: whole batches from the one that holds the offset, and perhaps a part of one more.
    fn answer(&self, from: i64, batches: usize, damaged: Option<usize>, cut_short: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let found = self.batches.iter().filter(|(_, (_, end))| *end > from);
        for (at, (_, (batch, _))) in found.take(batches + 1).enumerate() {
            let start = bytes.len();
            bytes.extend_from_slice(batch);
            if damaged == Some(at) {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            if at == batches {
                bytes.truncate(if cut_short { start + batch.len() / 2 } else { start });
            }
        }
        bytes
    }
}

/// A Fetch under way: to whom, and the log that this broker had when it was asked.
struct Flight {
    plan: Plan,
    broker: i32,
    log: Log,
}

struct World {
    log: Log,
    shared: Arc<Shared>,
    slot: Slot,
    fetcher: Fetcher,
    flights: Vec<Flight>,
    leader: i32,
    lease: Option<Lease>,
    /// The offset below which the program wants nothing.
    expected: i64,
    in_hand: Option<i64>,
    epoch: i32,
    seen: usize,
}

impl World {
    fn new(log: Log) -> Self {
        let cluster = Cluster::connect_lazy(ClusterConfig::default());
        let subscription = Subscription::Topics(vec![Arc::from("orders")]);
        let shared = Shared::new(cluster, FetchConfig::default(), subscription, false);
        let name = TopicPartition::new("orders", 0);
        let mut partition = Partition::new(name, Uuid::from_u128(1), StartAt::Earliest, Some((BROKERS[0], 0)));
        partition.phase = Phase::Fetching;
        partition.position = 0;
        partition.decoded = 0;
        partition.ends = Some(Ends {
            high_watermark: log.end,
            last_stable: log.end,
        });
        let cell = Arc::clone(&partition.cell);
        let slot = {
            let mut state = shared.lock();
            for (broker, role) in BROKERS
                .into_iter()
                .flat_map(|id| [(id, Role::Session), (id, Role::Express)])
            {
                // Known lanes, so that none is started.
                let entry = LaneEntry::default();
                state.lanes.insert((broker, role), entry);
            }
            shared.add(&mut state, partition)
        };
        let fetcher = Fetcher {
            shared: Arc::clone(&shared),
            slot,
            cell,
            decoder: Decoder::new(1 << 20),
            expansion: Expansion::default(),
        };
        Self {
            log,
            shared,
            slot,
            fetcher,
            flights: Vec::new(),
            leader: BROKERS[0],
            lease: None,
            expected: 0,
            in_hand: None,
            epoch: 0,
            seen: 0,
        }
    }

    fn do_step(&mut self, step: &Step) {
        match *step {
            Step::Ask => self.ask(),
            Step::Answer {
                which,
                batches,
                damaged,
                cut_short,
            } => self.answer(which, batches, damaged, cut_short),
            Step::Fail(which) => {
                if let Some(mut flight) = self.take_flight(which) {
                    let mut state = self.shared.lock();
                    self.shared
                        .unbook(&mut state, flight.broker, Role::Session, &mut flight.plan);
                }
            }
            Step::Decode => self.decode(),
            Step::Read(count) => (0..count).for_each(|_| self.read()),
            Step::Drop { acked } => self.drop_iterator(acked),
            Step::Seek(to) => {
                let to = i64::try_from(to).unwrap().min(self.log.end);
                let mut state = self.shared.lock();
                self.shared.restart(&mut state, self.slot, StartAt::Offset(to));
                self.expected = to;
                self.in_hand = None;
            }
            Step::Lead => self.lead(None),
            Step::Truncate(at) => self.lead(Some(at)),
        }
    }

    fn ask(&mut self) {
        let mut state = self.shared.lock();
        // Long after any backoff.
        let now = Instant::now() + Duration::from_secs(3600);
        if let Ok(plan) = self.shared.plan(&mut state, self.leader, Role::Session, now) {
            let (broker, log) = (self.leader, self.log.clone());
            self.flights.push(Flight { plan, broker, log });
        }
    }

    fn take_flight(&mut self, which: usize) -> Option<Flight> {
        (!self.flights.is_empty()).then(|| self.flights.remove(which % self.flights.len()))
    }

    fn answer(&mut self, which: usize, batches: usize, damaged: Option<usize>, cut_short: bool) {
        let Some(Flight { mut plan, broker, log }) = self.take_flight(which) else {
            return;
        };
        let from = plan.wants[0].offset;
        let records = log.answer(from, batches, damaged, cut_short);
        let next = Walk::new(&records)
            .filter_map(Result::ok)
            .last()
            .map(|batch| (batch.next_offset, 0));
        let problem = (next.is_none() && !records.is_empty()).then_some("a part of a batch only");
        let ends = Ends {
            high_watermark: self.log.end,
            last_stable: self.log.end,
        };
        let landed = Landed {
            slot: self.slot,
            error: 0,
            ends,
            leader: None,
            preferred: None,
            from,
            count: 0,
            compressed: 0,
            longest: 0,
            records,
            aborted: Vec::new(),
            next: next.unwrap_or((from, -1)),
            problem,
            is_suspect: problem.is_some(),
        };
        let mut state = self.shared.lock();
        self.shared.unbook(&mut state, broker, Role::Session, &mut plan);
        let landing = self
            .shared
            .land(&mut state, broker, Role::Session, &plan, vec![landed], Instant::now());
        drop(state);
        self.shared.wake_fetchers(&landing.slots);
    }

    fn decode(&mut self) {
        let has_raw = self.shared.lock().partitions[&self.slot].raw.front().is_some();
        if has_raw {
            if let Job::Decode(raw) = self.fetcher.wait() {
                self.fetcher.decode(raw);
            }
        }
    }

    fn read(&mut self) {
        loop {
            if let Some(message) = self.lease.as_mut().and_then(Lease::next) {
                let message = message.unwrap();
                let offset = message.offset();
                let next = self.log.records.range(self.expected..).next();
                let (&wanted, value) = next.expect("something came where nothing is left");
                assert_eq!(offset, wanted, "the next message");
                assert_eq!(message.value(), Some(&value[..]), "of the log as it is");
                self.expected = offset + 1;
                self.in_hand = Some(offset);
                self.seen += 1;
                return;
            }
            self.in_hand = None;
            match self.shared.next_lease(self.lease.take(), Some(Instant::now())) {
                Turn::Lease(lease) => self.lease = Some(lease),
                Turn::TimedOut => return,
                // Damaged again and again: as told, a seek goes on.
                Turn::Failed(error) if error.kind() == ErrorKind::Corrupt => {
                    let mut state = self.shared.lock();
                    self.shared
                        .restart(&mut state, self.slot, StartAt::Offset(self.expected));
                    return;
                }
                Turn::Failed(error) => panic!("{error}"),
                Turn::Ended => panic!("ended"),
            }
        }
    }

    fn drop_iterator(&mut self, acked: bool) {
        let Some(lease) = self.lease.take() else { return };
        if let Some(offset) = self.in_hand.take() {
            if acked {
                lease.walker.chunk.data.acked.fetch_max(offset + 1, Ordering::Relaxed);
            } else {
                self.expected = offset;
            }
        }
        self.shared.put_back(lease);
    }

    /// A new leader, whose log the fetcher then checks.
    fn lead(&mut self, truncated: Option<usize>) {
        self.epoch += 1;
        // A log that was cut is another broker's; the same one may also be elected again.
        if truncated.is_some() {
            self.leader = BROKERS[usize::from(self.leader == BROKERS[0])];
        }
        let mut state = self.shared.lock();
        self.shared.lead(&mut state, self.slot, (self.leader, self.epoch));
        let position = state.partitions[&self.slot].position;
        if matches!(state.partitions[&self.slot].phase, Phase::Fetching) {
            // Nothing was read yet that could be checked.
            return;
        }
        let prepared = match truncated {
            Some(at) => {
                let at = self.log.truncate(i64::try_from(at).unwrap());
                // What the program has of the old log it keeps; what comes next is of the new one.
                self.expected = self.expected.min(at);
                self.in_hand = self.in_hand.filter(|&offset| offset < at);
                if at < position {
                    Prepared::Diverged(at)
                } else {
                    Prepared::Valid
                }
            }
            None => Prepared::Valid,
        };
        self.fetcher.prepared(&mut state, prepared);
    }

    /// From here on all goes well: everything that is left arrives.
    fn finish(&mut self) {
        for _ in 0..2000 {
            if self.log.records.range(self.expected..).next().is_none() {
                return;
            }
            self.ask();
            self.answer(0, 3, None, true);
            self.decode();
            (0..50).for_each(|_| self.read());
        }
        panic!("nothing comes any more, at offset {}", self.expected);
    }

    fn check_accounts(&self) {
        let state = self.shared.lock();
        let partition = &state.partitions[&self.slot];
        let ready: usize = partition.chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!(partition.account.ready, ready, "bytes that are ready");
        let raw: usize = partition.raw.iter().map(|raw| raw.bytes.len()).sum();
        assert_eq!(partition.account.raw, raw, "bytes that are raw");
        let in_hand = self.lease.as_ref().map_or(0, |lease| lease.walker.chunk.bytes);
        assert_eq!(partition.account.in_hand, in_hand, "bytes in hand");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(600), ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_message_comes_in_order_and_none_is_lost(
        shape in prop::collection::vec((0_u8..4, 1_u8..20, any::<bool>()), 1..40),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(Log::new(&shape));
        for step in &steps {
            world.do_step(step);
            world.check_accounts();
        }
        world.finish();
        world.drop_iterator(true);
        world.check_accounts();
    }
}
