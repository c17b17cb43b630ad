//! The classic protocol: JoinGroup, SyncGroup, Heartbeat.
//!
//! ```text
//!            ┌────────────── nothing is owned ───────────────┐  ┌── partitions are owned ──┐
//!  Connect ▸ Waiting ▸ Joining ▸ (the leader: Describing) ▸ Syncing ▸ Stable ▸ Revoking ▸ Waiting …
//! ```
//!
//! Two things go on independently of that row: the links break and are made again, and heartbeats are sent from the
//! answer to JoinGroup until nothing is owned any more. So a link may break in any state; only what waits in the broker
//! has to start over then, while partitions stay ours until the session has surely ended.

mod leader;
mod place;
mod refusal;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use super::{Answer, Identity, Link, MemberConfig, Output, Request, Ticket};
use crate::{
    cluster::retry::next_random,
    error::{Error, ErrorKind},
    group::assignor::Counts,
    offset::TopicPartition,
    wire::membership::{decode_assignment, encode_subscription},
};
use leader::{Desk, Watch};
use place::Place;
use refusal::{Refusal, advised, explained, is_final};

/// One member of one group.
#[derive(Debug)]
pub(crate) struct Member {
    config: MemberConfig,
    /// Empty until the group has given one.
    member_id: String,
    stage: Stage,
    /// Whether both links are up; otherwise a `Connect` is being done.
    linked: bool,
    /// In a row, since the group last knew us.
    link_failures: u32,
    /// In a row, since a heartbeat last was well.
    join_failures: u32,
    /// What was last said to be wrong, so that it is said once.
    trouble: Option<Error>,
    random: u64,
    tickets: Ticket,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Stage {
    /// JoinGroup is sent at this time, or when the links are up.
    Waiting {
        at: Instant,
    },
    /// JoinGroup waits in the broker for the other members.
    Joining {
        ticket: Ticket,
        sent: Instant,
    },
    /// The leader waits for the partition counts of everybody's topics.
    Describing {
        round: Round,
        desk: Desk,
    },
    /// SyncGroup waits in the broker for the leader.
    Syncing {
        round: Round,
        ticket: Ticket,
        sent: Instant,
        watch: Option<Watch>,
        /// The counts have changed since: joining again saves a hand-over.
        outdated: bool,
    },
    Stable(Held),
    /// The driver gives everything up in good order; the place is kept as long as the group lets us.
    Revoking(Held),
    /// A goodbye was wanted before the answer to the first JoinGroup: it tells the ID to say it with.
    Naming {
        ticket: Ticket,
    },
    /// LeaveGroup is under way.
    Leaving {
        ticket: Ticket,
    },
    Over,
}

/// A generation that has members, and no assignment yet.
#[derive(Debug)]
struct Round {
    place: Place,
    protocol: String,
    /// To be told once the generation stands.
    flaw: Option<Error>,
}

/// A generation with an assignment.
#[derive(Debug)]
struct Held {
    place: Place,
    since: Instant,
    /// The leader's.
    watch: Option<Watch>,
    /// Something is wrong with the assignment itself: heartbeats that are well do not mend that.
    is_flawed: bool,
}

/// A request that is still waited for, by its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Join { sent: Instant },
    Sync { sent: Instant },
    Heartbeat,
    Name,
    Leave,
}

impl Member {
    /// The first thing that comes out is `Connect`.
    pub(crate) fn new(config: MemberConfig, now: Instant) -> Self {
        Self {
            member_id: String::new(),
            stage: Stage::Waiting { at: now },
            linked: false,
            link_failures: 0,
            join_failures: 0,
            trouble: None,
            random: config.random,
            tickets: 0,
            outputs: VecDeque::from([Output::Connect { at: now }]),
            config,
        }
    }

    // ---- what happened ----

    /// Both links are up, and new.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.fence(now);
        self.void(now);
        self.linked = true;
        self.proceed(now);
    }

    /// The coordinator could not be found or reached, or a link broke.
    pub(crate) fn disconnected(&mut self, error: Error, now: Instant) {
        self.fence(now);
        if is_final(&error) && !self.is_ending() {
            self.fail(advised(error, &self.config));
        } else {
            self.reconnect(error, now);
        }
    }

    /// A link turned out to have been closed while it was idle, when something was to be sent. That is no trouble, unless
    /// it happens to every new link.
    pub(crate) fn idled(&mut self, error: Error, now: Instant) {
        if self.link_failures > 0 || self.is_ending() {
            return self.disconnected(error, now);
        }
        self.fence(now);
        self.linked = false;
        self.void(now);
        self.link_failures = 1;
        self.outputs.push_back(Output::Connect { at: now });
    }

    /// An answer came. An error is one of the request alone (it could not be decoded, the version is unsupported); a
    /// broken link is `disconnected`.
    pub(crate) fn answered(&mut self, ticket: Ticket, answer: Result<Answer, Error>, now: Instant) {
        self.fence(now);
        let Some(asked) = self.asked(ticket) else {
            return self.proceed(now);
        };
        match (asked, answer) {
            (Asked::Leave, _) => self.end(Output::Left),
            (Asked::Name, Ok(Answer::Join { member_id, .. })) if !member_id.is_empty() => self.say_goodbye(member_id),
            (Asked::Name, _) => self.end(Output::Left),
            (_, Err(error)) if is_final(&error) => self.fail(error),
            (_, Err(error)) => self.reconnect(error, now),
            (Asked::Join { sent }, Ok(answer @ Answer::Join { .. })) => self.on_join(sent, answer, now),
            (Asked::Sync { sent }, Ok(Answer::Sync { code, assignment })) => self.on_sync(sent, code, &assignment, now),
            (Asked::Heartbeat, Ok(Answer::Heartbeat { code })) => self.on_heartbeat(code, now),
            (_, Ok(_)) => self.reconnect(Error::protocol("the answer belongs to another kind of request"), now),
        }
        self.proceed(now);
    }

    /// What `Revoke` asked for is done.
    pub(crate) fn released(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Revoking(_)) {
            // However late that is: there is nothing left to lose.
            self.stage = Stage::Waiting { at: now };
        }
        self.proceed(now);
    }

    /// How many partitions these topics have; one that is not there does not exist.
    pub(crate) fn topics(&mut self, partitions: &Counts, now: Instant) {
        self.fence(now);
        match &mut self.stage {
            Stage::Describing { .. } => self.deal_out(partitions, now),
            Stage::Syncing {
                watch: Some(watch),
                outdated,
                ..
            } => *outdated = watch.is_outdated_by(partitions),
            Stage::Stable(held)
                if held
                    .watch
                    .as_ref()
                    .is_some_and(|watch| watch.is_outdated_by(partitions)) =>
            {
                self.revoke();
            }
            _ => {}
        }
        self.proceed(now);
    }

    /// An OffsetCommit or OffsetFetch, sent with this identity, was refused with a code that concerns membership or the
    /// coordinator. Others are ignored.
    pub(crate) fn refused(&mut self, identity: &Identity, code: i16, now: Instant) {
        self.fence(now);
        let concerns_us = MEMBERSHIP_CODES.contains(&code);
        if concerns_us && self.identity() == Some(identity) {
            self.on_refusal(code, "OffsetCommit", now);
        }
        self.proceed(now);
    }

    /// Says goodbye, as soon as there is somebody to say it to. The driver has released everything before.
    pub(crate) fn leave(&mut self, now: Instant) {
        if self.is_ending() {
            return;
        }
        match self.stage {
            // A static member is expected back.
            _ if !self.linked || self.config.instance_id.is_some() => self.end(Output::Left),
            _ if !self.member_id.is_empty() => self.say_goodbye(self.member_id.clone()),
            // The group waits a session for whom it has given an ID, and holds up the others.
            Stage::Joining { ticket, .. } => self.stage = Stage::Naming { ticket },
            _ => self.end(Output::Left),
        }
        self.proceed(now);
    }

    fn say_goodbye(&mut self, member_id: String) {
        let ticket = self.send(Link::Group, Request::Leave { member_id });
        self.stage = Stage::Leaving { ticket };
    }

    /// Time has passed; call it at [`timer`](Self::timer) or later.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.fence(now);
        self.proceed(now);
    }

    // ---- what follows ----

    /// The next thing to do. Call it until it gives nothing, after each event.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When `tick` has something to do.
    pub(crate) fn timer(&self) -> Option<Instant> {
        let to_send = match &self.stage {
            _ if !self.linked => None,
            Stage::Waiting { at } => Some(*at),
            stage => stage.place().map(|place| place.timer(self.patience())),
        };
        to_send.into_iter().chain(self.valid_until()).min()
    }

    /// Until when the partitions of the current generation are surely ours: the send time of the last answered request
    /// that kept us in the group, and the session timeout; or that of the last one that no rebalance was under way for, and
    /// the rebalance timeout, if that is earlier. None while nothing is owned.
    pub(crate) fn valid_until(&self) -> Option<Instant> {
        let held = self.stage.held()?;
        Some(held.place.valid_until(&self.config))
    }

    /// When the group may go on without us, if a rebalance is under way. None while nothing is owned.
    pub(crate) fn rebalanced_by(&self) -> Option<Instant> {
        let held = self.stage.held()?;
        Some(held.place.rebalanced_by(&self.config))
    }

    /// Whom to commit as; None before a generation, and after it was lost. Still the old one while `Revoke` is being done.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.stage.held().map(|held| &held.place.identity)
    }

    /// Between two generations.
    pub(crate) fn is_rebalancing(&self) -> bool {
        !matches!(self.stage, Stage::Stable(_))
    }

    // ---- what time and links do ----

    /// Gives up what the group may have given to others by now.
    fn fence(&mut self, now: Instant) {
        let held = self.stage.held();
        if let Some(cause) = held.and_then(|held| held.place.end(&self.config, now)) {
            let cause = match &self.trouble {
                Some(trouble) => cause.after_last(trouble),
                None => cause,
            };
            // Under its old ID: if the group has given this member up, it says so.
            self.drop_out(cause, now);
        }
    }

    /// Sends what is due.
    fn proceed(&mut self, now: Instant) {
        if !self.linked {
            return;
        }
        let patience = self.patience();
        if let Stage::Waiting { at } = self.stage {
            if at <= now {
                self.join(now);
            }
        } else if let Some(place) = self.stage.place() {
            if place.is_unanswered(patience, now) {
                let error = format!("no answer for {patience:?}");
                self.reconnect(Error::new(ErrorKind::TimedOut, error).in_api("Heartbeat"), now);
            } else if place.is_due(now) {
                self.beat(now);
            }
        }
    }

    /// How long a heartbeat may stay unanswered: so that another link can be made within the session.
    fn patience(&self) -> Duration {
        self.interval().max(self.grace() / 3)
    }

    fn interval(&self) -> Duration {
        // A rebalance is noticed by heartbeats only: one that is shorter than their interval would always be missed.
        self.config.heartbeat_interval.min(self.grace() / 2)
    }

    /// How long the group does without hearing of us, at least.
    fn grace(&self) -> Duration {
        self.config.session_timeout.min(self.config.rebalance_timeout)
    }

    fn reconnect(&mut self, error: Error, now: Instant) {
        if matches!(self.stage, Stage::Naming { .. } | Stage::Leaving { .. }) {
            self.end(Output::Left);
        }
        if self.is_ending() {
            return;
        }
        self.linked = false;
        self.void(now);
        self.trouble(error);
        self.link_failures = self.link_failures.saturating_add(1);
        let at = now + self.delay(self.link_failures);
        self.outputs.push_back(Output::Connect { at });
    }

    /// Nothing that is under way will be answered.
    fn void(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Joining { .. } | Stage::Describing { .. } | Stage::Syncing { .. } => {
                self.stage = Stage::Waiting { at: now };
            }
            Stage::Stable(held) | Stage::Revoking(held) => held.place.void(now),
            Stage::Naming { .. } | Stage::Leaving { .. } => self.end(Output::Left),
            Stage::Waiting { .. } | Stage::Over => {}
        }
    }

    fn delay(&mut self, failures: u32) -> Duration {
        self.random = next_random(self.random);
        self.config.backoff.delay(failures, self.random)
    }

    // ---- joining ----

    fn join(&mut self, now: Instant) {
        let subscription = encode_subscription(&self.config.topics);
        let protocols = self.config.assignors.iter();
        let request = Request::Join {
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            session_timeout: self.config.session_timeout,
            rebalance_timeout: self.config.rebalance_timeout,
            protocols: protocols
                .map(|assignor| (assignor.name().to_owned(), subscription.clone()))
                .collect(),
        };
        let ticket = self.send(Link::Join, request);
        self.stage = Stage::Joining { ticket, sent: now };
    }

    fn on_join(&mut self, sent: Instant, answer: Answer, now: Instant) {
        let Answer::Join {
            code,
            generation,
            protocol,
            leader,
            member_id,
            skip_assignment,
            members,
        } = answer
        else {
            return;
        };
        if code != 0 {
            self.on_join_refused(code, member_id, now);
            return;
        }
        if member_id.is_empty() || generation < 0 {
            self.reconnect(
                Error::protocol("a place without member ID or generation").in_api("JoinGroup"),
                now,
            );
            return;
        }
        self.member_id = member_id;
        let identity = Identity {
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone(),
            generation,
        };
        let round = Round {
            place: Place::new(identity, sent, now + self.interval()),
            protocol: protocol.unwrap_or_else(|| {
                self.config
                    .assignors
                    .first()
                    .map_or("", |first| first.name())
                    .to_owned()
            }),
            flaw: None,
        };
        if leader == self.member_id {
            self.lead(round, skip_assignment, members, now);
        } else {
            self.sync(round, Vec::new(), None, now);
        }
    }

    fn on_join_refused(&mut self, code: i16, member_id: String, now: Instant) {
        let error = explained(code, "JoinGroup", &self.config);
        match Refusal::of(code) {
            Refusal::NamesUs if member_id.is_empty() => self.reconnect(error, now),
            Refusal::NamesUs if self.member_id.is_empty() => {
                self.member_id = member_id;
                self.stage = Stage::Waiting { at: now };
            }
            Refusal::NamesUs => {
                self.member_id = member_id;
                self.rejoin(error, now);
            }
            Refusal::UnknownMember => {
                self.member_id.clear();
                self.rejoin(error, now);
            }
            Refusal::PastGeneration => self.rejoin(error, now),
            Refusal::Rebalance | Refusal::Later => self.rejoin_later(error, now),
            Refusal::Elsewhere => self.reconnect(error, now),
            Refusal::Final => self.fail(error),
        }
    }

    /// At once, unless that has not helped before.
    fn rejoin(&mut self, why: Error, now: Instant) {
        if self.join_failures == 0 {
            self.join_failures = 1;
            self.stage = Stage::Waiting { at: now };
        } else {
            self.rejoin_later(why, now);
        }
    }

    fn rejoin_later(&mut self, why: Error, now: Instant) {
        self.join_failures = self.join_failures.saturating_add(1);
        self.trouble(why);
        let at = now + self.delay(self.join_failures);
        self.stage = Stage::Waiting { at };
    }

    // ---- dealing out ----

    fn lead(&mut self, mut round: Round, skip_assignment: bool, members: Vec<super::JoinedMember>, now: Instant) {
        let assignors = self.config.assignors.iter().copied();
        let chosen = assignors.into_iter().find(|assignor| assignor.name() == round.protocol);
        if chosen.is_none() && !skip_assignment {
            let error = format!("the group chose {:?}, which was not offered", round.protocol);
            self.reconnect(Error::protocol(error).in_api("JoinGroup"), now);
            return;
        }
        let (desk, flaw) = Desk::new(chosen.filter(|_| !skip_assignment), members);
        round.flaw = flaw;
        let topics = desk.topics().into_iter().collect();
        self.outputs.push_back(Output::Describe(topics));
        self.stage = Stage::Describing { round, desk };
    }

    fn deal_out(&mut self, counts: &Counts, now: Instant) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Describing { round, desk } => {
                let assignments = desk.assign(counts);
                self.sync(round, assignments, Some(desk.watch(counts)), now);
            }
            other => self.stage = other,
        }
    }

    fn sync(&mut self, round: Round, assignments: Vec<(String, Vec<u8>)>, watch: Option<Watch>, now: Instant) {
        let identity = &round.place.identity;
        let request = Request::Sync {
            generation: identity.generation,
            member_id: identity.member_id.clone(),
            instance_id: identity.instance_id.clone(),
            protocol: round.protocol.clone(),
            assignments,
        };
        self.stage = Stage::Syncing {
            ticket: self.send(Link::Join, request),
            round,
            sent: now,
            watch,
            outdated: false,
        };
    }

    fn on_sync(&mut self, sent: Instant, code: i16, assignment: &[u8], now: Instant) {
        if code != 0 {
            self.on_sync_refused(code, now);
            return;
        }
        match mem::replace(&mut self.stage, Stage::Waiting { at: now }) {
            Stage::Syncing { outdated: true, .. } => {}
            Stage::Syncing { mut round, watch, .. } => {
                round.place.prove(sent, true);
                self.settle(round, watch, assignment, now);
            }
            other => self.stage = other,
        }
    }

    fn on_sync_refused(&mut self, code: i16, now: Instant) {
        let error = explained(code, "SyncGroup", &self.config);
        match Refusal::of(code) {
            Refusal::Rebalance | Refusal::PastGeneration => self.rejoin(error, now),
            Refusal::UnknownMember => {
                self.member_id.clear();
                self.rejoin(error, now);
            }
            Refusal::Later => self.rejoin_later(error, now),
            Refusal::Elsewhere => self.reconnect(error, now),
            Refusal::NamesUs | Refusal::Final => self.fail(error),
        }
    }

    fn settle(&mut self, round: Round, watch: Option<Watch>, assignment: &[u8], now: Instant) {
        let Round { place, flaw, .. } = round;
        if place.valid_until(&self.config) <= now {
            // The answer took so long that the group may have gone on: nothing is begun that would be lost at once.
            self.rejoin(
                Error::new(ErrorKind::TimedOut, "the assignment came too late").in_api("SyncGroup"),
                now,
            );
            return;
        }
        let (partitions, own_flaw) = self.ours(assignment);
        let flaw = own_flaw.or(flaw);
        let generation = place.identity.generation;
        self.stage = Stage::Stable(Held {
            place,
            since: now,
            watch,
            is_flawed: flaw.is_some(),
        });
        self.link_failures = 0;
        match flaw {
            Some(flaw) => self.trouble(flaw),
            None => self.well(),
        }
        self.outputs.push_back(Output::Assign { generation, partitions });
    }

    /// What of an assignment can be ours, and what is wrong with the rest of it.
    fn ours(&self, assignment: &[u8]) -> (Vec<TopicPartition>, Option<Error>) {
        let assignment = match decode_assignment(assignment) {
            Ok(assignment) => assignment,
            Err(error) => return (Vec::new(), Some(error.in_api("SyncGroup"))),
        };
        let (mut ours, mut flaw) = (Vec::new(), None);
        for (topic, partitions) in &assignment {
            for &partition in partitions {
                if partition >= 0 && self.config.topics.contains(topic) {
                    ours.push(TopicPartition::new(topic, partition));
                } else {
                    let what = "the group's leader gave this member a partition that it has not asked for";
                    flaw = Some(Error::protocol(what).for_partition(topic, partition));
                }
            }
        }
        (ours, flaw)
    }

    // ---- a place in the group ----

    fn beat(&mut self, now: Instant) {
        let Some(place) = self.stage.place() else { return };
        let Identity {
            member_id,
            instance_id,
            generation,
        } = place.identity.clone();
        let request = Request::Heartbeat {
            generation,
            member_id,
            instance_id,
        };
        let ticket = self.send(Link::Group, request);
        if let Some(place) = self.stage.place_mut() {
            place.sent(ticket, now);
        }
    }

    fn on_heartbeat(&mut self, code: i16, now: Instant) {
        let interval = self.interval();
        let Some(place) = self.stage.place_mut() else { return };
        let Some(sent) = place.answered(interval) else { return };
        let is_known = code == 0 || Refusal::of(code) == Refusal::Rebalance;
        if is_known {
            place.prove(sent, code == 0);
            self.link_failures = 0;
        }
        let Some(held) = self.stage.held() else {
            // Brokers before 2.7 call it a rebalance when an assignment is still to come. If there is one, SyncGroup tells.
            if !is_known {
                self.on_refusal(code, "Heartbeat", now);
            }
            return;
        };
        let (is_flawed, is_older) = (held.is_flawed, sent < held.since);
        if is_known && !is_flawed {
            self.well();
        }
        if code == 0 {
            self.join_failures = 0;
        } else if !(is_known && is_older) {
            self.on_refusal(code, "Heartbeat", now);
        }
    }

    /// To a heartbeat or a commit.
    fn on_refusal(&mut self, code: i16, api: &'static str, now: Instant) {
        let error = explained(code, api, &self.config);
        match Refusal::of(code) {
            Refusal::Rebalance => self.revoke(),
            Refusal::PastGeneration => self.drop_out(error, now),
            Refusal::UnknownMember => {
                self.member_id.clear();
                self.drop_out(error, now);
            }
            Refusal::Elsewhere => self.reconnect(error, now),
            Refusal::Later => {
                self.trouble(error);
                self.link_failures = self.link_failures.saturating_add(1);
                let delay = self.delay(self.link_failures).min(self.interval());
                if let Some(place) = self.stage.place_mut() {
                    place.beat_at(now + delay);
                }
            }
            Refusal::NamesUs | Refusal::Final => self.fail(error),
        }
    }

    /// Once per generation.
    fn revoke(&mut self) {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Stable(held) => {
                self.stage = Stage::Revoking(held);
                self.outputs.push_back(Output::Revoke);
            }
            other => self.stage = other,
        }
    }

    /// The place is gone, and with it what was owned.
    fn drop_out(&mut self, cause: Error, now: Instant) {
        if self.stage.held().is_some() {
            let cause = cause.clone();
            self.outputs.push_back(Output::Lost { cause });
        }
        self.rejoin(cause, now);
    }

    // ---- saying so ----

    fn send(&mut self, link: Link, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = self.tickets;
        self.outputs.push_back(Output::Send { ticket, link, request });
        ticket
    }

    fn asked(&self, ticket: Ticket) -> Option<Asked> {
        match &self.stage {
            Stage::Joining { ticket: asked, sent } if *asked == ticket => Some(Asked::Join { sent: *sent }),
            Stage::Syncing {
                ticket: asked, sent, ..
            } if *asked == ticket => Some(Asked::Sync { sent: *sent }),
            Stage::Naming { ticket: asked } if *asked == ticket => Some(Asked::Name),
            Stage::Leaving { ticket: asked } if *asked == ticket => Some(Asked::Leave),
            stage => stage.place()?.is_under_way(ticket).then_some(Asked::Heartbeat),
        }
    }

    fn trouble(&mut self, error: Error) {
        let is_new = self
            .trouble
            .as_ref()
            .is_none_or(|said| said.to_string() != error.to_string());
        if is_new {
            self.outputs.push_back(Output::Trouble(error.clone()));
            self.trouble = Some(error);
        }
    }

    fn well(&mut self) {
        if self.trouble.take().is_some() {
            self.outputs.push_back(Output::Well);
        }
    }

    fn fail(&mut self, error: Error) {
        if self.stage.held().is_some() {
            let cause = error.clone();
            self.outputs.push_back(Output::Lost { cause });
        }
        self.end(Output::Fail(error));
    }

    fn end(&mut self, how: Output) {
        self.stage = Stage::Over;
        self.outputs.push_back(how);
    }

    fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Naming { .. } | Stage::Leaving { .. } | Stage::Over)
    }
}

impl Stage {
    fn held(&self) -> Option<&Held> {
        match self {
            Self::Stable(held) | Self::Revoking(held) => Some(held),
            _ => None,
        }
    }

    fn place(&self) -> Option<&Place> {
        match self {
            Self::Describing { round, .. } | Self::Syncing { round, .. } => Some(&round.place),
            Self::Stable(held) | Self::Revoking(held) => Some(&held.place),
            _ => None,
        }
    }

    fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            Self::Describing { round, .. } | Self::Syncing { round, .. } => Some(&mut round.place),
            Self::Stable(held) | Self::Revoking(held) => Some(&mut held.place),
            _ => None,
        }
    }
}

/// What may come of a commit and is not about its partitions: coordinator not available or elsewhere, illegal generation,
/// unknown member, rebalance, fenced instance ID.
const MEMBERSHIP_CODES: [i16; 6] = [15, 16, 22, 25, 27, 82];
