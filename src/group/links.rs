//! A member's two connections to its coordinator, made on a thread of their own: whoever heartbeats must not wait.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, bounded};

use super::member::Link;
use crate::{
    cluster::{Cluster, CoordinatorKey},
    deadline::Deadline,
    error::Result,
    net::{Connection, NetConfig},
    stop::Stop,
    thread::Worker,
};

/// Both connections, to the broker that coordinates.
#[derive(Debug)]
pub(crate) struct Links {
    group: Connection,
    join: Connection,
    /// Its ID, for health and log.
    pub broker: i32,
}

impl Links {
    pub(crate) fn get(&self, link: Link) -> &Connection {
        match link {
            Link::Group => &self.group,
            Link::Join => &self.join,
        }
    }

    /// Whether it has ended while nobody used it.
    pub(crate) fn was_idle(&self, link: Link) -> bool {
        self.get(link).ended().is_some_and(|ended| ended.was_idle)
    }
}

/// A search that is under way. Dropping it lets it go.
#[derive(Debug)]
pub(crate) struct Search {
    found: Receiver<Result<Links>>,
    stop: Stop,
    worker: Worker,
}

impl Search {
    /// Looks for the coordinator, and connects to it. `patience` is how long its answers may take, beyond what each
    /// request may take by itself.
    pub(crate) fn start(cluster: &Cluster, group: &Arc<str>, patience: Duration) -> Result<Self> {
        let stop = Stop::new("group");
        let (done, found) = bounded(1); // the one outcome
        let net = NetConfig {
            request_timeout: patience,
            ..cluster.net_config().clone()
        };
        // One for the search, and one for each of two connections, to which credentials may be slow to come.
        let limit = cluster.config().connect_timeout.saturating_mul(3);
        let deadline = Deadline::after(limit, "three times connect_timeout")
            .with_stop(&stop)
            .with_stop(cluster.closing());
        let (cluster, group) = (cluster.clone(), Arc::clone(group));
        let worker = Worker::start("klamm-find", move || {
            // Nobody may want it any more.
            done.try_send(find(&cluster, &group, &net, &deadline)).ok();
        })?;
        Ok(Self { found, stop, worker })
    }

    /// Ready when the search is over.
    pub(crate) fn signal(&self) -> &Receiver<Result<Links>> {
        &self.found
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stop.stop();
        // It waits for nothing any more.
        if let Err(error) = self.worker.join(&Deadline::after(AT_ONCE, "a stopped search")) {
            log::warn!("{error}");
        }
    }
}

const AT_ONCE: Duration = Duration::from_secs(1);

fn find(cluster: &Cluster, group: &str, net: &NetConfig, deadline: &Deadline) -> Result<Links> {
    let broker = cluster.find_coordinator(CoordinatorKey::Group(group), deadline)?;
    let address = broker.address();
    Ok(Links {
        group: Connection::open(&address, net, deadline)?,
        join: Connection::open(&address, net, deadline)?,
        broker: broker.id,
    })
}
