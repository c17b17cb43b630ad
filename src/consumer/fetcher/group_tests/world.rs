//! The partitions, the program that has something of them, and what is true of both.

use super::*;

/// What is true of one partition since the last claim or seek.
#[derive(Default)]
pub(super) struct Model {
    /// Rises with each of those; what belongs to an earlier one does not count.
    pub(super) era: u64,
    pub(super) start: i64,
    /// The next record to be given out is the first one from here on.
    pub(super) next: i64,
    pub(super) given: BTreeSet<i64>,
    /// Behind the last one that was ever given out.
    pub(super) behind: i64,
    /// May be committed, and must be.
    pub(super) finished: BTreeSet<i64>,
    pub(super) released: BTreeSet<i64>,
    pub(super) paused: bool,
    /// What a restart of the reading goes by.
    pub(super) committed: i64,
}

impl Model {
    pub(super) fn restart(&mut self, at: i64) {
        self.era += 1;
        self.start = at;
        self.next = at;
        self.given.clear();
        self.behind = at;
        self.finished.clear();
        self.released.clear();
    }

    pub(super) fn unfinished(&self) -> usize {
        let is_open = |offset: &&i64| !self.finished.contains(offset) && !self.released.contains(offset);
        self.given.iter().filter(is_open).count()
    }
}

pub(super) enum Object {
    Message(Message),
    Batch(Batch),
}

/// Something that the program has, of what an iterator gave at once.
pub(super) struct Thing {
    pub(super) hand: u64,
    pub(super) part: usize,
    pub(super) era: u64,
    pub(super) chunk: usize,
    pub(super) offsets: Vec<i64>,
    pub(super) object: Object,
}

/// What an iterator gave last.
pub(super) struct Hand {
    pub(super) id: u64,
    pub(super) part: usize,
    pub(super) era: u64,
    pub(super) chunk: usize,
    pub(super) is_batch: bool,
    pub(super) offsets: Vec<i64>,
    pub(super) spoiled: bool,
}

#[derive(Default)]
pub(super) struct Iterating {
    pub(super) lease: Option<Lease>,
    pub(super) hand: Option<Hand>,
    pub(super) thing: Option<Thing>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Owned,
    Draining,
    Gone,
}

pub(super) struct World {
    pub(super) logs: Vec<Log>,
    pub(super) models: Vec<Model>,
    pub(super) shared: Arc<Shared>,
    pub(super) terms: Terms,
    pub(super) slots: Vec<Slot>,
    pub(super) fetchers: Vec<Option<Fetcher>>,
    pub(super) iterators: Vec<Iterating>,
    pub(super) kept: Vec<Thing>,
    pub(super) hands: u64,
    pub(super) stage: Stage,
}

pub(super) struct Panic;

impl World {
    pub(super) fn new(logs: Vec<Log>, mode: AckMode, order: CommitOrder, window: usize) -> Self {
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

    pub(super) fn claim(&mut self) {
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
    pub(super) fn do_step(&mut self, step: &Step) {
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

    pub(super) fn take_kept(&mut self, which: usize) -> Option<Thing> {
        (!self.kept.is_empty()).then(|| self.kept.swap_remove(which % self.kept.len()))
    }

    /// Records arrive and are decoded. False when there are none, or there is no room for them.
    pub(super) fn feed(&mut self, part: usize, batches: usize) -> bool {
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
