//! One thread per stream that looks after it: metadata by age and on demand, new partitions, topics that went away or
//! came back, partitions that the program has forgotten.
//!
//! It does nothing on the path of a record, and waits for no broker itself: what happens meanwhile is for it to tell.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    buffer::{Shared, Slot, State, Subscription},
    config::FetchConfig,
    event::Event,
    fetch_lane::Role,
    fetch_plan::LEADER_NOT_AVAILABLE,
    fetcher,
    message::Cell,
    partition::{Partition, Phase, Pins, Trouble},
};
use crate::{
    cluster::{Metadata, Topic, Topics},
    deadline::{Deadline, FOR_EVER},
    error::{Error, ErrorKind, Result},
    offset::{StartAt, TopicPartition},
    thread::Worker,
};

/// How much longer than it was asked to wait a broker may take before others are asked about it.
const LATE: Duration = Duration::from_secs(2);

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

struct Keeper {
    shared: Arc<Shared>,
    topics: Vec<Arc<str>>,
    refreshed: Instant,
    /// Refreshes in a row that failed, or that left something to be asked again.
    tries: u32,
    /// A refresh on demand comes no earlier.
    wanted_at: Instant,
    /// Since when a topic is not there.
    missing: HashMap<Arc<str>, Instant>,
    /// Asks for metadata: a broker may take its time, and what the keeper has to tell must not wait for it.
    asking: Option<Worker>,
}

/// Starts the keeper, and the fetchers of the partitions that are there.
#[allow(clippy::disallowed_methods, reason = "the keeper is a driver")]
pub(crate) fn start(shared: &Arc<Shared>) -> Result<Worker> {
    start_fetchers(shared)?;
    let topics = match &shared.subscription {
        Subscription::Topics(topics) | Subscription::Group(topics) => topics.clone(),
        Subscription::Partitions(partitions) => {
            let mut names: Vec<Arc<str>> = partitions
                .iter()
                .map(|partition| Arc::from(partition.topic()))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        }
    };
    let now = Instant::now();
    let keeper = Keeper {
        shared: Arc::clone(shared),
        topics,
        refreshed: now,
        tries: 0,
        wanted_at: now,
        missing: HashMap::new(),
        asking: None,
    };
    Worker::start("klamm-keep", move || keeper.run())
}

/// Starts a fetcher for each partition that has none.
pub(crate) fn start_fetchers(shared: &Arc<Shared>) -> Result<()> {
    let waiting: Vec<(Slot, Arc<Cell>)> = {
        let mut state = shared.lock();
        let all = state.partitions.iter_mut();
        all.filter_map(|(&slot, partition)| {
            let is_new = !std::mem::replace(&mut partition.has_fetcher, true);
            is_new.then(|| (slot, Arc::clone(&partition.cell)))
        })
        .collect()
    };
    let mut result = Ok(());
    for (slot, cell) in waiting {
        let started = fetcher::start(shared, slot, cell);
        let mut state = shared.lock();
        match (started, state.partitions.get_mut(&slot)) {
            (Ok(worker), Some(partition)) => partition.fetcher = Some(worker),
            (Ok(worker), None) => state.ending.push(worker),
            (Err(error), partition) => {
                if let Some(partition) = partition {
                    partition.has_fetcher = false;
                }
                result = Err(error);
            }
        }
    }
    result
}

/// The oldest offset that the program has in hand (or leaves waiting), when it has taken nothing for `stall_after`.
pub(crate) fn stalled(partition: &Partition, config: &FetchConfig, now: Instant) -> Option<(i64, Duration)> {
    let (position, since) = partition
        .stands
        .filter(|(position, _)| *position == partition.progress())?;
    let age = now.saturating_duration_since(since);
    (age >= config.stall_after && !partition.paused).then_some((position, age))
}

impl Keeper {
    #[allow(clippy::disallowed_methods, reason = "the keeper waits here")]
    fn run(mut self) {
        let _alarm = self.shared.alarm();
        let shared = Arc::clone(&self.shared);
        loop {
            shared.events.write_log();
            let mut state = shared.lock();
            loop {
                if state.is_ended() {
                    state.ending.extend(self.asking.take());
                    drop(state);
                    shared.events.write_log();
                    return;
                }
                let now = Instant::now();
                self.express(&mut state, now);
                let late_at = self.look_for_late_answers(&mut state, now);
                let stalls_at = self.tell_stalls(&mut state, now);
                let metadata_at = self.metadata_at(&state);
                let has_work = !state.ending.is_empty() || state.told.is_some() || shared.events.has_log();
                if metadata_at <= now || has_work {
                    break;
                }
                let until = metadata_at
                    .min(stalls_at)
                    .min(late_at)
                    .min(state.express_at.unwrap_or(metadata_at));
                shared.keeper_waits(&mut state, until);
            }
            let ending = std::mem::take(&mut state.ending);
            let told = state.told.take();
            let is_due = self.metadata_at(&state) <= Instant::now();
            drop(state);
            for mut worker in ending {
                // They are on their last lines.
                if let Err(error) = worker.join(&Deadline::after(Duration::from_secs(1), "the keeper")) {
                    log::warn!("{error}");
                }
            }
            match told {
                Some(outcome) => self.take_in(outcome),
                None if is_due => self.ask(),
                None => {}
            }
        }
    }

    fn metadata_at(&self, state: &State) -> Instant {
        if self.asking.is_some() {
            return self.wanted_at + FOR_EVER;
        }
        if state.metadata_wanted {
            return self.wanted_at;
        }
        self.refreshed + self.shared.cluster.config().metadata_max_age
    }

    /// Starts a second lane where the first one waits in the broker while a partition wants records.
    fn express(&self, state: &mut State, now: Instant) {
        if state.express_at.is_none_or(|at| at > now) {
            return;
        }
        let is_held_back = |partition: &&Partition| partition.asked.is_none() && !partition.paused;
        let held_back = state.partitions.values().filter(is_held_back);
        state.express_at = held_back
            .filter_map(|partition| partition.not_before)
            .filter(|&at| at > now)
            .min();
        let wanting = state.partitions.values().filter(|partition| {
            partition.wants_records(now)
                && state
                    .budget
                    .reservation(&partition.account, &self.shared.config)
                    .is_some()
        });
        let mut brokers: Vec<i32> = wanting.filter_map(Partition::source).collect();
        brokers.sort_unstable();
        brokers.dedup();
        for broker in brokers {
            let parked = state
                .lanes
                .get(&(broker, Role::Session))
                .and_then(|lane| lane.asked_since);
            if parked.is_some_and(|since| now >= since + super::fetch_lane::PARKED)
                && !state.lanes.contains_key(&(broker, Role::Express))
            {
                self.shared.start_lane(state, broker, Role::Express);
            }
        }
    }

    /// A broker that is silent for longer than it was asked to wait may have lost its partitions to another one, which
    /// metadata tells long before the request times out.
    fn look_for_late_answers(&self, state: &mut State, now: Instant) -> Instant {
        let mut next = now + Duration::from_secs(60);
        for lane in state.lanes.values_mut() {
            let Some(back_at) = lane.back_at.filter(|_| lane.asked_since.is_some()) else {
                continue;
            };
            let ask_at = lane.ask_about_at.get_or_insert(back_at + LATE);
            if *ask_at <= now {
                // Again and again: who leads instead may not be decided yet.
                *ask_at = now + LATE;
                state.metadata_wanted = true;
            }
            next = next.min(*ask_at);
        }
        next
    }

    fn tell_stalls(&self, state: &mut State, now: Instant) -> Instant {
        let stall_after = self.shared.config.stall_after;
        // Whether a program has come on is looked at a few times within the limit.
        let mut next = now + stall_after / 4;
        for partition in state.partitions.values_mut() {
            let unfinished = partition.oldest_unfinished();
            let has_work = partition.has_something() || partition.leased.is_some() || unfinished.is_some();
            if partition.paused || !has_work {
                partition.stands = None;
                continue;
            }
            let position = partition.progress();
            if partition.stands.is_none_or(|(stood, _)| stood != position) {
                partition.stands = Some((position, now));
                partition.stall_told = false;
            }
            if let Some((oldest, age)) = stalled(partition, &self.shared.config, now) {
                if !std::mem::replace(&mut partition.stall_told, true) {
                    self.shared.tell(Event::Stalled {
                        partition: partition.name.clone(),
                        oldest,
                        age,
                    });
                }
            } else if let Some((_, since)) = partition.stands {
                next = next.min(since + stall_after);
            }
        }
        next.max(now + Duration::from_millis(50))
    }

    fn ask(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut topics = self.topics.clone();
        {
            let mut state = shared.lock();
            state.metadata_wanted = false;
            topics.extend(state.watched.iter().cloned());
        }
        topics.sort_unstable();
        topics.dedup();
        let asking = Worker::start("klamm-find", move || {
            let _alarm = shared.alarm();
            let limit = shared.cluster.config().request_timeout;
            let deadline = Deadline::after(limit, "request_timeout").with_stop(&shared.stop);
            let outcome = shared.cluster.refresh(Topics::Named(&topics), &deadline);
            shared.lock().told = Some(outcome);
            shared.wake_keeper();
        });
        match asking {
            Ok(worker) => self.asking = Some(worker),
            Err(error) => self.take_in(Err(error)),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "metadata has an age")]
    fn take_in(&mut self, outcome: Result<Arc<Metadata>>) {
        let shared = Arc::clone(&self.shared);
        if let Some(worker) = self.asking.take() {
            // It is on its last lines, as all are that are ending.
            shared.lock().ending.push(worker);
        }
        let now = Instant::now();
        self.refreshed = now;
        self.tries += 1;
        let mut state = shared.lock();
        match outcome {
            Ok(metadata) => {
                state.trouble = None;
                state.refreshes += 1;
                let is_settled = self.place(&mut state, &metadata, now);
                // Whoever waits for a lane in vain, for whatever reason, waits no longer than this.
                let all: Vec<Slot> = state.partitions.keys().copied().collect();
                for slot in all {
                    shared.kick(&mut state, slot);
                }
                if is_settled {
                    self.tries = 0;
                } else {
                    state.metadata_wanted = true;
                }
            }
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) if error.is_refusal() => {
                drop(state);
                self.wanted_at = now + shared.backoff(self.tries.max(1));
                return shared.fail_all(error);
            }
            Err(error) => {
                state.metadata_wanted = true;
                let since = state.trouble.as_ref().map_or(now, |trouble| trouble.since);
                // The lock is held, which a logger may want for the stream's health.
                shared.events.note(log::Level::Warn, error.to_string());
                state.trouble = Some(Trouble {
                    since,
                    error,
                    times: self.tries,
                });
            }
        }
        self.wanted_at = now + shared.backoff(self.tries.max(1));
        drop(state);
        self.start_fetchers();
        // A group's leader may have more, or less, to deal out.
        shared.nudge();
    }

    fn start_fetchers(&self) {
        if let Err(error) = start_fetchers(&self.shared) {
            log::warn!("{error}");
            self.shared.lock().metadata_wanted = true;
        }
    }

    /// Brings the partitions in line with the metadata. False when something is missing that should come back.
    fn place(&mut self, state: &mut State, metadata: &Metadata, now: Instant) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut is_settled = true;
        for name in self.topics.clone() {
            let Some(topic) = metadata.topic(&name).filter(|topic| topic.error == 0) else {
                is_settled &= self.miss(&name, state, metadata, now);
                continue;
            };
            self.missing.remove(&name);
            is_settled &= self.place_topic(state, topic, metadata, now);
            if matches!(shared.subscription, Subscription::Topics(_)) && !shared.until_end {
                self.add_new(state, topic);
            }
        }
        is_settled
    }

    /// True when there is nothing to ask for any more.
    fn miss(&mut self, name: &Arc<str>, state: &mut State, metadata: &Metadata, now: Instant) -> bool {
        let since = *self.missing.entry(Arc::clone(name)).or_insert(now);
        let error = metadata.topic(name).map_or(0, |topic| topic.error);
        let error = match error {
            0 => Error::refused(UNKNOWN_TOPIC_OR_PARTITION), // it is not in the answer
            code => Error::refused(code),
        };
        let is_final = !error.is_retriable() && error.kind() != ErrorKind::UnknownTopic;
        if !is_final && now - since < self.shared.cluster.config().unknown_topic_ttl {
            return false;
        }
        let ours: Vec<Slot> = slots_of(state, name);
        if ours.is_empty() && !is_final && matches!(self.shared.subscription, Subscription::Group(_)) {
            return false; // it may come, and the group waits for it
        }
        for slot in ours {
            let failed = state
                .partitions
                .get(&slot)
                .is_some_and(|partition| matches!(partition.phase, Phase::Failed));
            if !failed {
                self.shared
                    .fail(state, slot, error.clone().explained("it may have been deleted"));
            }
        }
        // It may come back, which the next refresh by age notices; a seek asks at once.
        true
    }

    fn place_topic(&self, state: &mut State, topic: &Topic, metadata: &Metadata, now: Instant) -> bool {
        let shared = &self.shared;
        let mut is_settled = true;
        let mut recreated = false;
        for slot in slots_of(state, &topic.name) {
            let Some(partition) = state.partitions.get_mut(&slot) else {
                continue;
            };
            let is_other = !partition.topic_id.is_nil() && !topic.id.is_nil() && partition.topic_id != topic.id;
            let was_failed = matches!(partition.phase, Phase::Failed);
            partition.topic_id = topic.id;
            let leader = topic
                .partition(partition.cell.partition)
                .filter(|partition| partition.leader >= 0);
            if is_other {
                recreated = true;
                partition.leader = None;
                partition.ends = None;
                partition.until = None;
                if partition.ownership().is_some() {
                    partition.pins = Pins::Always;
                    state.anew.push(slot);
                }
                if !was_failed {
                    // Offsets of the old topic mean nothing in the new one.
                    shared.restart(state, slot, StartAt::Earliest);
                }
            }
            let Some(found) = leader else {
                is_settled &= self.leaderless(state, topic, slot, now);
                continue;
            };
            let found = (found.leader, found.leader_epoch);
            let known = state.partitions.get(&slot).and_then(|partition| partition.leader);
            // A leader that a hint told of, and that is no broker of this cluster, is none, whatever its epoch.
            let is_older = |known: (i32, i32)| found.1 < known.1 && metadata.brokers.contains_key(&known.0);
            // Nor is one that is in trouble believed against a newer answer.
            let is_well = state
                .partitions
                .get(&slot)
                .is_some_and(|partition| partition.trouble.is_none());
            if known.is_none_or(|known| known != found && !(is_well && is_older(known))) {
                shared.lead(state, slot, found);
            }
        }
        if recreated {
            shared.tell(Event::TopicRecreated {
                topic: topic.name.to_string(),
            });
        }
        is_settled
    }

    /// A partition that nobody leads: for now, or because the topic has fewer partitions than it had. True when there
    /// is nothing to ask for any more.
    fn leaderless(&self, state: &mut State, topic: &Topic, slot: Slot, now: Instant) -> bool {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return true;
        };
        if matches!(partition.phase, Phase::Failed) {
            return true;
        }
        if topic.partition(partition.cell.partition).is_none() {
            let count = topic.partitions.len();
            let error =
                Error::refused(UNKNOWN_TOPIC_OR_PARTITION).explained(&format!("the topic has {count} partitions now"));
            self.shared.fail(state, slot, error);
            return true;
        }
        let error = partition
            .cell
            .blame(Error::refused(LEADER_NOT_AVAILABLE).in_api("Metadata"));
        partition.leader = None;
        partition.unask();
        partition.met(error, now, |times| self.shared.backoff(times));
        false
    }

    /// Partitions that were added to a topic are read from their first record: nothing is missed.
    fn add_new(&self, state: &mut State, topic: &Topic) {
        for partition in &topic.partitions {
            let name = TopicPartition::new(&topic.name, partition.index);
            if !state.index.contains_key(&name) {
                let leader = (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch));
                self.shared
                    .add(state, Partition::new(name, topic.id, StartAt::Earliest, leader));
            }
        }
    }
}

fn slots_of(state: &State, topic: &str) -> Vec<Slot> {
    let ours = state
        .partitions
        .iter()
        .filter(|(_, partition)| &*partition.cell.topic == topic);
    ours.map(|(&slot, _)| slot).collect()
}
