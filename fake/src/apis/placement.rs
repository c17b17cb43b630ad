//! Replicas that a client has placed itself.

use std::collections::HashSet;

use kafka_protocol::messages::BrokerId;

use super::{Refused, refused};
use crate::{error_code::INVALID_REPLICA_ASSIGNMENT, state::State};

pub(crate) fn replicas(ids: &[BrokerId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

/// Whether a partition can have these replicas; all partitions of a topic have as many.
pub(crate) fn check_replicas(state: &State, replicas: &[i32], of_others: Option<usize>) -> Result<(), Refused> {
    let refuse = |why: String| Err(refused(INVALID_REPLICA_ASSIGNMENT, why));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = HashSet::new();
    for id in replicas {
        if state.node(*id).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if !seen.insert(id) {
            return refuse(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    match of_others.filter(|others| *others != replicas.len()) {
        None => Ok(()),
        Some(others) => refuse(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {others} replica(s).",
            replicas.len()
        )),
    }
}
