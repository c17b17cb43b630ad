//! Who leads after something has happened to a broker or a partition.

use crate::{state::State, topic::Partition};

/// What kill -9 does: the broker is gone, others lead what it led.
pub(crate) fn crash(state: &mut State, node: i32) -> bool {
    let Some(found) = state.nodes.iter_mut().find(|found| found.id == node && found.is_up) else {
        return false;
    };
    found.is_up = false;
    found.life += 1;
    if let Some(sessions) = state.sessions.get_mut(&node) {
        sessions.clear();
    }
    let alive = state.alive();
    for partition in partitions(state).filter(|partition| partition.leader == node) {
        partition.elect(next(partition, &alive));
    }
    true
}

/// The broker is back, with what it had on its disk. It leads what nobody leads.
pub(crate) fn restart(state: &mut State, node: i32) {
    for found in &mut state.nodes {
        found.is_up |= found.id == node;
    }
    for partition in partitions(state).filter(|partition| partition.leader < 0 && partition.replicas.contains(&node)) {
        partition.log.producers.forget_all_but_the_newest();
        partition.elect(node);
    }
}

/// A replica that was not in sync leads: what it did not have is gone.
pub(crate) fn truncate(state: &mut State, topic: &str, index: i32, offset: i64) -> bool {
    let alive = state.alive();
    let Some(partition) = state.partition_mut(topic, index) else {
        return false;
    };
    partition.log.truncate(offset);
    let next = next(partition, &alive);
    partition.elect(if next < 0 { partition.leader } else { next });
    true
}

fn partitions(state: &mut State) -> impl Iterator<Item = &mut Partition> {
    state.topics.values_mut().flat_map(|topic| &mut topic.partitions)
}

/// The next replica that is alive, other than the leader.
fn next(partition: &Partition, alive: &[i32]) -> i32 {
    let others = partition.replicas.iter().copied();
    let mut others = others.filter(|node| *node != partition.leader && alive.contains(node));
    others.next().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeCluster;

    fn state(brokers: usize) -> State {
        let builder = FakeCluster::builder().brokers(brokers);
        let addresses = vec![([127, 0, 0, 1], 0).into(); brokers];
        let mut state = State::new(&builder, &addresses);
        state.create_topic("t", 3, brokers);
        state
    }

    fn leaders(state: &State) -> Vec<(i32, i32)> {
        let partitions = state.topics["t"].partitions.iter();
        partitions
            .map(|partition| (partition.leader, partition.leader_epoch))
            .collect()
    }

    #[test]
    fn another_replica_leads_when_a_broker_crashes() {
        let mut state = state(3);
        assert_eq!(leaders(&state), [(1, 0), (2, 0), (3, 0)]);
        assert!(crash(&mut state, 2));
        assert!(!crash(&mut state, 2));
        assert_eq!(leaders(&state), [(1, 0), (3, 1), (3, 0)]);
        restart(&mut state, 2);
        assert_eq!(leaders(&state), [(1, 0), (3, 1), (3, 0)]);
    }

    #[test]
    fn without_a_replica_nobody_leads() {
        let mut state = state(1);
        crash(&mut state, 1);
        assert_eq!(leaders(&state), [(-1, 1); 3]);
        restart(&mut state, 1);
        assert_eq!(leaders(&state), [(1, 2); 3]);
    }

    #[test]
    fn truncating_makes_another_replica_the_leader() {
        let mut state = state(3);
        assert!(truncate(&mut state, "t", 0, 0));
        assert_eq!(leaders(&state)[0], (2, 1));
    }
}
