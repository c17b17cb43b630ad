//! The queue's rules, one by one.

mod endings;
mod failures;
mod leaders;
mod pieces;
mod refusals;
mod sending;
mod sequences;

use super::*;

#[allow(
    clippy::disallowed_methods,
    reason = "where virtual time begins; nothing else reads the clock"
)]
pub(super) fn beginning() -> Instant {
    Instant::now()
}

const LIMIT: Duration = Duration::from_secs(120);

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(1),
};

/// In the middle of what the backoff varies by.
const MIDDLE: u64 = 200;

/// A queue of named batches with two records each, and the time.
struct Bench {
    queue: Queue<&'static str>,
    now: Instant,
    identities: i64,
}

/// What was told of a batch.
type Told = (&'static str, std::result::Result<Option<i64>, ErrorKind>);

impl Bench {
    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules {
            idempotent: true,
            in_flight: 5,
            max_retries: None,
            backoff: BACKOFF,
        };
        change(&mut rules);
        Self {
            queue: Queue::new(rules),
            now: beginning(),
            identities: 0,
        }
    }

    fn new() -> Self {
        let mut bench = Self::with(|_| ());
        bench.identify();
        bench
    }

    /// One under whose identity something was acknowledged: "0", at sequence 0.
    fn proven() -> Self {
        let mut bench = Self::new();
        bench.push(&["0"]);
        let first = bench.take();
        bench.appended(first, 0);
        assert_eq!(bench.told(), [("0", Ok(Some(0)))]);
        bench
    }

    fn identify(&mut self) {
        self.identities += 1;
        self.queue.identify(Identity {
            producer_id: self.identities,
            epoch: 0,
        });
    }

    fn push(&mut self, names: &[&'static str]) {
        for name in names {
            self.queue.push(name, 2, self.now + LIMIT);
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.queue.next(self.now, false), Next::Ready)
    }

    fn is_blocked(&self) -> bool {
        matches!(self.queue.next(self.now, false), Next::Blocked)
    }

    fn wants_identity(&self) -> bool {
        matches!(self.queue.next(self.now, false), Next::Identity)
    }

    fn take(&mut self) -> Ticket {
        assert!(
            self.is_ready(),
            "{:?}: {:?}",
            self.queue.next(self.now, false),
            self.queue
        );
        self.queue.take().unwrap().0
    }

    fn take_all(&mut self) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while self.is_ready() {
            tickets.push(self.take());
        }
        tickets
    }

    /// The next batch, its producer ID and its sequence.
    fn sent(&mut self) -> (&'static str, i64, i32) {
        assert!(
            self.is_ready(),
            "{:?}: {:?}",
            self.queue.next(self.now, false),
            self.queue
        );
        let (_, sequence, name) = self.queue.take().unwrap();
        (name, sequence.producer_id, sequence.base_sequence)
    }

    fn settle(&mut self, ticket: Ticket, verdict: Verdict) -> bool {
        self.queue.settle(ticket, verdict, self.now, MIDDLE)
    }

    fn appended(&mut self, ticket: Ticket, offset: i64) {
        let appended = Appended {
            offset: Some(offset),
            timestamp: None,
        };
        assert!(!self.settle(ticket, Verdict::Appended(appended)));
    }

    /// "Not enough replicas": certainly not appended.
    fn put_off(&mut self, ticket: Ticket) {
        let error = Error::refused(19);
        self.settle(
            ticket,
            Verdict::Retry {
                error,
                maybe_applied: false,
            },
        );
    }

    /// The answer was lost.
    fn lost(&mut self, ticket: Ticket) {
        let error = Error::new(ErrorKind::Io, "cut");
        self.settle(
            ticket,
            Verdict::Retry {
                error,
                maybe_applied: true,
            },
        );
    }

    fn refused(&mut self, ticket: Ticket) {
        let error = Error::refused(29);
        self.settle(
            ticket,
            Verdict::Refused {
                error,
                maybe_applied: false,
            },
        );
    }

    fn out_of_sequence(&mut self, ticket: Ticket) {
        self.settle(ticket, Verdict::OutOfSequence(Error::refused(45)));
    }

    fn hold(&mut self, ticket: Ticket) -> bool {
        self.settle(ticket, Verdict::TakeApart(Error::refused(10)))
    }

    fn expire(&mut self) {
        self.queue.expire(self.now, LIMIT);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Long enough for the next try, and not for anything else.
    fn pause(&mut self) {
        self.pass(Duration::from_secs(2));
    }

    fn told(&mut self) -> Vec<Told> {
        let told = self.queue.finished().into_iter();
        told.map(|finished| {
            let outcome = finished.outcome.map(|appended| appended.offset);
            (finished.payload, outcome.map_err(|error| error.kind()))
        })
        .collect()
    }
}

const UNKNOWN: std::result::Result<Option<i64>, ErrorKind> = Err(ErrorKind::OutcomeUnknown);
const TIMED_OUT: std::result::Result<Option<i64>, ErrorKind> = Err(ErrorKind::TimedOut);
const FORBIDDEN: std::result::Result<Option<i64>, ErrorKind> = Err(ErrorKind::Authorization);
const CLOSED: std::result::Result<Option<i64>, ErrorKind> = Err(ErrorKind::Closed);
