//! What brokers have said to this client's credentials: when asking once more may help, and when it is over.
//!
//! Credentials that were never taken are wrong. Those that were may be refused for a moment, as after a change of the
//! password that one broker has not heard of yet, or while nobody gives out tokens.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    error::{Error, ErrorKind, Result},
    net::Address,
};

/// Shared by all connections of a client.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// Some broker has believed us.
    accepted: bool,
    refused: HashMap<Address, Refused>,
}

#[derive(Debug)]
struct Refused {
    /// In a row, a cool-down apart.
    times: u32,
    at: Instant,
    error: Error,
}

/// A broker that has refused us is left alone for so long: asking at once brings the same, and may lock an account.
const COOL_DOWN: Duration = Duration::from_secs(1);
/// So often in a row a broker may refuse a client that was believed before, until that is the end of what needs it.
const TRIES: u32 = 3;

impl Standing {
    /// An error, the last one, while this broker is to be left alone.
    pub(crate) fn may_try(&self, address: &Address, now: Instant) -> Result<()> {
        let book = self.0.lock();
        match book.refused.get(address) {
            Some(refused) if now.saturating_duration_since(refused.at) < COOL_DOWN => Err(refused.error.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn accepted(&self, address: &Address) {
        let mut book = self.0.lock();
        book.accepted = true;
        book.refused.remove(address);
    }

    /// What to make of a refusal: retriable as long as another try may help.
    pub(crate) fn refused(&self, address: &Address, error: Error, now: Instant) -> Error {
        let mut book = self.0.lock();
        let before = book.refused.get(address);
        // Several connections may have been on their way at once.
        let is_same = before.is_some_and(|before| now.saturating_duration_since(before.at) < COOL_DOWN);
        let times = before.map_or(0, |before| before.times) + u32::from(!is_same);
        let at = before.filter(|_| is_same).map_or(now, |before| before.at);
        let is_final = !book.accepted || times >= TRIES;
        let error = error.retriable(!is_final);
        let refused = Refused {
            times,
            at,
            error: error.clone(),
        };
        book.refused.insert(address.clone(), refused);
        error
    }

    /// The same for credentials that could not be made, of which no broker knows: whoever gives them out may merely be out of
    /// reach, which the error says.
    pub(crate) fn unprepared(&self, error: Error) -> Error {
        let is_ours = error.kind() == ErrorKind::Authentication;
        let may_help = self.0.lock().accepted || error.is_retriable();
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
        assert!(!standing.refused(&address(1), refusal(), now).is_retriable());
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
        standing.accepted(&address(1));
        let mut told = Vec::new();
        for tenth in 0..25 {
            let now = start + tenth * COOL_DOWN / 10;
            match standing.may_try(&address(2), now) {
                Ok(()) => told.push((tenth, standing.refused(&address(2), refusal(), now).is_retriable())),
                Err(error) => assert!(error.is_retriable() || tenth >= 20),
            }
        }
        assert_eq!(told, [(0, true), (10, true), (20, false)]);
        // Others are not concerned, and one that takes them forgets.
        standing.may_try(&address(1), start).unwrap();
        standing.accepted(&address(2));
        standing.may_try(&address(2), start).unwrap();
        assert!(standing.refused(&address(2), refusal(), start).is_retriable());
    }

    #[test]
    fn refusals_of_connections_that_were_made_together_count_once() {
        let (standing, start) = (Standing::default(), Instant::now());
        standing.accepted(&address(1));
        for tenth in 0..9 {
            let now = start + tenth * COOL_DOWN / 10;
            assert!(standing.refused(&address(1), refusal(), now).is_retriable());
        }
        standing.may_try(&address(1), start + COOL_DOWN).unwrap();
    }

    #[test]
    fn a_client_that_was_believed_waits_for_credentials_as_long_as_it_takes() {
        let standing = Standing::default();
        standing.accepted(&address(1));
        for _ in 0..10 {
            let error = Error::new(ErrorKind::Authentication, "no token");
            assert!(standing.unprepared(error).is_retriable());
        }
        let error = Error::closed("client");
        assert!(!standing.unprepared(error).is_retriable());
    }
}
