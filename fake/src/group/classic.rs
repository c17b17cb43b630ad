//! One classic group: members join, one of them deals out, everybody fetches its share with SyncGroup.
//!
//! Decides as the coordinator of Kafka 4.3 does, one method per request and per timer. JoinGroup and SyncGroup may wait;
//! each comes with a ticket, and whatever answers it, now or later, lands in `answers`.

mod joining;
mod presence;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ConsumerProtocolSubscription, JoinGroupRequest, JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::{Decodable, StrBytes};

pub(super) use presence::nobody_leaves;

use super::{Caller, Response, Ticket, text};

#[derive(Debug)]
pub(super) struct ClassicGroup {
    pub(super) state: State,
    pub(super) generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    /// A member, whenever there are members.
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// IDs that were given with MEMBER_ID_REQUIRED, and how long they are waited for.
    promised: BTreeMap<String, Duration>,
    /// Who has not come with SyncGroup in this generation, and how long they are waited for.
    unsynced: BTreeSet<String>,
    sync_until: Duration,
    /// What a successor reads from the log: the last generation that everybody was given an assignment in.
    written: Option<Box<Written>>,
    answers: Vec<(Ticket, Response)>,
}

#[derive(Debug)]
struct Written {
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    /// Everybody is to join again, until `until`.
    Preparing {
        until: Duration,
        first: Option<FirstRebalance>,
    },
    /// Everybody has joined, and waits for what the leader deals out.
    Completing,
    Stable,
}

/// An empty group waits for more than the first member: `group.initial.rebalance.delay.ms`, again as long as somebody
/// came, and no longer than the rebalance timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstRebalance {
    remaining: Duration,
    has_grown: bool,
}

#[derive(Debug, Clone)]
struct Member {
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(String, Bytes)>,
    assignment: Bytes,
    expires: Duration,
    /// Has not been told its first generation yet, and cannot send heartbeats.
    is_new: bool,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
}

/// A JoinGroup's way through the group: who asks, what for, and where the answer goes to.
pub(super) struct Join<'a> {
    pub caller: &'a Caller,
    pub request: &'a JoinGroupRequest,
    pub ticket: Ticket,
    pub now: Duration,
}

impl ClassicGroup {
    pub(super) fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            sync_until: Duration::ZERO,
            written: None,
            answers: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::Empty => "Empty",
            State::Preparing { .. } => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// What is ready of the answers that were waited for.
    pub(super) fn answers(&mut self) -> Vec<(Ticket, Response)> {
        std::mem::take(&mut self.answers)
    }

    /// Whether somebody in the group reads the topic, as far as the group uses the payloads of consumers.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        let Some(protocol) = &self.protocol else { return false };
        self.members.values().any(|member| {
            let metadata = member.protocols.iter().find(|(name, _)| name == protocol);
            metadata.is_none_or(|(_, metadata)| match subscription(metadata.clone()) {
                Some(topics) => topics.iter().any(|subscribed| subscribed.as_str() == topic),
                None => true,
            })
        })
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// The name of the protocol and the members, as DescribeGroups shows them: with what they joined with only when
    /// stable.
    pub(super) fn described(&self) -> (String, Vec<DescribedMember>) {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol.clone().filter(|_| is_stable).unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| DescribedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if is_stable {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: member.assignment.clone(),
        });
        let members = members.collect();
        (protocol, members)
    }

    /// Another coordinator has read the group from the log. Who waits is sent there; whatever was not written is
    /// forgotten, and everybody has a fresh session.
    pub(super) fn reload(&mut self, now: Duration) {
        let members = std::mem::take(&mut self.members);
        for (member_id, member) in &members {
            if let Some(ticket) = member.joining {
                self.refuse_join(ticket, member_id, ResponseError::NotCoordinator);
            }
            if let Some(ticket) = member.syncing {
                self.refuse_sync(ticket, ResponseError::NotCoordinator);
            }
        }
        let answers = std::mem::take(&mut self.answers);
        let written = self.written.take();
        *self = Self { answers, ..Self::new() };
        let Some(written) = written else { return };
        self.state = if written.members.is_empty() {
            State::Empty
        } else {
            State::Stable
        };
        self.generation = written.generation;
        self.protocol_type = written.protocol_type;
        self.protocol = written.protocol;
        self.leader = written.leader;
        self.members = written.members;
        for member in self.members.values_mut() {
            member.expires = now.saturating_add(member.session_timeout);
        }
        self.write();
    }

    fn write(&mut self) {
        let members = self.members.iter().map(|(member_id, member)| {
            let written = Member {
                is_new: false,
                joining: None,
                syncing: None,
                ..member.clone()
            };
            (member_id.clone(), written)
        });
        self.written = Some(Box::new(Written {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: members.collect(),
        }));
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            let current = self.static_member(instance_id).ok_or(ResponseError::UnknownMemberId)?;
            if current != member_id {
                return Err(ResponseError::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    fn static_member(&self, instance_id: &str) -> Option<String> {
        let holds = |member: &Member| member.instance_id.as_deref() == Some(instance_id);
        self.members
            .iter()
            .find(|(_, member)| holds(member))
            .map(|(member_id, _)| member_id.clone())
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn heartbeat_seen(&mut self, member_id: &str, now: Duration) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = now.saturating_add(member.session_timeout);
        }
    }

    /// Forgets a member. What it waits for is answered: it may be alive, and has to begin anew.
    fn remove(&mut self, member_id: &str) {
        self.unsynced.remove(member_id);
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        if let Some(ticket) = member.joining {
            self.refuse_join(ticket, "", ResponseError::UnknownMemberId);
        }
        if let Some(ticket) = member.syncing {
            self.refuse_sync(ticket, ResponseError::UnknownMemberId);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn refuse_join(&mut self, ticket: Ticket, member_id: &str, error: ResponseError) {
        self.answers
            .push((ticket, Response::Join(refused_join(member_id, error))));
    }

    fn refuse_sync(&mut self, ticket: Ticket, error: ResponseError) {
        let response = SyncGroupResponse::default().with_error_code(error.code());
        self.answers.push((ticket, Response::Sync(response)));
    }
}

/// A member as DescribeGroups shows it.
pub(super) struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

impl Member {
    fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let metadata = self.protocols.iter().find(|(name, _)| name == protocol);
        metadata.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Who waits in the broker needs no heartbeats, unless it may have gone away before it was told who it is.
    fn is_alive_anyway(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}

pub(super) fn refused_join(member_id: &str, error: ResponseError) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(text(member_id))
        .with_error_code(error.code())
}

/// The topics in the payload of a consumer, if it is one.
fn subscription(mut metadata: Bytes) -> Option<Vec<StrBytes>> {
    if metadata.remaining() < 2 {
        return None;
    }
    let version = metadata.get_i16();
    ConsumerProtocolSubscription::decode(&mut metadata, version.min(3))
        .ok()
        .map(|subscription| subscription.topics)
}

#[cfg(test)]
mod tests;
