//! One partition's batches, in the order in which they are to be in the log: which may be sent now, under which sequence,
//! and what an answer means for it and for those behind it.
//!
//! A value that knows no thread, socket or clock. Three rules keep the log free of doubles and holes:
//!
//! - What is in flight is always a part of the front: nothing is sent while something behind it is in flight. After a
//!   failure the rest is awaited first, and then all that is left is sent again, in order.
//! - A batch that a broker may have is sent again under its own sequence only, and given up as
//!   [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when that cannot go on. It never changes its identity.
//! - When a batch drops out, the sequences behind it have a gap which no broker accepts. So nothing new is sent under this
//!   identity; when nothing is left of it, a fresh producer ID begins at 0. What was sent behind a batch that certainly is
//!   not in the log is not there either, nor will be, however late its requests arrive: it moves with the rest.
//!
//! The last two rest on a broker that knows the producer. One that does not accepts any sequence, also the second batch
//! after it has refused the first: so a partition where nothing was acknowledged yet under its identity has one batch in
//! flight. What was acknowledged every later leader knows; not so in a cluster that lost it, where there may be doubles.
//!
//! For the same reason nothing is sent so far ahead of a batch without an outcome that a broker could forget that batch: it
//! remembers the last five of a producer, also when those behind were acknowledged long ago.
//!
//! A broker that was restarted remembers of each producer only the last batch, and refuses those before it, which it has, as
//! out of sequence. But brokers take sequences in order: so when one behind is acknowledged, and its offset leaves room for
//! those before it, they are in the log too. While one behind may still turn out to be, they are not given up.

#[cfg(test)]
mod doubt_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kafka_protocol::ResponseError;

use super::sequence::{Identity, advance};
use crate::{
    cluster::Backoff,
    error::{Error, ErrorKind},
    wire::batch::Sequence,
};

/// How far a partition may go ahead, and what protects it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Brokers recognise what they have already.
    pub(super) idempotent: bool,
    /// Batches of the partition in flight.
    pub(super) in_flight: usize,
    pub(super) max_retries: Option<u32>,
    pub(super) backoff: Backoff,
}

#[derive(Debug)]
pub(super) struct Queue<P> {
    rules: Rules,
    entries: VecDeque<Entry<P>>,
    next_id: u64,
    /// Entries whose attempt is not over.
    in_flight: usize,
    identity: Option<Identity>,
    next_sequence: i32,
    /// When something was last acknowledged under this identity.
    proven: Option<Instant>,
    /// Where the log is known to have reached behind what was told last.
    reached: Option<i64>,
    /// A sequence is missing: nothing new under this identity.
    renew: bool,
    /// Failures in a row, and how long they make the partition wait.
    failures: u32,
    retry_at: Option<Instant>,
    last_attempt: u32,
    /// What has kept everything from being sent, since something was.
    blamed: Option<Error>,
}

#[derive(Debug)]
struct Entry<P> {
    id: u64,
    /// Gone once the outcome was told.
    payload: Option<P>,
    records: u32,
    deadline: Instant,
    sequence: Option<Sequence>,
    stage: Stage,
    attempts: u32,
    /// A broker may have appended it: some attempt ended without a word, or with one that leaves it open.
    maybe_applied: bool,
    /// No broker ever accepts its sequence, since one before it will not come.
    void: bool,
    /// It was refused as out of sequence, behind one whose outcome was open.
    misplaced: bool,
    last_error: Option<Error>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    /// This attempt is on its way.
    InFlight(u32),
    /// Somebody takes it apart.
    Held,
    /// What became of it, to be told when those before it have been.
    Over(Outcome),
    /// Told, while an attempt is still on its way.
    Ghost(u32),
}

/// Where a batch came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    /// Of its first record; not known if the broker only said that it has it already, or says nothing at all.
    pub(super) offset: Option<i64>,
    /// The broker's time, where it counts instead of the records' own.
    pub(super) timestamp: Option<i64>,
}

pub(super) type Outcome = Result<Appended, Error>;

/// What there is to do for a sender.
#[derive(Debug)]
pub(super) enum Next {
    /// Send it; `take` gives it.
    Ready,
    /// Nothing before this time.
    At(Instant),
    /// A new identity is needed first.
    Identity,
    /// Nothing until an attempt is over.
    Blocked,
    /// Nothing waits.
    Empty,
}

/// A batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) id: u64,
    pub(super) attempt: u32,
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Appended(Appended),
    /// Not this time.
    Retry {
        error: Error,
        maybe_applied: bool,
    },
    /// Never.
    Refused {
        error: Error,
        maybe_applied: bool,
    },
    /// Certainly not appended: the sequence is not the one that is due.
    OutOfSequence(Error),
    /// Certainly not appended, and maybe for a part of its records only: it is held until it is replaced.
    TakeApart(Error),
}

/// A batch whose outcome is to be told.
#[derive(Debug)]
pub(super) struct Finished<P> {
    pub(super) payload: P,
    pub(super) attempts: u32,
    pub(super) outcome: Outcome,
}

/// What is put in the place of a batch that was taken apart.
#[derive(Debug)]
pub(super) enum Piece<P> {
    /// These records of it, which follow those of the piece before.
    Kept { payload: P, records: u32 },
    /// They fail.
    Failed { payload: P, error: Error },
}

impl<P> Queue<P> {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: VecDeque::new(),
            next_id: 0,
            in_flight: 0,
            identity: None,
            next_sequence: 0,
            proven: None,
            reached: None,
            renew: false,
            failures: 0,
            retry_at: None,
            last_attempt: 0,
            blamed: None,
        }
    }

    /// Whether nothing is there, on its way or otherwise.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When the first batch that is not over is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let open = self.entries.iter().find(|entry| entry.is_open());
        open.map(|entry| entry.deadline)
    }

    pub(super) fn push(&mut self, payload: P, records: u32, deadline: Instant) {
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push_back(Entry {
            id,
            payload: Some(payload),
            records,
            deadline,
            sequence: None,
            stage: Stage::Waiting,
            attempts: 0,
            maybe_applied: false,
            void: false,
            misplaced: false,
            last_error: self.blamed.clone(),
        });
    }

    /// What a sender can do. With `more`, another batch could be pushed: then there is always something that waits.
    pub(super) fn next(&self, now: Instant, more: bool) -> Next {
        let first = self.first_waiting();
        let ahead = first.unwrap_or(self.entries.len());
        if first.is_none() && !more {
            return Next::Empty;
        }
        let flying = self
            .entries
            .iter()
            .take(ahead)
            .filter(|entry| entry.attempt().is_some());
        let is_held = self
            .entries
            .iter()
            .take(ahead)
            .any(|entry| matches!(entry.stage, Stage::Held));
        if is_held || flying.count() < self.in_flight || self.in_flight >= self.allowed(now) {
            return Next::Blocked;
        }
        if self.rules.idempotent && ahead >= self.rules.in_flight {
            // The first has no outcome yet, and is recognised for as long as it is among the last of the producer.
            return Next::Blocked;
        }
        if let Some(at) = self.retry_at.filter(|at| now < *at) {
            return Next::At(at);
        }
        let has_sequence = first.is_some_and(|at| self.entries[at].sequence.is_some());
        if self.rules.idempotent && !has_sequence && (self.renew || self.identity.is_none()) {
            // What is left of the old identity comes first.
            let is_left = self.entries.iter().take(ahead).any(Entry::is_bound);
            return if is_left { Next::Blocked } else { Next::Identity };
        }
        Next::Ready
    }

    /// How many may be in flight.
    fn allowed(&self, now: Instant) -> usize {
        if !self.rules.idempotent {
            return 1;
        }
        let is_proven = self
            .proven
            .is_some_and(|at| now.saturating_duration_since(at) < FORGOTTEN);
        if is_proven { self.rules.in_flight } else { 1 }
    }

    fn first_waiting(&self) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| matches!(entry.stage, Stage::Waiting))
    }

    /// The batch that is [`Ready`](Next::Ready), on its way from now on; with the sequence it has to have.
    pub(super) fn take(&mut self) -> Option<(Ticket, Sequence, &mut P)> {
        let at = self.first_waiting()?;
        let entry = &mut self.entries[at];
        if self.rules.idempotent && entry.sequence.is_none() {
            let Identity { producer_id, epoch } = self.identity?;
            entry.sequence = Some(Sequence {
                producer_id,
                epoch,
                base_sequence: self.next_sequence,
            });
            self.next_sequence = advance(self.next_sequence, entry.records);
        }
        self.blamed = None;
        if entry.attempts == 0 {
            // What has kept it from being sent is over.
            entry.last_error = None;
        }
        self.last_attempt = self.last_attempt.wrapping_add(1);
        entry.stage = Stage::InFlight(self.last_attempt);
        entry.attempts += 1;
        self.in_flight += 1;
        let ticket = Ticket {
            id: entry.id,
            attempt: self.last_attempt,
        };
        let payload = entry.payload.as_mut()?;
        Some((ticket, entry.sequence.unwrap_or(Sequence::NONE), payload))
    }

    /// The next batch to be sent, when it may be.
    pub(super) fn waiting(&self) -> Option<&P> {
        self.entries[self.first_waiting()?].payload.as_ref()
    }

    /// Whether this attempt still counts.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        let entry = self.entries.iter().find(|entry| entry.id == ticket.id);
        entry.is_some_and(|entry| matches!(entry.stage, Stage::InFlight(attempt) if attempt == ticket.attempt))
    }

    /// The payload of a batch, unless it is over.
    pub(super) fn payload(&mut self, ticket: Ticket) -> Option<&mut P> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == ticket.id)?;
        entry.payload.as_mut()
    }

    /// An attempt did not begin: nothing has left.
    pub(super) fn not_sent(&mut self, ticket: Ticket, error: Error, now: Instant, random: u64) {
        let Some(at) = self.end_attempt(ticket) else {
            return;
        };
        let entry = &mut self.entries[at];
        entry.attempts = entry.attempts.saturating_sub(1);
        self.wait(at, error, now, random);
    }

    /// An attempt that does not count any more did not begin: what was given up meanwhile need not be waited for.
    pub(super) fn forgo(&mut self, ticket: Ticket) {
        debug_assert!(!self.is_current(ticket));
        self.end_attempt(ticket);
    }

    /// What an attempt came to. Says whether the batch is to be taken apart.
    pub(super) fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant, random: u64) -> bool {
        let Some(at) = self.end_attempt(ticket) else {
            // It was given up or sent elsewhere meanwhile; that it was appended is true all the same.
            if let Verdict::Appended(appended) = verdict {
                self.appended_late(ticket.id, appended, now);
            }
            return false;
        };
        match verdict {
            Verdict::Appended(appended) => self.appended(at, appended, now),
            Verdict::Retry { error, maybe_applied } => self.retry(at, error, maybe_applied, now, random),
            Verdict::Refused { error, maybe_applied } => self.refused(at, error, maybe_applied),
            Verdict::OutOfSequence(error) => self.out_of_sequence(at, error, now, random),
            Verdict::TakeApart(error) => {
                if self.entries[at].is_in_doubt() {
                    self.refused(at, error, false);
                    return false;
                }
                let entry = &mut self.entries[at];
                entry.last_error = Some(error);
                entry.stage = Stage::Held;
                entry.leave_void_sequence();
                return true;
            }
        }
        false
    }

    /// The entry whose attempt this was, if it still counts.
    fn end_attempt(&mut self, ticket: Ticket) -> Option<usize> {
        let at = self.entries.iter().position(|entry| entry.id == ticket.id)?;
        match self.entries[at].stage {
            Stage::InFlight(attempt) if attempt == ticket.attempt => {
                self.in_flight -= 1;
                self.entries[at].stage = Stage::Waiting;
                Some(at)
            }
            Stage::Ghost(attempt) if attempt == ticket.attempt => {
                self.in_flight -= 1;
                self.entries.remove(at);
                None
            }
            _ => None,
        }
    }

    fn appended(&mut self, at: usize, appended: Appended, now: Instant) {
        self.proven = Some(now);
        self.failures = 0;
        self.retry_at = None;
        self.entries[at].stage = Stage::Over(Ok(appended));
    }

    fn appended_late(&mut self, id: u64, appended: Appended, now: Instant) {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else {
            return;
        };
        // In flight again, it will be answered as a double; until then the rest waits for it.
        if let Stage::Waiting = self.entries[at].stage {
            // It may have gone under another identity than what goes now: of that it proves nothing.
            let proven = self.proven;
            self.appended(at, appended, now);
            self.proven = proven;
        }
    }

    fn retry(&mut self, at: usize, error: Error, maybe_applied: bool, now: Instant, random: u64) {
        if is_of_another_log(&error) {
            self.proven = None;
        }
        let entry = &mut self.entries[at];
        entry.maybe_applied |= maybe_applied && !entry.void;
        if self.rules.max_retries.is_some_and(|most| entry.attempts > most) {
            self.refused(at, error, false);
        } else {
            self.wait(at, error, now, random);
        }
    }

    fn wait(&mut self, at: usize, error: Error, now: Instant, random: u64) {
        // What fails together counts once: one failure is told as often as there are batches in flight.
        if self.retry_at.is_none_or(|at| at <= now) {
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(now + self.rules.backoff.delay(self.failures, random));
        }
        let entry = &mut self.entries[at];
        entry.last_error = Some(error);
        entry.stage = Stage::Waiting;
        entry.leave_void_sequence();
    }

    /// It will never be sent again.
    fn refused(&mut self, at: usize, error: Error, maybe_applied: bool) {
        let entry = &mut self.entries[at];
        entry.maybe_applied |= maybe_applied && !entry.void;
        let is_certain = !entry.is_in_doubt();
        let error = if is_certain { error } else { outcome_unknown(&error) };
        entry.stage = Stage::Over(Err(error));
        self.drop_out(at, is_certain);
    }

    /// A batch that had a sequence is not coming any more.
    fn drop_out(&mut self, at: usize, is_certain: bool) {
        if self.entries[at].sequence.is_none() {
            return;
        }
        self.renew = true;
        if is_certain {
            self.void_behind(at);
        }
    }

    /// What lies behind a batch that certainly is not in the log, and never will be under its sequence, is not either:
    /// it may go under another identity.
    fn void_behind(&mut self, at: usize) {
        // Among them may be some that were given up before they had one.
        let behind = self.entries.iter_mut().skip(at + 1);
        for entry in behind.filter(|entry| entry.is_bound()) {
            entry.void = true;
            entry.maybe_applied = false;
            entry.leave_void_sequence();
        }
    }

    fn out_of_sequence(&mut self, at: usize, error: Error, now: Instant, random: u64) {
        let is_first = self.entries.iter().take(at).all(|entry| !entry.is_open());
        if !is_first {
            // It came before the one that is missing, which will be sent again.
            self.entries[at].misplaced = true;
            return self.wait(at, error, now, random);
        }
        if self.entries[at].is_in_doubt() {
            if error.code() == Some(ResponseError::OutOfOrderSequenceNumber.code()) {
                // A broker that knows no producer takes any sequence: so those behind may go as well, and tell.
                self.proven = Some(now);
            }
            // Either it is not in the log, or the broker has forgotten that it is.
            return match self.trace(at) {
                Trace::Found => self.appended(at, FORGOTTEN_PLACE, now),
                Trace::Open => self.wait(at, error, now, random),
                Trace::None => self.refused(at, error, false),
            };
        }
        self.renew = true;
        self.void_behind(at);
        self.entries[at].void = true;
        self.wait(at, error, now, random);
    }

    /// What those behind a batch, under the same identity, tell about whether it is in the log.
    fn trace(&self, at: usize) -> Trace {
        // When one was given up, who knows what the others behind it are in order with.
        let mut due = self.reached.filter(|_| !self.renew);
        let mut trace = Trace::None;
        for (place, entry) in self.entries.iter().enumerate().skip(at) {
            if entry.sequence.is_none() || entry.void {
                break;
            }
            match &entry.stage {
                Stage::Over(Ok(appended)) if appended.offset.zip(due).is_some_and(|(offset, due)| offset >= due) => {
                    return Trace::Found;
                }
                Stage::Waiting | Stage::InFlight(_) if place > at && entry.attempts > 0 && !entry.misplaced => {
                    trace = Trace::Open;
                }
                _ => {}
            }
            due = behind(due, entry.records);
        }
        trace
    }

    /// Puts pieces in the place of a batch that was held; those that are kept are sent before what lay behind it.
    pub(super) fn replace(&mut self, ticket: Ticket, pieces: Vec<Piece<P>>) {
        let Some(at) = self.entries.iter().position(|entry| entry.id == ticket.id) else {
            return;
        };
        let Some(entry) = self.entries.get(at).filter(|entry| matches!(entry.stage, Stage::Held)) else {
            return;
        };
        let (deadline, attempts, sequence) = (entry.deadline, entry.attempts, entry.sequence);
        let last_error = entry.last_error.clone();
        let is_whole = pieces.iter().all(|piece| matches!(piece, Piece::Kept { .. }));
        if !is_whole {
            // One is missing from now on.
            self.drop_out(at, true);
        }
        let mut sequence = sequence.filter(|_| is_whole);
        self.entries.remove(at);
        for (place, piece) in pieces.into_iter().enumerate() {
            let id = self.next_id;
            self.next_id += 1;
            let (payload, records, stage, attempts) = match piece {
                // It has all of its tries before it: the broker has seen none of them.
                Piece::Kept { payload, records } => (payload, records, Stage::Waiting, 0),
                Piece::Failed { payload, error } => (payload, 0, Stage::Over(Err(error)), attempts),
            };
            let own = sequence;
            if let Some(sequence) = &mut sequence {
                sequence.base_sequence = advance(sequence.base_sequence, records);
            }
            self.entries.insert(
                at + place,
                Entry {
                    id,
                    payload: Some(payload),
                    records,
                    deadline,
                    sequence: own,
                    stage,
                    attempts,
                    maybe_applied: false,
                    void: false,
                    misplaced: false,
                    last_error: last_error.clone(),
                },
            );
        }
    }

    /// The partition is led by another broker: what is on its way is not waited for. A broker that recognises what it has
    /// will do so; without that, the answers must be awaited first.
    pub(super) fn abandon(&mut self) {
        debug_assert!(self.rules.idempotent, "nothing else recognises doubles");
        for entry in &mut self.entries {
            if entry.attempt().is_some() {
                entry.maybe_applied |= !entry.void;
            }
            entry.misplaced = false;
            if let Stage::InFlight(_) = entry.stage {
                entry.stage = Stage::Waiting;
                entry.leave_void_sequence();
            }
        }
        self.entries.retain(|entry| !matches!(entry.stage, Stage::Ghost(_)));
        self.in_flight = 0;
    }

    /// The next try need not wait any longer, as when there is a new leader.
    pub(super) fn hasten(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn current_identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The identity that [`Next::Identity`] asked for.
    pub(super) fn identify(&mut self, identity: Identity) {
        let is_left = self.entries.iter().any(Entry::is_bound);
        if is_left || (self.identity.is_some() && !self.renew) {
            return;
        }
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.proven = None;
        self.renew = false;
    }

    /// Gives up what has had its time; `limit` is how long that was.
    pub(super) fn expire(&mut self, now: Instant, limit: Duration) {
        for at in 0..self.entries.len() {
            if self.entries[at].deadline > now {
                break;
            }
            self.end(at, |last| timed_out(last, limit));
        }
    }

    /// Gives up what was never sent; the others go on.
    /// Their records are counted here, since it is told only when those before them are over.
    pub(super) fn fail_unsent(&mut self, error: &Error) -> u64 {
        let mut failed = 0;
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if matches!(entry.stage, Stage::Waiting) && entry.sequence.is_none() && !entry.is_in_doubt() {
                failed += u64::from(entry.records);
                self.end(at, |_| error.clone());
            }
        }
        failed
    }

    /// The same for what waits after it was sent, of which nobody will hear any more what became of it.
    pub(super) fn fail_waiting(&mut self, error: &Error) {
        for at in 0..self.entries.len() {
            if matches!(self.entries[at].stage, Stage::Waiting) {
                self.end(at, |_| error.clone());
            }
        }
    }

    /// Why all that waits does so, and what comes to wait with it: told when its time is over.
    pub(super) fn blame(&mut self, error: &Error) {
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Waiting) {
                entry.last_error = Some(error.clone());
            }
        }
        self.blamed = Some(error.clone());
    }

    /// Why what waits does so, if that is known.
    pub(super) fn blamed(&self) -> Option<&Error> {
        self.blamed.as_ref()
    }

    /// Gives up everything.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for at in 0..self.entries.len() {
            self.end(at, |last| match last {
                Some(last) if last.reason() != error.reason() => error.clone().after_last(last),
                _ => error.clone(),
            });
        }
    }

    fn end(&mut self, at: usize, error: impl FnOnce(Option<&Error>) -> Error) {
        let entry = &mut self.entries[at];
        if !entry.is_open() {
            return;
        }
        let error = error(entry.last_error.as_ref());
        let is_certain = !entry.is_in_doubt() && (entry.attempt().is_none() || entry.void);
        let error = if is_certain { error } else { outcome_unknown(&error) };
        entry.stage = match entry.attempt() {
            // It stays until the attempt is over: what comes behind it must not overtake it.
            Some(attempt) => {
                entry.last_error = Some(error);
                Stage::Ghost(attempt)
            }
            None => Stage::Over(Err(error)),
        };
        self.drop_out(at, is_certain);
    }

    /// The outcomes that can be told, in order.
    pub(super) fn finished(&mut self) -> Vec<Finished<P>> {
        let mut told = Vec::new();
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(at) {
            match &entry.stage {
                Stage::Ghost(_) => {
                    if let (Some(payload), Some(error)) = (entry.payload.take(), entry.last_error.take()) {
                        told.push(Finished {
                            payload,
                            attempts: entry.attempts,
                            outcome: Err(error),
                        });
                    }
                    at += 1;
                }
                Stage::Over(outcome) => {
                    let outcome = outcome.clone();
                    if let Ok(appended) = &outcome {
                        self.reached = appended.offset.or(self.reached);
                        self.reached = behind(self.reached, entry.records);
                    }
                    if let Some(payload) = entry.payload.take() {
                        told.push(Finished {
                            payload,
                            attempts: entry.attempts,
                            outcome,
                        });
                    }
                    self.entries.remove(at);
                }
                _ => break,
            }
        }
        if self.entries.is_empty() {
            // What comes next may meet something else.
            self.blamed = None;
        }
        told
    }
}

/// Nothing is known behind the last offset there can be.
fn behind(offset: Option<i64>, records: u32) -> Option<i64> {
    offset?.checked_add(i64::from(records))
}

/// Whether a batch that is refused as out of sequence is in the log all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    Found,
    /// That of one behind it is still open.
    Open,
    None,
}

/// Of a batch that a broker has, and does not know any more where.
const FORGOTTEN_PLACE: Appended = Appended {
    offset: None,
    timestamp: None,
};

/// The topic may have been deleted and made anew: then its log begins again, and knows no producer.
fn is_of_another_log(error: &Error) -> bool {
    use ResponseError as E;
    matches!(
        error.code().and_then(E::try_from_code),
        Some(E::UnknownTopicId | E::InconsistentTopicId | E::UnknownTopicOrPartition)
    )
}

/// A broker forgets a producer that is silent for long (`producer.id.expiration.ms`, a day), and then accepts any sequence.
const FORGOTTEN: Duration = Duration::from_secs(600);

impl<P> Entry<P> {
    /// Its outcome is open.
    fn is_open(&self) -> bool {
        !matches!(self.stage, Stage::Over(_) | Stage::Ghost(_))
    }

    /// It goes, or has gone, under an identity, and what comes of that is open. What is over may wait for its turn to be
    /// told, behind one that has lost its sequence: it holds nobody up.
    fn is_bound(&self) -> bool {
        self.sequence.is_some() && !matches!(self.stage, Stage::Over(_))
    }

    fn attempt(&self) -> Option<u32> {
        match self.stage {
            Stage::InFlight(attempt) | Stage::Ghost(attempt) => Some(attempt),
            _ => None,
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.maybe_applied
    }

    /// A sequence that no broker accepts is of no use to a batch that waits.
    fn leave_void_sequence(&mut self) {
        if self.void && self.attempt().is_none() {
            self.sequence = None;
            self.void = false;
        }
    }
}

fn outcome_unknown(error: &Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the batch was sent, and whether the broker has it is not known",
    )
    .after_last(error)
    .retriable(false)
}

fn timed_out(last: Option<&Error>, limit: Duration) -> Error {
    let error = Error::new(
        ErrorKind::TimedOut,
        format!("gave up waiting for the batch to be acknowledged after {limit:?} (delivery_timeout)"),
    );
    match last {
        Some(last) => error.after_last(last),
        None => error,
    }
}
