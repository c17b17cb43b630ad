//! The connection thread of fetching: one Fetch at a time to one broker, for all partitions that have room.
//!
//! It writes a Fetch, parses the answer as it reads it, writes the next Fetch, and only then hands the records to the
//! fetchers, which check and decode in parallel.

use std::{
    io::{self, BufReader, IoSlice, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kafka_protocol::{messages::FetchRequest, protocol::Request};
use parking_lot::Condvar;

use super::{
    buffer::{Shared, Slot, State},
    event::Event,
    fetch_plan::{Asked, Idle, Landed, Plan},
    fetch_session::{Session, TOPIC_IDS},
    fetcher,
    partition::Ends,
};
use crate::{
    cluster::LeaderHint,
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    net::{
        authentication::Carrier,
        connection::UNKNOWN_TO_IT,
        handshake::{self, Opened},
        reauthentication::{self, OwnSession},
        transport::{Hangup, Reader, Writer, is_timeout},
    },
    thread::Worker,
    wire::{
        api,
        batch::{Decoder, RawBatch, Walk},
        fetch, frame, request,
        versions::Versions,
    },
};

/// Of the two lanes that a stream may have to one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Fetches within a session, for everything, and may wait in the broker.
    Session,
    /// Fetches what has become ready while the other one waits in the broker: after a seek, for example.
    Express,
}

/// A Fetch that has not been answered for this long waits for new records.
pub(crate) const PARKED: Duration = Duration::from_millis(20);
/// A lane without any work ends after this time.
const UNUSED: Duration = Duration::from_secs(10);
/// How much longer than it may wait a broker has for its answer, and for each pause within it.
const GRACE: Duration = Duration::from_secs(10);
/// A connection that ends after this time without an answer was idle, for all that the broker knows.
const SILENT: Duration = Duration::from_millis(500);
/// So often a connection may end while a Fetch waits until that is told.
const REDIALS: u32 = 20;
/// So many partitions that were not asked for are passed over before the whole answer is a lie.
const STRANGERS: usize = 100;
/// So often an answer for one partition may be too large until that partition fails.
pub(super) const OVERSIZED: usize = 4;
/// So many answers in a row may bring nothing at once; no honest broker gives two.
const FRUITLESS: u32 = 3;
/// Session not found, session out of step, session with other topic IDs: normal, since brokers keep only so many.
const SESSION_ERRORS: [i16; 3] = [70, 71, 106];
/// An answer that comes more slowly than this, in bytes a second, does not come.
const SLOWEST: usize = 512;
/// A broker that wants a longer pause is asked again after this one, and says so again.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);
/// Enough for the small fields between records; these go around it.
const READ_AHEAD: usize = 16 << 10;
/// One batch may be longer than all that was asked for; no longer than this, its buffer is made at once.
const BELIEVED: usize = 1 << 20;
/// An answer with no more than so many bytes of records is the end of a wait, and not a part of a long read.
const FEW: usize = 64 << 10;

/// What others know of a lane.
#[derive(Default)]
pub(crate) struct LaneEntry {
    pub wake: Arc<Condvar>,
    pub hangup: Option<Hangup>,
    /// Since when its Fetch is under way.
    pub asked_since: Option<Instant>,
    /// When the first Fetch left of those that have brought nothing, in a row.
    pub quiet_since: Option<Instant>,
    /// When that should be answered at the latest.
    pub back_at: Option<Instant>,
    /// When others are asked whether this broker still leads, while it is silent.
    pub ask_about_at: Option<Instant>,
    /// How long the broker was last asked to wait, while partitions are left out.
    pub patience: Duration,
    /// Until when nothing is asked, since a partition that is left out is likely to want in.
    pub stays_until: Option<Instant>,
    pub worker: Option<Worker>,
    /// So many Fetches ask for one partition only: an answer was too large, and it is to be found out whose fault that is.
    pub alone: usize,
}

struct Lane {
    shared: Arc<Shared>,
    broker: i32,
    role: Role,
    wake: Arc<Condvar>,
    session: Session,
    link: Option<Link>,
    /// Connections that failed in a row.
    failures: u32,
    /// Answers in a row that refused the Fetch as a whole.
    refusals: u32,
    /// Answers in a row that brought nothing, and did not wait for anything either.
    fruitless: u32,
    /// For a few records; made when there are some.
    decoder: Option<Decoder>,
}

struct Link {
    reader: BufReader<Timed>,
    writer: Writer,
    versions: Arc<Versions>,
    version: i16,
    session: OwnSession,
    /// The broker asks who we are, and we say it.
    is_known: bool,
    correlation_id: i32,
    /// Whether anything was ever answered on it.
    proven: bool,
    /// An answer has begun to arrive: what ends it is no idle close.
    answering: bool,
    /// So many bytes of the last answer are still to be read.
    tail: usize,
    peer: Arc<str>,
}

/// A planned Fetch, and whether it is on its way already.
struct Flight {
    plan: Plan,
    is_written: bool,
}

impl Flight {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            is_written: false,
        }
    }
}

/// What one exchange came to, beside what landed.
struct Answered {
    error: i16,
    session_id: i32,
    throttle: Duration,
    /// How long the broker took to begin its answer.
    took: Duration,
    landed: Vec<Landed>,
}

/// Starts a lane. The caller holds the buffer's lock and enters it there.
pub(crate) fn start(shared: Arc<Shared>, broker: i32, role: Role) -> Result<LaneEntry> {
    let wake = Arc::new(Condvar::new());
    let session = match role {
        Role::Session => Session::new(),
        Role::Express => Session::none(),
    };
    let lane = Lane {
        shared,
        broker,
        role,
        wake: Arc::clone(&wake),
        session,
        link: None,
        failures: 0,
        refusals: 0,
        fruitless: 0,
        decoder: None,
    };
    let worker = Worker::start(format!("klamm-lane-{broker}"), move || lane.run())?;
    Ok(LaneEntry {
        wake,
        worker: Some(worker),
        ..LaneEntry::default()
    })
}

impl Lane {
    fn run(mut self) {
        let _alarm = self.shared.alarm();
        let mut flight = None;
        while let Some(mut now) = flight.take().or_else(|| self.wait_for_work().map(Flight::new)) {
            let answered = self.exchange(&now).and_then(|answered| self.accept(answered));
            flight = match answered {
                Ok(answered) => self.carry_on(&mut now.plan, answered),
                Err(error) => {
                    self.give_up(&mut now.plan, error);
                    None
                }
            };
        }
    }

    /// Under the same lock as the decision, so that whoever wants a lane next starts another one.
    fn retire(&self, state: &mut State) {
        if let Some(entry) = state.lanes.remove(&(self.broker, self.role)) {
            state.ending.extend(entry.worker);
        }
        self.shared.wake_keeper();
    }

    /// None ends the lane.
    #[allow(clippy::disallowed_methods, reason = "a lane waits here")]
    fn wait_for_work(&self) -> Option<Plan> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let unused_from = Instant::now();
        loop {
            if state.is_ended() {
                self.retire(&mut state);
                return None;
            }
            let now = Instant::now();
            match shared.plan(&mut state, self.broker, self.role, now) {
                Ok(plan) => return Some(plan),
                Err(Idle { until, is_unused }) => {
                    let end = unused_from + UNUSED;
                    if now >= end && (is_unused || self.role == Role::Express) {
                        self.retire(&mut state);
                        return None;
                    }
                    let latest = if is_unused || self.role == Role::Express {
                        end
                    } else {
                        now + GRACE
                    };
                    self.wake
                        .wait_until(&mut state, until.map_or(latest, |until| until.min(latest)));
                }
            }
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a connection that was silent for long counts as idle"
    )]
    fn exchange(&mut self, flight: &Flight) -> Result<Answered> {
        let mut is_written = flight.is_written && self.link.is_some();
        let mut tries = 0;
        loop {
            let was_proven = self.link.as_ref().is_some_and(|link| link.proven);
            let begun = Instant::now();
            let sent = if is_written { Ok(()) } else { self.send(&flight.plan) };
            match sent.and_then(|()| self.receive(&flight.plan)) {
                // A broker closes idle connections, which is normal, and does not care that a Fetch waits: dial again.
                Err(error)
                    if error.kind() == ErrorKind::Io
                        && !self.link.as_ref().is_some_and(|link| link.answering)
                        && tries < REDIALS
                        && (was_proven || begun.elapsed() >= SILENT) =>
                {
                    log::debug!("fetching anew from broker {}: {error}", self.broker);
                    self.link = None;
                    is_written = false;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn send(&mut self, plan: &Plan) -> Result<()> {
        if self.link.is_none() {
            self.link = Some(self.connect()?);
            self.session.start_over();
        }
        let Self {
            shared,
            session,
            link: Some(link),
            broker,
            ..
        } = self
        else {
            return Err(Error::closed("connection"));
        };
        if let Err(error) = link.stay_known(shared) {
            let error = error.at_broker(&link.peer);
            // Anything else is told where it is given up.
            if error.kind() == ErrorKind::Io {
                shared.tell(Event::Disconnected {
                    broker: *broker,
                    error: error.clone(),
                });
            }
            return Err(error);
        }
        if link.version >= TOPIC_IDS && plan.wants.iter().any(|want| want.topic_id.is_nil()) {
            // In the middle of an upgrade, metadata may come from a broker that knows no topic IDs yet.
            link.version = TOPIC_IDS - 1;
            session.start_over();
        }
        #[allow(clippy::cast_possible_truncation, reason = "max_wait is at most an hour")]
        let max_wait_ms = (plan.max_wait.as_millis() as i32).max(1);
        let mut request = session.request(&plan.wants, &shared.config, max_wait_ms, link.version);
        request.max_bytes = i32::try_from(plan.max_bytes).unwrap_or(i32::MAX);
        let written = link.write(&request, &shared.cluster.net_config().client_id);
        written.map_err(|error| error.in_api("Fetch").at_broker(&link.peer))
    }

    fn receive(&mut self, plan: &Plan) -> Result<Answered> {
        let Self {
            shared,
            session,
            link: Some(link),
            ..
        } = self
        else {
            return Err(Error::closed("connection"));
        };
        link.read(plan, session, shared)
            .map_err(|error| error.in_api("Fetch").at_broker(&link.peer))
    }

    fn connect(&self) -> Result<Link> {
        let cluster = &self.shared.cluster;
        let Some(address) = cluster.broker_address(self.broker) else {
            return Err(Error::new(
                ErrorKind::Unreachable,
                format!("broker {} is not in the metadata", self.broker),
            ));
        };
        let config = cluster.net_config();
        let deadline = Deadline::after(config.connect_timeout, "connect_timeout").with_stop(&self.shared.stop);
        let opened = handshake::open(&address, config, &deadline)?;
        let version = opened.versions.pick::<FetchRequest>()?;
        {
            let mut state = self.shared.lock();
            if state.is_ended() {
                return Err(Error::closed("stream"));
            }
            if let Some(entry) = state.lanes.get_mut(&(self.broker, self.role)) {
                entry.hangup = Some(opened.hangup.clone());
            }
        }
        Ok(Link::new(opened, version))
    }

    /// A session that the broker has lost is begun anew at once; a second refusal in a row, or any other, is a failure.
    fn accept(&mut self, answered: Answered) -> Result<Answered> {
        if answered.error == 0 {
            self.refusals = 0;
            return Ok(answered);
        }
        self.refusals += 1;
        if SESSION_ERRORS.contains(&answered.error) && self.refusals == 1 {
            return Ok(answered);
        }
        let error = Error::refused(answered.error).in_api("Fetch");
        Err(match &self.link {
            Some(link) => error.at_broker(&link.peer),
            None => error,
        })
    }

    /// Takes the answer in, and writes the next Fetch before the fetchers get their records. When these are so few that
    /// somebody waits for them, and not for the broker, they come first, and no fetcher wakes up for them.
    #[allow(clippy::disallowed_methods, reason = "plans are made for now")]
    fn carry_on(&mut self, plan: &mut Plan, answered: Answered) -> Option<Flight> {
        self.failures = 0;
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        if answered.error == 0 {
            self.session.answered(answered.session_id);
        } else {
            log::debug!(
                "broker {}: {}",
                self.broker,
                Error::refused(answered.error).in_api("Fetch")
            );
            self.session.start_over();
        }
        let mut state = shared.lock();
        shared.unbook(&mut state, self.broker, self.role, plan);
        let landing = shared.land(&mut state, self.broker, self.role, plan, answered.landed, now);
        if state.is_ended() {
            return None;
        }
        let is_fruitless = landing.slots.is_empty() && answered.took < plan.max_wait / 2;
        self.fruitless = if is_fruitless { self.fruitless + 1 } else { 0 };
        let pause = match self.fruitless.checked_sub(FRUITLESS) {
            Some(times) if times > 0 => answered.throttle.max(shared.backoff(times)),
            _ => answered.throttle,
        };
        let next = match pause.is_zero() {
            true => shared.plan(&mut state, self.broker, self.role, now).ok(),
            false => None,
        };
        if next.is_none() && self.role == Role::Express {
            // The other lane has these again, and may be asleep.
            for &slot in plan.asked.keys() {
                shared.kick(&mut state, slot);
            }
        }
        drop(state);
        if landing.is_quiet {
            shared.spares.clear();
        }
        let (few, many) = match landing.bytes <= FEW {
            true => (landing.slots, Vec::new()),
            false => (Vec::new(), landing.slots),
        };
        fetcher::decode_few(&shared, &mut self.decoder, few);
        let flight = next.map(|plan| {
            // What goes wrong here goes wrong again, and is dealt with, when the answer is waited for. A session that has to
            // be renewed first would keep waiting who waits for what has landed: that is done there as well.
            let is_written = !self.must_renew() && self.send(&plan).inspect_err(|_| self.link = None).is_ok();
            Flight { plan, is_written }
        });
        shared.wake_fetchers(&many);
        if !pause.is_zero() {
            log::debug!("broker {} is not asked for {pause:?}", self.broker);
            shared.stop.wait(pause);
        }
        flight
    }

    /// Whether sending takes round trips before.
    fn must_renew(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.session.is_pressing())
    }

    #[allow(clippy::disallowed_methods, reason = "trouble is told since when")]
    fn give_up(&mut self, plan: &mut Plan, error: Error) {
        self.link = None;
        self.session.start_over();
        self.failures += 1;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if let Some(entry) = state.lanes.get_mut(&(self.broker, self.role)) {
            entry.hangup = None;
        }
        shared.unbook(&mut state, self.broker, self.role, plan);
        if state.is_ended() {
            return;
        }
        let now = Instant::now();
        let wait = shared.cluster.reconnect_delay(self.failures);
        // An answer that is too large comes again as large: asking for ever would be standing still in silence.
        let is_too_large = error.kind() == ErrorKind::TooLarge;
        let was_alone = plan.asked.len() == 1;
        if let Some(lane) = state.lanes.get_mut(&(self.broker, self.role)).filter(|_| is_too_large) {
            // Of many partitions it cannot be told which one it was: they are asked for one by one for a while.
            lane.alone = lane.alone.max(plan.asked.len() * OVERSIZED);
        }
        // Not those that have moved to another broker meanwhile.
        for &slot in plan.asked.keys() {
            if is_too_large && was_alone && state.is_oversized_again(slot) {
                shared.fail(&mut state, slot, error.clone());
            } else if let Some(partition) = state.partitions.get_mut(&slot) {
                let was_elsewhere = partition.replica.take().is_some();
                partition.met(error.clone(), now, |_| wait);
                if was_elsewhere {
                    // The leader's lane may be asleep.
                    shared.kick(&mut state, slot);
                }
            }
        }
        shared.want_metadata(&mut state);
        if error.is_refusal() || matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Authorization) {
            drop(state);
            shared.fail_all(error);
        } else {
            shared.tell(Event::Disconnected {
                broker: self.broker,
                error,
            });
        }
    }
}

/// The connection, with an end to the time that one answer may take.
struct Timed {
    reader: Reader,
    until: Option<Instant>,
}

impl Read for Timed {
    #[allow(clippy::disallowed_methods, reason = "a lane waits here")]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer came too slowly"));
        }
        self.reader.read(into)
    }
}

impl Link {
    fn new(opened: Opened, version: i16) -> Self {
        let Opened {
            reader,
            writer,
            versions,
            peer,
            session,
            identity,
            ..
        } = opened;
        Self {
            reader: BufReader::with_capacity(READ_AHEAD, Timed { reader, until: None }),
            writer,
            versions,
            version,
            is_known: identity.is_some(),
            session: OwnSession::new(session, identity),
            correlation_id: 0,
            proven: false,
            answering: false,
            tail: 0,
            peer,
        }
    }

    /// Says anew who we are, if that is due. Nothing is on its way now but the last answer's end, and a Fetch that waits in the broker is answered
    /// though the session ends meanwhile.
    fn stay_known(&mut self, shared: &Shared) -> Result<()> {
        if !self.session.ends() {
            return Ok(());
        }
        let net = shared.cluster.net_config();
        let deadline = Deadline::after(net.connect_timeout, "connect_timeout").with_stop(&shared.stop);
        let Some(proof) = self.session.due(&deadline)? else {
            return Ok(());
        };
        self.read_behind_tail(deadline.remaining(), &mut [])?;
        let mut link = Renewed {
            reader: &mut self.reader,
            writer: &mut self.writer,
            correlation_id: &mut self.correlation_id,
            client_id: &net.client_id,
            limit: net.frame_limit,
            deadline: &deadline,
        };
        let granted = self.session.renew(proof, &mut link, &self.versions, &deadline)?;
        reauthentication::tell(&self.peer, granted);
        Ok(())
    }

    fn write(&mut self, asked: &FetchRequest, client_id: &str) -> Result<()> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let mut bytes = BytesMut::with_capacity(256);
        request::encode(asked, self.version, self.correlation_id, client_id, &mut bytes)?;
        let deadline = Deadline::after(GRACE, "the time for writing a Fetch");
        self.writer
            .write_frame(&mut [IoSlice::new(&bytes)], &deadline)
            .map_err(|unfinished| unfinished.error)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "whether a broker waits shows in the time it takes"
    )]
    fn read(&mut self, plan: &Plan, session: &Session, shared: &Shared) -> Result<Answered> {
        let asked = Instant::now();
        let prefix = self.read_prefix(plan.max_wait + GRACE)?;
        let took = asked.elapsed();
        self.answering = true;
        self.wait_at_most(GRACE)?;
        let length = frame::length(prefix, shared.cluster.net_config().frame_limit)?;
        // Slow is not dead; but one byte now and then is.
        let whole = GRACE + Duration::from_secs((length / SLOWEST) as u64);
        self.reader.get_mut().until = Some(Instant::now() + whole);
        let expected = plan.max_bytes.max(BELIEVED);
        let answer = fetch::read_answer(
            &mut self.reader,
            length,
            self.version,
            self.correlation_id,
            expected,
            plan.wants.len() * 2 + STRANGERS,
            |size| shared.spares.take(size),
        )?;
        self.proven = true;
        self.answering = false;
        self.tail = answer.tail;
        self.reader.get_mut().until = None;
        #[allow(clippy::cast_sign_loss, reason = "it was just made positive")]
        let throttle = Duration::from_millis(answer.throttle_ms.max(0) as u64).min(LONGEST_THROTTLE);
        let answered = answer.partitions.len();
        let mut landed = Vec::with_capacity(answered);
        for partition in answer.partitions {
            let slot = session.slot_of(&partition.topic, partition.partition);
            let Some((slot, asked)) = slot.and_then(|slot| Some((slot, *plan.asked.get(&slot)?))) else {
                log::debug!(
                    "broker sent partition {:?}-{} unasked",
                    partition.topic,
                    partition.partition
                );
                continue;
            };
            landed.push(land(slot, asked, partition));
        }
        take_hints(&answer.endpoints, &landed, plan, shared);
        if answered > 0 && landed.is_empty() {
            let message = format!("the broker answered {answered} partitions, and none of those asked for");
            return Err(Error::protocol(message));
        }
        Ok(Answered {
            error: answer.error,
            session_id: answer.session_id,
            throttle,
            took,
            landed,
        })
    }

    /// The first bytes of an answer, by this limit.
    fn read_prefix(&mut self, limit: Duration) -> Result<[u8; 4]> {
        let mut prefix = [0; 4];
        self.read_behind_tail(limit, &mut prefix)?;
        Ok(prefix)
    }

    /// What follows the last bytes of the answer before, for which nobody has waited.
    fn read_behind_tail<const N: usize>(&mut self, limit: Duration, into: &mut [u8; N]) -> Result<()> {
        let mut bytes = [0; fetch::TAIL + 4];
        let tail = std::mem::take(&mut self.tail);
        let bytes = &mut bytes[..tail + N];
        if !bytes.is_empty() {
            self.read_within(limit, bytes)?;
        }
        let (tail, rest) = bytes.split_at(tail);
        into.copy_from_slice(rest);
        fetch::check_tail(tail)
    }

    #[allow(clippy::disallowed_methods, reason = "a lane waits here")]
    fn read_within(&mut self, limit: Duration, into: &mut [u8]) -> Result<()> {
        self.wait_at_most(limit)?;
        // That is only for each time that anything comes, and what comes over TLS may hold nothing of an answer.
        self.reader.get_mut().until = Some(Instant::now() + limit);
        match self.reader.read_exact(into) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let hint = match self.is_known || self.proven {
                    true => "",
                    false => UNKNOWN_TO_IT,
                };
                Err(Error::new(
                    ErrorKind::Io,
                    format!("the broker closed the connection{hint}"),
                ))
            }
            Err(error) if is_timeout(&error) => Err(Error::new(
                ErrorKind::TimedOut,
                format!("the broker did not answer within {limit:?}"),
            )),
            Err(error) => Err(Error::io("waiting for an answer", error)),
        }
    }

    fn wait_at_most(&self, limit: Duration) -> Result<()> {
        let set = self.reader.get_ref().reader.set_read_timeout(Some(limit));
        set.map_err(|error| Error::io("setting a time limit on the connection", error))
    }
}

/// A link whose session is being renewed.
struct Renewed<'a> {
    reader: &'a mut BufReader<Timed>,
    writer: &'a mut Writer,
    correlation_id: &'a mut i32,
    client_id: &'a str,
    limit: usize,
    deadline: &'a Deadline,
}

impl Carrier for Renewed<'_> {
    fn carry<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        let name = api::name(R::KEY);
        let id = self.correlation_id.wrapping_add(1);
        *self.correlation_id = id;
        let frame = request::encode_secret(request, version, id, self.client_id)?;
        let written = self.writer.write_frame(&mut [IoSlice::new(&frame)], self.deadline);
        drop(frame);
        written.map_err(|unfinished| unfinished.error.in_api(name))?;
        let timed = self.reader.get_mut();
        timed.until = Some(self.deadline.at());
        let set = timed.reader.set_read_timeout(Some(self.deadline.remaining()));
        set.map_err(|error| Error::io("setting a time limit on the connection", error))?;
        let answer = frame::read(self.reader, self.limit);
        self.reader.get_mut().until = None;
        let Some(answer) = answer.map_err(|error| error.in_api(name))? else {
            let message = format!("the broker closed the connection instead of answering {name}");
            return Err(Error::new(ErrorKind::Io, message));
        };
        match request::correlation_id(&answer)? {
            answered if answered == id => request::decode::<R>(version, answer),
            answered => Err(Error::protocol(format!(
                "an answer to request {answered} came where request {id} was asked"
            ))),
        }
    }
}

/// The answer may say who leads instead, and where that broker is (KIP-951): all who ask the cluster learn of it.
fn take_hints(endpoints: &[fetch::Endpoint], landed: &[Landed], plan: &Plan, shared: &Shared) {
    let hints = landed.iter().filter_map(|landed| {
        let hint = landed.leader.filter(|_| landed.error != 0)?;
        let want = plan.wants.iter().find(|want| want.slot == landed.slot)?;
        Some(LeaderHint {
            topic: &want.topic,
            partition: want.partition,
            leader: hint.leader,
            leader_epoch: hint.epoch,
        })
    });
    let hints: Vec<_> = hints.collect();
    if !endpoints.is_empty() || !hints.is_empty() {
        let endpoints = endpoints.iter();
        let endpoints = endpoints.map(|at| (at.broker, at.host.as_str(), at.port, at.rack.as_deref()));
        shared.cluster.apply_leader_hints(endpoints, hints);
    }
}

/// Walks the headers of what came for one partition: where it ends is where the next Fetch begins.
fn land(slot: Slot, asked: Asked, answer: fetch::PartitionAnswer) -> Landed {
    let behind = |batch: RawBatch| (batch.next_offset, batch.leader_epoch);
    let mut records = answer.records;
    let mut problem = None;
    let (mut before, mut last): (Option<RawBatch>, Option<RawBatch>) = (None, None);
    // A header that cannot be ends the walk. Its fetcher meets it again, with everything needed to complain.
    let mut is_broken = false;
    let (mut count, mut compressed, mut longest) = (0, 0, 0);
    for batch in Walk::new(&records) {
        match (batch, last) {
            (Ok(batch), Some(wrong)) if batch.base_offset < wrong.next_offset => {
                // Which of the two lies cannot be told: both are left out.
                problem = Some((OUT_OF_ORDER, wrong.start));
                last = before;
                break;
            }
            (Ok(batch), _) => {
                (before, last) = (last, Some(batch));
                count += batch.claimed_records();
                longest = longest.max(batch.end - batch.start);
                if batch.is_compressed() {
                    compressed += batch.end - batch.start;
                }
            }
            (Err(_), _) => is_broken = true,
        }
    }
    if last.is_none() && problem.is_none() && !is_broken && !records.is_empty() {
        // Brokers cut a batch only behind a whole one (KIP-74), so asking again brings the same.
        problem = Some((NO_WHOLE_BATCH, 0));
    }
    if problem.is_none() && !is_broken && last.is_some_and(|last| last.next_offset <= asked.offset) {
        // It would be asked for the same again, at once and for ever.
        problem = Some((ALL_BEFORE, 0));
        last = None;
    }
    if let Some((_, end)) = problem {
        records.truncate(end);
    }
    let next = last.map_or((asked.offset, -1), behind);
    Landed {
        slot,
        error: answer.error,
        ends: Ends {
            high_watermark: answer.high_watermark,
            last_stable: answer.last_stable_offset,
        },
        leader: answer.leader,
        preferred: answer.preferred_read_replica,
        from: asked.offset,
        records,
        count,
        compressed,
        longest,
        aborted: answer.aborted,
        next,
        problem: problem.map(|(problem, _)| problem),
        is_suspect: is_broken || problem.is_some(),
    }
}

const ALL_BEFORE: &str = "all of them lie before the offset that was asked for";
const OUT_OF_ORDER: &str = "their batches are not in the order of their offsets";
const NO_WHOLE_BATCH: &str = "their first batch is longer than the answer that holds it";

#[cfg(all(test, feature = "tls"))]
mod tests {
    use std::{
        io::Write,
        sync::atomic::{AtomicBool, Ordering},
    };

    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::net::{
        scripted::{Broker, Duplex},
        tls::{
            TlsVersion,
            tests::{Authority, Clients, long, over_tls, server, with},
        },
    };

    /// One byte now and then, once it is told to.
    struct Trickle {
        stream: Box<dyn Duplex>,
        is_slow: Arc<AtomicBool>,
        end: Receiver<()>,
    }

    impl Read for Trickle {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.stream.read(into)
        }
    }

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_slow.load(Ordering::Relaxed) {
                return self.stream.write(bytes);
            }
            match self.end.recv_timeout(Duration::from_millis(2)) {
                Err(error) if error.is_timeout() => self.stream.write(&bytes[..1]),
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            self.stream.flush()
        }
    }

    #[test]
    fn what_holds_nothing_of_an_answer_does_not_prolong_the_wait_for_it() {
        let authority = Authority::new();
        let config = server(&authority.issue(&["127.0.0.1"]), &Clients::Anybody, TlsVersion::Tls13);
        let (done, end) = bounded::<()>(0);
        let broker = Broker::start(move |peer| {
            let is_slow = Arc::new(AtomicBool::new(false));
            let trickle = |stream| Trickle {
                stream,
                is_slow: Arc::clone(&is_slow),
                end: end.clone(),
            };
            let mut peer = over_tls(peer.over(trickle), Arc::clone(&config));
            peer.introduce();
            is_slow.store(true, Ordering::Relaxed);
            // Nothing of a record can be read before the whole of it is there.
            peer.send(&[0; 16_000]);
            peer.wait_for_end();
        });
        let opened = handshake::open(&broker.address, &with(&authority.trusted()), &long()).unwrap();
        let done = done; // whatever fails, the broker ends before it is joined
        let mut link = Link::new(opened, TOPIC_IDS);
        let error = link.read_prefix(Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not answer within 50ms"), "{error}");
        drop(done);
    }
}
