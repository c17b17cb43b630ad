//! Topics: who leads their partitions, and what is in them.

use uuid::Uuid;

use crate::{
    error_code::{FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH},
    log::PartitionLog,
};

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Partition>,
    /// What was set when it was created; everything else is Kafka's default.
    pub(crate) configs: Vec<(String, String)>,
}

/// All replicas are always in sync: they share one log.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) replicas: Vec<i32>,
    /// -1 while no replica is alive.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) log: PartitionLog,
}

impl Partition {
    /// A new one, led by the first replica that is alive.
    pub(crate) fn new(replicas: Vec<i32>, alive: impl Fn(i32) -> bool) -> Self {
        let leader = replicas.iter().copied().find(|node| alive(*node)).unwrap_or(-1);
        let mut log = PartitionLog::default();
        log.begin_epoch(0);
        Self {
            replicas,
            leader,
            leader_epoch: 0,
            log,
        }
    }

    /// What a broker says to a client that believes in another epoch; -1 stands for a client that does not say.
    pub(crate) fn check_epoch(&self, believed: i32) -> Result<(), i16> {
        if believed < 0 || believed == self.leader_epoch {
            return Ok(());
        }
        Err(if believed < self.leader_epoch {
            FENCED_LEADER_EPOCH
        } else {
            UNKNOWN_LEADER_EPOCH
        })
    }

    /// Makes a broker (or nobody: -1) the leader. Every election has an epoch of its own.
    pub(crate) fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader >= 0 {
            self.log.begin_epoch(self.leader_epoch);
        }
    }
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// The value of a setting, if it was set on the topic.
    pub(crate) fn config(&self, name: &str) -> Option<&str> {
        let found = self.configs.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// The same as a number.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.config(name)?.parse().ok()
    }
}

/// As `Topic.validate` of Kafka: what may be a topic's name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_make_a_folder() {
        for name in ["orders", "a", "__x", "a.b-c_D9", &"x".repeat(249)] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(!is_valid_name(name), "{name}");
        }
    }

    #[test]
    fn every_election_has_an_epoch_of_its_own() {
        let mut partition = Partition::new(vec![1, 2], |node| node == 2);
        assert_eq!((partition.leader, partition.leader_epoch), (2, 0));
        partition.elect(-1);
        partition.elect(1);
        assert_eq!((partition.leader, partition.leader_epoch), (1, 2));
    }
}
