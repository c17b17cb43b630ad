//! A partition between its callers, senders of old and new leaders, and the keeper: whoever comes when.

use super::*;
use crate::{
    cluster::Backoff,
    error::ErrorKind,
    producer::{
        config::Acks,
        queue::{Appended, Ticket, Verdict},
        sequence::Identity,
    },
    wire::batch::stamp,
};

struct Bench {
    env: Arc<Env>,
    partition: Arc<Partition>,
    old: Arc<Inbox>,
    new: Arc<Inbox>,
    identities: i64,
}

impl Bench {
    /// Led by the broker of `old`, with an identity if it is to have one.
    fn new() -> Self {
        Self::with(ProducerConfig::default())
    }

    fn with(config: ProducerConfig) -> Self {
        let config = ProducerConfig {
            linger: Duration::ZERO,
            ..config
        };
        let rules = Rules {
            idempotent: config.is_idempotent(),
            in_flight: config.in_flight_per_partition(),
            max_retries: None,
            backoff: Backoff {
                min: Duration::ZERO,
                max: Duration::ZERO,
            },
        };
        let env = Arc::new(Env {
            rules,
            memory: Memory::new(config.buffer_bytes, || ()),
            ledger: Arc::default(),
            callbacks: Callbacks::new(None),
            closing: Stop::new("producer"),
            config,
        });
        let batch_bytes = Arc::new(AtomicUsize::new(env.config.batch_bytes));
        let partition = Partition::new(Arc::from("t"), 3, Arc::clone(&env), batch_bytes);
        let (old, new) = (Inbox::new(1), Inbox::new(2));
        assert!(partition.place(1, Some(&old)));
        let mut bench = Self {
            env,
            partition,
            old,
            new,
            identities: 0,
        };
        if bench.env.rules.idempotent {
            bench.identify();
        }
        bench
    }

    /// One whose identity is known to the broker: several batches may be in flight.
    fn proven() -> Self {
        let bench = Self::new();
        let first = bench.put("first");
        let sent = bench.send(&bench.old);
        bench.appended(sent, 0);
        assert_eq!(outcome(&first), Some(Ok(Some(0))));
        bench
    }

    fn identify(&mut self) {
        self.identities += 1;
        self.partition.identify(Identity {
            producer_id: self.identities,
            epoch: 0,
        });
    }

    /// Into the batch that is being filled.
    fn put(&self, value: &str) -> Delivery {
        let parts = Parts {
            timestamp: 7,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        match self.partition.put(parts, &mut Some(Watch::Delivery), &mut None) {
            Ok(Put::Written {
                delivery: Some(delivery),
                ..
            }) => delivery,
            Ok(_) => panic!("no room, or no delivery"),
            Err(error) => panic!("{error}"),
        }
    }

    /// In a batch of its own.
    fn put_alone(&self, value: &str) -> Delivery {
        let delivery = self.put(value);
        self.partition
            .seal_older_than(Duration::ZERO, now() + Duration::from_secs(1));
        delivery
    }

    fn poll(&self, sender: &Arc<Inbox>) -> Poll {
        self.partition.poll(sender, now())
    }

    fn take(&self, sender: &Arc<Inbox>) -> Taken {
        assert!(matches!(self.poll(sender), Poll::Ready), "{:?}", self.poll(sender));
        self.partition.take(sender, now(), usize::MAX).unwrap()
    }

    /// What a sender does with what it has taken: says whether it is to be sent.
    fn give_back(&self, taken: Taken) -> bool {
        let bytes = match taken.body {
            Body::Closed(mut buffer) => {
                stamp(buffer.bytes_mut(), taken.sequence);
                Arc::new(buffer)
            }
            Body::Stamped(bytes, _) => bytes,
            other => panic!("{other:?}"),
        };
        self.partition.give_back(taken.ticket, &bytes, taken.sequence)
    }

    fn send(&self, sender: &Arc<Inbox>) -> Ticket {
        let taken = self.take(sender);
        let ticket = taken.ticket;
        assert!(self.give_back(taken));
        ticket
    }

    fn settle(&self, ticket: Ticket, verdict: Verdict) -> Option<Held> {
        self.partition.settle(&self.old, ticket, verdict, 0)
    }

    fn appended(&self, ticket: Ticket, offset: i64) {
        let appended = Appended {
            offset: Some(offset),
            timestamp: None,
        };
        assert!(self.settle(ticket, Verdict::Appended(appended)).is_none());
    }

    fn lost(&self, ticket: Ticket) {
        let verdict = Verdict::Retry {
            error: Error::closed("connection"),
            maybe_applied: true,
        };
        assert!(self.settle(ticket, verdict).is_none());
    }

    fn hold(&self, ticket: Ticket) -> Held {
        let verdict = Verdict::TakeApart(Error::refused(10));
        self.settle(ticket, verdict).unwrap()
    }

    fn expire(&self) {
        self.partition.expire(now() + self.env.config.delivery_timeout);
    }

    fn piece(&self, records: std::ops::Range<u32>) -> Part {
        let memory = &self.env.memory;
        let mut buffer = memory.buffer(memory.force(1 << 10));
        let mut writer = BatchWriter::start(buffer.bytes_mut());
        for _ in records.clone() {
            writer.append(buffer.bytes_mut(), 7, None, None, &[]).unwrap();
        }
        writer.close(buffer.bytes_mut(), Flags::default());
        Part::Kept(buffer, records)
    }

    /// Nothing is owed any more, and nothing is held.
    fn assert_settled(&self) {
        assert!(!self.partition.has_work());
        assert!(self.env.ledger.is_settled());
        assert_eq!(self.env.memory.held(), 0);
    }
}

fn outcome(delivery: &Delivery) -> Option<std::result::Result<Option<i64>, ErrorKind>> {
    let outcome = delivery.poll()?;
    Some(outcome.map(|told| told.offset).map_err(|error| error.kind()))
}

#[test]
fn a_batch_longer_than_the_room_that_is_left_stays_where_it_is() {
    let bench = Bench::new();
    let open = bench.put("0123456789");
    assert!(bench.partition.take(&bench.old, now(), HEADER + 10).is_none());
    let whole = HEADER + record_size(None, Some(b"0123456789"), &[]);
    let taken = bench.partition.take(&bench.old, now(), whole).unwrap();
    let ticket = taken.ticket;
    assert!(bench.give_back(taken));
    bench.appended(ticket, 0);
    let closed = bench.put_alone("0123456789");
    assert!(bench.partition.take(&bench.old, now(), HEADER + 10).is_none());
    assert!(bench.partition.take(&bench.old, now(), whole).is_some());
    assert!(outcome(&open).is_some() && outcome(&closed).is_none());
}

#[test]
fn a_batch_goes_to_its_sender_and_leaves_nothing_behind() {
    let bench = Bench::new();
    let [a, b] = [bench.put("a"), bench.put("b")];
    assert!(matches!(bench.poll(&bench.new), Poll::Gone));
    assert!(bench.partition.take(&bench.new, now(), usize::MAX).is_none());
    let sent = bench.send(&bench.old);
    assert!(outcome(&a).is_none());
    bench.appended(sent, 40);
    assert_eq!([outcome(&a), outcome(&b)], [Some(Ok(Some(40))), Some(Ok(Some(41)))]);
    assert!(matches!(bench.poll(&bench.old), Poll::Idle));
    bench.assert_settled();
}

#[test]
fn an_identity_is_asked_for_once() {
    let mut bench = Bench::new();
    let _a = bench.put("a");
    let sent = bench.send(&bench.old);
    let verdict = Verdict::Refused {
        error: Error::refused(29),
        maybe_applied: false,
    };
    assert!(bench.settle(sent, verdict).is_none());
    let b = bench.put("b");
    assert!(matches!(bench.poll(&bench.old), Poll::Nameless(true)));
    assert!(matches!(bench.poll(&bench.old), Poll::Nameless(false)));
    assert!(bench.partition.take(&bench.old, now(), usize::MAX).is_none());
    bench.identify();
    let taken = bench.take(&bench.old);
    assert_eq!((taken.sequence.producer_id, taken.sequence.base_sequence), (2, 0));
    assert!(outcome(&b).is_none());
}

#[test]
fn what_is_given_up_while_a_sender_prepares_it_is_not_sent_and_the_next_batch_is() {
    let mut bench = Bench::new();
    let a = bench.put("a");
    let taken = bench.take(&bench.old);
    bench.expire();
    assert_eq!(outcome(&a), Some(Err(ErrorKind::OutcomeUnknown)));
    let b = bench.put("b");
    assert!(!bench.give_back(taken));
    assert!(matches!(bench.poll(&bench.old), Poll::Nameless(true)));
    bench.identify();
    let sent = bench.send(&bench.old);
    bench.appended(sent, 1);
    assert_eq!(outcome(&b), Some(Ok(Some(1))));
    bench.assert_settled();
}

#[test]
fn what_the_old_sender_has_in_hand_is_sent_by_the_new_one_once_it_is_given_back() {
    let bench = Bench::new();
    let a = bench.put("a");
    let taken = bench.take(&bench.old);
    let sequence = taken.sequence;
    bench.partition.place(2, Some(&bench.new));
    assert_eq!(bench.new.take().len(), 1);
    assert!(matches!(bench.poll(&bench.old), Poll::Gone));
    assert!(matches!(bench.poll(&bench.new), Poll::Blocked));
    assert!(bench.partition.take(&bench.new, now(), usize::MAX).is_none());
    bench.new.bell().quiet();
    assert!(!bench.give_back(taken));
    assert!(bench.new.bell().is_rung(), "nobody woke the new sender");
    let taken = bench.take(&bench.new);
    assert_eq!(taken.sequence, sequence);
    assert!(matches!(&taken.body, Body::Stamped(_, stamped) if *stamped == sequence));
    let ticket = taken.ticket;
    assert!(bench.give_back(taken));
    bench.appended(ticket, 0);
    assert_eq!(outcome(&a), Some(Ok(Some(0))));
    bench.assert_settled();
}

#[test]
fn what_the_old_sender_gives_back_after_its_end_is_dropped() {
    let bench = Bench::new();
    let a = bench.put("a");
    let taken = bench.take(&bench.old);
    bench.partition.place(2, Some(&bench.new));
    bench.expire();
    assert_eq!(outcome(&a), Some(Err(ErrorKind::OutcomeUnknown)));
    assert!(!bench.give_back(taken));
    bench.assert_settled();
}

#[test]
fn a_late_success_from_the_old_leader_counts() {
    let bench = Bench::proven();
    let [a, b] = [bench.put_alone("a"), bench.put_alone("b")];
    let [first, second] = [bench.send(&bench.old), bench.send(&bench.old)];
    bench.partition.place(2, Some(&bench.new));
    bench.appended(first, 1);
    assert_eq!(outcome(&a), Some(Ok(Some(1))));
    let again = bench.send(&bench.new);
    // What it is told while the new leader has it, that one will say too.
    bench.appended(second, 2);
    assert_eq!(outcome(&b), None);
    bench.appended(again, 2);
    assert_eq!(outcome(&b), Some(Ok(Some(2))));
    bench.assert_settled();
}

#[test]
fn an_answer_to_an_earlier_try_does_nothing_to_what_a_sender_has_in_hand() {
    let bench = Bench::proven();
    let a = bench.put("a");
    let first = bench.send(&bench.old);
    bench.partition.place(2, Some(&bench.new));
    let taken = bench.take(&bench.new);
    bench.lost(first);
    assert!(bench.settle(first, Verdict::TakeApart(Error::refused(10))).is_none());
    bench.appended(first, 1);
    let ticket = taken.ticket;
    assert!(bench.give_back(taken));
    bench.appended(ticket, 1);
    assert_eq!(outcome(&a), Some(Ok(Some(1))));
    bench.assert_settled();
}

#[test]
fn a_partition_without_a_leader_keeps_what_it_has() {
    let bench = Bench::proven();
    let a = bench.put("a");
    let first = bench.send(&bench.old);
    bench.old.take();
    assert!(!bench.partition.place(-1, None));
    assert!(matches!(bench.poll(&bench.old), Poll::Gone));
    let b = bench.put("b");
    bench.lost(first);
    assert!(bench.partition.place(1, Some(&bench.old)));
    assert_eq!(bench.old.take().len(), 1, "nobody told the sender");
    for offset in [1, 2] {
        let sent = bench.send(&bench.old);
        bench.appended(sent, offset);
    }
    assert_eq!([outcome(&a), outcome(&b)], [Some(Ok(Some(1))), Some(Ok(Some(2)))]);
    bench.assert_settled();
}

#[test]
fn without_idempotence_the_answer_is_awaited_before_the_new_leader_gets_anything() {
    let bench = Bench::with(ProducerConfig {
        acks: Acks::Leader,
        ..ProducerConfig::default()
    });
    let [a, b] = [bench.put_alone("a"), bench.put_alone("b")];
    let first = bench.send(&bench.old);
    assert!(bench.partition.place(2, Some(&bench.new)));
    assert!(matches!(bench.poll(&bench.new), Poll::Gone));
    assert!(matches!(bench.poll(&bench.old), Poll::Blocked));
    bench.appended(first, 0);
    bench.partition.place(2, Some(&bench.new));
    let second = bench.send(&bench.new);
    bench.appended(second, 0);
    assert_eq!([outcome(&a), outcome(&b)], [Some(Ok(Some(0))), Some(Ok(Some(0)))]);
    bench.assert_settled();
}

// ---- taking apart ----

#[test]
fn the_pieces_of_a_batch_answer_for_their_own_records() {
    let mut bench = Bench::proven();
    let deliveries = ["a", "b", "c", "d"].map(|value| bench.put(value));
    let sent = bench.send(&bench.old);
    let held = bench.hold(sent);
    assert_eq!(held.records, 4);
    assert!(matches!(bench.poll(&bench.old), Poll::Idle));
    let failed = Part::Failed(Error::refused(87), 1..2);
    let parts = vec![bench.piece(0..1), failed, bench.piece(2..4)];
    bench.partition.replace(&bench.old, held.ticket, parts);
    drop(held);
    assert!(matches!(bench.poll(&bench.old), Poll::Nameless(true)));
    bench.identify();
    for offset in [1, 2] {
        let sent = bench.send(&bench.old);
        bench.appended(sent, offset);
    }
    let outcomes = deliveries.each_ref().map(|delivery| outcome(delivery).unwrap());
    assert_eq!(
        outcomes,
        [Ok(Some(1)), Err(ErrorKind::InvalidRecord), Ok(Some(2)), Ok(Some(3))]
    );
    bench.assert_settled();
}

#[test]
fn a_batch_may_be_given_up_while_it_is_taken_apart() {
    let bench = Bench::proven();
    let [a, b] = [bench.put("a"), bench.put("b")];
    let sent = bench.send(&bench.old);
    let held = bench.hold(sent);
    bench.expire();
    assert_eq!(
        [outcome(&a), outcome(&b)],
        [Some(Err(ErrorKind::TimedOut)), Some(Err(ErrorKind::TimedOut))]
    );
    bench
        .partition
        .replace(&bench.old, held.ticket, vec![bench.piece(0..1), bench.piece(1..2)]);
    drop(held);
    bench.assert_settled();
}

#[test]
fn the_leader_may_move_while_a_batch_is_taken_apart() {
    let bench = Bench::proven();
    let [a, b] = [bench.put("a"), bench.put("b")];
    let sent = bench.send(&bench.old);
    let held = bench.hold(sent);
    bench.partition.place(2, Some(&bench.new));
    assert!(matches!(bench.poll(&bench.new), Poll::Idle));
    bench.new.bell().quiet();
    bench
        .partition
        .replace(&bench.old, held.ticket, vec![bench.piece(0..1), bench.piece(1..2)]);
    drop(held);
    assert!(bench.new.bell().is_rung(), "nobody woke the new sender");
    let [first, second] = [bench.take(&bench.new), bench.take(&bench.new)];
    assert_eq!([first.sequence.base_sequence, second.sequence.base_sequence], [1, 2]);
    for (taken, offset) in [(first, 1), (second, 2)] {
        let ticket = taken.ticket;
        assert!(bench.give_back(taken));
        bench.appended(ticket, offset);
    }
    assert_eq!([outcome(&a), outcome(&b)], [Some(Ok(Some(1))), Some(Ok(Some(2)))]);
    bench.assert_settled();
}

// ---- the end ----

#[test]
fn what_is_being_filled_has_its_time_too() {
    let bench = Bench::new();
    let a = bench.put("a");
    assert!(bench.partition.deadline().is_some());
    bench.expire();
    assert_eq!(outcome(&a), Some(Err(ErrorKind::TimedOut)));
    assert!(bench.partition.deadline().is_none());
    bench.assert_settled();
}

#[test]
fn the_end_takes_everything_out_and_nothing_in() {
    let bench = Bench::proven();
    let [a, b] = [bench.put_alone("a"), bench.put_alone("b")];
    let c = bench.put("c");
    let sent = bench.send(&bench.old);
    let error = Error::closed("producer");
    assert_eq!(bench.partition.end(&error), 3);
    assert_eq!(bench.partition.end(&error), 3);
    assert_eq!(outcome(&a), Some(Err(ErrorKind::OutcomeUnknown)));
    assert_eq!(
        [outcome(&b), outcome(&c)],
        [Some(Err(ErrorKind::Closed)), Some(Err(ErrorKind::Closed))]
    );
    let parts = Parts {
        timestamp: 7,
        key: None,
        value: None,
        headers: &[],
    };
    assert!(bench.partition.put(parts, &mut None, &mut None).is_err());
    bench.appended(sent, 1);
    assert_eq!(outcome(&a), Some(Err(ErrorKind::OutcomeUnknown)));
    bench.assert_settled();
}

#[test]
fn what_was_not_sent_is_taken_out_and_what_was_goes_on() {
    let bench = Bench::proven();
    let a = bench.put_alone("a");
    let sent = bench.send(&bench.old);
    let b = bench.put("b");
    bench.partition.fail_unsent(&Error::closed("door"));
    bench.appended(sent, 1);
    assert_eq!(
        [outcome(&a), outcome(&b)],
        [Some(Ok(Some(1))), Some(Err(ErrorKind::Closed))]
    );
    bench.assert_settled();
}

#[test]
fn a_failure_is_untold_if_and_only_if_a_delivery_was_dropped_before_it() {
    for dropped in [&[][..], &[0], &[2], &[0, 1, 2, 3], &[3, 1], &[1, 2, 0]] {
        let bench = Bench::new();
        let mut deliveries: Vec<_> = (0..4).map(|i| Some(bench.put(&i.to_string()))).collect();
        for &index in dropped {
            deliveries[index] = None;
        }
        bench.partition.fail_unsent(&Error::protocol("refused"));
        for delivery in deliveries.iter().flatten() {
            assert!(delivery.poll().unwrap().is_err());
        }
        assert_eq!(
            bench.env.ledger.take_untold().is_some(),
            !dropped.is_empty(),
            "{dropped:?}"
        );
        drop(deliveries);
        assert!(bench.env.ledger.take_untold().is_none(), "{dropped:?}");
    }
}

/// What the cluster says of a topic.
fn told(name: &str, id: u128, partitions: i32) -> crate::cluster::Topic {
    let partition = |index| crate::cluster::Partition {
        index,
        leader: 1,
        leader_epoch: 0,
        replicas: vec![1],
        in_sync: vec![1],
        error: 0,
    };
    crate::cluster::Topic {
        name: Arc::from(name),
        id: uuid::Uuid::from_u128(id),
        is_internal: false,
        partitions: (0..partitions).map(partition).collect(),
        error: 0,
        fetched_at: now(),
    }
}

#[test]
fn a_topic_that_grows_keeps_the_partitions_that_it_had() {
    let bench = Bench::new();
    let topics = crate::producer::topics::Topics::default();
    let learn = |count| topics.learn(&told("t", 1, count), &bench.env, 1);
    let (small, large) = (learn(2), learn(3));
    assert_eq!((small.all().len(), large.all().len()), (2, 3));
    assert!(
        small
            .all()
            .iter()
            .zip(large.all())
            .all(|(one, same)| Arc::ptr_eq(one, same))
    );
    // What is known already, or was known before, changes nothing.
    assert!(Arc::ptr_eq(&learn(3), &large) && Arc::ptr_eq(&learn(2), &large));
    assert!(Arc::ptr_eq(&topics.known("t").unwrap(), &large));
}

#[test]
fn a_glimpse_of_a_topic_is_what_is_known_of_it_or_nothing() {
    let bench = Bench::new();
    let topics = crate::producer::topics::Topics::default();
    let learn = |name: &str, count| topics.learn(&told(name, 1, count), &bench.env, 1);
    let seen = |name: &str| topics.glimpse(name).map(std::ptr::from_ref);
    assert_eq!(seen("a"), None);
    // As many as there is place for, and then some.
    let mut glimpses = 0;
    for round in 0..6 {
        for name in ["a", "b", "c"] {
            let known = learn(name, 1 + round);
            let seen = seen(name);
            assert!(seen.is_none_or(|seen| seen == Arc::as_ptr(&known)), "{name} {round}");
            glimpses += usize::from(seen.is_some());
        }
    }
    assert!((6..18).contains(&glimpses), "{glimpses}");

    let (small, other) = (learn("d", 1), learn("e", 1));
    assert_eq!((seen("d"), seen("e")), (None, None));
    assert!(
        Arc::ptr_eq(&topics.known("d").unwrap(), &small) && topics.forget("e").is_some_and(|e| Arc::ptr_eq(&e, &other))
    );
}

#[test]
fn a_topic_that_was_forgotten_is_seen_again_only_when_it_was_learnt_again() {
    let bench = Bench::new();
    let topics = crate::producer::topics::Topics::default();
    let first = topics.learn(&told("t", 1, 2), &bench.env, 1);
    assert!(topics.glimpse("t").is_some_and(|seen| std::ptr::eq(seen, &*first)));
    assert!(topics.forget("t").is_some() && topics.forget("t").is_none());
    assert!(topics.glimpse("t").is_none() && topics.known("t").is_none());
    let second = topics.learn(&told("t", 2, 1), &bench.env, 1);
    assert!(topics.glimpse("t").is_some_and(|seen| std::ptr::eq(seen, &*second)));
    assert!(!Arc::ptr_eq(&first.all()[0], &second.all()[0]));
}
