//! Random runs of a group that does everything right pass, and any single wrong that is done to one of them is caught.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm::TopicPartition;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{Checker, Committed, Ending, Fault, Handled, History, Line, What};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The owner handles so many messages.
    Handle(i64),
    Commit,
    /// The owner commits and gives the partition up; somebody else gets it.
    Move,
    /// The owner is killed with a message in hand.
    Kill,
    /// The owner is taken for dead, and goes on with the message that it has in hand.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_i64).prop_map(Step::Handle),
        2 => Just(Step::Commit),
        2 => Just(Step::Move),
        1 => Just(Step::Kill),
        1 => Just(Step::Lose),
    ]
}

/// One partition and the members that have had it.
struct Partition {
    name: TopicPartition,
    now: u64,
    logs: BTreeMap<String, Vec<Line>>,
    died: BTreeMap<String, Duration>,
    owner: usize,
    assignments: BTreeMap<usize, u32>,
    members: usize,
    /// Killed or lost: they do not come back.
    gone: BTreeSet<usize>,
    position: i64,
    committed: i64,
    /// How many records it must have, to have given what was begun.
    written: i64,
    calls: u64,
}

impl Partition {
    fn run(number: i32, steps: &[Step]) -> Self {
        let mut partition = Self {
            name: (super::TOPIC, number).into(),
            now: 0,
            logs: BTreeMap::new(),
            died: BTreeMap::new(),
            owner: 0,
            assignments: BTreeMap::new(),
            members: 0,
            gone: BTreeSet::new(),
            position: 0,
            committed: 0,
            written: 0,
            calls: 0,
        };
        partition.assign(0);
        for step in steps {
            partition.step(*step);
        }
        // To the end: what was begun is done.
        partition.step(Step::Handle(partition.written - partition.position));
        partition.step(Step::Commit);
        partition
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Handle(count) => {
                for _ in 0..count {
                    let call = self.begin();
                    self.end(self.owner, call);
                    self.position += 1;
                }
            }
            Step::Commit => self.committed = self.position,
            Step::Move => {
                self.committed = self.position;
                let partition = self.name.clone();
                self.write(self.owner, What::Revoked { partition });
                let mut others = (0..=self.members).filter(|member| *member != self.owner);
                let next = others.find(|member| !self.gone.contains(member));
                self.assign(next.expect("at least one that has never been here"));
            }
            Step::Kill => {
                self.begin();
                self.now += 1;
                let name = self.member(self.owner);
                self.died.insert(name, Duration::from_nanos(self.now));
                self.renew();
            }
            Step::Lose => {
                let old = self.owner;
                let call = self.begin();
                self.renew();
                // Both are at work on the same message.
                let new_call = self.begin();
                self.end(old, call);
                self.end(self.owner, new_call);
                self.position += 1;
                let partition = self.name.clone();
                let why = "silent".into();
                self.write(old, What::Lost { partition, why });
            }
        }
    }

    /// A member that has never been here gets the partition, and begins where the last commit was.
    fn renew(&mut self) {
        self.gone.insert(self.owner);
        self.position = self.committed;
        self.assign(self.members);
    }

    fn assign(&mut self, member: usize) {
        self.owner = member;
        self.members = self.members.max(member + 1);
        *self.assignments.entry(member).or_default() += 1;
        let partition = self.name.clone();
        let position = self.position;
        self.write(member, What::Assigned { partition, position });
    }

    fn begin(&mut self) -> u64 {
        self.calls += 1;
        self.written = self.written.max(self.position + 1);
        let what = What::Begin {
            call: self.calls,
            partition: self.name.clone(),
            offset: self.position,
            number: self.position,
            assignment: self.assignments[&self.owner],
            stale: false,
        };
        self.write(self.owner, what);
        self.calls
    }

    fn end(&mut self, member: usize, call: u64) {
        self.write(member, What::End { call });
    }

    fn member(&self, member: usize) -> String {
        format!("{}-{member}", self.name.partition())
    }

    fn write(&mut self, member: usize, what: What) {
        self.now += 10;
        let at = Duration::from_nanos(self.now);
        let name = self.member(member);
        self.logs.entry(name).or_default().push(Line { at, what });
    }
}

/// Of a run, what was committed in it, and how many duplicates it had before.
type Check = fn(&Checker, &Committed, usize) -> Result<(), Fault>;

/// Everything that a check needs to know.
#[derive(Debug, Clone)]
struct Run {
    history: History,
    written: BTreeMap<i32, usize>,
    committed: Committed,
}

impl Run {
    fn of(partitions: &[Vec<Step>]) -> Self {
        let mut run = Self {
            history: History::default(),
            written: BTreeMap::new(),
            committed: Committed::new(),
        };
        for (number, steps) in (0..).zip(partitions) {
            let partition = Partition::run(number, steps);
            run.written.insert(number, partition.written as usize);
            run.committed.insert(partition.name, partition.committed);
            for (member, lines) in partition.logs {
                // Through the log's text, as from another process.
                let lines = lines.iter().map(|line| Line::parse(&line.to_string())).collect();
                run.history.add(History::of_lines(&member, lines));
            }
            for (member, at) in partition.died {
                run.history.died(&member, at);
            }
        }
        run
    }

    fn checker(&self) -> Checker {
        Checker::of([self.history.clone()]).wrote_all(super::TOPIC, &self.written)
    }

    fn any(&self, index: Index) -> usize {
        index.index(self.history.handled.len())
    }

    /// Does one wrong, and says how the check that must catch it is asked. None where this run has no place for it.
    fn spoil(&mut self, wrong: Wrong, place: Index) -> Option<Check> {
        let chosen = self.history.handled[self.any(place)].clone();
        let same = |handled: &Handled| (&handled.partition, handled.number) == (&chosen.partition, chosen.number);
        match wrong {
            Wrong::Lose => {
                self.history.handled.retain(|handled| !same(handled));
                Some(|checker, _, _| checker.loss())
            }
            Wrong::NeverEnd => {
                let all = self.history.handled.iter_mut();
                all.filter(|handled| same(handled))
                    .for_each(|handled| handled.end = None);
                Some(|checker, _, _| checker.loss())
            }
            Wrong::Repeat => {
                let end = Duration::from_secs(1);
                self.history.handled.push(Handled {
                    member: "late".into(),
                    begin: end,
                    end: Some(end),
                    ..chosen
                });
                Some(|checker, _, before| checker.duplicates_at_most(before))
            }
            Wrong::Swap => {
                let key = |handled: &Handled| (handled.member.clone(), handled.partition.clone(), handled.assignment);
                let mut neighbours = self
                    .history
                    .handled
                    .iter_mut()
                    .filter(|handled| key(handled) == key(&chosen));
                let (one, other) = (neighbours.next()?, neighbours.next()?);
                std::mem::swap(&mut one.offset, &mut other.offset);
                std::mem::swap(&mut one.number, &mut other.number);
                Some(|checker, _, _| checker.order())
            }
            Wrong::Steal => {
                let orderly = self.history.owned.iter().all(|owned| {
                    (&owned.member, &owned.partition) != (&chosen.member, &chosen.partition)
                        || owned.ending != Some(Ending::Lost)
                });
                let end = chosen.end.filter(|_| orderly)?;
                self.history.handled.push(Handled {
                    member: "thief".into(),
                    begin: chosen.begin + (end - chosen.begin) / 2,
                    end: Some(end + Duration::from_nanos(1)),
                    ..chosen
                });
                Some(|checker, _, _| checker.single_owner())
            }
            Wrong::Linger => {
                // It goes on while the next owner is at work, though nothing was lost.
                let orderly = |member: &str| {
                    let mut owned = self.history.owned.iter();
                    owned.all(|owned| owned.member != member || owned.ending == Some(Ending::Revoked))
                };
                let after = |handled: &&Handled| {
                    handled.partition == chosen.partition
                        && handled.member != chosen.member
                        && handled.begin > chosen.begin
                };
                let next = self.history.handled.iter().find(after)?.begin;
                if !orderly(&chosen.member) {
                    return None;
                }
                let mine = self.history.handled.iter_mut().find(|handled| **handled == chosen)?;
                mine.end = Some(next + Duration::from_nanos(1));
                Some(|checker, _, _| checker.single_owner())
            }
            Wrong::CommitTooMuch => {
                let all = self.history.handled.iter_mut();
                all.filter(|handled| same(handled))
                    .for_each(|handled| handled.end = None);
                self.committed.insert(chosen.partition.clone(), chosen.offset + 1);
                Some(|checker, committed, _| checker.commit_safety(committed))
            }
            Wrong::CommitBehindEnd => {
                let end = self.written[&chosen.partition.partition()] as i64;
                self.committed.insert(chosen.partition.clone(), end + 1);
                Some(|checker, committed, _| checker.commit_safety(committed))
            }
            Wrong::Mistake => {
                let index = self.any(place);
                self.history.handled[index].number += 1;
                Some(|checker, _, _| checker.only_what_was_written())
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Wrong {
    Lose,
    NeverEnd,
    Repeat,
    Swap,
    Steal,
    Linger,
    CommitTooMuch,
    CommitBehindEnd,
    Mistake,
}

fn wrong() -> impl Strategy<Value = Wrong> {
    prop::sample::select(vec![
        Wrong::Lose,
        Wrong::NeverEnd,
        Wrong::Repeat,
        Wrong::Swap,
        Wrong::Steal,
        Wrong::Linger,
        Wrong::CommitTooMuch,
        Wrong::CommitBehindEnd,
        Wrong::Mistake,
    ])
}

fn run() -> impl Strategy<Value = Run> {
    let steps = vec(step(), 1..20).prop_map(|mut steps| {
        steps.push(Step::Handle(1));
        steps
    });
    vec(steps, 1..4).prop_map(|partitions| Run::of(&partitions))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(500), ..ProptestConfig::default() })]

    #[test]
    fn a_run_in_which_all_is_right_passes(run in run()) {
        let checker = run.checker();
        let duplicates = checker.duplicates_by_partition().values().sum();
        prop_assert_eq!(checker.all(&run.committed, duplicates), Ok(()));
        prop_assert_eq!(checker.one_at_a_time(), Ok(()));
        prop_assert_eq!(checker.gapless(), Ok(()));
        prop_assert_eq!(checker.commit_completeness(&run.committed), Ok(()));
    }

    #[test]
    fn a_single_wrong_is_caught(mut run in run(), wrong in wrong(), place: Index) {
        let before = run.checker().duplicates_by_partition().values().sum();
        if let Some(check) = run.spoil(wrong, place) {
            let checker = run.checker();
            prop_assert!(check(&checker, &run.committed, before).is_err(), "{:?} is not caught", wrong);
            prop_assert!(checker.all(&run.committed, before).is_err());
        }
    }
}
