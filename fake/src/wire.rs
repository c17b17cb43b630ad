//! Frames and headers: from a socket to a request, from an answer to bytes.

use std::io::{self, Read};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion},
};

use crate::api::Api;

/// What is known of a request before its body is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) api: Api,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client_id: String,
}

/// Reads one frame; `None` at the end of the connection.
pub(crate) fn read_frame(from: &mut impl Read, limit: usize) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is more than the {limit} that are allowed"),
        ));
    }
    let mut frame = Vec::new();
    // Grows as bytes arrive: a length alone shall cost nothing.
    if from.take(length as u64).read_to_end(&mut frame)? < length {
        return Ok(None);
    }
    Ok(Some(Bytes::from(frame)))
}

/// The API's number and version: what a broker looks at before it knows how to read the rest.
pub(crate) fn peek(frame: &[u8]) -> Option<(i16, i16, i32)> {
    let key = i16::from_be_bytes(frame.get(0..2)?.try_into().ok()?);
    let version = i16::from_be_bytes(frame.get(2..4)?.try_into().ok()?);
    let correlation = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
    Some((key, version, correlation))
}

/// Takes the header off a frame; `None` if it is none.
pub(crate) fn take_head(api: Api, version: i16, frame: &mut Bytes) -> Option<Head> {
    let header = RequestHeader::decode(frame, api.request_header_version(version)).ok()?;
    Some(Head {
        api,
        version,
        correlation: header.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
    })
}

/// A whole frame; `None` if the message holds something that this version cannot say.
pub(crate) fn frame<R: Encodable + HeaderVersion>(correlation: i32, version: i16, answer: &R) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut bytes, R::header_version(version)).ok()?;
    answer.encode(&mut bytes, version).ok()?;
    let length = i32::try_from(bytes.len() - 4).ok()?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Some(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_length_it_names() {
        let mut bytes: &[u8] = &[0, 0, 0, 3, 1, 2, 3, 9];
        assert_eq!(read_frame(&mut bytes, 3).unwrap().unwrap(), &[1, 2, 3][..]);
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn a_connection_may_end_anywhere() {
        for end in 0..7 {
            assert!(read_frame(&mut &[0, 0, 0, 3, 1, 2, 3][..end], 9).unwrap().is_none());
        }
    }

    #[test]
    fn no_length_beyond_the_limit_is_believed() {
        for length in [[0, 0, 0, 4], [0x7f, 255, 255, 255], [255; 4]] {
            let error = read_frame(&mut &length[..], 3).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
