//! A small model of Kafka's `GroupCoordinator` for one group. Times are virtual milliseconds.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::member::{Answer, JoinedMember, Request};

/// Where an answer goes to: member of the simulation, its links at that time, ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    pub node: usize,
    pub links: u32,
    pub ticket: u64,
}

/// How long an empty group waits for more members to come: `group.initial.rebalance.delay.ms`.
const INITIAL_DELAY: u64 = 500;

const REBALANCE_IN_PROGRESS: i16 = 27;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const MEMBER_ID_REQUIRED: i16 = 79;
const FENCED_INSTANCE_ID: i16 = 82;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Preparing { until: u64 },
    Completing,
    Stable,
}

#[derive(Debug, Clone)]
struct Known {
    instance_id: Option<String>,
    protocols: Vec<(String, Vec<u8>)>,
    session: u64,
    rebalance: u64,
    expires: u64,
    joining: Option<Reply>,
    syncing: Option<Reply>,
    assignment: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Written {
    generation: i32,
    members: BTreeMap<String, Known>,
    leader: Option<String>,
    protocol: String,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    state: State,
    pub generation: i32,
    members: BTreeMap<String, Known>,
    /// IDs that were given out, until when.
    promised: BTreeMap<String, u64>,
    leader: Option<String>,
    protocol: String,
    ids: u32,
    /// What a successor reads from the log.
    written: Option<Written>,
    answers: Vec<(Reply, Answer)>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            members: BTreeMap::new(),
            promised: BTreeMap::new(),
            leader: None,
            protocol: String::new(),
            ids: 0,
            written: None,
            answers: Vec::new(),
        }
    }

    pub(super) fn answers(&mut self) -> Vec<(Reply, Answer)> {
        std::mem::take(&mut self.answers)
    }

    pub(super) fn is_stable(&self) -> bool {
        self.state == State::Stable
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Another broker has read what this one has written; what waited here is forgotten.
    pub(super) fn take_over(&mut self, now: u64) {
        self.promised.clear();
        self.members.clear();
        self.state = State::Empty;
        self.leader = None;
        if let Some(written) = self.written.clone() {
            self.state = if written.members.is_empty() {
                State::Empty
            } else {
                State::Stable
            };
            self.generation = written.generation;
            self.members = written.members;
            self.leader = written.leader;
            self.protocol = written.protocol;
        }
        for member in self.members.values_mut() {
            member.expires = now + member.session;
            (member.joining, member.syncing) = (None, None);
        }
    }

    pub(super) fn timer(&self) -> Option<u64> {
        let members = self.members.values().filter(|member| !member.is_waiting());
        let sessions = members.map(|member| member.expires);
        let rebalance = match self.state {
            State::Preparing { until } => Some(until),
            _ => None,
        };
        sessions.chain(rebalance).chain(self.promised.values().copied()).min()
    }

    pub(super) fn tick(&mut self, now: u64) {
        let promised = self.promised.len();
        self.promised.retain(|_, until| *until > now);
        let silent =
            |(id, member): (&String, &Known)| (!member.is_waiting() && member.expires <= now).then(|| id.clone());
        let silent: Vec<_> = self.members.iter().filter_map(silent).collect();
        for id in silent {
            self.remove(&id, now);
        }
        match self.state {
            State::Preparing { until } if until <= now => self.complete(now),
            State::Preparing { .. } if promised != self.promised.len() => self.complete_if_all_joined(now),
            _ => {}
        }
    }

    pub(super) fn handle(&mut self, reply: Reply, request: Request, now: u64) {
        self.tick(now);
        match request {
            Request::Join {
                member_id,
                instance_id,
                session_timeout,
                rebalance_timeout,
                protocols,
            } => {
                let known = Known {
                    instance_id,
                    protocols,
                    session: millis(session_timeout),
                    rebalance: millis(rebalance_timeout),
                    expires: 0,
                    joining: Some(reply),
                    syncing: None,
                    assignment: Vec::new(),
                };
                self.join(reply, member_id, known, now);
            }
            Request::Sync {
                generation,
                member_id,
                instance_id,
                protocol,
                assignments,
            } => {
                let code = match self.check(&member_id, instance_id.as_deref(), generation) {
                    0 if protocol != self.protocol => INCONSISTENT_GROUP_PROTOCOL,
                    code => code,
                };
                self.sync(reply, code, &member_id, assignments, now);
            }
            Request::Heartbeat {
                generation,
                member_id,
                instance_id,
            } => {
                let mut code = self.check(&member_id, instance_id.as_deref(), generation);
                if code == 0 {
                    self.heard_of(&member_id, now);
                    if matches!(self.state, State::Preparing { .. }) {
                        code = REBALANCE_IN_PROGRESS;
                    }
                }
                self.answers.push((reply, Answer::Heartbeat { code }));
            }
            Request::Leave { member_id } => {
                let code = if self.members.contains_key(&member_id) {
                    self.remove(&member_id, now);
                    0
                } else if self.promised.remove(&member_id).is_some() {
                    if matches!(self.state, State::Preparing { .. }) {
                        self.complete_if_all_joined(now);
                    }
                    0
                } else {
                    UNKNOWN_MEMBER_ID
                };
                self.answers.push((reply, Answer::Leave { code }));
            }
        }
    }

    fn check(&self, id: &str, instance_id: Option<&str>, generation: i32) -> i16 {
        if self.is_fenced(id, instance_id) {
            return FENCED_INSTANCE_ID;
        }
        if !self.members.contains_key(id) || self.state == State::Empty {
            return UNKNOWN_MEMBER_ID;
        }
        if generation == self.generation {
            0
        } else {
            ILLEGAL_GENERATION
        }
    }

    fn named(&self, instance_id: Option<&str>) -> Option<String> {
        let is_it = |(id, member): (&String, &Known)| {
            (instance_id.is_some() && member.instance_id.as_deref() == instance_id).then(|| id.clone())
        };
        self.members.iter().find_map(is_it)
    }

    fn is_fenced(&self, id: &str, instance_id: Option<&str>) -> bool {
        self.named(instance_id).is_some_and(|holder| holder != id)
    }

    fn heard_of(&mut self, id: &str, now: u64) {
        if let Some(member) = self.members.get_mut(id) {
            member.expires = now + member.session;
        }
    }

    fn new_id(&mut self) -> String {
        self.ids += 1;
        // Not in the order in which they came.
        format!("{:03}-{}", (self.ids * 389) % 1000, self.ids)
    }

    // ---- joining ----

    fn join(&mut self, reply: Reply, id: String, known: Known, now: u64) {
        let named = self.named(known.instance_id.as_deref());
        if id.is_empty() {
            match (&known.instance_id, named) {
                (None, _) => {
                    let id = self.new_id();
                    self.promised.insert(id.clone(), now + known.session);
                    self.refuse_join(reply, MEMBER_ID_REQUIRED, id);
                }
                (Some(_), None) => {
                    let id = self.new_id();
                    self.add(id, known, now);
                }
                (Some(_), Some(old)) => self.replace(reply, &old, known, now),
            }
        } else if self.is_fenced(&id, known.instance_id.as_deref()) {
            self.refuse_join(reply, FENCED_INSTANCE_ID, id);
        } else if self.promised.remove(&id).is_some() {
            self.add(id, known, now);
        } else if self.members.contains_key(&id) {
            self.join_again(reply, id, known, now);
        } else {
            self.refuse_join(reply, UNKNOWN_MEMBER_ID, id);
        }
    }

    fn add(&mut self, id: String, known: Known, now: u64) {
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, known);
        self.prepare(now);
    }

    fn join_again(&mut self, reply: Reply, id: String, known: Known, now: u64) {
        let member = &self.members[&id];
        let is_same = member.protocols == known.protocols;
        let is_leader = self.leader.as_deref() == Some(&id);
        match self.state {
            State::Completing if is_same => self.admit(reply, &id, false, now),
            State::Stable if is_same && !is_leader => self.admit(reply, &id, false, now),
            _ => {
                let assignment = member.assignment.clone();
                self.members.insert(id, Known { assignment, ..known });
                self.prepare(now);
            }
        }
    }

    /// A static member is back under a new ID.
    fn replace(&mut self, reply: Reply, old: &str, known: Known, now: u64) {
        let id = self.new_id();
        let Some(before) = self.members.remove(old) else { return };
        for (waiting, answer) in [
            (before.joining, refused_join(FENCED_INSTANCE_ID, old.to_owned())),
            (before.syncing, refused_sync(FENCED_INSTANCE_ID)),
        ] {
            self.answers.extend(waiting.map(|reply| (reply, answer)));
        }
        if self.leader.as_deref() == Some(old) {
            self.leader = Some(id.clone());
        }
        let is_same = before.protocols == known.protocols;
        let assignment = before.assignment;
        self.members.insert(id.clone(), Known { assignment, ..known });
        if self.state == State::Stable && is_same {
            self.write();
            self.admit(reply, &id, true, now);
        } else {
            self.prepare(now);
        }
    }

    fn refuse_join(&mut self, reply: Reply, code: i16, id: String) {
        self.answers.push((reply, refused_join(code, id)));
    }

    fn prepare(&mut self, now: u64) {
        for member in self.members.values_mut() {
            let answer = refused_sync(REBALANCE_IN_PROGRESS);
            self.answers.extend(member.syncing.take().map(|reply| (reply, answer)));
        }
        match self.state {
            State::Preparing { .. } => {}
            State::Empty => {
                self.state = State::Preparing {
                    until: now + INITIAL_DELAY,
                };
                return;
            }
            State::Completing | State::Stable => {
                let longest = self.members.values().map(|member| member.rebalance).max();
                self.state = State::Preparing {
                    until: now + longest.unwrap_or(0),
                };
            }
        }
        self.complete_if_all_joined(now);
    }

    fn complete_if_all_joined(&mut self, now: u64) {
        let has_begun = self.generation > 0 || self.members.is_empty();
        if has_begun && self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.complete(now);
        }
    }

    fn complete(&mut self, now: u64) {
        // Static members stay until their session ends.
        self.members
            .retain(|_, member| member.joining.is_some() || member.instance_id.is_some());
        let joined = |id: &&String| self.members[*id].joining.is_some();
        let here: BTreeSet<_> = self.members.keys().filter(joined).cloned().collect();
        if here.is_empty() && !self.members.is_empty() {
            let longest = self.members.values().map(|member| member.rebalance).max();
            self.state = State::Preparing {
                until: now + longest.unwrap_or(0),
            };
            return;
        }
        self.generation += 1;
        if self.leader.as_ref().is_none_or(|leader| !here.contains(leader)) {
            self.leader = here.first().cloned();
        }
        if self.members.is_empty() {
            self.state = State::Empty;
            self.write();
            return;
        }
        self.state = State::Completing;
        let offered = |member: &Known| -> Vec<_> { member.protocols.iter().map(|(name, _)| name.clone()).collect() };
        let mut common = self.members.values().map(offered);
        let first = common.next().unwrap_or_default();
        let rest: Vec<_> = common.collect();
        let agreed = first
            .into_iter()
            .find(|name| rest.iter().all(|names| names.contains(name)));
        self.protocol = agreed.unwrap_or_default();
        for id in here {
            let reply = self.members.get_mut(&id).and_then(|member| member.joining.take());
            if let Some(reply) = reply {
                self.admit(reply, &id, false, now);
            }
        }
    }

    fn admit(&mut self, reply: Reply, id: &str, skip_assignment: bool, now: u64) {
        self.heard_of(id, now);
        if let Some(member) = self.members.get_mut(id) {
            member.joining = None;
        }
        let leader = self.leader.clone().unwrap_or_default();
        let is_leader = leader == id;
        let as_seen = |(id, member): (&String, &Known)| JoinedMember {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            subscription: member
                .protocols
                .iter()
                .find(|(name, _)| *name == self.protocol)
                .map_or(Vec::new(), |found| found.1.clone()),
        };
        let answer = Answer::Join {
            code: 0,
            generation: self.generation,
            protocol: Some(self.protocol.clone()),
            leader,
            member_id: id.to_owned(),
            skip_assignment: skip_assignment && is_leader,
            members: if is_leader {
                self.members.iter().map(as_seen).collect()
            } else {
                Vec::new()
            },
        };
        self.answers.push((reply, answer));
    }

    // ---- dealing out ----

    fn sync(&mut self, reply: Reply, code: i16, id: &str, assignments: Vec<(String, Vec<u8>)>, now: u64) {
        match (code, self.state) {
            (0, State::Completing) => {
                if let Some(member) = self.members.get_mut(id) {
                    member.syncing = Some(reply);
                }
                if self.leader.as_deref() == Some(id) {
                    self.hand_out(assignments, now);
                }
            }
            (0, State::Stable) => {
                self.heard_of(id, now);
                let assignment = self.members[id].assignment.clone();
                self.answers.push((reply, Answer::Sync { code: 0, assignment }));
            }
            (0, _) => self.answers.push((reply, refused_sync(REBALANCE_IN_PROGRESS))),
            (code, _) => self.answers.push((reply, refused_sync(code))),
        }
    }

    fn hand_out(&mut self, assignments: Vec<(String, Vec<u8>)>, now: u64) {
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Some(reply) = member.syncing.take() {
                member.expires = now + member.session;
                let assignment = member.assignment.clone();
                self.answers.push((reply, Answer::Sync { code: 0, assignment }));
            }
        }
        self.state = State::Stable;
        self.write();
    }

    fn write(&mut self) {
        self.written = Some(Written {
            generation: self.generation,
            members: self.members.clone(),
            leader: self.leader.clone(),
            protocol: self.protocol.clone(),
        });
    }

    fn remove(&mut self, id: &str, now: u64) {
        let Some(member) = self.members.remove(id) else { return };
        let answer = refused_join(UNKNOWN_MEMBER_ID, id.to_owned());
        self.answers.extend(member.joining.map(|reply| (reply, answer)));
        self.answers
            .extend(member.syncing.map(|reply| (reply, refused_sync(UNKNOWN_MEMBER_ID))));
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.prepare(now);
    }
}

impl Known {
    /// Who waits for an answer is not given up.
    fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

fn refused_join(code: i16, member_id: String) -> Answer {
    Answer::Join {
        code,
        generation: -1,
        protocol: None,
        leader: String::new(),
        member_id,
        skip_assignment: false,
        members: Vec::new(),
    }
}

fn refused_sync(code: i16) -> Answer {
    Answer::Sync {
        code,
        assignment: Vec::new(),
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
