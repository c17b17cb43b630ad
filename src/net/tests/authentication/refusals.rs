//! Brokers that do not believe us, or do not ask, and what becomes of those who try again.

use super::*;

#[test]
fn a_refusal_says_what_the_broker_says() {
    let broker = Broker::serve(|asked| {
        let says = "Authentication failed: Invalid username or password\n";
        let answer = SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str(says)));
        match is_handshake(asked) {
            true => Some(agrees(asked)),
            false => Some(asked.answer::<SaslAuthenticateRequest>(&answer)),
        }
    });
    let error = refused(&broker, &known());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(58)));
    assert!(!error.is_retriable());
    let expected = "(code 58): \"Authentication failed: Invalid username or password\", in SaslAuthenticate";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_mechanism_that_is_not_enabled_is_told_beside_those_that_are() {
    for (enabled, expected) in [
        (
            &["PLAIN", "SCRAM-SHA-512"][..],
            "it has PLAIN, SCRAM-SHA-512 enabled, and not WORDS",
        ),
        (&[], "it has none enabled, and not WORDS"),
    ] {
        let broker = Broker::serve(move |asked| {
            let answer = SaslHandshakeResponse::default()
                .with_error_code(33)
                .with_mechanisms(enabled.iter().map(|name| StrBytes::from_static_str(name)).collect());
            Some(asked.answer::<SaslHandshakeRequest>(&answer))
        });
        let error = refused(&broker, &known());
        assert_eq!((error.kind(), error.code()), (ErrorKind::Authentication, Some(33)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_port_without_sasl_is_recognised() {
    // So does Kafka; a broker that does not even know the request is another thing.
    let broker = Broker::serve(|asked| {
        let answer = SaslHandshakeResponse::default().with_error_code(34);
        Some(asked.answer::<SaslHandshakeRequest>(&answer))
    });
    let error = refused(&broker, &known());
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Authentication, false));
    assert!(error.to_string().contains("does the port expect no SASL?"), "{error}");

    let broker = Broker::start(|mut peer| {
        let Some(asked) = peer.request() else { return };
        let mut offer = everything();
        offer.api_keys.retain(|api| api.api_key != SaslHandshakeRequest::KEY);
        peer.send(&asked.answer::<kafka_protocol::messages::ApiVersionsRequest>(&offer));
        peer.wait_for_end();
    });
    let error = refused(&broker, &known());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("the broker none: it does not ask who one is"),
        "{error}"
    );
}

#[test]
fn a_port_that_asks_for_sasl_is_recognised_by_its_hanging_up() {
    let broker = Broker::serve(|_| None);
    let connection = Connection::open(&broker.address, &patient(), &long()).unwrap();
    let error = connection.call(&named("orders"), &long()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("does the port expect SASL?"), "{error}");

    // Not when it has answered before, and not when we have said who we are.
    let broker = Broker::serve(|asked| {
        let name = told_name(asked);
        (name != "end").then(|| echo(asked))
    });
    let connection = Connection::open(&broker.address, &patient(), &long()).unwrap();
    assert_eq!(call(&connection, "orders"), "orders");
    let error = connection.call(&named("end"), &long()).unwrap_err();
    assert!(!error.to_string().contains("SASL"), "{error}");
    let broker = Broker::serve(|asked| (asked.key != MetadataRequest::KEY).then(|| believing(0)(asked)));
    let error = open(&broker, &known()).call(&named("end"), &long()).unwrap_err();
    assert!(!error.to_string().contains("SASL"), "{error}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the cool-down goes by the clock")]
fn a_broker_that_has_refused_us_is_left_alone_for_a_while() {
    let broker = Broker::serve(|asked| {
        let answer = SaslHandshakeResponse::default().with_error_code(33);
        Some(asked.answer::<SaslHandshakeRequest>(&answer))
    });
    let config = known();
    let first = refused(&broker, &config);
    let since = std::time::Instant::now();
    for _ in 0..50 {
        let again = refused(&broker, &config);
        assert_eq!(first.to_string(), again.to_string());
        assert!(!again.is_retriable());
    }
    let tries = broker.accepted() as u64;
    assert!(tries <= 2 + since.elapsed().as_secs(), "{tries}");
}

#[test]
fn who_was_believed_before_may_be_believed_again() {
    let refuses = Arc::new(AtomicBool::new(false));
    let broker = Broker::serve({
        let refuses = Arc::clone(&refuses);
        move |asked| {
            let no = SaslHandshakeResponse::default().with_error_code(33);
            match is_handshake(asked) && refuses.load(Ordering::SeqCst) {
                true => Some(asked.answer::<SaslHandshakeRequest>(&no)),
                false => Some(believing(0)(asked)),
            }
        }
    });
    let config = known();
    open(&broker, &config);
    refuses.store(true, Ordering::SeqCst);
    let error = refused(&broker, &config);
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Authentication, true));
    refuses.store(false, Ordering::SeqCst);
    wait_until(|| Connection::open(&broker.address, &config, &long()).is_ok());
}
