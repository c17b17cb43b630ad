//! Many brokers: who leads what, and how to get a request there.
//!
//! A [`Cluster`] keeps a snapshot of the metadata and a table of connections. Callers bring their own threads and
//! deadlines; nothing runs here when nobody calls, but the threads that read answers.

mod connections;
mod coordinator;
mod listings;
mod metadata;
pub(crate) mod offsets;
pub(crate) mod refresh;
pub(crate) mod retry;

#[cfg(test)]
mod tests;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kafka_protocol::protocol::Request;
use parking_lot::{Mutex, RwLock};

pub(crate) use connections::Purpose;
pub(crate) use coordinator::CoordinatorKey;
#[cfg(test)]
pub(crate) use metadata::Partition;
pub(crate) use metadata::{Broker, LeaderHint, Metadata, Topic};
pub(crate) use offsets::{EpochEnd, ListAt};
pub(crate) use refresh::{Topics, unknown as unknown_topic};
pub(crate) use retry::{Action, Backoff, action};

#[cfg(test)]
use crate::net::Connection;
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{Address, Ask, NetConfig, SocketOptions},
    stop::Stop,
    wire::api,
};
use connections::{Connections, none_reachable};
use listings::Listings;
use refresh::Refreshes;

/// How to reach a cluster, and how patient to be with it.
#[derive(Debug, Clone)]
pub(crate) struct ClusterConfig {
    pub(crate) bootstrap: Vec<Address>,
    pub(crate) client_id: String,
    pub(crate) rack: Option<String>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) retry_backoff: Backoff,
    pub(crate) reconnect_backoff: Backoff,
    pub(crate) metadata_max_age: Duration,
    pub(crate) unknown_topic_ttl: Duration,
    pub(crate) connections_max_idle: Duration,
    pub(crate) frame_limit: usize,
    pub(crate) socket: SocketOptions,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::net::tls::Tls>,
    pub(crate) sasl: Option<crate::net::sasl::Sasl>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let net = NetConfig::default();
        Self {
            bootstrap: Vec::new(),
            client_id: net.client_id,
            rack: None,
            request_timeout: net.request_timeout,
            connect_timeout: net.connect_timeout,
            retry_backoff: Backoff {
                min: Duration::from_millis(100),
                max: Duration::from_secs(1),
            },
            reconnect_backoff: Backoff {
                min: Duration::from_millis(50),
                max: Duration::from_secs(1),
            },
            metadata_max_age: Duration::from_secs(5 * 60),
            unknown_topic_ttl: Duration::from_secs(5),
            // A broker closes idle connections after ten minutes; a little before that is better than at the same time.
            connections_max_idle: Duration::from_secs(9 * 60),
            frame_limit: net.frame_limit,
            socket: net.socket,
            #[cfg(feature = "tls")]
            tls: net.tls,
            sasl: net.sasl,
        }
    }
}

/// A broker that is frozen, and looks fine, does not hold up a question that others can answer. The last one that is
/// asked has all the time that is left.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(3);

/// Into so many parts, at most, the time for a question is divided, however many brokers there are.
const SHARES: u32 = 8;

/// A cluster as a client sees it. Clones are the same; when the last one goes, so do its connections.
#[derive(Debug, Clone)]
pub(crate) struct Cluster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: ClusterConfig,
    connections: Connections,
    /// Replaced as a whole; the lock is held for a clone of the pointer, or for merging one answer.
    metadata: RwLock<Arc<Metadata>>,
    refreshes: Mutex<Refreshes>,
    listings: Listings,
    /// Why nobody answered, the last time that any broker was asked; for those whose time is over before another's.
    silence: Mutex<Option<Error>>,
    random: AtomicU64,
    /// Raised by `close`.
    closing: Stop,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let limit = Deadline::after(Duration::from_secs(5), "dropping a client");
        if let Err(error) = self.connections.close(&limit) {
            log::warn!("closing a client: {error}");
        }
    }
}

impl Cluster {
    /// One of the bootstrap servers must answer, each within `connect_timeout`.
    pub(crate) fn connect(config: ClusterConfig) -> Result<Self> {
        let cluster = Self::connect_lazy(config);
        let config = cluster.config();
        let each = u32::try_from(config.bootstrap.len()).unwrap_or(u32::MAX);
        let limit = config
            .connect_timeout
            .saturating_add(config.request_timeout)
            .saturating_mul(each);
        let deadline = Deadline::after(limit, "connect_timeout");
        let answer = cluster.call_any_once(Ask::from(&refresh::request([])), &deadline);
        cluster.merge(&answer?, false);
        Ok(cluster)
    }

    /// Connects when first used.
    pub(crate) fn connect_lazy(config: ClusterConfig) -> Self {
        let net = NetConfig {
            client_id: config.client_id.clone(),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            frame_limit: config.frame_limit,
            socket: config.socket.clone(),
            #[cfg(feature = "tls")]
            tls: config.tls.clone(),
            sasl: config.sasl.clone(),
            ..NetConfig::default()
        };
        let seed = RandomState::new().build_hasher().finish();
        let max_idle = config.connections_max_idle;
        Self(Arc::new(Shared {
            connections: Connections::new(net, config.reconnect_backoff, max_idle, !seed),
            metadata: RwLock::new(Arc::new(Metadata::new(config.unknown_topic_ttl))),
            config,
            refreshes: Mutex::default(),
            silence: Mutex::default(),
            listings: Listings::default(),
            random: AtomicU64::new(seed),
            closing: Stop::new("client"),
        }))
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.0.config
    }

    /// For connections of somebody's own.
    pub(crate) fn net_config(&self) -> &NetConfig {
        self.0.connections.net()
    }

    /// Raised when the client is closed.
    pub(crate) fn closing(&self) -> &Stop {
        &self.0.closing
    }

    /// What is known now. Never blocks.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.0.metadata.read())
    }

    pub(crate) fn broker_address(&self, id: i32) -> Option<Address> {
        self.metadata().brokers.get(&id).map(Broker::address)
    }

    /// Takes over what answers to Fetch and Produce say about new leaders (KIP-951): first the brokers that they name
    /// (ID, host, port, rack), then the leaders. Returns whether anything was news.
    pub(crate) fn apply_leader_hints<'a>(
        &self,
        endpoints: impl IntoIterator<Item = (i32, &'a str, i32, Option<&'a str>)>,
        hints: impl IntoIterator<Item = LeaderHint<'a>>,
    ) -> bool {
        let mut snapshot = self.0.metadata.write();
        let before = snapshot.generation;
        let metadata = Arc::make_mut(&mut *snapshot);
        for (id, host, port, rack) in endpoints {
            metadata.apply_endpoint(id, host, port, rack);
        }
        for hint in hints {
            metadata.apply_hint(hint);
        }
        snapshot.generation != before
    }

    /// One try at one broker. A connection that turns out to be dead before the request was written is made anew, once.
    pub(crate) fn call_broker<'a, R: Request + 'a>(
        &self,
        broker: i32,
        purpose: Purpose,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<R::Response> {
        let address = self.broker_address(broker).ok_or_else(|| {
            let message = format!("broker {broker} is not in the metadata");
            Error::new(ErrorKind::Unreachable, message).in_api(api::name(R::KEY))
        })?;
        self.call_address(&address, purpose, ask.into(), deadline)
            .map_err(|failed| failed.error)
    }

    /// The same for a request that must not be repeated once it was sent; see [`Failed`].
    pub(crate) fn call_broker_once<'a, R: Request + 'a>(
        &self,
        broker: &Broker,
        purpose: Purpose,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<R::Response, Failed> {
        self.call_address(&broker.address(), purpose, ask.into(), deadline)
    }

    #[cfg(test)]
    pub(crate) fn connection(&self, broker: i32, purpose: Purpose, deadline: &Deadline) -> Result<Arc<Connection>> {
        let address = self.broker_address(broker).ok_or_else(|| Error::closed("broker"))?;
        self.0.connections.get(&address, purpose, deadline)
    }

    fn call_address<R: Request>(
        &self,
        address: &Address,
        purpose: Purpose,
        ask: Ask<'_, R>,
        deadline: &Deadline,
    ) -> Result<R::Response, Failed> {
        let deadline = &self.listening(deadline);
        let unsent = |error: Error| Failed {
            error: error.in_api(api::name(R::KEY)),
            was_sent: false,
        };
        let connect = || self.0.connections.get(address, purpose, deadline);
        let connection = connect().map_err(unsent)?;
        let pending = match connection.send(ask, deadline) {
            Ok(pending) => pending,
            // It died between two uses, as idle connections do: not worth telling anybody.
            Err(_) if connection.is_dead() && deadline.check("").is_ok() => {
                let connection = connect().map_err(unsent)?;
                connection.send(ask, deadline).map_err(unsent)?
            }
            Err(error) => return Err(unsent(error)),
        };
        pending.wait(deadline).map_err(|error| Failed { error, was_sent: true })
    }

    /// Asks any broker, and goes on to others and back to the bootstrap servers until one answers or time is up. For
    /// requests that may be repeated.
    pub(crate) fn call_any<'a, R: Request + 'a>(
        &self,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<R::Response> {
        let ask = ask.into();
        let deadline = &self.listening(deadline);
        let mut failures = 0;
        let mut last = None;
        loop {
            let has_time = deadline.remaining() > AN_INSTANT;
            let error = match self.call_any_once(ask, deadline) {
                Ok(answer) => {
                    *self.0.silence.lock() = None;
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if let Some(stop) = deadline.stopped() {
                return Err(stop.error());
            }
            if deadline.has_passed() || !has_time {
                // A round that had no time to fail by itself knows less than the one before it.
                return Err(last.unwrap_or(error));
            }
            if action(&error) == Action::Fail {
                return Err(error);
            }
            failures += 1;
            *self.0.silence.lock() = Some(error.clone());
            log::debug!("{} will be tried again: {error}", api::name(R::KEY));
            if deadline.pause(self.retry_delay(failures), "a broker").is_err() {
                return Err(deadline.stopped().map_or(error, Stop::error));
            }
            last = Some(error);
        }
    }

    /// Every broker that is known, those connected first, and then the bootstrap servers: until one answers.
    fn call_any_once<R: Request>(&self, ask: Ask<'_, R>, deadline: &Deadline) -> Result<R::Response> {
        let deadline = &self.listening(deadline);
        let known: Vec<Address> = self.metadata().brokers.values().map(Broker::address).collect();
        let kind = if known.is_empty() { "bootstrap server" } else { "broker" };
        let mut candidates = self.shuffled(known);
        for address in self.shuffled(self.config().bootstrap.clone()) {
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        let mut failures: Vec<(Address, Error)> = Vec::new();
        for (at, address) in candidates.iter().enumerate() {
            // One that accepts and never answers must not use up the time of the others.
            let share = share(deadline.remaining(), candidates.len() - at, kind == "broker");
            let share = deadline.at_most(share, "a share of the time");
            let error = match self.call_address(address, Purpose::Control, ask, &share) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed.error,
            };
            if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unsupported) {
                return Err(error);
            }
            log::debug!("{address} cannot be asked: {error}");
            failures.push((address.clone(), error));
        }
        // Tried in random order, told in the order in which they were given.
        let place = |address: &Address| self.config().bootstrap.iter().position(|given| given == address);
        failures.sort_by_key(|(address, _)| place(address));
        // What no retry can help against, such as a port that speaks TLS, is told at once.
        let hopeless = failures.iter().all(|(_, error)| action(error) == Action::Fail);
        // Brokers share what they know of users: one that refuses us says what the others would.
        if let Some((_, refused)) = failures.iter().find(|(_, error)| error.is_refusal()) {
            return Err(refused.clone());
        }
        Err(none_reachable(kind, &failures).retriable(!hopeless))
    }

    fn shuffled(&self, mut addresses: Vec<Address>) -> Vec<Address> {
        for at in (1..addresses.len()).rev() {
            let bound = u64::try_from(at + 1).unwrap_or(1);
            let other = usize::try_from(self.random() % bound).unwrap_or(0);
            addresses.swap(at, other);
        }
        // A connection that stands is better than one that has to be made.
        addresses.sort_by_cached_key(|address| !self.0.connections.is_up(address, Purpose::Control));
        addresses
    }

    /// Finds the leader of a partition and calls `attempt` with its ID, its epoch and the topic; and again, after what
    /// the error asks for, until it succeeds, fails for good, or time is up.
    pub(crate) fn with_leader<T>(
        &self,
        topic: &str,
        partition: i32,
        deadline: &Deadline,
        mut attempt: impl FnMut(i32, i32, &Topic) -> Result<T>,
    ) -> Result<T> {
        let deadline = &self.listening(deadline);
        let waited_for = format!("the leader of {topic}-{partition}");
        let mut failures = 0;
        let mut last = None;
        let mut first_missed = None;
        loop {
            // Whether a topic exists has been doubted enough when this says so.
            let known = self.topic(topic, deadline)?;
            let tried = leader_of(&known, partition).and_then(|(leader, epoch)| attempt(leader, epoch, &known));
            let error = match tried {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let error = error.for_partition(topic, partition);
            if let Some(stop) = deadline.stopped() {
                return Err(stop.error());
            }
            let helps = action(&error);
            if helps == Action::Fail {
                return Err(error);
            }
            if is_over(&error, deadline) {
                // What went wrong before says more than that time is up.
                return Err(last.map_or(error.clone(), |last| error.after_last(&last)));
            }
            last = Some(error.clone());
            if error.kind() == ErrorKind::UnknownTopic {
                // It may be so new that not every broker knows it yet.
                let since = *first_missed.get_or_insert_with(now);
                if now().saturating_duration_since(since) >= self.config().unknown_topic_ttl {
                    return Err(error);
                }
            } else {
                first_missed = None;
            }
            failures += 1;
            self.before_retry(failures, &error, &waited_for, deadline)
                .map_err(|ended| ended.for_partition(topic, partition))?;
            if helps != Action::Wait {
                // Its failure shows in the next attempt, which then works on what is known.
                if let Err(failed) = self.refresh(Topics::Named(&[Arc::clone(&known.name)]), deadline) {
                    log::debug!("metadata of {topic}: {failed}");
                }
            }
        }
    }

    /// Waits before the next try; an error when there is no time for one, which then tells of the last error.
    pub(crate) fn before_retry(
        &self,
        failures: u32,
        error: &Error,
        waited_for: &str,
        deadline: &Deadline,
    ) -> Result<()> {
        let deadline = self.listening(deadline);
        log::debug!("trying again to reach {waited_for}: {error}");
        deadline
            .pause(self.retry_delay(failures), waited_for)
            .map_err(|ended| match ended.kind() {
                ErrorKind::TimedOut => ended.after_last(error),
                _ => ended,
            })
    }

    pub(crate) fn retry_delay(&self, failures: u32) -> Duration {
        self.config().retry_backoff.delay(failures, self.random())
    }

    pub(crate) fn reconnect_delay(&self, failures: u32) -> Duration {
        self.config().reconnect_backoff.delay(failures, self.random())
    }

    pub(crate) fn random(&self) -> u64 {
        let state = &self.0.random;
        let next = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            Some(retry::next_random(state))
        });
        next.unwrap_or_default()
    }

    /// The deadline that also ends when this cluster is closed.
    fn listening(&self, deadline: &Deadline) -> Deadline {
        let closing = &self.0.closing;
        if deadline.stops().iter().any(|stop| stop.is(closing)) {
            return deadline.clone();
        }
        deadline.clone().with_stop(closing)
    }

    /// Wakes every waiter with [`ErrorKind::Closed`], ends every connection, and waits for their threads.
    pub(crate) fn close(&self, deadline: &Deadline) -> Result<()> {
        self.0.closing.stop();
        self.0.connections.close(deadline)
    }
}

/// What the next of so many candidates gets of the time that is left.
fn share(remaining: Duration, candidates: usize, are_spare: bool) -> Duration {
    let parts = u32::try_from(candidates).unwrap_or(SHARES).clamp(1, SHARES);
    let fair = remaining / parts;
    if are_spare && candidates > 1 {
        fair.min(ONE_OF_SEVERAL)
    } else {
        fair
    }
}

fn leader_of(topic: &Topic, partition: i32) -> Result<(i32, i32)> {
    match topic.partition(partition) {
        None => {
            let count = topic.partitions.len();
            let error = Error::refused(UNKNOWN_TOPIC_OR_PARTITION);
            Err(error.explained(&format!("the topic has {count} partitions, numbered from 0")))
        }
        Some(known) if known.leader < 0 => Err(Error::refused(LEADER_NOT_AVAILABLE)),
        Some(known) => Ok((known.leader, known.leader_epoch)),
    }
}

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// Nobody is asked and answers in so little time.
const AN_INSTANT: Duration = Duration::from_millis(2);

/// The error tells already that time is up, and for what.
fn is_over(error: &Error, deadline: &Deadline) -> bool {
    error.kind() == ErrorKind::TimedOut && deadline.has_passed()
}

/// A call that failed, and whether the broker may have acted on it nevertheless.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) was_sent: bool,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver: what is cached ages by the clock")]
fn now() -> Instant {
    Instant::now()
}
