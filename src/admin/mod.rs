//! Upkeep of a cluster: topics, partitions, records, offsets.

mod records;
mod topics;

use std::{fmt, time::Duration};

pub use topics::NewTopic;

use crate::{
    cluster::{self, Action, Broker, Cluster, Failed, action},
    deadline::Deadline,
    error::{Error, Result},
    metadata::ClusterMetadata,
};

/// Changes to a cluster, one call each. Made by [`Client::admin`](crate::Client::admin).
///
/// A call may concern several items, and each has its own result: see [`Results`].
///
/// ```no_run
/// # use klamm::{Client, NewTopic};
/// # fn main() -> klamm::Result<()> {
/// let admin = Client::connect("localhost:9092")?.admin();
/// admin
///     .create_topics([NewTopic::new("orders", 12, 3).config("retention.ms", "86400000")])?
///     .all()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    cluster: Cluster,
    timeout: Duration,
}

impl Admin {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let timeout = cluster.config().request_timeout;
        Self { cluster, timeout }
    }

    /// How long each call may take as a whole. Default: the client's `request_timeout`. Kafka's
    /// `default.api.timeout.ms`.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The brokers of the cluster; the topics are left out.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// for broker in client.admin().describe_cluster()?.brokers {
    ///     println!("{} at {}:{}", broker.id, broker.host, broker.port);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no broker answers within the time.
    pub fn describe_cluster(&self) -> Result<ClusterMetadata> {
        let metadata = self
            .cluster
            .fetch_metadata(cluster::Topics::Named(&[]), &self.deadline())?;
        Ok(ClusterMetadata::of(&metadata, |_| false))
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout, "timeout")
    }

    /// Calls `attempt` with the controller until it succeeds, fails for good, or time is up. What was sent and not
    /// answered is not sent again: the change may have been made.
    fn with_controller<T>(
        &self,
        deadline: &Deadline,
        mut attempt: impl FnMut(&Broker) -> Result<T, Failed>,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            let tried = match self.controller(deadline) {
                Ok(controller) => attempt(&controller),
                Err(error) => Err(Failed { error, was_sent: false }),
            };
            let Failed { error, was_sent } = match tried {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let unanswered = was_sent && error.code().is_none();
            if unanswered || action(&error) == Action::Fail {
                return Err(error);
            }
            failures += 1;
            self.cluster
                .before_retry(failures, &error, "the controller", deadline)?;
            // Its failure shows in the next attempt.
            if let Err(failed) = self.cluster.refresh(cluster::Topics::Named(&[]), deadline) {
                log::debug!("looking for the controller: {failed}");
            }
        }
    }

    fn controller(&self, deadline: &Deadline) -> Result<Broker> {
        let known = |metadata: &cluster::Metadata| {
            let controller = metadata.controller?;
            metadata.brokers.get(&controller).cloned()
        };
        if let Some(controller) = known(&self.cluster.metadata()) {
            return Ok(controller);
        }
        let metadata = self.cluster.fetch_metadata(cluster::Topics::Named(&[]), deadline)?;
        // 15: there is none now, and there will be.
        known(&metadata).ok_or_else(|| Error::refused(15).explained("the cluster has no controller"))
    }
}

/// What became of each item of a call, in the order in which they were given.
///
/// The call itself may succeed though an item has failed: [`all`](Self::all) makes one of both.
#[derive(Debug, Clone)]
#[must_use = "an item may have failed: call `all` or look at each"]
pub struct Results<I, T = ()> {
    items: Vec<(I, Result<T>)>,
}

impl<I: fmt::Debug, T> Results<I, T> {
    pub(crate) fn new(items: Vec<(I, Result<T>)>) -> Self {
        Self { items }
    }

    /// The values of all items, if all have succeeded.
    ///
    /// # Errors
    ///
    /// That of the first item that has failed. Others may have succeeded nevertheless.
    pub fn all(self) -> Result<Vec<(I, T)>> {
        let items = self.items.into_iter();
        items.map(|(item, result)| Ok((item, result?))).collect()
    }

    /// Each item and its result.
    pub fn iter(&self) -> impl Iterator<Item = (&I, &Result<T>)> {
        self.items.iter().map(|(item, result)| (item, result))
    }
}

impl<I, T> IntoIterator for Results<I, T> {
    type Item = (I, Result<T>);
    type IntoIter = std::vec::IntoIter<(I, Result<T>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}
