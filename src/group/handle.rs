//! What a stream holds of its group.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::{
    committer::{Outcome, Waiter},
    offsets,
};
use crate::{
    cluster::{Action, CoordinatorKey, Purpose, action},
    consumer::{
        buffer::Shared,
        event::Problem,
        stream::{Farewell, GroupHealth, Membership},
    },
    deadline::{Deadline, Waited},
    error::{Error, ErrorKind, Result},
    net::Ask,
    offset::TopicPartition,
    thread::Worker,
};

/// What the program asks of the coordinator.
#[derive(Debug)]
pub(crate) enum Command {
    Commit(Waiter),
    /// Commit what is acked, leave the group, and end; by this time at the latest.
    Leave(Instant),
}

/// How the coordinator is doing, for those who ask. The lock is a leaf.
#[derive(Debug, Default)]
pub(crate) struct Status {
    now: Mutex<Now>,
    /// The program wants a commit, and does not wait for it.
    commit_wish: AtomicBool,
}

#[derive(Debug, Default)]
struct Now {
    trouble: Option<(Error, Instant)>,
    commit_trouble: Option<(Error, Instant)>,
    /// What was committed for some partitions cannot be found out.
    opening_trouble: Option<(Error, Instant)>,
    /// Why everything was lost, until the group gives something again.
    loss: Option<(Error, Instant)>,
    /// Ended the membership.
    failure: Option<Error>,
    is_rebalancing: bool,
    has_ended: bool,
    farewell: Option<Farewell>,
}

impl Status {
    pub(crate) fn trouble(&self, error: Option<Error>, now: Instant) {
        Self::set(&mut self.now.lock().trouble, error, now);
    }

    /// True when that is news.
    pub(crate) fn commit_failed(&self, error: Option<Error>, now: Instant) -> bool {
        Self::set(&mut self.now.lock().commit_trouble, error, now)
    }

    pub(crate) fn lost(&self, error: Option<Error>, now: Instant) {
        Self::set(&mut self.now.lock().loss, error, now);
    }

    /// True when that is news.
    pub(crate) fn opening_failed(&self, error: Option<Error>, now: Instant) -> bool {
        Self::set(&mut self.now.lock().opening_trouble, error, now)
    }

    /// Nothing helps any more. The stream tells health of it.
    pub(crate) fn failed(&self, error: &Error) {
        let mut status = self.now.lock();
        (status.trouble, status.commit_trouble, status.opening_trouble) = (None, None, None);
        status.loss = None;
        status.failure = Some(error.clone());
    }

    /// True when that is news.
    fn set(trouble: &mut Option<(Error, Instant)>, error: Option<Error>, now: Instant) -> bool {
        let said = trouble.as_ref().map(|(said, _)| said.to_string());
        let is_new = said != error.as_ref().map(ToString::to_string);
        let since = trouble.as_ref().map_or(now, |(_, since)| *since);
        *trouble = error.map(|error| (error, since));
        is_new
    }

    pub(crate) fn rebalancing(&self, is_rebalancing: bool) {
        self.now.lock().is_rebalancing = is_rebalancing;
    }

    pub(crate) fn farewell(&self, farewell: Farewell) {
        self.now.lock().farewell = Some(farewell);
    }

    pub(crate) fn end(&self) {
        self.now.lock().has_ended = true;
    }

    pub(crate) fn takes_commit_wish(&self) -> bool {
        self.commit_wish.swap(false, Ordering::AcqRel)
    }
}

/// So many callers may wait for a commit to begin.
const COMMANDS: usize = 64;

pub(crate) struct Handle {
    group: Arc<str>,
    shared: Arc<Shared>,
    status: Arc<Status>,
    commands: Sender<Command>,
    coordinator: Mutex<Option<Worker>>,
}

impl Handle {
    pub(crate) fn channel() -> (Sender<Command>, Receiver<Command>) {
        bounded(COMMANDS)
    }

    pub(crate) fn new(
        group: Arc<str>,
        shared: Arc<Shared>,
        status: Arc<Status>,
        commands: Sender<Command>,
        coordinator: Worker,
    ) -> Self {
        Self {
            group,
            shared,
            status,
            commands,
            coordinator: Mutex::new(Some(coordinator)),
        }
    }

    fn command(&self, command: Command, deadline: &Deadline) -> Result<()> {
        let waited_for = format!("the coordinator thread of group {}", self.group);
        self.commands
            .send_deadline(command, deadline.at())
            .map_err(|error| match error.is_disconnected() {
                true => Error::closed("group"),
                false => deadline.error(&waited_for),
            })
    }
}

impl Membership for Handle {
    fn commit(&self, deadline: &Deadline) -> Result<Outcome> {
        if let Some(failure) = &self.status.now.lock().failure {
            return Err(failure.clone());
        }
        let (waiter, outcome) = bounded(1); // the one outcome
        let waiter = Waiter {
            tell: waiter,
            until: deadline.at(),
        };
        self.command(Command::Commit(waiter), deadline)?;
        match deadline.wait(&outcome) {
            Waited::Got(outcome) => Ok(outcome),
            Waited::Gone => Err(Error::closed("group")),
            Waited::Stopped => Err(deadline
                .stopped()
                .map_or_else(|| Error::closed("group"), |stop| stop.error())),
            Waited::TimedOut => {
                let error = deadline.error(&format!("the coordinator of group {} to take a commit", self.group));
                let status = self.status.now.lock();
                let trouble = status.trouble.as_ref().or(status.commit_trouble.as_ref());
                Err(trouble.map_or(error.clone(), |(trouble, _)| error.after_last(trouble)))
            }
        }
    }

    fn commit_soon(&self) {
        self.status.commit_wish.store(true, Ordering::Release);
        self.shared.nudge();
    }

    fn committed(&self, partitions: &[TopicPartition], deadline: &Deadline) -> Result<HashMap<TopicPartition, i64>> {
        let cluster = &self.shared.cluster;
        let waited_for = format!("the committed offsets of group {}", self.group);
        let fetch = |version: i16| offsets::fetch(&self.group, partitions, version);
        let mut failures = 0;
        loop {
            let tried = cluster
                .find_coordinator(CoordinatorKey::Group(&self.group), deadline)
                .and_then(|broker| {
                    cluster
                        .call_broker_once(&broker, Purpose::Control, Ask::at_version(&fetch), deadline)
                        .map_err(Error::from)
                })
                .and_then(|answer| {
                    let refused = |code| Error::refused(code).in_api("OffsetFetch");
                    let mut found = HashMap::new();
                    for (partition, result) in offsets::fetched(&answer, partitions).map_err(refused)? {
                        let committed = result
                            .map_err(|code| refused(code).for_partition(partition.topic(), partition.partition()))?;
                        if let Some(committed) = committed {
                            found.insert(partition, committed.offset);
                        }
                    }
                    Ok(found)
                });
            let error = match tried {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if action(&error) == Action::Fail || deadline.check("").is_err() {
                return Err(error);
            }
            failures += 1;
            cluster.before_retry(failures, &error, &waited_for, deadline)?;
        }
    }

    #[allow(clippy::disallowed_methods, reason = "ages are a matter of now")]
    fn health(&self) -> GroupHealth {
        let status = self.status.now.lock();
        let now = Instant::now();
        let troubles = [&status.loss, &status.trouble, &status.opening_trouble];
        let problems = troubles.into_iter().chain([&status.commit_trouble]);
        let problems = problems.flatten();
        GroupHealth {
            problems: problems
                .map(|(error, since)| Problem {
                    partition: None,
                    age: now.saturating_duration_since(*since),
                    error: error.clone(),
                })
                .collect(),
            is_rebalancing: status.is_rebalancing,
        }
    }

    fn close(&self, deadline: &Deadline) -> (Result<()>, Farewell) {
        let worker = self.coordinator.lock().take();
        let Some(mut worker) = worker else {
            return (Ok(()), Farewell::default());
        };
        // Leaving takes what time there is, and a little is left to end the thread.
        let margin = (deadline.remaining() / 10).min(std::time::Duration::from_millis(500));
        let until = deadline.at().checked_sub(margin).unwrap_or(deadline.at());
        let asked = self.command(Command::Leave(until), deadline);
        let joined = match asked {
            Err(error) if error.kind() != ErrorKind::Closed => Err(error),
            _ => worker.join(deadline),
        };
        let farewell = self.status.now.lock().farewell.take().unwrap_or_default();
        (joined, farewell)
    }
}
