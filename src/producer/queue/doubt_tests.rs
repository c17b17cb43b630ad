//! What becomes of a batch whose sequence a broker does not accept, though it may have it.

use super::*;

const LIMIT: Duration = Duration::from_secs(120);

/// Batches of ten records, of which the first was acknowledged at offset 100 and the others were sent, unanswered.
fn unanswered(batches: usize) -> (Queue<usize>, Instant) {
    #[allow(clippy::disallowed_methods, reason = "some time is needed to start from")]
    let now = Instant::now();
    let mut queue = Queue::new(Rules {
        idempotent: true,
        in_flight: 5,
        max_retries: None,
        backoff: Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(1),
        },
    });
    (0..=batches).for_each(|number| queue.push(number, 10, now + LIMIT));
    assert!(matches!(queue.next(now, false), Next::Identity));
    queue.identify(Identity {
        producer_id: 7,
        epoch: 0,
    });
    let first = send(&mut queue, now);
    assert_eq!(first.len(), 1);
    queue.settle(first[0], appended(Some(100)), now, 0);
    assert_eq!(told(&mut queue), [(0, Some(Some(100)))]);
    for ticket in send(&mut queue, now) {
        let verdict = Verdict::Retry {
            error: Error::new(ErrorKind::Io, "cut"),
            maybe_applied: true,
        };
        queue.settle(ticket, verdict, now, 0);
    }
    (queue, now)
}

fn send(queue: &mut Queue<usize>, now: Instant) -> Vec<Ticket> {
    queue.hasten();
    let mut sent = Vec::new();
    while let Next::Ready = queue.next(now, false) {
        sent.push(queue.take().unwrap().0);
    }
    sent
}

fn appended(offset: Option<i64>) -> Verdict {
    Verdict::Appended(Appended {
        offset,
        timestamp: None,
    })
}

fn misplaced() -> Verdict {
    Verdict::OutOfSequence(Error::refused(45))
}

/// What was told: offsets, or none for an outcome that is unknown.
fn told(queue: &mut Queue<usize>) -> Vec<(usize, Option<Option<i64>>)> {
    let outcome = |outcome: Outcome| match outcome {
        Ok(appended) => Some(appended.offset),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
            None
        }
    };
    let finished = queue.finished().into_iter();
    finished
        .map(|finished| (finished.payload, outcome(finished.outcome)))
        .collect()
}

#[test]
fn batches_before_an_acknowledged_one_are_in_the_log_whatever_the_broker_remembers() {
    let (mut queue, now) = unanswered(3);
    let sent = send(&mut queue, now);
    assert_eq!(sent.len(), 3);
    queue.settle(sent[0], misplaced(), now, 0);
    queue.settle(sent[1], misplaced(), now, 0);
    queue.settle(sent[2], appended(Some(130)), now, 0);
    assert_eq!(told(&mut queue), [], "nothing is known of the first");
    let sent = send(&mut queue, now);
    assert_eq!(sent.len(), 2);
    queue.settle(sent[0], misplaced(), now, 0);
    assert_eq!(told(&mut queue), [(1, Some(None))]);
    queue.settle(sent[1], misplaced(), now, 0);
    assert_eq!(told(&mut queue), [(2, Some(None)), (3, Some(Some(130)))]);
    // And it goes on under the same identity.
    queue.push(4, 10, now + LIMIT);
    assert_eq!(send(&mut queue, now).len(), 1);
}

#[test]
fn batches_that_are_all_refused_as_out_of_sequence_are_given_up() {
    let (mut queue, now) = unanswered(3);
    let mut rounds = 0;
    let mut all = Vec::new();
    while !queue.is_empty() {
        rounds += 1;
        for ticket in send(&mut queue, now) {
            queue.settle(ticket, misplaced(), now, 0);
        }
        all.extend(told(&mut queue));
    }
    assert_eq!(all, [(1, None), (2, None), (3, None)]);
    assert!(rounds <= 3, "{rounds}");
    queue.push(4, 10, now + LIMIT);
    assert!(matches!(queue.next(now, false), Next::Identity));
}

/// As when the log is another, or the broker knew nothing of the producer and took what came first.
#[test]
fn an_offset_that_leaves_no_room_for_them_proves_nothing() {
    for offset in [Some(129), Some(110), Some(0), None] {
        let (mut queue, now) = unanswered(3);
        let sent = send(&mut queue, now);
        queue.settle(sent[0], misplaced(), now, 0);
        queue.settle(sent[1], misplaced(), now, 0);
        queue.settle(sent[2], appended(offset), now, 0);
        for _ in 0..2 {
            for ticket in send(&mut queue, now) {
                queue.settle(ticket, misplaced(), now, 0);
            }
        }
        assert_eq!(told(&mut queue), [(1, None), (2, None), (3, Some(offset))]);
    }
}

/// Brokers remember five batches: with more behind it, the first would not be recognised any more.
#[test]
fn nothing_is_sent_far_ahead_of_a_batch_without_an_outcome() {
    let (mut queue, now) = unanswered(9);
    let sent = send(&mut queue, now);
    assert_eq!(sent.len(), 5);
    for (ticket, offset) in sent[1..].iter().zip((120..).step_by(10)) {
        queue.settle(*ticket, appended(Some(offset)), now, 0);
    }
    assert!(matches!(queue.next(now, true), Next::Blocked));
    let verdict = Verdict::Retry {
        error: Error::refused(7),
        maybe_applied: true,
    };
    queue.settle(sent[0], verdict, now, 0);
    let sent = send(&mut queue, now);
    assert_eq!(sent.len(), 1, "only itself");
    queue.settle(sent[0], appended(Some(110)), now, 0);
    assert_eq!(told(&mut queue).len(), 5);
    assert_eq!(send(&mut queue, now).len(), 4);
}

#[test]
fn the_last_one_in_doubt_is_given_up_at_once() {
    let (mut queue, now) = unanswered(1);
    let sent = send(&mut queue, now);
    queue.settle(sent[0], misplaced(), now, 0);
    assert_eq!(told(&mut queue), [(1, None)]);
}

#[test]
fn a_broker_that_does_not_know_the_topic_for_a_moment_does_not_keep_those_behind_from_telling() {
    let (mut queue, now) = unanswered(3);
    for ticket in send(&mut queue, now) {
        let verdict = Verdict::Retry {
            error: Error::refused(3),
            maybe_applied: true,
        };
        queue.settle(ticket, verdict, now, 0);
    }
    let mut all = Vec::new();
    for _ in 0..10 {
        for ticket in send(&mut queue, now) {
            let verdict = if ticket.id == 3 {
                appended(Some(130))
            } else {
                misplaced()
            };
            queue.settle(ticket, verdict, now, 0);
        }
        all.extend(told(&mut queue));
    }
    assert_eq!(all, [(1, Some(None)), (2, Some(None)), (3, Some(Some(130)))]);
}
