//! Sending what the committer wants to be committed.

use std::sync::Arc;

use super::{Coordinator, WRITE, flight::Flight, now};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind},
    group::{member::Link, offsets},
};

impl Coordinator {
    pub(super) fn commit(&mut self) -> bool {
        let (Some(links), Some(identity)) = (&self.links, self.parts.member.identity()) else {
            return self.commit_nothing();
        };
        let shared = Arc::clone(&self.parts.shared);
        // Others may have gone on: what they commit must not be overwritten.
        let is_valid = self.parts.member.valid_until().is_some_and(|until| until > now());
        if !is_valid && (self.parts.committer.has_some() || !shared.progress().is_empty()) {
            return false;
        }
        for slot in shared.take_anew() {
            self.parts.committer.forget(slot);
        }
        let was_idle = self.parts.committer.is_idle();
        let Some(progress) = self.parts.committer.next(now(), || shared.progress()) else {
            return !was_idle && self.parts.committer.is_idle();
        };
        let request = offsets::commit(&self.parts.group, identity, &progress);
        let deadline = Deadline::after(WRITE, "writing to the coordinator");
        match links.get(Link::Group).send(&request, &deadline) {
            Ok(pending) => {
                self.flights.push(Flight::Commit(identity.clone(), pending));
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => self.fail(error),
            Err(error) => self.unsent(Link::Group, error),
        }
        // What the member makes of it is to be done before anything is waited for.
        true
    }

    /// Whoever waits for a commit of a member that owns nothing need not wait.
    pub(super) fn commit_nothing(&mut self) -> bool {
        if self.parts.member.identity().is_none() && !self.parts.committer.is_idle() {
            self.drop_commits(&Error::new(
                ErrorKind::Closed,
                "the group has taken this partition away",
            ));
            return true;
        }
        false
    }
}
