//! Addresses at which there is no broker, or something else.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use klamm::{Client, ErrorKind, StartAt};

use crate::{
    PROMPT, SHORT, impatient,
    liar::{Liar, TOPIC, batches},
    tells, within,
};

/// A port at which nobody listens: it was free a moment ago.
fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A server that says this once it was spoken to, and then hangs up, or waits for the other side to do so.
fn says(words: &'static [u8], hangs_up: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut heard = [0; 1024];
                if !words.is_empty() {
                    let _ = stream.read(&mut heard);
                    let _ = stream.write_all(words);
                }
                if !hangs_up {
                    while stream.read(&mut heard).is_ok_and(|count| count > 0) {}
                }
            });
        }
    });
    address
}

#[test]
fn a_refused_connection_names_the_address_and_the_reason_at_once() {
    let address = closed_port().to_string();
    let error = within(Duration::from_secs(1), || impatient(&address).connect().unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    tells(
        &error,
        &["cannot reach any bootstrap server", &address, "connection refused"],
    );
}

#[test]
fn ports_that_speak_something_else_are_recognised() {
    for (words, says_so) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
            "speaks HTTP",
        ),
        (&[0x15, 3, 3, 0, 2, 2, 0x46][..], "speaks TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it sent \"SSH-\""),
        (b"-ERR unknown command\r\n", "it sent \"-ERR\""),
        (&[0xff; 64][..], "claims to be -1 bytes"),
        (&[0; 64][..], "claims to be 0 bytes"),
        (&[0x7f; 64][..], "more than the limit"),
        (&[0, 0, 0, 8, 9, 9, 9, 9, 1, 2, 3, 4][..], "request 151587081"),
    ] {
        for hangs_up in [true, false] {
            let address = says(words, hangs_up).to_string();
            let error = within(PROMPT, || impatient(&address).connect().unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
            tells(&error, &[&address, says_so]);
        }
    }
}

#[test]
fn a_port_that_hangs_up_at_once_says_so() {
    let address = says(b"", true).to_string();
    let error = within(PROMPT, || impatient(&address).connect().unwrap_err());
    // Whether it is an end or a reset depends on who was first.
    tells(&error, &[&address]);
    assert!(
        error.to_string().contains("clos") || error.to_string().contains("reset"),
        "{error}"
    );
}

#[test]
fn a_port_that_says_nothing_costs_no_more_than_the_connect_timeout() {
    let address = says(b"", false).to_string();
    let builder = impatient(&address).connect_timeout(Duration::from_millis(300));
    let error = within(PROMPT, || builder.connect().unwrap_err());
    tells(&error, &[&address, "connect_timeout", "ApiVersions"]);
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let error = within(Duration::from_secs(20), || {
        impatient("no-such-host.invalid:9092").connect().unwrap_err()
    });
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    tells(&error, &["cannot resolve no-such-host.invalid"]);
}

#[test]
fn every_bootstrap_server_s_failure_is_named_in_the_order_given() {
    let (refused, http, silent) = (closed_port(), says(b"HTTP/1.1 404 \r\n", true), says(b"", false));
    let list = format!("{refused}, {http},{silent}");
    let builder = impatient(&list).connect_timeout(Duration::from_millis(400));
    let error = within(PROMPT, || builder.connect().unwrap_err());
    tells(&error, &["connection refused", "speaks HTTP", "connect_timeout"]);
    let sentence = error.to_string();
    let places = [refused, http, silent].map(|address| sentence.find(&address.to_string()).expect("it is named"));
    assert!(places.is_sorted(), "{sentence}");
}

#[test]
fn one_bootstrap_server_that_answers_is_enough() {
    let liar = Liar::start(batches(1));
    let list = format!("{},{},{}", closed_port(), says(b"", false), liar.bootstrap());
    let builder = impatient(&list).connect_timeout(Duration::from_millis(400));
    let client = within(SHORT * 3, || builder.connect()).unwrap();
    assert_eq!(client.partitions(TOPIC).unwrap(), 1);
}

#[test]
fn a_lazy_client_fails_when_it_is_used_within_the_request_timeout() {
    let address = closed_port().to_string();
    let client = impatient(&address).connect_lazy().unwrap();
    for error in within(SHORT * 4, || {
        [
            client.partitions(TOPIC).unwrap_err(),
            client.reader().topics([TOPIC]).open().map(drop).unwrap_err(),
        ]
    }) {
        tells(&error, &[&address, "connection refused"]);
        assert!(error.is_retriable(), "{error}");
    }
}

#[test]
fn a_broker_that_advertises_an_address_nobody_can_reach_is_named_with_it() {
    let liar = Liar::start(batches(1));
    let advertised = closed_port();
    liar.advertise(advertised.port());
    let client = impatient(&liar.bootstrap()).connect().unwrap();
    assert_eq!(client.partitions(TOPIC).unwrap(), 1);
    let error = within(PROMPT, || client.offset_for(TOPIC, 0, StartAt::Latest).unwrap_err());
    tells(&error, &[&advertised.to_string(), "connection refused"]);

    let stream = client.reader().topics([TOPIC]).open().unwrap();
    let mut iter = stream.iter();
    assert!(matches!(
        iter.next_timeout(SHORT + SHORT / 2),
        Ok(klamm::Next::TimedOut)
    ));
    let klamm::Health::Unhealthy(problems) = stream.health() else {
        panic!("a stream that cannot reach its broker is not healthy");
    };
    tells(&problems[0].error, &[&advertised.to_string(), "connection refused"]);
    drop(iter);
    within(PROMPT, || stream.close(SHORT)).unwrap();
}

#[test]
fn what_is_no_address_is_an_error_of_the_option() {
    for list in [
        "",
        ",",
        "localhost",
        "kafka://a:1",
        "a:0",
        "a:99999",
        "::1:9092",
        "a b:1",
        "user@a:1",
    ] {
        let error = Client::connect(list).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{list}: {error}");
    }
}
