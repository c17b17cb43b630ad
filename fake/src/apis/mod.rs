//! One file per API, or family of them: from a request to its answer.

pub(crate) mod api_versions;
mod groups;
mod metadata;

use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::{
    api::Call,
    shared::{Caller, Shared},
    wire::{self, Head},
};

/// Where a request came from, and whom it is put to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: Caller,
    pub(crate) head: Head,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Frame(Bytes),
    /// Produce without acks has none.
    Nothing,
}

/// `None` ends the connection.
pub(crate) fn answer(context: &Context<'_>, call: Call) -> Option<Answer> {
    let shared = context.shared;
    match call {
        Call::ApiVersions(_) => context.reply(&shared.look(api_versions::answer)),
        Call::Metadata(request) => context.reply(&shared.change(|state| metadata::answer(state, context, request))),
        Call::JoinGroup(request) => groups::join(context, &request),
        Call::SyncGroup(request) => groups::sync(context, &request),
        Call::Heartbeat(request) => groups::heartbeat(context, &request),
        Call::LeaveGroup(request) => groups::leave(context, &request),
        Call::ConsumerGroupHeartbeat(request) => groups::consumer_heartbeat(context, &request),
        Call::OffsetCommit(request) => groups::commit(context, &request),
        Call::OffsetFetch(request) => groups::fetch_offsets(context, &request),
        Call::OffsetDelete(request) => groups::delete_offsets(context, &request),
        Call::DescribeGroups(request) => groups::describe(context, &request),
        Call::ConsumerGroupDescribe(request) => groups::describe_consumers(context, &request),
        Call::ListGroups(request) => groups::list(context, &request),
        Call::DeleteGroups(request) => groups::delete(context, &request),
        _ => None,
    }
}

impl Context<'_> {
    pub(crate) fn version(&self) -> i16 {
        self.head.version
    }

    pub(crate) fn reply<R: Encodable + HeaderVersion>(&self, answer: &R) -> Option<Answer> {
        let frame = wire::frame(self.head.correlation, self.head.version, answer);
        if frame.is_none() {
            log::error!(
                "version {} of {:?} cannot say its answer",
                self.head.version,
                self.head.api
            );
        }
        frame.map(Answer::Frame)
    }
}
