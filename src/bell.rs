//! Wakes one thread, however often it is rung before that has looked.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

/// What happens is left elsewhere; the bell says that there is something to look at.
///
/// To ring one is cheap, and nobody who is woken by it meets a lock of whoever has rung.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    is_rung: AtomicBool,
    /// Held by who listens, but for the time of waiting.
    ear: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // Whoever has looked at it before waits by now, or will look again.
            drop(self.ear.lock());
            self.rung.notify_one();
        }
    }

    /// To be called before looking: what happens from now on rings again.
    pub(crate) fn quiet(&self) {
        self.is_rung.store(false, Ordering::SeqCst);
    }

    /// Whether it was rung since it was made quiet.
    pub(crate) fn is_rung(&self) -> bool {
        self.is_rung.load(Ordering::SeqCst)
    }

    /// Until it is rung. Says whether it was by then.
    pub(crate) fn wait_until(&self, until: Instant) -> bool {
        let mut ear = self.ear.lock();
        while !self.is_rung() {
            if self.rung.wait_until(&mut ear, until).timed_out() {
                return self.is_rung();
            }
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test waits here")]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicU32},
        time::Duration,
    };

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn it_is_heard_whether_it_was_rung_before_or_is_rung_while_somebody_waits() {
        let bell = Bell::new();
        assert!(!bell.wait_until(soon()));
        bell.ring();
        bell.ring();
        assert!(bell.wait_until(late()) && bell.is_rung());
        bell.quiet();
        assert!(!bell.wait_until(soon()));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bell.wait_until(late()));
            bell.ring();
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn no_ring_is_lost_between_looking_and_waiting() {
        let bell = Arc::new(Bell::new());
        let left = Arc::new(AtomicU32::new(0));
        let all = 20_000;
        let rings = std::thread::spawn({
            let (bell, left) = (Arc::clone(&bell), Arc::clone(&left));
            move || {
                for _ in 0..all {
                    left.fetch_add(1, Ordering::SeqCst);
                    bell.ring();
                }
            }
        });
        let mut seen = 0;
        while seen < all {
            bell.quiet();
            seen += left.swap(0, Ordering::SeqCst);
            assert!(seen == all || bell.wait_until(late()), "after {seen} of {all}");
        }
        rings.join().unwrap();
    }
}
