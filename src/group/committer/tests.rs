#![allow(clippy::disallowed_methods, reason = "some point in time to count from")]

use crossbeam_channel::{Receiver, bounded};
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

const INTERVAL: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(1),
};
const LOADING: i16 = 14;
const NOT_COORDINATOR: i16 = 16;
const TOO_LARGE: i16 = 12;

fn name(slot: Slot) -> TopicPartition {
    TopicPartition::new("orders", i32::try_from(slot).unwrap())
}

fn at(slot: Slot, offset: i64) -> Progress {
    Progress {
        slot,
        name: name(slot),
        offset,
        epoch: -1,
    }
}

fn codes(codes: &[(Slot, i16)]) -> BTreeMap<TopicPartition, i16> {
    codes.iter().map(|&(slot, code)| (name(slot), code)).collect()
}

fn committer() -> (Committer, Instant) {
    let now = Instant::now();
    (Committer::new(Some(INTERVAL), BACKOFF, 7, now), now)
}

fn want(committer: &mut Committer) -> Receiver<Outcome> {
    let (waiter, told) = bounded(1);
    let until = Instant::now() + Duration::from_secs(3600);
    committer.want(Some(Waiter { tell: waiter, until }), Instant::now());
    told
}

fn sent(progress: Option<Vec<Progress>>) -> Vec<(Slot, i64)> {
    let progress = progress.into_iter().flatten();
    progress.map(|progress| (progress.slot, progress.offset)).collect()
}

#[test]
fn what_is_acked_is_committed_after_the_interval_and_once() {
    let (mut committer, now) = committer();
    assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), []);
    assert_eq!(committer.timer(), Some(now + INTERVAL));
    let now = now + INTERVAL;
    assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), [(1, 10)]);
    assert_eq!(committer.timer(), None);
    committer.answered(&codes(&[(1, 0)]), now);
    assert!(committer.is_idle());
    let now = now + INTERVAL;
    assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), []);
    let now = now + INTERVAL;
    assert_eq!(sent(committer.next(now, || vec![at(1, 11)])), [(1, 11)]);
}

#[test]
fn without_an_interval_only_what_is_asked_for_is_committed() {
    let now = Instant::now();
    let mut committer = Committer::new(None, BACKOFF, 7, now);
    assert_eq!(committer.timer(), None);
    assert_eq!(sent(committer.next(now + INTERVAL * 100, || vec![at(1, 10)])), []);
    committer.want(None, Instant::now());
    assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), [(1, 10)]);
}

#[test]
fn one_commit_is_under_way_at_a_time_and_who_asks_meanwhile_gets_the_next() {
    let (mut committer, now) = committer();
    let early = want(&mut committer);
    assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), [(1, 10)]);
    let late = want(&mut committer);
    assert_eq!(sent(committer.next(now + INTERVAL, || vec![at(1, 12)])), []);
    committer.answered(&codes(&[(1, 0)]), now);
    assert_eq!(early.try_recv().unwrap()[&name(1)].as_ref().unwrap(), &10);
    assert!(late.try_recv().is_err());
    assert_eq!(sent(committer.next(now, || vec![at(1, 12)])), [(1, 12)]);
    committer.answered(&codes(&[(1, 0)]), now);
    assert_eq!(late.try_recv().unwrap()[&name(1)].as_ref().unwrap(), &12);
    assert!(early.try_recv().is_err());
}

#[test]
fn who_wants_a_commit_of_nothing_is_told_at_once() {
    let (mut committer, now) = committer();
    let told = want(&mut committer);
    assert_eq!(sent(committer.next(now, Vec::new)), []);
    assert!(told.try_recv().unwrap().is_empty());
    assert!(committer.is_idle());
}

#[test]
fn what_can_be_tried_again_is_and_the_rest_is_told() {
    let (mut committer, now) = committer();
    let told = want(&mut committer);
    committer.next(now, || vec![at(1, 10), at(2, 20), at(3, 30), at(4, 40)]);
    // The fourth is missing in the answer, which may be better the next time.
    let answered = committer.answered(&codes(&[(1, 0), (2, LOADING), (3, TOO_LARGE)]), now);
    let failed: Vec<_> = answered
        .failed
        .iter()
        .map(|(progress, error)| (progress.name.partition(), error.code()))
        .collect();
    assert_eq!(failed, [(3, Some(TOO_LARGE))]);
    assert_eq!(answered.refused, None);
    assert!(told.try_recv().is_err() && !committer.is_idle());

    let again = committer.timer().unwrap();
    assert!(again > now && again <= now + BACKOFF.max * 2);
    assert_eq!(sent(committer.next(now, || panic!("too early"))), []);
    assert_eq!(
        sent(committer.next(again, || panic!("nobody asks for more"))),
        [(2, 20), (4, 40)]
    );
    committer.answered(&codes(&[(2, 0), (4, 0)]), again);
    let outcome = told.try_recv().unwrap();
    let offsets = [1, 2, 3, 4].map(|slot| outcome[&name(slot)].as_ref().ok().copied());
    assert_eq!(offsets, [Some(10), Some(20), None, Some(40)]);
}

#[test]
fn a_newer_offset_takes_the_place_of_an_older_one_that_is_tried_again() {
    let (mut committer, now) = committer();
    committer.want(None, Instant::now());
    committer.next(now, || vec![at(1, 10), at(2, 20)]);
    committer.interrupted(now);
    committer.queue([at(2, 25)]);
    let again = committer.timer().unwrap();
    assert_eq!(sent(committer.next(again, || vec![at(1, 15)])), [(1, 15), (2, 25)]);
}

#[test]
fn what_was_committed_before_is_committed_again_over_one_whose_outcome_is_not_known() {
    let (mut committer, now) = committer();
    committer.want(None, Instant::now());
    committer.next(now, || vec![at(1, 10)]);
    committer.answered(&codes(&[(1, 0)]), now);
    // The last ack wins: it may be lower, and then as before.
    committer.want(None, Instant::now());
    assert_eq!(sent(committer.next(now, || vec![at(1, 4)])), [(1, 4)]);
    committer.interrupted(now);
    committer.want(None, Instant::now());
    let again = committer.timer().unwrap();
    assert_eq!(sent(committer.next(again, || vec![at(1, 10)])), [(1, 10)]);
    committer.interrupted(again);
    committer.queue([at(1, 10)]);
    let again = committer.timer().unwrap();
    assert_eq!(sent(committer.next(again, Vec::new)), [(1, 10)]);
}

#[test]
fn what_is_given_up_while_it_is_being_committed_is_committed_once() {
    let (mut committer, now) = committer();
    committer.want(None, Instant::now());
    committer.next(now, || vec![at(1, 10)]);
    committer.queue([at(1, 10)]);
    committer.answered(&codes(&[(1, 0)]), now);
    assert_eq!(sent(committer.next(now, Vec::new)), []);
    assert!(committer.is_idle());
}

#[test]
fn a_code_of_the_membership_keeps_all_that_was_not_accepted() {
    for code in [15, NOT_COORDINATOR, 22, 25, 27, 82] {
        let (mut committer, now) = committer();
        committer.want(None, Instant::now());
        committer.next(now, || vec![at(1, 10), at(2, 20)]);
        let answered = committer.answered(&codes(&[(1, 0), (2, code)]), now);
        assert_eq!(answered.refused, Some(code));
        assert!(answered.failed.is_empty());
        assert_eq!(sent(Some(committer.uncommitted())), [(2, 20)]);
    }
}

#[test]
fn what_is_given_up_is_told_to_all_who_wait() {
    let (mut committer, now) = committer();
    let early = want(&mut committer);
    committer.next(now, || vec![at(1, 10), at(2, 20)]);
    committer.answered(&codes(&[(1, 0), (2, LOADING)]), now);
    let late = want(&mut committer);
    committer.queue([at(3, 30)]);
    let lost = committer.give_up(&Error::closed("group"));
    assert_eq!(sent(Some(lost)), [(2, 20), (3, 30)]);
    for told in [early, late] {
        let outcome = told.try_recv().unwrap();
        assert_eq!(outcome[&name(1)].as_ref().unwrap(), &10);
        for slot in [2, 3] {
            assert_eq!(outcome[&name(slot)].as_ref().unwrap_err().kind(), ErrorKind::Closed);
        }
    }
    assert!(committer.is_idle() && committer.uncommitted().is_empty());
}

#[test]
fn failures_wait_longer_each_time_and_success_forgets_them() {
    let (mut committer, mut now) = committer();
    committer.want(None, Instant::now());
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(sent(committer.next(now, || vec![at(1, 10)])), [(1, 10)]);
        committer.interrupted(now);
        let again = committer.timer().unwrap();
        waits.push(again - now);
        now = again;
    }
    assert!(
        waits[0] < BACKOFF.min * 2 && waits[7] > BACKOFF.max / 2 && waits.iter().all(|wait| *wait < BACKOFF.max * 2)
    );
    committer.next(now, Vec::new);
    committer.answered(&codes(&[(1, 0)]), now);
    committer.want(None, Instant::now());
    committer.next(now, || vec![at(1, 11)]);
    committer.interrupted(now);
    assert!(committer.timer().unwrap() - now < BACKOFF.min * 2);
}

#[derive(Debug, Clone)]
enum Event {
    Ack(Slot, i64),
    Want,
    GiveUpPartition(Slot),
    Answer(Vec<u8>),
    Cut,
    Wait(u64),
    Lose,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0_u32..3, 1_i64..5).prop_map(|(slot, by)| Event::Ack(slot, by)),
        3 => Just(Event::Want),
        1 => (0_u32..3).prop_map(Event::GiveUpPartition),
        8 => prop::collection::vec(0_u8..8, 3).prop_map(Event::Answer),
        2 => Just(Event::Cut),
        6 => (0_u64..7000).prop_map(Event::Wait),
        1 => Just(Event::Lose),
    ]
}

proptest! {
    /// A broker that does as it is asked, or does not answer, or refuses: in the end it has all that was acked, offsets
    /// never fall, and everybody is told once.
    #[test]
    fn whatever_brokers_answer_all_is_committed_in_order_and_everybody_is_told(events in prop::collection::vec(event(), 1..80)) {
        let (mut committer, mut now) = committer();
        let mut acked = [0_i64; 3];
        let mut open = [true; 3];
        let mut broker = BTreeMap::new();
        let mut known: BTreeMap<Slot, i64> = BTreeMap::new();
        let mut flight: Option<Vec<Progress>> = None;
        let mut waiting: Vec<(Receiver<Outcome>, [i64; 3])> = Vec::new();
        let ending = (0..40).flat_map(|_| [Event::Wait(6000), Event::Answer(vec![0; 3])]);
        for event in events.into_iter().chain(ending) {
            let mut was_lost = false;
            match event {
                Event::Ack(slot, by) if open[slot as usize] => acked[slot as usize] += by,
                Event::Ack(..) => {}
                Event::Want => waiting.push((want(&mut committer), acked)),
                Event::GiveUpPartition(slot) => {
                    if std::mem::replace(&mut open[slot as usize], false) && acked[slot as usize] > 0 {
                        committer.queue([at(slot, acked[slot as usize])]);
                    }
                }
                Event::Answer(kinds) => {
                    if let Some(progress) = flight.take() {
                        let codes: BTreeMap<_, _> = progress
                            .iter()
                            .map(|progress| {
                                let code = [0, 0, 0, 0, 0, LOADING, NOT_COORDINATOR, 0][usize::from(kinds[progress.slot as usize])];
                                if code == 0 {
                                    known.insert(progress.slot, progress.offset);
                                    let before = broker.insert(progress.slot, progress.offset);
                                    prop_assert!(before.is_none_or(|before| before <= progress.offset), "offsets never fall");
                                }
                                Ok((progress.name.clone(), code))
                            })
                            .collect::<Result<_, TestCaseError>>()?;
                        committer.answered(&codes, now);
                    }
                }
                Event::Cut => {
                    // Whether it counts is not known.
                    for progress in flight.take().into_iter().flatten() {
                        broker.insert(progress.slot, progress.offset);
                    }
                    committer.interrupted(now);
                }
                Event::Wait(millis) => now += Duration::from_millis(millis),
                Event::Lose => {
                    flight = None;
                    known.clear();
                    committer.give_up(&Error::closed("group"));
                    prop_assert!(committer.is_idle());
                    was_lost = true;
                }
            }
            let progress = || (0..3_u32).filter(|&slot| open[slot as usize] && acked[slot as usize] > 0).map(|slot| at(slot, acked[slot as usize])).collect();
            if let Some(sent) = committer.next(now, progress) {
                prop_assert!(flight.is_none(), "one at a time");
                prop_assert!(!sent.is_empty());
                for progress in &sent {
                    prop_assert_ne!(known.get(&progress.slot), Some(&progress.offset), "committed already");
                }
                flight = Some(sent);
            }
            prop_assert!(flight.is_some() || committer.timer().is_some_and(|at| at > now), "nothing to do, and no time to wait for");
            let is_idle = committer.is_idle();
            let mut still = Vec::new();
            for (told, wanted) in waiting {
                match told.try_recv() {
                    Ok(outcome) => {
                        for (partition, result) in outcome {
                            let slot = usize::try_from(partition.partition()).unwrap();
                            prop_assert!(was_lost || result.is_err() || result.is_ok_and(|offset| offset >= wanted[slot].min(offset)));
                            prop_assert!(was_lost || broker.get(&partition.partition().unsigned_abs()).copied().unwrap_or(0) >= wanted[slot]);
                        }
                        prop_assert!(told.try_recv().is_err());
                    }
                    Err(_) => still.push((told, wanted)),
                }
            }
            waiting = still;
            prop_assert!(waiting.is_empty() || !is_idle, "nobody waits for nothing");
        }
        prop_assert!(waiting.is_empty());
        for slot in 0..3_u32 {
            if open[slot as usize] && acked[slot as usize] > 0 {
                prop_assert_eq!(broker.get(&slot).copied(), Some(acked[slot as usize]));
            }
        }
    }
}
