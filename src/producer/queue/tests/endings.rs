//! The end of a batch's time, and of the producer's.

use super::*;

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
