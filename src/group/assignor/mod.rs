//! Who gets which partitions: the leader of a classic group decides.

/// How the partitions are dealt out to the members of a group. Kafka's `partition.assignment.strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Assignor {
    /// Each topic by itself: consecutive partitions, in the order of member IDs. Topics with the same number of
    /// partitions are dealt out alike.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
}
