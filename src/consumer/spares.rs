//! Buffers of records that come back when the last message in them is gone, to be filled again.
//!
//! A new buffer of some megabytes costs more than to fill it: the system clears it page by page, as each is touched.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Smaller buffers come from the allocator, which keeps them itself.
const LEAST: usize = 64 << 10;

/// Buffers that nobody uses, up to so many bytes.
#[derive(Debug)]
pub(crate) struct Spares {
    limit: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

/// A buffer with records in it; goes back when the last view of it is dropped.
struct Lent {
    bytes: Vec<u8>,
    /// Behind them the buffer is anything.
    length: usize,
    home: Weak<Spares>,
}

impl Spares {
    /// `limit` is what may lie here unused.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            idle: Mutex::default(),
        })
    }

    /// A buffer for about `size` bytes, with anything in it. It is not much larger than that: what is small must not
    /// keep megabytes alive.
    pub(crate) fn take(&self, size: usize) -> Vec<u8> {
        if size < LEAST {
            return Vec::with_capacity(size);
        }
        // Answers differ by a batch or so, and their buffers should fit each other.
        let rounded = size.next_multiple_of((size / 64).next_power_of_two());
        let mut idle = self.idle.lock();
        // What came last may still lie in the processor's cache.
        let fitting = idle
            .iter()
            .rposition(|spare| (size..=rounded).contains(&spare.capacity()));
        match fitting {
            Some(at) => idle.remove(at),
            None => {
                drop(idle);
                vec![0; rounded]
            }
        }
    }

    /// A buffer for what inflates to about `size` bytes: sizes that are guessed differ by more than those of answers.
    pub(crate) fn take_about(&self, size: usize) -> Vec<u8> {
        self.take(size.next_multiple_of((size / 4).next_power_of_two()))
    }

    /// Records that have come into a buffer, `length` bytes, to be seen by anybody for any time.
    pub(crate) fn lend(self: &Arc<Self>, mut bytes: Vec<u8>, length: usize) -> Bytes {
        if bytes.capacity() < LEAST {
            bytes.truncate(length);
            return Bytes::from(bytes);
        }
        Bytes::from_owner(Lent {
            bytes,
            length,
            home: Arc::downgrade(self),
        })
    }

    /// Nothing is coming in: the memory may go to somebody else.
    pub(crate) fn clear(&self) {
        self.idle.lock().clear();
    }

    /// Never waits, since whoever drops the last view of a buffer may hold any lock.
    fn put(&self, bytes: Vec<u8>) {
        let Some(mut idle) = self.idle.try_lock() else { return };
        idle.push(bytes);
        let mut kept: usize = idle.iter().map(Vec::capacity).sum();
        // The oldest go: what came last fits what is coming.
        while kept > self.limit && !idle.is_empty() {
            kept -= idle.remove(0).capacity();
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1 << 20;

    #[test]
    fn a_buffer_comes_back_with_its_last_view() {
        let spares = Spares::new(8 * MB);
        let mut buffer = spares.take(4 * MB - 100);
        buffer[0] = 7;
        let bytes = spares.lend(buffer, 4 * MB - 100);
        let view = bytes.slice(..10);
        drop(bytes);
        assert!(spares.idle.lock().is_empty());
        drop(view);
        assert_eq!(spares.idle.lock().len(), 1);
        assert_eq!(spares.take(4 * MB - 5000)[0], 7);
        assert!(spares.idle.lock().is_empty());
    }

    #[test]
    fn little_never_gets_a_large_buffer() {
        let spares = Spares::new(8 * MB);
        drop(spares.lend(vec![0; 4 * MB], MB));
        for size in [1, 1000, LEAST, MB, 3 * MB] {
            assert!(spares.take(size).capacity() <= size + size / 32, "{size}");
        }
    }

    #[test]
    fn what_lies_unused_is_bounded() {
        let spares = Spares::new(8 * MB);
        let lent: Vec<_> = (0..5).map(|_| spares.lend(spares.take(3 * MB), 1)).collect();
        drop(lent);
        assert_eq!(spares.idle.lock().len(), 2);
        drop(spares.lend(vec![0; 9 * MB], 9 * MB));
        assert!(spares.idle.lock().is_empty());
        spares.clear();
    }

    #[test]
    fn a_buffer_outlives_its_stream() {
        let spares = Spares::new(8 * MB);
        let bytes = spares.lend(vec![1; MB], MB);
        drop(spares);
        assert_eq!(bytes[MB - 1], 1);
    }
}
