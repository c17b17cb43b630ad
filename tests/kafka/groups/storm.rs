//! Members that come, go, die and freeze in any order: every partition has one owner in the end, and nothing is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::crash::{LONG, judge, wait_until_committed};
use crate::support::{
    Checker, Commits, History, Kafka, MemberProcess, Members, Random, is_long, shared, unique, wait_until,
};

const PARTITIONS: usize = 8;
const SESSION: Duration = Duration::from_secs(3);
/// All has owners again, and lags no more, a session timeout and 2 s after whatever has happened; four times that on a busy
/// machine.
const SETTLED: Duration = Duration::from_secs(20);

fn time() -> Duration {
    Duration::from_secs(if is_long() { 120 } else { 20 })
}

/// The members of one group, and those that were.
struct Crowd {
    kafka: &'static Kafka,
    topic: String,
    group: String,
    members: Members,
    alive: Vec<MemberProcess>,
    /// They were asked to stop.
    leaving: Vec<MemberProcess>,
    gone: Vec<History>,
    started: usize,
}

impl Crowd {
    fn new(name: &str) -> Self {
        let kafka = shared();
        let (topic, group) = (unique(name), unique(name));
        kafka.create_topic(&topic, PARTITIONS, &[]);
        let members = Members::new(kafka, &group, &[&topic])
            .session_timeout(SESSION)
            .heartbeat_interval(Duration::from_millis(300))
            .commit_interval(Some(Duration::from_millis(300)))
            .work(Duration::from_millis(1));
        Self {
            kafka,
            topic,
            group,
            members,
            alive: Vec::new(),
            leaving: Vec::new(),
            gone: Vec::new(),
            started: 0,
        }
    }

    fn start(&mut self, count: usize) {
        for _ in 0..count {
            self.started += 1;
            self.alive.push(self.members.start(&format!("member-{}", self.started)));
        }
    }

    fn kill(&mut self, index: usize) {
        let mut member = self.alive.remove(index);
        member.kill9();
        self.gone.push(member.history());
    }

    /// A clean end, which is not waited for yet.
    fn ask_to_stop(&mut self, index: usize) {
        let mut member = self.alive.remove(index);
        member.ask_to_stop();
        self.leaving.push(member);
    }

    fn wait_for_the_leaving(&mut self) {
        self.gone.extend(self.leaving.iter_mut().map(MemberProcess::stop));
        self.leaving.clear();
    }

    /// How many members know of each partition that it is theirs; a frozen one does not know better.
    fn owners(&mut self, frozen: Option<usize>) -> BTreeMap<i32, Vec<String>> {
        let mut owners: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (index, member) in self.alive.iter_mut().enumerate() {
            if Some(index) == frozen {
                continue;
            }
            let history = member.history();
            for (partition, names) in history.owners() {
                let of_it = owners.entry(partition.partition()).or_default();
                of_it.extend(names.into_iter().map(str::to_owned));
            }
        }
        owners
    }

    /// Waits until every partition has one owner and what was written before is committed.
    fn settle(&mut self, what: &str, frozen: Option<usize>) {
        let begun = Instant::now();
        let written = self.kafka.offsets(&self.topic);
        let mut owned_after = None;
        loop {
            let owners = self.owners(frozen);
            let is_owned = owners.len() == PARTITIONS && owners.values().all(|names| names.len() == 1);
            if is_owned {
                owned_after.get_or_insert(begun.elapsed());
            }
            let committed = self.kafka.committed_offsets(&self.group);
            let lag: i64 = written
                .iter()
                .map(|end| {
                    let committed = committed.get(&(&self.topic, end.partition).into());
                    (end.latest - committed.copied().unwrap_or(0)).max(0)
                })
                .sum();
            if is_owned && lag == 0 {
                break;
            }
            if begun.elapsed() > SETTLED {
                let said: Vec<String> = self.alive.iter_mut().map(MemberProcess::said).collect();
                panic!(
                    "{what}: not settled within {SETTLED:?}: {owners:?}, lag {lag}: {}",
                    said.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        println!(
            "{what}: owned after {:?}, settled after {:?}",
            owned_after.unwrap_or_default(),
            begun.elapsed()
        );
    }

    /// Everybody stops, and all that they did is judged.
    fn judge(mut self, counts: &BTreeMap<i32, usize>, commits: Commits) {
        self.leaving.append(&mut self.alive);
        self.wait_for_the_leaving();
        let checker = Checker::of(self.gone).wrote_all(&self.topic, counts);
        let committed = self.kafka.committed_offsets(&self.group);
        let (again, allowed) = judge(&checker, &committed, &commits.finish());
        let written = counts.values().sum::<usize>();
        let rebalances = checker.history().rebalances.iter().map(|one| one.generation).max();
        println!(
            "{} members, {} generations, {written} records: {again} came again, and {allowed} might have",
            self.started,
            rebalances.unwrap_or(0)
        );
    }
}

#[test]
fn each_partition_has_one_owner_after_members_came_went_died_and_froze() {
    let mut crowd = Crowd::new("settle");
    let commits = Commits::watch(crowd.kafka, &crowd.group);
    let pouring = crowd
        .kafka
        .pour(&crowd.topic, PARTITIONS, 200.0, Duration::from_secs(3600));
    let end = Instant::now() + time();
    crowd.start(1);
    crowd.settle("one", None);
    loop {
        crowd.start(4);
        crowd.settle("five", None);
        for _ in 0..3 {
            crowd.ask_to_stop(0);
        }
        crowd.wait_for_the_leaving();
        crowd.settle("two", None);
        crowd.start(7);
        crowd.settle("nine", None);
        crowd.kill(2);
        crowd.settle("one of nine killed", None);
        crowd.ask_to_stop(4);
        crowd.wait_for_the_leaving();
        crowd.settle("one of eight stopped", None);
        let frozen_at = Instant::now();
        crowd.alive[1].sigstop();
        crowd.settle("one of seven frozen", Some(1));
        std::thread::sleep((SESSION * 2).saturating_sub(frozen_at.elapsed()));
        crowd.alive[1].sigcont();
        crowd.settle("it goes on", None);
        if Instant::now() >= end {
            break;
        }
        while crowd.alive.len() > 1 {
            crowd.ask_to_stop(1);
        }
        crowd.wait_for_the_leaving();
        crowd.settle("one again", None);
    }
    let counts = pouring.stop();
    wait_until_committed(crowd.kafka, &crowd.group, &counts);
    crowd.judge(&counts, commits);
}

#[test]
fn a_storm_of_rebalances_loses_nothing_and_leaves_nothing_behind() {
    let mut crowd = Crowd::new("storm");
    let commits = Commits::watch(crowd.kafka, &crowd.group);
    let pouring = crowd
        .kafka
        .pour(&crowd.topic, PARTITIONS, 200.0, Duration::from_secs(3600));
    crowd.start(1);
    crowd.settle("alone", None);
    let before = crowd.alive[0].weight();

    let mut random = Random(0x570_4321);
    let mut frozen: Vec<(String, Instant)> = Vec::new();
    let end = Instant::now() + time();
    let mut done = [0; 4];
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200 + random.below(300)));
        for member in &mut crowd.alive {
            let is_due = frozen
                .iter()
                .any(|(name, until)| name == member.name() && *until <= Instant::now());
            if is_due {
                member.sigcont();
                frozen.retain(|(name, _)| name != member.name());
            }
        }
        // The first one lives through all of it.
        let others = crowd.alive.len() - 1;
        let action = if others < 2 { 0 } else { random.below(5) };
        let victim = 1 + random.index(others.max(1));
        match action {
            0 | 1 if crowd.alive.len() < 10 => {
                crowd.start(1);
                done[0] += 1;
            }
            2 => {
                let name = crowd.alive[victim].name().to_owned();
                if frozen.iter().any(|(frozen, _)| *frozen == name) {
                    continue; // it could not answer
                }
                crowd.ask_to_stop(victim);
                done[1] += 1;
            }
            3 => {
                crowd.kill(victim);
                done[2] += 1;
            }
            _ if others > 0 => {
                let member = &mut crowd.alive[victim];
                let until = Instant::now() + Duration::from_millis(200 + random.below(5000));
                if member.is_running() && !frozen.iter().any(|(name, _)| name == member.name()) {
                    member.sigstop();
                    frozen.push((member.name().to_owned(), until));
                    done[3] += 1;
                }
            }
            _ => {}
        }
    }
    let [joined, stopped, killed, paused] = done;
    println!("{joined} joined, {stopped} stopped, {killed} killed, {paused} paused");
    let over = Instant::now();
    for member in &mut crowd.alive {
        member.sigcont();
    }
    crowd.settle("after the storm", None);
    println!("caught up {:?} after the storm", over.elapsed());
    while crowd.alive.len() > 1 {
        crowd.ask_to_stop(1);
    }
    crowd.wait_for_the_leaving();
    crowd.settle("alone again", None);
    // A connection that was replaced may take a moment to end; and a second lane comes and goes.
    let mut after = before;
    wait_until("about as many threads and sockets as before", LONG, || {
        after = crowd.alive[0].weight();
        after.0 <= before.0 + 2 && after.1 <= before.1 + 2
    });
    println!("threads and sockets: {before:?} before, {after:?} after");
    let counts = pouring.stop();
    wait_until_committed(crowd.kafka, &crowd.group, &counts);
    crowd.judge(&counts, commits);
}
