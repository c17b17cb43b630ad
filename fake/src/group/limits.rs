//! What groups are configured with, in the names of Kafka's own properties.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Builder;

/// Defaults are Kafka 4.3's, but for the waits that a test would only be held up by.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// `group.initial.rebalance.delay.ms`: 3 s in Kafka
    pub(crate) initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`
    pub(crate) min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`
    pub(crate) max_session_timeout: Duration,
    /// `group.max.size` and `group.consumer.max.size`
    pub(crate) group_max_size: usize,
    /// `group.consumer.session.timeout.ms`
    pub(crate) consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`
    pub(crate) consumer_heartbeat_interval: Duration,
    /// `offset.metadata.max.bytes`
    pub(crate) offset_metadata_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::ZERO,
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            group_max_size: i32::MAX as usize,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            offset_metadata_bytes: 4096,
        }
    }
}

impl Limits {
    pub(super) fn session_timeouts(&self) -> RangeInclusive<Duration> {
        self.min_session_timeout..=self.max_session_timeout
    }
}

/// Groups.
impl Builder {
    /// How long an empty classic group waits for more than its first member (`group.initial.rebalance.delay.ms`). Kafka
    /// waits for 3 s; here it is nothing by default, so that tests are not held up.
    pub fn initial_rebalance_delay(mut self, delay: Duration) -> Self {
        self.groups.initial_rebalance_delay = delay;
        self
    }

    /// Which session timeouts members of classic groups may ask for (`group.min.session.timeout.ms` and
    /// `group.max.session.timeout.ms`); 6 s to 30 min by default.
    pub fn session_timeouts(mut self, allowed: RangeInclusive<Duration>) -> Self {
        (self.groups.min_session_timeout, self.groups.max_session_timeout) = allowed.into_inner();
        self
    }

    /// How many members a group may have (`group.max.size`, `group.consumer.max.size`); no limit by default.
    pub fn group_max_size(mut self, members: usize) -> Self {
        self.groups.group_max_size = members;
        self
    }

    /// How long a member of a KIP-848 group may be silent (`group.consumer.session.timeout.ms`); 45 s by default.
    pub fn consumer_session_timeout(mut self, timeout: Duration) -> Self {
        self.groups.consumer_session_timeout = timeout;
        self
    }

    /// How often members of KIP-848 groups are told to send heartbeats (`group.consumer.heartbeat.interval.ms`); 5 s by
    /// default. A shorter one makes rebalances of such groups quicker.
    pub fn consumer_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.groups.consumer_heartbeat_interval = interval;
        self
    }
}
