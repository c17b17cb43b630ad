//! Requests whose answers are awaited.

use std::{collections::BTreeMap, time::Instant};

use crossbeam_channel::Receiver;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};

use crate::{
    error::Result,
    group::{
        member::{Answer, Identity, Ticket},
        offsets,
        requests::{self, Sent},
    },
    net::Pending,
    offset::TopicPartition,
};

/// A request whose answer is awaited.
pub(super) enum Flight {
    Member(Ticket, Sent),
    Commit(Identity, Pending<OffsetCommitRequest>),
    Offsets(Identity, Pending<OffsetFetchRequest>),
}

/// An answer that came.
pub(super) enum Landed {
    Member(Ticket, Answer),
    Commit(Identity, BTreeMap<TopicPartition, i16>),
    Offsets(Identity, OffsetFetchResponse),
}

impl Flight {
    pub(super) fn signal(&self) -> &Receiver<Result<bytes::Bytes>> {
        match self {
            Self::Member(_, Sent::Join(pending)) => pending.signal(),
            Self::Member(_, Sent::Sync(pending)) => pending.signal(),
            Self::Member(_, Sent::Heartbeat(pending)) => pending.signal(),
            Self::Member(_, Sent::Leave(pending)) => pending.signal(),
            Self::Commit(_, pending) => pending.signal(),
            Self::Offsets(_, pending) => pending.signal(),
        }
    }

    pub(super) fn expires(&self) -> Instant {
        match self {
            Self::Member(_, Sent::Join(pending)) => pending.expires(),
            Self::Member(_, Sent::Sync(pending)) => pending.expires(),
            Self::Member(_, Sent::Heartbeat(pending)) => pending.expires(),
            Self::Member(_, Sent::Leave(pending)) => pending.expires(),
            Self::Commit(_, pending) => pending.expires(),
            Self::Offsets(_, pending) => pending.expires(),
        }
    }

    pub(super) fn take(&self) -> Option<Result<Landed>> {
        Some(match self {
            Self::Member(ticket, sent) => {
                let answer = match sent {
                    Sent::Join(pending) => pending.try_take()?.map(requests::joined),
                    Sent::Sync(pending) => pending.try_take()?.map(|answer| requests::synced(&answer)),
                    Sent::Heartbeat(pending) => pending.try_take()?.map(|answer| requests::heard(&answer)),
                    Sent::Leave(pending) => pending.try_take()?.map(|answer| requests::left(&answer)),
                };
                answer.map(|answer| Landed::Member(*ticket, answer))
            }
            Self::Commit(identity, pending) => pending
                .try_take()?
                .map(|answer| Landed::Commit(identity.clone(), offsets::committed(&answer))),
            Self::Offsets(identity, pending) => pending
                .try_take()?
                .map(|answer| Landed::Offsets(identity.clone(), answer)),
        })
    }
}
