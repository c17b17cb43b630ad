//! Iterators over a stream: one partition at a time, without anything shared on the way.

use std::{
    fmt,
    iter::FusedIterator,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    buffer::{Shared, Turn},
    lease::Lease,
    message::{Batch, Message},
    stream::Stream,
};
use crate::{
    deadline::Deadline,
    error::{Error, Result},
};

/// What [`Iter::next_timeout`] brings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next {
    /// The next message.
    Message(Message),
    /// Nothing came in time.
    TimedOut,
    /// The stream is closed, or has reached its end.
    Ended,
}

/// What keeps the stream alive while it is iterated.
enum Owner<'s> {
    Owned {
        _stream: Stream,
    },
    #[allow(
        dead_code,
        reason = "held for its lifetime: a stream cannot be closed while it is iterated by reference"
    )]
    Borrowed(&'s Stream),
}

/// The messages of a [`Stream`]. It waits for the next one without a limit, and ends when the stream is closed or has
/// reached its end.
///
/// Asking for the next message says that the program is done with the last one (in a group: unless it still has it, or the
/// mode is [`Explicit`](crate::AckMode::Explicit)). When an iterator is dropped before, that message and what came with it
/// are given again, to the next iterator that asks. In a group, a message that the program has moved elsewhere is not given
/// again: it is done when its own ack says so.
pub struct Iter<'s> {
    // Before the owner: it goes back into a stream that is still there.
    lease: Option<Lease>,
    shared: Arc<Shared>,
    owner: Owner<'s>,
}

impl<'s> Iter<'s> {
    /// Keeps the stream, and ends it with itself.
    pub(super) fn owned(shared: Arc<Shared>, stream: Stream) -> Self {
        Self::new(shared, Owner::Owned { _stream: stream })
    }

    pub(super) fn borrowed(shared: Arc<Shared>, stream: &'s Stream) -> Self {
        Self::new(shared, Owner::Borrowed(stream))
    }

    fn new(shared: Arc<Shared>, owner: Owner<'s>) -> Self {
        Self {
            lease: None,
            shared,
            owner,
        }
    }

    /// The next message, if one comes within this time; zero looks without waiting.
    ///
    /// # Errors
    ///
    /// As the iterator itself.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Next> {
        let deadline = Deadline::after(timeout, "timeout");
        match self.advance(Some(deadline.at()), Lease::next) {
            Step::Item(item) => item.map(Next::Message),
            Step::TimedOut => Ok(Next::TimedOut),
            Step::Ended => Ok(Next::Ended),
        }
    }

    /// The next batch: all that is decoded of one partition, from where this iterator stands.
    ///
    /// Asking for more says that the program is done with it.
    pub fn next_batch(&mut self) -> Option<Result<Batch>> {
        match self.advance(None, Lease::next_batch) {
            Step::Item(item) => Some(item),
            Step::TimedOut | Step::Ended => None,
        }
    }

    // Not what `next` returns: the compiler would then make room for it in memory, and the common message goes there too.
    #[cold]
    #[inline(never)]
    fn next_slow(&mut self) -> Step<Message> {
        self.advance(None, Lease::next)
    }

    fn advance<T>(&mut self, until: Option<Instant>, take: impl Fn(&mut Lease) -> Option<Result<T>>) -> Step<T> {
        loop {
            if let Some(lease) = &mut self.lease {
                match take(lease) {
                    Some(Ok(item)) => return Step::Item(Ok(item)),
                    Some(Err(error)) => return Step::Item(Err(self.fail(error))),
                    None => {}
                }
            }
            match self.shared.next_lease(self.lease.take(), until) {
                Turn::Lease(lease) => self.lease = Some(lease),
                Turn::Failed(error) => return Step::Item(Err(error)),
                Turn::TimedOut => return Step::TimedOut,
                Turn::Ended => return Step::Ended,
            }
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        if let Some(lease) = self.lease.take() {
            self.shared.fail_leased(lease, error.clone());
        }
        error
    }
}

enum Step<T> {
    Item(Result<T>),
    TimedOut,
    Ended,
}

impl Iterator for Iter<'_> {
    type Item = Result<Message>;

    #[inline]
    fn next(&mut self) -> Option<Result<Message>> {
        match self.lease.as_mut().and_then(Lease::next_common) {
            Some(message) => Some(Ok(message)),
            None => match self.next_slow() {
                Step::Item(item) => Some(item),
                Step::TimedOut | Step::Ended => None,
            },
        }
    }
}

impl FusedIterator for Iter<'_> {}

impl Drop for Iter<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.shared.put_back(lease);
        }
    }
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owned = matches!(self.owner, Owner::Owned { .. });
        f.debug_struct("Iter").field("owned", &owned).finish_non_exhaustive()
    }
}

/// The batches of a [`Stream`]: [`Stream::batches`].
#[derive(Debug)]
pub struct Batches<'s> {
    iter: Iter<'s>,
}

impl<'s> Batches<'s> {
    pub(super) fn new(iter: Iter<'s>) -> Self {
        Self { iter }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.iter.next_batch()
    }
}

impl FusedIterator for Batches<'_> {}
