//! Kafka's `roundrobin`: all partitions of all topics in turn.

use super::{Counts, Deal, Subscriber};

/// As Java's `RoundRobinAssignor`; subscribers come in order.
pub(super) fn assign(subscribers: &[&Subscriber], counts: &Counts, deal: &mut Deal) {
    let mut turns = subscribers.iter().cycle();
    for (topic, &count) in counts {
        // Otherwise the search for a taker would not end.
        if !subscribers.iter().any(|one| one.topics.contains(topic)) {
            continue;
        }
        for partition in 0..count {
            if let Some(taker) = turns.find(|one| one.topics.contains(topic)) {
                deal.give(taker, topic, [partition]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::group::assignor::{
        Assignor,
        tests::{counts, subscriber, told},
    };

    #[test]
    fn the_turn_goes_on_from_topic_to_topic() {
        let group = [subscriber("a", &["t", "u"]), subscriber("b", &["t", "u"])];
        let dealt = told(Assignor::RoundRobin, &group, &counts(&[("t", 3), ("u", 3)]));
        assert_eq!(dealt, ["a: t[0, 2] u[1]", "b: t[1] u[0, 2]"]);
    }

    #[test]
    fn who_has_not_subscribed_is_passed_over() {
        // The example in Java's documentation of RoundRobinAssignor.
        let group = [
            subscriber("a", &["t0"]),
            subscriber("b", &["t0", "t1"]),
            subscriber("c", &["t0", "t1", "t2"]),
        ];
        let dealt = told(
            Assignor::RoundRobin,
            &group,
            &counts(&[("t0", 1), ("t1", 2), ("t2", 3)]),
        );
        assert_eq!(dealt, ["a: t0[0]", "b: t1[0]", "c: t1[1] t2[0, 1, 2]"]);
    }
}
