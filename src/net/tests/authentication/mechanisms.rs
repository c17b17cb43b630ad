//! The program's mechanism: one that fails, doubts the broker, takes its time or comes to no end.

use super::*;

#[test]
fn an_exchange_without_end_is_given_up() {
    struct Endless;
    impl Mechanism for Endless {
        fn name(&self) -> &str {
            "ENDLESS"
        }
        fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
            Ok(Box::new(Self))
        }
    }
    impl Exchange for Endless {
        fn first(&mut self) -> Result<Vec<u8>, BoxError> {
            Ok(vec![1])
        }
        fn next(&mut self, _: &[u8]) -> Result<Step, BoxError> {
            Ok(Step::Send(vec![1]))
        }
    }
    let broker = Broker::serve(|asked| Some(believing(0)(asked)));
    let error = refused(&broker, &with(Endless));
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("comes to no end"), "{error}");
}

#[test]
fn credentials_that_cannot_be_had_are_an_error_and_so_is_a_panic() {
    let broker = Broker::serve(|asked| Some(believing(0)(asked)));
    let error = refused(&broker, &with(Beginning(|| Err("the token file is empty".into()))));
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Authentication, false));
    assert!(
        error.to_string().contains("WORDS failed: the token file is empty"),
        "{error}"
    );
    let error = refused(&broker, &with(Beginning(|| panic!("out of luck"))));
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn a_broker_that_cannot_prove_who_it_is_is_not_used() {
    let broker = Broker::serve(|asked| {
        let answer = SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from_static(b"impostor"));
        match is_handshake(asked) {
            true => Some(agrees(asked)),
            false => Some(asked.answer::<SaslAuthenticateRequest>(&answer)),
        }
    });
    let error = refused(&broker, &known());
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(
        error.to_string().contains("not the broker that it should be"),
        "{error}"
    );
}

#[test]
fn a_mechanism_that_takes_its_time_keeps_nobody_beyond_the_deadline() {
    let (go, wait) = bounded::<()>(0);
    let broker = Broker::serve(|asked| Some(believing(0)(asked)));
    let waiting = move || {
        wait.recv().ok();
        Ok("late")
    };
    let config = NetConfig {
        connect_timeout: Duration::from_millis(50),
        ..with(Beginning(waiting))
    };
    let error = refused(&broker, &config);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("credentials for WORDS after 50ms"),
        "{error}"
    );
    drop(go);
}

#[test]
fn a_mechanism_that_never_comes_back_costs_no_more_and_more_threads() {
    let (go, wait) = bounded::<()>(0);
    let config = with(Beginning(move || {
        wait.recv().ok();
        Ok("late")
    }));
    let identity = Identity::of(&config, &Address::new("broker", 9092)).unwrap();
    // Nobody waits for these.
    let started: Vec<_> = (0..100).map(|_| Prover::start(&identity).map(drop)).collect();
    assert_eq!(started.iter().filter(|started| started.is_ok()).count(), 64);
    let broker = Broker::serve(|asked| Some(believing(0)(asked)));
    let error = refused(&broker, &config);
    assert!(
        error.is_retriable() && error.to_string().contains("64 exchanges"),
        "{error}"
    );
    drop(go);
    wait_until(|| Prover::start(&identity).is_ok());
}

#[test]
fn what_a_mechanism_does_when_it_is_not_needed_any_more_is_its_own_affair() {
    let free = Address::new("127.0.0.1", 1);
    let (go, wait) = bounded::<()>(0);
    let config = NetConfig {
        connect_timeout: Duration::from_millis(20),
        ..with(Beginning(move || {
            wait.recv().ok();
            panic!("nobody hears this")
        }))
    };
    // Nobody is there: the mechanism is not even asked.
    let error = Connection::open(&free, &config, &long()).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Authentication);
    let waiting = spawn(move || drop(go));
    waiting.join().unwrap();
}
