//! What a broker does not take, and what lies behind it.

use super::*;

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
