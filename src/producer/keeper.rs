//! The keeper of a producer: who leads what, producer IDs, and the end of a batch's time.
//!
//! It is the one that asks around, so that senders only ever talk to their own broker, and callers only append.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::messages::InitProducerIdRequest;

use super::{
    partition::{Partition, now},
    sequence::Identity,
    shared::{Shared, Wants},
    topics::Topic,
};
use crate::{
    cluster::{
        self, Action, action,
        retry::{NONSENSE, is_nonsense, only_nonsense},
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
};

pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// The one that was given out last.
    identity: Option<Identity>,
    nameless: Vec<Arc<Partition>>,
    homeless: HashMap<usize, Arc<Partition>>,
    stale: BTreeSet<Arc<str>>,
    /// Of metadata, and of identities: failures in a row, and when to try again.
    metadata: Pause,
    identities: Pause,
    refreshed: Instant,
    /// When a broker that owes something was last doubted.
    doubted: HashMap<i32, Instant>,
    /// When spare buffers go, unless there is something to fill them with before that.
    spares_until: Option<Instant>,
}

#[derive(Default)]
struct Pause {
    failures: u32,
    /// Of these, in a row, what made no sense.
    nonsense: u32,
    until: Option<Instant>,
}

impl Pause {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn failed(&mut self, shared: &Shared) {
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now() + shared.cluster.retry_delay(self.failures));
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            identity: None,
            nameless: Vec::new(),
            homeless: HashMap::new(),
            stale: BTreeSet::new(),
            metadata: Pause::default(),
            identities: Pause::default(),
            refreshed: now(),
            doubted: HashMap::new(),
            spares_until: None,
        }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _rings = self.shared.ended.on_stop(move || shared.desk.bell().ring());
        loop {
            // Before anything is looked at, also the end.
            self.shared.desk.bell().quiet();
            if self.shared.ended.is_stopped() {
                break;
            }
            let Wants {
                nameless,
                homeless,
                stale,
            } = self.shared.desk.take();
            self.nameless.extend(nameless);
            self.homeless
                .extend(homeless.into_iter().map(|partition| (partition.key, partition)));
            self.stale.extend(stale);

            self.expire();
            self.doubt();
            self.refresh_by_age();
            self.refresh();
            self.name();
            self.wait();
        }
        // Whoever waits is told, also when it is the client that was closed.
        let error = self.shared.ended.error();
        for partition in self.shared.topics.partitions() {
            partition.end(&error);
        }
    }

    // ---- time ----

    fn expire(&self) {
        let now = now();
        let age = self.age().max(self.shared.env.config.linger);
        for partition in self.shared.topics.partitions() {
            partition.seal_older_than(age, now);
            if partition.deadline().is_some_and(|deadline| deadline <= now) {
                partition.expire(now);
            }
        }
    }

    /// For so long a batch that cannot be sent takes records, so that the last ones have time of their own.
    fn age(&self) -> Duration {
        self.shared.env.config.delivery_timeout / 8
    }

    fn next_deadline(&self) -> Instant {
        let topics = self.shared.topics.all();
        let earliest = topics.iter().filter_map(|topic| topic.earliest_deadline()).min();
        // Whatever is begun from now on has at least this long.
        let unborn = now() + self.shared.env.config.delivery_timeout;
        earliest.map_or(unborn, |earliest| earliest.min(unborn))
    }

    /// A broker that owes an answer for long may be frozen: others know whether it still leads.
    fn doubt(&mut self) {
        let now = now();
        for inbox in self.shared.inboxes() {
            let Some(since) = inbox.owed_since() else {
                self.doubted.remove(&inbox.broker);
                continue;
            };
            let last = self.doubted.get(&inbox.broker).copied();
            let since = last.map_or(since, |last| last.max(since));
            if now.saturating_duration_since(since) < PATIENCE {
                continue;
            }
            self.doubted.insert(inbox.broker, now);
            let partitions = self.shared.topics.partitions();
            let owed = partitions
                .iter()
                .filter(|partition| partition.is_owned_by(&inbox) && partition.has_work());
            self.stale.extend(owed.map(|partition| Arc::clone(&partition.topic)));
        }
    }

    fn refresh_by_age(&mut self) {
        let age = self.shared.cluster.config().metadata_max_age;
        if now().saturating_duration_since(self.refreshed) < age {
            return;
        }
        self.refreshed = now();
        let batch_bytes = self.shared.env.config.batch_bytes;
        for topic in self.shared.topics.all() {
            topic.try_large_batches(batch_bytes);
            self.stale.insert(Arc::clone(&topic.name));
        }
    }

    fn wait(&mut self) {
        let config = self.shared.cluster.config();
        let mut until = self.next_deadline().min(self.refreshed + config.metadata_max_age);
        // Said before looking: who owes from now on rings.
        self.shared.desk.doze(true);
        let is_idle = self.shared.env.ledger.is_settled();
        if !is_idle {
            self.shared.desk.doze(false);
        }
        if is_idle {
            if self.spares_until.is_some_and(|at| at <= now()) {
                self.shared.env.memory.drop_spares();
                self.spares_until = None;
            }
            until = until.min(self.spares_until.unwrap_or(until));
        } else {
            self.spares_until = Some(now() + SPARED);
            until = until.min(now() + TICK.min(self.age()).max(LEAST));
        }
        if !self.stale.is_empty() || !self.homeless.is_empty() {
            until = until.min(self.metadata.until.unwrap_or(until));
        }
        if !self.nameless.is_empty() {
            until = until.min(self.identities.until.unwrap_or(until));
        }
        self.shared.desk.bell().wait_until(until);
        self.shared.desk.doze(false);
    }

    /// For a question that must not keep others waiting for the end of their time.
    fn deadline(&self) -> Deadline {
        let limit = self.shared.cluster.config().request_timeout;
        let next = self.next_deadline().saturating_duration_since(now());
        // The more often that was too short, the more it gets: while batches end all the time, there is no better moment.
        let failures = self.metadata.failures.max(self.identities.failures);
        let least = LEAST.saturating_mul(1 << failures.min(6));
        Deadline::after(limit.min(next.max(least)), "request_timeout").with_stop(&self.shared.ended)
    }

    // ---- leaders ----

    fn refresh(&mut self) {
        // What others have learnt counts as well.
        self.homeless
            .retain(|_, partition| !partition.has_ended() && !self.shared.place(partition));
        self.stale
            .extend(self.homeless.values().map(|partition| Arc::clone(&partition.topic)));
        if self.stale.is_empty() {
            self.metadata = Pause::default();
            return;
        }
        if !self.metadata.is_over(now()) {
            return;
        }
        let names: Vec<Arc<str>> = self.stale.iter().cloned().collect();
        let deadline = self.deadline();
        match self.shared.cluster.refresh(cluster::Topics::Named(&names), &deadline) {
            Ok(metadata) => {
                self.stale.clear();
                for name in &names {
                    self.learn(name, &metadata);
                }
                let placed = |partition: &Arc<Partition>| !self.shared.place(partition);
                let homeless = std::mem::take(&mut self.homeless);
                self.homeless = homeless
                    .into_iter()
                    .filter(|(_, partition)| placed(partition))
                    .collect();
                if self.homeless.is_empty() {
                    self.metadata = Pause::default();
                } else {
                    self.metadata.failed(&self.shared);
                }
            }
            Err(error) => {
                log::debug!("metadata for a producer: {error}");
                // That there was no time to ask, or that it is over, does not say why nobody answers.
                if !matches!(error.kind(), ErrorKind::Closed | ErrorKind::TimedOut) {
                    for partition in self.homeless.values() {
                        partition.blame(&error);
                    }
                }
                self.metadata.failed(&self.shared);
            }
        }
    }

    fn learn(&mut self, name: &Arc<str>, metadata: &cluster::Metadata) {
        match metadata.topic(name) {
            Some(told) if told.error == 0 && self.has_shrunk(told) => {
                let count = told.partitions.len();
                let message = format!("the topic was deleted, and made anew with fewer partitions: {count}");
                self.give_up(name, &Error::new(ErrorKind::UnknownTopic, message).for_topic(name));
            }
            Some(told) if told.error == 0 => {
                for partition in self.shared.learn(told).all() {
                    let is_used = partition.has_owner() || partition.has_work();
                    if is_used && !self.shared.place(partition) {
                        self.homeless.insert(partition.key, Arc::clone(partition));
                    }
                }
            }
            Some(told) => {
                let error = Error::refused(told.error).for_topic(name);
                if action(&error) == Action::Fail {
                    self.give_up(name, &error);
                }
            }
            None if metadata.is_missing(name, now()) => {
                self.give_up(name, &cluster::unknown_topic(name));
            }
            // It may be so new, or a broker so young, that this says nothing yet.
            None => {
                if let Some(topic) = self.shared.topics.known(name).filter(|topic| has_work(topic)) {
                    for partition in topic.all() {
                        self.homeless.insert(partition.key, Arc::clone(partition));
                    }
                }
            }
        }
    }

    /// Nothing fits any more: neither where keys go, nor what waits for partitions that are gone.
    fn has_shrunk(&self, told: &cluster::Topic) -> bool {
        let known = self.shared.topics.known(&told.name);
        known.is_some_and(|known| known.has_shrunk(told))
    }

    /// There is no such topic, or it may not be written to.
    fn give_up(&mut self, name: &str, error: &Error) {
        let Some(topic) = self.shared.topics.forget(name) else {
            return;
        };
        log::warn!("no more is written to {name}: {error}");
        // Should it be written to again, its partitions begin anew; under the same identity a broker might take their first
        // batches for those that it has.
        self.identity = None;
        for partition in topic.all() {
            partition.end(error);
            self.homeless.remove(&partition.key);
        }
    }

    // ---- identities ----

    fn name(&mut self) {
        if self.nameless.is_empty() || !self.identities.is_over(now()) {
            return;
        }
        while let Some(partition) = self.nameless.pop() {
            // It need be new to the partition only, and what came last is never older than what a partition has.
            let known = self.identity.filter(|known| partition.identity() != Some(*known));
            let identity = match known {
                Some(identity) => Ok(identity),
                None => self.ask_identity(),
            };
            match identity {
                Ok(identity) => {
                    self.identities = Pause::default();
                    self.identity = Some(identity);
                    partition.identify(identity);
                }
                Err(error) if self.shared.ended.is_stopped() => {
                    log::debug!("no producer ID any more: {error}");
                    return;
                }
                Err(error) if is_nonsense(&error) && self.identities.nonsense < NONSENSE => {
                    log::debug!("no producer ID that makes sense: {error}");
                    self.identities.nonsense += 1;
                    self.nameless.push(partition);
                    self.identities.failed(&self.shared);
                    return;
                }
                Err(error) if action(&error) == Action::Fail => {
                    let error = if is_nonsense(&error) {
                        only_nonsense(error)
                    } else {
                        self.identities.nonsense = 0;
                        error
                    };
                    log::warn!("no producer ID: {error}");
                    partition.stay_nameless(&error);
                }
                Err(error) => {
                    let is_news = self.identities.failures == 0 && error.kind() == ErrorKind::Unreachable;
                    let level = if is_news { log::Level::Warn } else { log::Level::Debug };
                    log::log!(level, "no producer ID yet: {error}");
                    self.identities.nonsense = 0;
                    self.nameless.push(partition);
                    for partition in &self.nameless {
                        partition.blame(&error);
                    }
                    self.identities.failed(&self.shared);
                    return;
                }
            }
        }
        // All who waited have been told. Whoever comes later begins another row.
        self.identities.nonsense = 0;
    }

    fn ask_identity(&self) -> Result<Identity> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX);
        let answer = self.shared.cluster.call_any(&request, &self.deadline())?;
        if answer.error_code != 0 {
            let error = Error::refused(answer.error_code).in_api("InitProducerId");
            return Err(match error.kind() {
                ErrorKind::Authorization => error.explained(PERMISSION),
                _ => error,
            });
        }
        if answer.producer_id.0 < 0 || answer.producer_epoch < 0 {
            let message = format!(
                "the broker gave {} and {} as producer ID and epoch",
                answer.producer_id.0, answer.producer_epoch
            );
            return Err(Error::new(ErrorKind::Protocol, message).in_api("InitProducerId"));
        }
        Ok(Identity {
            producer_id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        })
    }
}

fn has_work(topic: &Topic) -> bool {
    topic.all().iter().any(|partition| partition.has_work())
}

/// What somebody has to grant.
const PERMISSION: &str = "acks All takes IdempotentWrite on the cluster, or Write on any topic";
/// A broker that owes an answer for longer is doubted.
const PATIENCE: Duration = Duration::from_secs(3);
/// While something is owed, the keeper looks this often.
const TICK: Duration = Duration::from_secs(1);
/// A producer that has had nothing to do for so long may not have for much longer.
const SPARED: Duration = Duration::from_secs(10);
/// However close the end of some batch's time is, a question gets this long.
const LEAST: Duration = Duration::from_millis(50);
