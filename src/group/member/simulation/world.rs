//! Members, their drivers and the network between them and the coordinator, on virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::coordinator::{Coordinator, Reply};
use crate::{
    cluster::retry::next_random,
    error::{Error, ErrorKind},
    group::{
        assignor::Counts,
        member::{Answer, Link, Member, MemberConfig, Output, Request},
    },
    offset::TopicPartition,
};

/// What happens at some time, to one member or to the coordinator.
#[derive(Debug, Clone)]
enum Event {
    /// The attempt to connect ends.
    Dialled {
        node: usize,
        links: u32,
    },
    Arrived {
        reply: Reply,
        request: Request,
    },
    Answered {
        reply: Reply,
        answer: Answer,
    },
    /// The driver has waited long enough for an answer.
    Overdue {
        reply: Reply,
    },
    Released {
        node: usize,
        revocation: u32,
    },
    Topics {
        node: usize,
    },
    Tick {
        node: usize,
    },
    Coordinator,
}

impl Event {
    /// Whose thread takes this up.
    fn node(&self) -> Option<usize> {
        match self {
            Self::Dialled { node, .. } | Self::Released { node, .. } | Self::Topics { node } | Self::Tick { node } => {
                Some(*node)
            }
            Self::Answered { reply, .. } | Self::Overdue { reply } => Some(reply.node),
            Self::Arrived { .. } | Self::Coordinator => None,
        }
    }
}

/// One program: a member and what its driver knows.
#[derive(Debug)]
pub(super) struct Node {
    pub member: Member,
    pub config: MemberConfig,
    /// Of its partitions, if it owns any generation's.
    pub owned: Option<BTreeSet<TopicPartition>>,
    /// Counts the links that it has had; an even one is down.
    links: u32,
    is_linked: bool,
    outstanding: BTreeSet<u64>,
    revocation: u32,
    is_revoking: bool,
    pub release_takes: u64,
    frozen_until: u64,
    /// Crashed, left or failed.
    pub is_gone: bool,
    pub failed: Option<Error>,
    watches: BTreeSet<Arc<str>>,
    is_troubled: bool,
    /// When each request was sent, and what it was.
    pub sent: Vec<(u64, &'static str)>,
    last_beat: Option<Beat>,
    pub assigned: u32,
    pub lost: u32,
}

#[derive(Debug)]
struct Beat {
    ticket: u64,
    sent: u64,
    answered: Option<u64>,
    identity: (String, i32),
    links: u32,
}

/// What the network does to messages, by chance: out of 100.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub lost: u64,
    pub late: u64,
    pub twice: u64,
    pub refused: u64,
}

pub(super) struct World {
    begin: Instant,
    pub now: u64,
    random: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    scheduled: u64,
    pub nodes: Vec<Node>,
    pub coordinator: Coordinator,
    /// When it is to look at the time.
    wakes: BTreeSet<u64>,
    /// Nobody coordinates until then.
    down_until: u64,
    pub counts: Counts,
    pub weather: Weather,
}

const REQUEST_TIMEOUT: u64 = 5_000;
/// More in one second would be a hot loop.
const MOST_PER_SECOND: usize = 25;

impl World {
    pub(super) fn new(counts: &[(&str, i32)], seed: u64) -> Self {
        Self {
            begin: super::beginning(),
            now: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            nodes: Vec::new(),
            coordinator: Coordinator::new(),
            wakes: BTreeSet::new(),
            down_until: 0,
            counts: counts.iter().map(|&(topic, count)| (Arc::from(topic), count)).collect(),
            weather: Weather::default(),
        }
    }

    // ---- what may be done to it ----

    pub(super) fn start(&mut self, mut config: MemberConfig) -> usize {
        config.random = self.chance(u64::MAX);
        let node = self.nodes.len();
        self.nodes.push(Node {
            member: Member::new(config.clone(), self.at(self.now)),
            config,
            owned: None,
            links: 0,
            is_linked: false,
            outstanding: BTreeSet::new(),
            revocation: 0,
            is_revoking: false,
            release_takes: 10,
            frozen_until: 0,
            is_gone: false,
            failed: None,
            watches: BTreeSet::new(),
            is_troubled: false,
            sent: Vec::new(),
            last_beat: None,
            assigned: 0,
            lost: 0,
        });
        self.drain(node);
        node
    }

    /// The driver gives everything up before it says goodbye.
    pub(super) fn leave(&mut self, node: usize) {
        if self.is_there(node) {
            self.nodes[node].owned = None;
            self.nodes[node].is_revoking = false;
            let now = self.at(self.now);
            self.nodes[node].member.leave(now);
            self.drain(node);
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.nodes[node].is_gone = true;
        self.nodes[node].owned = None;
    }

    pub(super) fn freeze(&mut self, node: usize, millis: u64) {
        self.nodes[node].frozen_until = self.now + millis;
    }

    pub(super) fn break_links(&mut self, node: usize) {
        if self.is_there(node) && self.nodes[node].is_linked {
            self.disconnect(node, "the link broke");
        }
    }

    /// The group's coordinator is gone, and another one begins after a while.
    pub(super) fn move_coordinator(&mut self, millis: u64) {
        self.down_until = self.now + millis;
        self.coordinator.take_over(self.down_until);
        for node in 0..self.nodes.len() {
            self.break_links(node);
        }
    }

    pub(super) fn grow(&mut self, topic: &str, count: i32) {
        let known = self.counts.entry(Arc::from(topic)).or_insert(0);
        *known = count.max(*known);
        for node in 0..self.nodes.len() {
            if self.is_there(node) && self.nodes[node].watches.contains(topic) {
                self.schedule(300, Event::Topics { node });
            }
        }
    }

    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(&Reverse((at, number))) = self.queue.peek() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
                self.check();
            }
        }
        self.now = end;
    }

    // ---- what must hold ----

    fn is_there(&self, node: usize) -> bool {
        !self.nodes[node].is_gone
    }

    fn check(&self) {
        let mut owners = BTreeMap::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(owned) = &node.owned else { continue };
            if node.member.valid_until().is_none_or(|end| end <= self.at(self.now)) {
                continue;
            }
            for partition in owned {
                let other = owners.insert(partition, number);
                assert_eq!(other, None, "{partition} is also {number}'s at {}", self.now);
            }
        }
    }

    /// Every partition that somebody wants has one owner who wants it, and everybody is at rest.
    pub(super) fn assert_settled(&self) {
        let here: Vec<_> = self.nodes.iter().filter(|node| !node.is_gone).collect();
        let mut owned = BTreeSet::new();
        for node in &here {
            assert!(!node.member.is_rebalancing(), "at {}: {node:?}", self.now);
            assert!(!node.is_troubled, "at {}: {node:?}", self.now);
            assert!(node.member.valid_until() > Some(self.at(self.now)), "{node:?}");
            for partition in node.owned.iter().flatten() {
                assert!(node.config.topics.iter().any(|topic| **topic == *partition.topic()));
                assert!(owned.insert(partition.clone()), "{partition} twice");
            }
        }
        let is_wanted = |topic: &Arc<str>| here.iter().any(|node| node.config.topics.contains(topic));
        let wanted: BTreeSet<_> = self
            .counts
            .iter()
            .filter(|(topic, _)| is_wanted(topic))
            .flat_map(|(topic, &count)| (0..count).map(move |partition| TopicPartition::new(topic, partition)))
            .collect();
        assert_eq!(owned, wanted);
        assert_eq!(self.coordinator.is_stable(), !here.is_empty());
        assert_eq!(self.coordinator.members(), here.len());
    }

    fn assert_not_hot(&self, node: usize) {
        let sent = &self.nodes[node].sent;
        if let Some((then, _)) = sent
            .len()
            .checked_sub(MOST_PER_SECOND)
            .and_then(|first| sent.get(first))
        {
            assert!(
                self.now > then + 1_000,
                "a hot loop: {:?}",
                &sent[sent.len() - MOST_PER_SECOND..]
            );
        }
    }

    /// A heartbeat is sent when it is due, unless the one before it is still out, or the program stood still.
    fn assert_in_time(&mut self, node: usize, ticket: u64, identity: (String, i32)) {
        let (now, links) = (self.now, self.nodes[node].links);
        let node = &mut self.nodes[node];
        if let Some(last) = node.last_beat.take() {
            if last.identity == identity && last.links == links && node.frozen_until < last.sent {
                let answered = last.answered.expect("one heartbeat at a time");
                let interval = u64::try_from(node.config.heartbeat_interval.as_millis()).unwrap();
                // The driver's clock has whole milliseconds.
                let due = (last.sent + interval + 1).max(answered);
                assert!(now <= due, "a heartbeat at {now} that was due at {due}");
            }
        }
        node.last_beat = Some(Beat {
            ticket,
            sent: now,
            answered: None,
            identity,
            links,
        });
    }

    // ---- the driver ----

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].member.poll() {
            self.follow(node, output);
        }
        if let Some(at) = self.nodes[node].member.timer() {
            let at = self.millis(at);
            self.schedule_at(at, Event::Tick { node });
        }
    }

    fn follow(&mut self, number: usize, output: Output) {
        let node = &mut self.nodes[number];
        assert!(!node.is_gone, "nothing comes out after the end: {output:?}");
        match output {
            Output::Connect { at } => {
                node.links += 1;
                node.is_linked = false;
                node.outstanding.clear();
                let links = node.links;

                let (at, takes) = (self.millis(at), 1 + self.chance(30));
                self.schedule_at(at + takes, Event::Dialled { node: number, links });
            }
            Output::Send { ticket, link, request } => self.send(number, ticket, link, request),
            Output::Revoke => {
                assert!(node.owned.is_some() && !node.is_revoking, "one Revoke per Assign");
                node.is_revoking = true;
                node.revocation += 1;
                let (revocation, takes) = (node.revocation, node.release_takes);
                let event = Event::Released {
                    node: number,
                    revocation,
                };
                self.schedule(takes, event);
            }
            Output::Lost { .. } => {
                assert!(node.owned.take().is_some(), "nothing to lose");
                node.is_revoking = false;
                node.lost += 1;
            }
            Output::Assign { partitions, .. } => {
                assert!(node.owned.is_none(), "assigned while something is owned");
                node.assigned += 1;
                node.owned = Some(partitions.into_iter().collect());
            }
            Output::Describe(topics) => {
                node.watches = topics.into_iter().collect();
                let takes = 1 + self.chance(50);
                self.schedule(takes, Event::Topics { node: number });
            }
            Output::Trouble(_) => node.is_troubled = true,
            Output::Well => assert!(std::mem::take(&mut node.is_troubled), "well without trouble"),
            Output::Fail(error) => {
                assert!(node.owned.is_none(), "what is owned is lost before");
                (node.is_gone, node.failed) = (true, Some(error));
            }
            Output::Left => node.is_gone = true,
        }
    }

    fn send(&mut self, number: usize, ticket: u64, link: Link, request: Request) {
        let node = &mut self.nodes[number];
        assert!(node.is_linked, "sent without links: {request:?}");
        assert!(node.outstanding.insert(ticket), "a ticket twice");
        let reply = Reply {
            node: number,
            links: node.links,
            ticket,
        };
        let (name, limit) = match &request {
            Request::Join { rebalance_timeout, .. } => {
                assert!(node.owned.is_none(), "JoinGroup while something is owned");
                node.last_beat = None;
                (
                    "join",
                    u64::try_from(rebalance_timeout.as_millis()).unwrap() + REQUEST_TIMEOUT,
                )
            }
            Request::Sync { .. } => ("sync", 30_000),
            Request::Heartbeat { .. } => ("heartbeat", REQUEST_TIMEOUT),
            Request::Leave { .. } => ("leave", REQUEST_TIMEOUT),
        };
        let is_waiting = matches!(request, Request::Join { .. } | Request::Sync { .. });
        assert_eq!(link == Link::Join, is_waiting);
        node.sent.push((self.now, name));
        self.assert_not_hot(number);
        if let Request::Heartbeat {
            member_id, generation, ..
        } = &request
        {
            self.assert_in_time(number, ticket, (member_id.clone(), *generation));
        }
        self.schedule(limit, Event::Overdue { reply });
        if !self.dice(self.weather.lost) {
            let takes = self.latency();
            self.schedule(takes, Event::Arrived { reply, request });
        }
    }

    fn disconnect(&mut self, node: usize, why: &str) {
        let now = self.at(self.now);
        self.nodes[node].is_linked = false;
        self.nodes[node]
            .member
            .disconnected(Error::new(ErrorKind::Io, why), now);
        self.drain(node);
    }

    // ---- events ----

    fn happen(&mut self, event: Event) {
        if let Some(node) = event.node() {
            if !self.is_there(node) {
                return;
            }
            let thaws = self.nodes[node].frozen_until;
            if thaws > self.now {
                self.schedule_at(thaws, event);
                return;
            }
        }
        let now = self.at(self.now);
        match event {
            Event::Dialled { node, links } => self.dialled(node, links),
            Event::Arrived { reply, request } => self.arrived(reply, request),
            Event::Answered { reply, answer } => self.answered(reply, answer),
            Event::Overdue { reply } => {
                let node = &self.nodes[reply.node];
                if node.links == reply.links && node.outstanding.contains(&reply.ticket) {
                    self.disconnect(reply.node, "no answer in time");
                }
            }
            Event::Released { node, revocation } => {
                let owner = &mut self.nodes[node];
                if owner.is_revoking && owner.revocation == revocation {
                    owner.is_revoking = false;
                    owner.owned = None;
                    owner.member.released(now);
                    self.drain(node);
                }
            }
            Event::Topics { node } => {
                let watched = &self.nodes[node].watches;
                let counts = self.counts.iter().filter(|(topic, _)| watched.contains(*topic));
                let counts = counts.map(|(topic, &count)| (Arc::clone(topic), count)).collect();
                self.nodes[node].member.topics(&counts, now);
                self.drain(node);
            }
            Event::Tick { node } => {
                if self.nodes[node].member.timer().is_some_and(|at| at <= now) {
                    self.nodes[node].member.tick(now);
                    let timer = self.nodes[node].member.timer();
                    self.drain(node);
                    assert!(timer.is_none_or(|at| at > now), "a tick that does nothing");
                }
            }
            Event::Coordinator => {
                self.wakes.remove(&self.now);
                self.at_coordinator(|coordinator, now| coordinator.tick(now));
            }
        }
    }

    fn dialled(&mut self, node: usize, links: u32) {
        if self.nodes[node].links != links {
            return;
        }
        if self.down_until > self.now {
            let now = self.at(self.now);
            let error = Error::refused(15).in_api("FindCoordinator");
            self.nodes[node].member.disconnected(error, now);
        } else {
            self.nodes[node].is_linked = true;
            let now = self.at(self.now);
            self.nodes[node].member.connected(now);
        }
        self.drain(node);
    }

    fn arrived(&mut self, reply: Reply, request: Request) {
        // What is still on its way when a link breaks does not arrive.
        let node = &self.nodes[reply.node];
        if node.links != reply.links || !node.is_linked || self.down_until > self.now {
            return;
        }
        if self.dice(self.weather.refused) {
            let codes: &[i16] = match &request {
                Request::Heartbeat { .. } => &[14, 15, 16],
                Request::Join { .. } => &[14, 15, 16, 27],
                Request::Sync { .. } => &[15, 16, 27],
                Request::Leave { .. } => &[16],
            };
            let code = codes[usize::try_from(self.chance(codes.len() as u64)).unwrap()];
            // The next heartbeat may come earlier or later then.
            self.nodes[reply.node].last_beat = None;
            self.answer(reply, refusal(&request, code));
            return;
        }
        self.at_coordinator(|coordinator, now| coordinator.handle(reply, request, now));
    }

    /// Once for each time, or the events would multiply.
    fn wake_coordinator(&mut self, at: u64) {
        if self.wakes.insert(at) {
            self.schedule_at(at, Event::Coordinator);
        }
    }

    fn at_coordinator(&mut self, act: impl FnOnce(&mut Coordinator, u64)) {
        if self.down_until > self.now {
            self.wake_coordinator(self.down_until);
            return;
        }
        act(&mut self.coordinator, self.now);
        for (reply, answer) in self.coordinator.answers() {
            self.answer(reply, answer);
        }
        if let Some(at) = self.coordinator.timer() {
            self.wake_coordinator(at.max(self.now));
        }
    }

    fn answer(&mut self, reply: Reply, answer: Answer) {
        if self.dice(self.weather.lost) {
            return;
        }
        if self.dice(self.weather.twice) {
            let (takes, answer) = (self.latency(), answer.clone());
            self.schedule(takes, Event::Answered { reply, answer });
        }
        let takes = self.latency();
        self.schedule(takes, Event::Answered { reply, answer });
    }

    fn answered(&mut self, reply: Reply, answer: Answer) {
        let (now, number) = (self.at(self.now), self.now);
        let node = &mut self.nodes[reply.node];
        // An answer over a link that is gone comes only by a driver's mistake; the ticket tells.
        node.outstanding.remove(&reply.ticket);
        if let Some(beat) = node.last_beat.as_mut().filter(|beat| beat.ticket == reply.ticket) {
            beat.answered.get_or_insert(number);
        }
        node.member.answered(reply.ticket, Ok(answer), now);
        self.drain(reply.node);
    }

    // ---- time and chance ----

    fn at(&self, millis: u64) -> Instant {
        self.begin + Duration::from_millis(millis)
    }

    /// The first millisecond that is not earlier.
    fn millis(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap().max(self.now)
    }

    fn latency(&mut self) -> u64 {
        let usual = 1 + self.chance(20);
        if self.dice(self.weather.late) {
            usual + self.chance(15_000)
        } else {
            usual
        }
    }

    fn dice(&mut self, percent: u64) -> bool {
        self.chance(100) < percent
    }

    fn chance(&mut self, below: u64) -> u64 {
        self.random = next_random(self.random);
        (self.random >> 16) % below.max(1)
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    fn schedule_at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert(self.scheduled, event);
        self.queue.push(Reverse((at, self.scheduled)));
    }
}

impl Node {
    pub(super) fn count(&self, name: &str) -> usize {
        self.sent.iter().filter(|(_, sent)| *sent == name).count()
    }
}

fn refusal(request: &Request, code: i16) -> Answer {
    match request {
        Request::Join { .. } => Answer::Join {
            code,
            generation: -1,
            protocol: None,
            leader: String::new(),
            member_id: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        },
        Request::Sync { .. } => Answer::Sync {
            code,
            assignment: Vec::new(),
        },
        Request::Heartbeat { .. } => Answer::Heartbeat { code },
        Request::Leave { .. } => Answer::Leave { code },
    }
}
