//! One deadline per public call, which knows the name of the limit that will fire.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// A point in time at which a wait ends, and which setting put it there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
    name: &'static str,
}

impl Deadline {
    /// `limit` from now; `name` is the setting or argument that gave it.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where a public call's limit becomes a point in time"
    )]
    pub(crate) fn after(limit: Duration, name: &'static str) -> Self {
        Self::from(Instant::now(), limit, name)
    }

    pub(crate) fn from(now: Instant, limit: Duration, name: &'static str) -> Self {
        // "For ever" must not overflow the clock; thirty years are as good.
        let at = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        Self { at, limit, name }
    }

    /// The earlier of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Zero when it has passed.
    #[allow(
        clippy::disallowed_methods,
        reason = "a deadline is asked by drivers, right before they wait"
    )]
    pub(crate) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// What a caller is told: what was waited for, how long, and which limit ended it.
    pub(crate) fn error(&self, waited_for: &str) -> Error {
        Error::new(
            ErrorKind::TimedOut,
            format!(
                "gave up waiting for {waited_for} after {:?} ({})",
                self.limit, self.name
            ),
        )
    }
}
