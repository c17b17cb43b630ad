//! One classic group: members join, one of them deals out, everybody fetches its share with SyncGroup.
//!
//! Decides as the coordinator of Kafka 4.3 does, one method per request and per timer. JoinGroup and SyncGroup may wait;
//! each comes with a ticket, and whatever answers it, now or later, lands in `answers`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::{Caller, Limits, Response, Ticket, millis, text};

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

    pub(super) fn join(&mut self, join: &Join<'_>, new_id: impl FnOnce(&str) -> String, limits: &Limits) {
        let member_id = join.request.member_id.as_str();
        if !self.has_room_for(member_id, limits) {
            self.promised.remove(member_id);
            return self.refuse_join(join.ticket, "", ResponseError::GroupMaxSizeReached);
        }
        if !self.supports(join.request) {
            return self.refuse_join(join.ticket, member_id, ResponseError::InconsistentGroupProtocol);
        }
        if member_id.is_empty() {
            self.join_unknown(join, new_id, limits)
        } else {
            self.join_known(join, limits)
        }
    }

    fn join_unknown(&mut self, join: &Join<'_>, new_id: impl FnOnce(&str) -> String, limits: &Limits) {
        let Some(instance_id) = join.request.group_instance_id.as_deref() else {
            let member_id = new_id(&join.caller.client_id);
            if join.caller.version < FIRST_THAT_REQUIRES_AN_ID {
                return self.add(join, member_id, limits);
            }
            let session = millis(join.request.session_timeout_ms);
            self.refuse_join(join.ticket, &member_id, ResponseError::MemberIdRequired);
            self.promised.insert(member_id, join.now + session);
            return;
        };
        let member_id = new_id(instance_id);
        match self.static_member(instance_id) {
            Some(former) => self.replace_static(join, &former, member_id, limits),
            None => self.add(join, member_id, limits),
        }
    }

    fn join_known(&mut self, join: &Join<'_>, limits: &Limits) {
        let member_id = join.request.member_id.as_str();
        if self.promised.contains_key(member_id) {
            return self.add(join, member_id.to_owned(), limits);
        }
        if let Err(error) = self.check_member(member_id, join.request.group_instance_id.as_deref()) {
            return self.refuse_join(join.ticket, member_id, error);
        }
        let is_same = self.members[member_id].protocols == protocols(join.request);
        let is_leader = self.is_leader(member_id);
        match self.state {
            State::Preparing { .. } => self.rejoin(join, limits),
            // Its answer was lost.
            State::Completing if is_same => self.tell_generation(join.ticket, member_id, is_leader),
            State::Stable if is_same && !is_leader => self.tell_generation(join.ticket, member_id, false),
            State::Completing | State::Stable => self.rejoin(join, limits),
            State::Empty => self.refuse_join(join.ticket, member_id, ResponseError::UnknownMemberId),
        }
    }

    fn add(&mut self, join: &Join<'_>, member_id: String, limits: &Limits) {
        if let State::Preparing { first: Some(first), .. } = &mut self.state {
            first.has_grown = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.request.protocol_type.to_string());
        }
        self.promised.remove(&member_id);
        self.leader.get_or_insert_with(|| member_id.clone());
        let member = Member {
            instance_id: join.request.group_instance_id.as_deref().map(str::to_owned),
            client_id: join.caller.client_id.clone(),
            client_host: join.caller.host.clone(),
            session_timeout: millis(join.request.session_timeout_ms),
            rebalance_timeout: rebalance_timeout(join.request),
            protocols: protocols(join.request),
            assignment: Bytes::new(),
            // It cannot send heartbeats before it knows its generation; but one that went away must not stay for ever.
            expires: join.now + NEW_MEMBER_JOIN_TIMEOUT,
            is_new: true,
            joining: Some(join.ticket),
            syncing: None,
        };
        self.members.insert(member_id, member);
        self.rebalance_or_complete(limits, join.now);
    }

    fn rejoin(&mut self, join: &Join<'_>, limits: &Limits) {
        self.take_over_terms(join.request.member_id.as_str(), join);
        self.rebalance_or_complete(limits, join.now);
    }

    /// What the member asks for now, and where its answer goes to.
    fn take_over_terms(&mut self, member_id: &str, join: &Join<'_>) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.protocols = protocols(join.request);
        member.session_timeout = millis(join.request.session_timeout_ms);
        member.rebalance_timeout = rebalance_timeout(join.request);
        let superseded = member.joining.replace(join.ticket);
        if let Some(ticket) = superseded {
            self.refuse_join(ticket, member_id, ResponseError::RebalanceInProgress);
        }
    }

    /// KIP-345: a static member that comes back under a new ID takes the place of the former, who is fenced.
    fn replace_static(&mut self, join: &Join<'_>, former: &str, member_id: String, limits: &Limits) {
        let former_leader = self.leader.clone().unwrap_or_default();
        let Some(mut member) = self.members.remove(former) else {
            return;
        };
        if let Some(ticket) = member.joining.take() {
            self.refuse_join(ticket, former, ResponseError::FencedInstanceId);
        }
        if let Some(ticket) = member.syncing.take() {
            self.refuse_sync(ticket, ResponseError::FencedInstanceId);
        }
        if self.is_leader(former) {
            self.leader = Some(member_id.clone());
        }
        if self.unsynced.remove(former) {
            self.unsynced.insert(member_id.clone());
        }
        member.is_new = false;
        self.members.insert(member_id.clone(), member);
        self.take_over_terms(&member_id, join);
        self.heartbeat_seen(&member_id, join.now);
        match self.state {
            State::Stable if self.protocol == self.select_protocol() => {
                self.skip_rebalance(join, &member_id, &former_leader);
            }
            // The leader may have dealt out to the former ID already.
            State::Stable | State::Completing => self.prepare_rebalance(limits, join.now),
            State::Preparing { .. } | State::Empty => self.maybe_complete_join(join.now),
        }
    }

    /// The assignment stays as it is. A leader is told so (KIP-814); before version 9, where that cannot be said, it is
    /// told that its former self leads, so that it asks for its assignment as all others do.
    fn skip_rebalance(&mut self, join: &Join<'_>, member_id: &str, former_leader: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.joining = None;
        }
        self.write();
        let is_leader = self.is_leader(member_id);
        let response = if join.caller.version >= FIRST_THAT_SKIPS_ASSIGNMENT {
            self.joined(member_id, is_leader).with_skip_assignment(is_leader)
        } else {
            self.joined(member_id, false).with_leader(text(former_leader))
        };
        self.answers.push((join.ticket, Response::Join(response)));
    }

    pub(super) fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: Duration) {
        if let Err(error) = self.check_sync(request) {
            return self.refuse_sync(ticket, error);
        }
        let member_id = request.member_id.as_str();
        match self.state {
            State::Empty => self.refuse_sync(ticket, ResponseError::UnknownMemberId),
            State::Preparing { .. } => self.refuse_sync(ticket, ResponseError::RebalanceInProgress),
            State::Stable => {
                self.unsynced.remove(member_id);
                self.give_assignment(ticket, member_id);
            }
            State::Completing => self.sync_while_completing(request, ticket, now),
        }
    }

    fn sync_while_completing(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: Duration) {
        let member_id = request.member_id.as_str();
        self.unsynced.remove(member_id);
        let superseded = self
            .members
            .get_mut(member_id)
            .and_then(|member| member.syncing.replace(ticket));
        if let Some(ticket) = superseded {
            self.refuse_sync(ticket, ResponseError::RebalanceInProgress);
        }
        if !self.is_leader(member_id) {
            return;
        }
        for (member_id, member) in &mut self.members {
            let dealt = request
                .assignments
                .iter()
                .find(|dealt| dealt.member_id.as_str() == member_id);
            member.assignment = dealt.map(|dealt| dealt.assignment.clone()).unwrap_or_default();
        }
        self.state = State::Stable;
        self.write();
        for (member_id, ticket) in self.take_syncing() {
            self.give_assignment(ticket, &member_id);
            self.heartbeat_seen(&member_id, now);
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ResponseError> {
        self.check_member(request.member_id.as_str(), request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |asked: &Option<StrBytes>, ours: &Option<String>| {
            asked
                .as_ref()
                .is_some_and(|asked| Some(asked.as_str()) != ours.as_deref())
        };
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, request: &HeartbeatRequest, now: Duration) -> Result<(), ResponseError> {
        self.check_member(request.member_id.as_str(), request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::Preparing { .. } => {
                self.heartbeat_seen(request.member_id.as_str(), now);
                Err(ResponseError::RebalanceInProgress)
            }
            // Members begin with heartbeats as soon as they have joined, before they sync.
            State::Completing | State::Stable => {
                self.heartbeat_seen(request.member_id.as_str(), now);
                Ok(())
            }
        }
    }

    pub(super) fn leave(
        &mut self,
        request: &LeaveGroupRequest,
        version: i16,
        limits: &Limits,
        now: Duration,
    ) -> LeaveGroupResponse {
        let only = [MemberIdentity::default().with_member_id(request.member_id.clone())];
        let leaving = if version < FIRST_THAT_LETS_SEVERAL_LEAVE {
            &only[..]
        } else {
            &request.members[..]
        };
        let mut response = LeaveGroupResponse::default();
        let mut anybody_left = false;
        for identity in leaving {
            let outcome = self.leave_one(identity);
            anybody_left |= outcome.is_ok();
            let code = outcome.err().map_or(0, |error| error.code());
            if version < FIRST_THAT_LETS_SEVERAL_LEAVE {
                response.error_code = code;
                continue;
            }
            let member = MemberResponse::default()
                .with_member_id(identity.member_id.clone())
                .with_group_instance_id(identity.group_instance_id.clone())
                .with_error_code(code);
            response.members.push(member);
        }
        if anybody_left {
            self.without_someone(limits, now);
        }
        response
    }

    fn leave_one(&mut self, identity: &MemberIdentity) -> Result<(), ResponseError> {
        let member_id = identity.member_id.as_str();
        let instance_id = identity.group_instance_id.as_deref();
        if member_id.is_empty() {
            // An administrator removes a static member, whose ID nobody else knows.
            let found = instance_id.and_then(|instance_id| self.static_member(instance_id));
            self.remove(&found.ok_or(ResponseError::UnknownMemberId)?);
            return Ok(());
        }
        if self.promised.remove(member_id).is_some() {
            return Ok(());
        }
        self.check_member(member_id, instance_id)?;
        self.remove(member_id);
        Ok(())
    }

    /// Whether offsets may be committed by who says so of itself.
    pub(super) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Duration,
    ) -> Result<(), ResponseError> {
        if self.is_empty() && generation < 0 {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if self.state == State::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        // A commit is a sign of life as well.
        self.heartbeat_seen(member_id, now);
        Ok(())
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
            member.expires = now + member.session_timeout;
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

    /// When the next timer of this group fires.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let sessions = self
            .members
            .values()
            .filter(|member| !member.is_alive_anyway())
            .map(|member| member.expires);
        let joining = match self.state {
            State::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let syncing = self.waits_for_sync().then_some(self.sync_until);
        sessions
            .chain(self.promised.values().copied())
            .chain(joining)
            .chain(syncing)
            .min()
    }

    pub(super) fn tick(&mut self, limits: &Limits, now: Duration) {
        // One that goes off may set another for right now.
        while self.next_timer().is_some_and(|next| next <= now) {
            self.expire_promised(now);
            self.expire_join(limits, now);
            self.expire_sync(limits, now);
            self.expire_sessions(limits, now);
        }
    }

    fn expire_promised(&mut self, now: Duration) {
        let before = self.promised.len();
        self.promised.retain(|_, until| *until > now);
        if self.promised.len() < before {
            self.maybe_complete_join(now);
        }
    }

    fn expire_join(&mut self, limits: &Limits, now: Duration) {
        let State::Preparing { until, first } = self.state else {
            return;
        };
        if until > now {
            return;
        }
        match first {
            Some(FirstRebalance {
                remaining,
                has_grown: true,
            }) if !remaining.is_zero() => {
                let delay = remaining.min(limits.initial_rebalance_delay);
                let first = FirstRebalance {
                    remaining: remaining - delay,
                    has_grown: false,
                };
                self.state = State::Preparing {
                    until: now + delay,
                    first: Some(first),
                };
            }
            _ => self.complete_join(now),
        }
    }

    fn expire_sync(&mut self, limits: &Limits, now: Duration) {
        if !self.waits_for_sync() || self.sync_until > now {
            return;
        }
        for member_id in std::mem::take(&mut self.unsynced) {
            self.remove(&member_id);
        }
        self.prepare_rebalance(limits, now);
    }

    fn expire_sessions(&mut self, limits: &Limits, now: Duration) {
        let is_gone = |member: &Member| !member.is_alive_anyway() && member.expires <= now;
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| is_gone(member))
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &gone {
            self.remove(member_id);
        }
        if !gone.is_empty() {
            self.without_someone(limits, now);
        }
    }

    fn without_someone(&mut self, limits: &Limits, now: Duration) {
        match self.state {
            State::Completing | State::Stable => self.prepare_rebalance(limits, now),
            State::Preparing { .. } => self.maybe_complete_join(now),
            State::Empty => {}
        }
    }

    fn rebalance_or_complete(&mut self, limits: &Limits, now: Duration) {
        match self.state {
            State::Preparing { .. } => self.maybe_complete_join(now),
            _ => self.prepare_rebalance(limits, now),
        }
    }

    fn prepare_rebalance(&mut self, limits: &Limits, now: Duration) {
        let timeout = self.rebalance_timeout();
        if self.is_empty() {
            let delay = limits.initial_rebalance_delay;
            let first = FirstRebalance {
                remaining: timeout.saturating_sub(delay),
                has_grown: false,
            };
            self.state = State::Preparing {
                until: now + delay,
                first: Some(first),
            };
            return;
        }
        if self.state == State::Completing {
            self.cancel_syncs(now);
        }
        self.unsynced.clear();
        self.state = State::Preparing {
            until: now + timeout,
            first: None,
        };
        self.maybe_complete_join(now);
    }

    /// Who waits for an assignment of this generation has to join again: there will be none.
    fn cancel_syncs(&mut self, now: Duration) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (member_id, ticket) in self.take_syncing() {
            self.refuse_sync(ticket, ResponseError::RebalanceInProgress);
            self.heartbeat_seen(&member_id, now);
        }
    }

    fn maybe_complete_join(&mut self, now: Duration) {
        let State::Preparing { first: None, .. } = self.state else {
            return;
        };
        if self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Duration) {
        let late = |member: &Member| member.joining.is_none() && member.instance_id.is_none();
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| late(member))
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in late {
            self.remove(&member_id);
        }
        if self.members.is_empty() {
            self.generation += 1;
            self.protocol = None;
            self.state = State::Empty;
            self.write();
            return;
        }
        if !self.elect_who_joined() {
            // Only static members are left, and none of them is here. Their sessions decide.
            self.state = State::Preparing {
                until: now + self.rebalance_timeout(),
                first: None,
            };
            return;
        }
        self.begin_generation(now);
    }

    fn begin_generation(&mut self, now: Duration) {
        self.generation += 1;
        self.protocol = self.select_protocol();
        self.state = State::Completing;
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_until = now + self.rebalance_timeout();
        let members: Vec<String> = self.members.keys().cloned().collect();
        for member_id in members {
            let joining = self.members.get_mut(&member_id).and_then(|member| {
                member.is_new = false;
                member.joining.take()
            });
            self.heartbeat_seen(&member_id, now);
            if let Some(ticket) = joining {
                let is_leader = self.is_leader(&member_id);
                self.tell_generation(ticket, &member_id, is_leader);
            }
        }
    }

    /// Whether a member leads that has joined.
    fn elect_who_joined(&mut self) -> bool {
        let has_joined = |member_id: &String| {
            self.members
                .get(member_id)
                .is_some_and(|member| member.joining.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(elected) = self.members.keys().find(|member_id| has_joined(member_id)).cloned() else {
            return false;
        };
        self.leader = Some(elected);
        true
    }

    /// Of the protocols that all members know, the one that most of them like best.
    fn select_protocol(&self) -> Option<String> {
        let candidates = self.common_protocols();
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for member in self.members.values() {
            let favourite = member
                .protocols
                .iter()
                .map(|(name, _)| name.as_str())
                .find(|name| candidates.contains(name));
            let Some(favourite) = favourite else { continue };
            match votes.iter_mut().find(|(name, _)| *name == favourite) {
                Some((_, count)) => *count += 1,
                None => votes.push((favourite, 1)),
            }
        }
        // The first of those with equal votes, not the last as `max_by_key` would say.
        votes
            .iter()
            .rev()
            .max_by_key(|(_, count)| *count)
            .map(|(name, _)| (*name).to_owned())
    }

    fn common_protocols(&self) -> Vec<&str> {
        let mut members = self.members.values();
        let Some(any) = members.next() else { return Vec::new() };
        let names = any.protocols.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| members.clone().all(|member| member.knows(name)))
            .collect()
    }

    fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.is_empty() {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let common = self.common_protocols();
        let knows_common = request
            .protocols
            .iter()
            .any(|protocol| common.contains(&protocol.name.as_str()));
        self.protocol_type() == request.protocol_type.as_str() && (knows_common || self.members.is_empty())
    }

    fn has_room_for(&self, member_id: &str, limits: &Limits) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            State::Preparing { .. } => {
                let joining = self.members.values().filter(|member| member.joining.is_some()).count();
                member.is_some_and(|member| member.joining.is_some()) || joining < limits.group_max_size
            }
            State::Completing | State::Stable => member.is_some() || self.members.len() < limits.group_max_size,
        }
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

    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    fn waits_for_sync(&self) -> bool {
        matches!(self.state, State::Completing | State::Stable) && !self.unsynced.is_empty()
    }

    fn heartbeat_seen(&mut self, member_id: &str, now: Duration) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.expires = now + member.session_timeout;
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

    fn take_syncing(&mut self) -> Vec<(String, Ticket)> {
        let members = self.members.iter_mut();
        members
            .filter_map(|(member_id, member)| Some((member_id.clone(), member.syncing.take()?)))
            .collect()
    }

    fn give_assignment(&mut self, ticket: Ticket, member_id: &str) {
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        let response = SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_assignment(member.assignment.clone());
        self.answers.push((ticket, Response::Sync(response)));
    }

    fn tell_generation(&mut self, ticket: Ticket, member_id: &str, with_members: bool) {
        let response = self.joined(member_id, with_members);
        self.answers.push((ticket, Response::Join(response)));
    }

    fn joined(&self, member_id: &str, with_members: bool) -> JoinGroupResponse {
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(member_id))
            .with_members(if with_members {
                self.joined_members()
            } else {
                Vec::new()
            })
    }

    fn joined_members(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let joined = self.members.iter().map(|(member_id, member)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(member_id))
                .with_group_instance_id(member.instance_id.as_deref().map(text))
                .with_metadata(member.metadata(protocol))
        });
        joined.collect()
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

fn protocols(request: &JoinGroupRequest) -> Vec<(String, Bytes)> {
    request
        .protocols
        .iter()
        .map(|protocol| (protocol.name.to_string(), protocol.metadata.clone()))
        .collect()
}

/// Version 0 knows only one timeout.
fn rebalance_timeout(request: &JoinGroupRequest) -> Duration {
    let timeout = request.rebalance_timeout_ms;
    millis(if timeout < 0 {
        request.session_timeout_ms
    } else {
        timeout.max(1)
    })
}

/// Nobody who leaves a group that there is not is a member of it.
pub(super) fn nobody_leaves(request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
    if version < FIRST_THAT_LETS_SEVERAL_LEAVE {
        return LeaveGroupResponse::default().with_error_code(ResponseError::UnknownMemberId.code());
    }
    let members = request.members.iter().map(|identity| {
        MemberResponse::default()
            .with_member_id(identity.member_id.clone())
            .with_group_instance_id(identity.group_instance_id.clone())
            .with_error_code(ResponseError::UnknownMemberId.code())
    });
    LeaveGroupResponse::default().with_members(members.collect())
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

/// For how long a JoinGroup may wait of whom nobody knows whether it is still there.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

const FIRST_THAT_REQUIRES_AN_ID: i16 = 4;
const FIRST_THAT_SKIPS_ASSIGNMENT: i16 = 9;
const FIRST_THAT_LETS_SEVERAL_LEAVE: i16 = 3;

#[cfg(test)]
mod tests;
