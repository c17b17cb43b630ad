//! How the broker deals out partitions: KIP-848's `uniform` and `range`.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// By topic ID and number.
pub(super) type Partitions = BTreeSet<(Uuid, i32)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assignor {
    /// Evenly over all topics; whoever has something keeps it, as far as that is even.
    Uniform,
    /// Topic by topic, neighbouring partitions together, so that members have the same numbers of each topic.
    Range,
}

/// What is dealt out, and to whom.
pub(super) struct Dealing<'a> {
    pub members: Vec<Member>,
    pub topics: &'a BTreeMap<String, (Uuid, i32)>,
    /// Who was to have what so far.
    pub before: &'a BTreeMap<String, Partitions>,
}

pub(super) struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub topics: BTreeSet<String>,
}

impl Assignor {
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range]
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Every partition of a topic that somebody reads goes to one of those who read it.
    pub(super) fn deal(self, dealing: &Dealing<'_>) -> BTreeMap<String, Partitions> {
        match self {
            Self::Uniform => uniform(dealing),
            Self::Range => range(dealing),
        }
    }
}

fn uniform(dealing: &Dealing<'_>) -> BTreeMap<String, Partitions> {
    let readable: BTreeMap<&str, BTreeSet<Uuid>> = dealing
        .members
        .iter()
        .map(|member| (member.id.as_str(), dealing.readable_by(member)))
        .collect();
    let mut free: Partitions = dealing.all();
    let mut hands: BTreeMap<&str, Partitions> = BTreeMap::new();
    for (member, topics) in &readable {
        let had = dealing.before.get(*member).into_iter().flatten();
        let kept: Partitions = had
            .filter(|had| topics.contains(&had.0) && free.contains(had))
            .copied()
            .collect();
        free.retain(|partition| !kept.contains(partition));
        hands.insert(member, kept);
    }
    for partition in free {
        let readers = hands
            .iter_mut()
            .filter(|(member, _)| readable[*member].contains(&partition.0));
        if let Some((_, poorest)) = readers.min_by_key(|(_, hand)| hand.len()) {
            poorest.insert(partition);
        }
    }
    while let Some((rich, poor, partition)) = uneven(&hands, &readable) {
        hands.entry(rich).or_default().remove(&partition);
        hands.entry(poor).or_default().insert(partition);
    }
    hands
        .into_iter()
        .map(|(member, hand)| (member.to_owned(), hand))
        .collect()
}

/// A partition that makes things more even if it changes hands: from whom, to whom. Each such step makes the sum of
/// squares smaller, so there is a last one.
fn uneven<'a>(
    hands: &BTreeMap<&'a str, Partitions>,
    readable: &BTreeMap<&str, BTreeSet<Uuid>>,
) -> Option<(&'a str, &'a str, (Uuid, i32))> {
    let mut by_size: Vec<(&'a str, &Partitions)> = hands.iter().map(|(member, hand)| (*member, hand)).collect();
    by_size.sort_by_key(|(_, hand)| hand.len());
    by_size.iter().rev().find_map(|(rich, from)| {
        let poorer = by_size.iter().take_while(|(_, to)| to.len() + 2 <= from.len());
        poorer.into_iter().find_map(|(poor, _)| {
            let movable = from
                .iter()
                .rev()
                .find(|partition| readable[poor].contains(&partition.0));
            movable.map(|partition| (*rich, *poor, *partition))
        })
    })
}

fn range(dealing: &Dealing<'_>) -> BTreeMap<String, Partitions> {
    let mut order: Vec<&Member> = dealing.members.iter().collect();
    // Static members first, by the names that stay; then the others.
    order.sort_by_key(|member| {
        (
            member.instance_id.is_none(),
            member.instance_id.clone(),
            member.id.clone(),
        )
    });
    let mut hands: BTreeMap<String, Partitions> = dealing
        .members
        .iter()
        .map(|member| (member.id.clone(), Partitions::new()))
        .collect();
    for (name, (id, count)) in dealing.topics {
        let readers: Vec<&&Member> = order.iter().filter(|member| member.topics.contains(name)).collect();
        let Ok(members) = i32::try_from(readers.len()) else {
            continue;
        };
        let mut next = 0;
        for (reader, at) in readers.iter().zip(0..) {
            let share = count / members + i32::from(at < count % members);
            let hand = hands.entry(reader.id.clone()).or_default();
            hand.extend((next..next + share).map(|partition| (*id, partition)));
            next += share;
        }
    }
    hands
}

impl Dealing<'_> {
    fn all(&self) -> Partitions {
        let topics = self.topics.values();
        topics
            .flat_map(|(id, count)| (0..*count).map(|partition| (*id, partition)))
            .collect()
    }

    fn readable_by(&self, member: &Member) -> BTreeSet<Uuid> {
        member
            .topics
            .iter()
            .filter_map(|name| self.topics.get(name))
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn member(id: &str, topics: &[&str]) -> Member {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        Member {
            id: id.to_owned(),
            instance_id: None,
            topics,
        }
    }

    fn topics(a: i32, b: i32) -> BTreeMap<String, (Uuid, i32)> {
        BTreeMap::from([("a".to_owned(), (A, a)), ("b".to_owned(), (B, b))])
    }

    fn deal(assignor: Assignor, members: Vec<Member>, before: &BTreeMap<String, Partitions>) -> Vec<Vec<(Uuid, i32)>> {
        let topics = topics(4, 3);
        let dealt = assignor.deal(&Dealing {
            members,
            topics: &topics,
            before,
        });
        dealt.into_values().map(|hand| hand.into_iter().collect()).collect()
    }

    #[test]
    fn uniform_is_even_over_all_topics() {
        let members = vec![member("1", &["a", "b"]), member("2", &["a", "b"])];
        let sizes: Vec<usize> = deal(Assignor::Uniform, members, &BTreeMap::new())
            .iter()
            .map(Vec::len)
            .collect();
        assert_eq!(sizes, [4, 3]);
    }

    #[test]
    fn uniform_lets_everybody_keep_what_is_even() {
        let all: Partitions = [(A, 0), (A, 1), (A, 2), (A, 3), (B, 0), (B, 1), (B, 2)].into();
        let before = BTreeMap::from([("1".to_owned(), all.clone())]);
        let dealt = deal(
            Assignor::Uniform,
            vec![member("1", &["a", "b"]), member("2", &["a", "b"])],
            &before,
        );
        assert_eq!(dealt[0].len(), 4);
        assert!(dealt[0].iter().all(|partition| all.contains(partition)));
        let before = BTreeMap::from([
            ("1".to_owned(), [(A, 3)].into()),
            ("2".to_owned(), [(A, 0), (A, 1)].into()),
        ]);
        let dealt = deal(
            Assignor::Uniform,
            vec![member("1", &["a"]), member("2", &["a"])],
            &before,
        );
        assert_eq!(dealt, [vec![(A, 2), (A, 3)], vec![(A, 0), (A, 1)]]);
    }

    #[test]
    fn nobody_is_dealt_what_it_does_not_read() {
        let members = [
            member("1", &["a"]),
            member("2", &["a", "b"]),
            member("3", &["b", "gone"]),
        ];
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let members = members.iter().map(|m| Member {
                instance_id: None,
                id: m.id.clone(),
                topics: m.topics.clone(),
            });
            let dealt = deal(assignor, members.collect(), &BTreeMap::new());
            assert!(dealt[0].iter().all(|(topic, _)| *topic == A), "{dealt:?}");
            assert!(dealt[2].iter().all(|(topic, _)| *topic == B), "{dealt:?}");
            assert_eq!(dealt.iter().map(Vec::len).sum::<usize>(), 7);
        }
    }

    #[test]
    fn range_deals_out_neighbours_of_each_topic() {
        let dealt = deal(
            Assignor::Range,
            vec![member("1", &["a", "b"]), member("2", &["a", "b"])],
            &BTreeMap::new(),
        );
        assert_eq!(
            dealt,
            [vec![(A, 0), (A, 1), (B, 0), (B, 1)], vec![(A, 2), (A, 3), (B, 2)]]
        );
    }
}
