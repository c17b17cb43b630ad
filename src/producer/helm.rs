//! Who is at work as a broker's sender: its thread, or for one small request a caller.
//!
//! Whoever takes it has it to themselves, without any lock, until it is back.

use std::{fmt, time::Instant};

use parking_lot::Mutex;

/// The place of what one at a time may use. It is empty until its thread has begun, and when that has ended.
pub(super) struct Helm<T>(Mutex<Place<T>>);

struct Place<T> {
    free: Option<Box<T>>,
    is_lost: bool,
    /// Its thread came while a caller had it.
    is_wanted: bool,
    /// When its thread comes by itself, at the latest; none while it is at work or about to look.
    comes_at: Option<Instant>,
}

/// What its thread finds.
pub(super) enum Found<T> {
    Free(Box<T>),
    /// A caller has it, and says when it is back.
    InUse,
    /// A panic has taken it.
    Lost,
}

impl<T> Default for Helm<T> {
    fn default() -> Self {
        Self(Mutex::new(Place {
            free: None,
            is_lost: false,
            is_wanted: false,
            comes_at: None,
        }))
    }
}

impl<T> Helm<T> {
    // ---- its thread ----

    /// Leaves it for whoever comes next. The thread comes again at that time, or when it is called.
    pub(super) fn leave(&self, used: Box<T>, comes_at: Instant) {
        let mut place = self.0.lock();
        place.free = Some(used);
        place.comes_at = Some(comes_at);
    }

    pub(super) fn take(&self) -> Found<T> {
        let mut place = self.0.lock();
        place.comes_at = None;
        match place.free.take() {
            Some(free) => {
                place.is_wanted = false;
                Found::Free(free)
            }
            None if place.is_lost => Found::Lost,
            None => {
                place.is_wanted = true;
                Found::InUse
            }
        }
    }

    // ---- a caller ----

    /// Has a caller do something with it, who says when somebody has to look at it again. None when somebody else has it or its
    /// thread is on its way, and else whether that must be called: it has been here meanwhile, or comes later than that.
    ///
    /// What a panic leaves half done is lost to all.
    pub(super) fn with(&self, work: impl FnOnce(&mut T) -> Instant) -> Option<bool> {
        let mut taken = {
            let mut place = self.0.lock();
            if place.is_wanted {
                return None;
            }
            place.free.take()?
        };
        let mut guard = Guard {
            helm: self,
            is_done: false,
        };
        let look_at = work(&mut taken);
        guard.is_done = true;
        let mut place = self.0.lock();
        place.free = Some(taken);
        Some(place.is_wanted || place.comes_at.is_none_or(|at| look_at < at))
    }
}

struct Guard<'a, T> {
    helm: &'a Helm<T>,
    is_done: bool,
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if !self.is_done {
            self.helm.0.lock().is_lost = true;
        }
    }
}

impl<T> fmt::Debug for Helm<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Helm")
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        time::Duration,
    };

    use super::*;

    fn taken(helm: &Helm<u32>) -> Box<u32> {
        match helm.take() {
            Found::Free(free) => free,
            Found::InUse => panic!("in use"),
            Found::Lost => panic!("lost"),
        }
    }

    #[test]
    fn nobody_has_it_before_its_thread_has_left_it_there() {
        let helm = Helm::default();
        assert_eq!(helm.with(|_: &mut u32| unreachable!()), None);
        helm.leave(Box::new(7), Instant::now());
        assert_eq!(*taken(&helm), 7);
        assert_eq!(helm.with(|_| unreachable!()), None);
    }

    #[test]
    fn its_thread_is_called_when_it_would_come_too_late() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let helm = Helm::default();
        helm.leave(Box::new(1), at(10));
        for (look_at, is_called) in [(at(11), false), (at(10), false), (at(9), true)] {
            let called = helm.with(|count| {
                *count += 1;
                look_at
            });
            assert_eq!(called, Some(is_called));
        }
        assert_eq!(*taken(&helm), 4);
    }

    #[test]
    fn its_thread_is_called_when_it_came_in_vain() {
        let now = Instant::now();
        let helm = Helm::default();
        helm.leave(Box::new(1), now);
        let called = helm.with(|_| {
            assert!(matches!(helm.take(), Found::InUse));
            assert_eq!(helm.with(|_| unreachable!()), None);
            now + Duration::from_secs(60)
        });
        assert_eq!(called, Some(true));
        // It is its turn.
        assert_eq!(helm.with(|_| unreachable!()), None);
        assert_eq!(*taken(&helm), 1);
        helm.leave(Box::new(2), now);
        assert_eq!(helm.with(|_| now), Some(false));
    }

    #[test]
    fn what_a_panic_has_used_is_lost() {
        let helm = Helm::default();
        helm.leave(Box::new(1), Instant::now());
        let panicked = catch_unwind(AssertUnwindSafe(|| helm.with(|_| panic!("on purpose"))));
        assert!(panicked.is_err());
        assert!(matches!(helm.take(), Found::Lost));
        assert_eq!(helm.with(|_| unreachable!()), None);
    }
}
