//! All that is asked of a group's coordinator: whether this broker is the one, and then what `group` decides.

mod by_id;

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::{
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
        DescribeGroupsResponse, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
        LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
        OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
        SyncGroupRequest, SyncGroupResponse, consumer_group_describe_response as consumers,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::DescribedGroup,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{Answer, Context};
use crate::{
    Profile,
    error_code::{NONE, NOT_COORDINATOR, UNSUPPORTED_VERSION},
    group::{self, Response, Ticket, Topics},
    shared::Step,
    state::State,
    topic::Topic,
};

pub(super) fn join(context: &Context<'_>, request: &JoinGroupRequest) -> Option<Answer> {
    let caller = caller(context);
    let asked = in_group(context, &request.group_id, |state, now| {
        state.groups.join(&caller, request, now)
    })?;
    let response = match asked {
        Ok(group::Answer::Now(response)) => response,
        Ok(group::Answer::Parked(ticket)) => match wait(context, &request.group_id, ticket)? {
            Some(Response::Join(response)) => response,
            _ => refused_join(request, NOT_COORDINATOR),
        },
        Err(code) => refused_join(request, code),
    };
    let mut response = response.with_throttle_time_ms(throttle(context));
    if context.version() < FIRST_JOIN_WITH_NULL_PROTOCOL && response.protocol_name.is_none() {
        response.protocol_name = Some(StrBytes::default());
    }
    context.reply(&response)
}

pub(super) fn sync(context: &Context<'_>, request: &SyncGroupRequest) -> Option<Answer> {
    let refused = |code| SyncGroupResponse::default().with_error_code(code);
    let asked = in_group(context, &request.group_id, |state, now| {
        state.groups.sync(request, context.version(), now)
    })?;
    let response = match asked {
        Ok(group::Answer::Now(response)) => response,
        Ok(group::Answer::Parked(ticket)) => match wait(context, &request.group_id, ticket)? {
            Some(Response::Sync(response)) => response,
            _ => refused(NOT_COORDINATOR),
        },
        Err(code) => refused(code),
    };
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn heartbeat(context: &Context<'_>, request: &HeartbeatRequest) -> Option<Answer> {
    let asked = in_group(context, &request.group_id, |state, now| {
        state.groups.heartbeat(request, now)
    })?;
    let response = asked.unwrap_or_else(|code| HeartbeatResponse::default().with_error_code(code));
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn leave(context: &Context<'_>, request: &LeaveGroupRequest) -> Option<Answer> {
    let asked = in_group(context, &request.group_id, |state, now| {
        state.groups.leave(request, context.version(), now)
    })?;
    let response = asked.unwrap_or_else(|code| LeaveGroupResponse::default().with_error_code(code));
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn consumer_heartbeat(context: &Context<'_>, request: &ConsumerGroupHeartbeatRequest) -> Option<Answer> {
    if let Err(code) = has_consumer_groups(context) {
        return context.reply(&ConsumerGroupHeartbeatResponse::default().with_error_code(code));
    }
    let caller = caller(context);
    let asked = in_group(context, &request.group_id, |state, now| {
        let State { groups, topics, .. } = state;
        groups.consumer_heartbeat(&caller, request, topics, now)
    })?;
    let refused = |code| ConsumerGroupHeartbeatResponse::default().with_error_code(code);
    context.reply(&asked.unwrap_or_else(refused).with_throttle_time_ms(throttle(context)))
}

pub(super) fn commit(context: &Context<'_>, request: &OffsetCommitRequest) -> Option<Answer> {
    let version = context.version();
    let (named, unknown) = context
        .shared
        .look(|state| by_id::named_commit(state, request, version));
    let asked = in_group(context, &request.group_id, |state, now| {
        let State { groups, topics, .. } = state;
        groups.commit(&named, version, topics, now)
    })?;
    let mut response = asked.unwrap_or_else(|code| refused_commit(&named, code));
    for (topic, answer) in named.topics.iter().zip(&mut response.topics) {
        answer.topic_id = topic.topic_id;
    }
    response.topics.splice(0..0, unknown);
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn fetch_offsets(context: &Context<'_>, request: &OffsetFetchRequest) -> Option<Answer> {
    let version = context.version();
    let response = if version >= FIRST_FETCH_OF_SEVERAL_GROUPS {
        let groups = request.groups.iter().map(|asked| {
            let found = in_group(context, &asked.group_id, |state, _| {
                let mut found = state.groups.fetch_group(&by_id::named_fetch(state, asked, version));
                by_id::give_ids(state, asked, version, &mut found);
                found
            })?;
            Some(found.unwrap_or_else(|code| {
                OffsetFetchResponseGroup::default()
                    .with_group_id(asked.group_id.clone())
                    .with_error_code(code)
            }))
        });
        OffsetFetchResponse::default().with_groups(groups.collect::<Option<_>>()?)
    } else {
        let found = in_group(context, &request.group_id, |state, _| {
            state.groups.fetch_offsets(request)
        })?;
        found.unwrap_or_else(|code| refused_fetch(request, version, code))
    };
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn delete_offsets(context: &Context<'_>, request: &OffsetDeleteRequest) -> Option<Answer> {
    let asked = in_group(context, &request.group_id, |state, _| {
        let State { groups, topics, .. } = state;
        groups.delete_offsets(request, topics)
    })?;
    let response = asked.unwrap_or_else(|code| OffsetDeleteResponse::default().with_error_code(code));
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn describe(context: &Context<'_>, request: &DescribeGroupsRequest) -> Option<Answer> {
    let groups = request.groups.iter().map(|group_id| {
        let found = in_group(context, group_id, |state, _| {
            state.groups.describe(group_id, context.version())
        })?;
        Some(found.unwrap_or_else(|code| {
            DescribedGroup::default()
                .with_group_id(group_id.clone())
                .with_error_code(code)
        }))
    });
    let response = DescribeGroupsResponse::default().with_groups(groups.collect::<Option<_>>()?);
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn describe_consumers(context: &Context<'_>, request: &ConsumerGroupDescribeRequest) -> Option<Answer> {
    let groups = request.group_ids.iter().map(|group_id| {
        let found = has_consumer_groups(context).map_or_else(
            |code| Some(Err(code)),
            |()| {
                in_group(context, group_id, |state, _| {
                    let State { groups, topics, .. } = state;
                    groups.describe_consumers(group_id, topics, context.version())
                })
            },
        )?;
        Some(found.unwrap_or_else(|code| {
            consumers::DescribedGroup::default()
                .with_group_id(group_id.clone())
                .with_error_code(code)
        }))
    });
    let response = ConsumerGroupDescribeResponse::default().with_groups(groups.collect::<Option<_>>()?);
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

/// Every broker knows only of the groups that it coordinates.
pub(super) fn list(context: &Context<'_>, request: &ListGroupsRequest) -> Option<Answer> {
    if let Err(code) = context.check_fault() {
        return context.reply(&ListGroupsResponse::default().with_error_code(code));
    }
    let node = context.caller.node;
    let groups = context.shared.change_alive(&context.caller, |state| {
        let ours = state.groups.ids().into_iter();
        let ours: Vec<String> = ours.filter(|group_id| state.coordinator(group_id) == node).collect();
        let now = state.clock.now();
        for group_id in &ours {
            state.groups.enter(group_id, (node, context.caller.life), now);
        }
        state
            .groups
            .list(request, |group_id| ours.iter().any(|ours| ours == group_id))
    })?;
    let response = ListGroupsResponse::default().with_groups(groups);
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

pub(super) fn delete(context: &Context<'_>, request: &DeleteGroupsRequest) -> Option<Answer> {
    let results = request.groups_names.iter().map(|group_id| {
        let outcome = in_group(context, group_id, |state, _| state.groups.delete(group_id))?;
        let code = outcome.map_or_else(|code| code, |outcome| outcome.err().map_or(NONE, |error| error.code()));
        let result = DeletableGroupResult::default().with_group_id(group_id.clone());
        Some(result.with_error_code(code))
    });
    let response = DeleteGroupsResponse::default().with_results(results.collect::<Option<_>>()?);
    context.reply(&response.with_throttle_time_ms(throttle(context)))
}

/// Kafka 3.9 names the requests of KIP-848 and refuses them, unless `group.coordinator.rebalance.protocols` has them.
fn has_consumer_groups(context: &Context<'_>) -> Result<(), i16> {
    match context.shared.look(|state| state.profile) {
        Profile::V4_3 => Ok(()),
        _ => Err(UNSUPPORTED_VERSION),
    }
}

/// Asks a group, if this broker coordinates it, after its timers have gone off. `None` if the broker has ended.
fn in_group<T>(
    context: &Context<'_>,
    group_id: &GroupId,
    ask: impl FnOnce(&mut State, Duration) -> T,
) -> Option<Result<T, i16>> {
    if let Err(code) = context.check_fault() {
        return Some(Err(code));
    }
    let caller = context.caller;
    context.shared.change_alive(&caller, |state| {
        if state.coordinator(group_id) != caller.node {
            return Err(NOT_COORDINATOR);
        }
        let now = state.clock.now();
        state.groups.enter(group_id, (caller.node, caller.life), now);
        Ok(ask(state, now))
    })
}

/// Waits for what was parked. `Some(None)` if another broker has become the coordinator, `None` if this one ends.
fn wait(context: &Context<'_>, group_id: &GroupId, ticket: Ticket) -> Option<Option<Response>> {
    let node = context.caller.node;
    let answer = context.shared.wait(&context.caller, |state, now| {
        if state.coordinator(group_id) != node {
            return Step::Done(None);
        }
        state.groups.tick(group_id, now);
        match state.groups.take(ticket) {
            Some(response) => Step::Done(Some(response)),
            None => Step::Wait(state.groups.next_timer(group_id)),
        }
    });
    if !matches!(answer, Some(Some(_))) {
        context.shared.change(|state| state.groups.abandon(ticket));
    }
    answer
}

fn caller(context: &Context<'_>) -> group::Caller {
    group::Caller {
        client_id: context.head.client_id.clone(),
        host: "/127.0.0.1".to_owned(),
        version: context.version(),
    }
}

fn throttle(context: &Context<'_>) -> i32 {
    context.shared.look(State::throttle_ms)
}

fn refused_join(request: &JoinGroupRequest, code: i16) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(request.member_id.clone())
        .with_error_code(code)
}

fn refused_commit(request: &OffsetCommitRequest, code: i16) -> OffsetCommitResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Version 1 can say it only of partitions.
fn refused_fetch(request: &OffsetFetchRequest, version: i16, code: i16) -> OffsetFetchResponse {
    if version > 1 {
        return OffsetFetchResponse::default().with_error_code(code);
    }
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

impl Topics for BTreeMap<String, Topic> {
    fn find(&self, topic: &str) -> Option<(Uuid, i32)> {
        let topic = self.get(topic)?;
        Some((topic.id, topic.partitions.len() as i32))
    }

    fn name_of(&self, id: Uuid) -> Option<String> {
        self.iter()
            .find(|(_, topic)| topic.id == id)
            .map(|(name, _)| name.clone())
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

const FIRST_JOIN_WITH_NULL_PROTOCOL: i16 = 7;
const FIRST_FETCH_OF_SEVERAL_GROUPS: i16 = 8;
