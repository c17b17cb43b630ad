//! Which partition a record goes to.

/// Which partition a record goes to, unless it says so itself. Kafka: `partitioner.class`.
// A stub that the real one replaces.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// By the key, as Java's producer does.
    #[default]
    Murmur2,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
}
