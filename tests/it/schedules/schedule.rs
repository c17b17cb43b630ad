//! What happens to a cluster and a group, and when: all of it follows from the seed.

use std::{fmt, time::Duration};

use klamm_fake::{
    Api,
    error_code::{
        COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, CORRUPT_MESSAGE, FENCED_LEADER_EPOCH,
        FETCH_SESSION_ID_NOT_FOUND, ILLEGAL_GENERATION, INVALID_FETCH_SESSION_EPOCH, INVALID_RECORD,
        KAFKA_STORAGE_ERROR, LEADER_NOT_AVAILABLE, MESSAGE_TOO_LARGE, NOT_COORDINATOR, NOT_ENOUGH_REPLICAS,
        NOT_ENOUGH_REPLICAS_AFTER_APPEND, NOT_LEADER_OR_FOLLOWER, REBALANCE_IN_PROGRESS, REPLICA_NOT_AVAILABLE,
        REQUEST_TIMED_OUT, TOPIC_AUTHORIZATION_FAILED, UNKNOWN_LEADER_EPOCH, UNKNOWN_MEMBER_ID, UNKNOWN_TOPIC_ID,
        UNKNOWN_TOPIC_OR_PARTITION, UNSTABLE_OFFSET_COMMIT, UNSUPPORTED_VERSION,
    },
};

use crate::support::Random;

pub(crate) const BROKERS: i32 = 3;

/// In this time everything happens.
const SPAN: u64 = 700;

/// Times are told in milliseconds from the start.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) partitions: i32,
    pub(crate) members: Vec<Manner>,
    pub(crate) records: u64,
    pub(crate) delivery_timeout: Duration,
    pub(crate) in_flight: usize,
    pub(crate) steps: Vec<(u64, Step)>,
}

/// How a member does its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) acks_by_name: bool,
    pub(crate) commit_interval: Duration,
    /// After so many messages it commits, and waits for that.
    pub(crate) commit_each: Option<usize>,
    /// What a message takes.
    pub(crate) work: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// So many of the next requests of a kind, to any broker or to one, come to grief.
    Fault {
        api: Api,
        node: Option<i32>,
        uses: u64,
        fault: Fault,
    },
    Crash(i32),
    Restart(i32),
    MoveLeader {
        partition: i32,
        node: i32,
    },
    MoveCoordinator(i32),
    /// What brokers let clients wait after an answer; nothing ends it.
    Throttle(Duration),
    /// All members are late at once.
    SessionsEnd,
    Join(Manner),
    /// The oldest member ends in good order.
    Leave,
    /// The oldest member's stream is dropped.
    Drop,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Error(i16),
    Delay(Duration),
    Disconnect,
    /// Done, and the answer is lost.
    ThenDisconnect,
    /// Done, and half of the answer is lost.
    Truncate,
    Garbage(u64),
    CorruptRecords,
    Silence,
}

impl Schedule {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random(mixed(seed));
        let members = (0..2 + random.below(2)).map(|_| Manner::of(&mut random)).collect();
        let mut schedule = Self {
            seed,
            partitions: 3 + random.below(2) as i32,
            members,
            records: 200 + random.below(250),
            // The shorter ones make outcomes unknown.
            delivery_timeout: Duration::from_millis([300, 1_000, 30_000, 30_000][random.index(4)]),
            in_flight: [1, 2, 5, 5][random.index(4)],
            steps: Vec::new(),
        };
        for _ in 0..2 + random.below(9) {
            let at = random.below(SPAN);
            schedule.steps.push((at, fault(&mut random)));
        }
        // A broker that names a version is not known to refuse it then.
        let mut refusals = 0;
        schedule.steps.retain(|(_, step)| {
            refusals += u32::from(step.refuses_api_versions());
            !step.refuses_api_versions() || refusals == 1
        });
        // Nor one that makes no sense four times in a row to be better the fifth time: the program is told.
        let mut lies = 0;
        schedule.steps.retain(|(_, step)| {
            let told = step.lies_where_partitions_begin();
            lies += told;
            told == 0 || lies <= MOST_LIES
        });
        schedule.add_moves(&mut random);
        schedule.add_crashes(&mut random);
        schedule.add_comings_and_goings(&mut random);
        schedule.steps.sort_by_key(|(at, _)| *at);
        schedule
    }

    fn add_moves(&mut self, random: &mut Random) {
        for _ in 0..random.below(5) {
            let (partition, node) = (random.below(self.partitions as u64) as i32, node(random));
            self.steps
                .push((random.below(SPAN), Step::MoveLeader { partition, node }));
        }
        for _ in 0..random.below(3) {
            let node = node(random);
            self.steps.push((random.below(SPAN), Step::MoveCoordinator(node)));
        }
        if random.below(5) == 0 {
            let (at, time) = (random.below(SPAN), 1 + random.below(40));
            self.steps.push((at, Step::Throttle(Duration::from_millis(time))));
            self.steps
                .push((at + 50 + random.below(150), Step::Throttle(Duration::ZERO)));
        }
        if random.below(8) == 0 {
            self.steps.push((random.below(SPAN), Step::SessionsEnd));
        }
    }

    /// One broker at a time is down, so that there is always a leader and a coordinator.
    fn add_crashes(&mut self, random: &mut Random) {
        let mut at = random.below(SPAN * 2);
        while at < SPAN {
            let (node, end) = (node(random), at + 20 + random.below(250));
            self.steps.push((at, Step::Crash(node)));
            self.steps.push((end, Step::Restart(node)));
            at = end + 30 + random.below(SPAN);
        }
    }

    /// One member is always left.
    fn add_comings_and_goings(&mut self, random: &mut Random) {
        let mut left = self.members.len();
        let mut at = random.below(SPAN);
        while at < SPAN {
            self.steps.push((
                at,
                match random.below(4) {
                    0 if left > 1 => {
                        left -= 1;
                        Step::Drop
                    }
                    1 | 2 if left > 1 => {
                        left -= 1;
                        Step::Leave
                    }
                    _ => {
                        left += 1;
                        Step::Join(Manner::of(random))
                    }
                },
            ));
            at += 50 + random.below(SPAN);
        }
    }

    /// Whether members can be put out without knowing it: then two may work on one partition for a moment.
    pub(crate) fn ends_sessions(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::SessionsEnd))
    }
}

impl Step {
    fn lies_where_partitions_begin(&self) -> u64 {
        match self {
            Self::Fault {
                api,
                uses,
                fault: Fault::Garbage(_),
                ..
            } if BESIDE_STARTS.contains(api) => *uses,
            _ => 0,
        }
    }

    fn refuses_api_versions(&self) -> bool {
        matches!(
            self,
            Self::Fault {
                api: Api::ApiVersions,
                fault: Fault::Error(_),
                ..
            }
        )
    }
}

impl Manner {
    fn of(random: &mut Random) -> Self {
        Self {
            acks_by_name: random.below(3) == 0,
            commit_interval: Duration::from_millis(10 + random.below(150)),
            commit_each: (random.below(4) == 0).then(|| 1 + random.index(40)),
            work: Duration::from_micros(random.below(4) * 300),
        }
    }
}

fn node(random: &mut Random) -> i32 {
    1 + random.below(BROKERS as u64) as i32
}

/// A commit is not delayed: when its connection ends meanwhile, the next one is there before it, and no member could know.
fn fault(random: &mut Random) -> Step {
    let (api, errors) = ERRORS[random.index(ERRORS.len())];
    let fault = match random.below(13) {
        0 | 1 => Fault::Disconnect,
        2..=4 => Fault::ThenDisconnect,
        5 => Fault::Truncate,
        6 if api != Api::OffsetCommit => Fault::Delay(Duration::from_millis(1 + random.below(100))),
        7 => Fault::Garbage(random.below(u64::MAX)),
        8 => Fault::Silence,
        9 if api == Api::Fetch => Fault::CorruptRecords,
        _ => Fault::Error(errors[random.index(errors.len())]),
    };
    Step::Fault {
        api,
        node: (random.below(3) == 0).then(|| node(random)),
        // Each silence lasts for a request's time-out, and the fourth damaged answer is a partition's end.
        uses: match fault {
            Fault::Silence | Fault::CorruptRecords => 1,
            Fault::Error(_) if api == Api::ApiVersions => 1,
            _ => 1 + random.below(3),
        },
        fault,
    }
}

/// In one schedule, and where partitions begin.
const MOST_LIES: u64 = 3;

/// What is asked over the connection that also asks where partitions begin.
const BESIDE_STARTS: [Api; 6] = [
    Api::ListOffsets,
    Api::OffsetForLeaderEpoch,
    Api::ApiVersions,
    Api::Metadata,
    Api::FindCoordinator,
    Api::OffsetFetch,
];

/// What Kafka answers to each of these, when it is not all well.
///
/// Not here is what ends a role by right, such as a missing permission to read.
const ERRORS: &[(Api, &[i16])] = &[
    (
        Api::Produce,
        &[
            CORRUPT_MESSAGE,
            UNKNOWN_TOPIC_OR_PARTITION,
            NOT_LEADER_OR_FOLLOWER,
            NOT_LEADER_OR_FOLLOWER,
            REQUEST_TIMED_OUT,
            NOT_ENOUGH_REPLICAS,
            NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            KAFKA_STORAGE_ERROR,
            MESSAGE_TOO_LARGE,
            TOPIC_AUTHORIZATION_FAILED,
            INVALID_RECORD,
        ],
    ),
    (
        Api::Fetch,
        &[
            CORRUPT_MESSAGE,
            UNKNOWN_TOPIC_OR_PARTITION,
            NOT_LEADER_OR_FOLLOWER,
            REPLICA_NOT_AVAILABLE,
            KAFKA_STORAGE_ERROR,
            FETCH_SESSION_ID_NOT_FOUND,
            INVALID_FETCH_SESSION_EPOCH,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
            UNKNOWN_TOPIC_ID,
        ],
    ),
    (Api::Metadata, &[LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION]),
    (
        Api::FindCoordinator,
        &[COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS],
    ),
    (
        Api::JoinGroup,
        &[
            COORDINATOR_LOAD_IN_PROGRESS,
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            UNKNOWN_MEMBER_ID,
        ],
    ),
    (
        Api::SyncGroup,
        &[
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            ILLEGAL_GENERATION,
            UNKNOWN_MEMBER_ID,
            REBALANCE_IN_PROGRESS,
        ],
    ),
    (
        Api::Heartbeat,
        &[
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            ILLEGAL_GENERATION,
            UNKNOWN_MEMBER_ID,
            REBALANCE_IN_PROGRESS,
        ],
    ),
    (
        Api::OffsetCommit,
        &[
            COORDINATOR_LOAD_IN_PROGRESS,
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            ILLEGAL_GENERATION,
            UNKNOWN_MEMBER_ID,
            REBALANCE_IN_PROGRESS,
            REQUEST_TIMED_OUT,
        ],
    ),
    (
        Api::OffsetFetch,
        &[
            COORDINATOR_LOAD_IN_PROGRESS,
            COORDINATOR_NOT_AVAILABLE,
            NOT_COORDINATOR,
            UNSTABLE_OFFSET_COMMIT,
        ],
    ),
    (Api::LeaveGroup, &[NOT_COORDINATOR, UNKNOWN_MEMBER_ID]),
    (
        Api::InitProducerId,
        &[COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE],
    ),
    (
        Api::ListOffsets,
        &[
            LEADER_NOT_AVAILABLE,
            NOT_LEADER_OR_FOLLOWER,
            KAFKA_STORAGE_ERROR,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
        ],
    ),
    (
        Api::OffsetForLeaderEpoch,
        &[
            NOT_LEADER_OR_FOLLOWER,
            KAFKA_STORAGE_ERROR,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
        ],
    ),
    (Api::ApiVersions, &[UNSUPPORTED_VERSION]),
];

/// Seeds that differ by one make schedules that have nothing in common.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) | 1
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, records, partitions) = (self.seed, self.records, self.partitions);
        writeln!(f, "schedule {seed}: {records} records to {partitions} partitions, ")?;
        let (timeout, in_flight) = (self.delivery_timeout, self.in_flight);
        writeln!(f, "  delivered within {timeout:?}, {in_flight} requests in flight")?;
        for manner in &self.members {
            writeln!(f, "  from the start a member that {manner}")?;
        }
        for (at, step) in &self.steps {
            writeln!(f, "  {at:4} ms: {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let acks = if self.acks_by_name {
            "acks by name"
        } else {
            "just loops"
        };
        let (interval, work) = (self.commit_interval, self.work);
        write!(f, "{acks}, works {work:?} on each message, commits each {interval:?}")?;
        match self.commit_each {
            Some(each) => write!(f, " and after each {each} messages"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { api, node, uses, fault } => {
                write!(f, "the next {uses} {api:?} ")?;
                if let Some(node) = node {
                    write!(f, "to broker {node} ")?;
                }
                write!(f, "meet {fault:?}")
            }
            Self::Crash(node) => write!(f, "broker {node} crashes"),
            Self::Restart(node) => write!(f, "broker {node} is back"),
            Self::MoveLeader { partition, node } => write!(f, "broker {node} leads partition {partition}"),
            Self::MoveCoordinator(node) => write!(f, "broker {node} coordinates the group"),
            Self::Throttle(time) => write!(f, "brokers throttle by {time:?}"),
            Self::SessionsEnd => f.write_str("the session time-out goes by"),
            Self::Join(manner) => write!(f, "a member joins that {manner}"),
            Self::Leave => f.write_str("the oldest member leaves"),
            Self::Drop => f.write_str("the oldest member is dropped"),
        }
    }
}
