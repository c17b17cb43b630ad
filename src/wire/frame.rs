//! Frames: four bytes that tell a length, and as many bytes of one request or answer.

use std::{
    io::{self, Read},
    iter,
};

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};

/// An answer larger than this is refused: 100 MiB, as a broker refuses requests by default.
pub(crate) const DEFAULT_LIMIT: usize = 100 * 1024 * 1024;

/// A frame to be sent, its length in front, as the pieces in which it lies in memory.
pub(crate) trait Pieces {
    /// In their order.
    fn pieces(&self) -> impl Iterator<Item = &[u8]>;
}

impl Pieces for BytesMut {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        iter::once(&self[..])
    }
}

/// The length that a frame's first four bytes tell, if such a frame can be.
pub(crate) fn length(prefix: [u8; 4], limit: usize) -> Result<usize> {
    let claimed = i32::from_be_bytes(prefix);
    match usize::try_from(claimed) {
        // Every answer starts with a correlation ID.
        Ok(length) if (4..=limit).contains(&length) => Ok(length),
        _ => Err(stranger(prefix).unwrap_or_else(|| match claimed {
            ..4 => Error::protocol(format!("a frame claims to be {claimed} bytes long")),
            _ => Error::new(
                ErrorKind::TooLarge,
                format!("a frame claims to be {claimed} bytes long, more than the limit of {limit}"),
            ),
        })),
    }
}

/// Reads one frame: its body, or `None` when the other side has closed the connection before its first byte.
///
/// The buffer grows with what arrives, never by what a length claims.
pub(crate) fn read(from: &mut impl Read, limit: usize) -> Result<Option<Bytes>> {
    let mut prefix = [0; 4];
    let mut got = 0;
    while got < prefix.len() {
        match from.read(&mut prefix[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(truncated(got, prefix.len())),
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("reading an answer", error)),
        }
    }
    let length = length(prefix, limit)?;
    let mut body = Vec::new();
    while body.len() < length {
        let step = (length - body.len()).min(body.len().max(FIRST_STEP));
        body.reserve_exact(step);
        let got = from
            .by_ref()
            .take(step as u64)
            .read_to_end(&mut body)
            .map_err(|error| Error::io("reading an answer", error))?;
        if got < step {
            return Err(truncated(body.len(), length));
        }
    }
    Ok(Some(Bytes::from(body)))
}

/// Enough for most answers; each further step doubles what has arrived.
const FIRST_STEP: usize = 64 * 1024;

fn truncated(got: usize, of: usize) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("the connection ended after {got} of the {of} bytes of an answer"),
    )
}

/// Recognises what speaks something else than Kafka by its first bytes.
fn stranger(prefix: [u8; 4]) -> Option<Error> {
    let sentence = match prefix {
        // Content type alert or handshake, version 3.x.
        [0x15 | 0x16, 0x03, ..] => "the port speaks TLS, and this client does not: see ClientBuilder::tls".to_owned(),
        [b'H', b'T', b'T', b'P'] => "the port speaks HTTP, not Kafka's protocol".to_owned(),
        text if text.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
            format!(
                "the port does not speak Kafka's protocol: it sent {:?}",
                String::from_utf8_lossy(&text)
            )
        }
        _ => return None,
    };
    Some(Error::protocol(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, as a slow network does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&i32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    #[test]
    fn frames_are_read_whole_however_they_arrive() {
        let body: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
        let bytes = [framed(b"first"), framed(&body)].concat();
        for step in [1, 3, 70_000, usize::MAX] {
            let mut from = Trickle(&bytes, step);
            assert_eq!(&read(&mut from, DEFAULT_LIMIT).unwrap().unwrap()[..], b"first");
            assert_eq!(&read(&mut from, DEFAULT_LIMIT).unwrap().unwrap()[..], body);
            assert!(read(&mut from, DEFAULT_LIMIT).unwrap().is_none());
        }
    }

    #[test]
    fn impossible_lengths_are_named() {
        let tell = |prefix: [u8; 4]| {
            let error = length(prefix, 1024).unwrap_err();
            (error.kind(), error.to_string())
        };
        assert_eq!(
            tell([0, 0, 4, 1]),
            (
                ErrorKind::TooLarge,
                "a frame claims to be 1025 bytes long, more than the limit of 1024".to_owned()
            )
        );
        assert_eq!(
            tell([0xff; 4]),
            (ErrorKind::Protocol, "a frame claims to be -1 bytes long".to_owned())
        );
        assert_eq!(tell([0, 0, 0, 3]).0, ErrorKind::Protocol);
    }

    #[test]
    fn other_protocols_are_recognised() {
        let tell = |bytes: &[u8]| read(&mut &bytes[..], DEFAULT_LIMIT).unwrap_err().to_string();
        assert!(tell(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46]).contains("speaks TLS"));
        assert!(tell(b"HTTP/1.1 400 Bad Request\r\n").contains("speaks HTTP"));
        assert!(tell(b"SSH-2.0-x").contains("it sent \"SSH-\""));
    }

    #[test]
    fn an_end_within_a_frame_says_how_much_was_missing() {
        let tell = |bytes: &[u8]| read(&mut &bytes[..], DEFAULT_LIMIT).unwrap_err();
        let error = tell(&framed(b"hello")[..7]);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(
            error.to_string(),
            "the connection ended after 3 of the 5 bytes of an answer"
        );
        assert_eq!(tell(&[0, 0]).kind(), ErrorKind::Io);
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        // 64 MiB claimed, six bytes sent: only the first step is reserved.
        let error = read(&mut &[0x04, 0, 0, 0, 1, 2, 3, 4, 5, 6][..], DEFAULT_LIMIT).unwrap_err();
        assert!(error.to_string().contains("6 of the 67108864"), "{error}");
    }
}
