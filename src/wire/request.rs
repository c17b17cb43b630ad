//! Requests to bytes, and bytes to answers.

use std::ops::Deref;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::RequestHeader,
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use zeroize::Zeroize;

use crate::{
    error::{Error, ErrorKind, Result},
    wire::{api, layout},
};

/// Appends a request as a whole frame, its length in front.
pub(crate) fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    out: &mut BytesMut,
) -> Result<()> {
    let start = out.len();
    let header = header::<R>(version, correlation_id, client_id);
    out.extend_from_slice(&[0; 4]);
    header
        .encode(out, R::header_version(version))
        .and_then(|()| request.encode(out, version))
        .map_err(|error| {
            // The one way this happens: an option that the broker's version of the request has no field for.
            Error::new(
                ErrorKind::Unsupported,
                format!("version {version} of the request cannot carry this: {error}"),
            )
            .in_api(api::name(R::KEY))
        })?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| {
        Error::new(ErrorKind::TooLarge, "a request is larger than a frame can be").in_api(api::name(R::KEY))
    })?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The same for a request that may carry a secret.
pub(crate) fn encode_secret<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Wiped> {
    // Room for all of it: a buffer that grows leaves what was in it where it was. What has no size cannot be encoded either.
    let header = header::<R>(version, correlation_id, client_id).compute_size(R::header_version(version));
    let size = header.and_then(|header| Ok(4 + header + request.compute_size(version)?));
    let mut frame = Wiped(BytesMut::with_capacity(size.unwrap_or(0)));
    encode(request, version, correlation_id, client_id, &mut frame.0)?;
    Ok(frame)
}

/// A frame in which a secret may be: wiped when it is dropped.
pub(crate) struct Wiped(BytesMut);

impl Deref for Wiped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn header<R: Request>(version: i16, correlation_id: i32, client_id: &str) -> RequestHeader {
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())))
}

/// The request whose answer this frame is.
pub(crate) fn correlation_id(frame: &[u8]) -> Result<i32> {
    match frame.first_chunk() {
        Some(id) => Ok(i32::from_be_bytes(*id)),
        None => Err(Error::protocol("an answer is too short to name its request")),
    }
}

/// Decodes an answer: a frame's body, starting with its header. Whatever the bytes are, it does not panic, and
/// allocates no more than a small multiple of their length.
pub(crate) fn decode<R: Request>(version: i16, frame: Bytes) -> Result<R::Response> {
    let name = api::name(R::KEY);
    let mut body = frame;
    skip_header(R::Response::header_version(version), &mut body).map_err(|error| error.in_api(name))?;
    // The decoder reserves memory by the counts it reads, so they must hold before it runs.
    layout::check(R::KEY, version, &body).map_err(|error| {
        Error::protocol(format!("an answer (version {version}) does not hold: {error}")).in_api(name)
    })?;
    R::Response::decode(&mut body, version)
        .map_err(|error| Error::protocol(format!("an answer (version {version}) cannot be read: {error}")).in_api(name))
}

/// Version 0: the correlation ID; version 1: tagged fields behind it, of which there are none that matter.
fn skip_header(version: i16, body: &mut Bytes) -> Result<()> {
    let short = || Error::protocol("an answer ends within its header");
    if body.len() < 4 {
        return Err(short());
    }
    body.advance(4);
    if version < 1 {
        return Ok(());
    }
    for _ in 0..varint(body).ok_or_else(short)? {
        varint(body).ok_or_else(short)?;
        let size = varint(body).ok_or_else(short)? as usize;
        if size > body.len() {
            return Err(short());
        }
        body.advance(size);
    }
    Ok(())
}

fn varint(body: &mut Bytes) -> Option<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let byte = body.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        ApiVersionsRequest, MetadataRequest, MetadataResponse, ResponseHeader, SaslAuthenticateRequest,
        SaslHandshakeRequest,
    };

    use super::*;

    fn answer(version: i16) -> Bytes {
        let mut frame = BytesMut::new();
        ResponseHeader::default()
            .with_correlation_id(7)
            .encode(&mut frame, MetadataResponse::header_version(version))
            .unwrap();
        MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_static_str("here")))
            .encode(&mut frame, version)
            .unwrap();
        frame.freeze()
    }

    #[test]
    fn a_request_is_one_frame() {
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&ApiVersionsRequest::default(), 0, 258, "me", &mut out).unwrap();
        assert_eq!(&out[..], b"before\0\0\0\x0c\0\x12\0\0\0\0\x01\x02\0\x02me");
    }

    #[test]
    fn a_secret_is_written_to_one_place_only() {
        fn written<R: Request>(request: &R, version: i16) {
            let frame = encode_secret(request, version, 258, "me").unwrap();
            let mut known = BytesMut::new();
            encode(request, version, 258, "me", &mut known).unwrap();
            assert_eq!(frame[..], known);
            // It has not grown.
            assert_eq!(frame.0.capacity(), frame.len());
        }
        for length in [0, 1, 300, 70_000] {
            let token = Bytes::from(vec![7; length]);
            let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
            (0..=2).for_each(|version| written(&request, version));
        }
        let mechanism = StrBytes::from_static_str("SCRAM-SHA-512");
        let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
        (0..=1).for_each(|version| written(&request, version));
        (0..=3).for_each(|version| written(&ApiVersionsRequest::default(), version));
    }

    #[test]
    fn answers_with_either_header_are_read() {
        for version in [4, 9, 13] {
            let frame = answer(version);
            assert_eq!(correlation_id(&frame).unwrap(), 7);
            let read = decode::<MetadataRequest>(version, frame).unwrap();
            assert_eq!(read.cluster_id.as_deref(), Some("here"));
        }
    }

    #[test]
    fn a_cut_answer_is_an_error_that_names_its_api() {
        for version in [4, 13] {
            let frame = answer(version);
            for length in 0..frame.len() {
                let error = decode::<MetadataRequest>(version, frame.slice(..length)).unwrap_err();
                assert_eq!((error.kind(), error.api()), (ErrorKind::Protocol, Some("Metadata")));
            }
        }
        assert!(correlation_id(b"abc").is_err());
    }

    #[test]
    fn what_a_version_cannot_carry_is_unsupported() {
        let request = MetadataRequest::default().with_allow_auto_topic_creation(false);
        let error = encode(&request, 1, 0, "me", &mut BytesMut::new()).unwrap_err();
        assert_eq!((error.kind(), error.api()), (ErrorKind::Unsupported, Some("Metadata")));
    }

    #[test]
    fn tagged_fields_of_the_header_are_skipped() {
        let skip = |bytes: &'static [u8]| {
            let mut body = Bytes::from_static(bytes);
            skip_header(1, &mut body).map(|()| body)
        };
        assert_eq!(&skip(b"\0\0\0\x01\x02\x00\x03abc\x01\x00rest").unwrap()[..], b"rest");
        assert!(skip(b"\0\0\0\x01\x01\x00\x05abc").is_err());
        assert!(skip(b"\0\0\0\x01\xff\xff\xff\xff\xff\xff").is_err());
    }
}
