//! Where codecs write to.

/// Bytes that are written from front to back, with room behind them that need not be cleared before it is written to.
#[derive(Debug, Default)]
pub(crate) struct Inflated {
    /// All of it can be written to; what lies behind `end` is anything.
    bytes: Vec<u8>,
    /// `end <= bytes.len()`
    end: usize,
}

impl Inflated {
    /// Empty, with the room that these bytes take.
    pub(crate) fn over(bytes: Vec<u8>) -> Self {
        Self { bytes, end: 0 }
    }

    /// What is there stays in front.
    pub(super) fn behind(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { bytes, end }
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.end = self.end.min(length);
    }

    /// The buffer as a whole, and how much of it was written.
    pub(crate) fn into_parts(self) -> (Vec<u8>, usize) {
        (self.bytes, self.end)
    }

    pub(super) fn extend_from_slice(&mut self, more: &[u8]) {
        let (_, room) = self.with_room(more.len(), more.len());
        room.copy_from_slice(more);
        self.end += more.len();
    }

    /// What was written, and room for `least` bytes behind it: more if it is there already, but no more than `most`.
    pub(super) fn with_room(&mut self, least: usize, most: usize) -> (&[u8], &mut [u8]) {
        let wanted = self.end.saturating_add(least);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        let (written, room) = self.bytes.split_at_mut(self.end);
        let length = room.len().min(most.max(least));
        (written, &mut room[..length])
    }

    /// So much of the room was written to.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        expect(dead_code, reason = "only codecs write")
    )]
    pub(super) fn wrote(&mut self, length: usize) {
        self.end = self.end.saturating_add(length).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_the_buffer_is_room_and_is_never_seen() {
        let mut inflated = Inflated::over(vec![7; 100]);
        assert!(inflated.is_empty());
        assert_eq!(inflated.as_slice(), b"");
        inflated.extend_from_slice(b"abc");
        let (written, room) = inflated.with_room(10, 20);
        assert_eq!((written, room.len()), (&b"abc"[..], 20));
        room[..2].copy_from_slice(b"de");
        inflated.wrote(2);
        assert_eq!(inflated.as_slice(), b"abcde");
        assert_eq!(inflated.with_room(1000, 0).1.len(), 1000);
        inflated.truncate(1);
        assert_eq!(inflated.as_slice(), b"a");
        let (bytes, length) = inflated.into_parts();
        assert_eq!(&bytes[..length], b"a");
    }
}
