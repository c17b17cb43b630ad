//! Whoever is kept out, or turns back at a door that is not the right one, says why: soon, once, and without a secret.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::SaslAuthenticateResponse;
use kafka_protocol::protocol::{Decodable, Encodable};
use klamm::{Client, ClientBuilder, Error, ErrorKind, Next, Record, Sasl, StartAt, Tls, Token};

use super::{LONG, plain, tls, write};
use crate::support::{
    Authority, Direction, Fate, Identity, JavaAccess, LogWatch, Proxy, Then, User, Validity, secured, unique,
    unsecured_token, wait_until,
};

const ALICE: User = User::ALICE;
const WRONG: &str = "hunter2-2718";
/// What is in no error, and in no line that is logged.
pub(super) const SECRETS: [&str; 3] = [ALICE.password, WRONG, "PRIVATE KEY"];

/// What a client says that is to be kept out of one listener: within its time, having knocked a few times at most.
#[track_caller]
fn kept_out(listener: &str, settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Error {
    let proxy = Proxy::start(secured().kafka.direct_listener(1, listener));
    println!("{listener}:");
    kept_out_by(&proxy, settings)
}

/// The same for who connects at once, and for who learns of it only when writing or reading.
#[track_caller]
fn kept_out_by(proxy: &Proxy, settings: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Error {
    let client = Client::builder()
        .bootstrap(proxy.address().to_string())
        .connect_timeout(LONG)
        .request_timeout(LONG);
    let client = settings(client);
    let log = LogWatch::start(&SECRETS);
    let begun = Instant::now();
    let error = client.clone().connect().expect_err("it is kept out");
    println!("  {error}");
    // What is wrong for good is not tried until the time is over.
    assert!(begun.elapsed() < LONG / 2, "{:?}: {error}", begun.elapsed());
    assert!(proxy.accepted() <= 3, "{} connections", proxy.accepted());
    tells_no_secret(&error);
    log.assert_clean();
    if error.kind() != ErrorKind::Authentication {
        return error;
    }

    let (before, begun) = (proxy.accepted(), Instant::now());
    let lazy = client.connect_lazy().expect("nobody is asked");
    let producer = lazy.producer().build().expect("good settings");
    let written = producer.send_sync(Record::to("any").value("never"), LONG);
    let read = lazy.reader().topics(["any"]).start_at(StartAt::Earliest).open();
    let late = [written.map(drop), read.map(drop)].map(|late| late.expect_err("it is kept out"));
    for late in &late {
        assert_eq!(
            (late.kind(), late.is_retriable()),
            (error.kind(), error.is_retriable()),
            "{late}"
        );
        tells_no_secret(late);
    }
    assert!(begun.elapsed() < LONG / 2, "{:?}: {late:?}", begun.elapsed());
    let (tried, most) = (proxy.accepted() - before, 6 + 2 * begun.elapsed().as_secs() as usize);
    assert!(tried <= most, "{tried} connections in {:?}", begun.elapsed());
    drop(producer);
    log.assert_clean();
    error
}

/// All that an error says, and what it names as its cause, is free of what nobody may read.
#[track_caller]
pub(super) fn tells_no_secret(error: &Error) {
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(source) = cause {
        said += &format!(" {source} {source:?}");
        cause = source.source();
    }
    for secret in SECRETS {
        assert!(!said.contains(secret), "{said}");
    }
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let is_final = kind == ErrorKind::Authentication;
    assert!(!(is_final && error.is_retriable()), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn a_wrong_password_is_told_at_once_by_every_mechanism() {
    for sasl in [
        Sasl::plain(ALICE.name, WRONG),
        Sasl::scram_sha_256(ALICE.name, WRONG),
        Sasl::scram_sha_512(ALICE.name, WRONG),
    ] {
        let mechanism = format!("{sasl:?}");
        let error = kept_out("SASL", |client| client.sasl(sasl));
        says(&error, ErrorKind::Authentication, &["127.0.0.1"]);
        assert_eq!(error.code(), Some(58), "{mechanism}: {error}");
    }
}

#[test]
fn an_unknown_user_is_told_no_more_than_a_wrong_password() {
    for sasl in [
        Sasl::plain("nobody", WRONG),
        Sasl::scram_sha_256("nobody", WRONG),
        Sasl::scram_sha_512("nobody", WRONG),
    ] {
        let error = kept_out("SASL_TLS", |client| client.tls(tls()).sasl(sasl));
        says(&error, ErrorKind::Authentication, &[]);
    }
}

#[test]
fn a_token_that_is_none_or_over_is_told() {
    let over = {
        // One second ago; brokers take no clock but their own for it.
        let token = unsecured_token(ALICE.name, 0);
        std::thread::sleep(Duration::from_millis(1100));
        token
    };
    for token in ["abc.def.ghi".to_owned(), over] {
        let sasl = Sasl::oauthbearer(move |_| Ok(Token::new(token.clone())));
        let error = kept_out("SASL", |client| client.sasl(sasl));
        says(&error, ErrorKind::Authentication, &[]);
    }
}

#[test]
fn credentials_that_cannot_be_had_are_told_with_their_reason() {
    let sasl = Sasl::oauthbearer(|_| Err("the vault is sealed".into()));
    let error = kept_out("SASL", |client| client.sasl(sasl));
    says(&error, ErrorKind::Authentication, &["the vault is sealed"]);
}

#[test]
fn a_mechanism_that_the_broker_has_not_is_named_beside_those_that_it_has() {
    let sasl = Sasl::scram_sha_512(ALICE.name, ALICE.password);
    let error = kept_out("PLAIN_ONLY", |client| client.sasl(sasl));
    says(&error, ErrorKind::Authentication, &["SCRAM-SHA-512", "PLAIN"]);
}

#[test]
fn certificates_that_are_no_good_are_refused_each_for_its_reason() {
    for (listener, parts) in [
        ("OVER", &["certificate", "expired on 2001-01-01"][..]),
        ("EARLY", &["certificate", "not valid before 2100-01-01"]),
        ("SELF_SIGNED", &["certificate", "127.0.0.1"]),
        ("STRANGER", &["certificate", "127.0.0.1"]),
        ("MISNAMED", &["certificate", "127.0.0.1", "broker.example"]),
    ] {
        let error = kept_out(listener, |client| client.tls(tls()));
        says(&error, ErrorKind::Authentication, parts);
    }
}

#[test]
fn public_roots_do_not_vouch_for_a_broker_of_ones_own() {
    let error = kept_out("SSL", |client| client.tls(Tls::new()));
    says(&error, ErrorKind::Authentication, &["certificate"]);
}

#[test]
fn whoever_wants_to_may_take_any_certificate() {
    for listener in ["OVER", "EARLY", "SELF_SIGNED", "STRANGER", "MISNAMED"] {
        let client = super::at(listener).tls(Tls::new().danger_accept_any_certificate());
        client.connect().expect("anything goes");
    }
    super::at("MISNAMED")
        .tls(tls().server_name("broker.example"))
        .connect()
        .expect("it is who it is said to be");
}

#[test]
fn a_broker_that_wants_a_certificate_is_said_to() {
    let error = kept_out("MTLS", |client| client.tls(tls()));
    says(&error, ErrorKind::Authentication, &["certificate"]);
}

#[test]
fn a_certificate_that_the_broker_does_not_take_is_said_to_be_refused() {
    let stranger = Authority::new("a stranger").client("carol");
    let itself = Identity::self_signed(&["carol"]);
    let over = secured().authority.client_while("carol", Validity::Over);
    let early = secured().authority.client_while("carol", Validity::NotYet);
    let of_a_server = secured().authority.server(&["carol"]);
    for identity in [stranger, itself, over, early, of_a_server] {
        let tls = tls().identity_pem(&identity.chain, &identity.key);
        let error = kept_out("MTLS", |client| client.tls(tls));
        says(&error, ErrorKind::Authentication, &["certificate"]);
    }
}

#[test]
fn a_certificate_of_somebody_else_is_let_in_and_may_do_nothing() {
    let kafka = &secured().kafka;
    let topic = unique("theirs");
    kafka.create_topic(&topic, 1, &[]);
    kafka.allow("User:CN=heidi", "ALL", "TOPIC", &topic);
    let log = LogWatch::start(&SECRETS);
    let client = |name| {
        let identity = secured().authority.client(name);
        let tls = tls().identity_pem(&identity.chain, &identity.key);
        super::at("MTLS").tls(tls).connect().expect("it is let in")
    };
    write(
        &client("heidi").producer().build().expect("good settings"),
        &topic,
        0,
        ["one"],
    );
    let ivan = client("ivan");
    let producer = ivan.producer().build().expect("good settings");
    let written = producer.send_sync(Record::to(&topic).value("never"), LONG);
    let read = ivan.reader().topics([&topic]).open();
    for error in [written.map(drop), read.map(drop)] {
        let error = error.expect_err("it may not");
        says(&error, ErrorKind::Authorization, &[&topic]);
        tells_no_secret(&error);
    }
    log.assert_clean();
}

#[test]
fn doors_of_another_kind_are_recognised() {
    // Plain words at an encrypted door.
    let error = kept_out("SSL", |client| client);
    says(&error, error.kind(), &["TLS"]);
    let error = kept_out("SASL_TLS", |client| client.sasl(plain(ALICE)));
    says(&error, error.kind(), &["TLS"]);
    // The reverse.
    let error = kept_out("SASL", |client| client.tls(tls()).sasl(plain(ALICE)));
    says(&error, error.kind(), &["TLS"]);
    // No name where one is asked for, with and without TLS.
    let error = kept_out("SASL", |client| client);
    says(&error, error.kind(), &["SASL"]);
    let error = kept_out("SASL_TLS", |client| client.tls(tls()));
    says(&error, error.kind(), &["SASL"]);
    // A name where none is asked for.
    let error = kept_out("SSL", |client| client.tls(tls()).sasl(plain(ALICE)));
    says(&error, error.kind(), &["SASL"]);
}

const SASL_AUTHENTICATE: i16 = 36;

/// Something before the true broker that changes what that says of itself: each message of SCRAM's that begins so.
fn impostor(begins: &'static str, change: impl Fn(&str) -> String + Send + Sync + 'static) -> Proxy {
    let proxy = Proxy::start(secured().kafka.direct_listener(1, "SASL"));
    proxy.on_answer(move |asked, frame| {
        if asked.api_key != SASL_AUTHENTICATE {
            return Fate::Forward;
        }
        // Behind the correlation ID, there may be room for tagged fields.
        let head = if asked.version >= 2 { 5 } else { 4 };
        let mut body = Bytes::copy_from_slice(&frame[head..]);
        let mut answer = SaslAuthenticateResponse::decode(&mut body, asked.version).expect("an answer");
        let said = String::from_utf8(answer.auth_bytes.to_vec()).expect("SCRAM is text");
        if said.starts_with(begins) {
            answer.auth_bytes = change(&said).into();
            let mut changed = BytesMut::from(&frame[..head]);
            answer.encode(&mut changed, asked.version).expect("an answer");
            *frame = changed.to_vec();
        }
        Fate::Forward
    });
    proxy
}

fn scrams() -> [Sasl; 2] {
    [
        Sasl::scram_sha_256(ALICE.name, ALICE.password),
        Sasl::scram_sha_512(ALICE.name, ALICE.password),
    ]
}

#[test]
fn a_broker_that_cannot_sign_is_not_believed() {
    for sasl in scrams() {
        // One character of the signature is another one.
        let proxy = impostor("v=", |said| match said.split_at(3) {
            ("v=A", rest) => format!("v=B{rest}"),
            (_, rest) => format!("v=A{rest}"),
        });
        let error = kept_out_by(&proxy, |client| client.sasl(sasl));
        says(
            &error,
            ErrorKind::Authentication,
            &["does not know the password of alice"],
        );
    }
}

#[test]
fn a_broker_that_asks_for_too_many_iterations_or_too_few_is_refused_at_once() {
    for (iterations, words) in [
        ("2147483648", "take too long"),
        ("2147483647", "take too long"),
        ("1000001", "take too long"),
        ("4095", "do not protect"),
        ("1", "do not protect"),
    ] {
        for sasl in scrams() {
            let proxy = impostor("r=", move |said| {
                let (rest, _) = said.rsplit_once("i=").expect("iterations");
                format!("{rest}i={iterations}")
            });
            let error = kept_out_by(&proxy, |client| client.sasl(sasl));
            says(&error, ErrorKind::Authentication, &[words]);
        }
    }
}

/// In the middle of what it says while it lets us in: before it has begun, within TLS, within SASL, within its first answer.
#[test]
fn a_broker_that_stalls_anywhere_costs_the_time_to_connect_and_is_not_asked_without_a_pause() {
    const SHORT: Duration = Duration::from_millis(300);
    let door = || Proxy::start(secured().kafka.direct_listener(1, "SASL_TLS"));
    let to = |proxy: &Proxy| {
        let client = Client::builder().bootstrap(proxy.address().to_string());
        let sasl = Sasl::scram_sha_256(ALICE.name, ALICE.password);
        client.tls(tls()).sasl(sasl)
    };
    let open = door();
    let client = to(&open).connect().expect("it is let in");
    // Before they say goodbye to each other.
    let all = open.passed(Direction::ToClient);
    drop(client);
    let log = LogWatch::start(&SECRETS);
    for byte in (0..8).map(|eighth| all * eighth / 8).chain([1, 6, all - 30]) {
        let proxy = door();
        match byte {
            0 => proxy.stall(Direction::ToClient),
            _ => proxy.after(Direction::ToClient, byte, Then::Stall),
        }
        let client = to(&proxy).connect_timeout(SHORT).request_timeout(2 * SHORT);
        let begun = Instant::now();
        let error = client.clone().connect().expect_err("it stalls");
        println!("after {byte} of {all} bytes: {error}");
        assert!(
            error.is_retriable() && error.to_string().contains("_timeout"),
            "{error}"
        );
        assert!(begun.elapsed() < LONG / 2, "{:?}: {error}", begun.elapsed());
        tells_no_secret(&error);
        let lazy = client.connect_lazy().expect("nobody is asked");
        let late = lazy.metadata(klamm::Topics::All).expect_err("it still stalls");
        assert!(
            late.is_retriable() && begun.elapsed() < LONG / 2,
            "{:?}: {late}",
            begun.elapsed()
        );
        tells_no_secret(&late);
        // Each of them takes its time.
        let (tried, most) = (proxy.accepted(), 3 + begun.elapsed().div_duration_f32(SHORT) as usize);
        assert!(tried <= most, "{tried} connections in {:?}", begun.elapsed());
    }
    log.assert_clean();
}

const PARTITIONS: i32 = 4;

#[test]
fn credentials_that_are_taken_back_end_what_runs_and_are_not_tried_without_a_pause() {
    let kafka = &secured().kafka;
    let proxy = kafka.listener_proxy(1, "CUT");
    let (topic, user) = (unique("taken-back"), unique("user"));
    kafka.create_topic(&topic, PARTITIONS as usize, &[]);
    kafka.set_scram_password("SCRAM-SHA-256", &user, ALICE.password);
    let java = JavaAccess::new("SASL_SSL").trusts(&secured().root_file());
    let java = kafka.java_at("CUT", &java.scram("SCRAM-SHA-256", &user, ALICE.password));
    wait_until("the user is known", LONG, || {
        java.tries("partitions", &[&topic]).is_ok()
    });

    let client = super::at("CUT")
        .tls(tls())
        .sasl(Sasl::scram_sha_256(&user, ALICE.password))
        .connect()
        .expect("it is let in");
    let producer = client.producer().delivery_timeout(Duration::from_secs(30));
    let producer = producer.build().expect("good settings");
    write(&producer, &topic, 0, ["one"]);
    let stream = client
        .group(unique("taken-back"))
        .topics([&topic])
        .join()
        .expect("it joins");
    wait_until("a place in the group", LONG, || !stream.assignment().is_empty());

    kafka.set_scram_password("SCRAM-SHA-256", &user, "another-1618");
    wait_until("the old password is no more", LONG, || {
        java.tries("partitions", &[&topic]).is_err()
    });
    let before = proxy.accepted();
    let (begun, log) = (Instant::now(), LogWatch::start(&SECRETS));
    proxy.cut();
    let attempt = |partition| {
        let record = Record::to(&topic).partition(partition).value("two");
        let sent = producer.send(record).and_then(|delivery| delivery.wait(LONG));
        sent.expect_err("nobody may write")
    };
    // What was on its way when the connection ended is in doubt, which nobody can end any more; what comes later is not.
    let mut errors = (1..PARTITIONS).map(attempt);
    let error = errors.find(|error| error.kind() != ErrorKind::OutcomeUnknown);
    let error = error.expect("the connection has ended by now");
    println!("a producer: {error}");
    says(&error, ErrorKind::Authentication, &[]);
    tells_no_secret(&error);
    let error = loop {
        match stream.iter().next_timeout(LONG * 2) {
            Ok(Next::Message(_)) => {}
            Err(error) => break error,
            other => panic!("no error but {other:?}; {:?}", stream.health()),
        }
    };
    println!("a group: {error}");
    says(&error, ErrorKind::Authentication, &[]);
    tells_no_secret(&error);
    // Each connection that there was may be tried a few times over, with a pause that is in the end a second.
    let (tried, most) = (proxy.accepted() - before, 20 + 3 * begun.elapsed().as_secs() as usize);
    println!("{tried} connections in {:?}", begun.elapsed());
    assert!(tried <= most, "{tried} connections in {:?}", begun.elapsed());
    assert!(log.lines() > 0, "a client that loses its connections says so");
    log.assert_clean();
}
