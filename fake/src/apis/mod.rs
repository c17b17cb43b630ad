//! One file per API, or family of them: from a request to its answer.

pub(crate) mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod fetch;
mod find_coordinator;
mod groups;
mod leader_epochs;
mod list_offsets;
mod metadata;
mod placement;
mod produce;
mod producer_id;
mod sasl;

use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use crate::{
    api::Call,
    error_code::{NONE, UNSUPPORTED_VERSION},
    sasl::Session,
    shared::{Caller, Shared},
    wire::{self, Head},
};

/// Where a request came from, and whom it is put to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: Caller,
    pub(crate) head: Head,
    /// A fault: everything is refused with this code.
    pub(crate) refuses: Option<i16>,
    /// A fault: what is read comes damaged.
    pub(crate) corrupts: bool,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Frame(Bytes),
    /// Produce without acks has none.
    Nothing,
}

/// `None` ends the connection.
pub(crate) fn answer(context: &Context<'_>, session: &mut Session, call: Call) -> Option<Answer> {
    let shared = context.shared;
    match call {
        Call::ApiVersions(_) if context.refuses == Some(UNSUPPORTED_VERSION) => {
            let response = api_versions::unsupported(shared.look(|state| state.profile));
            wire::frame(context.head.correlation, 0, &response).map(Answer::Frame)
        }
        Call::ApiVersions(request) => {
            let response = shared.look(|state| api_versions::answer(state, context, &request));
            if response.error_code == NONE {
                session.told_versions();
            }
            context.reply(&response)
        }
        Call::SaslHandshake(request) => context.reply(&sasl::handshake(context, session, &request)?),
        Call::SaslAuthenticate(request) => context.reply(&sasl::authenticate(context, session, &request)),
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
        Call::Produce(request) => {
            let acks = request.acks;
            let response = produce::answer(context, request)?;
            match acks {
                0 => (!produce::has_errors(&response)).then_some(Answer::Nothing),
                _ => context.reply(&response),
            }
        }
        Call::Fetch(request) => context.reply(&fetch::answer(context, &request)?),
        Call::ListOffsets(request) => {
            context.reply(&shared.look(|state| list_offsets::answer(state, context, request)))
        }
        Call::OffsetForLeaderEpoch(request) => {
            context.reply(&shared.look(|state| leader_epochs::answer(state, context, request)))
        }
        Call::FindCoordinator(request) => {
            context.reply(&shared.look(|state| find_coordinator::answer(state, context, request)))
        }
        Call::InitProducerId(request) => {
            context.reply(&shared.change(|state| producer_id::answer(state, context, &request)))
        }
        Call::CreateTopics(request) => {
            context.reply(&shared.change(|state| create_topics::answer(state, context, request)))
        }
        Call::DeleteTopics(request) => {
            context.reply(&shared.change(|state| delete_topics::answer(state, context, request)))
        }
        Call::CreatePartitions(request) => {
            context.reply(&shared.change(|state| create_partitions::answer(state, context, request)))
        }
        Call::DeleteRecords(request) => {
            context.reply(&shared.change(|state| delete_records::answer(state, context, request)))
        }
        Call::DescribeCluster(request) => {
            context.reply(&shared.look(|state| describe_cluster::answer(state, context, &request)))
        }
        Call::DescribeConfigs(request) => {
            context.reply(&shared.look(|state| describe_configs::answer(state, context, request)))
        }
    }
}

/// Where brokers are, for who was sent to them: the same in two messages, each of which has a type of its own for it.
macro_rules! endpoints {
    ($endpoint:ty, $state:expr, $nodes:expr) => {
        $state
            .nodes_of($nodes)
            .into_iter()
            .map(|node| {
                <$endpoint>::default()
                    .with_node_id(BrokerId(node.id))
                    .with_host(node.host())
                    .with_port(node.port())
                    .with_rack(node.rack())
            })
            .collect()
    };
}
use endpoints;

/// Why something that was asked for is not done, in Kafka's words where they matter.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: i16,
    pub(crate) message: StrBytes,
}

pub(crate) fn refused(code: i16, message: impl Into<String>) -> Refused {
    let message = StrBytes::from_string(message.into());
    Refused { code, message }
}

/// Whether a request names a topic more than once, which is refused for each time.
pub(crate) fn is_repeated(names: &[String], name: &str) -> bool {
    names.iter().filter(|other| *other == name).count() > 1
}

impl<'a> Context<'a> {
    pub(crate) fn new(shared: &'a Shared, caller: Caller, head: Head) -> Self {
        Self {
            shared,
            caller,
            head,
            refuses: None,
            corrupts: false,
        }
    }

    /// The fault of a test, if there is one for this request.
    pub(crate) fn check_fault(&self) -> Result<(), i16> {
        self.refuses.map_or(Ok(()), Err)
    }

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
