//! Connections that have to say who they are.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ApiVersionsRequest, MetadataRequest, ProduceRequest, SaslAuthenticateRequest, SaslAuthenticateResponse,
        SaslHandshakeRequest, SaslHandshakeResponse,
    },
    protocol::StrBytes,
};
use klamm_fake::{
    Action, Api, FakeCluster,
    error_code::{ILLEGAL_SASL_STATE, NONE, SASL_AUTHENTICATION_FAILED, UNSUPPORTED_SASL_MECHANISM},
};

use crate::raw::{Connection, produce, records};

const ALICE: &[u8] = b"\0alice\0secret";

fn cluster() -> FakeCluster {
    FakeCluster::builder()
        .topic("t", 1)
        .sasl_plain("alice", "secret")
        .sasl_scram("bob", "hidden")
        .session_lifetime(Duration::from_secs(10))
        .start()
        .unwrap()
}

fn handshake(connection: &mut Connection, version: i16, mechanism: &str) -> SaslHandshakeResponse {
    let mechanism = StrBytes::from_string(mechanism.to_owned());
    let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
    connection.ask(&request, version)
}

fn authenticate(connection: &mut Connection, version: i16, token: &[u8]) -> SaslAuthenticateResponse {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(token));
    connection.ask(&request, version)
}

/// A connection that is somebody's.
fn alice(cluster: &FakeCluster) -> Connection {
    let mut connection = Connection::to(cluster, 1);
    assert_eq!(handshake(&mut connection, 1, "PLAIN").error_code, NONE);
    assert_eq!(authenticate(&mut connection, 2, ALICE).error_code, NONE);
    connection
}

#[test]
fn who_has_proved_who_it_is_may_ask() {
    let cluster = cluster();
    for version in 0..=2 {
        let mut connection = Connection::to(&cluster, 1);
        let versions = connection.ask(&ApiVersionsRequest::default(), 2);
        for api in [Api::SaslHandshake, Api::SaslAuthenticate] {
            assert!(versions.api_keys.iter().any(|offered| offered.api_key == api.key()));
        }
        let answer = handshake(&mut connection, 1, "PLAIN");
        assert_eq!(answer.error_code, NONE);
        assert_eq!(answer.mechanisms.len(), 3);
        let answer = authenticate(&mut connection, version, ALICE);
        assert_eq!((answer.error_code, answer.error_message.as_deref()), (NONE, Some("")));
        let lifetime = if version > 0 { 10_000 } else { 0 };
        assert_eq!(answer.session_lifetime_ms, lifetime);
        assert_eq!(connection.produce("t", 0, records(1)).error_code, NONE);
    }
    assert_eq!(cluster.end_offset("t", 0), 3);
}

#[test]
fn bare_tokens_follow_the_first_version_of_the_handshake() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(handshake(&mut connection, 0, "PLAIN").error_code, NONE);
    connection.send_frame(ALICE);
    assert_eq!(connection.frame().unwrap(), Bytes::new());
    assert_eq!(connection.produce("t", 0, records(1)).error_code, NONE);
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(handshake(&mut connection, 0, "SCRAM-SHA-512").error_code, NONE);
    connection.send_frame(b"n,,n=bob,r=abc");
    let challenge = connection.frame().unwrap();
    assert!(
        challenge.starts_with(b"r=abc") && challenge.ends_with(b",i=4096"),
        "{challenge:?}"
    );
    connection.send_frame(b"c=biws,r=abc,p=AAAA");
    assert!(connection.is_over());
}

#[test]
fn a_request_of_nobody_ends_its_connection_and_does_nothing() {
    let cluster = cluster();
    for acks in [-1, 0] {
        let mut connection = Connection::to(&cluster, 1);
        connection.send(&produce("t", 0, records(1)).with_acks(acks), 12);
        assert!(connection.is_over());
    }
    let mut connection = Connection::to(&cluster, 1);
    handshake(&mut connection, 1, "PLAIN");
    // On the way to a session Kafka says why.
    connection.send(&produce("t", 0, records(1)), 12);
    let answer = connection.answer::<ProduceRequest>(12).unwrap();
    assert_eq!(
        answer.responses[0].partition_responses[0].error_code,
        ILLEGAL_SASL_STATE
    );
    assert!(connection.is_over());
    assert_eq!(cluster.end_offset("t", 0), 0);
    let mut connection = Connection::to(&cluster, 1);
    handshake(&mut connection, 1, "PLAIN");
    // In a version that nobody knows.
    connection.send_frame(&[0, 18, 0, 99, 0, 0, 0, 77, 0, 0, 0]);
    let answer = connection.answer::<ApiVersionsRequest>(0).unwrap();
    assert_eq!(answer.error_code, ILLEGAL_SASL_STATE);
    assert!(connection.is_over());
}

#[test]
fn refusals_are_kafka_s_and_end_the_connection() {
    let cluster = cluster();
    let mut connection = Connection::to(&cluster, 1);
    let answer = handshake(&mut connection, 1, "GSSAPI");
    assert_eq!(answer.error_code, UNSUPPORTED_SASL_MECHANISM);
    let names: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
    assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    assert!(connection.is_over());
    let mut connection = Connection::to(&cluster, 1);
    handshake(&mut connection, 1, "PLAIN");
    let answer = authenticate(&mut connection, 2, b"\0alice\0guess");
    assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED);
    assert_eq!(
        answer.error_message.as_deref(),
        Some("Authentication failed: Invalid username or password")
    );
    assert!(connection.is_over());
}

#[test]
fn a_session_that_has_ended_is_the_end_of_its_connection_unless_it_is_renewed() {
    let cluster = cluster();
    let (mut renewed, mut forgotten) = (alice(&cluster), alice(&cluster));
    for _ in 0..3 {
        cluster.advance(Duration::from_secs(8));
        assert_eq!(handshake(&mut renewed, 1, "PLAIN").error_code, NONE);
        assert_eq!(authenticate(&mut renewed, 2, ALICE).session_lifetime_ms, 10_000);
        assert_eq!(renewed.metadata(&["t"]).topics[0].error_code, NONE);
    }
    forgotten.send(&MetadataRequest::default(), 4);
    assert!(forgotten.is_over());
}

#[test]
fn what_is_not_asked_for_is_refused_and_does_no_harm() {
    let open = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&open, 1);
    let answer = handshake(&mut connection, 1, "PLAIN");
    assert_eq!((answer.error_code, answer.mechanisms.len()), (ILLEGAL_SASL_STATE, 0));
    let answer = authenticate(&mut connection, 2, ALICE);
    assert_eq!(answer.error_code, ILLEGAL_SASL_STATE);
    assert_eq!(
        answer.error_message.as_deref(),
        Some("SaslAuthenticate request received after successful authentication")
    );
    assert_eq!(connection.metadata(&["t"]).topics[0].error_code, NONE);
}

#[test]
fn a_test_may_refuse_whom_it_likes() {
    let cluster = cluster();
    let hook = cluster.once(Api::SaslAuthenticate, |_| Action::Error(SASL_AUTHENTICATION_FAILED));
    let mut connection = Connection::to(&cluster, 1);
    handshake(&mut connection, 1, "PLAIN");
    let answer = authenticate(&mut connection, 2, ALICE);
    assert_eq!(answer.error_code, SASL_AUTHENTICATION_FAILED);
    assert!(connection.is_over());
    assert_eq!(hook.uses(), 1);
    alice(&cluster);
}
