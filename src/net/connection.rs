//! A connection that many threads call over: callers write, one thread reads and hands out the answers.
//!
//! A broker handles one request at a time per connection, so several calls in flight save round trips, and nothing
//! that may wait within the broker belongs on a connection that others use.

use std::{
    fmt,
    io::{BufReader, IoSlice},
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::protocol::Request;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    bell::Bell,
    deadline::{Deadline, FOR_EVER, Waited},
    error::{Error, ErrorKind, Result},
    net::{
        Address, NetConfig,
        handshake::{self, Opened},
        in_flight::InFlight,
        reauthentication::{self, Door, Renewals},
        session::Turn,
        transport::{Hangup, Reader, Unfinished},
    },
    stop::Stop,
    thread::Worker,
    wire::{
        api,
        frame::{self, Pieces},
        request,
        versions::Versions,
    },
};

/// A request as a call takes it: fixed, or made once the version is known, for those whose fields differ.
pub(crate) struct Ask<'a, R> {
    make: Make<'a, R>,
    /// How long the broker may work on it, on top of what any request may take.
    may_take: Duration,
}

enum Make<'a, R> {
    Fixed(&'a R),
    At(&'a dyn Fn(i16) -> R),
}

impl<'a, R: Request> Ask<'a, R> {
    /// Made for the version that will be spoken.
    pub(crate) fn at_version(make: &'a dyn Fn(i16) -> R) -> Self {
        Self {
            make: Make::At(make),
            may_take: Duration::ZERO,
        }
    }

    /// For requests with a time-out of their own on the broker's side.
    #[must_use]
    pub(crate) fn may_take(mut self, time: Duration) -> Self {
        self.may_take = time;
        self
    }

    fn encode(&self, version: i16, id: i32, client_id: &str) -> Result<BytesMut> {
        let mut bytes = BytesMut::new();
        match &self.make {
            Make::Fixed(request) => request::encode(*request, version, id, client_id, &mut bytes),
            Make::At(make) => request::encode(&make(version), version, id, client_id, &mut bytes),
        }?;
        Ok(bytes)
    }
}

impl<'a, R: Request> From<&'a R> for Ask<'a, R> {
    fn from(request: &'a R) -> Self {
        Self {
            make: Make::Fixed(request),
            may_take: Duration::ZERO,
        }
    }
}

impl<R> Clone for Ask<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ask<'_, R> {}

impl<R> Clone for Make<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Make<'_, R> {}

impl<R: Request> fmt::Debug for Ask<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({})", api::name(R::KEY))
    }
}

/// A live or dead connection to one broker. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// Taken by whoever joins it.
    reader: Mutex<Option<Worker>>,
}

pub(super) struct Shared {
    pub(super) peer: Arc<str>,
    pub(super) versions: Arc<Versions>,
    client_id: String,
    request_timeout: Duration,
    hangup: Hangup,
    /// Held from a frame's first to its last byte, never by the thread that reads. Never held together with `calls`.
    pub(super) door: Mutex<Door>,
    /// None where the broker does not ask who we are.
    pub(super) renewals: Option<Renewals>,
    /// Raised when it has ended.
    pub(super) ended: Stop,
    /// Whether anything was ever answered.
    is_proven: AtomicBool,
    /// Held for a few lines, never across I/O.
    calls: Mutex<Calls>,
    /// Rung with each answer, and at the end.
    bell: Option<Arc<Bell>>,
}

struct Calls {
    in_flight: InFlight<Sender<Result<Bytes>>>,
    /// When something was last asked or answered.
    last_used: Instant,
    /// When it ended.
    died: Option<Instant>,
    /// It ended with nothing in flight, as an idle connection does.
    was_idle: bool,
}

/// A request on its way, whose answer may be waited for now or later.
pub(crate) struct Pending<R> {
    shared: Arc<Shared>,
    answer: Receiver<Result<Bytes>>,
    version: i16,
    /// When the broker has had its time.
    expires: Instant,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    pub(crate) fn open(address: &Address, config: &NetConfig, deadline: &Deadline) -> Result<Self> {
        Self::start(handshake::open(address, config, deadline)?, config, None)
    }

    /// The same for one who waits for answers and for other things as well: whenever there is an answer to take, and when
    /// the connection has ended, this bell is rung.
    pub(crate) fn open_with(
        bell: &Arc<Bell>,
        address: &Address,
        config: &NetConfig,
        deadline: &Deadline,
    ) -> Result<Self> {
        let opened = handshake::open(address, config, deadline)?;
        Self::start(opened, config, Some(Arc::clone(bell)))
    }

    fn start(opened: Opened, config: &NetConfig, bell: Option<Arc<Bell>>) -> Result<Self> {
        let Opened {
            reader,
            writer,
            hangup,
            versions,
            peer,
            session,
            identity,
        } = opened;
        let shared = Arc::new(Shared {
            peer,
            versions,
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            hangup,
            door: Mutex::new(Door {
                writer,
                session,
                renewal: None,
            }),
            renewals: identity.map(|identity| Renewals::new(identity, config)),
            ended: Stop::new("connection"),
            is_proven: AtomicBool::new(false),
            calls: Mutex::new(Calls {
                in_flight: InFlight::new(),
                last_used: now(),
                died: None,
                was_idle: false,
            }),
            bell,
        });
        let number = COUNT.fetch_add(1, Ordering::Relaxed) % 100_000;
        let worker = Worker::start(format!("klamm-read-{number}"), {
            let (shared, limit) = (Arc::clone(&shared), config.frame_limit);
            move || shared.read_answers(reader, limit)
        })?;
        Ok(Self {
            shared,
            reader: Mutex::new(Some(worker)),
        })
    }

    /// Sends a request and waits for its answer.
    #[cfg(test)]
    pub(crate) fn call<'a, R: Request + 'a>(
        &self,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<R::Response> {
        self.send(ask, deadline)?.wait(deadline)
    }

    /// Sends a request, and returns when it is written.
    ///
    /// # Errors
    ///
    /// The broker does not have the request and never will: not all of it was written, and once some of it was, nobody
    /// writes to this connection any more, which is ended. What happens after the last byte is no error here, but one of
    /// [`Pending::wait`].
    pub(crate) fn send<'a, R: Request + 'a>(
        &self,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<Pending<R>> {
        let ask = ask.into();
        let encode = |version, id, client_id: &str| ask.encode(version, id, client_id);
        self.send_frame(i16::MAX, ask.may_take, encode, deadline)
    }

    /// The same, for a request of which `encode` makes a frame, given version, correlation ID and client ID.
    ///
    /// The version is none beyond `newest`. The broker may work on it for `may_take`, on top of what any request may take.
    /// What the frame borrows is written from where it is.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and those of `encode`.
    pub(crate) fn send_frame<R: Request, F: Pieces>(
        &self,
        newest: i16,
        may_take: Duration,
        encode: impl FnOnce(i16, i32, &str) -> Result<F>,
        deadline: &Deadline,
    ) -> Result<Pending<R>> {
        let send = || {
            let shared = &self.shared;
            let version = shared.versions.pick_up_to::<R>(newest)?;
            shared.end_if_overdue();
            let (waiter, answer) = bounded(1); // the one answer
            let due = now() + shared.request_timeout + may_take;
            let (id, expires) = shared.calls.lock().begin(|calls| calls.add(due, waiter))?;
            let written = shared.write::<R, F>(version, id, encode, deadline);
            if let Err(error) = written {
                shared.calls.lock().in_flight.remove(id);
                return Err(error);
            }
            Ok(Pending {
                shared: Arc::clone(shared),
                answer,
                version,
                expires,
                request: PhantomData,
            })
        };
        send().map_err(|error| self.shared.context::<R>(error))
    }

    /// The same, for a request that the broker does not answer, as Produce without acks: returns when it is written, and
    /// nothing is awaited. A broker that cannot act on it ends the connection, or says nothing.
    ///
    /// # Errors
    ///
    /// As [`send_frame`](Self::send_frame).
    pub(crate) fn send_unanswered<R: Request, F: Pieces>(
        &self,
        newest: i16,
        encode: impl FnOnce(i16, i32, &str) -> Result<F>,
        deadline: &Deadline,
    ) -> Result<()> {
        let send = || {
            let shared = &self.shared;
            let version = shared.versions.pick_up_to::<R>(newest)?;
            shared.end_if_overdue();
            let id = shared.calls.lock().begin(InFlight::begin_unanswered)?;
            let written = shared.write::<R, F>(version, id, encode, deadline);
            // Until a request of any kind would be overdue, the broker is taken to be at work on it.
            let done = written.is_ok().then(|| now() + shared.request_timeout);
            shared.calls.lock().in_flight.finish_unanswered(done);
            written
        };
        send().map_err(|error| self.shared.context::<R>(error))
    }

    #[cfg(test)]
    /// In which version this broker is asked by a caller that cannot work with those beyond `newest`.
    pub(crate) fn version_of<R: Request>(&self, newest: i16) -> Result<i16> {
        let version = self.shared.versions.pick_up_to::<R>(newest);
        version.map_err(|error| self.shared.context::<R>(error))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[cfg(test)]
    /// Whether a renewal is under way.
    pub(crate) fn is_renewing(&self) -> bool {
        self.shared.door.lock().renewal.is_some()
    }

    #[cfg(test)]
    /// How many requests are on their way.
    pub(crate) fn awaited(&self) -> usize {
        self.shared.calls.lock().in_flight.awaited()
    }

    #[cfg(test)]
    /// As if its session had begun so much earlier.
    pub(crate) fn age(&self, by: Duration) {
        self.shared.door.lock().session.age(by);
    }

    /// Begins to renew its session if it is time for that, although nobody asks anything now. Waits for nothing.
    pub(crate) fn keep_known(&self) {
        let Some(mut door) = self.shared.door.try_lock() else {
            return; // whoever has it does the same
        };
        if self.shared.ended.is_stopped() || !matches!(door.session.turn(now), Turn::Prepare { .. }) {
            return;
        }
        match Renewals::start(&self.shared) {
            Ok(renewal) => door.renewal = Some(renewal),
            Err(_) if door.session.put_off(now()) => {}
            Err(error) => {
                drop(door);
                self.shared.end(error);
            }
        }
    }

    /// Its session is to be renewed, for which nothing may be on its way: what is sent before all is answered is held, and so
    /// is its caller. For those who can do better than to wait.
    pub(crate) fn wants_quiet(&self) -> bool {
        self.shared.renewals.as_ref().is_some_and(Renewals::wants_quiet)
    }

    /// Whether a request that fits into the socket's buffer would be written without waiting for anybody, as far as can be
    /// told: nobody writes, and the session is not about to be renewed.
    pub(crate) fn is_free(&self) -> bool {
        self.shared
            .door
            .try_lock()
            .is_some_and(|door| door.session.is_free(now))
    }

    /// Ended for whatever reason.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.end_if_overdue();
        self.shared.calls.lock().in_flight.over().is_some()
    }

    /// Why and when it ended; nothing to worry about if it ended while idle.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let calls = self.shared.calls.lock();
        Some(Ended {
            cause: calls.in_flight.over()?.clone(),
            at: calls.died?,
            was_idle: calls.was_idle,
        })
    }

    /// For how long nothing was asked or answered.
    pub(crate) fn idle(&self) -> Duration {
        now().saturating_duration_since(self.shared.calls.lock().last_used)
    }

    /// Ends it if nothing was asked and nothing is awaited for this long. Whoever is about to use it finds it dead
    /// before anything is sent.
    pub(crate) fn end_if_idle_for(&self, time: Duration) -> bool {
        {
            let mut calls = self.shared.calls.lock();
            let idle = now().saturating_duration_since(calls.last_used);
            if !calls.in_flight.is_idle(now()) || calls.in_flight.over().is_some() || idle < time {
                return false;
            }
            calls.was_idle = true;
            calls.died = Some(now());
            calls.in_flight.end(Error::closed("idle connection"));
        }
        self.shared.hangup.shutdown();
        true
    }

    /// Ends it with this cause for all that is in flight; without waiting.
    pub(crate) fn end(&self, cause: Error) {
        self.shared.end(cause);
    }

    /// Ends it and waits for its thread.
    pub(crate) fn close(&self, deadline: &Deadline) -> Result<()> {
        self.end(Error::closed("connection"));
        // Taken out, so that the lock is not held while joining.
        let worker = self.reader.lock().take();
        let Some(mut worker) = worker else {
            return Ok(());
        };
        let joined = worker.join(deadline);
        if joined.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut) {
            *self.reader.lock() = Some(worker);
        }
        joined
    }
}

/// Numbers the reader threads.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl Drop for Connection {
    fn drop(&mut self) {
        let limit = Deadline::after(Duration::from_secs(1), "dropping a connection");
        if let Err(error) = self.close(&limit) {
            log::warn!("closing the connection to {}: {error}", self.shared.peer);
        }
    }
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) cause: Error,
    pub(crate) at: Instant,
    pub(crate) was_idle: bool,
}

impl Calls {
    /// One more request.
    fn begin<T>(&mut self, add: impl FnOnce(&mut InFlight<Sender<Result<Bytes>>>) -> Result<T>) -> Result<T> {
        self.last_used = now();
        add(&mut self.in_flight)
    }
}

impl Shared {
    fn context<R: Request>(&self, error: Error) -> Error {
        error.in_api(api::name(R::KEY)).at_broker(&self.peer)
    }

    /// Encodes and writes a request. An error means that it was not written to its end.
    fn write<R: Request, F: Pieces>(
        self: &Arc<Self>,
        version: i16,
        id: i32,
        encode: impl FnOnce(i16, i32, &str) -> Result<F>,
        deadline: &Deadline,
    ) -> Result<()> {
        let frame = encode(version, id, &self.client_id)?;
        let mut pieces: Vec<IoSlice<'_>> = frame.pieces().map(IoSlice::new).collect();
        self.write_frame(self.enter(deadline)?, &mut pieces, deadline)?;
        let name = api::name(R::KEY);
        log::trace!("{name} to {}: request {id}, version {version}", self.peer);
        Ok(())
    }

    fn write_frame(
        &self,
        mut door: MutexGuard<'_, Door>,
        frame: &mut [IoSlice<'_>],
        deadline: &Deadline,
    ) -> Result<()> {
        let size: usize = frame.iter().map(|piece| piece.len()).sum();
        let result = door.writer.write_frame(frame, deadline);
        drop(door);
        let Err(Unfinished { written, error, broken }) = result else {
            return Ok(());
        };
        let Some(broken) = broken else {
            return Err(error);
        };
        let cause = self.end(broken);
        Err(match error.kind() {
            ErrorKind::TimedOut if written > 0 => error.explained(&format!("{written} of {size} bytes were written")),
            ErrorKind::Closed => error,
            // What a write meets on a connection that has been ended says less than why it was.
            _ => cause,
        })
    }

    /// The writer, once the session allows for a request.
    fn enter(self: &Arc<Self>, deadline: &Deadline) -> Result<MutexGuard<'_, Door>> {
        loop {
            let mut door = self.lock_door(deadline)?;
            match door.session.turn(now) {
                Turn::Go => return Ok(door),
                _ if self.ended.is_stopped() => {
                    drop(door);
                    return Err(self.over());
                }
                Turn::Prepare { hold } => match Renewals::start(self) {
                    Ok(renewal) => {
                        door.renewal = Some(renewal);
                        if !hold {
                            return Ok(door);
                        }
                    }
                    // The system has no thread for it now; it may have one before the session ends.
                    Err(_) if door.session.put_off(now()) => return Ok(door),
                    Err(error) => {
                        drop(door);
                        return Err(self.end(error));
                    }
                },
                Turn::Hold => {}
            }
            let renewal = door.renewal.clone();
            drop(door);
            let (Some(renewal), Some(renewals)) = (renewal, &self.renewals) else {
                // We have not closed it, and nobody shall take it for that.
                return Err(self.end(Error::new(ErrorKind::Io, "nobody renews the session")));
            };
            renewals.hurry();
            reauthentication::held(deadline.wait(&renewal), deadline)?;
        }
    }

    /// Why nobody enters any more.
    fn over(&self) -> Error {
        let over = self.calls.lock().in_flight.over().cloned();
        over.unwrap_or_else(|| Error::closed("connection"))
    }

    /// A request of a renewal, for whose end all others wait.
    pub(super) fn call_past_the_door<R: Request>(self: &Arc<Self>, request: &R, version: i16) -> Result<R::Response> {
        let (waiter, answer) = bounded(1); // the one answer
        let due = now() + self.request_timeout;
        let (id, expires) = self.calls.lock().begin(|calls| calls.add(due, waiter))?;
        let frame = request::encode_secret(request, version, id, &self.client_id)?;
        let deadline = Deadline::after(self.request_timeout, "request_timeout").with_stop(&self.ended);
        self.write_frame(self.lock_door(&deadline)?, &mut [IoSlice::new(&frame)], &deadline)?;
        drop(frame);
        let pending: Pending<R> = Pending {
            shared: Arc::clone(self),
            answer,
            version,
            expires,
            request: PhantomData,
        };
        // When that expires, so does the connection. It may be long: what is on its way is answered first.
        pending.wait(&Deadline::after(FOR_EVER, "request_timeout"))
    }

    /// Ended for whatever reason.
    pub(super) fn is_over(&self) -> bool {
        self.calls.lock().in_flight.over().is_some()
    }

    /// Whether all is answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.lock().in_flight.is_all_answered()
    }

    /// The writer's turn; a caller that can be stopped looks for it every 50 ms.
    fn lock_door(&self, deadline: &Deadline) -> Result<MutexGuard<'_, Door>> {
        loop {
            let slice = match deadline.stops() {
                [] => deadline.remaining(),
                _ => deadline.remaining().min(Duration::from_millis(50)),
            };
            if let Some(door) = self.door.try_lock_for(slice) {
                return Ok(door);
            }
            deadline.check("other requests to be written")?;
        }
    }

    /// The reader's thread.
    fn read_answers(&self, reader: Reader, limit: usize) {
        let cause = self.read_until_over(reader, limit);
        self.end(cause);
    }

    fn read_until_over(&self, reader: Reader, limit: usize) -> Error {
        let mut reader = BufReader::with_capacity(16 * 1024, reader); // most answers whole; larger reads pass by it
        loop {
            let answer = match frame::read(&mut reader, limit) {
                Ok(Some(answer)) => answer,
                // The broker closed the connection between two answers: it does so with idle ones.
                Ok(None) => return self.hung_up(),
                Err(error) => return error,
            };
            self.is_proven.store(true, Ordering::Relaxed);
            let mut is_quiet = false;
            let waiter = request::correlation_id(&answer).and_then(|id| {
                let mut calls = self.calls.lock();
                calls.last_used = now();
                let waiter = calls.in_flight.take(id);
                is_quiet = calls.in_flight.is_all_answered();
                waiter
            });
            match waiter {
                // Room for one, and sent once; nobody waits any more if the caller gave up.
                Ok(waiter) => drop(waiter.try_send(Ok(answer))),
                Err(error) => return error,
            }
            self.ring();
            if let Some(renewals) = self.renewals.as_ref().filter(|_| is_quiet) {
                renewals.is_quiet();
            }
        }
    }

    /// Brokers that ask who one is say what they speak, and hang up on the first request of whom they do not know.
    fn hung_up(&self) -> Error {
        let is_first = !self.is_proven.load(Ordering::Relaxed) && !self.is_quiet();
        let hint = match is_first && self.renewals.is_none() {
            true => UNKNOWN_TO_IT,
            false => "",
        };
        Error::new(ErrorKind::Io, format!("the broker closed the connection{hint}"))
    }

    fn end_if_overdue(&self) {
        let overdue = self.calls.lock().in_flight.is_overdue(now());
        if overdue {
            self.end(self.overdue());
        }
    }

    fn overdue(&self) -> Error {
        Error::new(
            ErrorKind::TimedOut,
            format!(
                "the broker did not answer within {:?} (request_timeout)",
                self.request_timeout
            ),
        )
    }

    /// Fails all that is in flight with one cause, the first there was, and gives it back. Waits for nothing.
    pub(super) fn end(&self, cause: Error) -> Error {
        let is_nonsense = cause.kind() == ErrorKind::Protocol;
        self.end_after(cause, is_nonsense)
    }

    fn end_after(&self, cause: Error, is_nonsense: bool) -> Error {
        let cause = cause.at_broker(&self.peer);
        let (first, waiting, cause) = {
            let mut calls = self.calls.lock();
            let first = calls.in_flight.over().is_none();
            if first {
                // Nonsense is to be worried about, also when it was the last thing that was waited for.
                calls.was_idle = !is_nonsense && calls.in_flight.is_idle(now());
                calls.died = Some(now());
            }
            let (waiting, cause) = calls.in_flight.end(cause);
            (first, waiting, cause)
        };
        self.hangup.shutdown();
        self.ended.stop();
        if first {
            log::debug!(
                "the connection to {} ended with {} requests in flight: {cause}",
                self.peer,
                waiting.len()
            );
        }
        for waiter in waiting {
            waiter.try_send(Err(cause.clone())).ok();
        }
        self.ring();
        cause
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

/// For what happens to the first request to a broker of whom nobody said that it asks for SASL.
pub(crate) const UNKNOWN_TO_IT: &str = " instead of answering the first request; does the port expect SASL?";

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer)
    }
}

impl<R: Request> Pending<R> {
    /// Ready when the answer is there, for those who wait for several.
    pub(crate) fn signal(&self) -> &Receiver<Result<Bytes>> {
        &self.answer
    }

    #[cfg(test)]
    /// The version that was spoken.
    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    /// When the broker has had its time; whoever does not `wait` looks for it.
    pub(crate) fn expires(&self) -> Instant {
        self.expires
    }

    /// The answer, if it is there.
    pub(crate) fn try_take(&self) -> Option<Result<R::Response>> {
        let context = |error: Error| error.in_api(api::name(R::KEY)).at_broker(&self.shared.peer);
        let answer = self.answer.try_recv().ok()?;
        Some(answer.and_then(|frame| self.decode(frame)).map_err(context))
    }

    /// Waits for the answer.
    ///
    /// When the broker has had its time (`request_timeout`), the connection is ended for all. A caller whose own
    /// deadline is earlier, or that is stopped, merely goes away, and may wait again.
    ///
    /// # Errors
    ///
    /// The broker may or may not have acted on the request.
    pub(crate) fn wait(&self, deadline: &Deadline) -> Result<R::Response> {
        let name = api::name(R::KEY);
        let context = |error: Error| error.in_api(name).at_broker(&self.shared.peer);
        let answer = match deadline.wait_until(&self.answer, self.expires) {
            Waited::Got(answer) => answer,
            Waited::Stopped => Err(deadline.check(name).err().unwrap_or_else(|| Error::closed("call"))),
            Waited::Gone => Err(Error::closed("connection")),
            Waited::TimedOut if self.expires <= deadline.at() => {
                self.shared.end(self.shared.overdue().in_api(name));
                // The answer or the cause of the end, whichever was first.
                self.answer
                    .try_recv()
                    .unwrap_or_else(|_| Err(Error::closed("connection")))
            }
            Waited::TimedOut => Err(deadline.error("an answer")),
        };
        answer.and_then(|frame| self.decode(frame)).map_err(context)
    }

    /// Whoever answers what cannot be is asked nothing more over this connection. To whoever waits for other answers, it is
    /// a connection that was lost.
    fn decode(&self, frame: Bytes) -> Result<R::Response> {
        request::decode::<R>(self.version, frame).inspect_err(|error| {
            let message = format!("another answer over this connection cannot be read: {error}");
            self.shared.end_after(Error::new(ErrorKind::Io, message), true);
        })
    }
}

impl<R: Request> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({} to {})", api::name(R::KEY), self.shared.peer)
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver: requests expire by the clock")]
fn now() -> Instant {
    Instant::now()
}
