//! The connections of one client: one per broker and purpose, made on first use.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, never};
use parking_lot::Mutex;

use crate::{
    cluster::retry::{Backoff, next_random},
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{Address, Connection, NetConfig},
};

/// What a connection is for. A broker handles one request at a time per connection, so what may wait within the broker
/// stays away from what must be quick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Metadata, offsets, coordinators: answered at once.
    Control,
    /// Upkeep that the broker may take its time for.
    Slow,
}

#[derive(Debug)]
pub(crate) struct Connections {
    net: NetConfig,
    /// Between the tries to reach a broker that could not be reached.
    backoff: Backoff,
    max_idle: Duration,
    /// Held for a few lines, never while dialling, closing or joining.
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    slots: HashMap<Key, Slot>,
    random: u64,
    closed: bool,
    swept: Instant,
}

impl Table {
    fn next_random(&mut self) -> u64 {
        self.random = next_random(self.random);
        self.random
    }
}

/// By address, not by broker: a bootstrap server and the broker it turns out to be share a connection, and a broker
/// that moves gets a new one.
type Key = (Address, Purpose);

#[derive(Debug, Default)]
struct Slot {
    state: State,
    /// Failures to connect, or to stay connected, in a row.
    failures: u32,
    up_since: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Empty,
    /// Somebody connects; the channel disconnects when that is over.
    Dialling(Receiver<()>),
    Up(Arc<Connection>),
    /// Not to be dialled again before this time.
    Cooling(Instant, Error),
}

/// What there is to do for a caller.
#[derive(Debug)]
enum Step {
    Use(Arc<Connection>),
    Dial(Sender<()>),
    WaitFor(Receiver<()>),
    Cool(Instant, Error),
}

impl Connections {
    pub(crate) fn new(net: NetConfig, backoff: Backoff, max_idle: Duration, seed: u64) -> Self {
        Self {
            net,
            backoff,
            max_idle,
            table: Mutex::new(Table {
                slots: HashMap::new(),
                random: seed,
                closed: false,
                swept: now(),
            }),
        }
    }

    pub(crate) fn net(&self) -> &NetConfig {
        &self.net
    }

    /// A live connection: the one there is, or a new one. One caller dials; the others wait for it.
    ///
    /// After a failure the address is left alone for a while. A caller waits for that if its deadline allows, and gets
    /// the last error otherwise.
    pub(crate) fn get(&self, address: &Address, purpose: Purpose, deadline: &Deadline) -> Result<Arc<Connection>> {
        self.close_idle();
        let key = (address.clone(), purpose);
        let mut last = None;
        loop {
            if let Err(ended) = deadline.check("a connection") {
                let last = last.filter(|_| deadline.stopped().is_none());
                return Err(last.unwrap_or_else(|| ended.at_broker(&address.to_string())));
            }
            match self.step(&key)? {
                Step::Use(connection) => return Ok(connection),
                Step::Dial(done) => return self.dial(&key, done, deadline),
                Step::WaitFor(done) => {
                    deadline.wait(&done);
                }
                Step::Cool(until, error) if until >= deadline.at() => return Err(error),
                Step::Cool(until, error) => {
                    // Whether it was stopped shows above.
                    deadline.wait_until(&never::<()>(), until);
                    last = Some(error);
                }
            }
        }
    }

    /// Whether a call to this address can start without dialling.
    pub(crate) fn is_up(&self, address: &Address, purpose: Purpose) -> bool {
        let key = (address.clone(), purpose);
        let connection = match self.table.lock().slots.get(&key).map(|slot| &slot.state) {
            Some(State::Up(connection)) => Arc::clone(connection),
            _ => return false,
        };
        !connection.is_dead()
    }

    /// The table's lock is never held while a connection is looked into or dropped, which joins its thread.
    fn step(&self, key: &Key) -> Result<Step> {
        loop {
            let connection = match self.look(key)? {
                Ok(connection) => connection,
                Err(step) => return Ok(step),
            };
            if !connection.is_dead() {
                return Ok(Step::Use(connection));
            }
            self.retire(key, &connection);
        }
    }

    fn look(&self, key: &Key) -> Result<Result<Arc<Connection>, Step>> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(Error::closed("client"));
        }
        let slot = table.slots.entry(key.clone()).or_default();
        let step = match &slot.state {
            State::Up(connection) => return Ok(Ok(Arc::clone(connection))),
            State::Dialling(done) => Step::WaitFor(done.clone()),
            State::Cooling(until, error) if now() < *until => Step::Cool(*until, error.clone()),
            State::Empty | State::Cooling(..) => {
                let (finished, done) = bounded(0); // nothing is sent: it disconnects
                slot.state = State::Dialling(done);
                Step::Dial(finished)
            }
        };
        Ok(Err(step))
    }

    /// Takes a dead connection out of the table.
    fn retire(&self, key: &Key, dead: &Arc<Connection>) {
        // An idle connection is closed by brokers as a matter of course. Any other end is a failure.
        let failure = dead.ended().filter(|ended| !ended.was_idle);
        let mut table = self.table.lock();
        let random = table.next_random();
        let Some(slot) = table.slots.get_mut(key) else {
            return;
        };
        if !matches!(&slot.state, State::Up(connection) if Arc::ptr_eq(connection, dead)) {
            return;
        }
        let lived = slot
            .up_since
            .map_or(Duration::ZERO, |since| now().saturating_duration_since(since));
        if lived > self.backoff.max {
            slot.failures = 0;
        }
        slot.state = match failure {
            None => State::Empty,
            Some(ended) => {
                slot.failures += 1;
                State::Cooling(ended.at + self.backoff.delay(slot.failures, random), ended.cause)
            }
        };
    }

    fn dial(&self, key: &Key, done: Sender<()>, deadline: &Deadline) -> Result<Arc<Connection>> {
        // Whatever happens, the slot is left in a state in which others can go on.
        let mut dialling = Dialling {
            connections: self,
            key,
            outcome: State::Empty,
            failed: false,
            done: Some(done),
        };
        match Connection::open(&key.0, &self.net, deadline) {
            Ok(connection) => {
                let connection = Arc::new(connection);
                dialling.outcome = State::Up(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                log::debug!("connecting to {} failed: {error}", key.0);
                // A caller that had no time, or was stopped, says nothing about the broker.
                if deadline.stopped().is_none() && !deadline.has_passed() {
                    dialling.outcome = State::Cooling(now(), error.clone());
                    dialling.failed = true;
                }
                Err(error)
            }
        }
    }

    /// Closes what nobody has used for long, so that connections to brokers no longer needed go away.
    fn close_idle(&self) {
        let connections: Vec<(Key, Arc<Connection>)> = {
            let mut table = self.table.lock();
            if now().saturating_duration_since(table.swept) < self.max_idle / 4 {
                return;
            }
            table.swept = now();
            let slots = table.slots.iter();
            slots
                .filter_map(|(key, slot)| match &slot.state {
                    State::Up(connection) => Some((key.clone(), Arc::clone(connection))),
                    _ => None,
                })
                .collect()
        };
        for (key, connection) in connections {
            if connection.end_if_idle_for(self.max_idle) {
                log::debug!("closed an unused connection to {}", key.0);
                self.retire(&key, &connection);
            }
        }
    }

    /// Ends every connection and refuses new ones; then waits for their threads.
    pub(crate) fn close(&self, deadline: &Deadline) -> Result<()> {
        let connections: Vec<Arc<Connection>> = {
            let mut table = self.table.lock();
            table.closed = true;
            let slots = table.slots.drain();
            slots
                .filter_map(|(_, slot)| match slot.state {
                    State::Up(connection) => Some(connection),
                    _ => None,
                })
                .collect()
        };
        for connection in &connections {
            connection.end(Error::closed("client"));
        }
        let joined: Vec<Result<()>> = connections
            .iter()
            .map(|connection| connection.close(deadline))
            .collect();
        joined.into_iter().collect()
    }
}

struct Dialling<'a> {
    connections: &'a Connections,
    key: &'a Key,
    outcome: State,
    failed: bool,
    done: Option<Sender<()>>,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        let late = if table.closed {
            Some(std::mem::take(&mut self.outcome))
        } else {
            let random = table.next_random();
            let slot = table.slots.entry(self.key.clone()).or_default();
            slot.failures = if self.failed { slot.failures + 1 } else { slot.failures };
            if let State::Cooling(until, _) = &mut self.outcome {
                *until += self.connections.backoff.delay(slot.failures, random);
            }
            slot.up_since = matches!(self.outcome, State::Up(_)).then(now);
            slot.state = std::mem::take(&mut self.outcome);
            None
        };
        drop(table);
        if let Some(State::Up(connection)) = late {
            connection.end(Error::closed("client"));
        }
        drop(self.done.take());
    }
}

/// One sentence for "none of them", with every address and its reason.
pub(crate) fn none_reachable(what: &str, failures: &[(Address, Error)]) -> Error {
    let list: Vec<String> = failures
        .iter()
        .map(|(address, error)| format!("{address}: {}", error.reason()))
        .collect();
    Error::new(
        ErrorKind::Unreachable,
        format!("cannot reach any {what}: {}", list.join("; ")),
    )
}

#[allow(
    clippy::disallowed_methods,
    reason = "a driver: cool-downs and idleness go by the clock"
)]
fn now() -> Instant {
    Instant::now()
}
