//! Kafka's `range`: each topic by itself, in consecutive pieces.

use super::{Counts, Deal, Subscriber};

/// As Java's `RangeAssignor` without racks; subscribers come in order.
pub(super) fn assign(subscribers: &[&Subscriber], counts: &Counts, deal: &mut Deal) {
    for (topic, &count) in counts {
        let takers: Vec<_> = subscribers.iter().filter(|one| one.topics.contains(topic)).collect();
        let Ok(number) = i32::try_from(takers.len()) else {
            continue;
        };
        let mut next = 0;
        for (taker, place) in takers.iter().zip(0..) {
            // What does not divide goes to the first ones.
            let length = count / number + i32::from(place < count % number);
            if length > 0 {
                deal.give(taker, topic, next..next + length);
                next += length;
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
    fn five_partitions_for_two_are_three_and_two() {
        let group = [subscriber("a", &["t"]), subscriber("b", &["t"])];
        let dealt = told(Assignor::Range, &group, &counts(&[("t", 5)]));
        assert_eq!(dealt, ["a: t[0, 1, 2]", "b: t[3, 4]"]);
    }

    #[test]
    fn of_six_members_one_gets_none_of_five_partitions() {
        let group: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|id| subscriber(id, &["t"])).into();
        let dealt = told(Assignor::Range, &group, &counts(&[("t", 5)]));
        assert_eq!(dealt, ["a: t[0]", "b: t[1]", "c: t[2]", "d: t[3]", "e: t[4]", "f:"]);
    }

    #[test]
    fn topics_of_one_size_are_dealt_out_alike() {
        let group = [
            subscriber("a", &["t", "u"]),
            subscriber("b", &["t", "u"]),
            subscriber("c", &["u"]),
        ];
        let dealt = told(Assignor::Range, &group, &counts(&[("t", 3), ("u", 3)]));
        assert_eq!(dealt, ["a: t[0, 1] u[0]", "b: t[2] u[1]", "c: u[2]"]);
    }
}
