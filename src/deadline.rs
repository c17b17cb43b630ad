//! One deadline per public call, which knows the name of the limit that will fire.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select};

use crate::{
    error::{Error, ErrorKind, Result},
    stop::Stop,
};

/// Thirty years: what a limit without end becomes, so that it can be added to a point in time.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 30);

/// A point in time at which a wait ends, and which setting put it there; and the stop signals that end it before.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
    name: &'static str,
    stops: Vec<Stop>,
}

/// How a wait on a channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited<T> {
    Got(T),
    /// The other side of the channel is gone.
    Gone,
    TimedOut,
    Stopped,
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
        let at = now.checked_add(limit).unwrap_or_else(|| now + FOR_EVER);
        Self {
            at,
            limit,
            name,
            stops: Vec::new(),
        }
    }

    /// Ends also when `stop` is raised, in addition to the stops it already has.
    #[must_use]
    pub(crate) fn with_stop(mut self, stop: &Stop) -> Self {
        self.stops.push(stop.clone());
        self
    }

    /// The earlier of the two, with the stops of both.
    #[must_use]
    pub(crate) fn min(self, other: Self) -> Self {
        let (mut first, second) = if other.at < self.at {
            (other, self)
        } else {
            (self, other)
        };
        first.stops.extend(second.stops);
        first
    }

    /// At most `limit` from now, with the same stops.
    #[must_use]
    pub(crate) fn at_most(&self, limit: Duration, name: &'static str) -> Self {
        self.clone().min(Self::after(limit, name))
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    pub(crate) fn stops(&self) -> &[Stop] {
        &self.stops
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

    /// The stop that was raised, if one was.
    pub(crate) fn stopped(&self) -> Option<&Stop> {
        self.stops.iter().find(|stop| stop.is_stopped())
    }

    /// Whether there is any point in waiting for something any longer.
    pub(crate) fn check(&self, waited_for: &str) -> Result<()> {
        if let Some(stop) = self.stopped() {
            return Err(stop.error());
        }
        if self.has_passed() {
            return Err(self.error(waited_for));
        }
        Ok(())
    }

    /// Waits for a message until the deadline, or a stop. A message that is there is taken even when it has passed.
    pub(crate) fn wait<T>(&self, on: &Receiver<T>) -> Waited<T> {
        self.wait_until(on, self.at)
    }

    /// The same, until an earlier point in time.
    pub(crate) fn wait_until<T>(&self, on: &Receiver<T>, until: Instant) -> Waited<T> {
        let until = until.min(self.at);
        if self.stopped().is_some() {
            return Waited::Stopped;
        }
        let mut select = Select::new_biased();
        let wanted = select.recv(on);
        for stop in &self.stops {
            select.recv(stop.signal());
        }
        match select.select_deadline(until) {
            Err(_) => Waited::TimedOut,
            Ok(ready) if ready.index() == wanted => match ready.recv(on) {
                Ok(message) => Waited::Got(message),
                Err(_) => Waited::Gone,
            },
            Ok(ready) => {
                let stop = &self.stops[ready.index() - 1 - wanted];
                ready.recv(stop.signal()).ok();
                Waited::Stopped
            }
        }
    }

    /// Lets this much time pass. An error when it was stopped, or at once when the deadline comes first.
    pub(crate) fn pause(&self, duration: Duration, waited_for: &str) -> Result<()> {
        if self.remaining() <= duration {
            self.check(waited_for)?;
            return Err(self.error(waited_for));
        }
        let never = crossbeam_channel::never::<()>();
        let end = Self::after(duration, self.name);
        match self.wait_until(&never, end.at) {
            Waited::Stopped => self.check(waited_for),
            _ => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_earlier_limit_gives_its_name_and_stops_add_up() {
        let (first, second) = (Stop::new("first"), Stop::new("second"));
        let deadline = Deadline::after(LONG, "request_timeout")
            .with_stop(&first)
            .min(Deadline::after(Duration::ZERO, "timeout").with_stop(&second));
        assert_eq!(
            deadline.check("tea").unwrap_err().to_string(),
            "gave up waiting for tea after 0ns (timeout)"
        );
        first.stop();
        assert_eq!(deadline.check("tea").unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_stop_ends_a_wait_and_a_pause() {
        let stop = Stop::new("stream");
        let deadline = Deadline::after(LONG, "timeout").with_stop(&stop);
        let (sender, receiver) = crossbeam_channel::bounded(1);
        sender.send(7).unwrap();
        assert_eq!(deadline.wait(&receiver), Waited::Got(7));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| deadline.wait(&receiver));
            let pausing = scope.spawn(|| deadline.pause(LONG / 2, "tea"));
            stop.stop();
            assert_eq!(waiting.join().unwrap(), Waited::Stopped);
            assert_eq!(
                pausing.join().unwrap().unwrap_err().to_string(),
                "the stream was closed"
            );
        });
    }

    #[test]
    fn a_pause_longer_than_the_deadline_fails_at_once() {
        let deadline = Deadline::after(LONG, "timeout");
        assert_eq!(deadline.pause(LONG * 2, "tea").unwrap_err().kind(), ErrorKind::TimedOut);
        deadline.pause(Duration::from_millis(1), "tea").unwrap();
        let (sender, receiver) = crossbeam_channel::bounded::<()>(1);
        drop(sender);
        assert_eq!(deadline.wait(&receiver), Waited::Gone);
    }
}
