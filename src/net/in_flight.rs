//! Requests that await their answers.

use std::{collections::VecDeque, time::Instant};

use crate::error::{Error, Result};

/// Who waits for what on one connection; open, or over for one reason.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    /// In the order of their requests, which is the order of the answers from a broker that behaves.
    waiting: VecDeque<Entry<T>>,
    /// How many requests that are not answered are being written.
    unanswered: usize,
    /// Until when the broker may be at work on one of those that were.
    busy_until: Option<Instant>,
    next_id: i32,
    /// Why nothing more is to come; `waiting` is empty then.
    over: Option<Error>,
}

#[derive(Debug)]
struct Entry<T> {
    id: i32,
    expires: Instant,
    waiter: T,
}

impl<T> InFlight<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            unanswered: 0,
            busy_until: None,
            next_id: 0,
            over: None,
        }
    }

    /// A correlation ID for one more request, and when its answer is overdue. An error once the connection is over.
    ///
    /// A broker answers in order, so a request behind another one is not due before that one.
    pub(crate) fn add(&mut self, expires: Instant, waiter: T) -> Result<(i32, Instant)> {
        let id = self.next_id()?;
        let before = self.waiting.back().map(|entry| entry.expires);
        let expires = before.map_or(expires, |before| before.max(expires));
        self.waiting.push_back(Entry { id, expires, waiter });
        Ok((id, expires))
    }

    /// A correlation ID for a request that the broker does not answer, until
    /// [`finish_unanswered`](Self::finish_unanswered). An error once the connection is over.
    pub(crate) fn begin_unanswered(&mut self) -> Result<i32> {
        let id = self.next_id()?;
        self.unanswered += 1;
        Ok(id)
    }

    /// Such a request was written, and is done by then at the latest; or it was not sent.
    pub(crate) fn finish_unanswered(&mut self, done: Option<Instant>) {
        self.unanswered -= 1;
        self.busy_until = self.busy_until.max(done);
    }

    /// Who waits for this answer. One that nobody asked for is a breach of the protocol.
    pub(crate) fn take(&mut self, id: i32) -> Result<T> {
        match self.remove(id) {
            Some(waiter) => Ok(waiter),
            None => Err(Error::protocol(format!(
                "the broker answered request {id}, which was not asked or is answered already"
            ))),
        }
    }

    /// Forgets a request that was not sent.
    pub(crate) fn remove(&mut self, id: i32) -> Option<T> {
        let at = self.waiting.iter().position(|entry| entry.id == id)?;
        self.waiting.remove(at).map(|entry| entry.waiter)
    }

    /// Nothing more will be answered. Gives back those who wait, all to be told the first cause there was.
    pub(crate) fn end(&mut self, cause: Error) -> (Vec<T>, Error) {
        let cause = self.over.get_or_insert(cause).clone();
        let waiting = self.waiting.drain(..).map(|entry| entry.waiter).collect();
        (waiting, cause)
    }

    pub(crate) fn over(&self) -> Option<&Error> {
        self.over.as_ref()
    }

    /// Nothing is asked, awaited or, for all that can be known of what is not answered, being worked on.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.waiting.is_empty() && self.unanswered == 0 && self.busy_until.is_none_or(|until| until <= now)
    }

    #[cfg(test)]
    /// How many answers are.
    pub(crate) fn awaited(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no answer is awaited.
    pub(crate) fn is_all_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether an answer is overdue.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.waiting.front().is_some_and(|entry| entry.expires <= now)
    }

    fn next_id(&mut self) -> Result<i32> {
        if let Some(cause) = &self.over {
            return Err(cause.clone());
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1) & i32::MAX;
        Ok(id)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some point in time to count from")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut calls = InFlight::new();
        let now = Instant::now();
        let ids: Vec<i32> = ["a", "b", "c"].map(|name| calls.add(now, name).unwrap().0).into();
        assert_eq!(calls.take(ids[1]).unwrap(), "b");
        assert_eq!(calls.take(ids[0]).unwrap(), "a");
        assert_eq!(calls.take(ids[1]).unwrap_err().kind(), ErrorKind::Protocol);
        assert!(calls.take(99).unwrap_err().to_string().contains("request 99"));
        assert_eq!(calls.remove(ids[2]), Some("c"));
        assert!(calls.is_idle(now));
    }

    #[test]
    fn all_are_told_the_first_cause_and_nothing_is_added_after_it() {
        let mut calls = InFlight::new();
        let now = Instant::now();
        calls.add(now, 1).unwrap();
        calls.add(now, 2).unwrap();
        let (waiting, cause) = calls.end(Error::closed("client"));
        assert_eq!((waiting, cause.kind()), (vec![1, 2], ErrorKind::Closed));
        let (waiting, cause) = calls.end(Error::protocol("later"));
        assert_eq!((waiting.len(), cause.kind()), (0, ErrorKind::Closed));
        assert_eq!(calls.add(now, 3).unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn a_request_is_not_due_before_the_one_in_front_of_it() {
        let mut calls = InFlight::new();
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        assert_eq!(calls.add(late, 1).unwrap().1, late);
        assert_eq!(calls.add(soon, 2).unwrap().1, late);
        assert!(!calls.is_overdue(soon));
        assert!(calls.is_overdue(late));
        assert!(!InFlight::<()>::new().is_overdue(late));
    }

    #[test]
    fn what_is_not_answered_takes_an_id_and_keeps_the_connection_from_being_idle_for_a_while() {
        let mut calls = InFlight::new();
        let now = Instant::now();
        let done = now + Duration::from_secs(9);
        assert_eq!(calls.begin_unanswered().unwrap(), 0);
        assert_eq!(calls.begin_unanswered().unwrap(), 1);
        assert_eq!(calls.add(now, ()).unwrap().0, 2);
        calls.take(2).unwrap();
        assert!(!calls.is_overdue(done) && !calls.is_idle(done));
        calls.finish_unanswered(Some(done));
        assert!(!calls.is_idle(done));
        calls.finish_unanswered(None);
        assert!(!calls.is_idle(now) && calls.is_idle(done));
        assert_eq!(calls.take(0).unwrap_err().kind(), ErrorKind::Protocol);
        calls.end(Error::closed("client"));
        assert_eq!(calls.begin_unanswered().unwrap_err().kind(), ErrorKind::Closed);
    }

    #[test]
    fn what_is_not_answered_and_not_sent_leaves_no_trace() {
        let mut calls = InFlight::<()>::new();
        let now = Instant::now();
        calls.begin_unanswered().unwrap();
        assert!(!calls.is_idle(now));
        calls.finish_unanswered(None);
        assert!(calls.is_idle(now));
    }

    #[test]
    fn ids_stay_positive_when_they_wrap() {
        let mut calls = InFlight::new();
        calls.next_id = i32::MAX;
        let now = Instant::now();
        assert_eq!(calls.add(now, ()).unwrap().0, i32::MAX);
        assert_eq!(calls.add(now, ()).unwrap().0, 0);
    }
}
