//! After a failure: what is sent again, when, and how often.

use super::*;

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
