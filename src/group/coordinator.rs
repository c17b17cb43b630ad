//! The thread of one group member: drives membership, handover and commits with a real connection and a real clock.
//!
//! It never runs the program's code, and never waits for it without a deadline: heartbeats go on whatever the program does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use log::Level;

use super::{
    committer::{Committer, Waiter},
    config::GroupConfig,
    handle::{Command, Status},
    links::{Links, Search},
    member::{Answer, Identity, Link, Member, Output, Request, Ticket},
    offsets::{self, Committed},
    requests::{self, Sent},
    topics::TopicCounts,
};
use crate::{
    cluster::{Action, Metadata, action},
    consumer::{
        buffer::Shared,
        event::Event,
        handover::{Claim, ClaimFrom, GivenUp, Progress},
        keeper,
        ownership::Terms,
        stream::Farewell,
    },
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{Ask, Pending},
    offset::{StartAt, TopicPartition},
    thread::Worker,
};

/// While messages are given back that nobody has to tell of, this often is looked.
const LOOK: Duration = Duration::from_millis(25);
/// How long saying goodbye may take, once everything is committed.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long a member whose stream is gone may take to leave in good order.
const ORPHAN: Duration = Duration::from_secs(5);
/// How long a request may take to be written; its answer has longer.
const WRITE: Duration = Duration::from_secs(5);

/// What a coordinator is made of.
pub(crate) struct Parts {
    pub shared: Arc<Shared>,
    pub group: Arc<str>,
    pub config: GroupConfig,
    pub terms: Terms,
    pub member: Member,
    pub committer: Committer,
    pub counts: TopicCounts,
    pub status: Arc<Status>,
    pub commands: Receiver<Command>,
}

struct Coordinator {
    parts: Parts,
    links: Option<Links>,
    search: Option<Search>,
    /// When to look for the coordinator.
    connect_at: Option<Instant>,
    flights: Vec<Flight>,
    handover: Handover,
    opening: Option<Opening>,
    /// What this member had in the generation before.
    before: BTreeSet<TopicPartition>,
    leaving: Option<Leaving>,
    /// The stream is gone, and nobody gives commands any more.
    is_orphan: bool,
    /// Nothing helps any more; only a goodbye is awaited.
    is_over: bool,
    has_left: bool,
}

/// A request whose answer is awaited.
enum Flight {
    Member(Ticket, Sent),
    Commit(Identity, Pending<OffsetCommitRequest>),
    Offsets(Identity, Pending<OffsetFetchRequest>),
}

/// The steps of giving partitions up in good order.
enum Handover {
    None,
    /// The program may finish what it has in hand.
    Draining {
        until: Instant,
        limit: Instant,
    },
    /// What it has finished is being committed.
    Committing {
        limit: Instant,
        given_up: Vec<GivenUp>,
    },
}

/// Partitions that were assigned and whose committed offsets are not known yet.
struct Opening {
    partitions: BTreeSet<TopicPartition>,
    /// Those of them that the request which is under way names.
    asked: Vec<TopicPartition>,
    failures: u32,
    ask_at: Instant,
    is_asked: bool,
}

struct Leaving {
    until: Instant,
    /// The link was closed while idle, and is made again to say goodbye.
    relinks: bool,
    unfinished: Vec<(TopicPartition, i64)>,
    /// What cannot be committed any more.
    uncommitted: Vec<(TopicPartition, i64)>,
    said: bool,
}

/// Starts the coordinator of a member.
pub(crate) fn start(parts: Parts) -> Result<Worker> {
    let coordinator = Coordinator {
        parts,
        links: None,
        search: None,
        connect_at: None,
        flights: Vec::new(),
        handover: Handover::None,
        opening: None,
        before: BTreeSet::new(),
        leaving: None,
        is_orphan: false,
        is_over: false,
        has_left: false,
    };
    Worker::start("klamm-group", move || coordinator.run())
}

#[allow(clippy::disallowed_methods, reason = "a driver: membership goes by the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Coordinator {
    fn run(mut self) {
        let shared = Arc::clone(&self.parts.shared);
        let _alarm = shared.alarm();
        while !self.step() {
            self.wait();
        }
        self.parts.status.end();
    }

    /// Does all that is to be done now. True when there will be nothing more.
    fn step(&mut self) -> bool {
        self.take_commands();
        self.take_answers();
        self.watch_topics();
        self.parts.member.tick(now());
        loop {
            self.act();
            // Each may bring about the next: what was let go of is committed, and then released.
            let moved = self.hand_over() | self.ask_offsets() | self.commit() | self.connect() | self.say_goodbye();
            if !moved {
                break;
            }
        }
        self.tell_validity();
        self.is_done()
    }

    // ---- waiting ----

    fn wait(&self) {
        let until = self.timer();
        let mut select = Select::new();
        if !self.is_orphan {
            select.recv(&self.parts.commands);
        }
        select.recv(self.parts.shared.nudges());
        if let Some(search) = &self.search {
            select.recv(search.signal());
        }
        for flight in &self.flights {
            select.recv(flight.signal());
        }
        // Who is ready is looked for by everybody, each time.
        match until {
            Some(until) => drop(select.ready_deadline(until)),
            None => drop(select.ready()),
        }
        self.parts.shared.nudges().try_recv().ok(); // seen
    }

    fn timer(&self) -> Option<Instant> {
        let handover = match &self.handover {
            Handover::None => None,
            Handover::Draining { until, .. } if self.parts.shared.is_leased() => Some(*until),
            // Messages that were moved elsewhere need not tell when they go.
            Handover::Draining { until, .. } => Some((now() + LOOK).min(*until)),
            Handover::Committing { limit, .. } => Some(*limit),
        };
        let opening = self.opening.as_ref().filter(|opening| !opening.is_asked);
        let committer = self.links.as_ref().and_then(|_| self.parts.committer.timer());
        let timers = [
            if self.is_over { None } else { self.parts.member.timer() },
            committer.filter(|_| self.parts.member.identity().is_some()),
            handover,
            opening.filter(|_| self.links.is_some()).map(|opening| opening.ask_at),
            self.connect_at.filter(|_| self.search.is_none()),
            self.flights.iter().map(Flight::expires).min(),
            self.leaving.as_ref().map(|leaving| leaving.until),
            self.parts.counts.timer(),
        ];
        timers.into_iter().flatten().min()
    }

    // ---- what comes in ----

    fn take_commands(&mut self) {
        loop {
            match self.parts.commands.try_recv() {
                Ok(Command::Commit(waiter)) => self.want_commit(Some(waiter)),
                Ok(Command::Leave(until)) => self.begin_leaving(until),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    // It was dropped on one of klamm's own threads, which could not wait for this one.
                    self.is_orphan = true;
                    self.begin_leaving(now() + ORPHAN);
                    break;
                }
            }
        }
        if self.parts.status.takes_commit_wish() || self.parts.shared.takes_pinned() {
            self.want_commit(None);
        }
    }

    fn want_commit(&mut self, waiter: Option<Waiter>) {
        self.parts.committer.want(waiter, now());
        if self.is_over {
            self.parts.committer.give_up(&Error::closed("group"));
        }
    }

    fn take_answers(&mut self) {
        let mut down = Vec::new();
        for flight in std::mem::take(&mut self.flights) {
            match flight.take() {
                None => self.flights.push(flight),
                Some(answer) => down.push((flight, answer)),
            }
        }
        for (flight, answer) in down {
            match answer {
                Ok(landed) => self.landed(landed),
                Err(_) if self.links.is_none() => {} // it was cut off with the others
                Err(error) => self.failed(&flight, error),
            }
        }
        let overdue = self.flights.iter().any(|flight| flight.expires() <= now());
        if overdue {
            let message = "the coordinator did not answer within request_timeout";
            self.cut_off(Error::new(ErrorKind::TimedOut, message));
        }
        match self.search.as_ref().map(|search| search.signal().try_recv()) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(found)) => {
                self.search = None;
                self.found(found);
            }
            // It is ready for ever, and will never say more.
            Some(Err(TryRecvError::Disconnected)) => {
                self.search = None;
                let message = "the thread that looks for the group's coordinator panicked; see the log";
                self.fail(Error::new(ErrorKind::Internal, message));
            }
        }
    }

    fn found(&mut self, found: Result<Links>) {
        match found {
            Ok(links) => {
                self.note(Level::Debug, &format!("broker {} coordinates", links.broker));
                self.links = Some(links);
                self.parts.member.connected(now());
            }
            Err(_) if self.parts.shared.cluster.closing().is_stopped() => self.connect_at = None,
            // Whether that is the end is the member's to say: an answer that makes no sense may be better the next time.
            Err(error) => self.parts.member.disconnected(error, now()),
        }
    }

    /// A flight came down without an answer: either it alone could not be understood, or the connection is gone.
    fn failed(&mut self, flight: &Flight, error: Error) {
        let is_own = matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unsupported);
        match flight {
            Flight::Member(ticket, _) if is_own => self.parts.member.answered(*ticket, Err(error), now()),
            _ => self.cut_off(error),
        }
    }

    /// The links are of no use any more.
    fn cut_off(&mut self, error: Error) {
        if self.links.take().is_none() {
            return;
        }
        self.void_flights();
        self.parts.member.disconnected(error, now());
    }

    /// Something could not be sent. Brokers close connections that nobody uses for a while: that is no trouble.
    fn unsent(&mut self, link: Link, error: Error) {
        if !self.links.as_ref().is_some_and(|links| links.was_idle(link)) {
            return self.cut_off(error);
        }
        self.note(Level::Debug, &format!("an idle connection has ended: {error}"));
        self.links = None;
        self.void_flights();
        self.parts.member.idled(error, now());
    }

    fn void_flights(&mut self) {
        self.flights.clear();
        self.parts.committer.interrupted(now());
        if let Some(opening) = &mut self.opening {
            opening.is_asked = false;
        }
    }

    fn landed(&mut self, landed: Landed) {
        match landed {
            Landed::Member(ticket, answer) => {
                self.has_left |= matches!(answer, Answer::Leave { code: 0 });
                self.parts.member.answered(ticket, Ok(answer), now());
            }
            Landed::Commit(identity, codes) => {
                let answered = self.parts.committer.answered(&codes, now());
                let is_well = answered.failed.is_empty() && answered.delayed.is_none();
                for (progress, error) in answered.failed {
                    let partition = progress.name;
                    if let Some(leaving) = &mut self.leaving {
                        leaving.uncommitted.push((partition.clone(), progress.offset));
                    }
                    self.parts.status.commit_failed(Some(error.clone()), now());
                    self.parts.shared.tell(Event::CommitFailed { partition, error });
                }
                if let Some(error) = answered.delayed {
                    self.parts.status.commit_failed(Some(error), now());
                }
                match answered.refused {
                    Some(code) => self.parts.member.refused(&identity, code, now()),
                    None if is_well && self.parts.committer.is_idle() => {
                        self.parts.status.commit_failed(None, now());
                    }
                    None => {}
                }
            }
            Landed::Offsets(identity, fetched) => self.take_offsets(&identity, fetched),
        }
    }

    fn watch_topics(&mut self) {
        let (metadata, refreshes) = {
            let state = self.parts.shared.lock();
            (self.parts.shared.cluster.metadata(), state.refreshes)
        };
        if let Some(counts) = self.parts.counts.look(&metadata, refreshes, now()) {
            self.parts.member.topics(&counts, now());
        }
    }

    // ---- what the member wants ----

    fn act(&mut self) {
        if self.is_over {
            return;
        }
        while let Some(output) = self.parts.member.poll() {
            match output {
                Output::Connect { at } => {
                    self.links = None;
                    self.search = None;
                    self.void_flights();
                    self.connect_at = Some(at);
                }
                Output::Send { ticket, link, request } => self.send(ticket, link, request),
                Output::Revoke => self.revoke(),
                Output::Lost { cause } => self.lose(&cause),
                Output::Assign { generation, partitions } => self.open(generation, partitions),
                Output::Describe(topics) => {
                    let mut state = self.parts.shared.lock();
                    state.watched.clone_from(&topics);
                    let refreshes = state.refreshes;
                    if self
                        .parts
                        .counts
                        .watch(topics, &self.parts.shared.cluster.metadata(), refreshes, now())
                    {
                        self.parts.shared.want_metadata(&mut state);
                    }
                    drop(state);
                    self.watch_topics();
                }
                Output::Trouble(error) => {
                    let error = error.for_group(&self.parts.group);
                    self.parts.status.trouble(Some(error.clone()), now());
                    self.parts.shared.tell(Event::GroupTrouble { error });
                }
                Output::Well => self.parts.status.trouble(None, now()),
                Output::Fail(error) => self.fail(error),
                Output::Left => self.is_over = true,
            }
        }
        self.parts
            .status
            .rebalancing(self.parts.member.is_rebalancing() || self.opening.is_some());
    }

    fn send(&mut self, ticket: Ticket, link: Link, request: Request) {
        let Some(links) = &self.links else {
            return; // the member is told of that
        };
        let deadline = Deadline::after(WRITE, "writing to the coordinator");
        let patience = self.parts.config.rebalance_timeout;
        match requests::send(&self.parts.group, request, patience, links.get(link), &deadline) {
            Ok(sent) => self.flights.push(Flight::Member(ticket, sent)),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.parts.member.answered(ticket, Err(error), now());
            }
            Err(error) => self.unsent(link, error),
        }
    }

    fn connect(&mut self) -> bool {
        let is_due = self.connect_at.is_some_and(|at| at <= now());
        if self.is_over || self.search.is_some() || !is_due {
            return false;
        }
        self.connect_at = None;
        let cluster = &self.parts.shared.cluster;
        // There must be time to come back within the session.
        let patience = cluster
            .config()
            .request_timeout
            .min(self.parts.config.session_timeout / 2);
        match Search::start(cluster, &self.parts.group, patience.max(Duration::from_secs(1))) {
            Ok(search) => self.search = Some(search),
            Err(error) => self.parts.member.disconnected(error, now()),
        }
        true
    }

    fn fail(&mut self, error: Error) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let error = error.for_group(&self.parts.group);
        self.leave_at_once();
        self.lose(&error);
        self.links = None;
        self.search = None;
        self.connect_at = None;
        self.flights.clear();
        self.parts.status.failed(&error);
        self.parts.committer.give_up(&error);
        self.parts.shared.fail_all(error);
    }

    /// The others need not wait for the session of a member that cannot go on. Nobody waits for the answer.
    fn leave_at_once(&self) {
        let (Some(links), Some(identity)) = (&self.links, self.parts.member.identity()) else {
            return;
        };
        if identity.instance_id.is_some() {
            return; // it is expected back
        }
        let leave = Request::Leave {
            member_id: identity.member_id.clone(),
        };
        let deadline = Deadline::after(GOODBYE, "saying goodbye");
        let patience = self.parts.config.rebalance_timeout;
        if let Err(error) = requests::send(&self.parts.group, leave, patience, links.get(Link::Group), &deadline) {
            self.note(Level::Debug, &format!("leaving without a goodbye: {error}"));
        }
    }

    fn tell_validity(&self) {
        let validity = &self.parts.terms.validity;
        validity.set(self.parts.member.valid_until().filter(|_| !self.is_over));
        // Who was refused a moment before is not in any queue any more.
        if validity.holds(now()) && validity.takes_refused() {
            self.parts.shared.offer_all();
        }
    }

    // ---- taking over ----

    fn open(&mut self, generation: i32, partitions: Vec<TopicPartition>) {
        let current: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let before = std::mem::replace(&mut self.before, current.clone());
        self.parts.shared.tell(Event::Rebalanced {
            generation,
            claimed: current.difference(&before).cloned().collect(),
            released: before.difference(&current).cloned().collect(),
            current: current.iter().cloned().collect(),
        });
        self.parts.status.opening_failed(None, now());
        self.opening = (!current.is_empty()).then(|| Opening {
            partitions: current,
            asked: Vec::new(),
            failures: 0,
            ask_at: now(),
            is_asked: false,
        });
    }

    fn ask_offsets(&mut self) -> bool {
        let (Some(links), Some(identity), Some(opening)) =
            (&self.links, self.parts.member.identity(), &mut self.opening)
        else {
            return false;
        };
        if opening.is_asked || opening.ask_at > now() {
            return false;
        }
        // A leader may know of partitions before we do; or lie, and each would cost us a thread.
        let shared = &self.parts.shared;
        let metadata = shared.cluster.metadata();
        let (known, unknown): (Vec<_>, Vec<_>) = opening
            .partitions
            .iter()
            .cloned()
            .partition(|name| may_exist(name, &metadata));
        if let Some(first) = unknown.first() {
            let message = format!(
                "the group has assigned {first}, and {} more partitions, that no broker knows; they are waited for",
                unknown.len() - 1
            );
            let error = Error::new(ErrorKind::UnknownTopic, message).for_group(&self.parts.group);
            if self.parts.status.opening_failed(Some(error.clone()), now()) {
                shared.tell(Event::GroupTrouble { error });
            }
            shared.want_metadata(&mut shared.lock());
        }
        if known.is_empty() {
            opening.failures += 1;
            opening.ask_at = now() + shared.cluster.retry_delay(opening.failures);
            return false;
        }
        opening.is_asked = true;
        opening.asked.clone_from(&known);
        let fetch = |version: i16| offsets::fetch(&self.parts.group, &known, version);
        let deadline = Deadline::after(WRITE, "writing to the coordinator");
        match links.get(Link::Group).send(Ask::at_version(&fetch), &deadline) {
            Ok(pending) => self.flights.push(Flight::Offsets(identity.clone(), pending)),
            Err(error) if error.kind() == ErrorKind::Unsupported => self.fail(error),
            Err(error) => self.unsent(Link::Group, error),
        }
        true
    }

    fn take_offsets(&mut self, identity: &Identity, answer: kafka_protocol::messages::OffsetFetchResponse) {
        if self.parts.member.identity() != Some(identity) {
            return; // of an earlier generation
        }
        let Some(opening) = &mut self.opening else {
            return;
        };
        let asked = std::mem::take(&mut opening.asked);
        opening.is_asked = false;
        let mut refused = None;
        let mut found = BTreeMap::new();
        let mut failed = Vec::new();
        match offsets::fetched(&answer, &asked) {
            Err(code) => refused = Some(code),
            Ok(fetched) => {
                for (partition, result) in fetched {
                    match result {
                        Ok(committed) => drop(found.insert(partition, committed)),
                        Err(code) if is_of_topic(code) => failed.push((partition, code)),
                        Err(code) => refused = Some(code),
                    }
                }
            }
        }
        for partition in found.keys().chain(failed.iter().map(|(partition, _)| partition)) {
            opening.partitions.remove(partition);
        }
        if opening.partitions.is_empty() {
            self.opening = None;
        } else {
            opening.failures += 1;
            opening.ask_at = now() + self.parts.shared.cluster.retry_delay(opening.failures);
        }
        self.claim(found);
        for (partition, code) in failed {
            let error = Error::refused(code).in_api("OffsetFetch");
            self.parts.shared.claim_failed(partition, error, &self.parts.terms);
            self.start_fetchers();
        }
        if let Some(code) = refused {
            let error = Error::refused(code).in_api("OffsetFetch");
            // Of the membership, or of a broker that has stumbled.
            if action(&error) == Action::Fail && !matches!(code, 22 | 25 | 27 | 82 | -1) {
                return self.fail(error);
            }
            // Not knowing is no reason to begin anywhere: it is asked again (semantics: no commit and cannot-tell).
            if self.parts.status.opening_failed(Some(error.clone()), now()) {
                self.parts.shared.tell(Event::GroupTrouble { error });
            }
            self.parts.member.refused(identity, code, now());
        } else if self.opening.is_none() {
            self.parts.status.opening_failed(None, now());
        }
    }

    fn claim(&self, found: BTreeMap<TopicPartition, Option<Committed>>) {
        let shared = &self.parts.shared;
        let metadata = shared.cluster.metadata();
        let mut is_complete = true;
        let claims = found.into_iter().map(|(name, committed)| {
            let topic = metadata.topic(name.topic());
            let leader = topic.and_then(|topic| topic.partition(name.partition()));
            let leader = leader.filter(|partition| partition.leader >= 0);
            is_complete &= leader.is_some();
            let from = match committed {
                Some(Committed { offset, epoch }) => ClaimFrom::Committed { offset, epoch },
                // Whatever was added since this member is there is read from its first record: nothing is missed.
                None if self.parts.counts.is_later(&name, &metadata) => ClaimFrom::Start(StartAt::Earliest),
                None => ClaimFrom::Start(shared.config.start_at),
            };
            if let (None, ClaimFrom::Start(start)) = (committed, from) {
                self.note(
                    Level::Info,
                    &format!("nothing is committed for {name}: starting at {start:?}"),
                );
            }
            Claim {
                topic_id: topic.map(|topic| topic.id).unwrap_or_default(),
                leader: leader.map(|partition| (partition.leader, partition.leader_epoch)),
                name,
                from,
            }
        });
        let claims: Vec<Claim> = claims.collect();
        if claims.is_empty() {
            return;
        }
        shared.claim(claims, &self.parts.terms);
        self.start_fetchers();
        if !is_complete {
            shared.want_metadata(&mut shared.lock());
        }
    }

    /// A line for the log, which the keeper writes: a logger is the program's code, and may take its time.
    fn note(&self, level: Level, line: &str) {
        let line = format!("group {}: {line}", self.parts.group);
        self.parts.shared.events.note(level, line);
        self.parts.shared.wake_keeper();
    }

    fn start_fetchers(&self) {
        let shared = &self.parts.shared;
        if let Err(error) = keeper::start_fetchers(shared) {
            self.note(Level::Warn, &format!("{error}")); // the keeper tries again
            shared.want_metadata(&mut shared.lock());
        }
    }

    // ---- giving up ----

    fn revoke(&mut self) {
        self.parts.shared.tell(Event::RebalanceStarted);
        self.opening = None;
        self.parts.shared.drain();
        let (now, config) = (now(), &self.parts.config);
        let end = self.parts.member.rebalanced_by();
        let (until, limit) = config.hand_over_by(now, end.unwrap_or(now + config.rebalance_timeout));
        self.handover = Handover::Draining { until, limit };
    }

    fn hand_over(&mut self) -> bool {
        match std::mem::replace(&mut self.handover, Handover::None) {
            Handover::None => false,
            Handover::Draining { until, limit } => {
                if until > now() && !self.parts.shared.is_let_go() {
                    self.handover = Handover::Draining { until, limit };
                    return false;
                }
                let given_up = self.parts.shared.give_up();
                self.parts
                    .committer
                    .queue(given_up.iter().filter_map(|one| one.progress.clone()));
                self.handover = Handover::Committing { limit, given_up };
                true
            }
            Handover::Committing { limit, given_up } => {
                if limit > now() && !self.parts.committer.is_idle() {
                    self.handover = Handover::Committing { limit, given_up };
                    return false;
                }
                let message = "there was no time left to commit before the group goes on";
                self.drop_commits(&Error::new(ErrorKind::TimedOut, message));
                for one in given_up {
                    let partition = one.name;
                    self.parts.shared.tell(match one.unfinished.filter(|_| one.is_in_hand) {
                        Some(oldest) => Event::Abandoned { partition, oldest },
                        None => Event::Revoked { partition },
                    });
                }
                self.parts.member.released(now());
                true
            }
        }
    }

    fn lose(&mut self, cause: &Error) {
        self.parts.terms.validity.set(None);
        self.opening = None;
        let mut names: BTreeSet<TopicPartition> = self.parts.shared.give_up().into_iter().map(|one| one.name).collect();
        if let Handover::Committing { given_up, .. } = std::mem::replace(&mut self.handover, Handover::None) {
            names.extend(given_up.into_iter().map(|one| one.name));
        }
        self.drop_commits(cause);
        self.parts.status.commit_failed(None, now());
        for partition in names {
            let error = cause.clone().for_partition(partition.topic(), partition.partition());
            self.parts.shared.tell(Event::Lost { partition, error });
        }
    }

    fn drop_commits(&mut self, cause: &Error) {
        for progress in self.parts.committer.give_up(cause) {
            let name = progress.name;
            if let Some(leaving) = &mut self.leaving {
                leaving.uncommitted.push((name.clone(), progress.offset));
            }
            let error = cause.clone().for_partition(name.topic(), name.partition());
            self.parts.shared.tell(Event::CommitFailed { partition: name, error });
        }
    }

    // ---- committing ----

    fn commit(&mut self) -> bool {
        let (Some(links), Some(identity)) = (&self.links, self.parts.member.identity()) else {
            return self.commit_nothing();
        };
        let shared = Arc::clone(&self.parts.shared);
        // Others may have gone on: what they commit must not be overwritten.
        let is_valid = self.parts.member.valid_until().is_some_and(|until| until > now());
        if !is_valid && (self.parts.committer.has_some() || !shared.progress().is_empty()) {
            return false;
        }
        for slot in shared.take_anew() {
            self.parts.committer.forget(slot);
        }
        let was_idle = self.parts.committer.is_idle();
        let Some(progress) = self.parts.committer.next(now(), || shared.progress()) else {
            return !was_idle && self.parts.committer.is_idle();
        };
        let request = offsets::commit(&self.parts.group, identity, &progress);
        let deadline = Deadline::after(WRITE, "writing to the coordinator");
        match links.get(Link::Group).send(&request, &deadline) {
            Ok(pending) => {
                self.flights.push(Flight::Commit(identity.clone(), pending));
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => self.fail(error),
            Err(error) => self.unsent(Link::Group, error),
        }
        // What the member makes of it is to be done before anything is waited for.
        true
    }

    /// Whoever waits for a commit of a member that owns nothing need not wait.
    fn commit_nothing(&mut self) -> bool {
        if self.parts.member.identity().is_none() && !self.parts.committer.is_idle() {
            self.drop_commits(&Error::new(
                ErrorKind::Closed,
                "the group has taken this partition away",
            ));
            return true;
        }
        false
    }

    // ---- leaving ----

    fn begin_leaving(&mut self, until: Instant) {
        if self.leaving.is_some() {
            return;
        }
        let given_up = self.parts.shared.give_up();
        self.parts
            .committer
            .queue(given_up.iter().filter_map(|one| one.progress.clone()));
        let unfinished = given_up.into_iter().filter_map(|one| Some((one.name, one.unfinished?)));
        self.opening = None;
        self.handover = Handover::None;
        self.leaving = Some(Leaving {
            until,
            relinks: false,
            unfinished: unfinished.collect(),
            uncommitted: Vec::new(),
            said: false,
        });
    }

    fn say_goodbye(&mut self) -> bool {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.said) else {
            return false;
        };
        let hopeless = self.is_over || self.parts.shared.cluster.closing().is_stopped() && self.links.is_none();
        if !hopeless && leaving.until > now() {
            if !self.parts.committer.is_idle() {
                return false;
            }
            let links = self.links.as_ref();
            if links.is_some_and(|links| links.was_idle(Link::Group)) {
                // There is nobody to say goodbye to until there is another one.
                leaving.until = leaving.until.min(now() + GOODBYE);
                leaving.relinks = true;
                self.unsent(Link::Group, Error::closed("idle connection"));
                return true;
            }
            if leaving.relinks && links.is_none() {
                return false;
            }
        }
        leaving.said = true;
        leaving.until = leaving.until.min(now() + GOODBYE);
        self.parts.member.leave(now());
        true
    }

    fn is_done(&self) -> bool {
        let Some(leaving) = self.leaving.as_ref().filter(|leaving| leaving.said) else {
            return false;
        };
        if !self.is_over && leaving.until > now() {
            return false;
        }
        let mut uncommitted = leaving.uncommitted.clone();
        let under_way = self.parts.committer.uncommitted().into_iter();
        uncommitted.extend(under_way.map(|Progress { name, offset, .. }| (name, offset)));
        self.parts.status.farewell(Farewell {
            unfinished: leaving.unfinished.clone(),
            uncommitted,
            left_group: self.has_left,
        });
        true
    }
}

/// Not when brokers know the topic and not the partition, or nothing of the topic at all.
fn may_exist(name: &TopicPartition, metadata: &Metadata) -> bool {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let topic = metadata.topic(name.topic());
    topic.is_some_and(|topic| match topic.error {
        0 => topic.partition(name.partition()).is_some(),
        code => code != UNKNOWN_TOPIC_OR_PARTITION, // perhaps we may not describe it
    })
}

/// Whether a refused OffsetFetch is a matter of one topic: the others are read.
fn is_of_topic(code: i16) -> bool {
    const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    code == TOPIC_AUTHORIZATION_FAILED
}

/// An answer that came.
enum Landed {
    Member(Ticket, Answer),
    Commit(Identity, BTreeMap<TopicPartition, i16>),
    Offsets(Identity, kafka_protocol::messages::OffsetFetchResponse),
}

impl Flight {
    fn signal(&self) -> &Receiver<Result<bytes::Bytes>> {
        match self {
            Self::Member(_, Sent::Join(pending)) => pending.signal(),
            Self::Member(_, Sent::Sync(pending)) => pending.signal(),
            Self::Member(_, Sent::Heartbeat(pending)) => pending.signal(),
            Self::Member(_, Sent::Leave(pending)) => pending.signal(),
            Self::Commit(_, pending) => pending.signal(),
            Self::Offsets(_, pending) => pending.signal(),
        }
    }

    fn expires(&self) -> Instant {
        match self {
            Self::Member(_, Sent::Join(pending)) => pending.expires(),
            Self::Member(_, Sent::Sync(pending)) => pending.expires(),
            Self::Member(_, Sent::Heartbeat(pending)) => pending.expires(),
            Self::Member(_, Sent::Leave(pending)) => pending.expires(),
            Self::Commit(_, pending) => pending.expires(),
            Self::Offsets(_, pending) => pending.expires(),
        }
    }

    fn take(&self) -> Option<Result<Landed>> {
        Some(match self {
            Self::Member(ticket, sent) => {
                let answer = match sent {
                    Sent::Join(pending) => pending.try_take()?.map(requests::joined),
                    Sent::Sync(pending) => pending.try_take()?.map(|answer| requests::synced(&answer)),
                    Sent::Heartbeat(pending) => pending.try_take()?.map(|answer| requests::heard(&answer)),
                    Sent::Leave(pending) => pending.try_take()?.map(|answer| requests::left(&answer)),
                };
                answer.map(|answer| Landed::Member(*ticket, answer))
            }
            Self::Commit(identity, pending) => pending
                .try_take()?
                .map(|answer| Landed::Commit(identity.clone(), offsets::committed(&answer))),
            Self::Offsets(identity, pending) => pending
                .try_take()?
                .map(|answer| Landed::Offsets(identity.clone(), answer)),
        })
    }
}
