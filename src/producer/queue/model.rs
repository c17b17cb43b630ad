//! The queue against a model of what it meets: one partition's log, brokers that keep Kafka's rules for producers, and a
//! network that loses answers and delivers requests of dead connections whenever it likes. Each history follows from a
//! number, which a failure names.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::*;
use crate::cluster::retry::next_random;

/// So many histories of each kind.
const HISTORIES: u64 = 4_000;

const BROKERS: usize = 3;

/// A broker recognises so many batches of a producer.
const REMEMBERED: usize = 5;

#[test]
fn what_is_acknowledged_is_in_the_log_once_and_in_order() {
    each_history(|seed| Plan::new(seed, true));
}

#[test]
fn nothing_is_lost_without_idempotence_either() {
    each_history(|seed| Plan::new(seed, false));
}

#[test]
fn brokers_that_forget_a_producer_stop_nothing_and_lose_nothing() {
    each_history(|seed| Plan {
        is_amnesiac: true,
        ..Plan::new(seed, true)
    });
}

/// One that failed can be looked at alone: `KLAMM_TEST_SEED=17`.
fn each_history(plan: impl Fn(u64) -> Plan) {
    let only = std::env::var("KLAMM_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = match std::env::var_os("KLAMM_TEST_LONG") {
        Some(_) => HISTORIES * 100,
        None => HISTORIES,
    };
    let seeds = only.map_or(1..=count, |seed: u64| seed..=seed);
    for seed in seeds {
        let mut world = World::new(plan(seed), seed, only.is_some());
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.live()));
        if lived.is_err() {
            panic!("history {seed} ({:?}) failed: see above", world.plan);
        }
    }
}

/// What may happen in a history.
#[derive(Debug, Clone, Copy)]
struct Plan {
    idempotent: bool,
    in_flight: usize,
    max_retries: Option<u32>,
    delivery_timeout: Duration,
    /// A new leader may lack what was not acknowledged.
    loses_tails: bool,
    /// A broker that was restarted, or cut its log, knows the last batch of a producer only.
    forgets: bool,
    /// It knows nothing of any producer any more, as when it was silent for too long: Kafka's promise is off then.
    is_amnesiac: bool,
    /// Requests of dead connections come within this many steps, or whenever they like.
    latest: Option<u32>,
    /// Batches may be too large, and records invalid.
    refuses: bool,
    /// In 100 steps, roughly.
    cuts: u64,
    moves: u64,
    faults: u64,
    /// Everything is given up in the end, instead of being brought to its end.
    purges: bool,
}

impl Plan {
    fn new(seed: u64, idempotent: bool) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: u64| {
            state = next_random(state);
            (state >> 20) % end
        };
        Self {
            idempotent,
            in_flight: [5, 5, 5, 2, 1][below(5) as usize],
            max_retries: [None, None, None, Some(0), Some(2)][below(5) as usize],
            delivery_timeout: Duration::from_millis([300, 1_500, 10_000, 100_000][below(4) as usize]),
            loses_tails: idempotent && below(2) == 0,
            forgets: below(3) == 0,
            is_amnesiac: false,
            latest: [None, Some(20), Some(200)][below(3) as usize],
            refuses: below(2) == 0,
            cuts: [0, 1, 4][below(3) as usize],
            moves: [0, 1, 4][below(3) as usize],
            faults: [0, 5, 20, 50][below(4) as usize],
            purges: below(8) == 0,
        }
    }
}

/// Records, by their numbers.
type Records = Range<u32>;

#[derive(Debug)]
struct Load {
    records: Records,
    /// A sender has its bytes in hand.
    is_lent: bool,
}

#[derive(Debug, Clone)]
struct Request {
    ticket: Ticket,
    sequence: Sequence,
    records: Records,
}

#[derive(Debug, Clone)]
struct Reply {
    verdict: Verdict,
    faulty: Vec<u32>,
}

/// A request, on its way to a broker and back.
#[derive(Debug)]
struct Flight {
    request: Request,
    stage: Wire,
}

#[derive(Debug)]
enum Wire {
    Sent,
    Answered(Reply),
    Dead,
}

/// Requests of a dead connection that its broker still has before it.
#[derive(Debug)]
struct Zombie {
    broker: usize,
    requests: VecDeque<Request>,
    until: Option<u32>,
}

#[derive(Debug)]
struct Logged {
    sequence: Sequence,
    records: Records,
}

struct World {
    plan: Plan,
    is_told: bool,
    random: u64,
    step: u32,
    now: Instant,

    // ---- the producer ----
    queue: Queue<Load>,
    pushed: u32,
    outcomes: Vec<Result<Option<i64>, ErrorKind>>,
    owner: Option<usize>,
    /// Of each broker's sender: what it has taken and not written yet, and what it has written.
    hands: [Option<Request>; BROKERS],
    flights: [VecDeque<Flight>; BROKERS],
    held: Vec<(Request, Vec<u32>)>,
    is_nameless: bool,
    producers: i64,
    /// Something was acknowledged under the identity.
    is_proven: bool,
    /// Something that was sent under the identity is not coming any more.
    has_gap: bool,
    /// Under which sequence each record was sent, by producer.
    sent_as: HashMap<(i64, u32), i32>,

    // ---- the cluster ----
    leader: usize,
    log: Vec<Logged>,
    /// Every replica has so many batches.
    committed: usize,
    /// Where the last batches of each producer are in the log.
    remembered: HashMap<i64, VecDeque<usize>>,
    zombies: Vec<Zombie>,
    largest: u32,
    invalid: HashSet<u32>,
    is_calm: bool,
}

impl World {
    fn new(plan: Plan, seed: u64, is_told: bool) -> Self {
        let rules = Rules {
            idempotent: plan.idempotent,
            in_flight: if plan.idempotent { plan.in_flight } else { 1 },
            max_retries: plan.max_retries,
            backoff: Backoff {
                min: Duration::from_millis(10),
                max: Duration::from_millis(100),
            },
        };
        Self {
            plan,
            is_told,
            random: seed.wrapping_mul(0xd134_2543_de82_ef95) | 1,
            step: 0,
            now: tests::beginning(),
            queue: Queue::new(rules),
            pushed: 0,
            outcomes: Vec::new(),
            owner: Some(0),
            hands: Default::default(),
            flights: Default::default(),
            held: Vec::new(),
            is_nameless: false,
            producers: 0,
            is_proven: false,
            has_gap: false,
            sent_as: HashMap::new(),
            leader: 0,
            log: Vec::new(),
            committed: 0,
            remembered: HashMap::new(),
            zombies: Vec::new(),
            largest: u32::MAX,
            invalid: HashSet::new(),
            is_calm: false,
        }
    }

    fn next(&mut self) -> u64 {
        self.random = next_random(self.random);
        self.random >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// In `percent` of 100 cases.
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:4} {}", self.step, what());
        }
    }

    // ---- a history ----

    fn live(&mut self) {
        let steps = 20 + self.below(150);
        for _ in 0..steps {
            self.step += 1;
            self.happen();
            self.check();
        }
        let fault_free = self.pushed;
        if self.plan.purges {
            self.queue.fail_all(&Error::closed("producer"));
            self.take_outcomes();
        } else {
            self.calm_down();
        }
        assert_eq!(
            self.outcomes.len(),
            self.pushed as usize,
            "not every record has an outcome"
        );
        self.raise_the_dead();
        self.judge(fault_free);
    }

    fn happen(&mut self) {
        let Plan { cuts, moves, .. } = self.plan;
        let broker = self.below(BROKERS as u64) as usize;
        match self.below(100) {
            0..10 => self.push(self.plan.delivery_timeout),
            10..32 => self.take(),
            32..45 => self.write(),
            45..60 => self.handle(),
            60..75 => self.answer(),
            75..78 => self.identify(),
            78..82 => self.replace(),
            82..88 => self.expire(),
            88..91 => self.pass(0),
            91..93 if self.chance(20) => {
                self.tell(|| "what was not sent is given up".to_owned());
                match self.chance(50) {
                    true => drop(self.queue.fail_unsent(&Error::closed("door"))),
                    false => self.queue.fail_waiting(&Error::closed("door")),
                }
                self.take_outcomes();
            }
            91..93 => self.haunt(),
            93 if self.plan.refuses => self.largest = [1, 2, 4, u32::MAX][self.below(4) as usize],
            94 if self.plan.forgets || self.plan.is_amnesiac => self.restart(),
            95..97 => self.place(),
            97 if self.chance(cuts * 25) => self.cut(broker),
            98 if self.chance(moves * 25) => self.move_leader(broker),
            _ => self.queue.hasten(),
        }
    }

    /// Nothing goes wrong any more: everything comes to its end, and what is pushed now gets through.
    fn calm_down(&mut self) {
        self.tell(|| "calm".to_owned());
        self.is_calm = true;
        self.largest = u32::MAX;
        self.invalid.clear();
        let late = Duration::from_secs(36_000);
        for _ in 0..3 {
            self.push(late);
        }
        for _ in 0..3_000 {
            self.step += 1;
            if self.outcomes.len() == self.pushed as usize && self.queue.is_empty() {
                return;
            }
            self.owner = self.owner.filter(|owner| *owner == self.leader);
            self.place();
            self.take();
            self.write();
            self.handle();
            self.answer();
            self.identify();
            self.replace();
            self.expire();
            self.pass(1);
            self.check();
        }
        panic!("the queue is stuck: {:#?}", self.queue);
    }

    // ---- the producer, as partition and sender do it ----

    fn push(&mut self, time: Duration) {
        let count = 1 + self.below(4) as u32;
        let records = self.pushed..self.pushed + count;
        self.pushed += count;
        if self.plan.refuses && !self.is_calm && self.chance(20) {
            let at = records.start + self.below(count.into()) as u32;
            self.invalid.insert(at);
        }
        self.tell(|| format!("push {records:?}"));
        let load = Load {
            records,
            is_lent: false,
        };
        self.queue.push(load, count, self.now + time);
    }

    fn take(&mut self) {
        let Some(owner) = self.owner.filter(|owner| self.hands[*owner].is_none()) else {
            return;
        };
        if self.queue.waiting().is_some_and(|load| load.is_lent) {
            return;
        }
        match self.queue.next(self.now, false) {
            Next::Ready => {}
            Next::Identity => {
                self.is_nameless = true;
                return;
            }
            Next::At(at) if self.is_calm || self.chance(50) => {
                assert!(at > self.now);
                self.now = at;
                return;
            }
            _ => return,
        }
        let place = self.queue.first_waiting().unwrap();
        let (ticket, sequence, load) = self.queue.take().unwrap();
        load.is_lent = true;
        let records = load.records.clone();
        let is_behind = self
            .queue
            .entries
            .iter()
            .skip(place + 1)
            .any(|entry| entry.attempt().is_some());
        assert!(
            !is_behind,
            "{records:?} was sent while something behind it is in flight"
        );
        if self.plan.idempotent {
            self.remember_sent(sequence, &records);
        }
        let most = if self.is_proven { self.plan.in_flight } else { 1 };
        let most = if self.plan.idempotent { most } else { 1 };
        assert!(self.queue.in_flight() <= most, "{} in flight", self.queue.in_flight());
        self.tell(|| format!("broker {owner}'s sender takes {records:?} as {sequence:?}, {ticket:?}"));
        self.hands[owner] = Some(Request {
            ticket,
            sequence,
            records,
        });
    }

    /// A record keeps its sequence for as long as it goes under the same producer ID, under which nothing new is sent once
    /// one is missing.
    fn remember_sent(&mut self, sequence: Sequence, records: &Records) {
        let mut number = sequence.base_sequence;
        for record in records.clone() {
            let before = self.sent_as.insert((sequence.producer_id, record), number);
            assert!(
                before.is_none_or(|before| before == number),
                "record {record} went as {before:?}, now as {number}"
            );
            assert!(
                before.is_some() || !self.has_gap,
                "record {record} is sent behind a gap"
            );
            number = advance(number, 1);
        }
    }

    /// What senders have in hand is sent, unless it need not be any more.
    fn write(&mut self) {
        for broker in 0..BROKERS {
            let Some(request) = self.hands[broker].take() else {
                continue;
            };
            if !self.is_calm && self.chance(30) {
                self.hands[broker] = Some(request);
                continue;
            }
            if let Some(load) = self.queue.payload(request.ticket) {
                load.is_lent = false;
            }
            if !self.queue.is_current(request.ticket) {
                self.queue.forgo(request.ticket);
                continue;
            }
            if !self.is_calm && self.chance(self.plan.faults / 5) {
                let random = self.next();
                self.tell(|| format!("broker {broker}: {:?} was not sent", request.records));
                self.queue
                    .not_sent(request.ticket, Error::closed("connection"), self.now, random);
                self.take_outcomes();
                continue;
            }
            self.tell(|| format!("broker {broker}: {:?} is sent", request.records));
            self.flights[broker].push_back(Flight {
                request,
                stage: Wire::Sent,
            });
        }
    }

    /// Senders look at their next answer.
    fn answer(&mut self) {
        for broker in 0..BROKERS {
            if !self.is_calm && self.chance(40) {
                continue;
            }
            if self.flights[broker]
                .front()
                .is_none_or(|flight| matches!(flight.stage, Wire::Sent))
            {
                continue;
            }
            let flight = self.flights[broker].pop_front().unwrap();
            let request = flight.request;
            let reply = match flight.stage {
                Wire::Answered(reply) => reply,
                _ => retry(-1, true),
            };
            self.tell(|| format!("broker {broker}: {:?} gets {:?}", request.records, reply.verdict));
            if let Verdict::Appended(_) = reply.verdict {
                let is_own = self
                    .queue
                    .identity
                    .is_some_and(|identity| identity.producer_id == request.sequence.producer_id);
                self.is_proven |= is_own;
            }
            let random = self.next();
            if self.queue.settle(request.ticket, reply.verdict, self.now, random) {
                self.held.push((request, reply.faulty));
            }
            self.take_outcomes();
        }
    }

    /// A batch that is held is taken apart, or cannot be.
    fn replace(&mut self) {
        let Some((request, faulty)) = self.held.pop() else {
            return;
        };
        let Records { start, end } = request.records;
        let kept = |records: Records| Piece::Kept {
            records: records.end - records.start,
            payload: Load {
                records,
                is_lent: false,
            },
        };
        let failed = |records: Records, code: i16| Piece::Failed {
            payload: Load {
                records,
                is_lent: false,
            },
            error: Error::refused(code),
        };
        let mut pieces = Vec::new();
        if self.chance(10) {
            pieces.push(failed(start..end, 10));
        } else if faulty.is_empty() {
            let middle = start + 1 + self.below(u64::from(end - start - 1)) as u32;
            pieces.extend([kept(start..middle), kept(middle..end)]);
        } else {
            let mut from = start;
            for at in faulty {
                if from < at {
                    pieces.push(kept(from..at));
                }
                pieces.push(failed(at..at + 1, 87));
                from = at + 1;
            }
            if from < end {
                pieces.push(kept(from..end));
            }
        }
        self.tell(|| format!("{start}..{end} is taken apart: {pieces:?}"));
        self.queue.replace(request.ticket, pieces);
        self.take_outcomes();
    }

    fn identify(&mut self) {
        if !self.is_nameless {
            return;
        }
        self.is_nameless = false;
        self.producers += 1;
        let identity = Identity {
            producer_id: self.producers,
            epoch: 0,
        };
        self.tell(|| format!("{identity:?}"));
        for entry in &self.queue.entries {
            let is_over = matches!(entry.stage, Stage::Over(_));
            assert!(
                is_over || entry.sequence.is_none(),
                "the old identity is in use: {entry:?}"
            );
        }
        self.queue.identify(identity);
        if self.chance(20) {
            // As after a long life.
            self.queue.next_sequence = i32::MAX - self.below(20) as i32;
        }
        assert_eq!(
            self.queue.identity,
            Some(identity),
            "it was asked for, and is not taken"
        );
        self.is_proven = false;
        self.has_gap = false;
    }

    /// The client learns who leads, or that nobody is known to.
    fn place(&mut self) {
        let owner = (self.is_calm || self.chance(80)).then_some(self.leader);
        if owner == self.owner {
            return;
        }
        if self.queue.in_flight() > 0 {
            if !self.plan.idempotent {
                return;
            }
            self.queue.abandon();
        }
        self.tell(|| format!("the sender is that of {owner:?}"));
        self.queue.hasten();
        self.owner = owner;
    }

    fn expire(&mut self) {
        self.queue.expire(self.now, self.plan.delivery_timeout);
        self.take_outcomes();
        if let Some(deadline) = self.queue.deadline() {
            assert!(deadline > self.now);
        }
    }

    fn pass(&mut self, least: u64) {
        let most = if self.chance(10) { 500 } else { 40 };
        let passed = least + self.below(most);
        self.now += Duration::from_millis(passed);
    }

    fn take_outcomes(&mut self) {
        for Finished { payload, outcome, .. } in self.queue.finished() {
            self.tell(|| format!("{:?}: {outcome:?}", payload.records));
            assert_eq!(
                payload.records.start as usize,
                self.outcomes.len(),
                "told out of order, or twice"
            );
            if let (Err(_), Some(Identity { producer_id, .. })) = (&outcome, self.queue.identity) {
                self.has_gap |= self.sent_as.contains_key(&(producer_id, payload.records.start));
            }
            for behind in 0..payload.records.end - payload.records.start {
                self.outcomes.push(match &outcome {
                    Ok(appended) => Ok(appended.offset.map(|first| first + i64::from(behind))),
                    Err(error) => Err(error.kind()),
                });
            }
        }
    }

    /// What always holds.
    fn check(&self) {
        let entries = &self.queue.entries;
        let flying = entries.iter().filter(|entry| entry.attempt().is_some()).count();
        assert_eq!(flying, self.queue.in_flight());
        if let Some(first) = entries.front() {
            assert!(!matches!(first.stage, Stage::Over(_)), "not told: {first:?}");
        }
    }

    // ---- the network ----

    fn cut(&mut self, broker: usize) {
        self.tell(|| format!("the connection to {broker} is cut"));
        let mut requests = VecDeque::new();
        for flight in &mut self.flights[broker] {
            if let Wire::Sent = flight.stage {
                requests.push_back(flight.request.clone());
            }
            flight.stage = Wire::Dead;
        }
        let until = self.plan.latest.map(|latest| self.step + latest);
        self.zombies.push(Zombie {
            broker,
            requests,
            until,
        });
    }

    /// A broker goes on with the requests of a dead connection, or never does.
    fn haunt(&mut self) {
        let step = self.step;
        self.zombies
            .retain(|zombie| zombie.until.is_none_or(|until| step < until));
        if self.zombies.is_empty() {
            return;
        }
        let at = self.below(self.zombies.len() as u64) as usize;
        if self.chance(5) {
            self.zombies.swap_remove(at);
            return;
        }
        let broker = self.zombies[at].broker;
        match self.zombies[at].requests.pop_front() {
            Some(request) => {
                let reply = self.reply(broker, &request);
                self.tell(|| format!("a late {request:?} comes to {reply:?}"));
            }
            None => {
                self.zombies.swap_remove(at);
            }
        }
    }

    /// Whatever may still come, comes.
    fn raise_the_dead(&mut self) {
        self.is_calm = true;
        self.largest = u32::MAX;
        let waiting = std::mem::take(&mut self.flights).into_iter().flatten();
        let waiting = waiting.filter(|flight| matches!(flight.stage, Wire::Sent));
        let waiting: Vec<Request> = waiting.map(|flight| flight.request).collect();
        let zombies = std::mem::take(&mut self.zombies);
        let zombies = zombies.into_iter().flat_map(|zombie| zombie.requests);
        for request in waiting.into_iter().chain(zombies) {
            self.append(&request).ok();
        }
    }

    // ---- the cluster ----

    /// Brokers handle the next request of each connection.
    fn handle(&mut self) {
        for broker in 0..BROKERS {
            if !self.is_calm && self.chance(40) {
                continue;
            }
            let sent = |flight: &Flight| matches!(flight.stage, Wire::Sent);
            if let Some(at) = self.flights[broker].iter().position(sent) {
                let request = self.flights[broker][at].request.clone();
                let reply = self.reply(broker, &request);
                self.tell(|| format!("broker {broker} has {:?}: {:?}", request.records, reply.verdict));
                self.flights[broker][at].stage = Wire::Answered(reply);
            }
        }
    }

    fn reply(&mut self, broker: usize, request: &Request) -> Reply {
        if broker != self.leader {
            return retry(6, true);
        }
        let count = request.records.end - request.records.start;
        if count > self.largest {
            let error = Error::refused(10);
            return Reply::plain(if count > 1 {
                Verdict::TakeApart(error)
            } else {
                refused(error, false)
            });
        }
        let faulty: Vec<u32> = request
            .records
            .clone()
            .filter(|record| self.invalid.contains(record))
            .collect();
        if !faulty.is_empty() {
            let error = Error::refused(87);
            return if faulty.len() < count as usize {
                Reply {
                    verdict: Verdict::TakeApart(error),
                    faulty,
                }
            } else {
                Reply::plain(refused(error, false))
            };
        }
        let has_fault = !self.is_calm && self.chance(self.plan.faults);
        let fault = self.below(10);
        if has_fault {
            match fault {
                0 => return retry(6, true),
                1 | 2 => return retry(19, false),
                3 if self.chance(20) => return Reply::plain(refused(Error::refused(29), false)),
                4 if self.chance(20) => return Reply::plain(refused(Error::refused(-1), true)),
                _ => {}
            }
        }
        let Ok(at) = self.append(request) else {
            return Reply::plain(Verdict::OutOfSequence(Error::refused(45)));
        };
        if has_fault {
            match fault {
                5 => return retry(7, true),
                6 => return retry(20, true),
                7 => return retry(6, true),
                8 if self.chance(20) => return Reply::plain(refused(Error::refused(-1), true)),
                _ => {}
            }
        }
        self.committed = self.committed.max(at + 1);
        Reply::plain(Verdict::Appended(Appended {
            offset: Some(self.offset(at)),
            timestamp: None,
        }))
    }

    /// Kafka's rules: what is there already is found, what follows is appended, and of a producer that is not known
    /// anything is.
    fn append(&mut self, request: &Request) -> Result<usize, ()> {
        let (sequence, records) = (request.sequence, request.records.clone());
        if sequence != Sequence::NONE {
            let known = self.remembered.entry(sequence.producer_id).or_default();
            let count = records.end - records.start;
            let is_same = |at: &&usize| {
                let logged = &self.log[**at];
                logged.sequence == sequence && logged.records.end - logged.records.start == count
            };
            if let Some(at) = known.iter().find(is_same) {
                return Ok(*at);
            }
            if let Some(last) = known.back().map(|at| &self.log[*at]) {
                let next = advance(last.sequence.base_sequence, last.records.end - last.records.start);
                if next != sequence.base_sequence {
                    return Err(());
                }
            }
            known.push_back(self.log.len());
            if known.len() > REMEMBERED {
                known.pop_front();
            }
        }
        self.log.push(Logged { sequence, records });
        Ok(self.log.len() - 1)
    }

    fn offset(&self, at: usize) -> i64 {
        let before = self.log[..at]
            .iter()
            .map(|logged| logged.records.end - logged.records.start);
        i64::from(before.sum::<u32>())
    }

    fn move_leader(&mut self, leader: usize) {
        self.leader = leader;
        if !self.plan.loses_tails {
            return;
        }
        let most = self.log.len() - self.committed;
        let lost = self.below(most as u64 + 1) as usize;
        self.tell(|| format!("the leader is {leader}, who lacks {lost} batches"));
        self.log.truncate(self.log.len() - lost);
        self.committed = self.log.len();
        self.remember(if self.plan.forgets { 1 } else { REMEMBERED });
    }

    fn restart(&mut self) {
        self.tell(|| "the leader is restarted".to_owned());
        self.remember(if self.plan.is_amnesiac { 0 } else { 1 });
    }

    fn remember(&mut self, most: usize) {
        self.remembered.clear();
        if most == 0 {
            return;
        }
        for (at, logged) in self.log.iter().enumerate() {
            let known = self.remembered.entry(logged.sequence.producer_id).or_default();
            known.push_back(at);
            if known.len() > most {
                known.pop_front();
            }
        }
    }

    // ---- what was promised ----

    fn judge(&self, fault_free: u32) {
        let log: Vec<u32> = self.log.iter().flat_map(|logged| logged.records.clone()).collect();
        let mut places: HashMap<u32, Vec<usize>> = HashMap::new();
        for (place, record) in log.iter().enumerate() {
            places.entry(*record).or_default().push(place);
        }
        let mut last = None;
        for (record, outcome) in self.outcomes.iter().enumerate() {
            let at = places.get(&(record as u32)).map_or(&[][..], Vec::as_slice);
            let is_certain = outcome.as_ref().is_err_and(|kind| *kind != ErrorKind::OutcomeUnknown);
            assert!(
                !is_certain || at.is_empty() || self.plan.is_amnesiac,
                "record {record} is in the log at {at:?}, but {outcome:?}"
            );
            if let Ok(offset) = outcome {
                assert!(
                    !at.is_empty(),
                    "record {record} was acknowledged, and is not in the log"
                );
                if let Some(offset) = offset {
                    assert!(
                        at.iter().any(|at| *at as i64 == *offset),
                        "record {record} is at {at:?}, not {offset}"
                    );
                }
            }
            if self.plan.idempotent && !self.plan.is_amnesiac {
                assert!(at.len() <= 1, "record {record} ({outcome:?}) is in the log at {at:?}");
                if outcome.is_ok() {
                    assert!(
                        last < Some(at[0]),
                        "record {record} is in the log before an earlier one"
                    );
                    last = Some(at[0]);
                }
            }
            let is_late = !self.plan.purges && record >= fault_free as usize;
            assert!(
                !is_late || outcome.is_ok(),
                "record {record} came when nothing went wrong any more: {outcome:?}"
            );
        }
    }
}

impl Reply {
    fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            faulty: Vec::new(),
        }
    }
}

fn retry(code: i16, maybe_applied: bool) -> Reply {
    Reply::plain(Verdict::Retry {
        error: Error::refused(code),
        maybe_applied,
    })
}

fn refused(error: Error, maybe_applied: bool) -> Verdict {
    Verdict::Refused { error, maybe_applied }
}
