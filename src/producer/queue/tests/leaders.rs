//! What was on its way when the leader moved.

use super::*;

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
