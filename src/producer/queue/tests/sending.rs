//! What may be sent, and what has to be there first.

use super::*;

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
