//! A member of a group, to whom anything happens in any order.
//!
//! The bytes are a sequence of events: one byte says which, those behind it say with what. What comes out is held
//! against what the driver relies on.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use crate::{
    Assignor,
    cluster::Backoff,
    error::{Error, ErrorKind},
    group::member::{Answer, Identity, JoinedMember, Link, Member, MemberConfig, Output, Request, Ticket},
    offset::TopicPartition,
    wire::membership::{encode_assignment, encode_subscription},
};

/// Where virtual time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing else reads the clock, and all is relative to it"
)]
pub(super) fn beginning() -> Instant {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGINNING
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let config = config(&mut input);
    let mut world = World::new(config);
    while let Some(event) = input.byte() {
        world.happen(event, &mut input);
    }
}

const TOPICS: [&str; 3] = ["orders", "returns", "what nobody asked for"];

fn config(input: &mut Input<'_>) -> MemberConfig {
    let traits = input.byte().unwrap_or(0);
    let seconds = |count: u8| Duration::from_secs(u64::from(count));
    MemberConfig {
        topics: vec![Arc::from(TOPICS[0]), Arc::from(TOPICS[1])],
        instance_id: (traits & 1 != 0).then(|| "static".to_owned()),
        session_timeout: seconds(1 + (traits >> 1 & 7)),
        rebalance_timeout: seconds(1 + (traits >> 4 & 7)),
        heartbeat_interval: Duration::from_millis(if traits & 0x80 == 0 { 300 } else { 2_000 }),
        assignors: vec![Assignor::Range, Assignor::RoundRobin],
        backoff: Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_millis(100),
        },
        random: 7,
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.number()) % from.len()]
    }

    /// One of those that matter, or any.
    fn code(&mut self) -> i16 {
        const CODES: [i16; 15] = [0, 0, 0, 27, 25, 22, 16, 15, 14, 79, 82, 81, 23, 30, -1];
        match self.number() {
            any @ 0x80.. => i16::from_be_bytes([any & 0x7f, self.number()]),
            known => CODES[usize::from(known) % CODES.len()],
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn subscription(&mut self) -> Vec<u8> {
        match self.number() {
            any @ 0x80.. => [&[any & 1], self.bytes()].concat(),
            known => {
                let topics = TOPICS.iter().enumerate().filter(|(at, _)| known >> at & 1 == 1);
                encode_subscription(&topics.map(|(_, topic)| Arc::from(*topic)).collect::<Vec<_>>())
            }
        }
    }

    fn assignment(&mut self) -> Vec<u8> {
        match self.number() {
            any @ 0x80.. => [&[any & 1], self.bytes()].concat(),
            known => {
                let topics = TOPICS.iter().enumerate().filter(|(at, _)| known >> at & 1 == 1);
                let first = i32::from(known >> 3 & 7) - 1;
                let some = topics.map(|(_, topic)| (Arc::from(*topic), vec![first, first + 1]));
                encode_assignment(&some.collect())
            }
        }
    }

    fn answer(&mut self) -> Answer {
        match self.number() % 5 {
            0 | 1 => Answer::Join {
                code: self.code(),
                generation: self.pick(&[1, 2, 7, 0, -1, i32::MAX]),
                protocol: self
                    .pick(&[Some("range"), Some("roundrobin"), None, Some("neither"), Some("")])
                    .map(str::to_owned),
                leader: self.pick(&["me", "you", ""]).to_owned(),
                member_id: self.pick(&["me", "you", "me", ""]).to_owned(),
                skip_assignment: self.number() % 4 == 3,
                members: (0..self.number() % 4).map(|_| self.member()).collect(),
            },
            2 => Answer::Sync {
                code: self.code(),
                assignment: self.assignment(),
            },
            3 => Answer::Heartbeat { code: self.code() },
            _ => Answer::Leave { code: self.code() },
        }
    }

    fn member(&mut self) -> JoinedMember {
        JoinedMember {
            id: self.pick(&["me", "you", "they", ""]).to_owned(),
            instance_id: self.pick(&[None, Some("static"), Some("")]).map(str::to_owned),
            subscription: self.subscription(),
        }
    }

    fn error(&mut self) -> Error {
        let kind = self.pick(&[
            ErrorKind::Io,
            ErrorKind::TimedOut,
            ErrorKind::Protocol,
            ErrorKind::Unsupported,
            ErrorKind::Unreachable,
            ErrorKind::Closed,
        ]);
        match self.number() % 4 {
            0 => Error::refused(self.code()),
            _ => Error::new(kind, "something happened"),
        }
    }
}

/// What a driver knows.
struct World {
    member: Member,
    config: MemberConfig,
    now: Instant,
    /// Both are up.
    is_linked: bool,
    /// When links are to be made, if they are.
    wanted: Option<Instant>,
    asked: Vec<(Ticket, Asked)>,
    owned: Option<Vec<TopicPartition>>,
    is_revoking: bool,
    is_troubled: bool,
    is_described: bool,
    is_over: bool,
    last_identity: Option<Identity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Join,
    Sync,
    Heartbeat,
    Leave,
}

impl World {
    fn new(config: MemberConfig) -> Self {
        let now = beginning();
        let mut world = Self {
            member: Member::new(config.clone(), now),
            config,
            now,
            is_linked: false,
            wanted: None,
            asked: Vec::new(),
            owned: None,
            is_revoking: false,
            is_troubled: false,
            is_described: false,
            is_over: false,
            last_identity: None,
        };
        world.drain();
        assert!(world.wanted.is_some(), "first of all it connects");
        world
    }

    fn happen(&mut self, event: u8, input: &mut Input<'_>) {
        let now = self.now;
        match event % 12 {
            0 => {
                self.now += Duration::from_millis(u64::from(input.number()) * 20);
                self.member.tick(self.now);
            }
            1 => self.wait_for_timer(),
            2 if !self.is_linked => {
                let Some(at) = self.wanted.take() else { return };
                self.now = now.max(at);
                self.is_linked = true;
                self.member.connected(self.now);
            }
            3 => {
                self.broken();
                self.member.disconnected(input.error(), now);
            }
            4 if self.is_linked => {
                self.broken();
                self.member.idled(input.error(), now);
            }
            5 => self.answer_well(input),
            6 => self.answer(input),
            7 if self.is_revoking => {
                (self.is_revoking, self.owned) = (false, None);
                self.member.released(now);
            }
            8 if self.is_described => {
                let count = i32::from(input.number() % 8);
                let counts = TOPICS[..2].iter().map(|topic| (Arc::from(*topic), count));
                self.member.topics(&counts.collect(), now);
            }
            9 => {
                let stranger = Identity {
                    member_id: "you".to_owned(),
                    instance_id: None,
                    generation: 3,
                };
                let identity = match input.number() % 3 {
                    0 => stranger,
                    1 => self.last_identity.clone().unwrap_or(stranger),
                    _ => self.member.identity().cloned().unwrap_or(stranger),
                };
                self.member.refused(&identity, input.code(), now);
            }
            10 if input.number() % 8 == 0 => {
                (self.is_revoking, self.owned) = (false, None);
                self.member.leave(now);
            }
            _ => return,
        }
        self.drain();
    }

    fn wait_for_timer(&mut self) {
        let Some(at) = self.member.timer() else { return };
        self.now = self.now.max(at);
        self.member.tick(self.now);
        let next = self.member.timer();
        assert!(next.is_none_or(|next| next > self.now), "a tick that does nothing");
    }

    fn broken(&mut self) {
        self.is_linked = false;
        self.asked.clear();
    }

    /// To what was asked last, and no refusal: so that a membership comes about.
    fn answer_well(&mut self, input: &mut Input<'_>) {
        let Some((ticket, asked)) = self.asked.pop() else {
            return;
        };
        let answer = match asked {
            Asked::Join => Answer::Join {
                code: 0,
                generation: i32::from(input.number()),
                protocol: Some("range".to_owned()),
                leader: input.pick(&["me", "you"]).to_owned(),
                member_id: "me".to_owned(),
                skip_assignment: false,
                members: (0..input.number() % 4).map(|_| input.member()).collect(),
            },
            Asked::Sync => Answer::Sync {
                code: 0,
                assignment: input.assignment(),
            },
            Asked::Heartbeat => Answer::Heartbeat {
                code: input.pick(&[0, 0, 27]),
            },
            Asked::Leave => Answer::Leave { code: 0 },
        };
        self.member.answered(ticket, Ok(answer), self.now);
    }

    /// Anything to anything.
    fn answer(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.number());
        let ticket = match self.asked.get(which) {
            Some(_) => self.asked.remove(which).0,
            None => which as Ticket,
        };
        let answer = match input.number() % 8 {
            0 => Err(input.error()),
            _ => Ok(input.answer()),
        };
        self.member.answered(ticket, answer, self.now);
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.member.poll() {
            assert!(!self.is_over, "nothing comes out after the end: {output:?}");
            self.follow(output);
            count += 1;
        }
        assert!(count <= 8, "{count} things to do at once");
        assert_eq!(self.member.identity().is_some(), self.owned.is_some());
        assert_eq!(self.member.valid_until().is_some(), self.owned.is_some());
        if self.is_over {
            assert_eq!(self.member.timer(), None);
        } else if let Some(identity) = self.member.identity() {
            self.last_identity = Some(identity.clone());
        }
    }

    fn follow(&mut self, output: Output) {
        match output {
            Output::Connect { at } => {
                self.broken();
                self.wanted = Some(at);
            }
            Output::Send { ticket, link, request } => self.send(ticket, link, &request),
            Output::Revoke => {
                assert!(self.owned.is_some() && !self.is_revoking, "once per assignment");
                self.is_revoking = true;
            }
            Output::Lost { .. } => {
                assert!(self.owned.take().is_some(), "there is something to lose");
                self.is_revoking = false;
            }
            Output::Assign { partitions, generation } => {
                assert!(self.owned.is_none(), "nothing is owned before");
                assert!(generation >= 0);
                let once: BTreeSet<_> = partitions.iter().collect();
                assert_eq!(once.len(), partitions.len(), "each once");
                for partition in &partitions {
                    assert!(partition.partition() >= 0);
                    assert!(self.config.topics.iter().any(|topic| **topic == *partition.topic()));
                }
                assert!(
                    self.member.valid_until() > Some(self.now),
                    "nothing is begun that is lost at once"
                );
                self.owned = Some(partitions);
            }
            Output::Describe(_) => self.is_described = true,
            Output::Trouble(_) => self.is_troubled = true,
            Output::Well => assert!(std::mem::take(&mut self.is_troubled), "well without trouble"),
            Output::Fail(_) => {
                assert!(self.owned.is_none(), "what is owned is lost before");
                self.is_over = true;
            }
            Output::Left => self.is_over = true,
        }
    }

    fn send(&mut self, ticket: Ticket, link: Link, request: &Request) {
        assert!(self.is_linked, "sent without links: {request:?}");
        assert!(self.asked.iter().all(|(known, _)| *known != ticket), "a ticket twice");
        let asked = match request {
            Request::Join { protocols, .. } => {
                assert!(self.owned.is_none(), "JoinGroup while something is owned");
                assert_eq!(protocols.len(), self.config.assignors.len());
                Asked::Join
            }
            Request::Sync { generation, .. } => {
                assert!(self.owned.is_none() && *generation >= 0);
                Asked::Sync
            }
            Request::Heartbeat { generation, .. } => {
                assert!(*generation >= 0);
                Asked::Heartbeat
            }
            Request::Leave { member_id } => {
                assert!(self.owned.is_none() && !member_id.is_empty());
                Asked::Leave
            }
        };
        let is_waiting = matches!(asked, Asked::Join | Asked::Sync);
        assert_eq!(
            link == Link::Join,
            is_waiting,
            "what waits in the broker has a link of its own"
        );
        self.asked.push((ticket, asked));
    }
}
