//! Connections, headers, versions.

use bytes::{BufMut, BytesMut};
use kafka_protocol::{
    messages::{ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, MetadataRequest},
    protocol::{Decodable, StrBytes},
};
use klamm_fake::{Api, FakeCluster, Profile};

use crate::raw::Connection;

const UNSUPPORTED_VERSION: i16 = 35;
const METADATA: i16 = 3;
const FETCH: i16 = 1;

const INVALID_REQUEST: i16 = 42;

fn api_versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("by-hand"))
        .with_client_software_version(StrBytes::from_static_str("1.0"))
}

fn offer(answer: &ApiVersionsResponse, key: i16) -> Option<(i16, i16)> {
    let found = answer.api_keys.iter().find(|api| api.api_key == key)?;
    Some((found.min_version, found.max_version))
}

#[test]
fn brokers_offer_what_kafka_4_3_offers() {
    let cluster = FakeCluster::builder().start().unwrap();
    for version in 0..=4 {
        let answer = Connection::to(&cluster, 1).ask(&api_versions(), version);
        assert_eq!((answer.error_code, offer(&answer, FETCH)), (0, Some((4, 18))));
    }
}

#[test]
fn older_releases_offer_less() {
    for (profile, fetch) in [(Profile::V2_1, 10), (Profile::V2_8, 12), (Profile::V3_9, 17)] {
        let cluster = FakeCluster::builder().max_versions(profile).start().unwrap();
        let answer = Connection::to(&cluster, 1).ask(&ApiVersionsRequest::default(), 2);
        assert_eq!(offer(&answer, FETCH), Some((4, fetch)));
        assert_eq!(
            offer(&answer, Api::ConsumerGroupHeartbeat.key()).is_some(),
            profile == Profile::V3_9
        );
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let cluster = FakeCluster::builder().max_versions(Profile::V2_1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let mut frame = BytesMut::new();
    for number in [18_i16, 99] {
        frame.put_i16(number);
    }
    frame.put_i32(5);
    frame.put_slice(b"whatever version 99 may have here");
    connection.send_frame(&frame);
    let mut answer = connection.frame().unwrap().slice(4..);
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, UNSUPPORTED_VERSION);
    assert_eq!(offer(&answer, 18), Some((0, 2)));
    // The connection goes on.
    assert_eq!(connection.ask(&ApiVersionsRequest::default(), 2).error_code, 0);
}

#[test]
fn programs_name_themselves_since_version_3() {
    let cluster = FakeCluster::builder().start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(
        connection.ask(&ApiVersionsRequest::default(), 3).error_code,
        INVALID_REQUEST
    );
    assert_eq!(connection.ask(&api_versions(), 3).error_code, 0);
}

#[test]
fn what_is_not_offered_ends_the_connection() {
    let cluster = FakeCluster::builder().max_versions(Profile::V2_1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    connection.send(&MetadataRequest::default(), 9);
    assert!(connection.is_over());
    let mut connection = Connection::to(&cluster, 1);
    connection.send_frame(&[0x7f, 0, 0, 0, 0, 0, 0, 1]);
    assert!(connection.is_over());
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let cluster = FakeCluster::builder().max_request_bytes(1000).start().unwrap();
    for bytes in [
        &[0, 0, 3, 0xe9][..],
        &[255; 8],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 2, 0, 3],
    ] {
        let mut connection = Connection::to(&cluster, 1);
        connection.send_bytes(bytes);
        assert!(connection.is_over(), "{bytes:?}");
    }
    let mut truncated = Connection::to(&cluster, 1);
    truncated.send_frame(&[0, METADATA as u8, 0, 1, 0, 0, 0, 1, 255, 255, 0, 0, 0, 9]);
    assert!(truncated.is_over());
}

#[test]
fn requests_of_one_connection_are_answered_in_order() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    for _ in 0..50 {
        connection.send(&MetadataRequest::default(), 5);
        connection.send(&ApiVersionsRequest::default(), 2);
    }
    for _ in 0..50 {
        connection.answer::<MetadataRequest>(5).unwrap();
        connection.answer::<ApiVersionsRequest>(2).unwrap();
    }
}

#[test]
fn all_brokers_name_the_same_coordinator() {
    let cluster = FakeCluster::builder().brokers(3).start().unwrap();
    let key = |group: &str| StrBytes::from_string(group.to_owned());
    for group in ["a", "b", "c"] {
        let expected = cluster.coordinator(group);
        for node in 1..=3 {
            let mut connection = Connection::to(&cluster, node);
            let one = FindCoordinatorRequest::default().with_key(key(group));
            assert_eq!(connection.ask(&one, 3).node_id.0, expected);
            let many = FindCoordinatorRequest::default().with_coordinator_keys(vec![key(group)]);
            let answer = connection.ask(&many, 4);
            assert_eq!(answer.coordinators[0].node_id.0, expected);
            assert_eq!(answer.coordinators[0].port, i32::from(cluster.address(expected).port()));
        }
    }
}

#[test]
fn transactions_have_no_coordinator() {
    let cluster = FakeCluster::builder().start().unwrap();
    let request = FindCoordinatorRequest::default().with_key_type(1);
    assert_ne!(Connection::to(&cluster, 1).ask(&request, 3).error_code, 0);
}

#[test]
fn a_cluster_that_is_closed_ends_its_connections() {
    let cluster = FakeCluster::builder().brokers(2).start().unwrap();
    let mut connection = Connection::to(&cluster, 2);
    let address = cluster.address(2);
    cluster.close();
    assert!(connection.is_over());
    assert!(Connection::at(address).is_err());
}

#[test]
fn the_last_handle_closes_the_cluster() {
    let cluster = FakeCluster::builder().start().unwrap();
    let (other, address) = (cluster.clone(), cluster.address(1));
    drop(cluster);
    assert!(Connection::at(address).is_ok());
    drop(other);
    assert!(Connection::at(address).is_err());
}

#[test]
fn a_cluster_that_cannot_be_is_refused() {
    assert!(FakeCluster::builder().brokers(0).start().is_err());
    assert!(FakeCluster::builder().topic("no such name", 1).start().is_err());
    assert!(FakeCluster::builder().topic("t", 0).start().is_err());
    assert!(FakeCluster::builder().auto_create_topics(0).start().is_err());
    assert!(FakeCluster::builder().topic("t", 1).topic("t", 2).start().is_err());
}
