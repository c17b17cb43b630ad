//! The thread of one group member: drives membership, handover and commits with a real connection and a real clock.
//!
//! It never runs the program's code, and never waits for it without a deadline: heartbeats go on whatever the program does.

mod committing;
mod flight;
mod giving_up;
mod leaving;
mod taking_over;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Select, TryRecvError};
use log::Level;

use super::{
    committer::{Committer, Waiter},
    config::GroupConfig,
    handle::{Command, Status},
    links::{Links, Search},
    member::{Answer, Link, Member, Output, Request, Ticket},
    requests,
    topics::TopicCounts,
};
use crate::{
    consumer::{buffer::Shared, event::Event, ownership::Terms},
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    offset::TopicPartition,
    thread::Worker,
};
use flight::{Flight, Landed};
use giving_up::Handover;
use leaving::Leaving;
use taking_over::Opening;

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
    /// Since when the client is closed, and with it everything that was made with it.
    client_closed: Option<Instant>,
    /// Nothing helps any more; only a goodbye is awaited.
    is_over: bool,
    has_left: bool,
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
        client_closed: None,
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
        self.heed_client();
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
            self.client_closed
                .filter(|_| self.leaving.is_none())
                .map(|_| now() + LOOK),
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
                    let error = error.for_group(&self.parts.group);
                    self.parts.status.commit_failed(Some(error.clone()), now());
                    self.parts.shared.tell(Event::CommitFailed { partition, error });
                }
                if let Some(error) = answered.delayed {
                    let error = error.for_group(&self.parts.group);
                    let is_new = self.parts.status.commit_failed(Some(error.clone()), now());
                    // What concerns the membership is the member's to tell.
                    if is_new && answered.refused.is_none() {
                        self.parts.shared.tell(Event::GroupTrouble { error });
                    }
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
        // Nothing else is asked over it between two joins, and who joins shall not wait for credentials.
        links.get(Link::Join).keep_known();
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
}
