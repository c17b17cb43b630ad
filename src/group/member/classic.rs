//! The classic protocol: JoinGroup, SyncGroup, Heartbeat.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Answer, Identity, MemberConfig, Output, Ticket};
use crate::error::Error;

/// One member of one group.
#[derive(Debug)]
pub(crate) struct Member {}

impl Member {
    /// The first thing that comes out is `Connect`.
    pub(crate) fn new(config: MemberConfig, now: Instant) -> Self {
        todo!()
    }

    // ---- what happened ----

    /// Both links are up, and new.
    pub(crate) fn connected(&mut self, now: Instant) {}

    /// The coordinator could not be found or reached, or a link broke.
    pub(crate) fn disconnected(&mut self, error: Error, now: Instant) {}

    /// An answer came. An error is one of the request alone (it could not be decoded, the version is unsupported); a
    /// broken link is `disconnected`.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Result<Answer, Error>, now: Instant) {}

    /// What `Revoke` asked for is done.
    pub(crate) fn released(&mut self, now: Instant) {}

    /// How many partitions these topics have; one that is not there does not exist.
    pub(crate) fn topics(&mut self, partitions: &BTreeMap<Arc<str>, i32>, now: Instant) {}

    /// An OffsetCommit or OffsetFetch, sent with this identity, was refused with a code that concerns membership or the
    /// coordinator. Others are ignored.
    pub(crate) fn refused(&mut self, identity: &Identity, code: i16, now: Instant) {}

    /// Says goodbye, as soon as there is somebody to say it to. The driver has released everything before.
    pub(crate) fn leave(&mut self, now: Instant) {}

    /// Time has passed; call it at [`timer`](Self::timer) or later.
    pub(crate) fn tick(&mut self, now: Instant) {}

    // ---- what follows ----

    /// The next thing to do. Call it until it gives nothing, after each event.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When `tick` has something to do.
    pub(crate) fn timer(&self) -> Option<Instant> {
        None
    }

    /// Until when the partitions of the current generation are surely ours: the send time of the last answered request
    /// that kept us in the group, and the session timeout. None while nothing is owned.
    pub(crate) fn valid_until(&self) -> Option<Instant> {
        None
    }

    /// Whom to commit as; None before a generation, and after it was lost. Still the old one while `Revoke` is being done.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        None
    }

    /// Between two generations.
    pub(crate) fn is_rebalancing(&self) -> bool {
        true
    }
}
