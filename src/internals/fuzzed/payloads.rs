//! What members of a group tell each other.

use crate::wire::membership::{decode_assignment, decode_subscription, encode_assignment, encode_subscription};

pub(super) fn run(bytes: &[u8]) {
    if let Ok(topics) = decode_subscription(bytes) {
        let total: usize = topics.iter().map(|topic| topic.len() + 2).sum();
        assert!(total <= bytes.len(), "no more than was there");
        let topics: Vec<_> = topics.into_iter().collect();
        let again = decode_subscription(&encode_subscription(&topics)).expect("it was just written");
        assert!(again.iter().eq(&topics));
    }
    if let Ok(mut assignment) = decode_assignment(bytes) {
        let sizes = assignment
            .iter()
            .map(|(topic, partitions)| topic.len() + 6 + 4 * partitions.len());
        assert!(sizes.sum::<usize>() <= bytes.len(), "no more than was there");
        for partitions in assignment.values() {
            assert!(partitions.windows(2).all(|two| two[0] < two[1]), "each once, in order");
        }
        // A topic without partitions is not written.
        assignment.retain(|_, partitions| !partitions.is_empty());
        let again = decode_assignment(&encode_assignment(&assignment)).expect("it was just written");
        assert_eq!(again, assignment);
    }
}
