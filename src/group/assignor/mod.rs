//! Who gets which partitions: the leader of a classic group decides.

mod range;
mod round_robin;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::wire::membership::Assignment;

/// How the partitions are dealt out to the members of a group, with the same outcome as Java's assignors of that name:
/// [`GroupBuilder::assignors`](crate::GroupBuilder::assignors). Kafka's `partition.assignment.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assignor {
    /// Each topic by itself: consecutive partitions, in the order of member IDs. Topics with the same number of
    /// partitions are dealt out alike, so that what belongs together by its key comes to one member. With more members
    /// than a topic has partitions, the last members get nothing of any topic.
    Range,
    /// All partitions of all topics in turn: even, when there are many topics of few partitions.
    RoundRobin,
}

impl Assignor {
    /// What members agree on; Java's names, so that they can share a group.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// Deals out all partitions of all topics that somebody subscribes to. Everybody is in the result, also with nothing.
    pub(crate) fn assign(self, subscribers: &[Subscriber], counts: &Counts) -> BTreeMap<String, Assignment> {
        let mut subscribers: Vec<_> = subscribers.iter().collect();
        subscribers.sort_by_key(|subscriber| subscriber.rank());
        let mut deal = Deal::among(&subscribers);
        match self {
            Self::Range => range::assign(&subscribers, counts, &mut deal),
            Self::RoundRobin => round_robin::assign(&subscribers, counts, &mut deal),
        }
        deal.0
    }
}

/// How many partitions each topic has; one that is not there does not exist.
pub(crate) type Counts = BTreeMap<Arc<str>, i32>;

/// One member, and what it wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub id: String,
    pub instance_id: Option<String>,
    pub topics: BTreeSet<Arc<str>>,
}

impl Subscriber {
    /// Java's order: static members first, by the name that outlives their ID, so that a restart changes nothing.
    fn rank(&self) -> (bool, Option<&str>, &str) {
        (self.instance_id.is_none(), self.instance_id.as_deref(), &self.id)
    }
}

/// What everybody has got so far.
struct Deal(BTreeMap<String, Assignment>);

impl Deal {
    fn among(subscribers: &[&Subscriber]) -> Self {
        let nothing = |subscriber: &&Subscriber| (subscriber.id.clone(), Assignment::new());
        Self(subscribers.iter().map(nothing).collect())
    }

    fn give(&mut self, subscriber: &Subscriber, topic: &Arc<str>, partitions: impl IntoIterator<Item = i32>) {
        if let Some(assignment) = self.0.get_mut(&subscriber.id) {
            let of_topic = assignment.entry(Arc::clone(topic)).or_default();
            of_topic.extend(partitions);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn subscriber(id: &str, topics: &[&str]) -> Subscriber {
        Subscriber {
            id: id.to_owned(),
            instance_id: None,
            topics: topics.iter().map(|&topic| Arc::from(topic)).collect(),
        }
    }

    pub(super) fn counts(topics: &[(&str, i32)]) -> Counts {
        topics.iter().map(|&(topic, count)| (Arc::from(topic), count)).collect()
    }

    /// As `member: topic partitions`, for comparing at a glance.
    pub(super) fn told(assignor: Assignor, subscribers: &[Subscriber], counts: &Counts) -> Vec<String> {
        let as_text = |(id, assignment): (String, Assignment)| {
            let topics = assignment
                .iter()
                .map(|(topic, partitions)| format!(" {topic}{partitions:?}"));
            format!("{id}:{}", topics.collect::<String>())
        };
        assignor.assign(subscribers, counts).into_iter().map(as_text).collect()
    }

    const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

    fn groups() -> impl Strategy<Value = Vec<Subscriber>> {
        let topics = prop::collection::btree_set(prop::sample::select(&TOPICS[..]).prop_map(Arc::from), 0..=4);
        let member = (prop::option::weighted(0.3, "[a-e]{3}"), topics);
        prop::collection::btree_map("[a-z]{4}", member, 1..8).prop_map(|members| {
            let mut names = BTreeSet::new();
            let subscriber = |(id, (instance_id, topics)): (String, (Option<String>, _))| Subscriber {
                id,
                instance_id: instance_id.filter(|name| names.insert(name.clone())),
                topics,
            };
            members.into_iter().map(subscriber).collect()
        })
    }

    fn sizes() -> impl Strategy<Value = Counts> {
        let topics = prop::sample::select(&TOPICS[..]).prop_map(Arc::from);
        prop::collection::btree_map(topics, 0..12_i32, 0..=4)
    }

    proptest! {
        #[test]
        fn each_partition_has_one_owner_who_asked_for_it(
            assignor in prop::sample::select(&[Assignor::Range, Assignor::RoundRobin][..]),
            group in groups(),
            counts in sizes(),
        ) {
            let deal = assignor.assign(&group, &counts);
            prop_assert_eq!(deal.len(), group.len());
            let mut owned = BTreeSet::new();
            for member in &group {
                for (topic, partitions) in &deal[&member.id] {
                    prop_assert!(member.topics.contains(topic));
                    for partition in partitions {
                        prop_assert!(owned.insert((Arc::clone(topic), *partition)), "two owners");
                    }
                }
            }
            let wanted = |topic: &Arc<str>| group.iter().any(|member| member.topics.contains(topic));
            let all: BTreeSet<_> = counts.iter()
                .filter(|(topic, _)| wanted(topic))
                .flat_map(|(topic, &count)| (0..count).map(move |partition| (Arc::clone(topic), partition)))
                .collect();
            prop_assert_eq!(owned, all);
        }

        #[test]
        fn the_order_of_members_does_not_matter(
            assignor in prop::sample::select(&[Assignor::Range, Assignor::RoundRobin][..]),
            (group, shuffled) in groups().prop_flat_map(|group| (Just(group.clone()), Just(group).prop_shuffle())),
            counts in sizes(),
        ) {
            prop_assert_eq!(assignor.assign(&group, &counts), assignor.assign(&shuffled, &counts));
        }

        #[test]
        fn members_who_want_the_same_get_about_as_much(group in 1..9_usize, counts in sizes()) {
            let group: Vec<_> = (0..group).map(|id| subscriber(&format!("m{id}"), &TOPICS)).collect();
            let spread = |counts: &mut dyn Iterator<Item = usize>| {
                let counts: Vec<_> = counts.collect();
                counts.iter().max().unwrap() - counts.iter().min().unwrap()
            };
            let in_turn = Assignor::RoundRobin.assign(&group, &counts);
            let all = &mut in_turn.values().map(|assignment| assignment.values().map(Vec::len).sum());
            prop_assert!(spread(all) <= 1);
            let ranges = Assignor::Range.assign(&group, &counts);
            for topic in counts.keys() {
                let of_topic = &mut ranges.values().map(|assignment| assignment.get(topic).map_or(0, Vec::len));
                prop_assert!(spread(of_topic) <= 1);
            }
        }
    }

    #[test]
    fn static_members_come_first_by_the_name_that_stays() {
        let named = |id: &str, name: &str| Subscriber {
            instance_id: Some(name.to_owned()),
            ..subscriber(id, &["t"])
        };
        let group = [subscriber("a", &["t"]), named("z", "first"), named("b", "second")];
        let dealt = told(Assignor::Range, &group, &counts(&[("t", 3)]));
        assert_eq!(dealt, ["a: t[2]", "b: t[1]", "z: t[0]"]);
        let restarted = [subscriber("a", &["t"]), named("c", "first"), named("b", "second")];
        let dealt = told(Assignor::Range, &restarted, &counts(&[("t", 3)]));
        assert_eq!(dealt, ["a: t[2]", "b: t[1]", "c: t[0]"]);
    }

    #[test]
    fn a_topic_that_does_not_exist_is_nobody_s() {
        let group = [subscriber("a", &["t", "gone"]), subscriber("b", &["gone"])];
        for assignor in [Assignor::Range, Assignor::RoundRobin] {
            assert_eq!(told(assignor, &group, &counts(&[("t", 1)])), ["a: t[0]", "b:"]);
        }
    }
}
