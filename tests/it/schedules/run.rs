//! Lets a schedule happen to a cluster of its own, with a producer and a group at work.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use klamm::{Client, ClientBuilder, Producer};
use klamm_fake::{Action, FakeCluster, Hook};

use super::{
    judge::{self, Seen},
    member::{Done, Member, SESSION},
    schedule::{BROKERS, Fault, Manner, Schedule, Step},
};
use crate::support::{Committed, Load, Look, Outcome, now};

pub(crate) const TOPIC: &str = "numbers";
pub(crate) const GROUP: &str = "readers";

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(120);
const CLOSE: Duration = Duration::from_secs(20);
/// Between two looks at what is committed.
const PACE: Duration = Duration::from_millis(5);

/// All that is wrong.
pub(crate) fn run(schedule: &Schedule) -> Result<(), Vec<String>> {
    let cluster = FakeCluster::builder()
        .brokers(BROKERS as usize)
        .topic(TOPIC, schedule.partitions)
        .session_timeouts(Duration::from_millis(1)..=LONG)
        .start()
        .expect("loopback has free ports");
    let mut play = Play::new(schedule, cluster.clone());
    let client = play.client("producer");
    let outcomes = thread::scope(|scope| {
        let writing = scope.spawn(|| write(schedule, &client));
        play.happen();
        play.calm_down();
        while !writing.is_finished() {
            play.look();
            thread::sleep(PACE);
        }
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let (outcomes, mut complaints) = outcomes;
    if let Err(error) = client.close(CLOSE) {
        complaints.push(format!("the producer's client: {error}"));
    }
    let ends = play.wait_until_all_is_read(&mut complaints);
    let (done, looks) = play.end();
    let seen = Seen {
        schedule,
        cluster: &cluster,
        outcomes,
        ends,
        done,
        looks,
    };
    complaints.extend(judge::complaints(seen));
    cluster.close();
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

/// Times are short, so that a schedule is over soon; brokers that are on this machine answer sooner.
fn client(cluster: &FakeCluster, name: &str) -> ClientBuilder {
    Client::builder()
        .bootstrap(cluster.bootstrap())
        .client_id(name)
        .request_timeout(Duration::from_millis(800))
        .connect_timeout(Duration::from_millis(800))
        .retry_backoff(Duration::from_millis(5), Duration::from_millis(50))
        .reconnect_backoff(Duration::from_millis(5), Duration::from_millis(50))
}

fn write(schedule: &Schedule, client: &Client) -> (Vec<Outcome>, Vec<String>) {
    let producer: Producer = client
        .producer()
        .linger(Duration::from_millis(2))
        .delivery_timeout(schedule.delivery_timeout)
        .in_flight(schedule.in_flight)
        .max_block(LONG)
        .build()
        .expect("these settings are allowed");
    let outcomes = Load::new(&producer, TOPIC, schedule.partitions as usize)
        .pace(5, Duration::from_millis(8))
        .records(schedule.records)
        .delivery_timeout(schedule.delivery_timeout)
        .run();
    let complaint = match producer.close(CLOSE) {
        Ok(report) if report.undelivered.is_empty() => None,
        Ok(report) => Some(format!("the producer closed with {report:?}")),
        Err(error) => Some(format!("the producer could not close: {error}")),
    };
    (outcomes, complaint.into_iter().collect())
}

struct Play<'a> {
    schedule: &'a Schedule,
    cluster: FakeCluster,
    begun: Instant,
    hooks: Vec<Hook>,
    down: Option<i32>,
    members: Vec<Member>,
    leaving: Vec<Member>,
    started: usize,
    looks: Vec<Look>,
}

impl<'a> Play<'a> {
    fn new(schedule: &'a Schedule, cluster: FakeCluster) -> Self {
        let mut play = Self {
            schedule,
            cluster,
            begun: Instant::now(),
            hooks: Vec::new(),
            down: None,
            members: Vec::new(),
            leaving: Vec::new(),
            started: 0,
            looks: Vec::new(),
        };
        for manner in &schedule.members {
            play.start(*manner);
        }
        play
    }

    fn client(&self, name: &str) -> Client {
        let client = client(&self.cluster, name).connect_lazy();
        client.expect("these settings are allowed")
    }

    fn start(&mut self, manner: Manner) {
        self.started += 1;
        let name = format!("member-{}", self.started);
        let client = self.client(&name);
        self.members.push(Member::start(name, client, GROUP, TOPIC, manner));
    }

    fn happen(&mut self) {
        for (at, step) in &self.schedule.steps {
            let at = Duration::from_millis(*at);
            while let Some(left) = at.checked_sub(self.begun.elapsed()) {
                self.look();
                thread::sleep(left.min(PACE));
            }
            self.take(step);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Fault { api, node, uses, fault } => {
                let (node, action) = (*node, action(*fault));
                let hook = self.cluster.times(*uses, *api, move |request| {
                    if node.is_none_or(|node| node == request.node()) {
                        action.clone()
                    } else {
                        Action::Pass
                    }
                });
                self.hooks.push(hook);
            }
            Step::Crash(node) => {
                self.cluster.crash(*node);
                self.down = Some(*node);
            }
            Step::Restart(node) => {
                self.cluster.restart(*node).expect("its port is free");
                self.down = None;
            }
            Step::MoveLeader { node, .. } | Step::MoveCoordinator(node) if self.down == Some(*node) => {}
            Step::MoveLeader { partition, node } => self.cluster.move_leader(TOPIC, *partition, *node),
            Step::MoveCoordinator(node) => self.cluster.move_coordinator(GROUP, *node),
            Step::Throttle(time) => self.cluster.throttle(*time),
            Step::SessionsEnd => self.cluster.advance(SESSION),
            Step::Join(manner) => self.start(*manner),
            Step::Leave => {
                let member = self.members.remove(0);
                member.ask_to_leave();
                self.leaving.push(member);
            }
            Step::Drop => {
                let member = self.members.remove(0);
                member.ask_to_drop();
                self.leaving.push(member);
            }
        }
    }

    /// No more faults, and all brokers are up.
    fn calm_down(&self) {
        for hook in &self.hooks {
            hook.remove();
        }
        self.cluster.throttle(Duration::ZERO);
        for node in 1..=BROKERS {
            self.cluster.restart(node).expect("its port is free");
        }
    }

    /// Sees what is committed.
    fn look(&mut self) {
        let committed = self.committed();
        if self.looks.last().is_none_or(|(_, before)| *before != committed) {
            self.looks.push((now(), committed));
        }
    }

    fn committed(&self) -> Committed {
        let partitions = 0..self.schedule.partitions;
        let committed = partitions.filter_map(|partition| {
            let offset = self.cluster.committed(GROUP, TOPIC, partition)?;
            Some(((TOPIC, partition).into(), offset))
        });
        committed.collect()
    }

    /// Returns where the logs ended then.
    fn wait_until_all_is_read(&mut self, complaints: &mut Vec<String>) -> Vec<i64> {
        let begun = Instant::now();
        loop {
            self.look();
            let partitions = 0..self.schedule.partitions;
            let ends = partitions.map(|partition| self.cluster.end_offset(TOPIC, partition));
            let ends: Vec<i64> = ends.collect();
            let committed = self.committed();
            let lags = (0..).zip(&ends).map(|(partition, end)| {
                let committed = committed.get(&(TOPIC, partition).into());
                end - committed.copied().unwrap_or(0)
            });
            let lags: Vec<i64> = lags.collect();
            if lags.iter().all(|lag| *lag <= 0) {
                return ends;
            }
            if begun.elapsed() > LONG {
                complaints.push(format!("the group still lags {LONG:?} after the last fault: {lags:?}"));
                complaints.push(format!("meanwhile it asks {}", self.asked()));
                return ends;
            }
            thread::sleep(PACE);
        }
    }

    /// What brokers are asked in a second.
    fn asked(&self) -> String {
        self.cluster.forget_requests();
        thread::sleep(Duration::from_secs(1));
        let mut asked: BTreeMap<String, usize> = BTreeMap::new();
        for request in self.cluster.requests() {
            let (from, api, node) = (request.client_id(), request.api(), request.node());
            *asked
                .entry(format!("{from}: {api:?} of {node} about {:?}", request.topics()))
                .or_default() += 1;
        }
        let health: Vec<String> = self.members.iter().map(Member::health).collect();
        format!("{asked:#?}, and is {health:#?}")
    }

    fn end(mut self) -> (Vec<Done>, Vec<Look>) {
        let members = std::mem::take(&mut self.members);
        let leaving = std::mem::take(&mut self.leaving);
        members.iter().for_each(Member::ask_to_leave);
        let done = leaving.into_iter().chain(members).map(Member::end).collect();
        self.look();
        (done, self.looks)
    }
}

fn action(fault: Fault) -> Action {
    match fault {
        Fault::Error(code) => Action::Error(code),
        Fault::Delay(time) => Action::Delay(time),
        Fault::Disconnect => Action::Disconnect,
        Fault::ThenDisconnect => Action::ThenDisconnect,
        Fault::Truncate => Action::Truncate,
        Fault::CorruptRecords => Action::CorruptRecords,
        Fault::Silence => Action::Silence,
        // A frame of twelve bytes, to whatever was asked.
        Fault::Garbage(noise) => {
            let bytes = [&12_u32.to_be_bytes()[..], &noise.to_be_bytes(), &[0xff; 4]].concat();
            Action::Garbage(Bytes::from(bytes))
        }
    }
}
