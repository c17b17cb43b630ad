//! The queue's rules, one by one.

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

// ---- what may be sent ----

#[test]
fn nothing_is_sent_without_an_identity_which_is_asked_for() {
    let mut bench = Bench::with(|_| ());
    assert!(matches!(bench.queue.next(bench.now, false), Next::Empty));
    assert!(matches!(bench.queue.next(bench.now, true), Next::Identity));
    bench.push(&["a"]);
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.sent(), ("a", 1, 0));
}

#[test]
fn an_identity_that_nobody_asked_for_is_not_taken() {
    let mut bench = Bench::proven();
    bench.identify();
    bench.push(&["a"]);
    assert_eq!(bench.sent(), ("a", 1, 2));
}

#[test]
fn a_late_success_does_not_prove_the_identity() {
    let mut bench = Bench::new();
    bench.push(&["a", "b", "c"]);
    let a = bench.take();
    bench.queue.abandon();
    bench.appended(a, 0);
    assert_eq!(bench.told(), [("a", Ok(Some(0)))]);
    assert_eq!(bench.take_all().len(), 1);
}

#[test]
fn one_batch_is_in_flight_until_something_was_acknowledged_and_then_as_many_as_allowed() {
    let mut bench = Bench::new();
    bench.push(&["a", "b", "c", "d", "e", "f", "g"]);
    let first = bench.take();
    assert!(bench.is_blocked());
    bench.appended(first, 0);
    assert_eq!(bench.told(), [("a", Ok(Some(0)))]);
    assert_eq!(bench.take_all().len(), 5);
    assert!(bench.is_blocked());
    assert_eq!(bench.queue.in_flight(), 5);
}

#[test]
fn a_partition_whose_topic_was_made_anew_proves_itself_again() {
    for code in [3, 100, 103] {
        let mut bench = Bench::proven();
        bench.push(&["a", "b", "c"]);
        for ticket in bench.take_all() {
            let error = Error::refused(code);
            let maybe_applied = false;
            bench.settle(ticket, Verdict::Retry { error, maybe_applied });
        }
        bench.pause();
        // The new log would take the second also when it has refused the first.
        let first = bench.take();
        assert!(bench.is_blocked(), "{code}");
        bench.appended(first, 0);
        assert_eq!(bench.take_all().len(), 2);
    }
}

#[test]
fn a_partition_that_was_silent_for_long_proves_itself_again() {
    let mut bench = Bench::proven();
    bench.pass(FORGOTTEN);
    bench.push(&["a", "b", "c"]);
    let first = bench.take();
    assert!(bench.is_blocked());
    bench.appended(first, 2);
    assert_eq!(bench.take_all().len(), 2);
}

#[test]
fn a_fresh_identity_has_to_prove_itself_too() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    let first = bench.take();
    bench.refused(first);
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.take_all().len(), 1);
}

#[test]
fn without_idempotence_one_batch_is_in_flight_and_carries_no_sequence() {
    let mut bench = Bench::with(|rules| rules.idempotent = false);
    bench.push(&["a", "b"]);
    for offset in 0..2 {
        let (ticket, sequence, _) = bench.queue.take().unwrap();
        assert_eq!(sequence, Sequence::NONE);
        bench.appended(ticket, offset);
    }
    bench.push(&["c", "d"]);
    assert_eq!(bench.take_all().len(), 1);
}

#[test]
fn sequences_count_records() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    assert_eq!(bench.sent(), ("a", 1, 2));
    assert_eq!(bench.sent(), ("b", 1, 4));
}

// ---- after a failure ----

#[test]
fn after_a_failure_the_rest_is_awaited_and_then_everything_sent_again_in_order_as_it_was() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c", "d"]);
    let [a, b, c] = [bench.take(), bench.take(), bench.take()];
    bench.lost(a);
    bench.pause();
    assert!(bench.is_blocked(), "b and c are behind a, and in flight");
    bench.out_of_sequence(b);
    assert!(bench.is_blocked());
    bench.out_of_sequence(c);
    bench.pause();
    let sent = [bench.sent(), bench.sent(), bench.sent(), bench.sent()];
    assert_eq!(sent, [("a", 1, 2), ("b", 1, 4), ("c", 1, 6), ("d", 1, 8)]);
}

#[test]
fn what_was_acknowledged_behind_a_failure_is_told_after_it() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.appended(b, 4);
    assert_eq!(bench.told(), []);
    let a = bench.take();
    bench.appended(a, 2);
    assert_eq!(bench.told(), [("a", Ok(Some(2))), ("b", Ok(Some(4)))]);
    assert!(bench.queue.is_empty());
}

#[test]
fn what_was_not_sent_waits_with_its_sequence_and_is_not_in_doubt() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let a = bench.take();
    bench.queue.not_sent(a, Error::closed("connection"), bench.now, MIDDLE);
    assert!(matches!(bench.queue.next(bench.now, false), Next::At(_)));
    bench.pause();
    assert_eq!(bench.sent(), ("a", 1, 2));
    let b = bench.take();
    bench.queue.not_sent(b, Error::closed("connection"), bench.now, MIDDLE);
    bench.queue.fail_all(&Error::closed("producer"));
    assert_eq!(bench.told(), [("a", UNKNOWN), ("b", CLOSED)]);
}

#[test]
fn tries_are_put_off_twice_as_long_each_time_and_what_fails_together_counts_once() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    for wait in [100, 200, 400, 800, 1000, 1000] {
        let tickets = bench.take_all();
        assert_eq!(tickets.len(), 3);
        for ticket in tickets {
            bench.put_off(ticket);
        }
        let Next::At(at) = bench.queue.next(bench.now, false) else {
            panic!("{:?}", bench.queue);
        };
        assert_eq!((at - bench.now).as_millis(), wait);
        bench.now = at;
    }
    let a = bench.take();
    bench.appended(a, 2);
    let b = bench.take();
    bench.put_off(b);
    assert!(matches!(bench.queue.next(bench.now, false), Next::At(at) if at - bench.now == BACKOFF.min));
    bench.queue.hasten();
    assert!(bench.is_ready());
}

#[test]
fn a_batch_fails_when_it_was_retried_as_often_as_it_may_be() {
    let mut bench = Bench::with(|rules| rules.max_retries = Some(2));
    bench.identify();
    bench.push(&["a", "b"]);
    for _ in 0..3 {
        assert_eq!(bench.told(), []);
        let a = bench.take();
        bench.put_off(a);
        bench.pause();
    }
    assert_eq!(bench.told(), [("a", Err(ErrorKind::Refused))]);
    assert!(bench.wants_identity());
    bench.identify();
    for _ in 0..3 {
        let b = bench.take();
        bench.lost(b);
        bench.pause();
    }
    assert_eq!(bench.told(), [("b", UNKNOWN)]);
}

#[test]
fn a_try_that_did_not_begin_is_none() {
    let mut bench = Bench::with(|rules| rules.max_retries = Some(0));
    bench.identify();
    bench.push(&["a"]);
    for _ in 0..3 {
        let a = bench.take();
        bench.queue.not_sent(a, Error::closed("connection"), bench.now, MIDDLE);
        bench.pause();
    }
    let a = bench.take();
    bench.appended(a, 0);
    let told = bench.queue.finished();
    assert_eq!((told[0].payload, told[0].attempts), ("a", 1));
}

// ---- refusals ----

#[test]
fn what_lies_behind_a_certain_refusal_goes_under_a_fresh_identity_once_its_answers_are_there() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    let [a, b, c] = [bench.take(), bench.take(), bench.take()];
    bench.refused(a);
    assert_eq!(bench.told(), [("a", FORBIDDEN)]);
    bench.lost(b);
    bench.pause();
    assert!(bench.is_blocked(), "c is in flight");
    bench.out_of_sequence(c);
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.sent(), ("b", 2, 0));
}

#[test]
fn what_lies_behind_a_certain_refusal_is_not_in_doubt_although_its_answer_was_lost() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.refused(a);
    bench.lost(b);
    bench.pass(LIMIT);
    bench.expire();
    assert_eq!(bench.told(), [("a", FORBIDDEN), ("b", TIMED_OUT)]);
}

#[test]
fn what_lies_behind_a_batch_that_was_given_up_unsent_is_voided_too() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let a = bench.take();
    bench.queue.fail_unsent(&Error::closed("door"));
    bench.push(&["c"]);
    let c = bench.take();
    bench.refused(a);
    bench.out_of_sequence(c);
    assert_eq!(bench.told(), [("a", FORBIDDEN), ("b", CLOSED)]);
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.sent(), ("c", 2, 0));
}

#[test]
fn a_refusal_of_what_an_earlier_try_may_have_appended_leaves_it_open() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.lost(b);
    bench.pause();
    let [a, b] = [bench.take(), bench.take()];
    bench.refused(a);
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    // b may be behind an a that is there: it keeps its sequence.
    bench.lost(b);
    bench.pause();
    assert_eq!(bench.sent(), ("b", 1, 4));
}

#[test]
fn a_refusal_that_may_come_after_the_append_leaves_it_open() {
    let mut bench = Bench::new();
    bench.push(&["a"]);
    let a = bench.take();
    let verdict = Verdict::Refused {
        error: Error::refused(-1),
        maybe_applied: true,
    };
    bench.settle(a, verdict);
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
}

#[test]
fn an_unknown_outcome_is_never_called_retriable_and_says_what_went_wrong() {
    let mut bench = Bench::new();
    bench.push(&["a"]);
    let a = bench.take();
    bench.lost(a);
    bench.pass(LIMIT);
    bench.expire();
    let told = bench.queue.finished().remove(0).outcome.unwrap_err();
    assert!(!told.is_retriable());
    assert!(told.to_string().contains("cut"), "{told}");
}

// ---- sequences that are not due ----

#[test]
fn a_later_batch_that_is_out_of_sequence_waits_for_the_first_one() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.put_off(a);
    bench.out_of_sequence(b);
    bench.pause();
    assert_eq!(bench.sent(), ("a", 1, 2));
    assert_eq!(bench.sent(), ("b", 1, 4));
}

#[test]
fn the_first_batch_out_of_sequence_moves_to_a_fresh_identity_with_all_behind_it() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.out_of_sequence(a);
    bench.out_of_sequence(b);
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    let (ticket, sequence, name) = bench.queue.take().unwrap();
    assert_eq!((*name, sequence.producer_id, sequence.base_sequence), ("a", 2, 0));
    bench.appended(ticket, 2);
    assert_eq!(bench.sent(), ("b", 2, 2));
}

#[test]
fn the_first_batch_out_of_sequence_never_moves_if_a_broker_may_have_it() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.lost(b);
    bench.pause();
    let [a, b] = [bench.take(), bench.take()];
    bench.out_of_sequence(a);
    assert_eq!(bench.told(), [], "b may still tell of it");
    bench.out_of_sequence(b);
    bench.pause();
    let a = bench.take();
    bench.out_of_sequence(a);
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    bench.pause();
    let b = bench.take();
    bench.appended(b, 4);
    assert_eq!(bench.told(), [("b", Ok(Some(4)))]);
    bench.push(&["c"]);
    assert!(bench.wants_identity());
}

#[test]
fn a_fresh_identity_waits_for_all_that_is_left_of_the_old_one() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.lost(b);
    bench.pause();
    let [a, b] = [bench.take(), bench.take()];
    bench.out_of_sequence(a);
    bench.out_of_sequence(b);
    bench.pause();
    let a = bench.take();
    bench.out_of_sequence(a);
    bench.pause();
    let b = bench.take();
    assert!(bench.is_blocked(), "b is left, and c has no sequence");
    bench.identify();
    assert!(bench.is_blocked(), "nobody asked for one");
    bench.appended(b, 4);
    assert!(bench.wants_identity());
}

#[test]
fn what_is_over_behind_a_batch_that_moves_does_not_keep_it_from_its_fresh_identity() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.out_of_sequence(a);
    bench.refused(b);
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.sent(), ("a", 2, 0));
}

// ---- the end of a batch's time ----

#[test]
fn a_batch_that_was_never_sent_is_given_up_for_certain() {
    let mut bench = Bench::new();
    bench.push(&["a"]);
    assert_eq!(bench.queue.deadline(), Some(bench.now + LIMIT));
    bench.pass(LIMIT - Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.told(), []);
    bench.pass(Duration::from_millis(1));
    bench.expire();
    assert_eq!(bench.told(), [("a", TIMED_OUT)]);
    assert_eq!(bench.queue.deadline(), None);
    assert!(bench.queue.is_empty());
}

#[test]
fn a_batch_in_flight_is_told_as_unknown_and_what_is_behind_waits_for_its_answer() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.pass(LIMIT / 2);
    bench.push(&["b"]);
    bench.pass(LIMIT / 2);
    bench.expire();
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    assert!(bench.is_blocked());
    assert!(!bench.queue.is_empty());
    assert_eq!(bench.queue.deadline(), Some(bench.now + LIMIT / 2));
    bench.appended(a, 2);
    assert_eq!(bench.told(), []);
    assert!(bench.wants_identity());
}

#[test]
fn a_batch_that_was_given_up_before_it_left_is_not_waited_for() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.pass(LIMIT);
    bench.expire();
    bench.push(&["b"]);
    assert!(!bench.queue.is_current(a));
    bench.queue.forgo(a);
    assert_eq!(bench.queue.in_flight(), 0);
    assert!(bench.wants_identity());
}

#[test]
fn what_was_sent_behind_a_batch_whose_time_is_over_goes_on_under_its_sequence() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    bench.pass(Duration::from_secs(10));
    bench.push(&["b", "c"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.lost(b);
    bench.pass(LIMIT - Duration::from_secs(10));
    bench.expire();
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    assert_eq!(bench.sent(), ("b", 1, 4));
    assert!(bench.is_blocked(), "c has no sequence, and gets none of the old ones");
}

#[test]
fn only_what_certainly_is_nowhere_fails_unsent() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let a = bench.take();
    assert_eq!(bench.queue.fail_unsent(&Error::closed("door")), 2, "of b alone");
    assert_eq!(
        bench.queue.fail_unsent(&Error::closed("door")),
        0,
        "they are counted once"
    );
    assert_eq!(bench.told(), [], "outcomes are told in order");
    bench.appended(a, 2);
    assert_eq!(bench.told(), [("a", Ok(Some(2))), ("b", CLOSED)]);
}

#[test]
fn what_was_put_off_does_not_fail_unsent() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.put_off(a);
    bench.queue.fail_unsent(&Error::closed("door"));
    assert_eq!(bench.told(), []);
}

#[test]
fn what_waits_after_it_was_sent_fails_as_unknown_with_the_reason_when_nothing_can_be_sent_any_more() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.lost(a);
    bench.queue.fail_waiting(&Error::refused(58));
    assert!(bench.queue.is_current(b), "what is on its way may be answered");
    let told = bench.queue.finished();
    assert_eq!(told.len(), 1, "outcomes are told in order");
    let error = told.into_iter().next().unwrap().outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("code 58"), "{error}");
    bench.appended(b, 4);
    assert_eq!(
        bench.told(),
        [("b", Ok(Some(4))), ("c", Err(ErrorKind::Authentication))]
    );
}

#[test]
fn who_hears_that_time_is_over_hears_why_nothing_could_be_sent() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let a = bench.take();
    bench.lost(a);
    bench.queue.blame(&Error::refused(58));
    bench.push(&["c"]);
    bench.pass(LIMIT);
    bench.expire();
    let told = bench.queue.finished();
    let kinds: Vec<_> = told
        .iter()
        .map(|told| told.outcome.as_ref().unwrap_err().kind())
        .collect();
    assert_eq!(
        kinds,
        [ErrorKind::OutcomeUnknown, ErrorKind::TimedOut, ErrorKind::TimedOut]
    );
    for told in told {
        let error = told.outcome.unwrap_err();
        assert!(error.to_string().contains("code 58"), "{error}");
    }
}

#[test]
fn everything_fails_at_the_end() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b", "c"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.put_off(a);
    bench.queue.fail_all(&Error::closed("producer"));
    assert_eq!(bench.told(), [("a", CLOSED), ("b", CLOSED), ("c", CLOSED)]);
    assert_eq!(bench.queue.in_flight(), 1);
    bench.lost(b);
    assert!(bench.queue.is_empty());
}

#[test]
fn an_outcome_is_told_once() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.pass(LIMIT);
    bench.expire();
    bench.expire();
    bench.queue.fail_all(&Error::closed("producer"));
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    assert_eq!(bench.told(), []);
    bench.appended(a, 2);
    assert_eq!(bench.told(), []);
}

// ---- another leader ----

#[test]
fn what_was_on_its_way_to_the_old_leader_goes_to_the_new_one_under_its_sequence() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    bench.take_all();
    bench.queue.abandon();
    assert_eq!(bench.queue.in_flight(), 0);
    assert_eq!(bench.sent(), ("a", 1, 2));
    assert_eq!(bench.sent(), ("b", 1, 4));
}

#[test]
fn what_was_on_its_way_to_the_old_leader_is_in_doubt() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    bench.take();
    bench.queue.abandon();
    let a = bench.take();
    bench.refused(a);
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
}

#[test]
fn a_late_success_counts_and_a_late_failure_does_not() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.queue.abandon();
    bench.appended(a, 2);
    bench.refused(b);
    assert_eq!(bench.told(), [("a", Ok(Some(2)))]);
    assert_eq!(bench.sent(), ("b", 1, 4));
}

#[test]
fn an_answer_to_an_earlier_try_does_not_end_the_one_on_its_way() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let old = bench.take();
    bench.queue.abandon();
    let new = bench.take();
    bench.refused(old);
    bench.hold(old);
    assert!(bench.queue.is_current(new));
    assert!(!bench.queue.is_current(old));
    assert_eq!(bench.queue.in_flight(), 1);
    bench.appended(new, 2);
    assert_eq!(bench.told(), [("a", Ok(Some(2)))]);
}

#[test]
fn an_answer_to_an_earlier_try_does_not_end_the_wait_for_one_that_was_given_up() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let old = bench.take();
    bench.queue.abandon();
    let new = bench.take();
    bench.pass(LIMIT);
    bench.expire();
    bench.lost(old);
    assert_eq!(bench.queue.in_flight(), 1);
    bench.lost(new);
    assert_eq!(bench.queue.in_flight(), 0);
}

#[test]
fn nobody_waits_for_what_was_given_up_and_is_on_its_way_to_the_old_leader() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.pass(LIMIT);
    bench.expire();
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
    bench.queue.abandon();
    assert!(bench.queue.is_empty());
    bench.appended(a, 2);
    bench.push(&["b"]);
    assert!(bench.wants_identity());
}

#[test]
fn what_was_void_when_the_leader_moved_is_not_in_doubt() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, _b] = [bench.take(), bench.take()];
    bench.refused(a);
    bench.queue.abandon();
    assert!(bench.wants_identity());
    bench.pass(LIMIT);
    bench.expire();
    assert_eq!(bench.told(), [("a", FORBIDDEN), ("b", TIMED_OUT)]);
}

// ---- taking apart ----

fn kept(payload: &'static str) -> Piece<&'static str> {
    Piece::Kept { payload, records: 1 }
}

fn failed(payload: &'static str) -> Piece<&'static str> {
    Piece::Failed {
        payload,
        error: Error::refused(29),
    }
}

#[test]
fn the_pieces_of_a_batch_share_its_sequences_if_none_is_missing() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    assert!(bench.hold(a));
    bench.out_of_sequence(b);
    bench.pause();
    assert!(bench.is_blocked(), "a is not there yet");
    bench.queue.replace(a, vec![kept("a1"), kept("a2")]);
    assert_eq!(bench.sent(), ("a1", 1, 2));
    assert_eq!(bench.sent(), ("a2", 1, 3));
    assert_eq!(bench.sent(), ("b", 1, 4));
}

#[test]
fn when_a_piece_fails_the_others_and_all_behind_go_under_a_fresh_identity() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.hold(a);
    bench.queue.replace(a, vec![failed("a1"), kept("a2")]);
    assert_eq!(bench.told(), [("a1", FORBIDDEN)]);
    assert!(bench.is_blocked(), "b is in flight");
    bench.out_of_sequence(b);
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    let (ticket, sequence, name) = bench.queue.take().unwrap();
    assert_eq!((*name, sequence.base_sequence), ("a2", 0));
    bench.appended(ticket, 2);
    assert_eq!(bench.sent(), ("b", 2, 1));
}

#[test]
fn a_failed_piece_is_told_in_its_turn() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.hold(a);
    bench.queue.replace(a, vec![kept("a1"), failed("a2")]);
    assert_eq!(bench.told(), []);
    bench.identify();
    bench.pause();
    let a1 = bench.take();
    bench.appended(a1, 2);
    assert_eq!(bench.told(), [("a1", Ok(Some(2))), ("a2", FORBIDDEN)]);
}

#[test]
fn a_piece_may_be_retried_as_often_as_a_whole_batch() {
    let mut bench = Bench::with(|rules| rules.max_retries = Some(1));
    bench.identify();
    bench.push(&["a"]);
    let a = bench.take();
    bench.hold(a);
    bench.queue.replace(a, vec![kept("a1"), kept("a2")]);
    let a1 = bench.take();
    bench.put_off(a1);
    assert_eq!(bench.told(), []);
    bench.pause();
    let a1 = bench.take();
    bench.put_off(a1);
    assert_eq!(bench.told(), [("a1", Err(ErrorKind::Refused))]);
}

#[test]
fn a_batch_that_a_broker_may_have_is_not_taken_apart() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.lost(a);
    bench.pause();
    let a = bench.take();
    assert!(!bench.hold(a));
    assert_eq!(bench.told(), [("a", UNKNOWN)]);
}

#[test]
fn pieces_come_too_late_for_a_batch_that_is_over() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.hold(a);
    bench.pass(LIMIT);
    bench.expire();
    assert_eq!(bench.told(), [("a", TIMED_OUT)]);
    bench.queue.replace(a, vec![kept("a1"), kept("a2")]);
    assert!(bench.queue.is_empty());
}

#[test]
fn a_held_batch_stays_held_when_the_leader_moves() {
    let mut bench = Bench::proven();
    bench.push(&["a"]);
    let a = bench.take();
    bench.hold(a);
    bench.queue.abandon();
    assert!(matches!(bench.queue.next(bench.now, true), Next::Blocked));
    bench.queue.replace(a, vec![kept("a1"), kept("a2")]);
    assert_eq!(bench.sent(), ("a1", 1, 2));
}

#[test]
fn a_held_batch_that_cannot_go_as_it_was_is_not_in_the_way_of_a_fresh_identity() {
    let mut bench = Bench::proven();
    bench.push(&["a", "b"]);
    let [a, b] = [bench.take(), bench.take()];
    bench.out_of_sequence(a);
    assert!(bench.hold(b));
    bench.pause();
    assert!(bench.wants_identity());
    bench.identify();
    assert_eq!(bench.sent(), ("a", 2, 0));
    bench.queue.replace(b, vec![kept("b1"), kept("b2")]);
    assert!(bench.is_blocked());
}
