//! Batches that are taken apart.

use super::*;

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
