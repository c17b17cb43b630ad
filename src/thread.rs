//! Threads of klamm: named, told to stop, joined, and their panics reported.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, bounded};

use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
};

/// A running thread. Dropping it does not stop the thread: whoever owns it tells its loop to end, then joins.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    handle: Option<JoinHandle<()>>,
    done: Receiver<Option<String>>,
}

impl Worker {
    /// Starts `run` on a thread with this name (at most 15 bytes, or the system cuts it).
    pub(crate) fn start(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Result<Self> {
        let name = name.into();
        let (finished, done) = bounded(1); // one value, when the thread ends
        let in_thread = name.clone();
        let handle = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                OURS.set(true);
                let panic = catch_unwind(AssertUnwindSafe(run))
                    .err()
                    .map(|payload| describe(&*payload));
                if let Some(panic) = &panic {
                    log::error!("thread {in_thread} of klamm panicked: {panic}");
                }
                // Nobody may be waiting.
                finished.try_send(panic).ok();
            })
            .map_err(|error| Error::new(ErrorKind::Io, format!("starting thread {name} failed")).caused_by(error))?;
        Ok(Self {
            name,
            handle: Some(handle),
            done,
        })
    }

    /// Whether its closure has ended, by itself or by a panic.
    pub(crate) fn is_over(&self) -> bool {
        !self.done.is_empty()
    }

    /// Waits for the thread's end; its panic becomes an error. On the thread itself it returns at once.
    pub(crate) fn join(&mut self, deadline: &Deadline) -> Result<()> {
        let Some(handle) = self.handle.take() else {
            return Ok(());
        };
        if handle.thread().id() == thread::current().id() {
            return Ok(());
        }
        match self
            .done
            .recv_timeout(deadline.remaining().max(Duration::from_millis(1)))
        {
            Ok(panic) => {
                // The closure is over; what is left of the thread takes no time.
                handle.join().ok();
                match panic {
                    None => Ok(()),
                    Some(panic) => Err(Error::new(
                        ErrorKind::Internal,
                        format!("thread {} panicked: {panic}", self.name),
                    )),
                }
            }
            Err(_) => {
                self.handle = Some(handle);
                Err(deadline.error(&format!("thread {} to end", self.name)))
            }
        }
    }
}

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is one of klamm's own threads: it must not wait for another one, as when a logger calls back.
pub(crate) fn is_ours() -> bool {
    OURS.get()
}

/// Does something for which one of klamm's own threads may wait meanwhile: nobody whom it calls, as the program's logger, may
/// wait for those.
pub(crate) fn as_ours<T>(work: impl FnOnce() -> T) -> T {
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            OURS.set(self.0);
        }
    }

    let _before = Before(OURS.replace(true));
    work()
}

fn describe(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_join() {
        let mut worker = Worker::start("klamm-test", || panic!("out of luck")).unwrap();
        let error = worker
            .join(&Deadline::after(Duration::from_secs(10), "test"))
            .unwrap_err();
        assert!(error.to_string().contains("out of luck"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }

    #[test]
    fn what_is_done_as_ours_ends_with_it() {
        assert!(as_ours(|| as_ours(is_ours) && is_ours()));
        assert!(!is_ours());
        let panicked = std::panic::catch_unwind(|| as_ours(|| panic!("on purpose")));
        assert!(panicked.is_err() && !is_ours());
    }

    #[test]
    fn a_join_that_takes_too_long_gives_up_and_may_be_tried_again() {
        let (go, wait) = bounded::<()>(1);
        let mut worker = Worker::start("klamm-test", move || {
            wait.recv().ok();
        })
        .unwrap();
        let error = worker
            .join(&Deadline::after(Duration::from_millis(5), "test"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        go.send(()).unwrap();
        worker.join(&Deadline::after(Duration::from_secs(10), "test")).unwrap();
    }
}
