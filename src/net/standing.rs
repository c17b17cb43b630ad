//! What brokers have said to this client's credentials: when asking once more may help, and when it is over.
//!
//! Credentials that were never taken are wrong. Those that were may be refused for a moment, as after a change of the
//! password that one broker has not heard of yet, or while nobody gives out tokens.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    error::{Error, ErrorKind, Result},
    net::Address,
};

/// Shared by all connections of a client.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    book: Mutex<Book>,
    /// Exchanges whose threads have not come back.
    exchanges: AtomicUsize,
}

#[derive(Debug, Default)]
struct Book {
    /// When some broker last believed us.
    accepted: Option<Instant>,
    refused: HashMap<Address, Refused>,
}

#[derive(Debug)]
struct Refused {
    /// In a row, a cool-down apart.
    times: u32,
    /// The first time of those that count as one.
    at: Instant,
    /// When somebody was last let through to ask again.
    asked_at: Option<Instant>,
    error: Error,
}

impl Book {
    /// Makes room: a broker may name ever new addresses, and refuse us at each.
    fn forget(&mut self, but: &Address, now: Instant) {
        if self.refused.len() < MOST {
            return;
        }
        let accepted = self.accepted;
        self.refused.retain(|address, refused| {
            let is_recent = now.saturating_duration_since(refused.at) < FORGOTTEN;
            address == but || is_recent || accepted.is_none_or(|accepted| accepted < refused.at)
        });
        if self.refused.len() >= MOST {
            // This is no cluster any more.
            self.refused.retain(|address, _| address == but);
        }
    }
}

/// No cluster has so many brokers.
const MOST: usize = 10_000;
/// A broker that has refused us is left alone for so long: asking at once brings the same, and may lock an account.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// So often in a row a broker may refuse a client that was believed before, until that is the end of what needs it.
const TRIES: u32 = 3;
/// What a broker said so long before a try is not in a row with that, if some broker has believed us since. If none has, it is,
/// however rarely a client tries: it must not wait for ever for what nobody gives it.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// So many exchanges may be under way; a mechanism that hangs costs no more threads.
const MOST_EXCHANGES: usize = 64;

/// An exchange under way; dropped by its thread when the mechanism has come back.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Standing>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Standing {
    /// One more exchange. An error that another try may help against when there are too many.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Underway> {
        let underway = self.exchanges.fetch_add(1, Ordering::SeqCst);
        let this = Underway(Arc::clone(self));
        if underway < MOST_EXCHANGES {
            return Ok(this);
        }
        let message = format!("{MOST_EXCHANGES} exchanges are still under way: the mechanism does not come back");
        Err(Error::new(ErrorKind::TimedOut, message))
    }

    /// When this try began, or an error, the last one, while the broker is to be left alone. After a refusal it is asked by
    /// one at a time.
    pub(crate) fn may_try(&self, address: &Address, now: Instant) -> Result<Instant> {
        let mut book = self.book.lock();
        if let Some(refused) = book.refused.get_mut(address) {
            let last = refused.asked_at.map_or(refused.at, |asked| asked.max(refused.at));
            if now.saturating_duration_since(last) < COOL_DOWN {
                return Err(refused.error.clone());
            }
            refused.asked_at = Some(now);
        }
        Ok(now)
    }

    pub(crate) fn accepted(&self, address: &Address, now: Instant) {
        let mut book = self.book.lock();
        book.accepted = Some(now);
        book.refused.remove(address);
    }

    /// What to make of a refusal of a try that began then: retriable as long as another try may help.
    pub(crate) fn refused(&self, address: &Address, error: Error, began: Instant, now: Instant) -> Error {
        let mut book = self.book.lock();
        book.forget(address, now);
        let before = book.refused.get(address).filter(|before| {
            let is_recent = began.saturating_duration_since(before.at) < FORGOTTEN;
            is_recent || book.accepted.is_none_or(|accepted| accepted < before.at)
        });
        // Several connections may have been on their way at once, and some are answered late.
        let is_same = before.is_some_and(|before| began < before.at + COOL_DOWN);
        let times = before.map_or(0, |before| before.times) + u32::from(!is_same);
        let at = before.filter(|_| is_same).map_or(now, |before| before.at);
        let is_final = book.accepted.is_none() || times >= TRIES;
        let error = error.retriable(!is_final);
        let refused = Refused {
            times,
            at,
            asked_at: before.and_then(|before| before.asked_at),
            error: error.clone(),
        };
        book.refused.insert(address.clone(), refused);
        error
    }

    /// The same for credentials that could not be made, of which no broker knows: whoever gives them out may merely be out of
    /// reach, which the error says.
    pub(crate) fn unprepared(&self, error: Error) -> Error {
        let is_ours = error.kind() == ErrorKind::Authentication;
        let may_help = self.book.lock().accepted.is_some() || error.is_retriable();
        if is_ours { error.retriable(may_help) } else { error }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use super::*;

    fn refusal() -> Error {
        Error::refused(58)
    }

    fn address(port: u16) -> Address {
        Address::new("broker", port)
    }

    #[test]
    fn credentials_that_were_never_taken_are_wrong_at_once() {
        let (standing, now) = (Standing::default(), Instant::now());
        assert!(!standing.refused(&address(1), refusal(), now, now).is_retriable());
        assert!(
            !standing
                .unprepared(Error::new(ErrorKind::Authentication, "no"))
                .is_retriable()
        );
        let passing = Error::new(ErrorKind::Authentication, "not now").retriable(true);
        assert!(standing.unprepared(passing).is_retriable());
    }

    #[test]
    fn credentials_that_were_taken_before_are_tried_three_times() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.accepted(&address(1), start);
        let mut told = Vec::new();
        for tenth in 0..25 {
            let now = start + tenth * COOL_DOWN / 10;
            match standing.may_try(&address(2), now) {
                Ok(began) => told.push((
                    tenth,
                    standing.refused(&address(2), refusal(), began, now).is_retriable(),
                )),
                Err(error) => assert!(error.is_retriable() || tenth >= 20),
            }
        }
        assert_eq!(told, [(0, true), (10, true), (20, false)]);
        // Others are not concerned, and one that takes them forgets.
        standing.may_try(&address(1), start).unwrap();
        standing.accepted(&address(2), start);
        standing.may_try(&address(2), start).unwrap();
        assert!(standing.refused(&address(2), refusal(), start, start).is_retriable());
    }

    #[test]
    fn refusals_of_connections_that_were_made_together_count_once() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.accepted(&address(1), start);
        let began: Vec<_> = (0..9).map(|_| standing.may_try(&address(1), start).unwrap()).collect();
        for (answered, began) in (0..).zip(began) {
            let now = start + answered * 2 * COOL_DOWN;
            assert!(standing.refused(&address(1), refusal(), began, now).is_retriable());
        }
        standing.may_try(&address(1), start + COOL_DOWN).unwrap();
    }

    #[test]
    fn a_broker_that_has_refused_us_is_asked_by_one_at_a_time() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.accepted(&address(1), start);
        standing.refused(&address(1), refusal(), start, start);
        let then = start + COOL_DOWN;
        let began = standing.may_try(&address(1), then).unwrap();
        assert!(standing.may_try(&address(1), then).unwrap_err().is_retriable());
        // Whoever was let through may never come back.
        standing.may_try(&address(1), then + COOL_DOWN).unwrap();
        assert!(standing.refused(&address(1), refusal(), began, then).is_retriable());
    }

    /// What is made of refusals that lie so far apart; `between` says what else happens in the middle.
    fn far_apart(pause: Duration, between: impl Fn(&Standing, Instant)) -> [bool; 4] {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.accepted(&address(1), start);
        [1, 2, 3, 4].map(|time| {
            let began = start + time * pause;
            between(&standing, began - pause / 2);
            standing.may_try(&address(1), began).unwrap();
            // What is slow in answering is not far apart for that.
            standing
                .refused(&address(1), refusal(), began, began + pause / 4)
                .is_retriable()
        })
    }

    #[test]
    fn refusals_that_lie_far_apart_do_not_add_up_when_somebody_has_believed_us_since() {
        let believed = |standing: &Standing, now| standing.accepted(&address(2), now);
        assert_eq!(far_apart(2 * FORGOTTEN, believed), [true; 4]);
        assert_eq!(far_apart(FORGOTTEN, believed), [true, true, false, false]);
    }

    #[test]
    fn refusals_add_up_however_far_apart_when_nobody_has_believed_us_since() {
        for pause in [2 * COOL_DOWN, 2 * FORGOTTEN, 1000 * FORGOTTEN] {
            assert_eq!(far_apart(pause, |_, _| {}), [true, true, false, false], "{pause:?}");
        }
    }

    #[test]
    fn exchanges_that_do_not_end_are_bounded() {
        let standing = Arc::new(Standing::default());
        let mut underway: Vec<_> = (0..MOST_EXCHANGES).map(|_| standing.begin().unwrap()).collect();
        for _ in 0..2 {
            let error = standing.begin().unwrap_err();
            assert!(
                error.is_retriable() && error.to_string().contains("64 exchanges"),
                "{error}"
            );
        }
        underway.pop();
        standing.begin().unwrap();
    }

    #[test]
    fn a_client_that_was_believed_waits_for_credentials_as_long_as_it_takes() {
        let standing = Standing::default();
        standing.accepted(&address(1), Instant::now());
        for _ in 0..10 {
            let error = Error::new(ErrorKind::Authentication, "no token");
            assert!(standing.unprepared(error).is_retriable());
        }
        let error = Error::closed("client");
        assert!(!standing.unprepared(error).is_retriable());
    }
}
