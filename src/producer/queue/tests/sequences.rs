//! Batches that are out of sequence.

use super::*;

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
