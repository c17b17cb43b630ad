//! Groups of consumers: who is a member, who reads what, and what was committed.
//!
//! Everything here is a value: no socket, no thread, no lock, and the time is an argument. A request is answered at once
//! or parked under a [`Ticket`], which [`Groups::take`] turns into its answer once there is one.

mod assignor;
mod classic;
mod consumer;
mod limits;
mod listings;
mod offsets;
mod pattern;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use classic::{ClassicGroup, Join, nobody_leaves, refused_join};
use consumer::ConsumerGroup;
pub(crate) use limits::Limits;
use offsets::Offsets;

/// All groups of the cluster, whichever broker coordinates them.
#[derive(Debug)]
pub(crate) struct Groups {
    limits: Limits,
    groups: BTreeMap<String, Entry>,
    tickets: u64,
    members_made: u64,
    answered: BTreeMap<Ticket, Response>,
    /// Nobody waits for their answers any more.
    abandoned: BTreeSet<Ticket>,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
    /// The coordinator that has the group in memory. Another one would have to read it from the log.
    loaded_by: Option<Coordinator>,
}

#[derive(Debug)]
enum Group {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

/// A broker in one of its lives: what it keeps in memory is gone with that.
pub(crate) type Coordinator = (i32, u64);

/// Stands for a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug, Clone)]
pub(crate) enum Answer<R> {
    Now(R),
    Parked(Ticket),
}

/// The answer to a request that waited.
#[derive(Debug, Clone)]
pub(crate) enum Response {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) client_id: String,
    pub(crate) host: String,
    /// Of the request.
    pub(crate) version: i16,
}

/// The topics of the cluster, as far as groups need to know them.
pub(crate) trait Topics {
    /// ID and number of partitions.
    fn find(&self, topic: &str) -> Option<(Uuid, i32)>;
    fn name_of(&self, id: Uuid) -> Option<String>;
    fn names(&self) -> Vec<String>;
}

impl Groups {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            groups: BTreeMap::new(),
            tickets: 0,
            members_made: 0,
            answered: BTreeMap::new(),
            abandoned: BTreeSet::new(),
        }
    }

    /// To be called before anything is asked of a group: reads it from the log if another broker has coordinated it so
    /// far, and lets its timers go off.
    pub(crate) fn enter(&mut self, group_id: &str, coordinator: Coordinator, now: Duration) {
        let Some(entry) = self.groups.get_mut(group_id) else {
            return;
        };
        if *entry.loaded_by.get_or_insert(coordinator) != coordinator {
            entry.loaded_by = Some(coordinator);
            match &mut entry.group {
                Group::Classic(group) => group.reload(now),
                Group::Consumer(group) => group.reload(&self.limits, now),
            }
        }
        self.tick(group_id, now);
    }

    /// Lets all timers of the group go off that are due.
    pub(crate) fn tick(&mut self, group_id: &str, now: Duration) {
        let Some(entry) = self.groups.get_mut(group_id) else {
            return;
        };
        match &mut entry.group {
            Group::Classic(group) => group.tick(&self.limits, now),
            Group::Consumer(group) => group.tick(now),
        }
        self.collect(group_id);
    }

    /// When to [`tick`](Self::tick) next.
    pub(crate) fn next_timer(&self, group_id: &str) -> Option<Duration> {
        match &self.groups.get(group_id)?.group {
            Group::Classic(group) => group.next_timer(),
            Group::Consumer(group) => group.next_timer(),
        }
    }

    /// The answer to what was parked, once.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<Response> {
        self.answered.remove(&ticket)
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        if self.answered.remove(&ticket).is_none() {
            self.abandoned.insert(ticket);
        }
    }

    pub(crate) fn join(
        &mut self,
        caller: &Caller,
        request: &JoinGroupRequest,
        now: Duration,
    ) -> Answer<JoinGroupResponse> {
        let refuse = |error| Answer::Now(refused_join(request.member_id.as_str(), error));
        let group_id = request.group_id.as_str();
        if group_id.is_empty() {
            return refuse(ResponseError::InvalidGroupId);
        }
        if !self
            .limits
            .session_timeouts()
            .contains(&millis(request.session_timeout_ms))
        {
            return refuse(ResponseError::InvalidSessionTimeout);
        }
        if !self.groups.contains_key(group_id) && !request.member_id.is_empty() {
            return refuse(ResponseError::UnknownMemberId);
        }
        let ticket = self.next_ticket();
        let limits = self.limits.clone();
        let number = self.next_member();
        let Some(group) = self.classic_to_join(group_id) else {
            return refuse(ResponseError::InconsistentGroupProtocol);
        };
        group.join(
            &Join {
                caller,
                request,
                ticket,
                now,
            },
            |prefix| new_member_id(prefix, number),
            &limits,
        );
        group.tick(&limits, now);
        self.collect(group_id);
        match self.take(ticket) {
            Some(Response::Join(response)) => Answer::Now(response),
            _ => Answer::Parked(ticket),
        }
    }

    pub(crate) fn sync(
        &mut self,
        request: &SyncGroupRequest,
        version: i16,
        now: Duration,
    ) -> Answer<SyncGroupResponse> {
        let refuse = |error: ResponseError| Answer::Now(SyncGroupResponse::default().with_error_code(error.code()));
        let group_id = request.group_id.as_str();
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if version >= FIRST_SYNC_THAT_NAMES_PROTOCOLS && !names_protocol {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        if group_id.is_empty() {
            return refuse(ResponseError::InvalidGroupId);
        }
        let ticket = self.next_ticket();
        let Some(group) = self.classic(group_id) else {
            return refuse(ResponseError::UnknownMemberId);
        };
        group.sync(request, ticket, now);
        self.collect(group_id);
        match self.take(ticket) {
            Some(Response::Sync(response)) => Answer::Now(response),
            _ => Answer::Parked(ticket),
        }
    }

    pub(crate) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Duration) -> HeartbeatResponse {
        let group_id = request.group_id.as_str();
        let outcome = match self.classic(group_id) {
            _ if group_id.is_empty() => Err(ResponseError::InvalidGroupId),
            Some(group) => group.heartbeat(request, now),
            None => Err(ResponseError::UnknownMemberId),
        };
        HeartbeatResponse::default().with_error_code(code(outcome))
    }

    pub(crate) fn leave(&mut self, request: &LeaveGroupRequest, version: i16, now: Duration) -> LeaveGroupResponse {
        let group_id = request.group_id.as_str();
        if group_id.is_empty() {
            return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
        }
        let limits = self.limits.clone();
        let Some(group) = self.classic(group_id) else {
            return nobody_leaves(request, version);
        };
        let response = group.leave(request, version, &limits, now);
        group.tick(&limits, now);
        self.collect(group_id);
        response
    }

    pub(crate) fn consumer_heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        topics: &impl Topics,
        now: Duration,
    ) -> ConsumerGroupHeartbeatResponse {
        match self.try_consumer_heartbeat(caller, request, topics, now) {
            Ok(response) => response,
            Err((error, message)) => ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(text(&message))),
        }
    }

    fn try_consumer_heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        topics: &impl Topics,
        now: Duration,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        consumer::check(request, caller.version)?;
        let group_id = request.group_id.as_str();
        let is_joining = request.member_epoch == 0;
        let new_id = new_member_id("", self.next_member());
        match self.groups.get_mut(group_id).map(|entry| &mut entry.group) {
            Some(Group::Consumer(group)) => group.heartbeat(caller, request, new_id, &self.limits, topics, now),
            Some(Group::Classic(_)) if !is_joining => Err((
                ResponseError::GroupIdNotFound,
                format!("Group {group_id} is not a consumer group."),
            )),
            Some(Group::Classic(group)) if !group.is_empty() => {
                let message = format!(
                    "Cannot upgrade classic group {group_id} to consumer group because online upgrade is disabled."
                );
                Err((ResponseError::GroupIdNotFound, message))
            }
            None if request.member_epoch < 0 => {
                Err((ResponseError::GroupIdNotFound, format!("Group {group_id} not found.")))
            }
            None if !is_joining => Err((
                ResponseError::GroupIdNotFound,
                format!("Consumer group {group_id} not found."),
            )),
            // A new one, or an empty classic one that becomes one of these: its offsets stay.
            _ => {
                let mut group = ConsumerGroup::new();
                let response = group.heartbeat(caller, request, new_id, &self.limits, topics, now)?;
                self.entry(group_id).group = Group::Consumer(group);
                Ok(response)
            }
        }
    }

    /// The group that a classic member may join: made if there is none, or if there is an empty one of the other kind.
    /// `None` if members of the other kind are in it: what Kafka does when its migration policy forbids to mix them.
    fn classic_to_join(&mut self, group_id: &str) -> Option<&mut ClassicGroup> {
        let entry = self.entry(group_id);
        if matches!(&entry.group, Group::Consumer(group) if group.is_empty()) {
            entry.group = Group::Classic(ClassicGroup::new());
        }
        match &mut entry.group {
            Group::Classic(group) => Some(group),
            Group::Consumer(_) => None,
        }
    }

    fn classic(&mut self, group_id: &str) -> Option<&mut ClassicGroup> {
        match &mut self.groups.get_mut(group_id)?.group {
            Group::Classic(group) => Some(group),
            Group::Consumer(_) => None,
        }
    }

    fn entry(&mut self, group_id: &str) -> &mut Entry {
        self.groups.entry(group_id.to_owned()).or_insert_with(|| Entry {
            group: Group::Classic(ClassicGroup::new()),
            offsets: Offsets::default(),
            loaded_by: None,
        })
    }

    fn collect(&mut self, group_id: &str) {
        let answers = self.classic(group_id).map(ClassicGroup::answers).unwrap_or_default();
        for (ticket, response) in answers {
            if !self.abandoned.remove(&ticket) {
                self.answered.insert(ticket, response);
            }
        }
    }

    fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn next_member(&mut self) -> u64 {
        self.members_made += 1;
        self.members_made
    }
}

impl Group {
    fn state_name(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.state_name(),
            Self::Consumer(group) => group.state_name(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_empty(),
            Self::Consumer(group) => group.is_empty(),
        }
    }
}

/// An error, and what Kafka says about it.
type Refusal = (ResponseError, String);

/// As Kafka's: what the client calls itself, and something that no other member has.
fn new_member_id(prefix: &str, number: u64) -> String {
    let unique = Uuid::from_u64_pair(0x6b6c_616d_6d00_4000, 0x8000_0000_0000_0000 | number);
    if prefix.is_empty() {
        unique.to_string()
    } else {
        format!("{prefix}-{unique}")
    }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn code(outcome: Result<(), ResponseError>) -> i16 {
    outcome.err().map_or(0, |error| error.code())
}

const FIRST_SYNC_THAT_NAMES_PROTOCOLS: i16 = 5;

#[cfg(test)]
mod tests;
