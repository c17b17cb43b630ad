//! A partition of a group: what is committed, and what comes again, whatever happens to it.

#![allow(clippy::disallowed_methods, reason = "the test plays the drivers")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use uuid::Uuid;

use super::{preparing::Prepared, *};
use crate::{
    cluster::{Cluster, ClusterConfig},
    consumer::{
        acks::{AckMode, CommitOrder},
        buffer::{State, Subscription, Turn},
        config::{FetchConfig, PrefetchRule},
        fetch_lane::{LaneEntry, Role},
        handover::{Claim, ClaimFrom},
        lease::Lease,
        ownership::{Terms, Validity},
        partition::Ends,
    },
    offset::{StartAt, TopicPartition},
    wire::batch::{Compression, Compressor, Flags, tests::TestBatch},
};

const BROKER: i32 = 1;

struct World {
    shared: Arc<Shared>,
    slot: Slot,
    fetcher: Fetcher,
}

impl World {
    fn new(mode: AckMode) -> Self {
        Self::with(mode, FetchConfig::default())
    }

    /// A partition that the group has committed nothing past its first record of.
    fn with(mode: AckMode, config: FetchConfig) -> Self {
        let cluster = Cluster::connect_lazy(ClusterConfig::default());
        let subscription = Subscription::Group(vec![Arc::from("orders")]);
        let validity = Arc::new(Validity::new(Instant::now()));
        validity.set(Some(Instant::now() + Duration::from_secs(3600)));
        let terms = Terms {
            mode,
            order: CommitOrder::default(),
            window: config.prefetch_count,
            rule: config.prefetch_rule,
            validity,
        };
        let shared = Shared::new(cluster, config, subscription, false);
        // Known lanes, so that none is started.
        for role in [Role::Session, Role::Express] {
            let entry = LaneEntry::default();
            shared.lock().lanes.insert((BROKER, role), entry);
        }
        let name = TopicPartition::new("orders", 0);
        let claim = Claim {
            name: name.clone(),
            topic_id: Uuid::from_u128(1),
            leader: Some((BROKER, 0)),
            from: ClaimFrom::Committed { offset: 0, epoch: -1 },
        };
        shared.claim(vec![claim], &terms);
        let (slot, cell) = {
            let mut state = shared.lock();
            let slot = state.index[&name];
            let partition = state.partitions.get_mut(&slot).unwrap();
            partition.ends = Some(Ends {
                high_watermark: 100,
                last_stable: 100,
            });
            (slot, Arc::clone(&partition.cell))
        };
        let fetcher = Fetcher {
            shared: Arc::clone(&shared),
            slot,
            cell,
            decoder: Decoder::new(1 << 20),
            expansion: Expansion::default(),
        };
        Self { shared, slot, fetcher }
    }

    /// One more batch arrives, and is decoded.
    fn arrive(&mut self, records: i64) {
        let raw = self.land(records);
        self.fetcher.decode(raw);
    }

    /// One more batch arrives.
    fn land(&self, records: i64) -> Raw {
        {
            let mut state = self.shared.lock();
            let State { partitions, budget, .. } = &mut *state;
            let partition = partitions.get_mut(&self.slot).unwrap();
            let from = partition.position;
            let mut writer = TestBatch::new();
            for offset in from..from + records {
                writer.append(offset, None, Some(b"value"), &[]);
            }
            let mut compressor = Compressor::new(Compression::None, None).unwrap();
            let bytes = writer.finish(from, Flags::default(), &mut compressor);
            budget.change(&mut partition.account, |account| account.raw += bytes.len());
            partition.position = from + records;
            Raw {
                is_plain: true,
                epoch: partition.epoch(),
                from,
                bytes,
                records: 0,
                growth: 0,
                aborted: Vec::new(),
                readable_end: from + records,
                problem: None,
            }
        }
    }

    /// One answer of many compressed batches arrives, each of which inflates to half a megabyte.
    fn land_compressed(&self, batches: i64) -> Raw {
        let mut state = self.shared.lock();
        let State { partitions, budget, .. } = &mut *state;
        let partition = partitions.get_mut(&self.slot).unwrap();
        let from = partition.position;
        let mut bytes = Vec::new();
        for offset in from..from + batches {
            let mut writer = TestBatch::new();
            writer.append(0, None, Some(&vec![7; 512 << 10]), &[]);
            let mut compressor = Compressor::new(Compression::Lz4, None).unwrap();
            bytes.extend(writer.finish(offset, Flags::default(), &mut compressor));
        }
        budget.change(&mut partition.account, |account| account.raw += bytes.len());
        partition.position = from + batches;
        Raw {
            is_plain: false,
            epoch: partition.epoch(),
            from,
            bytes,
            records: 0,
            growth: 0,
            aborted: Vec::new(),
            readable_end: from + batches,
            problem: None,
        }
    }

    /// As when it has just landed.
    fn queue(&self, raw: Raw) {
        let mut state = self.shared.lock();
        state.partitions.get_mut(&self.slot).unwrap().raw.push_back(raw);
    }

    fn lease(&self, before: Option<Lease>) -> Option<Lease> {
        match self.shared.next_lease(before, Some(Instant::now())) {
            Turn::Lease(lease) => Some(lease),
            _ => None,
        }
    }

    fn committable(&self) -> Option<i64> {
        self.shared.progress().first().map(|progress| progress.offset)
    }

    fn position(&self) -> i64 {
        self.shared.lock().partitions[&self.slot].position
    }
}

#[cfg(feature = "lz4")]
#[test]
fn what_is_compressed_is_inflated_as_it_is_wanted() {
    const BATCHES: i64 = 12;
    let mut world = World::new(AckMode::OnNext);
    let raw = world.land_compressed(BATCHES);
    let World { shared, slot, fetcher } = &mut world;
    let (shared, slot) = (&*shared, *slot);
    let ready = || shared.lock().partitions[&slot].account.ready;
    std::thread::scope(|scope| {
        let decoding = scope.spawn(move || fetcher.decode(raw));
        let wake = Arc::clone(&shared.lock().partitions[&slot].wake);
        // Until somebody was there to be woken.
        while !wake.notify_one() {
            assert!(!decoding.is_finished(), "all of it is there, and nothing was taken");
            std::thread::yield_now();
        }
        let (mut held, mut seen) = (None, 0);
        while seen < BATCHES {
            let ready = ready();
            if ready > 3 * AHEAD {
                shared.close(); // else it is waited for
                panic!("{ready} bytes are ready");
            }
            let until = Instant::now() + Duration::from_secs(60);
            let Turn::Lease(mut lease) = shared.next_lease(held.take(), Some(until)) else {
                panic!("the fetcher went to sleep");
            };
            while let Some(message) = lease.next() {
                message.unwrap();
                seen += 1;
            }
            held = Some(lease);
        }
    });
}

#[cfg(feature = "lz4")]
#[test]
fn what_is_compressed_comes_while_nothing_of_it_is_acked() {
    // Half of what a window may hold in the program's hand.
    const BATCHES: i64 = 6;
    let mut world = World::new(AckMode::Explicit);
    let raw = world.land_compressed(BATCHES);
    let World { shared, slot, fetcher } = &mut world;
    let (shared, slot) = (&*shared, *slot);
    {
        // The window is full of what waits to be inflated, and of the Fetch that is under way.
        let mut state = shared.lock();
        let State { partitions, budget, .. } = &mut *state;
        let partition = partitions.get_mut(&slot).unwrap();
        budget.change(&mut partition.account, |account| {
            (account.raw, account.reserved) = (account.raw + (4 << 20), 4 << 20);
        });
    }
    std::thread::scope(|scope| {
        scope.spawn(move || fetcher.decode(raw));
        let (mut held, mut kept) = (None, Vec::new());
        while kept.len() < BATCHES as usize {
            let until = Instant::now() + Duration::from_secs(30);
            let Turn::Lease(mut lease) = shared.next_lease(held.take(), Some(until)) else {
                shared.close(); // else it is waited for
                panic!("nothing comes any more, and {} of {BATCHES} are in hand", kept.len());
            };
            while let Some(message) = lease.next() {
                kept.push(message.unwrap());
            }
            held = Some(lease);
        }
    });
}

/// Nobody runs the fetcher here.
#[test]
fn a_few_records_are_there_without_their_fetcher() {
    let world = World::new(AckMode::OnNext);
    let raw = world.land(3);
    world.queue(raw);
    decode_few(&world.shared, &mut None, vec![world.slot]);
    let mut lease = world.lease(None).unwrap();
    for offset in 0..3 {
        assert_eq!(lease.next().unwrap().unwrap().offset(), offset);
    }
    let state = world.shared.lock();
    let partition = &state.partitions[&world.slot];
    assert!(!partition.decoding && !partition.is_lent && partition.raw.is_empty());
    assert_eq!(partition.account.raw, 0);
}

#[cfg(feature = "lz4")]
#[test]
fn what_may_have_to_wait_for_room_is_left_to_its_fetcher() {
    let world = World::new(AckMode::OnNext);
    let raw = world.land_compressed(1);
    world.queue(raw);
    decode_few(&world.shared, &mut None, vec![world.slot]);
    assert_eq!(world.shared.lock().partitions[&world.slot].raw.len(), 1);
    // Nor does what comes behind overtake it.
    let raw = world.land(3);
    world.queue(raw);
    decode_few(&world.shared, &mut None, vec![world.slot]);
    assert_eq!(world.shared.lock().partitions[&world.slot].raw.len(), 2);
}

#[test]
fn a_fetcher_waits_while_the_lane_has_its_records_and_is_told_what_is_left_to_do() {
    let world = World::new(AckMode::OnNext);
    let raw = world.land(3);
    world.queue(raw);
    assert!(world.shared.lend(world.slot).is_some());
    let (shared, slot) = (&world.shared, world.slot);
    let fetcher = &world.fetcher;
    std::thread::scope(|scope| {
        let job = scope.spawn(move || fetcher.wait());
        world.queue(world.land(3));
        assert!(shared.lend(slot).is_none(), "it comes behind what is lent");
        let wake = Arc::clone(&shared.lock().partitions[&slot].wake);
        shared.wake_fetchers(&[slot]);
        // It has looked, and gone back to sleep.
        while !wake.notify_one() {
            std::thread::yield_now();
        }
        assert!(!job.is_finished());
        shared.take_back(slot);
        assert!(matches!(job.join().unwrap(), Job::Decode(raw) if raw.from == 3));
    });
}

#[test]
fn a_batch_in_hand_is_not_committed() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let batch = lease.next_batch().unwrap().unwrap();
    assert_eq!(world.committable(), None);
    drop(batch);
    assert!(lease.next_batch().is_none() && world.lease(Some(lease)).is_none());
    assert_eq!(world.committable(), Some(10));
}

#[test]
fn what_came_before_a_batch_is_committed_while_it_is_in_hand() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    for _ in 0..3 {
        drop(lease.next().unwrap().unwrap());
    }
    let batch = lease.next_batch().unwrap().unwrap();
    assert_eq!((batch.first_offset(), world.committable()), (3, Some(3)));
    world.arrive(5);
    // It goes back as a whole, with nothing of it done.
    drop(batch);
    world.shared.put_back(lease);
    assert_eq!(world.committable(), Some(3));
    let mut lease = world.lease(None).unwrap();
    assert_eq!(lease.next().unwrap().unwrap().offset(), 3);
}

#[test]
fn a_batch_that_a_panic_has_dropped_is_not_done() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let batch = lease.next_batch().unwrap().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _batch = batch;
        panic!("in the handler");
    }));
    assert!(panicked.is_err() && lease.next_batch().is_none() && world.lease(Some(lease)).is_none());
    assert_eq!(world.committable(), None);
}

#[test]
fn what_was_prefetched_and_is_still_in_the_log_comes_after_a_truncation() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    world.shared.truncate(&mut world.shared.lock(), world.slot, 8);
    assert_eq!(world.position(), 0, "nothing was given out yet");

    let mut world = World::new(AckMode::Explicit);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let first = lease.next().unwrap().unwrap();
    let _second = lease.next().unwrap().unwrap();
    assert!(first.ack());
    world.shared.truncate(&mut world.shared.lock(), world.slot, 8);
    assert_eq!(world.position(), 1, "the second one is not done");
}

#[test]
fn what_was_prefetched_and_is_still_in_the_log_comes_after_a_reset_to_a_lower_end() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let reset = Prepared::Reset { from: 10, to: 8 };
    world.fetcher.prepared(&mut world.shared.lock(), reset);
    assert_eq!(world.position(), 0, "nothing was given out yet");
}

#[test]
fn a_reset_past_lost_records_does_not_fill_the_window_with_what_is_prefetched() {
    let config = FetchConfig {
        prefetch_count: 10,
        ..FetchConfig::default()
    };
    let mut world = World::with(AckMode::OnNext, config);
    world.arrive(20);
    let reset = Prepared::Reset { from: 20, to: 50 };
    world.fetcher.prepared(&mut world.shared.lock(), reset);
    let mut lease = world.lease(None).expect("nothing is in hand yet");
    let offsets: Vec<_> = std::iter::from_fn(|| lease.next())
        .map(|message| message.unwrap().offset())
        .collect();
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    assert!(world.lease(Some(lease)).is_none());
    assert_eq!(world.committable(), Some(50));
}

#[test]
fn what_an_iterator_has_given_out_is_told_as_unfinished_when_it_is_given_up() {
    let mut world = World::new(AckMode::Explicit);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let mut messages = vec![lease.next().unwrap().unwrap()];
    messages.extend((0..2).map(|_| lease.next_common().unwrap()));
    assert!(messages[0].ack());
    let given_up = world.shared.give_up();
    assert_eq!((given_up[0].unfinished, given_up[0].is_in_hand), (Some(1), true));
    assert_eq!(given_up[0].progress.as_ref().map(|progress| progress.offset), Some(1));
    assert!(!messages[1].ack());
}

#[test]
fn with_both_limits_one_alone_stops_nobody() {
    let config = FetchConfig {
        prefetch_count: 2,
        prefetch_rule: PrefetchRule::Both,
        ..FetchConfig::default()
    };
    let mut world = World::with(AckMode::Explicit, config);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let given = std::iter::from_fn(|| lease.next()).count();
    assert_eq!(given, 10);
}

#[test]
fn a_panic_while_a_partition_is_given_up_does_not_hold_that_up() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    let message = lease.next().unwrap().unwrap();
    world.shared.drain();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _message = message;
        panic!("in the handler");
    }));
    assert!(panicked.is_err() && lease.next().is_none() && world.lease(Some(lease)).is_none());
    assert!(world.shared.is_let_go());
    assert_eq!(world.committable(), None);
}

#[test]
fn a_message_from_before_a_seek_does_not_hold_up_that_a_partition_is_given_up() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(1);
    let mut lease = world.lease(None).unwrap();
    let kept = lease.next().unwrap().unwrap();
    assert!(lease.next().is_none() && world.lease(Some(lease)).is_none());
    {
        let mut state = world.shared.lock();
        world.shared.restart(&mut state, world.slot, StartAt::Offset(0));
    }
    world.arrive(10);
    let mut lease = world.lease(None).unwrap();
    // Begun and not finished: it comes again elsewhere, and nobody has it.
    drop(lease.next().unwrap().unwrap());
    world.shared.drain();
    world.shared.put_back(lease);
    assert!(!kept.is_current() && world.shared.is_let_go());
}

#[test]
fn poison_messages_that_are_passed_by_leave_nothing_behind() {
    let mut world = World::new(AckMode::OnNext);
    let mut lease = None;
    let mut chunks = Vec::new();
    for at in 0..10 {
        world.arrive(1);
        let mut next = world.lease(lease.take()).unwrap();
        chunks.push(Arc::downgrade(&next.walker.chunk.data));
        let message = next.next().unwrap().unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _message = message;
            panic!("in the handler");
        }));
        assert!(panicked.is_err() && next.next().is_none());
        let state = world.shared.lock();
        state.partitions[&world.slot].ack_through(at).unwrap().unwrap();
        drop(state);
        world.shared.settle(world.slot);
        lease = Some(next);
    }
    assert!(world.lease(lease).is_none());
    assert_eq!(world.committable(), Some(10));
    let alive = chunks.iter().filter(|chunk| chunk.strong_count() > 0).count();
    assert!(alive <= 2, "{alive} batches are kept");
}

#[test]
fn what_is_given_up_does_not_fail() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    world.shared.drain();
    let gone = Error::refused(3);
    world.shared.fail(&mut world.shared.lock(), world.slot, gone);
    let state = world.shared.lock();
    assert!(matches!(state.partitions[&world.slot].phase, Phase::Draining));
    assert!(state.partitions[&world.slot].failure.is_none());
}

#[test]
fn iterators_that_were_refused_while_the_membership_was_in_doubt_look_again() {
    let mut world = World::new(AckMode::OnNext);
    world.arrive(10);
    let validity = world.shared.lock().partitions[&world.slot]
        .ownership()
        .unwrap()
        .validity();
    validity.set(None);
    assert!(world.lease(None).is_none());
    validity.set(Some(Instant::now() + Duration::from_secs(3600)));
    assert!(validity.takes_refused());
    world.shared.offer_all();
    assert!(world.lease(None).is_some() && !validity.takes_refused());
}

#[test]
fn a_partition_that_came_later_is_remembered_from_its_first_record_on() {
    for (start_at, remembered) in [(StartAt::Latest, Some(0)), (StartAt::Earliest, None)] {
        let config = FetchConfig {
            start_at,
            ..FetchConfig::default()
        };
        let world = World::with(AckMode::OnNext, config);
        let mut state = world.shared.lock();
        world.shared.restart(&mut state, world.slot, StartAt::Earliest);
        let first = Prepared::Start { at: 0, until: None };
        world.fetcher.prepared(&mut state, first);
        drop(state);
        assert_eq!(world.committable(), remembered);
    }
}
