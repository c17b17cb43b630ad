//! One KIP-848 group: the broker deals out, and members follow it step by step.
//!
//! Three epochs tell how far everybody is. The *group's* rises with each change of members, subscriptions or topics; the
//! *assignment's* follows once partitions are dealt out for it; a *member's* follows once it has let go of what it has
//! to. A partition goes to its new owner only when its former one no longer says that it has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response as described;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as OwnedTopic;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, OffsetCommitRequest, TopicName,
};
use uuid::Uuid;

use super::assignor::{self, Assignor, Dealing, Partitions};
use super::pattern::Pattern;
use super::{Caller, Limits, Refusal, Topics, millis, text};

#[derive(Debug)]
pub(super) struct ConsumerGroup {
    epoch: i32,
    /// `<= epoch`
    assignment_epoch: i32,
    members: BTreeMap<String, Member>,
    /// What each member is to have in the end, as of `assignment_epoch`.
    targets: BTreeMap<String, Partitions>,
    /// The subscribed topics as they were when `epoch` was last raised.
    topics: BTreeMap<String, (Uuid, i32)>,
}

#[derive(Debug, Clone)]
struct Member {
    instance_id: Option<String>,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout: Duration,
    assignor: Option<Assignor>,
    names: BTreeSet<String>,
    pattern: Option<Pattern>,
    epoch: i32,
    /// The one before, in case the answer that said the new one was lost.
    previous_epoch: i32,
    progress: Progress,
    /// With the epoch since when: commits of an earlier one are refused (KIP-1251).
    assigned: BTreeMap<(Uuid, i32), i32>,
    /// What it has been told to let go of, and still has.
    revoking: BTreeMap<(Uuid, i32), i32>,
    expires: Duration,
    /// Until when it has to let go of `revoking`.
    revoke_until: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Stable,
    /// It has to let go of something before it goes on.
    Revoking,
    /// Something it is to have has not been let go of by others.
    Waiting,
}

impl ConsumerGroup {
    pub(super) fn new() -> Self {
        Self {
            // Kafka's groups begin so: the first member has epoch 2.
            epoch: 1,
            assignment_epoch: 0,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        let is_reconciled =
            |member: &Member| member.progress == Progress::Stable && member.epoch == self.assignment_epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(is_reconciled) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        new_id: String,
        limits: &Limits,
        topics: &impl Topics,
        now: Duration,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if request.member_epoch < 0 {
            return self.leave(request);
        }
        let asked_as = request.member_id.as_str();
        if self.members.len() >= limits.group_max_size && !self.members.contains_key(asked_as) {
            let message = "The consumer group has reached its maximum capacity.".to_owned();
            return Err((ResponseError::GroupMaxSizeReached, message));
        }
        let member_id = if asked_as.is_empty() {
            new_id
        } else {
            asked_as.to_owned()
        };
        let pattern = parse_pattern(request)?;
        let before = self.member_to_hear(request, &member_id)?;
        let mut member = before.clone();
        member.take_over(caller, request, pattern);
        member.expires = now.saturating_add(limits.consumer_session_timeout);
        let is_new = !self.members.contains_key(&member_id);
        let has_changed = is_new || member.names != before.names || member.pattern != before.pattern;
        self.members.insert(member_id.clone(), member);
        self.refresh(has_changed, topics);
        self.reconcile(&member_id, request.topic_partitions.as_deref(), topics, now);
        Ok(self.respond(request, &member_id, &before, limits))
    }

    /// The member that a heartbeat is from; a new one if it joins.
    fn member_to_hear(&mut self, request: &ConsumerGroupHeartbeatRequest, member_id: &str) -> Result<Member, Refusal> {
        let is_joining = request.member_epoch == 0;
        let Some(instance_id) = request.instance_id.as_deref() else {
            let Some(member) = self.members.get(member_id) else {
                return if is_joining {
                    Ok(Member::new())
                } else {
                    Err(unknown(request))
                };
            };
            member.check_epoch(request)?;
            return Ok(member.clone());
        };
        match self.static_member(instance_id) {
            None if is_joining => Ok(Member::new()),
            None => Err(unknown_instance(instance_id)),
            Some(holder) if is_joining => self.replace_static(instance_id, &holder, member_id),
            Some(holder) if holder != member_id => Err(fenced(instance_id, member_id, &holder)),
            Some(holder) => {
                let member = &self.members[&holder];
                member.check_epoch(request)?;
                Ok(member.clone())
            }
        }
    }

    /// A static member comes back: what the former was to have is what it is to have. The group's epoch stays.
    fn replace_static(&mut self, instance_id: &str, former: &str, member_id: &str) -> Result<Member, Refusal> {
        if self.members[former].epoch != LEFT_FOR_A_WHILE {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} cannot join the group because the instance \
                 id is owned by {former} member."
            );
            return Err((ResponseError::UnreleasedInstanceId, message));
        }
        let mut member = self.members.remove(former).unwrap_or_else(Member::new);
        member.epoch = 0;
        member.previous_epoch = 0;
        let target = self.targets.remove(former).unwrap_or_default();
        self.targets.insert(member_id.to_owned(), target);
        self.members.insert(member_id.to_owned(), member.clone());
        Ok(member)
    }

    fn leave(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let member_id = request.member_id.as_str();
        if let Some(instance_id) = request.instance_id.as_deref() {
            let holder = self
                .static_member(instance_id)
                .ok_or_else(|| unknown_instance(instance_id))?;
            if holder != member_id {
                return Err(fenced(instance_id, member_id, &holder));
            }
        }
        let member = self.members.get_mut(member_id).ok_or_else(|| unknown(request))?;
        if request.member_epoch == LEFT_FOR_A_WHILE {
            member.epoch = LEFT_FOR_A_WHILE;
            member.revoking.clear();
            member.revoke_until = None;
            member.assigned.values_mut().for_each(|since| *since = 0);
        } else {
            self.remove(member_id);
        }
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(request.member_id.clone()))
            .with_member_epoch(request.member_epoch);
        Ok(response)
    }

    fn remove(&mut self, member_id: &str) {
        self.members.remove(member_id);
        self.targets.remove(member_id);
        self.epoch += 1;
    }

    /// Raises the group's epoch if something has changed, and deals out anew if it was raised since the last time.
    fn refresh(&mut self, has_changed: bool, topics: &impl Topics) {
        let names = topics.names();
        let subscriptions: BTreeMap<&str, BTreeSet<String>> = self
            .members
            .iter()
            .map(|(id, member)| (id.as_str(), member.subscription(&names)))
            .collect();
        let subscribed = subscriptions
            .values()
            .flatten()
            .filter_map(|name| Some((name.clone(), topics.find(name)?)));
        let subscribed: BTreeMap<String, (Uuid, i32)> = subscribed.collect();
        if has_changed || subscribed != self.topics {
            self.epoch += 1;
        }
        if self.epoch > self.assignment_epoch {
            let members = self.members.iter().map(|(id, member)| assignor::Member {
                id: id.clone(),
                instance_id: member.instance_id.clone(),
                topics: subscriptions[id.as_str()].clone(),
            });
            let dealing = Dealing {
                members: members.collect(),
                topics: &subscribed,
                before: &self.targets,
            };
            let targets = self.preferred_assignor().deal(&dealing);
            self.targets = targets;
            self.assignment_epoch = self.epoch;
        }
        self.topics = subscribed;
    }

    /// What most members have asked for, or Kafka's default.
    fn preferred_assignor(&self) -> Assignor {
        let votes = |assignor| {
            self.members
                .values()
                .filter(|member| member.assignor == Some(assignor))
                .count()
        };
        if votes(Assignor::Range) > votes(Assignor::Uniform) {
            Assignor::Range
        } else {
            Assignor::Uniform
        }
    }

    /// One step of a member towards its target.
    fn reconcile(&mut self, member_id: &str, owned: Option<&[OwnedTopic]>, topics: &impl Topics, now: Duration) {
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        let may_go_on = match member.progress {
            Progress::Stable => member.epoch != self.assignment_epoch,
            Progress::Revoking => !owns_any(owned, &member.revoking),
            Progress::Waiting => true,
        };
        if !may_go_on {
            return;
        }
        let subscription = member.subscription(&topics.names());
        let ids: BTreeSet<Uuid> = subscription
            .iter()
            .filter_map(|name| Some(topics.find(name)?.0))
            .collect();
        let target = self
            .targets
            .get(member_id)
            .into_iter()
            .flatten()
            .filter(|(topic, _)| ids.contains(topic));
        let target: Partitions = target.copied().collect();
        let taken = self.taken_by_others(member_id);
        let epoch = self.assignment_epoch;
        if let Some(member) = self.members.get_mut(member_id) {
            member.step_to(&target, &taken, epoch, owned, now);
        }
    }

    fn taken_by_others(&self, member_id: &str) -> Partitions {
        let others = self.members.iter().filter(|(other, _)| *other != member_id);
        others
            .flat_map(|(_, member)| member.assigned.keys().chain(member.revoking.keys()))
            .copied()
            .collect()
    }

    fn respond(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        member_id: &str,
        before: &Member,
        limits: &Limits,
    ) -> ConsumerGroupHeartbeatResponse {
        let member = &self.members[member_id];
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let has_changed = !member.assigned.keys().eq(before.assigned.keys());
        let assignment = (request.member_epoch == 0 || is_full || has_changed).then(|| {
            let partitions = by_topic(member.assigned.keys()).into_iter().map(|(topic, partitions)| {
                TopicPartitions::default()
                    .with_topic_id(topic)
                    .with_partitions(partitions)
            });
            Assignment::default().with_topic_partitions(partitions.collect())
        });
        ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(member_id)))
            .with_member_epoch(member.epoch)
            .with_heartbeat_interval_ms(
                i32::try_from(limits.consumer_heartbeat_interval.as_millis()).unwrap_or(i32::MAX),
            )
            .with_assignment(assignment)
    }

    fn static_member(&self, instance_id: &str) -> Option<String> {
        let holds = |member: &Member| member.instance_id.as_deref() == Some(instance_id);
        self.members
            .iter()
            .find(|(_, member)| holds(member))
            .map(|(member_id, _)| member_id.clone())
    }

    pub(super) fn check_commit(
        &self,
        request: &OffsetCommitRequest,
        version: i16,
        topics: &impl Topics,
    ) -> Result<(), ResponseError> {
        let epoch = request.generation_id_or_member_epoch;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self
            .members
            .get(request.member_id.as_str())
            .ok_or(ResponseError::UnknownMemberId)?;
        if version < FIRST_COMMIT_WITH_MEMBER_EPOCHS {
            return Err(ResponseError::UnsupportedVersion);
        }
        if epoch == member.epoch {
            return Ok(());
        }
        // One of an earlier epoch counts for what the member has had since then (KIP-1251).
        let mut partitions = request.topics.iter().flat_map(|topic| {
            let id = topics.find(topic.name.as_str()).map(|(id, _)| id).unwrap_or_default();
            topic
                .partitions
                .iter()
                .map(move |partition| (id, partition.partition_index))
        });
        let is_allowed = |partition| {
            let since = member
                .assigned
                .get(&partition)
                .or_else(|| member.revoking.get(&partition));
            since.is_some_and(|since| epoch >= *since)
        };
        if epoch < member.epoch && partitions.all(is_allowed) {
            return Ok(());
        }
        Err(ResponseError::StaleMemberEpoch)
    }

    pub(super) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        if member_id.is_none_or(str::is_empty) && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|member_id| self.members.get(member_id));
        match member.ok_or(ResponseError::UnknownMemberId)?.epoch == epoch {
            true => Ok(()),
            false => Err(ResponseError::StaleMemberEpoch),
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let is_meant = member.pattern.as_ref().is_some_and(|pattern| pattern.matches(topic));
            is_meant || member.names.contains(topic)
        })
    }

    /// Another coordinator has read the group from the log: everybody has a fresh session.
    pub(super) fn reload(&mut self, limits: &Limits, now: Duration) {
        for member in self.members.values_mut() {
            member.expires = now.saturating_add(limits.consumer_session_timeout);
            if member.progress == Progress::Revoking {
                member.revoke_until = Some(now.saturating_add(member.rebalance_timeout));
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        self.members.values().map(Member::next_timer).min()
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let gone = self.members.iter().filter(|(_, member)| member.next_timer() <= now);
        let gone: Vec<String> = gone.map(|(member_id, _)| member_id.clone()).collect();
        for member_id in gone {
            self.remove(&member_id);
        }
    }

    pub(super) fn described(&self, topics: &impl Topics, version: i16) -> described::DescribedGroup {
        let members = self.members.iter().map(|(member_id, member)| {
            let target = self.targets.get(member_id);
            let has = member.assigned.keys().chain(member.revoking.keys());
            let names = member.names.iter().map(|name| TopicName(text(name)));
            described::Member::default()
                .with_member_id(text(member_id))
                .with_instance_id(member.instance_id.as_deref().map(text))
                .with_rack_id(member.rack.as_deref().map(text))
                .with_member_epoch(member.epoch)
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_subscribed_topic_names(names.collect())
                .with_subscribed_topic_regex(Some(text(member.pattern.as_ref().map_or("", Pattern::as_str))))
                .with_assignment(describe_partitions(has, topics))
                .with_target_assignment(describe_partitions(target.into_iter().flatten(), topics))
                .with_member_type(if version >= 1 { KIP_848_MEMBER } else { -1 })
        });
        described::DescribedGroup::default()
            .with_group_state(text(self.state_name()))
            .with_group_epoch(self.epoch)
            .with_assignment_epoch(self.assignment_epoch)
            .with_assignor_name(text(self.preferred_assignor().name()))
            .with_members(members.collect())
    }

    /// Each partition with all members that have it, or have not let go of it.
    #[cfg(test)]
    pub(super) fn owners(&self) -> BTreeMap<(Uuid, i32), Vec<&str>> {
        let mut owners: BTreeMap<(Uuid, i32), Vec<&str>> = BTreeMap::new();
        for (member_id, member) in &self.members {
            for partition in member.assigned.keys().chain(member.revoking.keys()) {
                owners.entry(*partition).or_default().push(member_id);
            }
        }
        owners
    }

    #[cfg(test)]
    pub(super) fn epochs(&self) -> (i32, i32) {
        (self.epoch, self.assignment_epoch)
    }
}

impl Member {
    fn new() -> Self {
        Self {
            instance_id: None,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: Duration::ZERO,
            assignor: None,
            names: BTreeSet::new(),
            pattern: None,
            epoch: 0,
            previous_epoch: -1,
            progress: Progress::Stable,
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            expires: Duration::MAX,
            revoke_until: None,
        }
    }

    /// What a heartbeat says; whatever it leaves out is as it was.
    fn take_over(
        &mut self,
        caller: &Caller,
        request: &ConsumerGroupHeartbeatRequest,
        pattern: Option<Option<Pattern>>,
    ) {
        caller.client_id.clone_into(&mut self.client_id);
        caller.host.clone_into(&mut self.client_host);
        if let Some(instance_id) = request.instance_id.as_deref() {
            self.instance_id = Some(instance_id.to_owned());
        }
        if let Some(rack) = request.rack_id.as_deref() {
            self.rack = Some(rack.to_owned());
        }
        if request.rebalance_timeout_ms != -1 {
            self.rebalance_timeout = millis(request.rebalance_timeout_ms);
        }
        if let Some(assignor) = request.server_assignor.as_deref() {
            self.assignor = Assignor::named(assignor);
        }
        if let Some(names) = &request.subscribed_topic_names {
            self.names = names.iter().map(|name| name.to_string()).collect();
        }
        if let Some(pattern) = pattern {
            self.pattern = pattern;
        }
    }

    /// A member that lost an answer is an epoch behind. It may go on if it has nothing that is not its own.
    fn check_epoch(&self, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
        let epoch = request.member_epoch;
        if epoch == 0 || epoch == self.epoch {
            return Ok(());
        }
        let owned = request.topic_partitions.as_deref();
        let is_behind = epoch == self.previous_epoch
            && owned.is_some_and(|owned| partitions(owned).all(|partition| self.assigned.contains_key(&partition)));
        if epoch < self.epoch && is_behind {
            return Ok(());
        }
        let which = if epoch > self.epoch { "greater" } else { "smaller" };
        let message = format!(
            "The consumer group member has a {which} member epoch ({epoch}) than the one known by the group \
             coordinator ({}). The member must abandon all its partitions and rejoin.",
            self.epoch
        );
        Err((ResponseError::FencedMemberEpoch, message))
    }

    /// First lets go of what it is not to have; only then goes to the next epoch and takes what nobody else has.
    fn step_to(
        &mut self,
        target: &Partitions,
        taken: &Partitions,
        epoch: i32,
        owned: Option<&[OwnedTopic]>,
        now: Duration,
    ) {
        let before = std::mem::take(&mut self.assigned);
        let (keep, give_up): (BTreeMap<_, _>, BTreeMap<_, _>) = before
            .into_iter()
            .partition(|(partition, _)| target.contains(partition));
        self.previous_epoch = self.epoch;
        self.assigned = keep;
        if !give_up.is_empty() && owns_any(owned, &give_up) {
            self.progress = Progress::Revoking;
            self.revoking = give_up;
            self.revoke_until = Some(now.saturating_add(self.rebalance_timeout));
            return;
        }
        self.revoking.clear();
        self.revoke_until = None;
        self.epoch = epoch;
        self.progress = Progress::Stable;
        for partition in target {
            if taken.contains(partition) {
                self.progress = Progress::Waiting;
            } else {
                self.assigned.entry(*partition).or_insert(epoch);
            }
        }
    }

    fn subscription(&self, all: &[String]) -> BTreeSet<String> {
        let mut topics = self.names.clone();
        if let Some(pattern) = &self.pattern {
            topics.extend(all.iter().filter(|name| pattern.matches(name)).cloned());
        }
        topics
    }

    fn next_timer(&self) -> Duration {
        self.revoke_until.map_or(self.expires, |until| until.min(self.expires))
    }
}

/// What is wrong with a heartbeat whoever it is from.
pub(super) fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let refuse = |message: &str| Err((ResponseError::InvalidRequest, message.to_owned()));
    let epoch = request.member_epoch;
    let needs_an_id = version >= FIRST_WITH_IDS_OF_CLIENTS || epoch > 0 || epoch == -1;
    if needs_an_id && request.member_id.is_empty() {
        return refuse("MemberId can't be empty.");
    }
    if request.group_id.is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if request.instance_id.as_deref().is_some_and(str::is_empty) {
        return refuse("InstanceId can't be empty.");
    }
    if request.rack_id.as_deref().is_some_and(str::is_empty) {
        return refuse("RackId can't be empty.");
    }
    match epoch {
        0 => check_joining(request)?,
        LEFT_FOR_A_WHILE if request.instance_id.is_none() => return refuse("InstanceId can't be null."),
        ..LEFT_FOR_A_WHILE => return refuse("MemberEpoch is invalid."),
        _ => {}
    }
    match request.server_assignor.as_deref() {
        Some(name) if Assignor::named(name).is_none() => {
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: uniform, range.");
            Err((ResponseError::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

fn check_joining(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let refuse = |message: &str| Err((ResponseError::InvalidRequest, message.to_owned()));
    if request.rebalance_timeout_ms == -1 {
        return refuse("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return refuse("TopicPartitions must be empty when (re-)joining.");
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return refuse("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
    }
    Ok(())
}

/// `None` if the heartbeat says nothing about it, `Some(None)` if it takes the pattern back.
fn parse_pattern(request: &ConsumerGroupHeartbeatRequest) -> Result<Option<Option<Pattern>>, Refusal> {
    match request.subscribed_topic_regex.as_deref() {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some(regex) => match Pattern::parse(regex) {
            Some(pattern) => Ok(Some(Some(pattern))),
            None => {
                let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression.");
                Err((ResponseError::InvalidRegularExpression, message))
            }
        },
    }
}

/// Who says nothing of what it has may have everything.
fn owns_any(owned: Option<&[OwnedTopic]>, of: &BTreeMap<(Uuid, i32), i32>) -> bool {
    owned.is_none_or(|owned| partitions(owned).any(|partition| of.contains_key(&partition)))
}

fn partitions(owned: &[OwnedTopic]) -> impl Iterator<Item = (Uuid, i32)> {
    owned
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)))
}

fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a (Uuid, i32)>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(*topic).or_default().push(*partition);
    }
    topics
}

fn describe_partitions<'a>(
    partitions: impl IntoIterator<Item = &'a (Uuid, i32)>,
    topics: &impl Topics,
) -> described::Assignment {
    let named = by_topic(partitions).into_iter().filter_map(|(id, partitions)| {
        let name = TopicName(text(&topics.name_of(id)?));
        Some(
            described::TopicPartitions::default()
                .with_topic_id(id)
                .with_topic_name(name)
                .with_partitions(partitions),
        )
    });
    described::Assignment::default().with_topic_partitions(named.collect())
}

fn unknown(request: &ConsumerGroupHeartbeatRequest) -> Refusal {
    let (member_id, group_id) = (request.member_id.as_str(), request.group_id.as_str());
    let message = format!("Member {member_id} is not a member of group {group_id}.");
    (ResponseError::UnknownMemberId, message)
}

fn unknown_instance(instance_id: &str) -> Refusal {
    (
        ResponseError::UnknownMemberId,
        format!("Instance id {instance_id} is unknown."),
    )
}

fn fenced(instance_id: &str, member_id: &str, holder: &str) -> Refusal {
    let message = format!("Static member {member_id} with instance id {instance_id} was fenced by member {holder}.");
    (ResponseError::FencedInstanceId, message)
}

/// The epoch of a static member that is to come back.
const LEFT_FOR_A_WHILE: i32 = -2;

/// Not one of a classic group, which is 0.
const KIP_848_MEMBER: i8 = 1;

const FIRST_WITH_IDS_OF_CLIENTS: i16 = 1;
const FIRST_COMMIT_WITH_MEMBER_EPOCHS: i16 = 9;

#[cfg(test)]
mod tests;
