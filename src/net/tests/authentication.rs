//! Who we are, told to brokers that believe it, that do not, and that do something else altogether.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded, unbounded};
use kafka_protocol::{
    messages::{
        MetadataRequest, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    },
    protocol::{Request, StrBytes},
};
use parking_lot::Mutex;

use super::{ask, echo, long, named, patient, told, wait_until};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind},
    net::{
        Address, Connection, NetConfig,
        prover::{Identity, Prover},
        sasl::{BoxError, Exchange, Mechanism, Peer, Sasl, Step},
        scripted::{self, Asked, Broker, everything, spawn},
    },
    stop::Stop,
    wire::request,
};

const PASSWORD: &str = "open sesame";

/// Says these words, one after each answer.
struct Words {
    says: &'static [&'static str],
    begun: Arc<Mutex<Vec<String>>>,
}

impl Words {
    fn new(says: &'static [&'static str]) -> Self {
        Self {
            says,
            begun: Arc::default(),
        }
    }
}

impl Mechanism for Words {
    fn name(&self) -> &str {
        "WORDS"
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        self.begun.lock().push(format!("{peer:?}"));
        Ok(Box::new(Saying(self.says.iter().copied().collect())))
    }
}

struct Saying(VecDeque<&'static str>);

impl Exchange for Saying {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(self.0.pop_front().ok_or("speechless")?.into())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        match self.0.pop_front() {
            _ if challenge == b"impostor" => Err("this is not the broker that it should be".into()),
            Some(word) => Ok(Step::Send(word.into())),
            None => Ok(Step::Done),
        }
    }
}

/// Does what a closure does when it begins.
struct Beginning<F>(F);

impl<F: Fn() -> Result<&'static str, BoxError> + Send + Sync + 'static> Mechanism for Beginning<F> {
    fn name(&self) -> &str {
        "WORDS"
    }

    fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        let word = (self.0)()?;
        Ok(Box::new(Saying([word].into())))
    }
}

fn with(mechanism: impl Mechanism) -> NetConfig {
    NetConfig {
        sasl: Some(Sasl::custom(mechanism)),
        renewal_pause: Duration::ZERO,
        ..patient()
    }
}

fn known() -> NetConfig {
    with(Words::new(&[PASSWORD]))
}

fn open(broker: &Broker, config: &NetConfig) -> Connection {
    Connection::open(&broker.address, config, &long()).unwrap()
}

fn refused(broker: &Broker, config: &NetConfig) -> Error {
    let error = Connection::open(&broker.address, config, &long()).unwrap_err();
    assert_eq!(error.broker(), Some(&*broker.address.to_string()));
    for text in [error.to_string(), format!("{error:?} {config:?}")] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    error
}

fn agrees(asked: &Asked) -> Bytes {
    asked.answer::<SaslHandshakeRequest>(&SaslHandshakeResponse::default())
}

fn grants(asked: &Asked, lifetime_ms: i64) -> Bytes {
    let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(lifetime_ms);
    asked.answer::<SaslAuthenticateRequest>(&answer)
}

fn word(asked: &Asked) -> Vec<u8> {
    asked.body::<SaslAuthenticateRequest>().auth_bytes.to_vec()
}

fn is_handshake(asked: &Asked) -> bool {
    asked.key == SaslHandshakeRequest::KEY
}

fn is_authenticate(asked: &Asked) -> bool {
    asked.key == SaslAuthenticateRequest::KEY
}

/// Believes everybody for so long each time, and repeats names.
fn believing(lifetime_ms: i64) -> impl Fn(&Asked) -> Bytes + Send + Sync + 'static {
    move |asked| match asked {
        _ if is_handshake(asked) => agrees(asked),
        _ if is_authenticate(asked) => grants(asked, lifetime_ms),
        _ => echo(asked),
    }
}

fn call(connection: &Connection, name: &str) -> String {
    told(connection.call(&named(name), &long()).unwrap())
}

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

fn told_name(asked: &Asked) -> String {
    let request: MetadataRequest = asked.body();
    request.topics.unwrap().remove(0).name.unwrap().to_string()
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

fn three_rounds() -> NetConfig {
    with(Words::new(&["one", "two"]))
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
