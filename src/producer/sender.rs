//! One broker's sender: ready batches to one connection, several requests in flight, answers in their order.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::messages::{ProduceRequest, ProduceResponse, produce_response::PartitionProduceResponse};
use uuid::Uuid;

use super::{
    config::Acks,
    helm::Found,
    inbox::Inbox,
    memory::Buffer,
    partition::{Body, Held, Partition, Poll, Taken, now},
    queue::{Appended, Ticket, Verdict},
    shared::Shared,
    take_apart::take_apart,
    verdict::{self, Answer},
};
use crate::{
    cluster::{
        Action, LeaderHint, action,
        retry::{NONSENSE, is_nonsense, only_nonsense},
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{Connection, Pending},
    wire::{
        batch::{Compression, Compressor, Decoder, Sequence, compress, stamp},
        produce::{Produce, TOPIC_IDS, TopicBatches},
    },
};

mod at_once;

pub(super) use at_once::send_at_once;

/// The sender's thread.
pub(super) fn run(shared: &Arc<Shared>, inbox: &Arc<Inbox>) {
    let mut sender = match Sender::new(Arc::clone(shared), Arc::clone(inbox)) {
        Ok(sender) => Box::new(sender),
        // The codec was checked when the producer was built.
        Err(error) => return log::error!("a sender cannot start: {error}"),
    };
    let bell = inbox.bell();
    let _rings = shared.ended.on_stop({
        let bell = Arc::clone(bell);
        move || bell.ring()
    });
    loop {
        // Before anything is looked at, also the end.
        bell.quiet();
        if shared.ended.is_stopped() {
            return sender.end();
        }
        let until = sender.work();
        inbox.helm.leave(sender, until);
        let was_rung = bell.wait_until(until);
        sender = loop {
            // Whoever has it rings when it is back, which may be before this waits.
            bell.quiet();
            match inbox.helm.take() {
                Found::Free(sender) => break sender,
                Found::InUse => drop(bell.wait_until(now() + LONG)),
                // What a panic has left: all that is on its way is given up in time, and the next sender is a new one.
                Found::Lost => return log::error!("sending to broker {} panicked", inbox.broker),
            }
        };
        if !was_rung {
            sender.end_if_idle();
        }
    }
}

/// One broker's, in the hands of whoever is at work.
pub(super) struct Sender {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// Partitions that have something, or may have.
    active: Vec<Arc<Partition>>,
    /// Their keys.
    listed: HashSet<usize>,
    /// Whose turn it is first.
    turn: usize,
    connection: Option<Connection>,
    /// In the order in which they were sent.
    flights: VecDeque<Flight>,
    /// The broker wants nothing before this time, or it could not be reached.
    not_before: Option<Instant>,
    /// To connect or to stay connected, in a row.
    failures: u32,
    /// Answers in a row that made no sense, where the connection begins.
    nonsense: u32,
    connected_at: Option<Instant>,
    /// The log was told that the broker is out of reach.
    warned: bool,
    tools: Tools,
}

/// What is kept between batches.
struct Tools {
    compressor: Compressor,
    scratch: Vec<u8>,
    decoder: Decoder,
}

/// A request on its way.
struct Flight {
    pending: Pending<ProduceRequest>,
    batches: Vec<Sent>,
    /// The IDs that stand for topics in the answer, in newer versions.
    ids: Vec<(Uuid, Arc<str>)>,
    at: Instant,
}

struct Sent {
    partition: Arc<Partition>,
    ticket: Ticket,
    records: u32,
}

/// A batch as it goes onto the wire.
struct Outgoing {
    sent: Sent,
    bytes: Arc<Buffer>,
}

/// What was found when looking for work.
enum Look {
    Ready,
    /// Nothing before this time, or before something happens.
    Later(Option<Instant>),
}

impl Sender {
    fn new(shared: Arc<Shared>, inbox: Arc<Inbox>) -> Result<Self> {
        let config = &shared.env.config;
        let tools = Tools {
            compressor: Compressor::new(config.compression, config.compression_level)?,
            scratch: Vec::new(),
            // A batch of our own is as large as the buffer may be, at most.
            decoder: Decoder::new(shared.env.memory.limit()),
        };
        Ok(Self {
            shared,
            inbox,
            active: Vec::new(),
            listed: HashSet::new(),
            turn: 0,
            connection: None,
            flights: VecDeque::new(),
            not_before: None,
            failures: 0,
            nonsense: 0,
            connected_at: None,
            warned: false,
            tools,
        })
    }

    /// All that is to be done now. Gives the time at which to look again.
    fn work(&mut self) -> Instant {
        self.take_answers();
        self.adopt();
        let wake_at = self.send_ready();
        self.inbox.owes_since(self.flights.front().map(|flight| flight.at));
        self.look_at(wake_at)
    }

    fn end(&mut self) {
        // Nobody waits for what is still on its way. Partitions and inboxes refer to each other.
        drop(self.inbox.take());
        self.connection = None;
        self.inbox.owes_since(None);
    }

    fn adopt(&mut self) {
        for partition in self.inbox.take() {
            if self.listed.insert(partition.key) {
                self.active.push(partition);
            }
        }
    }

    // ---- sending ----

    /// Sends for as long as something is ready and may be in flight. Gives the time at which to look again.
    fn send_ready(&mut self) -> Option<Instant> {
        loop {
            if self.shared.ended.is_stopped() {
                return None;
            }
            let look = self.look(now());
            if self.flights.len() >= self.shared.env.config.in_flight {
                // The next answer is what is waited for.
                return None;
            }
            if !self.flights.is_empty() && self.connection.as_ref().is_some_and(Connection::wants_quiet) {
                // The same: a session is renewed at once when nothing is on its way, and would hold this thread until then.
                return None;
            }
            if let Look::Later(at) = look {
                return at;
            }
            if let Some(at) = self.not_before.filter(|at| now() < *at) {
                return Some(at);
            }
            if !self.connect() {
                return self.not_before;
            }
            let batches = self.assemble();
            if batches.is_empty() {
                // They were given up or went elsewhere meanwhile: another look tells.
                self.adopt();
                continue;
            }
            let limit = self.shared.cluster.config().request_timeout;
            self.transmit(batches, limit);
            self.take_answers();
            self.adopt();
        }
    }

    fn look(&mut self, now: Instant) -> Look {
        let mut look = Look::Later(None);
        let mut nameless = Vec::new();
        let (inbox, listed) = (&self.inbox, &mut self.listed);
        self.active.retain(|partition| {
            match partition.poll(inbox, now) {
                Poll::Gone | Poll::Idle => {
                    listed.remove(&partition.key);
                    return false;
                }
                Poll::Ready => look = Look::Ready,
                Poll::At(at) => {
                    if let Look::Later(until) = &mut look {
                        *until = Some(until.map_or(at, |until| until.min(at)));
                    }
                }
                Poll::Nameless(is_new) => nameless.extend(is_new.then(|| Arc::clone(partition))),
                Poll::Blocked => {}
            }
            true
        });
        if !nameless.is_empty() {
            self.shared.desk.leave(|wants| wants.nameless.append(&mut nameless));
        }
        look
    }

    /// True when there is a connection; otherwise says when to try again.
    fn connect(&mut self) -> bool {
        if let Some(connection) = &self.connection {
            if !connection.is_dead() {
                return true;
            }
            self.disconnected();
            if self.not_before.is_some_and(|at| now() < at) {
                return false;
            }
        }
        let Some(address) = self.shared.cluster.broker_address(self.inbox.broker) else {
            let error = Error::new(
                ErrorKind::Unreachable,
                format!("broker {} is not in the metadata", self.inbox.broker),
            );
            self.unreachable(&error);
            return false;
        };
        self.attend();
        let cluster = &self.shared.cluster;
        let deadline = Deadline::after(cluster.config().connect_timeout, "connect_timeout")
            .with_stop(&self.shared.ended)
            .with_stop(cluster.closing());
        match Connection::open_with(self.inbox.bell(), &address, cluster.net_config(), &deadline) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.connected_at = Some(now());
                self.not_before = None;
                self.nonsense = 0;
                if std::mem::take(&mut self.warned) {
                    log::info!("broker {} can be reached again to produce", self.inbox.broker);
                }
                true
            }
            Err(error) => {
                if deadline.stopped().is_none() {
                    self.unreachable(&error);
                }
                false
            }
        }
    }

    /// The broker may be gone for good: the keeper asks who leads now.
    fn unreachable(&mut self, error: &Error) {
        // Once an outage: whoever has sent detached is told nothing else before its time is over.
        let level = match std::mem::replace(&mut self.warned, true) {
            true => log::Level::Debug,
            false => log::Level::Warn,
        };
        log::log!(
            level,
            "broker {} cannot be reached to produce: {error}",
            self.inbox.broker
        );
        self.cool_down();
        let topics = self.active.iter().map(|partition| Arc::clone(&partition.topic));
        let topics: HashSet<_> = topics.collect();
        self.shared.desk.leave(|wants| wants.stale.extend(topics));
        let is_nonsense = is_nonsense(error);
        if !is_nonsense {
            self.nonsense = 0;
        }
        if error.kind() == ErrorKind::Closed {
            return;
        }
        for partition in &self.active {
            partition.blame(error);
        }
        if action(error) != Action::Fail {
            return;
        }
        if is_nonsense && self.nonsense < NONSENSE {
            self.nonsense += 1;
            return;
        }
        // No retry helps, as against a port that speaks TLS.
        let error = if is_nonsense {
            only_nonsense(error.clone())
        } else {
            error.clone()
        };
        for partition in &self.active {
            if error.is_refusal() {
                // Nor would anybody tell what became of what was sent before.
                partition.fail_waiting(&error);
            } else {
                partition.fail_unsent(&error);
            }
        }
    }

    fn cool_down(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now() + self.shared.cluster.reconnect_delay(self.failures));
    }

    /// The connection has ended; what was in flight on it has been told.
    fn disconnected(&mut self) {
        let was_idle = self
            .connection
            .take()
            .and_then(|connection| connection.ended())
            .is_none_or(|ended| ended.was_idle);
        let longest = self.shared.cluster.config().reconnect_backoff.max;
        let lived = self.connected_at.take().map(|at| now().saturating_duration_since(at));
        if lived.is_some_and(|lived| lived > longest) {
            self.failures = 0;
        }
        if !was_idle {
            self.cool_down();
            if self.shared.env.config.acks == Acks::None {
                self.doubt_all();
            }
        }
    }

    /// Where nobody answers, a broker that does not lead any more says so by closing the connection.
    fn doubt_all(&self) {
        let partitions = self.shared.topics.partitions();
        let mine = partitions.iter().filter(|partition| partition.is_owned_by(&self.inbox));
        let topics: HashSet<_> = mine.map(|partition| Arc::clone(&partition.topic)).collect();
        self.shared.desk.leave(|wants| wants.stale.extend(topics));
    }

    /// One batch of each partition that has one ready, as many as a request holds. What does not fit is the first of one of
    /// the next, and then fits, however long it is.
    fn assemble(&mut self) -> Vec<(Arc<Partition>, Taken)> {
        let room = self.shared.env.config.request_bytes;
        self.assemble_within(usize::MAX, room)
    }

    /// The same within limits: of the first one, and of all together.
    fn assemble_within(&mut self, longest: usize, mut room: usize) -> Vec<(Arc<Partition>, Taken)> {
        let now = now();
        let mut batches = Vec::new();
        let (later, sooner) = self.active.split_at(self.turn % self.active.len().max(1));
        for partition in sooner.iter().chain(later) {
            let allowed = if batches.is_empty() { longest } else { room };
            let Some(taken) = partition.take(&self.inbox, now, allowed) else {
                continue;
            };
            room = room.saturating_sub(taken.body.len());
            batches.push((Arc::clone(partition), taken));
            if room == 0 {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1);
        batches
    }

    /// Each request is written within `limit`, or not at all.
    fn transmit(&mut self, batches: Vec<(Arc<Partition>, Taken)>, limit: Duration) {
        let mut outgoing = Vec::with_capacity(batches.len());
        let mut size = 0;
        for (partition, taken) in batches {
            let Taken {
                ticket,
                sequence,
                records,
                body,
            } = taken;
            match self.prepare(body, sequence) {
                Ok(bytes) => {
                    if partition.give_back(ticket, &bytes, sequence) {
                        if size + bytes.bytes().len() > LARGEST_REQUEST {
                            self.send(std::mem::take(&mut outgoing), limit);
                            size = 0;
                        }
                        size += bytes.bytes().len();
                        let sent = Sent {
                            partition,
                            ticket,
                            records,
                        };
                        outgoing.push(Outgoing { sent, bytes });
                    }
                }
                Err(error) => {
                    let verdict = Verdict::Refused {
                        error,
                        maybe_applied: false,
                    };
                    partition.settle(&self.inbox, ticket, verdict, self.shared.cluster.random());
                }
            }
        }
        self.send(outgoing, limit);
    }

    fn send(&mut self, outgoing: Vec<Outgoing>, limit: Duration) {
        if outgoing.is_empty() {
            return;
        }
        self.attend();
        let (ids, result) = self.write(&outgoing, limit);
        let batches: Vec<Sent> = outgoing.into_iter().map(|outgoing| outgoing.sent).collect();
        match result {
            Ok(Some(pending)) => self.flights.push_back(Flight {
                pending,
                batches,
                ids,
                at: now(),
            }),
            Ok(None) => self.written_unanswered(batches),
            Err(error) => self.not_written(batches, &error),
        }
    }

    /// Compresses and stamps; what was sent before goes as it was.
    fn prepare(&mut self, body: Body, sequence: Sequence) -> Result<Arc<Buffer>> {
        let mut buffer = match body {
            Body::Stamped(bytes, before) if before == sequence => return Ok(bytes),
            Body::Stamped(bytes, _) => match Arc::try_unwrap(bytes) {
                Ok(buffer) => buffer,
                // Somebody still writes it, to a broker that led before.
                Err(bytes) => {
                    let memory = &self.shared.env.memory;
                    let mut copy = memory.buffer(memory.force(bytes.bytes().len()));
                    copy.bytes_mut().extend_from_slice(bytes.bytes());
                    copy
                }
            },
            Body::Closed(mut buffer) => {
                if self.tools.compressor.compression() != Compression::None {
                    let Tools {
                        compressor, scratch, ..
                    } = &mut self.tools;
                    compress(buffer.bytes_mut(), compressor, scratch)?;
                    buffer.trim();
                }
                buffer
            }
            Body::Lent | Body::Gone => return Err(Error::new(ErrorKind::Internal, "a batch without bytes was sent")),
        };
        let size = buffer.bytes().len();
        if size > LARGEST_BATCH {
            let message =
                format!("the record makes a batch of {size} bytes, more than a request carries ({LARGEST_BATCH})");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        stamp(buffer.bytes_mut(), sequence);
        Ok(Arc::new(buffer))
    }

    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn write(
        &self,
        outgoing: &[Outgoing],
        limit: Duration,
    ) -> (Vec<(Uuid, Arc<str>)>, Result<Option<Pending<ProduceRequest>>>) {
        let metadata = self.shared.cluster.metadata();
        let mut partitions: Vec<Vec<(i32, &[u8])>> = Vec::new();
        let mut ids: Vec<(Uuid, Arc<str>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for Outgoing { sent, bytes } in outgoing {
            let name = &sent.partition.topic;
            let place = *places.entry(name).or_insert_with(|| {
                let id = metadata.topic(name).map_or(Uuid::nil(), |topic| topic.id);
                ids.push((id, Arc::clone(name)));
                partitions.push(Vec::new());
                partitions.len() - 1
            });
            partitions[place].push((sent.partition.index, bytes.bytes().as_slice()));
        }
        let topics: Vec<_> = ids
            .iter()
            .zip(&partitions)
            .map(|((id, name), partitions)| TopicBatches {
                name,
                id: *id,
                partitions,
            })
            .collect();
        let Some(connection) = &self.connection else {
            return (ids, Err(Error::closed("connection")));
        };
        let config = &self.shared.env.config;
        let cluster = &self.shared.cluster;
        let has_ids = ids.iter().all(|(id, _)| !id.is_nil());
        let newest = if has_ids { i16::MAX } else { TOPIC_IDS - 1 };
        let whose = if limit < cluster.config().request_timeout {
            "what a caller waits"
        } else {
            "request_timeout"
        };
        let deadline = Deadline::after(limit, whose)
            .with_stop(&self.shared.ended)
            .with_stop(cluster.closing());
        let request = Produce {
            transactional_id: None,
            acks: config.acks.to_wire(),
            timeout_ms: config.ack_timeout_millis(cluster.config().request_timeout),
            topics: &topics,
        };
        let encode = |version: i16, id: i32, client: &str| request.encode(version, id, client);
        let result = if config.acks == Acks::None {
            connection
                .send_unanswered::<ProduceRequest, _>(newest, encode, &deadline)
                .map(|()| None)
        } else {
            // The broker may wait for its replicas as long as it is told, which is less than any request may take.
            connection
                .send_frame::<ProduceRequest, _>(newest, Duration::ZERO, encode, &deadline)
                .map(Some)
        };
        drop(topics);
        (ids, result)
    }

    fn written_unanswered(&self, batches: Vec<Sent>) {
        for Sent { partition, ticket, .. } in batches {
            let appended = Appended {
                offset: None,
                timestamp: None,
            };
            partition.settle(
                &self.inbox,
                ticket,
                Verdict::Appended(appended),
                self.shared.cluster.random(),
            );
        }
    }

    /// The broker has not got it, and never will.
    fn not_written(&self, batches: Vec<Sent>, error: &Error) {
        // What has ended a connection meanwhile says nothing about these batches: another one may do better.
        let is_alive = self.connection.as_ref().is_some_and(|connection| !connection.is_dead());
        let may_pass = matches!(error.kind(), ErrorKind::Closed | ErrorKind::TimedOut);
        let is_hopeless = is_alive && action(error) == Action::Fail && !may_pass;
        for Sent { partition, ticket, .. } in batches {
            let random = self.shared.cluster.random();
            if is_hopeless {
                let verdict = Verdict::Refused {
                    error: error.clone(),
                    maybe_applied: false,
                };
                partition.settle(&self.inbox, ticket, verdict, random);
            } else {
                partition.not_sent(&self.inbox, ticket, error.clone(), random);
            }
        }
    }

    // ---- answers ----

    fn take_answers(&mut self) {
        while let Some(flight) = self.flights.front() {
            let answer = flight.pending.try_take().or_else(|| {
                // One that is overdue ends the connection, and that ends what is in flight.
                let is_over = self.connection.as_ref().is_none_or(Connection::is_dead);
                is_over.then(|| flight.pending.try_take()).flatten()
            });
            let Some(answer) = answer else {
                return;
            };
            let Some(flight) = self.flights.pop_front() else {
                return;
            };
            match answer {
                Ok(answer) => self.answered(flight, &answer),
                Err(error) => self.unanswered(flight, &error),
            }
        }
        if self.connection.as_ref().is_some_and(Connection::is_dead) {
            self.disconnected();
        }
    }

    fn answered(&mut self, flight: Flight, answer: &ProduceResponse) {
        if answer.throttle_time_ms > 0 {
            let throttle = Duration::from_millis(answer.throttle_time_ms.unsigned_abs().into());
            log::debug!("broker {} throttles for {throttle:?}", self.inbox.broker);
            self.not_before = Some(now() + throttle.min(self.shared.env.config.delivery_timeout));
        }
        let told = by_partition(&flight.ids, answer);
        self.apply_hints(&told, answer);
        for sent in flight.batches {
            let key = (&*sent.partition.topic, sent.partition.index);
            let answer = match told.get(&key) {
                Some(told) => verdict::answer(told, sent.records),
                None => verdict::left_out(),
            };
            self.settle(&sent, answer);
        }
    }

    fn unanswered(&mut self, flight: Flight, error: &Error) {
        log::debug!(
            "{} batches are unanswered by broker {}: {error}",
            flight.batches.len(),
            self.inbox.broker
        );
        for sent in flight.batches {
            self.settle(&sent, verdict::unanswered(error.clone()));
        }
    }

    fn settle(&mut self, sent: &Sent, answer: Answer) {
        let Answer {
            verdict,
            refresh,
            faulty,
        } = answer;
        let partition = &sent.partition;
        if let Verdict::Retry { error, .. } | Verdict::OutOfSequence(error) = &verdict {
            log::debug!(
                "a batch for {}-{} is sent again: {error}",
                partition.topic,
                partition.index
            );
        }
        let held = partition.settle(&self.inbox, sent.ticket, verdict, self.shared.cluster.random());
        if let Some(held) = held {
            self.take_apart(partition, &held, &faulty);
        }
        if refresh {
            // A hint may have told who leads now, to this request or to one before it.
            self.shared.settle_in(partition);
            if partition.is_owned_by(&self.inbox) {
                let topic = Arc::clone(&partition.topic);
                self.shared.desk.leave(|wants| {
                    wants.stale.insert(topic);
                });
            }
        }
    }

    fn take_apart(&mut self, partition: &Arc<Partition>, held: &Held, faulty: &[(u32, Error)]) {
        if faulty.is_empty() {
            partition.shrink_batches(held.bytes.bytes().len());
        }
        let parts = take_apart(held, faulty, &self.shared.env.memory, &mut self.tools.decoder);
        partition.replace(&self.inbox, held.ticket, parts);
    }

    /// What the answer says about new leaders (KIP-951).
    fn apply_hints(&self, told: &Told<'_>, answer: &ProduceResponse) {
        let hints = told.iter().filter_map(|(&(topic, partition), told)| {
            let leader = &told.current_leader;
            (leader.leader_id.0 >= 0).then_some(LeaderHint {
                topic,
                partition,
                leader: leader.leader_id.0,
                leader_epoch: leader.leader_epoch,
            })
        });
        let hints: Vec<_> = hints.collect();
        if hints.is_empty() {
            return;
        }
        let endpoints = answer.node_endpoints.iter().map(|node| {
            let rack = node.rack.as_ref().map(|rack| rack.as_str());
            (node.node_id.0, node.host.as_str(), node.port, rack)
        });
        self.shared.cluster.apply_leader_hints(endpoints, hints);
    }

    // ---- waiting ----

    /// From now on the broker owes something.
    fn attend(&self) {
        if self.inbox.owed_since().is_none() {
            self.inbox.owes_since(Some(now()));
        }
        self.shared.desk.attend();
    }

    fn look_at(&self, wake_at: Option<Instant>) -> Instant {
        let config = self.shared.cluster.config();
        let max_idle = config.connections_max_idle;
        let left = self.connection.as_ref().map_or(max_idle, |connection| {
            let left = max_idle.saturating_sub(connection.idle());
            // What a caller sends meanwhile is not overdue before that.
            let left = if left.is_zero() { max_idle } else { left };
            left.min(config.request_timeout)
        });
        let mut until = now() + left;
        if let Some(flight) = self.flights.front() {
            until = until.min(flight.pending.expires());
        }
        wake_at.map_or(until, |wake_at| until.min(wake_at))
    }

    fn end_if_idle(&mut self) {
        let max_idle = self.shared.cluster.config().connections_max_idle;
        let connection = self.connection.as_ref().filter(|_| self.flights.is_empty());
        if connection.is_some_and(|connection| connection.end_if_idle_for(max_idle)) {
            self.connection = None;
        }
    }
}

/// A caller has a sender for far less.
const LONG: Duration = Duration::from_secs(1);
/// Brokers end the connection on a longer request (`socket.request.max.bytes`), and would do so each time it comes again.
const LARGEST_REQUEST: usize = (100 << 20) - (64 << 10);
/// Only a single record becomes so long.
const LARGEST_BATCH: usize = 90 << 20;

type Told<'a> = HashMap<(&'a str, i32), &'a PartitionProduceResponse>;

/// What was answered, by topic and partition. What was not asked is of no use to anybody.
fn by_partition<'a>(ids: &'a [(Uuid, Arc<str>)], answer: &'a ProduceResponse) -> Told<'a> {
    let mut told = HashMap::new();
    for topic in &answer.responses {
        let known = ids
            .iter()
            .find(|(id, name)| (!topic.topic_id.is_nil() && *id == topic.topic_id) || topic.name.as_str() == &**name);
        let Some((_, name)) = known else {
            continue;
        };
        for partition in &topic.partition_responses {
            told.insert((&**name, partition.index), partition);
        }
    }
    told
}
