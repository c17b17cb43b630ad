//! The delivery thread: it runs what the program wants to be called with, and nothing else, so that it may take its time.
//!
//! What waits here keeps its batch's room in the buffer until it has been called: a slow callback fills the buffer, and
//! `send` waits.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::{
    config::Observer,
    delivery::Callback,
    memory::Buffer,
    report::{BatchReport, RecordMetadata},
};
use crate::{
    deadline::Deadline,
    error::{Error, Result},
    thread::Worker,
};

/// A callback that is due, and what to call it with.
pub(super) struct Call {
    callback: Callback,
    result: Result<RecordMetadata>,
}

impl Call {
    pub(super) fn new(callback: Callback, result: Result<RecordMetadata>) -> Self {
        Self { callback, result }
    }
}

/// What one batch gives the thread to do.
pub(super) struct Job {
    pub(super) calls: Vec<Call>,
    pub(super) report: Option<BatchReport>,
    /// Given back when all of it is done.
    pub(super) room: Option<Arc<Buffer>>,
}

/// Started before the first job can be.
pub(super) struct Callbacks {
    observer: Option<Observer>,
    state: Mutex<State>,
}

enum State {
    Idle,
    Running(Sender<Job>, Worker),
    Closed,
}

impl Callbacks {
    pub(super) fn new(observer: Option<Observer>) -> Self {
        Self {
            observer,
            state: Mutex::new(State::Idle),
        }
    }

    pub(super) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// Starts the thread, if it does not run yet: before a record is taken that needs it.
    pub(super) fn start(&self) -> Result<()> {
        let mut state = self.state.lock();
        match *state {
            State::Running(..) => return Ok(()),
            State::Closed => return Err(Error::closed("producer")),
            State::Idle => {}
        }
        let (sender, jobs) = unbounded();
        let observer = self.observer.clone();
        let worker = Worker::start("klamm-deliver", move || work(&jobs, observer.as_ref()))?;
        *state = State::Running(sender, worker);
        Ok(())
    }

    /// Never waits: what lies in the channel is bounded by the room it keeps.
    pub(super) fn run(&self, job: Job) {
        let state = self.state.lock();
        let refused = match &*state {
            State::Running(sender, _) => sender.send(job).err().map(|refused| refused.into_inner()),
            State::Idle | State::Closed => Some(job),
        };
        drop(state);
        if let Some(job) = refused {
            log::error!(
                "{} delivery callbacks come too late: the producer is closed",
                job.calls.len()
            );
        }
    }

    /// Lets the thread finish what it has, and end.
    pub(super) fn close(&self, deadline: &Deadline) -> Result<()> {
        let before = std::mem::replace(&mut *self.state.lock(), State::Closed);
        let State::Running(sender, mut worker) = before else {
            return Ok(());
        };
        drop(sender);
        worker.join(deadline)
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callbacks")
    }
}

fn work(jobs: &Receiver<Job>, observer: Option<&Observer>) {
    for job in jobs {
        do_it(job, observer);
    }
}

fn do_it(job: Job, observer: Option<&Observer>) {
    let Job { calls, report, room } = job;
    if let (Some(observer), Some(report)) = (observer, &report) {
        observer.tell(report);
    }
    for Call { callback, result } in calls {
        // A panic in the program's code ends neither this thread nor what others are owed.
        if catch_unwind(AssertUnwindSafe(move || callback(result))).is_err() {
            log::warn!("a delivery callback panicked; the producer goes on");
        }
    }
    drop(room);
}
