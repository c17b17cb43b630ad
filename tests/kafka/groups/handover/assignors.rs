//! Who gets what: members with different topics, and both ways to deal out.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::{Assignor, TopicPartition};

use super::{LONG, Member, finished, settings, takes, topic};
use crate::support::{Checker, shared, unique, wait_until};

const QUICK: Duration = Duration::from_millis(5);

/// How many partitions of each topic.
fn by_topic(owned: &[TopicPartition]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for one in owned {
        *counts.entry(one.topic()).or_default() += 1;
    }
    counts
}

#[test]
fn members_with_different_topics_get_partitions_of_their_own_topics_only() {
    let (x, y, z, group) = (topic(3, 30), topic(4, 30), topic(2, 30), unique("topics"));
    let join = |name: &str, topics: &[&str]| {
        let settings = settings(shared(), name, &group, topics);
        Member::join(name, settings, 1, takes(QUICK))
    };
    let a = join("a", &[&x, &y]);
    a.wait_until_owns(7);
    let b = join("b", &[&y, &z]);
    b.wait_until_owns(4);
    a.wait_until_owns(5);
    assert_eq!(by_topic(&a.owned()), BTreeMap::from([(x.as_str(), 3), (y.as_str(), 2)]));
    assert_eq!(by_topic(&b.owned()), BTreeMap::from([(y.as_str(), 2), (z.as_str(), 2)]));
    // A topic that only one member has named is dealt out also when another one leads.
    let c = join("c", &[&z]);
    c.wait_until_owns(1);
    wait_until("b has one of each", LONG, || {
        by_topic(&b.owned()) == BTreeMap::from([(y.as_str(), 2), (z.as_str(), 1)])
    });
    a.wait_until_owns(5);
    wait_until("all is finished", LONG, || finished(&[&a, &b, &c]) >= 9 * 30);
    // The leader goes: the one who leads next knows of its topics by the others.
    let a = a.leave();
    wait_until("y is b's", LONG, || {
        by_topic(&b.owned()).get(y.as_str()) == Some(&4) && (b.owned().len(), c.owned().len()) == (5, 1)
    });
    let (b, c) = (b.leave(), c.leave());
    let all = |count: i32| (0..count).map(|partition| (partition, 30)).collect::<BTreeMap<_, _>>();
    let checker = Checker::of([a, b, c]);
    let checker = checker
        .wrote_all(&x, &all(3))
        .wrote_all(&y, &all(4))
        .wrote_all(&z, &all(2));
    let committed = shared().committed_offsets(&group);
    checker.all(&committed, 0).unwrap();
    checker.commit_completeness(&committed).unwrap();
}

fn shares(assignors: [&[Assignor]; 2]) -> Vec<BTreeMap<usize, usize>> {
    let (x, y, group) = (topic(3, 0), topic(3, 0), unique("assignors"));
    let join = |name: &str, assignors: &[Assignor]| {
        let settings = settings(shared(), name, &group, &[&x, &y]).assignors(assignors.iter().copied());
        Member::join(name, settings, 1, takes(QUICK))
    };
    let a = join("a", assignors[0]);
    a.wait_until_owns(6);
    let b = join("b", assignors[1]);
    wait_until("both have some", LONG, || {
        let counts = [a.owned().len(), b.owned().len()];
        counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == 6
    });
    let mut shares: Vec<BTreeMap<usize, usize>> = [&a, &b]
        .map(|member| {
            let owned = member.owned();
            let of = |topic: &str| by_topic(&owned).get(topic).copied().unwrap_or(0);
            BTreeMap::from([(0, of(&x)), (1, of(&y))])
        })
        .into();
    shares.sort();
    a.leave();
    b.leave();
    shares
}

#[test]
fn range_deals_out_topic_by_topic() {
    let both = [Assignor::Range, Assignor::RoundRobin];
    let uneven = vec![BTreeMap::from([(0, 1), (1, 1)]), BTreeMap::from([(0, 2), (1, 2)])];
    assert_eq!(shares([&both, &both]), uneven);
}

#[test]
fn round_robin_deals_out_all_topics_together() {
    let only = [Assignor::RoundRobin];
    let even = vec![BTreeMap::from([(0, 1), (1, 2)]), BTreeMap::from([(0, 2), (1, 1)])];
    assert_eq!(shares([&only, &only]), even);
}

#[test]
fn a_group_uses_what_all_of_its_members_have() {
    let even = vec![BTreeMap::from([(0, 1), (1, 2)]), BTreeMap::from([(0, 2), (1, 1)])];
    let both = [Assignor::Range, Assignor::RoundRobin];
    assert_eq!(shares([&both, &[Assignor::RoundRobin]]), even);
}

#[test]
fn a_member_that_shares_no_assignor_with_its_group_is_told() {
    let (topic, group) = (topic(2, 10), unique("strangers"));
    let with = |name, assignor| settings(shared(), name, &group, &[&topic]).assignors([assignor]);
    let a = Member::join("a", with("a", Assignor::Range), 1, takes(QUICK));
    a.wait_until_owns(2);
    let stranger = with("b", Assignor::RoundRobin).join().unwrap();
    let error = stranger.iter().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("assignor"), "{error}");
    assert!(stranger.iter().next().is_none(), "nothing helps");
    stranger.close(LONG).unwrap();
    // The group did not notice.
    wait_until("all is finished", LONG, || finished(&[&a]) == 20);
    assert_eq!(a.leave().rebalances.len(), 1);
}
