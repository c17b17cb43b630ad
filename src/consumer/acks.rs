//! Acks of one partition, in any order, to the offset that may be committed.

/// When a message counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AckMode {
    /// When an iterator is asked for the next message and the program has let go of the last one (dropped it, as the loop
    /// does). A message that is kept, or was moved to another thread, is done when its own
    /// [`ack`](crate::Message::ack) says so.
    #[default]
    OnNext,
    /// When [`ack`](crate::Message::ack) says so, and not before.
    Explicit,
}

/// Which offset is committed when messages are acked out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CommitOrder {
    /// The lowest offset below which everything is done: nothing is lost.
    #[default]
    LowestContiguous,
    /// Behind the highest message that was acked, whatever lies below it; a lower ack changes nothing.
    Monotonic,
    /// Behind the message that was acked last, also when that is lower than before.
    LastWins,
}
