//! Partitions of a group as values: iterators, acks and handovers in any order, against a naive model.
//!
//! Nothing is started and nothing waits, as in `tests`. What the program may do, it does: it keeps messages, drops them
//! late or in a panic, acks them in any order and after they were lost; it seeks and pauses; logs are cut; the group takes
//! everything away, and gives it back.

#![allow(clippy::disallowed_methods, reason = "the test plays the drivers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    cluster::{Cluster, ClusterConfig},
    consumer::{
        acks::{AckMode, CommitOrder},
        budget::Account,
        buffer::{Subscription, Turn},
        config::FetchConfig,
        fetch_lane::{LaneEntry, Role},
        handover::{Claim, ClaimFrom, Progress},
        lease::Lease,
        message::{Batch, Message},
        ownership::{Terms, Validity},
        partition::Ends,
    },
    offset::TopicPartition,
    wire::{
        batch::{Compression, Compressor},
        fetch::AbortedTransaction,
    },
};

const BROKER: i32 = 1;
const PARTITIONS: usize = 2;
const ITERATORS: usize = 3;

// ---- a log ----

/// What is appended to a log.
#[derive(Debug, Clone)]
enum Piece {
    /// Which of the offsets hold a record, so many offsets behind the last one that do not, and whether it is compressed.
    Records(Vec<bool>, u8, bool),
    Aborted(u8),
    Marker,
    /// Offsets without any batch.
    Gap(u8),
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        6 => (prop::collection::vec(prop::bool::weighted(0.8), 1..9), 0_u8..3, prop::bool::weighted(0.3))
            .prop_map(|(there, behind, compressed)| Piece::Records(there, behind, compressed)),
        1 => (1_u8..4).prop_map(Piece::Aborted),
        1 => Just(Piece::Marker),
        1 => (1_u8..4).prop_map(Piece::Gap),
    ]
}

#[derive(Clone)]
struct Log {
    /// By base offset: the batch's bytes, and the offset behind it.
    batches: BTreeMap<i64, (Vec<u8>, i64)>,
    /// What is to be seen.
    records: BTreeMap<i64, Vec<u8>>,
    aborted: Vec<AbortedTransaction>,
    end: i64,
    version: i32,
}

impl Log {
    fn new(pieces: &[Piece]) -> Self {
        let mut log = Self {
            batches: BTreeMap::new(),
            records: BTreeMap::new(),
            aborted: Vec::new(),
            end: 0,
            version: 0,
        };
        for piece in pieces {
            log.append(piece);
        }
        log
    }

    fn append(&mut self, piece: &Piece) {
        match piece {
            Piece::Records(there, behind, compressed) => {
                let offsets = there.iter().enumerate().filter(|(_, there)| **there);
                let deltas: Vec<u8> = offsets.map(|(at, _)| u8::try_from(at).unwrap()).collect();
                let last = u8::try_from(there.len()).unwrap() - 1 + behind;
                for &delta in &deltas {
                    let offset = self.end + i64::from(delta);
                    self.records.insert(offset, self.value(offset));
                }
                self.batch(&deltas, last, if *compressed { 3 } else { 0 }, -1, None);
            }
            Piece::Aborted(records) => {
                // One producer for each, so that where an answer begins does not matter.
                let producer_id = self.end + 1000;
                self.aborted.push(AbortedTransaction {
                    producer_id,
                    first_offset: self.end,
                });
                let deltas: Vec<u8> = (0..*records).collect();
                self.batch(&deltas, records - 1, 0x10, producer_id, None);
                self.batch(&[0], 0, 0x30, producer_id, Some(&[0, 0, 0, 0]));
            }
            Piece::Marker => self.batch(&[0], 0, 0x30, 7, Some(&[0, 0, 0, 1])),
            Piece::Gap(offsets) => self.end += i64::from(*offsets),
        }
    }

    fn value(&self, offset: i64) -> Vec<u8> {
        format!("{}:{offset}", self.version).into_bytes()
    }

    fn batch(&mut self, deltas: &[u8], last: u8, attributes: u8, producer_id: i64, key: Option<&[u8]>) {
        let mut records = Vec::new();
        for &delta in deltas {
            let value = self.value(self.end + i64::from(delta));
            let mut body = vec![0, 0, delta * 2];
            match key {
                Some(key) => {
                    body.push(u8::try_from(key.len()).unwrap() * 2);
                    body.extend_from_slice(key);
                }
                None => body.push(1),
            }
            body.push(u8::try_from(value.len()).unwrap() * 2);
            body.extend_from_slice(&value);
            body.push(0);
            records.push(u8::try_from(body.len()).unwrap() * 2);
            records.extend_from_slice(&body);
        }
        let mut bytes = vec![0; 61];
        if attributes & 7 == 0 {
            bytes.extend_from_slice(&records);
        } else {
            let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
            compressor.compress(&records, &mut bytes).unwrap();
        }
        let length = i32::try_from(bytes.len() - 12).unwrap();
        let count = i32::try_from(deltas.len()).unwrap();
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.end.to_be_bytes());
        put(8, &length.to_be_bytes());
        put(12, &self.version.to_be_bytes()); // the leader's epoch
        put(16, &[2]);
        put(21, &[0, attributes]);
        put(23, &i32::from(last).to_be_bytes());
        put(43, &producer_id.to_be_bytes());
        put(53, &(-1_i32).to_be_bytes());
        put(57, &count.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        let behind = self.end + i64::from(last) + 1;
        self.batches.insert(self.end, (bytes, behind));
        self.end = behind;
    }

    /// Where the batch begins that holds this offset, or the last one before it.
    fn border(&self, at: i64) -> i64 {
        self.batches.range(..=at).next_back().map_or(0, |(&base, _)| base)
    }

    /// Removes what lies between these.
    fn forget(&mut self, from: i64, to: i64) {
        let all = self.batches.iter().map(|(&base, &(_, behind))| (base, behind));
        let gone: Vec<_> = all.filter(|&(base, behind)| behind > from && base < to).collect();
        for (base, behind) in gone {
            self.batches.remove(&base);
            self.records.retain(|offset, _| !(base..behind).contains(offset));
        }
    }

    /// Cuts the log at a batch's border, and writes something else.
    fn truncate(&mut self, at: i64) -> i64 {
        let at = self.border(at);
        self.batches.split_off(&at);
        self.records.split_off(&at);
        self.aborted.retain(|aborted| aborted.first_offset < at);
        self.end = at;
        self.version += 1;
        self.append(&Piece::Records(vec![true, true, false, true], 1, false));
        self.append(&Piece::Marker);
        self.append(&Piece::Records(vec![true; 5], 0, true));
        at
    }

    /// As a broker answers: whole batches from the one that holds the offset; and the position behind them.
    fn answer(&self, from: i64, batches: usize) -> (Vec<u8>, i64) {
        let (mut bytes, mut next) = (Vec::new(), from);
        for (batch, behind) in self.batches.values().filter(|(_, behind)| *behind > from).take(batches) {
            bytes.extend_from_slice(batch);
            next = *behind;
        }
        (bytes, next)
    }

    /// What is to be seen of these offsets.
    fn between(&self, from: i64, to: i64) -> impl Iterator<Item = i64> + '_ {
        self.records.range(from..to.max(from)).map(|(&offset, _)| offset)
    }

    /// The end of the last batch: where reading comes to.
    fn readable_end(&self) -> i64 {
        self.batches.values().next_back().map_or(0, |(_, behind)| *behind)
    }
}

// ---- what happens ----

#[derive(Debug, Clone)]
enum Step {
    Feed(usize, usize),
    /// An iterator is asked for the next message, as `for` does (true) or as `next_timeout`. The last one is dropped before.
    Next(usize, bool, usize),
    NextBatch(usize),
    DropIterator(usize),
    /// What the program has in hand of this iterator: moved elsewhere, dropped, dropped by a panic, together with the iterator.
    Keep(usize),
    LetGo(usize),
    Panic(usize),
    PanicWithIterator(usize),
    /// The same, inside of the loop: the iterator goes first, the message after it.
    IteratorFirst(usize),
    AckInHand(usize),
    ReleaseInHand(usize),
    /// What was moved elsewhere.
    AckKept(usize),
    ReleaseKept(usize),
    DropKept(usize),
    PanicKept(usize),
    /// A batch becomes messages.
    Split(usize),
    AckThrough(usize, usize),
    Seek(usize, usize),
    Pause(usize, bool),
    Truncate(usize, usize),
    Reset(usize, usize),
    Drain,
    GiveUp,
    Claim,
}

fn step() -> impl Strategy<Value = Step> {
    let part = 0..PARTITIONS;
    let it = 0..ITERATORS;
    let which = 0_usize..1000;
    prop_oneof![
        20 => (part.clone(), 1_usize..5).prop_map(|(part, batches)| Step::Feed(part, batches)),
        30 => (it.clone(), any::<bool>(), 1_usize..6).prop_map(|(it, fast, times)| Step::Next(it, fast, times)),
        7 => it.clone().prop_map(Step::NextBatch),
        5 => it.clone().prop_map(Step::DropIterator),
        14 => it.clone().prop_map(Step::Keep),
        3 => it.clone().prop_map(Step::LetGo),
        2 => it.clone().prop_map(Step::Panic),
        2 => it.clone().prop_map(Step::PanicWithIterator),
        2 => it.clone().prop_map(Step::IteratorFirst),
        10 => it.clone().prop_map(Step::AckInHand),
        3 => it.prop_map(Step::ReleaseInHand),
        14 => which.clone().prop_map(Step::AckKept),
        4 => which.clone().prop_map(Step::ReleaseKept),
        8 => which.clone().prop_map(Step::DropKept),
        1 => which.clone().prop_map(Step::PanicKept),
        4 => which.clone().prop_map(Step::Split),
        2 => (part.clone(), which.clone()).prop_map(|(part, at)| Step::AckThrough(part, at)),
        1 => (part.clone(), which.clone()).prop_map(|(part, to)| Step::Seek(part, to)),
        2 => (part.clone(), any::<bool>()).prop_map(|(part, paused)| Step::Pause(part, paused)),
        1 => (part.clone(), which.clone()).prop_map(|(part, at)| Step::Truncate(part, at)),
        1 => (part, which).prop_map(|(part, to)| Step::Reset(part, to)),
        2 => Just(Step::Drain),
        2 => Just(Step::GiveUp),
        4 => Just(Step::Claim),
    ]
}

// ---- the model ----

/// What is true of one partition since the last claim or seek.
#[derive(Default)]
struct Model {
    /// Rises with each of those; what belongs to an earlier one does not count.
    era: u64,
    start: i64,
    /// The next record to be given out is the first one from here on.
    next: i64,
    given: BTreeSet<i64>,
    /// Behind the last one that was ever given out.
    behind: i64,
    /// May be committed, and must be.
    finished: BTreeSet<i64>,
    released: BTreeSet<i64>,
    paused: bool,
    /// What a restart of the reading goes by.
    committed: i64,
}

impl Model {
    fn restart(&mut self, at: i64) {
        self.era += 1;
        self.start = at;
        self.next = at;
        self.given.clear();
        self.behind = at;
        self.finished.clear();
        self.released.clear();
    }

    fn unfinished(&self) -> usize {
        let is_open = |offset: &&i64| !self.finished.contains(offset) && !self.released.contains(offset);
        self.given.iter().filter(is_open).count()
    }
}

enum Object {
    Message(Message),
    Batch(Batch),
}

/// Something that the program has, of what an iterator gave at once.
struct Thing {
    hand: u64,
    part: usize,
    era: u64,
    chunk: usize,
    offsets: Vec<i64>,
    object: Object,
}

/// What an iterator gave last.
struct Hand {
    id: u64,
    part: usize,
    era: u64,
    chunk: usize,
    is_batch: bool,
    offsets: Vec<i64>,
    spoiled: bool,
}

#[derive(Default)]
struct Iterating {
    lease: Option<Lease>,
    hand: Option<Hand>,
    thing: Option<Thing>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Owned,
    Draining,
    Gone,
}

struct World {
    logs: Vec<Log>,
    models: Vec<Model>,
    shared: Arc<Shared>,
    terms: Terms,
    slots: Vec<Slot>,
    fetchers: Vec<Option<Fetcher>>,
    iterators: Vec<Iterating>,
    kept: Vec<Thing>,
    hands: u64,
    stage: Stage,
}

struct Panic;

impl World {
    fn new(logs: Vec<Log>, mode: AckMode, order: CommitOrder, window: usize) -> Self {
        let cluster = Cluster::connect_lazy(ClusterConfig::default());
        let subscription = Subscription::Group(vec![Arc::from("orders")]);
        let config = FetchConfig {
            prefetch_count: window,
            ..FetchConfig::default()
        };
        let shared = Shared::new(cluster, config, subscription, false);
        for role in [Role::Session, Role::Express] {
            // Known lanes, so that none is started.
            let entry = LaneEntry::default();
            shared.lock().lanes.insert((BROKER, role), entry);
        }
        let now = Instant::now();
        let validity = Validity::new(now);
        validity.set(Some(now + Duration::from_secs(36000)));
        let terms = Terms {
            mode,
            order,
            window,
            rule: crate::consumer::config::PrefetchRule::Either,
            validity: Arc::new(validity),
        };
        let mut world = Self {
            models: logs.iter().map(|_| Model::default()).collect(),
            fetchers: logs.iter().map(|_| None).collect(),
            slots: logs.iter().map(|_| 0).collect(),
            logs,
            shared,
            terms,
            iterators: (0..ITERATORS).map(|_| Iterating::default()).collect(),
            kept: Vec::new(),
            hands: 0,
            stage: Stage::Gone,
        };
        world.claim();
        world
    }

    fn claim(&mut self) {
        if self.stage != Stage::Gone {
            return;
        }
        self.stage = Stage::Owned;
        let claims = self.models.iter().enumerate().map(|(part, model)| Claim {
            name: name(part),
            topic_id: Uuid::from_u128(1),
            leader: Some((BROKER, 0)),
            from: ClaimFrom::Committed {
                offset: model.committed,
                epoch: -1,
            },
        });
        self.shared.claim(claims.collect(), &self.terms);
        let mut state = self.shared.lock();
        for (part, log) in self.logs.iter().enumerate() {
            let slot = state.index[&name(part)];
            let partition = state.partitions.get_mut(&slot).unwrap();
            partition.ends = Some(Ends {
                high_watermark: log.end,
                last_stable: log.end,
            });
            self.slots[part] = slot;
            self.fetchers[part] = Some(Fetcher {
                shared: Arc::clone(&self.shared),
                slot,
                cell: Arc::clone(&partition.cell),
                decoder: Decoder::new(1 << 20),
                expansion: Expansion::default(),
            });
            let model = &mut self.models[part];
            model.restart(model.committed);
            model.paused = false;
        }
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each step")]
    fn do_step(&mut self, step: &Step) {
        match *step {
            Step::Feed(part, batches) => {
                self.feed(part, batches);
            }
            Step::Next(it, fast, times) => {
                for _ in 0..times {
                    self.ask(it, Some(fast));
                }
            }
            Step::NextBatch(it) => {
                self.ask(it, None);
            }
            Step::DropIterator(it) => {
                self.let_go(it);
                self.drop_iterator(it);
            }
            Step::Keep(it) => self.kept.extend(self.iterators[it].thing.take()),
            Step::LetGo(it) => self.let_go(it),
            Step::Panic(it) => {
                if let Some(thing) = self.iterators[it].thing.take() {
                    self.spoil(thing.hand);
                    panic_with(thing);
                }
            }
            Step::PanicWithIterator(it) => {
                if let Some(thing) = self.iterators[it].thing.take() {
                    self.spoil(thing.hand);
                    let (shared, lease) = (Arc::clone(&self.shared), self.iterators[it].lease.take());
                    self.model_drop(it);
                    panic_with((thing, PutBack(shared, lease)));
                }
            }
            Step::IteratorFirst(it) => {
                self.drop_iterator(it);
                self.let_go(it);
            }
            Step::AckInHand(it) => {
                if let Some(thing) = self.iterators[it].thing.take() {
                    self.ack(&thing);
                    self.iterators[it].thing = Some(thing);
                }
            }
            Step::ReleaseInHand(it) => {
                if let Some(thing) = self.iterators[it].thing.take() {
                    self.release(&thing);
                    self.iterators[it].thing = Some(thing);
                }
            }
            Step::AckKept(which) => {
                if let Some(thing) = self.take_kept(which) {
                    self.ack(&thing);
                    self.kept.push(thing);
                }
            }
            Step::ReleaseKept(which) => {
                if let Some(thing) = self.take_kept(which) {
                    self.release(&thing);
                    self.kept.push(thing);
                }
            }
            Step::DropKept(which) => drop(self.take_kept(which)),
            Step::PanicKept(which) => {
                if let Some(thing) = self.take_kept(which) {
                    self.spoil(thing.hand);
                    panic_with(thing);
                }
            }
            Step::Split(which) => self.split(which),
            Step::AckThrough(part, at) => self.ack_through(part, at),
            Step::Seek(part, to) => {
                let end = self.logs[part].end;
                let to = i64::try_from(to).unwrap() % (end + 1);
                self.restart(part, to);
            }
            Step::Pause(part, paused) => self.pause(part, paused),
            Step::Truncate(part, at) => self.truncate(part, at),
            Step::Reset(part, to) => self.reset(part, to),
            Step::Drain => {
                if self.stage == Stage::Owned {
                    self.shared.drain();
                    self.stage = Stage::Draining;
                }
            }
            Step::GiveUp => self.give_up(),
            Step::Claim => self.claim(),
        }
    }

    fn take_kept(&mut self, which: usize) -> Option<Thing> {
        (!self.kept.is_empty()).then(|| self.kept.swap_remove(which % self.kept.len()))
    }

    /// Records arrive and are decoded. False when there are none, or there is no room for them.
    fn feed(&mut self, part: usize, batches: usize) -> bool {
        if self.stage != Stage::Owned {
            return false;
        }
        let slot = self.slots[part];
        {
            let mut state = self.shared.lock();
            let State { partitions, budget, .. } = &mut *state;
            let partition = partitions.get_mut(&slot).unwrap();
            assert!(matches!(partition.phase, Phase::Fetching));
            let (bytes, next) = self.logs[part].answer(partition.position, batches);
            if partition.paused || bytes.is_empty() || budget.room(&partition.account, &self.shared.config) == 0 {
                return false;
            }
            budget.change(&mut partition.account, |account| account.raw += bytes.len());
            partition.raw.push_back(Raw {
                is_plain: true,
                epoch: partition.epoch(),
                from: partition.position,
                bytes,
                records: 0,
                growth: 0,
                aborted: self.logs[part].aborted.clone(),
                readable_end: next,
                problem: None,
            });
            partition.position = next;
        }
        let fetcher = self.fetchers[part].as_mut().unwrap();
        match fetcher.wait() {
            Job::Decode(raw) => fetcher.decode(raw),
            _ => panic!("there was something to decode"),
        }
        self.shared.lock().partitions.get_mut(&slot).unwrap().decoding = false;
        true
    }

    // ---- iterators ----

    fn let_go(&mut self, it: usize) {
        drop(self.iterators[it].thing.take());
    }

    /// A thing of this hand is dropped by a panic.
    fn spoil(&mut self, hand: u64) {
        for iterating in &mut self.iterators {
            if let Some(in_hand) = iterating.hand.as_mut().filter(|in_hand| in_hand.id == hand) {
                in_hand.spoiled = true;
            }
        }
    }

    /// Whether the program has something of this. Of a batch that cannot be told from what else it has of the same chunk.
    fn is_alive(&self, hand: &Hand) -> bool {
        let mut things = self
            .iterators
            .iter()
            .filter_map(|it| it.thing.as_ref())
            .chain(&self.kept);
        things.any(|thing| thing.hand == hand.id || hand.is_batch && thing.chunk == hand.chunk)
    }

    /// The program asks for more: what it had of this iterator is done, if nothing of it is left.
    fn model_ask(&mut self, it: usize) {
        let Some(hand) = self.iterators[it].hand.take() else {
            return;
        };
        let is_done = self.terms.mode == AckMode::OnNext && !hand.spoiled && !self.is_alive(&hand);
        let model = &mut self.models[hand.part];
        if is_done && hand.era == model.era && self.stage != Stage::Gone {
            model.finished.extend(hand.offsets);
        }
    }

    /// The iterator goes: what nobody has is given again.
    fn model_drop(&mut self, it: usize) {
        let Some(hand) = self.iterators[it].hand.take() else {
            return;
        };
        let is_alive = self.is_alive(&hand);
        let model = &mut self.models[hand.part];
        if hand.era != model.era || self.stage == Stage::Gone || is_alive {
            return;
        }
        if let Some(&again) = hand.offsets.iter().find(|&offset| !model.finished.contains(offset)) {
            model.next = again;
            model.given.split_off(&again);
        }
    }

    fn drop_iterator(&mut self, it: usize) {
        let lease = self.iterators[it].lease.take();
        self.model_drop(it);
        if let Some(lease) = lease {
            self.shared.put_back(lease);
        }
    }

    /// As `Iter` does: for a message, the fast way or not, or for a batch. False when nothing is there.
    fn ask(&mut self, it: usize, fast: Option<bool>) -> bool {
        self.let_go(it);
        self.model_ask(it);
        let mut lease = self.iterators[it].lease.take();
        let mut found = match fast {
            Some(true) => lease.as_mut().and_then(Lease::next_common).map(Object::Message),
            _ => None,
        };
        while found.is_none() {
            let given = lease.as_mut().and_then(|lease| match fast {
                Some(_) => lease.next().map(|message| Object::Message(message.unwrap())),
                None => lease.next_batch().map(|batch| Object::Batch(batch.unwrap())),
            });
            found = given;
            if found.is_none() {
                match self.shared.next_lease(lease.take(), Some(Instant::now())) {
                    Turn::Lease(taken) => lease = Some(taken),
                    Turn::TimedOut => break,
                    Turn::Failed(error) => panic!("{error}"),
                    Turn::Ended => panic!("ended"),
                }
            }
        }
        self.iterators[it].lease = lease;
        match found {
            Some(object) => self.given(it, object),
            None => {
                self.check_nothing_is_there();
                false
            }
        }
    }

    fn given(&mut self, it: usize, object: Object) -> bool {
        assert_eq!(self.stage, Stage::Owned, "nothing is given out of what is given up");
        let (part, offsets) = match &object {
            Object::Message(message) => (message.partition(), vec![message.offset()]),
            Object::Batch(batch) => {
                let messages = batch.iter().map(|message| message.unwrap().offset());
                (batch.partition(), messages.collect())
            }
        };
        let part = usize::try_from(part).unwrap();
        let (model, log) = (&mut self.models[part], &self.logs[part]);
        assert!(!model.paused, "nothing is given out of what is paused");
        let wanted: Vec<i64> = log
            .records
            .range(model.next..)
            .take(offsets.len())
            .map(|(&offset, _)| offset)
            .collect();
        assert_eq!(offsets, wanted, "the next messages of partition {part}");
        if let Object::Message(message) = &object {
            assert_eq!(message.value(), log.records.get(&offsets[0]).map(Vec::as_slice));
        }
        assert!(
            model.unfinished() < self.terms.window,
            "given {offsets:?} with {} unfinished already",
            model.unfinished()
        );
        model.next = offsets.last().unwrap() + 1;
        model.behind = model.behind.max(model.next);
        model.given.extend(&offsets);
        self.hands += 1;
        let (hand, era) = (self.hands, model.era);
        let chunk = self.iterators[it]
            .lease
            .as_ref()
            .map_or(0, |lease| Arc::as_ptr(&lease.walker.chunk.data).addr());
        self.iterators[it].hand = Some(Hand {
            id: hand,
            part,
            era,
            chunk,
            is_batch: matches!(object, Object::Batch(_)),
            offsets: offsets.clone(),
            spoiled: false,
        });
        self.iterators[it].thing = Some(Thing {
            hand,
            part,
            era,
            chunk,
            offsets,
            object,
        });
        true
    }

    /// An iterator got nothing: rightly so?
    fn check_nothing_is_there(&self) {
        if self.stage != Stage::Owned {
            return;
        }
        let state = self.shared.lock();
        for (part, model) in self.models.iter().enumerate() {
            let partition = &state.partitions[&self.slots[part]];
            let has_records = model.next < partition.position
                && self.logs[part]
                    .records
                    .range(model.next..partition.position)
                    .next()
                    .is_some();
            let is_open = partition.leased.is_none() && !model.paused && model.unfinished() < self.terms.window;
            assert!(
                !(has_records && is_open),
                "partition {part} is stuck at {} with {} unfinished",
                model.next,
                model.unfinished()
            );
        }
    }

    // ---- acks ----

    fn ack(&mut self, thing: &Thing) {
        let model = &mut self.models[thing.part];
        let is_current = self.stage != Stage::Gone && thing.era == model.era;
        let counted = match &thing.object {
            Object::Message(message) => {
                assert_eq!(message.is_current(), is_current);
                message.ack()
            }
            Object::Batch(batch) => batch.ack(),
        };
        assert_eq!(counted, is_current, "an ack of {:?}", thing.offsets);
        if is_current {
            model.finished.extend(&thing.offsets);
            if self.terms.order != CommitOrder::LowestContiguous {
                let below = self.logs[thing.part].records.range(..=thing.offsets.last().unwrap());
                model.finished.extend(below.map(|(&offset, _)| offset));
            }
        }
    }

    fn release(&mut self, thing: &Thing) {
        let model = &mut self.models[thing.part];
        if let Object::Message(message) = &thing.object {
            message.release();
            if self.stage != Stage::Gone && thing.era == model.era {
                model.released.extend(&thing.offsets);
            }
        }
    }

    fn split(&mut self, which: usize) {
        let Some(thing) = self.take_kept(which) else { return };
        match thing.object {
            Object::Message(_) => self.kept.push(thing),
            Object::Batch(batch) => {
                let things = batch.into_iter().zip(&thing.offsets).map(|(message, &offset)| Thing {
                    hand: thing.hand,
                    part: thing.part,
                    era: thing.era,
                    chunk: thing.chunk,
                    offsets: vec![offset],
                    object: Object::Message(message.unwrap()),
                });
                self.kept.extend(things);
            }
        }
    }

    fn ack_through(&mut self, part: usize, at: usize) {
        if self.stage == Stage::Gone {
            return;
        }
        let model = &mut self.models[part];
        let at = i64::try_from(at).unwrap() % (self.logs[part].end + 1);
        let result = self.shared.lock().partitions[&self.slots[part]]
            .ack_through(at)
            .unwrap();
        self.shared.settle(self.slots[part]);
        let next = self.logs[part].records.range(model.next.max(model.behind)..).next();
        if next.is_some_and(|(&next, _)| at >= next) {
            assert!(result.is_err(), "{at} was not given out yet: {} is next", model.next);
        }
        if model.given.last().is_some_and(|&last| at <= last) {
            assert!(result.is_ok(), "{at} was given out");
        }
        if result.is_ok() {
            model.finished.extend(self.logs[part].between(model.start, at + 1));
        }
    }

    // ---- what happens to partitions ----

    fn restart(&mut self, part: usize, to: i64) {
        if self.stage != Stage::Owned {
            return;
        }
        let mut state = self.shared.lock();
        self.shared.restart(&mut state, self.slots[part], StartAt::Offset(to));
        self.models[part].restart(to);
    }

    fn pause(&mut self, part: usize, paused: bool) {
        if self.stage == Stage::Gone {
            return;
        }
        // As `Stream::pause` and `resume` do.
        let mut state = self.shared.lock();
        let partition = state.partitions.get_mut(&self.slots[part]).unwrap();
        partition.paused = paused;
        if paused && partition.leased.is_some() {
            partition.cell.recall.store(true, Ordering::Release);
        }
        if !paused {
            self.shared.offer(&mut state, self.slots[part]);
        }
        self.models[part].paused = paused;
    }

    fn truncate(&mut self, part: usize, at: usize) {
        if self.stage != Stage::Owned {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let position = state.partitions[&self.slots[part]].position;
        let at = i64::try_from(at).unwrap() % (self.logs[part].end + 1);
        let at = self.logs[part].truncate(at);
        if at >= position {
            return;
        }
        let prepared = Prepared::Diverged(at);
        self.fetchers[part].as_ref().unwrap().prepared(&mut state, prepared);
        self.check_restart(&state, part, at);
    }

    /// Reading begins anew where the log was cut, or before that, where the program is not done.
    fn check_restart(&mut self, state: &State, part: usize, at: i64) {
        let model = &mut self.models[part];
        let from = state.partitions[&self.slots[part]].stands_at;
        let unfinished = model.given.iter().find(|offset| !model.finished.contains(offset));
        assert!(from <= at && from >= model.start.min(at) && unfinished.is_none_or(|&unfinished| from <= unfinished));
        model.restart(from);
    }

    /// The log has lost its front, or what was read is beyond its end.
    fn reset(&mut self, part: usize, to: usize) {
        if self.stage != Stage::Owned {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let from = state.partitions[&self.slots[part]].position;
        let to = self.logs[part].border(i64::try_from(to).unwrap() % (self.logs[part].end + 1));
        self.fetchers[part]
            .as_ref()
            .unwrap()
            .prepared(&mut state, Prepared::Reset { from, to });
        if to < from {
            self.check_restart(&state, part, to);
            return;
        }
        self.logs[part].forget(from, to);
    }

    fn give_up(&mut self) {
        if self.stage == Stage::Gone {
            return;
        }
        let given_up = self.shared.give_up();
        assert_eq!(given_up.len(), PARTITIONS);
        for one in given_up {
            let part = usize::try_from(one.name.partition()).unwrap();
            self.check_progress(part, one.progress.as_ref());
            let model = &mut self.models[part];
            let oldest = model.given.iter().find(|offset| !model.finished.contains(offset));
            if let (CommitOrder::LowestContiguous, Some(&oldest)) = (self.terms.order, oldest) {
                // Where nothing is to be seen may be named instead of the message behind it.
                let named = one.unfinished.expect("something is not finished");
                assert!(named <= oldest && self.logs[part].between(named, oldest).next().is_none());
            }
            if let Some(progress) = one.progress {
                model.committed = progress.offset;
            }
        }
        self.stage = Stage::Gone;
        assert!(self.shared.lock().partitions.is_empty());
    }

    // ---- what must be true ----

    fn check_progress(&self, part: usize, progress: Option<&Progress>) {
        let (model, log) = (&self.models[part], &self.logs[part]);
        let offset = progress.map_or(model.start, |progress| progress.offset);
        let open = log.records.range(model.start..).map(|(&offset, _)| offset);
        match self.terms.order {
            CommitOrder::LowestContiguous => {
                let lowest = open.into_iter().find(|offset| !model.finished.contains(offset));
                assert!(
                    lowest.is_none_or(|lowest| offset <= lowest),
                    "{offset} of partition {part} would be committed, and {lowest:?} is not finished"
                );
                let left_out = log.between(offset, lowest.unwrap_or(i64::MAX)).next();
                // Where a batch has gaps is looked at when the iterator is done with it.
                let is_batch_in_hand = self.iterators.iter().any(|it| {
                    let hand = it
                        .hand
                        .as_ref()
                        .filter(|hand| hand.part == part && hand.era == model.era);
                    hand.is_some_and(|hand| hand.is_batch)
                });
                assert!(
                    left_out.is_none() || is_batch_in_hand,
                    "{offset} of partition {part} would be committed, and all below {lowest:?} is finished"
                );
            }
            CommitOrder::Monotonic | CommitOrder::LastWins => {
                let highest = model.finished.last();
                let above = log.between(highest.map_or(model.start, |highest| highest + 1), offset);
                assert_eq!(
                    above.count(),
                    0,
                    "{offset} of partition {part} lies above all that is finished"
                );
            }
        }
        if let Some(progress) = progress {
            let epoch = log
                .batches
                .range(..progress.offset)
                .next_back()
                .map_or(-1, |(_, (bytes, _))| i32::from(bytes[15]));
            assert!(progress.epoch <= epoch, "the leader epoch of {progress:?}");
        }
    }

    fn check(&self) {
        for progress in self.shared.progress() {
            let part = usize::try_from(progress.name.partition()).unwrap();
            self.check_progress(part, Some(&progress));
        }
        if self.stage == Stage::Gone {
            return;
        }
        let state = self.shared.lock();
        for (part, model) in self.models.iter().enumerate() {
            let partition = &state.partitions[&self.slots[part]];
            let ready: usize = partition.chunks.iter().map(|chunk| chunk.bytes).sum();
            assert_eq!(partition.account.ready, ready, "bytes that are ready");
            assert_eq!(partition.account.raw, 0);
            let is_owned = self.stage == Stage::Owned && partition.leased.is_none();
            if is_owned && model.given.iter().all(|offset| model.finished.contains(offset)) {
                assert_eq!(partition.account.in_hand, 0, "all of partition {part} is finished");
                assert_eq!(partition.account.in_hand_records, 0);
            }
        }
        drop(state);
        if self.stage == Stage::Draining {
            self.check_let_go();
        }
    }

    fn check_let_go(&self) {
        let is_leased = self.iterators.iter().any(|it| it.lease.is_some()) && self.shared.is_leased();
        let in_program = self
            .iterators
            .iter()
            .filter_map(|it| it.thing.as_ref())
            .chain(&self.kept);
        let open: Vec<_> = in_program
            .filter(|thing| thing.era == self.models[thing.part].era)
            .map(|thing| (thing.part, &thing.offsets))
            .collect();
        let is_held = open.iter().any(|(part, offsets)| {
            let finished = &self.models[*part].finished;
            offsets.iter().any(|offset| !finished.contains(offset))
        });
        let is_let_go = self.shared.is_let_go();
        if is_leased || is_held {
            assert!(!is_let_go, "the program has something in hand");
        } else if open.is_empty() {
            assert!(is_let_go, "nothing is in the program's hands");
        }
        // Also what was given back: that it is in nobody's hands cannot be told while something else is.
        let are_all_finished = self.models.iter().zip(&self.logs).all(|(model, log)| {
            let mut given = log.between(model.start, model.behind);
            given.all(|offset| model.finished.contains(&offset))
        });
        if !is_leased && are_all_finished {
            assert!(is_let_go, "all is finished");
        }
    }

    /// The program finishes what it has, and reads all that is left: nothing may be missing from what is committed.
    fn finish(&mut self) {
        self.claim();
        for it in 0..ITERATORS {
            self.let_go(it);
            self.drop_iterator(it);
        }
        if self.stage == Stage::Draining {
            self.give_up();
            self.claim();
        }
        for thing in std::mem::take(&mut self.kept) {
            self.ack(&thing);
        }
        for part in 0..PARTITIONS {
            self.pause(part, false);
            // What was lost on the way.
            let last = self.models[part].given.last().copied();
            if let Some(last) = last {
                self.ack_through(part, usize::try_from(last).unwrap());
            }
        }
        self.check();
        let mut idle = 0;
        for round in 0.. {
            assert!(round < 3000, "nothing comes any more");
            let was_fed = (0..PARTITIONS).filter(|&part| self.feed(part, 2)).count() > 0;
            let mut was_given = false;
            while self.ask(0, Some(round % 2 == 0)) {
                was_given = true;
                if self.terms.mode == AckMode::Explicit {
                    self.do_step(&Step::AckInHand(0));
                }
                self.check();
            }
            // An iterator that finds nothing may make room.
            idle = if was_fed || was_given { 0 } else { idle + 1 };
            if idle == 2 {
                break;
            }
        }
        self.check();
        let progress = self.shared.progress();
        let state = self.shared.lock();
        for part in 0..PARTITIONS {
            let (log, model) = (&self.logs[part], &self.models[part]);
            let found = progress.iter().find(|progress| progress.name == name(part));
            let end = log.readable_end().max(model.start);
            let partition = &state.partitions[&self.slots[part]];
            if self.terms.order == CommitOrder::LowestContiguous {
                assert!(
                    found.map_or(model.start, |progress| progress.offset) >= end,
                    "partition {part} is committed up to {found:?} of {end}"
                );
            }
            assert_eq!(partition.account, Account::default());
            assert!(partition.delivered() >= end);
        }
        drop(state);
        self.shared.drain();
        assert!(self.shared.is_let_go());
        self.stage = Stage::Draining;
        self.give_up();
    }
}

fn name(part: usize) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(part).unwrap())
}

struct PutBack(Arc<Shared>, Option<Lease>);

impl Drop for PutBack {
    fn drop(&mut self) {
        if let Some(lease) = self.1.take() {
            self.0.put_back(lease);
        }
    }
}

/// The program panics while it has this, and catches that.
fn panic_with(what: impl Sized) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _what = what;
        // Without the hook that prints.
        resume_unwind(Box::new(Panic));
    }));
    assert!(result.is_err_and(|panic| panic.is::<Panic>()));
}

fn modes() -> impl Strategy<Value = (AckMode, CommitOrder)> {
    let mode = prop_oneof![2 => Just(AckMode::OnNext), 1 => Just(AckMode::Explicit)];
    let order = prop_oneof![
        4 => Just(CommitOrder::LowestContiguous),
        1 => Just(CommitOrder::Monotonic),
        1 => Just(CommitOrder::LastWins),
    ];
    (mode, order)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_program_does_nothing_unfinished_is_committed_and_nothing_is_stuck(
        pieces in prop::collection::vec(prop::collection::vec(piece(), 1..14), PARTITIONS),
        (mode, order) in modes(),
        window in prop_oneof![1_usize..8, 8_usize..60],
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let logs = pieces.iter().map(|pieces| Log::new(pieces)).collect();
        let mut world = World::new(logs, mode, order, window);
        for step in &steps {
            world.do_step(step);
            world.check();
        }
        world.finish();
    }
}

/// One partition with six records in one batch, the other empty.
fn run(mode: AckMode, window: usize, steps: &[Step]) {
    let six = Log::new(&[Piece::Records(vec![true; 6], 0, false)]);
    let mut world = World::new(vec![six, Log::new(&[])], mode, CommitOrder::LowestContiguous, window);
    for step in steps {
        world.do_step(step);
        world.check();
    }
    world.finish();
}

#[test]
fn what_was_let_go_of_given_again_and_then_kept_is_not_done() {
    use Step::{DropIterator, Feed, Keep, LetGo, Next};
    let next = || Next(0, false, 1);
    let steps = [
        Feed(0, 1),
        next(),
        Keep(0),
        next(),
        LetGo(0),
        DropIterator(0),
        next(),
        Keep(0),
        next(),
    ];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn what_a_panic_dropped_is_done_when_it_was_given_again() {
    use Step::{Feed, Next, PanicWithIterator};
    let steps = [Feed(0, 1), Next(0, true, 3), PanicWithIterator(0), Next(0, true, 3)];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn a_batch_that_a_panic_dropped_elsewhere_is_not_done() {
    use Step::{Feed, Keep, Next, NextBatch, PanicKept};
    let steps = [Feed(0, 1), NextBatch(0), Keep(0), PanicKept(0), Next(0, false, 1)];
    run(AckMode::OnNext, 10, &steps);
}

#[test]
fn a_batch_in_hand_is_not_done_and_comes_again_when_its_iterator_is_dropped() {
    use Step::{DropIterator, Feed, NextBatch, PanicWithIterator};
    let steps = [
        Feed(0, 1),
        NextBatch(0),
        DropIterator(0),
        NextBatch(1),
        PanicWithIterator(1),
        NextBatch(2),
    ];
    for mode in [AckMode::OnNext, AckMode::Explicit] {
        run(mode, 2, &steps);
    }
}

// ---- with threads ----

/// What the threads have finished, by partition.
type Finished = parking_lot::Mutex<Vec<BTreeSet<i64>>>;

/// Whether all below this was finished.
fn is_finished(log: &Log, finished: &BTreeSet<i64>, offset: i64) -> bool {
    log.between(0, offset).all(|offset| finished.contains(&offset))
}

/// One thread iterates until the stream ends, and passes every third message on.
fn iterate(shared: &Arc<Shared>, finished: &Finished, pool: &crossbeam_channel::Sender<Message>, mut turn: usize) {
    let mut lease: Option<Lease> = None;
    loop {
        while let Some(message) = lease
            .as_mut()
            .and_then(|lease| lease.next_common().or_else(|| lease.next().map(Result::unwrap)))
        {
            turn += 1;
            let part = usize::try_from(message.partition()).unwrap();
            if turn % 3 == 0 {
                pool.send(message).unwrap();
            } else {
                // Before it is let go of.
                finished.lock()[part].insert(message.offset());
            }
            if turn % 97 == 0 {
                // The iterator is dropped, and another one takes its place.
                break;
            }
        }
        if turn % 97 == 0 {
            turn += 1;
            if let Some(lease) = lease.take() {
                shared.put_back(lease);
            }
        }
        match shared.next_lease(lease.take(), None) {
            Turn::Lease(taken) => lease = Some(taken),
            Turn::Ended => return,
            Turn::Failed(error) => panic!("{error}"),
            Turn::TimedOut => {}
        }
    }
}

#[test]
fn with_many_threads_and_handovers_nothing_unfinished_is_committed_and_nothing_is_lost() {
    let piece = |at: usize| match at % 11 {
        3 => Piece::Aborted(2),
        7 => Piece::Marker,
        _ => Piece::Records(
            vec![true, true, at % 2 == 0, true, true, at % 5 != 0, true],
            1,
            at % 4 == 0,
        ),
    };
    let logs: Vec<Log> = (0..PARTITIONS)
        .map(|part| Log::new(&(0..400).map(|at| piece(at + part)).collect::<Vec<_>>()))
        .collect();
    let mut world = World::new(logs.clone(), AckMode::OnNext, CommitOrder::LowestContiguous, 50);
    let finished = Arc::new(Finished::new(vec![BTreeSet::new(); PARTITIONS]));
    let (to_pool, from_iterators) = crossbeam_channel::unbounded::<Message>();
    let iterators: Vec<_> = (0..4)
        .map(|at| {
            let (shared, finished, to_pool) = (Arc::clone(&world.shared), Arc::clone(&finished), to_pool.clone());
            std::thread::spawn(move || iterate(&shared, &finished, &to_pool, at))
        })
        .collect();
    drop(to_pool);
    let pool: Vec<_> = (0..2)
        .map(|_| {
            let (from_iterators, finished) = (from_iterators.clone(), Arc::clone(&finished));
            std::thread::spawn(move || {
                for message in from_iterators {
                    let part = usize::try_from(message.partition()).unwrap();
                    finished.lock()[part].insert(message.offset());
                    message.ack();
                }
            })
        })
        .collect();
    let check = |part: usize, offset: i64| {
        let finished = &finished.lock()[part];
        assert!(
            is_finished(&logs[part], finished, offset),
            "{offset} of {part} is committed too early"
        );
    };
    let limit = Instant::now() + Duration::from_secs(120);
    for round in 0_usize.. {
        assert!(Instant::now() < limit, "nothing moves any more");
        for part in 0..PARTITIONS {
            world.feed(part, 1 + round % 5);
        }
        let progress = world.shared.progress();
        for one in &progress {
            check(usize::try_from(one.name.partition()).unwrap(), one.offset);
        }
        let is_read = |part: usize| {
            let mut all = progress.iter().filter(|one| one.name == name(part));
            let end = logs[part].readable_end();
            // Of what was taken over at the end there is nothing more to tell.
            all.any(|one| one.offset >= end) || world.models[part].committed >= end
        };
        if (0..PARTITIONS).all(is_read) {
            break;
        }
        if round % 200 == 199 {
            world.shared.drain();
            // In good order now and then, and at once now and then.
            while round % 400 == 399 && !world.shared.is_let_go() {
                assert!(Instant::now() < limit, "the program has let go of everything");
                std::thread::yield_now();
            }
            for one in world.shared.give_up() {
                let part = usize::try_from(one.name.partition()).unwrap();
                if let Some(progress) = one.progress {
                    check(part, progress.offset);
                    world.models[part].committed = progress.offset;
                }
            }
            world.stage = Stage::Gone;
            world.claim();
        }
        std::thread::yield_now();
    }
    world.shared.close();
    for thread in iterators.into_iter().chain(pool) {
        thread.join().unwrap();
    }
    for (log, finished) in logs.iter().zip(&*finished.lock()) {
        assert!(is_finished(log, finished, log.end));
    }
}
