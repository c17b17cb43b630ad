//! Who is still there: heartbeats, sessions that end, and members that leave.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse};

use super::{ClassicGroup, Member, State};
use crate::group::Limits;

impl ClassicGroup {
    pub(in crate::group) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        now: Duration,
    ) -> Result<(), ResponseError> {
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

    pub(in crate::group) fn leave(
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
    pub(in crate::group) fn check_commit(
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

    /// When the next timer of this group fires.
    pub(in crate::group) fn next_timer(&self) -> Option<Duration> {
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

    pub(in crate::group) fn tick(&mut self, limits: &Limits, now: Duration) {
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
}

/// Nobody who leaves a group that there is not is a member of it.
pub(in crate::group) fn nobody_leaves(request: &LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
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

const FIRST_THAT_LETS_SEVERAL_LEAVE: i16 = 3;
