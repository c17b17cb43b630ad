//! Connections to brokers that behave, and to those that do not.

mod authentication;
mod large;

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::bounded;
use kafka_protocol::{
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, api_versions_response::ApiVersion,
        metadata_request::MetadataRequestTopic,
    },
    protocol::{Request, StrBytes},
};

use super::{
    Address, Connection, NetConfig,
    connection::Pending,
    scripted::{Asked, Broker, Peer, everything},
};
use crate::{
    cluster::offsets::topic_name,
    deadline::Deadline,
    error::{Error, ErrorKind},
    stop::Stop,
};

/// Longer than any test takes, unless it fails.
fn long() -> Deadline {
    Deadline::after(Duration::from_secs(60), "the test's limit")
}

fn short() -> Deadline {
    Deadline::after(Duration::from_millis(50), "the caller's limit")
}

fn patient() -> NetConfig {
    let long = Duration::from_secs(60);
    NetConfig {
        connect_timeout: long,
        request_timeout: long,
        ..NetConfig::default()
    }
}

fn open(broker: &Broker) -> Connection {
    Connection::open(&broker.address, &patient(), &long()).unwrap()
}

fn open_error(address: &Address) -> Error {
    Connection::open(address, &patient(), &long()).unwrap_err()
}

/// Asks for a topic, so that answers can be told apart.
fn ask(connection: &Connection, name: &str) -> Pending<MetadataRequest> {
    connection.send(&named(name), &long()).unwrap()
}

fn named(name: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    MetadataRequest::default().with_topics(Some(vec![topic]))
}

/// The answer repeats the name that was asked for.
fn echo(asked: &Asked) -> Bytes {
    let request: MetadataRequest = asked.body();
    let name = request.topics.unwrap().remove(0).name.unwrap();
    asked.answer::<MetadataRequest>(&MetadataResponse::default().with_cluster_id(Some(name.0)))
}

fn told(answer: MetadataResponse) -> String {
    answer.cluster_id.unwrap().to_string()
}

/// After introducing itself, sends these bytes as the answer to whatever is asked.
fn answering(bytes: &'static [u8]) -> Broker {
    Broker::start(move |mut peer| {
        peer.introduce();
        if peer.request().is_some() {
            peer.send(bytes);
        }
    })
}

/// Takes requests and says nothing, after its introduction.
fn silent() -> Broker {
    Broker::start(|mut peer| {
        peer.introduce();
        peer.wait_for_end();
    })
}

#[test]
fn a_call_is_answered() {
    let broker = Broker::serve(|asked| Some(echo(asked)));
    let connection = open(&broker);
    assert_eq!(told(connection.call(&named("orders"), &long()).unwrap()), "orders");
    assert!(!connection.is_dead());
    connection.close(&long()).unwrap();
    connection.close(&long()).unwrap();
    let error = connection.call(&named("orders"), &long()).unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Closed, Some("Metadata")));
}

#[test]
fn a_refused_connection_names_address_and_reason() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = open_error(&Address::new("127.0.0.1", free));
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        error.to_string(),
        format!("connection refused, at broker 127.0.0.1:{free}")
    );
}

#[test]
fn a_name_that_stands_for_nothing_is_named() {
    let error = open_error(&Address::new("nowhere.invalid", 9092));
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(
        error.to_string().starts_with("cannot resolve nowhere.invalid: "),
        "{error}"
    );
}

#[test]
fn what_speaks_another_protocol_is_recognised() {
    for (greeting, sign) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "speaks HTTP"),
        (&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50], "speaks TLS"),
        (b"220 mail.example ESMTP\r\n", "\"220 \""),
        (&[0xff; 16], "-1 bytes"),
    ] {
        let broker = Broker::start(move |mut peer| {
            peer.request();
            peer.send(greeting);
            peer.wait_for_end();
        });
        let error = open_error(&broker.address);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(sign), "{error}");
        assert_eq!(error.broker(), Some(&*broker.address.to_string()));
    }
}

#[test]
fn a_hang_up_instead_of_an_introduction_hints_at_tls() {
    let broker = Broker::start(|mut peer| drop(peer.request()));
    let error = open_error(&broker.address);
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("does the port expect TLS?"), "{error}");
}

#[test]
fn a_stall_in_any_phase_ends_with_connect_timeout() {
    let stalls: [fn(&mut Peer); 4] = [
        |_| {},
        |peer| drop(peer.request()),
        |peer| {
            peer.request();
            peer.send(&[0, 0]);
        },
        |peer| {
            peer.request();
            peer.send(&[0, 0, 0, 40, 0, 0, 0, 0, 0, 0]);
        },
    ];
    for stall in stalls {
        let broker = Broker::start(move |mut peer| {
            stall(&mut peer);
            peer.wait_for_end();
        });
        let config = NetConfig {
            connect_timeout: Duration::from_millis(50),
            ..NetConfig::default()
        };
        let error = Connection::open(&broker.address, &config, &long()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(
            error
                .to_string()
                .contains("the broker to answer ApiVersions after 50ms (connect_timeout)"),
            "{error}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_that_drops_packets_ends_with_connect_timeout() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener
        .bind(&SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 0))))
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // With its queue full, the system drops whatever else comes.
    let waiting: Vec<_> = std::iter::repeat_with(|| TcpStream::connect_timeout(&address, Duration::from_millis(50)))
        .take(8)
        .take_while(Result::is_ok)
        .collect();
    let config = NetConfig {
        connect_timeout: Duration::from_millis(50),
        ..NetConfig::default()
    };
    let address = Address::new("127.0.0.1", address.port());
    let error = Connection::open(&address, &config, &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("a TCP connection"), "{error}");

    // And a stop ends it at once.
    let stop = Stop::new("test");
    let deadline = long().with_stop(&stop);
    let error = std::thread::scope(|scope| {
        let dialling = scope.spawn(|| Connection::open(&address, &patient(), &deadline).unwrap_err());
        stop.stop();
        dialling.join().unwrap()
    });
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    drop(waiting);
}

#[test]
fn a_stop_ends_a_handshake() {
    let stop = Stop::new("stream");
    let broker = Broker::start({
        let stop = stop.clone();
        move |mut peer| {
            peer.request();
            stop.stop();
            peer.wait_for_end();
        }
    });
    let error = Connection::open(&broker.address, &patient(), &long().with_stop(&stop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(error.to_string().starts_with("the stream was closed"), "{error}");
}

#[test]
fn an_older_broker_is_asked_for_versions_it_knows() {
    // Brokers since 2.4 say what they know; older ones do not.
    for (said, expected) in [(Some(1), 1), (None, 0)] {
        let broker = Broker::start(move |mut peer| {
            let asked = peer.request().unwrap();
            let own = ApiVersion::default()
                .with_api_key(ApiVersionsRequest::KEY)
                .with_max_version(said.unwrap_or_default());
            let refusal = ApiVersionsResponse::default()
                .with_error_code(35)
                .with_api_keys(said.map(|_| own).into_iter().collect());
            peer.send(&asked.answer_as::<ApiVersionsRequest>(&refusal, asked.id, 0));
            let asked = peer.request().unwrap();
            assert_eq!(asked.version, expected);
            peer.send(&asked.answer::<ApiVersionsRequest>(&everything()));
            peer.wait_for_end();
        });
        drop(open(&broker));
    }
}

#[test]
fn the_client_says_what_it_is() {
    let (tell, told) = bounded(1);
    let broker = Broker::start(move |mut peer| {
        let asked = peer.request().unwrap();
        let request: ApiVersionsRequest = asked.body();
        tell.send((request.client_software_name, request.client_software_version))
            .unwrap();
        peer.send(&asked.answer::<ApiVersionsRequest>(&everything()));
        peer.wait_for_end();
    });
    open(&broker);
    let version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
    assert_eq!(told.recv().unwrap(), (StrBytes::from_static_str("klamm"), version));
}

#[test]
fn calls_in_flight_together_get_their_own_answers() {
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        let mut answers: Vec<Bytes> = (0..3).map(|_| echo(&peer.request().unwrap())).collect();
        answers.reverse();
        peer.send(&answers.concat());
        peer.wait_for_end();
    });
    let connection = open(&broker);
    let calls = ["a", "b", "c"].map(|name| (name, ask(&connection, name)));
    for (name, call) in calls {
        assert_eq!(told(call.wait(&long()).unwrap()), name);
    }
    assert!(!connection.is_dead());
}

#[test]
fn an_answer_cut_short_fails_all_in_flight() {
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        peer.request();
        peer.request();
        peer.send(&[0, 0, 0, 9, 0, 0, 0]);
    });
    let connection = open(&broker);
    let calls = ["a", "b"].map(|name| ask(&connection, name));
    for call in calls {
        let error = call.wait(&long()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("after 3 of the 9 bytes"), "{error}");
    }
    assert!(!connection.ended().unwrap().was_idle);
}

#[test]
fn an_end_with_calls_in_flight_fails_them() {
    let broker = answering(&[]);
    let connection = open(&broker);
    let error = connection.call(&named("a"), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.is_retriable());
    let address = broker.address.to_string();
    assert_eq!(
        error.to_string(),
        format!(
            "the broker closed the connection instead of answering the first request; does the port expect SASL?, \
             in Metadata, at broker {address}"
        )
    );
}

#[test]
fn an_answer_to_nothing_ends_the_connection() {
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        let asked = peer.request().unwrap();
        let answer = MetadataResponse::default();
        peer.send(&asked.answer_as::<MetadataRequest>(&answer, 4711, asked.version));
        peer.wait_for_end();
    });
    let connection = open(&broker);
    let error = connection.call(&named("a"), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("request 4711"), "{error}");
    assert!(connection.is_dead());
}

#[test]
fn a_frame_too_large_is_not_read() {
    let broker = answering(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let error = open(&broker).call(&named("a"), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("2147483647 bytes"), "{error}");
}

#[test]
fn an_answer_that_claims_more_than_it_has_is_refused_before_it_is_decoded_and_ends_the_connection() {
    // Brokers: 2^31 - 2 of them, in a compact array.
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        let id = peer.request().unwrap().id.to_be_bytes();
        let body = [0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07];
        peer.send(&[&[0, 0, 0, 14][..], &id, &body].concat());
        peer.wait_for_end();
    });
    let connection = open(&broker);
    let error = connection.call(&named("a"), &long()).unwrap_err();
    assert_eq!((error.kind(), error.api()), (ErrorKind::Protocol, Some("Metadata")));
    assert!(connection.is_dead());
    let ended = connection.ended().unwrap();
    assert_eq!((ended.cause.kind(), ended.was_idle), (ErrorKind::Io, false));
}

#[test]
fn who_waits_for_another_answer_than_the_one_that_cannot_be_read_has_lost_a_connection() {
    let broker = Broker::start(|mut peer| {
        peer.introduce();
        let id = peer.request().unwrap().id.to_be_bytes();
        peer.request();
        let body = [0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07];
        peer.send(&[&[0, 0, 0, 14][..], &id, &body].concat());
        peer.wait_for_end();
    });
    let connection = open(&broker);
    let [unreadable, other] = ["a", "b"].map(|name| ask(&connection, name));
    assert_eq!(unreadable.wait(&long()).unwrap_err().kind(), ErrorKind::Protocol);
    let error = other.wait(&long()).unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.is_retriable(), "{error}");
}

#[test]
fn a_broker_that_does_not_answer_in_time_loses_everything_in_flight() {
    let broker = silent();
    let config = NetConfig {
        request_timeout: Duration::from_millis(50),
        ..patient()
    };
    let connection = Connection::open(&broker.address, &config, &long()).unwrap();
    let calls = ["a", "b"].map(|name| ask(&connection, name));
    for call in calls {
        let error = call.wait(&long()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("within 50ms (request_timeout)"), "{error}");
    }
    assert!(connection.is_dead());
    assert_eq!(connection.ended().unwrap().cause.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_silent_broker_is_noticed_by_the_next_call_when_earlier_callers_have_gone() {
    let broker = silent();
    let config = NetConfig {
        request_timeout: Duration::from_millis(50),
        ..patient()
    };
    let connection = Connection::open(&broker.address, &config, &long()).unwrap();
    drop(ask(&connection, "a"));
    assert!(!connection.is_dead());
    assert!(!Stop::new("nothing").wait(Duration::from_millis(60)));
    assert!(connection.is_dead());
    let error = connection.send(&named("b"), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_caller_with_little_time_goes_away_and_may_come_back() {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::serve(move |asked| {
        wait.recv().ok()?;
        Some(echo(asked))
    });
    let connection = open(&broker);
    let call = ask(&connection, "a");
    let error = call.wait(&short()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("the caller's limit"), "{error}");
    assert!(!connection.is_dead());
    go.send(()).unwrap();
    assert_eq!(told(call.wait(&long()).unwrap()), "a");
}

#[test]
fn a_stopped_caller_leaves_the_connection_to_others() {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::serve(move |asked| {
        wait.recv().ok()?;
        Some(echo(asked))
    });
    let connection = open(&broker);
    let stop = Stop::new("stream");
    let (mine, other) = (ask(&connection, "mine"), ask(&connection, "other"));
    std::thread::scope(|scope| {
        let deadline = long().with_stop(&stop);
        let waiting = scope.spawn(move || mine.wait(&deadline).unwrap_err());
        stop.stop();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    });
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(told(other.wait(&long()).unwrap()), "other");
}

#[test]
fn closing_wakes_whoever_waits() {
    let broker = silent();
    let connection = open(&broker);
    let call = ask(&connection, "a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call.wait(&long()).unwrap_err());
        connection.close(&long()).unwrap();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    });
}

#[test]
fn an_idle_connection_may_be_closed_by_the_broker() {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::start(move |mut peer| {
        peer.introduce();
        let answer = echo(&peer.request().unwrap());
        peer.send(&answer);
        wait.recv().ok();
    });
    let connection = open(&broker);
    connection.call(&named("a"), &long()).unwrap();
    go.send(()).unwrap();
    wait_until(|| connection.is_dead());
    assert!(connection.ended().unwrap().was_idle);
}

#[test]
fn a_connection_is_ended_for_idleness_only_when_nothing_is_awaited() {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::serve(move |asked| {
        wait.recv().ok()?;
        Some(echo(asked))
    });
    let connection = open(&broker);
    let call = ask(&connection, "a");
    assert!(!connection.end_if_idle_for(Duration::ZERO));
    go.send(()).unwrap();
    call.wait(&long()).unwrap();
    assert!(!connection.end_if_idle_for(Duration::from_secs(60)));
    assert!(connection.end_if_idle_for(Duration::ZERO));
    assert!(connection.is_dead() && connection.ended().unwrap().was_idle);
    assert!(connection.send(&named("b"), &long()).is_err());
}

#[test]
fn half_a_request_ends_the_connection() {
    // A broker that does not read: what is sent fills the buffers in between.
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::start(move |mut peer| {
        peer.introduce();
        wait.recv().ok();
    });
    let connection = open(&broker);
    let name = topic_name(&"x".repeat(30_000));
    let topic = MetadataRequestTopic::default().with_name(Some(name));
    let large = MetadataRequest::default().with_topics(Some(vec![topic; 1000]));
    let waiting = ask(&connection, "small");
    let error = connection.send(&large, &short()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("room to write a request"), "{error}");
    assert!(connection.is_dead());
    assert_eq!(waiting.wait(&long()).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(go);
}

/// Something is about to happen on another thread. A failing test ends after a minute.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let (deadline, pause) = (long(), Stop::new("pause"));
    while !condition() {
        deadline.check("the condition of a test").unwrap();
        pause.wait(Duration::from_millis(1));
    }
}
