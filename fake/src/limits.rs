//! What a cluster is configured with, in the names of Kafka's own properties.

/// Defaults are Kafka 4.3's.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// `socket.request.max.bytes`
    pub(crate) request_bytes: usize,
    /// `message.max.bytes`
    pub(crate) message_bytes: usize,
    /// `fetch.max.bytes`
    pub(crate) fetch_bytes: i32,
    /// `max.incremental.fetch.session.cache.slots`
    pub(crate) fetch_sessions: usize,
    /// `auto.create.topics.enable`; here off by default, since a test that misspells a topic wants to know
    pub(crate) auto_create: bool,
    /// `num.partitions`
    pub(crate) partitions: i32,
    /// `replica.selector.class`: the one that knows racks
    pub(crate) rack_aware: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 100 << 20,
            message_bytes: 1_048_588,
            fetch_bytes: 55 << 20,
            fetch_sessions: 1000,
            auto_create: false,
            partitions: 1,
            rack_aware: false,
        }
    }
}
