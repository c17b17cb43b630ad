//! What is said before anything is asked, in each of its phases.

use super::*;

#[test]
fn a_broker_is_told_who_we_are_before_anything_is_asked() {
    let (tell, heard) = unbounded();
    let broker = Broker::serve(move |asked| {
        if is_authenticate(asked) {
            tell.send(word(asked)).unwrap();
        }
        Some(believing(0)(asked))
    });
    let mechanism = Words::new(&["one", "two", "three"]);
    let begun = Arc::clone(&mechanism.begun);
    let connection = open(&broker, &with(mechanism));
    assert_eq!(call(&connection, "orders"), "orders");
    let words: Vec<Vec<u8>> = heard.try_iter().collect();
    assert_eq!(words, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    let port = broker.address.port;
    let peer = format!("Peer {{ host: \"127.0.0.1\", port: {port}, is_encrypted: false }}");
    assert_eq!(*begun.lock(), [peer]);
}

#[test]
fn older_brokers_are_told_in_older_versions() {
    for newest in 0..=2 {
        let (tell, heard) = unbounded();
        let broker = Broker::start(move |mut peer| {
            let Some(asked) = peer.request() else { return };
            let mut offer = everything();
            let api = offer.api_keys.iter_mut();
            let mut api = api.filter(|api| api.api_key == SaslAuthenticateRequest::KEY);
            api.next().unwrap().max_version = newest;
            peer.send(&asked.answer::<kafka_protocol::messages::ApiVersionsRequest>(&offer));
            while let Some(asked) = peer.request() {
                tell.send((asked.key, asked.version)).unwrap();
                let answer = believing(0)(&asked);
                peer.send(&answer);
            }
        });
        let connection = open(&broker, &known());
        assert_eq!(call(&connection, "orders"), "orders");
        let asked: Vec<_> = heard.try_iter().take(2).collect();
        assert_eq!(asked, [(17, 1), (36, newest)]);
    }
}

/// In each phase of the exchange, a broker does something else.
fn in_each_phase(other: impl Fn(&mut scripted::Peer) + Copy + Send + Sync + 'static, check: impl Fn(&Broker)) {
    for phase in 0..3 {
        let broker = Broker::start(move |mut peer| {
            peer.introduce();
            for _ in 0..phase {
                let Some(asked) = peer.request() else { return };
                peer.send(&believing(0)(&asked));
            }
            if peer.request().is_some() {
                other(&mut peer);
            }
        });
        check(&broker);
    }
}

#[test]
fn a_stall_in_each_phase_ends_with_connect_timeout() {
    for stall in [(|peer| peer.wait_for_end()) as fn(&mut scripted::Peer), |peer| {
        peer.send(&[0, 0, 0, 9, 0]);
        peer.wait_for_end();
    }] {
        in_each_phase(stall, |broker| {
            let config = NetConfig {
                connect_timeout: Duration::from_millis(100),
                ..three_rounds()
            };
            let error = refused(broker, &config);
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains("after 100ms (connect_timeout)"), "{error}");
        });
    }
}

#[test]
fn a_stop_ends_the_exchange_in_each_phase() {
    let (tell, reached) = unbounded();
    let tell: &'static _ = Box::leak(Box::new(tell));
    let stall = move |peer: &mut scripted::Peer| {
        tell.send(()).unwrap();
        peer.wait_for_end();
    };
    in_each_phase(stall, |broker| {
        let stop = Stop::new("stream");
        let deadline = long().with_stop(&stop);
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Connection::open(&broker.address, &three_rounds(), &deadline).unwrap_err());
            reached.recv().unwrap();
            stop.stop();
            assert_eq!(opening.join().unwrap().kind(), ErrorKind::Closed);
        });
    });
}

#[test]
fn nonsense_in_each_phase_is_named() {
    in_each_phase(
        |peer| peer.send(&[0, 0, 0, 6, 0, 0, 0, 99, 1, 2]),
        |broker| {
            let error = refused(broker, &three_rounds());
            assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Protocol, false));
        },
    );
}

#[test]
fn a_broker_that_hangs_up_in_any_phase_is_not_reached() {
    in_each_phase(
        |_| {},
        |broker| {
            let error = refused(broker, &three_rounds());
            assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Unreachable, true));
            assert!(error.to_string().contains("instead of answering Sasl"), "{error}");
        },
    );
}
