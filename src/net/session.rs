//! For how long a broker believes who we are, and what that means for the next request: a session, as a value (KIP-368).
//!
//! Times count from before the broker has granted the session, so that it ends here a little sooner than there.

use std::time::{Duration, Instant};

/// The session of one connection, from one authentication to the next.
#[derive(Debug)]
pub(crate) struct Session {
    /// None: it does not end.
    limits: Option<Limits>,
    state: State,
    /// A broker refuses to renew a session twice within this time.
    pause: Duration,
    /// When it lets us renew this one.
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// When credentials are prepared.
    due: Instant,
    /// Nothing is asked from here on, until it is renewed: the broker would answer by hanging up.
    latest: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    /// Credentials are being prepared.
    Preparing,
    /// They are there: the next request waits until the session is renewed.
    Prepared,
    /// The broker is being asked. It takes any other request for nonsense now.
    Renewing,
}

/// What whoever wants to ask something does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Asks.
    Go,
    /// Has credentials prepared, of which nobody has thought yet; and then asks, or holds.
    Prepare { hold: bool },
    /// Waits until the session is renewed.
    Hold,
}

/// What a broker grants, and from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    /// None: for as long as the connection stands.
    pub(crate) lifetime: Option<Duration>,
    /// Before it was asked.
    pub(crate) since: Instant,
}

/// "Cannot re-authenticate more than once every second", says Kafka.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

impl Session {
    /// Of a connection that nobody asks who it is.
    pub(crate) fn endless() -> Self {
        Self {
            limits: None,
            state: State::Fresh,
            pause: PAUSE,
            not_before: None,
        }
    }

    /// `random` spreads the renewals of connections that were made together. The broker allows for one in each `pause`.
    pub(crate) fn new(granted: Granted, random: u64, pause: Duration) -> Self {
        Self {
            limits: Limits::of(granted, random),
            state: State::Fresh,
            pause,
            not_before: None,
        }
    }

    /// Before each request, with a way to tell the time for those who need to know it.
    pub(crate) fn turn(&mut self, now: impl Fn() -> Instant) -> Turn {
        let Some(Limits { due, latest }) = self.limits else {
            return Turn::Go;
        };
        match self.state {
            State::Prepared | State::Renewing => Turn::Hold,
            State::Preparing if now() >= latest => Turn::Hold,
            State::Preparing => Turn::Go,
            State::Fresh => {
                let now = now();
                if now < due {
                    return Turn::Go;
                }
                self.state = State::Preparing;
                Turn::Prepare { hold: now >= latest }
            }
        }
    }

    /// Whether a request of now would have nothing to begin, and nothing to wait for.
    pub(crate) fn is_free(&self, now: impl Fn() -> Instant) -> bool {
        self.limits
            .is_none_or(|limits| self.state == State::Fresh && now() < limits.due)
    }

    /// Whether it ends before its connection does.
    pub(crate) fn ends(&self) -> bool {
        self.limits.is_some()
    }

    /// Whether nothing is asked any more before it is renewed.
    pub(crate) fn is_over(&self, now: impl Fn() -> Instant) -> bool {
        self.limits.is_some_and(|limits| now() >= limits.latest)
    }

    /// Whether credentials are being prepared.
    pub(crate) fn is_preparing(&self) -> bool {
        self.state == State::Preparing
    }

    /// Credentials are there. Gives the time from which on the broker takes them.
    pub(crate) fn prepared(&mut self, now: Instant) -> Instant {
        self.state = State::Prepared;
        self.not_before.map_or(now, |at| at.max(now))
    }

    /// Credentials could not be had. False when there is no time to try that again before the session ends.
    pub(crate) fn put_off(&mut self, now: Instant) -> bool {
        let Some(Limits { due, latest }) = &mut self.limits else {
            return true;
        };
        if now >= *latest {
            return false; // and nobody is let through any more
        }
        self.state = State::Fresh;
        let pause = (latest.saturating_duration_since(now) / 4).max(self.pause);
        *due = (now + pause).min(*latest);
        true
    }

    /// The broker is asked from now on.
    pub(crate) fn renewing(&mut self) {
        self.state = State::Renewing;
    }

    /// It has granted another one.
    pub(crate) fn renewed(&mut self, granted: Granted, now: Instant, random: u64) {
        self.limits = Limits::of(granted, random);
        self.state = State::Fresh;
        // The broker counts from when it began, which was before now.
        self.not_before = Some(now + self.pause);
    }
}

#[cfg(test)]
impl Session {
    /// As if it had begun so much earlier.
    pub(crate) fn age(&mut self, by: Duration) {
        if let Some(Limits { due, latest }) = &mut self.limits {
            (*due, *latest) = (*due - by, *latest - by);
        }
    }
}

impl Limits {
    /// Due when 80 to 90 per cent of it are over, but with some seconds left; and at the latest when 95 per cent are over.
    fn of(granted: Granted, random: u64) -> Option<Self> {
        let Granted { lifetime, since } = granted;
        let lifetime = lifetime.filter(|lifetime| *lifetime <= LONGEST)?;
        since.checked_add(lifetime)?;
        let spread = u32::try_from(random % 101).unwrap_or(0);
        let share = |thousandths: u32| lifetime / 1000 * thousandths;
        let with_room = share(800 + spread).min(lifetime.saturating_sub(ROOM));
        Some(Self {
            due: since + with_room.max(share(500 + spread)),
            latest: since + share(950),
        })
    }
}

/// So long a request may wait until a broker takes it up, which has to be before the session's end. Of a short session it is
/// less: half of it at most.
const ROOM: Duration = Duration::from_secs(5);

/// A session longer than a year is one that does not end.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn granted(lifetime: Duration, since: Instant) -> Granted {
        Granted {
            lifetime: Some(lifetime),
            since,
        }
    }

    #[test]
    fn a_connection_that_nobody_asks_who_it_is_goes_on_for_ever() {
        let never = || -> Instant { panic!("the time does not matter") };
        assert_eq!(Session::endless().turn(never), Turn::Go);
        for lifetime in [None, Some(LONGEST * 2), Some(Duration::MAX)] {
            let since = Instant::now();
            let mut session = Session::new(Granted { lifetime, since }, 7, PAUSE);
            assert_eq!(session.turn(never), Turn::Go);
        }
    }

    #[test]
    fn a_session_is_renewed_between_80_and_95_per_cent_of_its_time() {
        let start = Instant::now();
        for random in 0..300 {
            let at = |seconds: u32| move || start + seconds * 1000 * MS;
            let new = || Session::new(granted(1_000_000 * MS, start), random, PAUSE);
            assert_eq!(new().turn(at(799)), Turn::Go);
            let mut session = new();
            assert_eq!(session.turn(at(900)), Turn::Prepare { hold: false });
            assert_eq!(session.turn(at(899)), Turn::Go);
            assert_eq!(session.turn(at(950)), Turn::Hold);
            assert_eq!(new().turn(at(950)), Turn::Prepare { hold: true });
            session.prepared(start + 901_000 * MS);
            assert_eq!(session.turn(at(901)), Turn::Hold);
        }
    }

    #[test]
    fn a_short_session_is_renewed_in_the_middle_so_that_requests_may_take_their_time() {
        let start = Instant::now();
        for (lifetime, not_before, due) in [
            (3, 1500, 1800),
            (9, 4500, 5400),
            (20, 10_000, 15_000),
            (50, 40_000, 45_000),
        ] {
            for random in 0..101 {
                let mut session = Session::new(granted(lifetime * 1000 * MS, start), random, PAUSE);
                assert_eq!(session.turn(|| start + (not_before - 1) * MS), Turn::Go);
                assert_eq!(session.turn(|| start + due * MS), Turn::Prepare { hold: false });
            }
        }
    }

    #[test]
    fn credentials_that_cannot_be_had_are_asked_for_again_while_there_is_time() {
        let start = Instant::now();
        let mut session = Session::new(granted(Duration::from_secs(1000), start), 0, PAUSE);
        let mut now = start + Duration::from_secs(800);
        let mut tries = 0;
        loop {
            match session.turn(|| now) {
                Turn::Go => now += Duration::from_secs(1),
                Turn::Prepare { hold } => {
                    tries += 1;
                    assert_eq!(session.put_off(now), !hold);
                    if hold {
                        break;
                    }
                }
                Turn::Hold => panic!("nothing is under way"),
            }
        }
        assert!((5..40).contains(&tries), "{tries}");
        assert!(now <= start + Duration::from_secs(951));
    }

    /// A broker's view of one connection, an instant behind ours, and how long each step takes.
    struct Broker {
        ends: Instant,
        renewed: Option<Instant>,
        renewing: bool,
    }

    proptest! {
        /// Whatever the lifetime and however often something is asked: no request comes after the session's end or
        /// within a renewal, none of which comes too soon after another.
        #[test]
        fn a_broker_never_meets_a_request_that_it_would_hang_up_on(
            lifetimes in vec(1_u32..20_000, 1..6),
            steps in vec((0_u32..4_000, 0_u32..300, 0_u32..300, any::<u64>()), 1..200),
        ) {
            let start = Instant::now();
            let mut lifetimes = lifetimes.into_iter().map(|ms| ms * MS).cycle();
            let first = lifetimes.next().unwrap();
            let mut broker = Broker { ends: start + first, renewed: None, renewing: false };
            let mut session = Session::new(granted(first, start), 11, PAUSE);
            let mut now = start;
            for (idle, prepares, takes, random) in steps {
                now += idle * MS;
                match session.turn(|| now) {
                    Turn::Go => prop_assert!(now < broker.ends && !broker.renewing),
                    turn => {
                        if let Turn::Prepare { hold: false } = turn {
                            prop_assert!(now < broker.ends);
                        }
                        now += prepares * MS;
                        now = session.prepared(now);
                        prop_assert_eq!(session.turn(|| now), Turn::Hold);
                        session.renewing();
                        prop_assert!(broker.renewed.is_none_or(|at| now.duration_since(at) >= PAUSE));
                        broker.renewed = Some(now);
                        broker.renewing = true;
                        prop_assert_eq!(session.turn(|| now), Turn::Hold);
                        let lifetime = lifetimes.next().unwrap();
                        let since = now;
                        now += takes * MS;
                        broker.ends = now + lifetime;
                        broker.renewing = false;
                        session.renewed(granted(lifetime, since), now, random);
                    }
                }
            }
        }

        /// Who is told to ask while credentials are prepared is not told to prepare them as well.
        #[test]
        fn credentials_are_prepared_once(lifetime in 1_u32..5000, asks in vec(0_u32..500, 1..100)) {
            let start = Instant::now();
            let mut session = Session::new(granted(lifetime * MS, start), 50, PAUSE);
            let (mut now, mut prepares) = (start, 0);
            for wait in asks {
                now += wait * MS;
                let turn = session.turn(|| now);
                prepares += u32::from(matches!(turn, Turn::Prepare { .. }));
                prop_assert_eq!(session.is_preparing(), prepares == 1);
                prop_assert!(prepares <= 1);
                if now >= start + lifetime * MS {
                    prop_assert!(turn != Turn::Go);
                }
            }
        }
    }
}
