//! Looks at what a group has committed, again and again, while it works.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Committed, now};
use crate::support::Kafka;

/// Between two looks, each of which costs a few hundredths of a second of a core.
const PACE: Duration = Duration::from_millis(200);

/// What was committed at some time: the answer had come by then.
pub type Look = (Duration, Committed);

/// Looks until it is asked what it has seen: [`Commits::watch`].
#[must_use = "it looks as long as this lives"]
pub struct Commits {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Vec<Look>>>,
}

impl Commits {
    pub fn watch(kafka: &'static Kafka, group: &str) -> Self {
        Self::of(move |group| kafka.committed_offsets(group), group)
    }

    /// With another way to ask: for a cluster that a test shares with an `Arc`.
    pub fn of(ask: impl Fn(&str) -> Committed + Send + 'static, group: &str) -> Self {
        let (stop, stopped) = channel::<()>();
        let group = group.to_owned();
        let thread = std::thread::spawn(move || {
            let mut looks = Vec::new();
            loop {
                let committed = ask(&group);
                looks.push((now(), committed));
                if stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout) {
                    return looks;
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// All looks, in order of time; the last one may be a moment old.
    pub fn finish(mut self) -> Vec<Look> {
        drop(self.stop.take());
        let thread = self.thread.take().expect("it is joined once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
