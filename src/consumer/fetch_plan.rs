//! What a lane asks for next, and what becomes of the answer. Runs under the buffer's lock; waits for nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    budget::Expansion,
    buffer::{Shared, Slot, State},
    event::Event,
    fetch_lane::{LaneEntry, PARKED, Role},
    fetch_session::Want,
    message::Cell,
    partition::{Ends, Phase, Raw, Task, Trouble},
    slot_map::SlotMap,
};
use crate::{
    cluster::retry::{self, Action},
    error::{Error, ErrorKind},
    offset::StartAt,
    wire::fetch::{AbortedTransaction, LeaderHint},
};

/// While partitions are left out of a Fetch that may want to be in soon, the broker is asked to wait this long only, and
/// twice as long each time that nothing comes. A fast program empties a window within a few milliseconds.
const BRIEFLY: Duration = Duration::from_millis(1);

/// Before that: nothing is asked of partitions that were read to their ends while one that was not has a full window. It
/// is likely to want in at once, and should find its lane here and not in the broker.
const AT_ONCE: Duration = Duration::from_millis(2);

/// The express lane never waits for longer: somebody else may need it.
const EXPRESS: Duration = Duration::from_millis(100);

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_SERVER_ERROR: i16 = -1;
pub(super) const LEADER_NOT_AVAILABLE: i16 = 5;

/// One Fetch to write.
pub(crate) struct Plan {
    pub wants: Vec<Want>,
    /// From which offset each is asked for, and the number that says whether that still counts.
    pub asked: SlotMap<Asked>,
    pub max_bytes: usize,
    pub max_wait: Duration,
}

#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub offset: i64,
    pub number: u64,
}

/// There is nothing to ask for; perhaps there will be at this time.
pub(crate) struct Idle {
    pub until: Option<Instant>,
    /// This broker has no partition for us at all.
    pub is_unused: bool,
}

/// What an answer says of one partition, with its headers walked.
pub(crate) struct Landed {
    pub slot: Slot,
    pub error: i16,
    pub ends: Ends,
    pub leader: Option<LeaderHint>,
    pub preferred: Option<i32>,
    /// The offset that was asked for.
    pub from: i64,
    pub records: Vec<u8>,
    /// How many there are, as their batches claim.
    pub count: usize,
    /// How many of the bytes are of compressed batches.
    pub compressed: usize,
    /// How long the longest batch is.
    pub longest: usize,
    pub aborted: Vec<AbortedTransaction>,
    /// Behind the last whole batch that can be used, and its leader epoch.
    pub next: (i64, i32),
    /// What is wrong with what followed it, and was left out.
    pub problem: Option<&'static str>,
    /// Its fetcher will complain: asking for more before that brings the same again.
    pub is_suspect: bool,
}

/// What an answer has brought to partitions' fetchers.
#[derive(Debug, Default)]
pub(crate) struct Landing {
    pub slots: Vec<Slot>,
    pub bytes: usize,
    /// Nothing has come, and nothing that is read gives its buffer to what may come.
    pub is_quiet: bool,
}

impl Shared {
    /// Collects what this lane should ask for now, and books it.
    pub(crate) fn plan(&self, state: &mut State, broker: i32, role: Role, now: Instant) -> Result<Plan, Idle> {
        let config = &self.config;
        let mut idle = Idle {
            until: None,
            is_unused: true,
        };
        let mut longest = config.max_wait;
        if role == Role::Express {
            // Only for what cannot wait until the other lane comes back; then that one has everything again.
            let session = state.lanes.get(&(broker, Role::Session));
            let session = session.filter(|lane| lane.asked_since.is_some());
            let parked_at = session.and_then(|lane| lane.quiet_since).map(|since| since + PARKED);
            if parked_at.is_none_or(|at| now < at) {
                return Err(Idle {
                    until: parked_at,
                    is_unused: false,
                });
            }
            // As long as each answer brings something, there is no better lane for it.
            let is_busy = |lane: &LaneEntry| lane.patience.is_zero() && lane.back_at.is_some();
            let is_busy = state.lanes.get(&(broker, role)).is_some_and(is_busy);
            if let Some(back_at) = session.and_then(|lane| lane.back_at) {
                let hands_over = back_at.checked_sub(PARKED).unwrap_or(back_at)..back_at + PARKED * 2;
                if hands_over.contains(&now) && !is_busy {
                    // Not to be under way just when it comes back.
                    return Err(Idle {
                        until: Some(hands_over.end),
                        is_unused: false,
                    });
                }
                let free_for = hands_over.start.saturating_duration_since(now);
                longest = if free_for.is_zero() {
                    EXPRESS
                } else {
                    EXPRESS.min(free_for)
                };
            }
        }
        let mut left_out = false;
        let (mut some_full, mut all_at_end) = (false, true);
        let mut expired = Vec::new();
        let mut wants = Vec::new();
        let mut least = 0;
        let State { partitions, budget, .. } = &mut *state;
        for (&slot, partition) in partitions.iter_mut() {
            if partition.replica.is_some_and(|(_, until)| until <= now) {
                partition.replica = None;
                // The leader's lane may be asleep.
                expired.push(slot);
            }
            if partition.source() != Some(broker) {
                continue;
            }
            idle.is_unused = false;
            if partition.asked.is_some() || partition.paused {
                continue;
            }
            match partition.phase {
                Phase::Fetching => {}
                Phase::Preparing { .. } => {
                    left_out = true;
                    continue;
                }
                Phase::Failed | Phase::Draining => continue,
            }
            if let Some(at) = partition.not_before.filter(|&at| at > now) {
                idle.until = Some(idle.until.map_or(at, |until| until.min(at)));
                left_out = true;
                continue;
            }
            if partition.until.is_some_and(|until| partition.position >= until) {
                continue;
            }
            let Some(max_bytes) = budget.reservation(&partition.account, config) else {
                (left_out, some_full) = (true, true);
                continue;
            };
            let is_at_end = |ends: Ends| partition.position >= ends.readable(config.isolation);
            // Who has just brought something is not idle.
            all_at_end &= partition.account.is_empty() && partition.ends.is_some_and(is_at_end);
            if partition.account.is_empty() {
                least += max_bytes.min(partition.account.least());
            }
            wants.push(Want {
                slot,
                topic: Arc::clone(&partition.cell.topic),
                topic_id: partition.topic_id,
                partition: partition.cell.partition,
                offset: partition.position,
                leader_epoch: partition.leader.map_or(-1, |(_, epoch)| epoch),
                max_bytes,
            });
        }
        for slot in expired {
            self.kick(state, slot);
        }
        if wants.is_empty() {
            return Err(idle);
        }
        if let Some(lane) = state.lanes.get_mut(&(broker, role)).filter(|_| role == Role::Session) {
            if some_full && all_at_end && lane.patience.is_zero() {
                let until = *lane.stays_until.get_or_insert(now + AT_ONCE);
                if now < until {
                    idle.until = Some(idle.until.map_or(until, |at| at.min(until)));
                    return Err(idle);
                }
            }
            if !some_full {
                lane.stays_until = None; // the next stay may be worth it again
            }
        }
        let first = state.turn % wants.len();
        wants.rotate_left(first);
        state.turn = state.turn.wrapping_add(1);
        if let Some(lane) = state.lanes.get_mut(&(broker, role)).filter(|lane| lane.alone > 0) {
            lane.alone -= 1;
            wants.truncate(1);
        }
        let State {
            partitions,
            budget,
            asks,
            ..
        } = &mut *state;
        let all = wants.iter().map(|want| want.max_bytes).sum::<usize>();
        let max_bytes = config.max_bytes.min(all).min(budget.free().max(least));
        budget.ask(max_bytes);
        *asks += 1;
        let number = *asks;
        let mut asked = SlotMap::with_capacity_and_hasher(wants.len(), Default::default());
        for want in &wants {
            if let Some(partition) = partitions.get_mut(&want.slot) {
                partition.account.reserved = want.max_bytes;
                partition.asked = Some(number);
                asked.insert(
                    want.slot,
                    Asked {
                        offset: want.offset,
                        number,
                    },
                );
            }
        }
        let mut max_wait = longest;
        if let Some(lane) = state.lanes.get_mut(&(broker, role)) {
            if left_out || role == Role::Express {
                lane.patience = (lane.patience * 2).clamp(BRIEFLY, config.max_wait.max(BRIEFLY));
                max_wait = lane.patience.min(longest);
            } else {
                lane.patience = Duration::ZERO;
            }
            lane.asked_since = Some(now);
            lane.quiet_since.get_or_insert(now);
            lane.back_at = Some(now + max_wait);
            lane.ask_about_at = None;
        }
        Ok(Plan {
            wants,
            asked,
            max_bytes,
            max_wait,
        })
    }

    /// The Fetch of this plan is over, with or without an answer. What does not count any more is taken out of the plan.
    pub(crate) fn unbook(&self, state: &mut State, broker: i32, role: Role, plan: &mut Plan) {
        state.budget.answered(plan.max_bytes);
        if let Some(lane) = state.lanes.get_mut(&(broker, role)) {
            lane.asked_since = None;
        }
        let mut moved = Vec::new();
        plan.asked.retain(|&slot, asked| {
            let partition = state.partitions.get_mut(&slot);
            let Some(partition) = partition.filter(|partition| partition.asked == Some(asked.number)) else {
                return false;
            };
            partition.unask();
            if partition.source() != Some(broker) {
                moved.push(slot);
            }
            true
        });
        // What belongs to another broker by now could not be asked for there as long as it was asked for here.
        for slot in moved {
            self.kick(state, slot);
        }
    }

    /// Takes in what an answer says. Nobody is woken up yet, so that the next Fetch can be written first.
    pub(crate) fn land(
        &self,
        state: &mut State,
        broker: i32,
        role: Role,
        plan: &Plan,
        landed: Vec<Landed>,
        now: Instant,
    ) -> Landing {
        let mut landing = Landing::default();
        for slot in plan.asked.keys() {
            // An answer that does not name a partition says that all is well with it.
            if let Some(partition) = state.partitions.get_mut(slot) {
                partition.reached();
            }
        }
        for landed in landed {
            let State {
                partitions,
                budget,
                lanes,
                ..
            } = &mut *state;
            let Some(partition) = partitions.get_mut(&landed.slot) else {
                continue;
            };
            if !plan.asked.contains_key(&landed.slot) || !matches!(partition.phase, Phase::Fetching) {
                continue;
            }
            if landed.error != 0 {
                self.refused(state, broker, landed, now);
                continue;
            }
            partition.ends = Some(landed.ends);
            if partition
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.error.kind() != ErrorKind::Corrupt)
            {
                partition.well();
            }
            if let Some(replica) = landed.preferred {
                // The leader knows a follower in our rack; it serves us until it says otherwise.
                partition.replica = Some((replica, now + self.cluster.config().metadata_max_age));
                self.kick(state, landed.slot);
                continue;
            }
            if landed.records.is_empty() && landed.problem.is_none() {
                continue;
            }
            if landed.from != partition.position {
                let line = format!("broker {broker} answered {} twice", partition.name);
                self.events.note(log::Level::Debug, line);
                continue;
            }
            partition.oversized = 0;
            let (next, epoch) = landed.next;
            if let Some(lane) = lanes.get_mut(&(broker, role)) {
                lane.patience = Duration::ZERO;
                lane.quiet_since = None;
            }
            partition.position = partition.position.max(next);
            partition.read_epoch = epoch;
            if landed.is_suspect {
                partition.not_before = Some(now + self.backoff(1));
            }
            let growth = partition
                .expansion
                .of(landed.compressed)
                .saturating_sub(landed.compressed);
            budget.change(&mut partition.account, |account| {
                account.raw += landed.records.len();
                account.raw_growth += growth;
                account.raw_records += landed.count;
                account.batch = landed.longest;
            });
            let raw = Raw {
                is_plain: landed.compressed == 0,
                epoch: partition.epoch(),
                from: landed.from,
                bytes: landed.records,
                records: landed.count,
                growth,
                aborted: landed.aborted,
                readable_end: landed.ends.readable(self.config.isolation),
                problem: landed.problem,
            };
            // In this order, whichever lane wakes up whom first: the next answer may come to another one.
            landing.bytes += raw.bytes.len();
            landing.slots.push(landed.slot);
            partition.raw.push_back(raw);
        }
        landing.is_quiet = landing.slots.is_empty() && state.budget.is_unused();
        landing
    }

    /// Wakes the fetchers of what has landed.
    pub(crate) fn wake_fetchers(&self, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        let state = self.lock();
        for partition in slots.iter().filter_map(|slot| state.partitions.get(slot)) {
            partition.wake.notify_one();
        }
    }

    /// Lends what has landed to the lane, which decodes a few records sooner than their fetcher wakes up; unless that one
    /// has to wait for room, is at work, or has something that comes before.
    pub(crate) fn lend(&self, slot: Slot) -> Option<(Arc<Cell>, Expansion, Raw)> {
        let mut state = self.lock();
        let partition = state.partitions.get_mut(&slot)?;
        let is_alone = partition.raw.len() == 1 && !partition.decoding;
        if !is_alone || !partition.raw.front()?.is_plain {
            return None;
        }
        let raw = partition.raw.pop_front()?;
        (partition.decoding, partition.is_lent) = (true, true);
        Some((Arc::clone(&partition.cell), partition.expansion, raw))
    }

    pub(crate) fn take_back(&self, slot: Slot) {
        let mut state = self.lock();
        let Some(partition) = state.partitions.get_mut(&slot).filter(|partition| partition.is_lent) else {
            return; // it was given up meanwhile
        };
        (partition.decoding, partition.is_lent) = (false, false);
        if !partition.raw.is_empty() || matches!(partition.phase, Phase::Preparing { begun: false, .. }) {
            partition.wake.notify_one();
        }
        self.advanced(&state);
    }

    /// A partition's own error in an answer.
    fn refused(&self, state: &mut State, broker: i32, landed: Landed, now: Instant) {
        let Some(partition) = state.partitions.get_mut(&landed.slot) else {
            return;
        };
        let error = partition.cell.blame(Error::refused(landed.error).in_api("Fetch"));
        self.events
            .note(log::Level::Debug, format!("{error}, at broker {broker}"));
        if partition.replica.take().is_some() {
            // A follower's word is no reason for anything but to ask the leader again.
            return self.kick(state, landed.slot);
        }
        if landed.error == OFFSET_OUT_OF_RANGE {
            // Of a broker that does not lead any more it means nothing.
            if partition.leader.is_some_and(|(leader, _)| leader == broker) {
                // What came before is still to be decoded and read.
                partition.phase = Phase::Preparing {
                    task: Task::Reset { at: partition.position },
                    begun: false,
                };
                partition.wake.notify_one();
            }
            return;
        }
        // A broker that has stumbled may do better next time.
        let action = match landed.error {
            UNKNOWN_SERVER_ERROR => Action::Wait,
            _ => retry::action(&error),
        };
        if action == Action::Fail {
            return self.fail(state, landed.slot, error);
        }
        partition.met(error, now, |times| self.backoff(times));
        if action != Action::Wait {
            match landed
                .leader
                .filter(|hint| partition.leader.is_none_or(|(_, epoch)| hint.epoch > epoch))
            {
                // The answer names the new leader: no need to ask (KIP-951).
                Some(hint) => {
                    partition.well();
                    self.lead(state, landed.slot, (hint.leader, hint.epoch));
                }
                None => self.want_metadata(state),
            }
        }
    }

    /// Another broker (or the same one, elected again) leads the partition.
    pub(crate) fn lead(&self, state: &mut State, slot: Slot, leader: (i32, i32)) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        let before = partition.leader.replace(leader);
        partition.replica = None;
        if before.is_none_or(|(broker, _)| broker != leader.0) {
            // The old leader may be dead, and its answer long in coming.
            partition.unask();
        }
        if before.is_some_and(|(broker, _)| broker != leader.0) {
            self.tell(Event::LeaderMoved {
                partition: partition.name.clone(),
                broker: leader.0,
            });
        }
        let had_none = |trouble: &Trouble| trouble.error.code() == Some(LEADER_NOT_AVAILABLE);
        if partition.trouble.as_ref().is_some_and(had_none) {
            partition.well();
        }
        let is_new = before.is_none_or(|(_, epoch)| epoch < leader.1);
        // Also when an earlier leader is being asked: its word is not this one's.
        let is_readable = matches!(
            partition.phase,
            Phase::Fetching
                | Phase::Preparing {
                    task: Task::Validate { .. },
                    ..
                }
        );
        if is_new && partition.read_epoch >= 0 && is_readable {
            partition.phase = Phase::Preparing {
                task: Task::Validate {
                    epoch: partition.read_epoch,
                },
                begun: false,
            };
            partition.wake.notify_one();
        }
        self.kick(state, slot);
    }

    /// The new leader's history parts from what was read: everything from `at` on is not in the log any more.
    pub(crate) fn truncate(&self, state: &mut State, slot: Slot, at: i64) {
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        self.tell(Event::Truncated {
            partition: partition.name.clone(),
            from: partition.position,
            to: at,
        });
        if partition.ownership().is_some() {
            // What is gone may be acked no more, and what is left of it is read again.
            let from = partition.progress().min(at);
            return self.restart(state, slot, StartAt::Offset(from));
        }
        // Of what was there when the stream was opened, this is all that is left.
        partition.until = partition.until.map(|until| until.min(at));
        // What was not decoded yet is fetched again, as far as it is still there.
        partition.position = partition.decoded.min(at);
        partition.decoded = partition.position;
        partition.raise_epoch();
        state.drop_raw(slot);
        state.cut(slot, at);
        let Some(partition) = state.partitions.get_mut(&slot) else {
            return;
        };
        partition.read_epoch = -1;
        partition.phase = Phase::Fetching;
        if partition.delivered() > at && partition.leased.is_none() {
            partition.stands_at = at;
        }
        self.kick(state, slot);
    }

    pub(crate) fn backoff(&self, times: u32) -> Duration {
        self.cluster.retry_delay(times)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        cluster::{Cluster, ClusterConfig},
        consumer::{budget::Account, buffer::Subscription, config::FetchConfig, partition::Partition},
        offset::TopicPartition,
    };

    const BROKER: i32 = 1;

    /// A stream that reads two partitions of one broker, with both lanes to it, and a clock of its own.
    struct World {
        shared: Arc<Shared>,
        begun: Instant,
        slots: [Slot; 2],
    }

    impl World {
        fn new() -> Self {
            let cluster = Cluster::connect_lazy(ClusterConfig::default());
            let subscription = Subscription::Topics(vec![Arc::from("orders")]);
            let shared = Shared::new(cluster, FetchConfig::default(), subscription, false);
            let mut state = shared.lock();
            for role in [Role::Session, Role::Express] {
                let lane = LaneEntry::default();
                state.lanes.insert((BROKER, role), lane);
            }
            let slots = [0, 1].map(|index| {
                let name = TopicPartition::new("orders", index);
                let mut partition = Partition::new(name, Uuid::from_u128(1), StartAt::Earliest, Some((BROKER, 0)));
                partition.begin(0);
                shared.add(&mut state, partition)
            });
            drop(state);
            #[allow(clippy::disallowed_methods, reason = "where the test's own clock begins")]
            let begun = Instant::now();
            Self { shared, begun, slots }
        }

        fn plan(&self, role: Role, at: u64) -> Result<Plan, Option<u64>> {
            let mut state = self.shared.lock();
            let now = self.begun + Duration::from_millis(at);
            let planned = self.shared.plan(&mut state, BROKER, role, now);
            planned.map_err(|idle| Some((idle.until? - self.begun).as_millis() as u64))
        }

        fn wanted(&self, role: Role, at: u64) -> (Plan, Vec<Slot>) {
            let plan = self.plan(role, at).map_err(|until| format!("nothing before {until:?}"));
            let plan = plan.unwrap();
            let mut slots: Vec<Slot> = plan.wants.iter().map(|want| want.slot).collect();
            slots.sort_unstable();
            (plan, slots)
        }

        /// The Fetch is answered, with records for all of it or for nothing.
        fn answer(&self, role: Role, mut plan: Plan, has_records: bool) {
            let landed = plan.wants.iter().filter(|_| has_records).map(|want| Landed {
                slot: want.slot,
                error: 0,
                ends: Ends {
                    high_watermark: 1000,
                    last_stable: 1000,
                },
                leader: None,
                preferred: None,
                from: want.offset,
                records: vec![0; 100],
                count: 10,
                compressed: 0,
                longest: 100,
                aborted: Vec::new(),
                next: (want.offset + 10, 0),
                problem: None,
                is_suspect: false,
            });
            let landed = landed.collect();
            let mut state = self.shared.lock();
            self.shared.unbook(&mut state, BROKER, role, &mut plan);
            self.shared.land(&mut state, BROKER, role, &plan, landed, self.begun);
        }

        /// So much of it waits to be read.
        fn hold(&self, slot: Slot, bytes: usize) {
            let mut state = self.shared.lock();
            let State { partitions, budget, .. } = &mut *state;
            let account = &mut partitions.get_mut(&slot).unwrap().account;
            budget.change(account, |account| {
                *account = Account {
                    ready: bytes,
                    ..Account::default()
                };
            });
        }

        fn ends_at(&self, slot: Slot, end: i64) {
            let ends = Ends {
                high_watermark: end,
                last_stable: end,
            };
            self.shared.lock().partitions.get_mut(&slot).unwrap().ends = Some(ends);
        }

        fn pause(&self, slot: Slot, paused: bool) {
            self.shared.lock().partitions.get_mut(&slot).unwrap().paused = paused;
        }
    }

    /// One partition waits in the broker since 0, and the other one wants records.
    fn parked() -> (World, Plan, Slot, Slot) {
        let world = World::new();
        let [busy, idle] = world.slots;
        world.pause(busy, true);
        let (parked, wanted) = world.wanted(Role::Session, 0);
        assert_eq!((wanted, parked.max_wait), (vec![idle], Duration::from_millis(500)));
        world.pause(busy, false);
        (world, parked, busy, idle)
    }

    #[test]
    fn an_express_lane_that_brings_nothing_leaves_its_partitions_to_the_other_one() {
        let (world, _parked, busy, _) = parked();
        assert_eq!(world.plan(Role::Express, 10).err(), Some(Some(20)), "too soon to say");
        let (fetch, wanted) = world.wanted(Role::Express, 20);
        assert_eq!(wanted, [busy]);
        world.answer(Role::Express, fetch, false);
        assert_eq!(
            world.plan(Role::Express, 490).err(),
            Some(Some(540)),
            "the other one is due"
        );
    }

    #[test]
    fn what_brings_records_each_time_stays_in_the_express_lane_while_the_other_one_waits_again() {
        let (world, parked, busy, idle) = parked();
        let (fetch, _) = world.wanted(Role::Express, 470);
        world.answer(Role::Express, fetch, true);
        let (fetch, wanted) = world.wanted(Role::Express, 490);
        assert_eq!(wanted, [busy]);
        world.answer(Role::Session, parked, false);
        let (parked, wanted) = world.wanted(Role::Session, 500);
        assert_eq!(wanted, [idle]);
        world.answer(Role::Express, fetch, true);
        let (fetch, wanted) = world.wanted(Role::Express, 501);
        assert_eq!(wanted, [busy], "nothing has changed for the other one");

        world.answer(Role::Session, parked, true);
        let (_parked, wanted) = world.wanted(Role::Session, 510);
        assert_eq!(wanted, [idle]);
        world.answer(Role::Express, fetch, true);
        assert_eq!(
            world.plan(Role::Express, 511).err(),
            Some(Some(530)),
            "it may come back at once"
        );
    }

    /// One partition's window is full, and the other one was read to its end.
    fn full() -> (World, Slot, Slot) {
        let world = World::new();
        let [busy, idle] = world.slots;
        let (fetch, _) = world.wanted(Role::Session, 0);
        world.answer(Role::Session, fetch, true);
        world.hold(busy, FetchConfig::default().prefetch_bytes);
        world.hold(idle, 0);
        world.ends_at(idle, 10);
        (world, busy, idle)
    }

    #[test]
    fn what_will_want_in_at_once_finds_its_lane_here() {
        let (world, busy, idle) = full();
        assert_eq!(world.plan(Role::Session, 0).err(), Some(Some(2)));
        world.hold(busy, 1 << 20);
        let (_, wanted) = world.wanted(Role::Session, 1);
        assert_eq!(wanted, [busy, idle]);
    }

    #[test]
    fn who_stays_full_is_waited_for_once() {
        let (world, _, idle) = full();
        assert_eq!(world.plan(Role::Session, 0).err(), Some(Some(2)));
        for (at, wait) in [(2, 1), (3, 2), (5, 4)] {
            let (fetch, wanted) = world.wanted(Role::Session, at);
            assert_eq!((wanted, fetch.max_wait), (vec![idle], Duration::from_millis(wait)));
            world.answer(Role::Session, fetch, false);
        }
        let (fetch, _) = world.wanted(Role::Session, 9);
        world.answer(Role::Session, fetch, true);
        world.hold(idle, 0);
        world.ends_at(idle, 20);
        let (fetch, wanted) = world.wanted(Role::Session, 10);
        assert_eq!((wanted, fetch.max_wait), (vec![idle], Duration::from_millis(1)));
    }

    #[test]
    fn who_has_just_brought_something_waits_for_nobody() {
        let (world, _, idle) = full();
        world.hold(idle, 100);
        let (_, wanted) = world.wanted(Role::Session, 0);
        assert_eq!(wanted, [idle]);
    }

    #[test]
    fn who_has_more_in_the_log_waits_for_nobody() {
        let (world, _, idle) = full();
        world.ends_at(idle, 11);
        let (_, wanted) = world.wanted(Role::Session, 0);
        assert_eq!(wanted, [idle]);
    }

    /// The other lane may ask for what follows as soon as the lock is given up.
    #[test]
    fn what_has_landed_lies_in_its_order_before_anybody_is_woken() {
        let world = World::new();
        for round in 0..3 {
            let (plan, _) = world.wanted(Role::Session, round);
            world.answer(Role::Session, plan, true);
        }
        let state = world.shared.lock();
        for slot in world.slots {
            let from: Vec<i64> = state.partitions[&slot].raw.iter().map(|raw| raw.from).collect();
            assert_eq!(from, [0, 10, 20]);
        }
    }
}
