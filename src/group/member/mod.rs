//! Membership in a group as a value: what happened goes in, with the time; what is to be done comes out.
//!
//! The driver (`group/coordinator`) hands in events, then takes out everything that [`Member::poll`] gives, each time.
//! There is one file per protocol; what they have in common is here.

mod classic;
#[cfg(test)]
mod simulation;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{cluster::Backoff, error::Error, offset::TopicPartition};

use super::assignor::Assignor;

pub(crate) use classic::Member;

/// What a member is told when it is made.
#[derive(Debug, Clone)]
pub(crate) struct MemberConfig {
    /// Sorted, without duplicates; not empty.
    pub topics: Vec<Arc<str>>,
    /// Static membership (KIP-345).
    pub instance_id: Option<String>,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub rebalance_timeout: Duration,
    /// In order of preference; not empty.
    pub assignors: Vec<Assignor>,
    pub backoff: Backoff,
    /// Spreads retries.
    pub random: u64,
}

/// Which of the member's two connections a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Heartbeats, commits, leaving: answered at once.
    Group,
    /// JoinGroup and SyncGroup: they wait in the broker for the other members.
    Join,
}

/// Names one request, so that a late answer to an earlier one does not count.
pub(crate) type Ticket = u64;

/// A request as the driver is to send it; group and topics are the driver's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Join {
        /// Empty the first time.
        member_id: String,
        instance_id: Option<String>,
        session_timeout: Duration,
        rebalance_timeout: Duration,
        /// Name and subscription payload of each assignor.
        protocols: Vec<(String, Vec<u8>)>,
    },
    Sync {
        generation: i32,
        member_id: String,
        instance_id: Option<String>,
        /// The assignor that all agreed on.
        protocol: String,
        /// The leader's: member ID and assignment payload.
        assignments: Vec<(String, Vec<u8>)>,
    },
    Heartbeat {
        generation: i32,
        member_id: String,
        instance_id: Option<String>,
    },
    Leave {
        member_id: String,
    },
}

/// An answer, as far as it matters; `code` is Kafka's error code, 0 for success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Join {
        code: i16,
        generation: i32,
        /// None from brokers that tell none, or when the code is not 0.
        protocol: Option<String>,
        leader: String,
        /// Also with MEMBER_ID_REQUIRED: the one to use from now on.
        member_id: String,
        /// KIP-814: the broker has the assignment already; the leader sends none.
        skip_assignment: bool,
        /// The leader gets all: ID, instance ID, subscription payload.
        members: Vec<JoinedMember>,
    },
    Sync {
        code: i16,
        assignment: Vec<u8>,
    },
    Heartbeat {
        code: i16,
    },
    Leave {
        code: i16,
    },
}

/// One member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub subscription: Vec<u8>,
}

/// Who commits: what goes with OffsetCommit and OffsetFetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

/// What the driver is to do, in this order.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// Find out who coordinates and connect both links, not before this time. The driver answers with
    /// [`Member::connected`] or [`Member::disconnected`]. What was in flight is void.
    Connect { at: Instant },
    Send {
        ticket: Ticket,
        link: Link,
        request: Request,
    },
    /// Give up every partition in good order. Always, also without any; the driver answers with [`Member::released`].
    Revoke,
    /// Every partition is lost at once; nothing is answered. Ends a `Revoke` and an `Assign` that are under way.
    Lost { cause: Error },
    /// All that is ours in this generation; nothing else is. Comes only when nothing is owned.
    Assign {
        generation: i32,
        partitions: Vec<TopicPartition>,
    },
    /// The leader needs to know how many partitions these topics have. The driver answers with [`Member::topics`], and
    /// calls that again whenever one of these numbers has changed.
    Describe(Vec<Arc<str>>),
    /// Something is wrong, and is being tried again: for health, events and log.
    Trouble(Error),
    /// What was wrong is over.
    Well,
    /// Nothing helps; the program must see it. The member does nothing any more.
    Fail(Error),
    /// The group knows that we have left, or will find out. The member does nothing any more.
    Left,
}
