//! A stop signal that every wait can listen to.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::error::Error;

/// Something that can be closed, seen from those who wait in it. Clones are the same signal; it is raised once and
/// stays so.
///
/// Waits do not poll it: whoever waits on a channel also waits on [`signal`](Self::signal), and whoever blocks in a
/// socket registers how to wake it with [`on_stop`](Self::on_stop).
#[derive(Clone)]
pub(crate) struct Stop(Arc<Inner>);

struct Inner {
    /// What is closed, for the error of an interrupted wait: "the {what} was closed".
    what: &'static str,
    stopped: AtomicBool,
    /// Disconnects when the stop is raised; nothing is ever sent.
    signal: Receiver<()>,
    hooks: Mutex<Hooks>,
}

struct Hooks {
    /// Gone once raised, which disconnects `signal`.
    raised_by: Option<Sender<()>>,
    next: u64,
    run: Vec<(u64, Hook)>,
}

type Hook = Box<dyn Fn() + Send>;

impl Stop {
    pub(crate) fn new(what: &'static str) -> Self {
        let (sender, signal) = bounded(0); // nothing is sent
        Self(Arc::new(Inner {
            what,
            stopped: AtomicBool::new(false),
            signal,
            hooks: Mutex::new(Hooks {
                raised_by: Some(sender),
                next: 0,
                run: Vec::new(),
            }),
        }))
    }

    /// Ends every wait that listens, now and later. Runs the hooks on this thread.
    pub(crate) fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let hooks = {
            let mut hooks = self.0.hooks.lock();
            hooks.raised_by = None;
            std::mem::take(&mut hooks.run)
        };
        for (_, hook) in hooks {
            hook();
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Waits for this long at most, and says whether it was stopped.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        matches!(
            self.0.signal.recv_timeout(duration),
            Err(RecvTimeoutError::Disconnected)
        )
    }

    /// A channel that disconnects when the stop is raised.
    pub(crate) fn signal(&self) -> &Receiver<()> {
        &self.0.signal
    }

    /// Has `wake` run when the stop is raised, or at once when it already was, until the registration is dropped.
    /// `wake` must not wait.
    pub(crate) fn on_stop(&self, wake: impl Fn() + Send + 'static) -> Registration {
        let mut hooks = self.0.hooks.lock();
        if hooks.raised_by.is_none() {
            drop(hooks);
            wake();
            return Registration {
                stop: self.clone(),
                id: u64::MAX,
            };
        }
        let id = hooks.next;
        hooks.next += 1;
        hooks.run.push((id, Box::new(wake)));
        Registration { stop: self.clone(), id }
    }

    /// Whether both are the same signal.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What an interrupted wait returns.
    pub(crate) fn error(&self) -> Error {
        Error::closed(self.0.what)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stop({}: {})", self.0.what, self.is_stopped())
    }
}

/// Keeps a hook of a [`Stop`] in place.
#[derive(Debug)]
pub(crate) struct Registration {
    stop: Stop,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stop.0.hooks.lock().run.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_wakes_waiters_and_runs_hooks_once() {
        let stop = Stop::new("test");
        let (woken, hook) = bounded(4);
        let registered = stop.on_stop({
            let woken = woken.clone();
            move || woken.send(1).unwrap()
        });
        drop(stop.on_stop({
            let woken = woken.clone();
            move || woken.send(2).unwrap()
        }));
        assert!(!stop.wait(Duration::ZERO));
        let waiting = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| stop.wait(Duration::from_secs(30)));
            stop.stop();
            stop.stop();
            waiter.join().unwrap()
        });
        assert!(waiting && stop.is_stopped());
        drop(registered);
        let late = stop.on_stop(move || woken.send(3).unwrap());
        drop(late);
        assert_eq!(hook.try_iter().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(stop.error().to_string(), "the test was closed");
    }
}
