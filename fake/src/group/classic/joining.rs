//! From a member that comes to a generation in which everybody has its share.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::{ClassicGroup, FirstRebalance, Join, Member, State};
use crate::group::{Limits, Response, Ticket, millis, text};

impl ClassicGroup {
    pub(in crate::group) fn join(&mut self, join: &Join<'_>, new_id: impl FnOnce(&str) -> String, limits: &Limits) {
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
            self.promised.insert(member_id, join.now.saturating_add(session));
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
            expires: join.now.saturating_add(NEW_MEMBER_JOIN_TIMEOUT),
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

    pub(in crate::group) fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, now: Duration) {
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

    fn rebalance_or_complete(&mut self, limits: &Limits, now: Duration) {
        match self.state {
            State::Preparing { .. } => self.maybe_complete_join(now),
            _ => self.prepare_rebalance(limits, now),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, limits: &Limits, now: Duration) {
        let timeout = self.rebalance_timeout();
        if self.is_empty() {
            let delay = limits.initial_rebalance_delay;
            let first = FirstRebalance {
                remaining: timeout.saturating_sub(delay),
                has_grown: false,
            };
            self.state = State::Preparing {
                until: now.saturating_add(delay),
                first: Some(first),
            };
            return;
        }
        if self.state == State::Completing {
            self.cancel_syncs(now);
        }
        self.unsynced.clear();
        self.state = State::Preparing {
            until: now.saturating_add(timeout),
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

    pub(super) fn maybe_complete_join(&mut self, now: Duration) {
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
                until: now.saturating_add(self.rebalance_timeout()),
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
        self.sync_until = now.saturating_add(self.rebalance_timeout());
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

    pub(super) fn expire_join(&mut self, limits: &Limits, now: Duration) {
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
                    until: now.saturating_add(delay),
                    first: Some(first),
                };
            }
            _ => self.complete_join(now),
        }
    }

    pub(super) fn expire_sync(&mut self, limits: &Limits, now: Duration) {
        if !self.waits_for_sync() || self.sync_until > now {
            return;
        }
        for member_id in std::mem::take(&mut self.unsynced) {
            self.remove(&member_id);
        }
        self.prepare_rebalance(limits, now);
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    pub(super) fn waits_for_sync(&self) -> bool {
        matches!(self.state, State::Completing | State::Stable) && !self.unsynced.is_empty()
    }
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

/// For how long a JoinGroup may wait of whom nobody knows whether it is still there.
const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

const FIRST_THAT_REQUIRES_AN_ID: i16 = 4;
const FIRST_THAT_SKIPS_ASSIGNMENT: i16 = 9;
