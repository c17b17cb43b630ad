//! Sessions that end and are renewed, beside requests that go on.

use super::*;

/// Of a session, in milliseconds. Due between 480 and 540 s, and at the latest after 570; but the tests let it age.
const TEN_MINUTES: i64 = 600_000;

/// Over, or as good as.
const OVER: Duration = Duration::from_secs(590);

/// Due, and time is left.
const DUE: Duration = Duration::from_secs(550);

/// What a broker sees of one connection: it fails the test when a request comes in the middle of a renewal.
#[derive(Default)]
struct Watched {
    within: AtomicBool,
    sessions: AtomicUsize,
}

impl Watched {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn answer(&self, asked: &Asked) -> Bytes {
        if is_handshake(asked) {
            assert!(!self.within.swap(true, Ordering::SeqCst), "two at a time");
        } else if is_authenticate(asked) {
            let is_last = word(asked) == b"two";
            assert!(self.within.swap(!is_last, Ordering::SeqCst), "no handshake came before");
            self.sessions.fetch_add(usize::from(is_last), Ordering::SeqCst);
        } else {
            assert!(!self.within.load(Ordering::SeqCst), "a request came within a renewal");
        }
        believing(TEN_MINUTES)(asked)
    }

    fn sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }

    /// Lets sessions end, one after the other, while others call.
    fn renew(&self, connection: &Connection, times: usize) {
        for turn in 0..times {
            let before = self.sessions();
            connection.age(if turn % 2 == 0 { DUE } else { OVER });
            wait_until(|| self.sessions() > before && !connection.is_renewing());
        }
    }
}

#[test]
fn many_callers_lose_nothing_while_sessions_are_renewed() {
    let watched = Watched::new();
    let broker = Broker::serve({
        let watched = Arc::clone(&watched);
        move |asked| Some(watched.answer(asked))
    });
    let connection = open(&broker, &three_rounds());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (connection, over) = (&connection, &over);
            scope.spawn(move || {
                for turn in 0.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let name = format!("{caller}-{turn}");
                    assert_eq!(call(connection, &name), name);
                }
            });
        }
        watched.renew(&connection, 20);
        over.store(true, Ordering::SeqCst);
    });
    assert!(!connection.is_dead());
    assert_eq!((broker.accepted(), watched.sessions()), (1, 21));
}

#[test]
fn answers_of_what_was_asked_before_come_while_a_session_is_renewed() {
    let (go, wait) = bounded::<()>(0);
    let watched = Watched::new();
    let broker = Broker::serve({
        let watched = Arc::clone(&watched);
        move |asked| {
            // Late with what was asked, and late with each word of the renewal.
            if watched.sessions() == 1 {
                wait.recv().ok()?;
            }
            Some(watched.answer(asked))
        }
    });
    let connection = open(&broker, &three_rounds());
    let slow = ask(&connection, "slow");
    connection.age(OVER);
    std::thread::scope(|scope| {
        let calls = ["a", "b", "c"].map(|name| {
            let connection = &connection;
            scope.spawn(move || assert_eq!(call(connection, name), name))
        });
        go.send(()).unwrap();
        assert_eq!(told(slow.wait(&long()).unwrap()), "slow");
        assert_eq!(watched.sessions(), 1);
        assert!(calls.iter().all(|call| !call.is_finished()));
        (0..3).for_each(|_| go.send(()).unwrap());
    });
    assert_eq!(watched.sessions(), 2);
    assert!(!connection.is_dead());
}

#[test]
fn a_renewal_waits_for_a_quiet_moment_as_long_as_nobody_is_held() {
    let (go, wait) = bounded::<()>(0);
    let watched = Watched::new();
    let broker = Broker::serve({
        let watched = Arc::clone(&watched);
        move |asked| {
            if asked.key == MetadataRequest::KEY && told_name(asked) == "parked" {
                wait.recv().ok()?;
            }
            Some(watched.answer(asked))
        }
    });
    let go = go; // dropped before the broker, which waits for its script
    let connection = open(&broker, &three_rounds());
    let parked = ask(&connection, "parked");
    connection.age(DUE);
    // It begins the preparation, and is sent all the same.
    let behind = ask(&connection, "behind");
    wait_until(|| connection.wants_quiet());
    assert!(!Stop::new("nothing").wait(Duration::from_millis(20)));
    assert!(connection.is_renewing() && watched.sessions() == 1);
    // Nothing of it is on its way.
    assert_eq!(connection.awaited(), 2);
    go.send(()).unwrap();
    assert_eq!(told(parked.wait(&long()).unwrap()), "parked");
    assert_eq!(told(behind.wait(&long()).unwrap()), "behind");
    // All is answered: nobody needs to ask for it.
    wait_until(|| watched.sessions() == 2 && !connection.is_renewing());
    assert!(!connection.wants_quiet());
}

#[test]
fn who_waits_for_a_renewal_keeps_to_a_deadline_of_its_own_and_hears_a_stop() {
    let (go, wait) = bounded::<()>(0);
    let renewing = AtomicUsize::new(0);
    let broker = Broker::serve(move |asked| {
        if is_handshake(asked) && renewing.fetch_add(1, Ordering::SeqCst) > 0 {
            wait.recv().ok()?;
        }
        Some(believing(TEN_MINUTES)(asked))
    });
    let go = go; // dropped before the broker, which waits for its script
    let connection = open(&broker, &known());
    connection.age(OVER);
    let soon = Deadline::after(Duration::from_millis(20), "the caller's limit");
    let error = connection.send(&named("early"), &soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(
        error.to_string().contains("the session to be renewed after 20ms"),
        "{error}"
    );
    let stop = Stop::new("stream");
    std::thread::scope(|scope| {
        let deadline = long().with_stop(&stop);
        let connection = &connection;
        let waiting = scope.spawn(move || connection.send(&named("stopped"), &deadline).unwrap_err());
        stop.stop();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    });
    assert!(!connection.is_dead());
    go.send(()).unwrap();
    assert_eq!(call(&connection, "late"), "late");
}

#[test]
fn a_connection_that_nobody_uses_is_renewed_when_somebody_does() {
    let watched = Watched::new();
    let broker = Broker::serve({
        let watched = Arc::clone(&watched);
        move |asked| Some(watched.answer(asked))
    });
    let connection = open(&broker, &three_rounds());
    connection.age(OVER);
    assert!(!Stop::new("nothing").wait(Duration::from_millis(20)));
    assert_eq!(watched.sessions(), 1);
    assert_eq!(call(&connection, "orders"), "orders");
    assert_eq!(watched.sessions(), 2);
}

#[test]
fn a_connection_that_nobody_uses_may_be_renewed_in_time() {
    let watched = Watched::new();
    let broker = Broker::serve({
        let watched = Arc::clone(&watched);
        move |asked| Some(watched.answer(asked))
    });
    let connection = open(&broker, &three_rounds());
    connection.keep_known();
    assert!(!connection.is_renewing());
    connection.age(DUE);
    connection.keep_known();
    wait_until(|| watched.sessions() == 2 && !connection.is_renewing());
    assert_eq!(call(&connection, "orders"), "orders");
    assert_eq!(watched.sessions(), 2);
}

#[test]
fn what_is_not_answered_comes_before_or_after_a_renewal() {
    let watched = Watched::new();
    let (tell, heard) = unbounded();
    let broker = Broker::start({
        let watched = Arc::clone(&watched);
        move |mut peer| {
            peer.introduce();
            while let Some(asked) = peer.request() {
                let answer = watched.answer(&asked);
                match asked.key {
                    MetadataRequest::KEY => tell.send(told_name(&asked)).unwrap(),
                    _ => peer.send(&answer),
                }
            }
        }
    });
    let connection = open(&broker, &three_rounds());
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut sent = Vec::new();
            while !over.load(Ordering::SeqCst) {
                let name = sent.len().to_string();
                let request = named(&name);
                let encode = |version, id, client: &str| {
                    let mut bytes = bytes::BytesMut::new();
                    request::encode(&request, version, id, client, &mut bytes)?;
                    Ok(bytes)
                };
                connection
                    .send_unanswered::<MetadataRequest, _>(i16::MAX, encode, &long())
                    .unwrap();
                sent.push(name);
            }
            sent
        });
        watched.renew(&connection, 10);
        over.store(true, Ordering::SeqCst);
        sending.join().unwrap()
    });
    wait_until(|| heard.len() == sent.len());
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), sent);
    assert!(!connection.is_dead());
}

/// Believes the first time, and then does this.
fn turning(then: impl Fn(&Asked) -> Option<Bytes> + Send + Sync + 'static) -> Broker {
    let authenticated = AtomicUsize::new(0);
    Broker::serve(move |asked| {
        if is_authenticate(asked) && authenticated.fetch_add(1, Ordering::SeqCst) > 0 {
            return then(asked);
        }
        Some(believing(TEN_MINUTES)(asked))
    })
}

fn ended(broker: &Broker) -> (Error, Connection) {
    let connection = open(broker, &known());
    connection.age(OVER);
    let error = connection.call(&named("orders"), &long()).unwrap_err();
    wait_until(|| connection.is_dead());
    (error, connection)
}

#[test]
fn a_session_that_is_not_renewed_ends_its_connection() {
    let broker = turning(|asked| {
        let says = StrBytes::from_static_str("Cannot change principals");
        let answer = SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(says));
        Some(asked.answer::<SaslAuthenticateRequest>(&answer))
    });
    let (error, connection) = ended(&broker);
    // For whoever waits it is a connection that was lost, and another one may do better.
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Io, true));
    assert!(error.to_string().contains("could not be renewed"), "{error}");
    assert!(error.to_string().contains("Cannot change principals"), "{error}");
    let ended = connection.ended().unwrap();
    assert!(!ended.was_idle && ended.cause.kind() == ErrorKind::Io);

    for then in [
        (|_| None) as fn(&Asked) -> Option<Bytes>,
        |_| Some(Bytes::from_static(&[0, 0, 0, 5, 0, 0, 0, 99, 1])),
        |asked| Some(asked.answer_as::<SaslHandshakeRequest>(&SaslHandshakeResponse::default(), asked.id, 1)),
    ] {
        let (error, _) = ended_by(then);
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Protocol), "{error}");
    }
}

fn ended_by(then: fn(&Asked) -> Option<Bytes>) -> (Error, Connection) {
    ended(&turning(then))
}

#[test]
fn a_renewal_that_is_not_answered_ends_with_request_timeout() {
    let (go, wait) = bounded::<()>(0);
    let broker = turning(move |asked| {
        wait.recv().ok();
        Some(grants(asked, 0))
    });
    let config = NetConfig {
        request_timeout: Duration::from_millis(50),
        ..known()
    };
    let connection = open(&broker, &config);
    connection.age(OVER);
    let error = connection.call(&named("orders"), &long()).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(connection.is_dead());
    drop(go);
}

#[test]
fn closing_ends_a_renewal_in_any_of_its_waits() {
    // One that waits for credentials, and one that waits for the broker.
    let (gone, wait) = bounded::<()>(0);
    let begun = AtomicUsize::new(0);
    let wait_for = |wait: &Receiver<()>| {
        wait.recv().ok();
    };
    let slow = with(Beginning({
        let wait = wait.clone();
        move || {
            if begun.fetch_add(1, Ordering::SeqCst) > 0 {
                wait_for(&wait);
            }
            Ok(PASSWORD)
        }
    }));
    let silent = turning(move |_| {
        wait_for(&wait);
        None
    });
    let prompt = Broker::serve(|asked| Some(believing(TEN_MINUTES)(asked)));
    for (broker, config) in [(&prompt, slow), (&silent, known())] {
        let connection = open(broker, &config);
        connection.age(OVER);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| connection.call(&named("orders"), &long()).unwrap_err());
            wait_until(|| connection.is_renewing());
            connection.close(&long()).unwrap();
            assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
        });
    }
    drop(gone);
}

#[test]
fn credentials_that_are_late_hold_requests_only_when_the_session_ends() {
    let (tell, tried) = unbounded();
    let (go, wait) = bounded::<&'static str>(0);
    let begun = AtomicUsize::new(0);
    let config = with(Beginning(move || {
        if begun.fetch_add(1, Ordering::SeqCst) == 0 {
            return Ok(PASSWORD);
        }
        tell.send(()).unwrap();
        match wait.recv() {
            Ok("") => Err("no token yet".into()),
            Ok(word) => Ok(word),
            Err(_) => Err("over".into()),
        }
    }));
    let broker = Broker::serve(|asked| Some(believing(TEN_MINUTES)(asked)));
    let connection = open(&broker, &config);
    connection.age(DUE);
    assert_eq!(call(&connection, "before"), "before");
    tried.recv().unwrap();
    assert_eq!(call(&connection, "meanwhile"), "meanwhile");
    go.send("").unwrap();
    // That failed, and is tried again.
    wait_until(|| !connection.is_renewing());
    assert_eq!(call(&connection, "after"), "after");
    connection.age(OVER - DUE);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| call(&connection, "held"));
        tried.recv().unwrap();
        go.send("word").unwrap();
        assert_eq!(held.join().unwrap(), "held");
    });
    assert!(!connection.is_dead());
}
