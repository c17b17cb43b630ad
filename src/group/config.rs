//! Every setting of membership: meaning, default, and what is refused.

use std::time::{Duration, Instant};

use super::assignor::Assignor;
use crate::{
    consumer::{AckMode, CommitOrder},
    error::{Error, Result},
};

/// Which protocol a group speaks with its coordinator: [`GroupBuilder::group_protocol`](crate::GroupBuilder::group_protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The best that klamm and the settings allow; for now that is always the classic one.
    #[default]
    Auto,
    /// JoinGroup and SyncGroup, which every Kafka has; a rebalance takes everything from everybody, and deals it out anew.
    /// Kafka: `group.protocol=classic`.
    Classic,
}

/// The settings of a group member.
#[derive(Debug, Clone)]
pub(crate) struct GroupConfig {
    pub await_topics: bool,
    pub ack_mode: AckMode,
    pub commit_order: CommitOrder,
    pub commit_interval: Option<Duration>,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub rebalance_timeout: Duration,
    /// None: four fifths of the rebalance timeout.
    pub revoke_timeout: Option<Duration>,
    pub protocol: GroupProtocol,
    pub instance_id: Option<String>,
    pub assignors: Vec<Assignor>,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            await_topics: false,
            ack_mode: AckMode::default(),
            commit_order: CommitOrder::default(),
            commit_interval: Some(Duration::from_secs(5)),
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(60),
            revoke_timeout: None,
            protocol: GroupProtocol::default(),
            instance_id: None,
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
        }
    }
}

/// JoinGroup sends times as 32-bit milliseconds.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

impl GroupConfig {
    pub(crate) fn revoke_timeout(&self) -> Duration {
        self.revoke_timeout.unwrap_or(self.rebalance_timeout * 4 / 5)
    }

    /// Until when the program may finish what it has in hand, and until when that may be committed, if the group goes on
    /// without this member at `end`: there must be time to join again.
    pub(crate) fn hand_over_by(&self, now: Instant, end: Instant) -> (Instant, Instant) {
        let committed = end - self.rebalance_timeout / 10;
        let finished = (now + self.revoke_timeout()).min(committed - self.rebalance_timeout / 20);
        (finished, committed)
    }

    /// # Errors
    ///
    /// Config, naming the setting.
    pub(crate) fn check(&self) -> Result<()> {
        let times = [
            ("session_timeout", self.session_timeout),
            ("heartbeat_interval", self.heartbeat_interval),
            ("rebalance_timeout", self.rebalance_timeout),
            ("commit_interval", self.commit_interval.unwrap_or(LONGEST)),
        ];
        for (name, time) in times {
            if time < Duration::from_millis(1) || time > LONGEST {
                return Err(Error::config(format!(
                    "{name} must be from 1 ms to {LONGEST:?}, not {time:?}"
                )));
            }
        }
        if self.heartbeat_interval * 2 > self.session_timeout {
            return Err(Error::config(format!(
                "heartbeat_interval ({:?}) must be at most half of session_timeout ({:?}), or one late heartbeat costs the \
                 membership",
                self.heartbeat_interval, self.session_timeout
            )));
        }
        if self.heartbeat_interval * 2 > self.rebalance_timeout {
            return Err(Error::config(format!(
                "heartbeat_interval ({:?}) must be at most half of rebalance_timeout ({:?}), or each rebalance is missed",
                self.heartbeat_interval, self.rebalance_timeout
            )));
        }
        if self.revoke_timeout() >= self.rebalance_timeout {
            return Err(Error::config(format!(
                "revoke_timeout ({:?}) must be shorter than rebalance_timeout ({:?}): after that the group goes on without \
                 this member",
                self.revoke_timeout(),
                self.rebalance_timeout
            )));
        }
        if self.assignors.is_empty() {
            return Err(Error::config("assignors must name at least one"));
        }
        if self.instance_id.as_ref().is_some_and(String::is_empty) {
            return Err(Error::config(
                "instance_id must not be empty: leave it out for a dynamic member",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let config = GroupConfig::default();
        config.check().unwrap();
        assert_eq!(config.revoke_timeout(), Duration::from_secs(48));
        assert_eq!(
            (config.session_timeout, config.heartbeat_interval),
            (Duration::from_secs(45), Duration::from_secs(3))
        );
        assert_eq!(config.commit_interval, Some(Duration::from_secs(5)));
        assert_eq!(
            (config.ack_mode, config.commit_order),
            (AckMode::OnNext, CommitOrder::LowestContiguous)
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn a_hand_over_leaves_time_to_join_again_however_late_it_begins() {
        let config = GroupConfig::default();
        let seconds = Duration::from_secs;
        let began = Instant::now();
        let by = |after: u64| {
            let (finished, committed) = config.hand_over_by(began + seconds(after), began + seconds(60));
            (finished - began, committed - began)
        };
        assert_eq!(by(0), (seconds(48), seconds(54)));
        assert_eq!(by(3), (seconds(51), seconds(54)));
        assert_eq!(by(20), (seconds(51), seconds(54)));
        let eager = GroupConfig {
            revoke_timeout: Some(seconds(59)),
            ..config.clone()
        };
        let (finished, committed) = eager.hand_over_by(began, began + seconds(60));
        assert_eq!((finished - began, committed - began), (seconds(51), seconds(54)));
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut GroupConfig), name: &str| {
            let mut config = GroupConfig::default();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        };
        refused(|config| config.session_timeout = Duration::ZERO, "session_timeout");
        refused(
            |config| config.heartbeat_interval = Duration::from_secs(30),
            "heartbeat_interval",
        );
        refused(
            |config| config.revoke_timeout = Some(Duration::from_secs(60)),
            "revoke_timeout",
        );
        refused(
            |config| config.commit_interval = Some(Duration::ZERO),
            "commit_interval",
        );
        refused(|config| config.rebalance_timeout = Duration::MAX, "rebalance_timeout");
        refused(|config| config.assignors.clear(), "assignors");
        refused(|config| config.instance_id = Some(String::new()), "instance_id");
    }
}
