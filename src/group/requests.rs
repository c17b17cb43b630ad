//! A member's requests and answers, to and from the protocol's messages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse, join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity, sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};

use super::member::{Answer, JoinedMember, Request};
use crate::{
    deadline::Deadline,
    error::Result,
    net::{Ask, Connection, Pending},
};

/// What the members of a consumer group call their protocol.
const CONSUMER: &str = "consumer";

/// A member's request that was sent.
#[derive(Debug)]
pub(crate) enum Sent {
    Join(Pending<JoinGroupRequest>),
    Sync(Pending<SyncGroupRequest>),
    Heartbeat(Pending<HeartbeatRequest>),
    Leave(Pending<LeaveGroupRequest>),
}

/// Sends a request of this group's member; `rebalance_timeout` is how long others may keep it waiting. An error means that
/// the broker has not got it.
pub(crate) fn send(
    group: &str,
    request: Request,
    rebalance_timeout: Duration,
    connection: &Connection,
    deadline: &Deadline,
) -> Result<Sent> {
    let group = group_id(group);
    Ok(match request {
        Request::Join {
            member_id,
            instance_id,
            session_timeout,
            rebalance_timeout: told,
            protocols,
        } => {
            let protocols = protocols.into_iter().map(|(name, metadata)| {
                JoinGroupRequestProtocol::default()
                    .with_name(text(name))
                    .with_metadata(Bytes::from(metadata))
            });
            let join = JoinGroupRequest::default()
                .with_group_id(group)
                .with_session_timeout_ms(milliseconds(session_timeout))
                .with_rebalance_timeout_ms(milliseconds(told))
                .with_member_id(text(member_id))
                .with_group_instance_id(instance_id.map(text))
                .with_protocol_type(StrBytes::from_static_str(CONSUMER))
                .with_protocols(protocols.collect());
            // It waits for the slowest of the others.
            Sent::Join(connection.send(Ask::from(&join).may_take(rebalance_timeout), deadline)?)
        }
        Request::Sync {
            generation,
            member_id,
            instance_id,
            protocol,
            assignments,
        } => {
            let assignments = assignments.into_iter().map(|(member, assignment)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(text(member))
                    .with_assignment(Bytes::from(assignment))
            });
            let sync = SyncGroupRequest::default()
                .with_group_id(group)
                .with_generation_id(generation)
                .with_member_id(text(member_id))
                .with_group_instance_id(instance_id.map(text))
                .with_protocol_type(Some(StrBytes::from_static_str(CONSUMER)))
                .with_protocol_name(Some(text(protocol)))
                .with_assignments(assignments.collect());
            // It waits for the leader.
            Sent::Sync(connection.send(Ask::from(&sync).may_take(rebalance_timeout), deadline)?)
        }
        Request::Heartbeat {
            generation,
            member_id,
            instance_id,
        } => {
            let heartbeat = HeartbeatRequest::default()
                .with_group_id(group)
                .with_generation_id(generation)
                .with_member_id(text(member_id))
                .with_group_instance_id(instance_id.map(text));
            Sent::Heartbeat(connection.send(&heartbeat, deadline)?)
        }
        Request::Leave { member_id } => {
            let member_id = text(member_id);
            // Version 3 lets several leave at once.
            let leave = |version: i16| {
                let request = LeaveGroupRequest::default().with_group_id(group.clone());
                let who = MemberIdentity::default().with_member_id(member_id.clone());
                match version {
                    3.. => request.with_members(vec![who]),
                    _ => request.with_member_id(member_id.clone()),
                }
            };
            Sent::Leave(connection.send(Ask::at_version(&leave), deadline)?)
        }
    })
}

pub(crate) fn joined(answer: JoinGroupResponse) -> Answer {
    let members = answer.members.into_iter().map(|member| JoinedMember {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        subscription: member.metadata.to_vec(),
    });
    Answer::Join {
        code: answer.error_code,
        generation: answer.generation_id,
        protocol: answer.protocol_name.map(|name| name.to_string()),
        leader: answer.leader.to_string(),
        member_id: answer.member_id.to_string(),
        skip_assignment: answer.skip_assignment,
        members: members.collect(),
    }
}

pub(crate) fn synced(answer: &SyncGroupResponse) -> Answer {
    Answer::Sync {
        code: answer.error_code,
        assignment: answer.assignment.to_vec(),
    }
}

pub(crate) fn heard(answer: &HeartbeatResponse) -> Answer {
    Answer::Heartbeat {
        code: answer.error_code,
    }
}

pub(crate) fn left(answer: &LeaveGroupResponse) -> Answer {
    let member = answer.members.first().map_or(0, |member| member.error_code);
    Answer::Leave {
        code: if answer.error_code == 0 {
            member
        } else {
            answer.error_code
        },
    }
}

pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(crate) fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Groups what belongs to one topic, as requests name it.
pub(crate) fn by_topic<T>(items: impl IntoIterator<Item = (Arc<str>, T)>) -> Vec<(Arc<str>, Vec<T>)> {
    let mut topics: Vec<(Arc<str>, Vec<T>)> = Vec::new();
    for (topic, item) in items {
        match topics.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, items)) => items.push(item),
            None => topics.push((topic, vec![item])),
        }
    }
    topics
}
