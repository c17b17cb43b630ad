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
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use crossbeam_channel::{Receiver, Sender, bounded};
use kafka_protocol::protocol::Request;
use parking_lot::{Mutex, MutexGuard};

use crate::{
    deadline::{Deadline, Waited},
    error::{Error, ErrorKind, Result},
    net::{
        Address, NetConfig,
        handshake::{self, Opened},
        in_flight::InFlight,
        transport::{Hangup, Reader, Writer},
    },
    thread::Worker,
    wire::{api, frame, request, versions::Versions},
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

struct Shared {
    peer: Arc<str>,
    versions: Arc<Versions>,
    client_id: String,
    request_timeout: Duration,
    hangup: Hangup,
    /// Held from a frame's first to its last byte, by callers alone. Never held together with `calls`.
    writer: Mutex<Writer>,
    /// Held for a few lines, never across I/O.
    calls: Mutex<Calls>,
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
        Self::start(handshake::open(address, config, deadline)?, config)
    }

    fn start(opened: Opened, config: &NetConfig) -> Result<Self> {
        let Opened {
            reader,
            writer,
            hangup,
            versions,
            peer,
        } = opened;
        let shared = Arc::new(Shared {
            peer,
            versions,
            client_id: config.client_id.clone(),
            request_timeout: config.request_timeout,
            hangup,
            writer: Mutex::new(writer),
            calls: Mutex::new(Calls {
                in_flight: InFlight::new(),
                last_used: now(),
                died: None,
                was_idle: false,
            }),
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

    /// Sends a request, and returns when it is written. An error means that the broker has not got it, and never will.
    pub(crate) fn send<'a, R: Request + 'a>(
        &self,
        ask: impl Into<Ask<'a, R>>,
        deadline: &Deadline,
    ) -> Result<Pending<R>> {
        let context = |error: Error| error.in_api(api::name(R::KEY)).at_broker(&self.shared.peer);
        self.send_inner(ask.into(), deadline).map_err(context)
    }

    fn send_inner<R: Request>(&self, ask: Ask<'_, R>, deadline: &Deadline) -> Result<Pending<R>> {
        let shared = &self.shared;
        let version = shared.versions.pick::<R>()?;
        shared.end_if_overdue();
        let (waiter, answer) = bounded(1); // the one answer
        let due = now() + shared.request_timeout + ask.may_take;
        let (id, expires) = {
            let mut calls = shared.calls.lock();
            calls.last_used = now();
            calls.in_flight.add(due, waiter)?
        };
        let written = ask
            .encode(version, id, &shared.client_id)
            .and_then(|bytes| shared.write(&bytes, deadline));
        if let Err(error) = written {
            shared.calls.lock().in_flight.remove(id);
            return Err(error);
        }
        log::trace!(
            "{} to {}: request {id}, version {version}",
            api::name(R::KEY),
            shared.peer
        );
        Ok(Pending {
            shared: Arc::clone(shared),
            answer,
            version,
            expires,
            request: PhantomData,
        })
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

    /// Ends it if nothing was asked and nothing is awaited for this long. Whoever is about to use it finds it dead
    /// before anything is sent.
    pub(crate) fn end_if_idle_for(&self, time: Duration) -> bool {
        {
            let mut calls = self.shared.calls.lock();
            let idle = now().saturating_duration_since(calls.last_used);
            if !calls.in_flight.is_empty() || calls.in_flight.over().is_some() || idle < time {
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

impl Shared {
    fn write(&self, bytes: &[u8], deadline: &Deadline) -> Result<()> {
        let mut writer = self.lock_writer(deadline)?;
        let result = writer.write_frame(&mut [IoSlice::new(bytes)], deadline);
        drop(writer);
        result.map_err(|unfinished| {
            let timed_out = matches!(unfinished.error.kind(), ErrorKind::TimedOut | ErrorKind::Closed);
            if unfinished.written > 0 || !timed_out {
                // Nothing that follows half a frame would be understood.
                self.end(unfinished.error.clone());
            }
            unfinished.error
        })
    }

    /// The writer's turn; a caller that can be stopped looks for it every 50 ms.
    fn lock_writer(&self, deadline: &Deadline) -> Result<MutexGuard<'_, Writer>> {
        loop {
            let slice = match deadline.stops() {
                [] => deadline.remaining(),
                _ => deadline.remaining().min(Duration::from_millis(50)),
            };
            if let Some(writer) = self.writer.try_lock_for(slice) {
                return Ok(writer);
            }
            deadline.check("other requests to be written")?;
        }
    }

    /// The reader's thread.
    fn read_answers(&self, reader: Reader, limit: usize) {
        let mut reader = BufReader::with_capacity(16 * 1024, reader); // most answers whole; larger reads pass by it
        loop {
            let answer = match frame::read(&mut reader, limit) {
                Ok(Some(answer)) => answer,
                Ok(None) => return self.hung_up(),
                Err(error) => return self.end(error),
            };
            let waiter = request::correlation_id(&answer).and_then(|id| {
                let mut calls = self.calls.lock();
                calls.last_used = now();
                calls.in_flight.take(id)
            });
            match waiter {
                // Room for one, and sent once; nobody waits any more if the caller gave up.
                Ok(waiter) => drop(waiter.try_send(Ok(answer))),
                Err(error) => return self.end(error),
            }
        }
    }

    /// The broker closed the connection between two answers: it does so with idle ones.
    fn hung_up(&self) {
        self.end(Error::new(ErrorKind::Io, "the broker closed the connection"));
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

    /// Fails all that is in flight with one cause. Waits for nothing.
    fn end(&self, cause: Error) {
        let cause = cause.at_broker(&self.peer);
        let (first, waiting, cause) = {
            let mut calls = self.calls.lock();
            let first = calls.in_flight.over().is_none();
            if first {
                calls.was_idle = calls.in_flight.is_empty();
                calls.died = Some(now());
            }
            let (waiting, cause) = calls.in_flight.end(cause);
            (first, waiting, cause)
        };
        self.hangup.shutdown();
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
    }
}

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

    /// When the broker has had its time; whoever does not `wait` looks for it.
    pub(crate) fn expires(&self) -> Instant {
        self.expires
    }

    /// The answer, if it is there.
    pub(crate) fn try_take(&self) -> Option<Result<R::Response>> {
        let context = |error: Error| error.in_api(api::name(R::KEY)).at_broker(&self.shared.peer);
        let answer = self.answer.try_recv().ok()?;
        Some(
            answer
                .and_then(|frame| request::decode::<R>(self.version, frame))
                .map_err(context),
        )
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
        answer
            .and_then(|frame| request::decode::<R>(self.version, frame))
            .map_err(context)
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
