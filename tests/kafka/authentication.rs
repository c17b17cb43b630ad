//! Who we are: what brokers say to credentials that are wrong, and how sessions go on when they end (KIP-368).

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use klamm::{
    BoxError, Client, Delivery, ErrorKind, Exchange, Mechanism, NewTopic, Next, Peer, Record, Sasl, StartAt, Step,
    Topics,
};

use crate::support::{Fate, Kafka, Listener, Proxy, Stop, Times, is_long, unique, wait_until};

const LONG: Duration = Duration::from_secs(120);
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const COMMIT: i16 = 8;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;

/// PLAIN.
struct Plain {
    name: &'static str,
    user: &'static str,
    password: &'static str,
    /// So often it is mistaken.
    mistakes: Arc<AtomicU64>,
}

impl Mechanism for Plain {
    fn name(&self) -> &str {
        self.name
    }

    fn begin(&self, _: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        let one_less = |left: u64| left.checked_sub(1);
        let is_mistaken = self
            .mistakes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok();
        let password = if is_mistaken { "blunder" } else { self.password };
        Ok(Box::new(Once(format!("\0{}\0{password}", self.user).into_bytes())))
    }
}

struct Once(Vec<u8>);

impl Exchange for Once {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(self.0.clone())
    }

    fn next(&mut self, _: &[u8]) -> Result<Step, BoxError> {
        Ok(Step::Done)
    }
}

fn plain(user: &'static str, password: &'static str) -> Sasl {
    Sasl::custom(Plain {
        name: "PLAIN",
        user,
        password,
        mistakes: Arc::default(),
    })
}

/// The listener that asks.
const ASKING: &str = "ASKING";

/// Asks clients who they are: alice or bob. Who is slow to be told a refusal does not slow down a test.
fn asking(how: impl FnOnce(Listener) -> Listener) -> Kafka {
    let listener = Listener::sasl_plaintext(ASKING).plain(&[("alice", "wonder"), ("bob", "build")]);
    Kafka::builder()
        .listener(how(listener))
        .property("connection.failed.authentication.delay.ms", 10)
        .start()
}

fn connect(bootstrap: &str, sasl: Sasl) -> klamm::Result<Client> {
    Client::builder().bootstrap(bootstrap).sasl(sasl).connect()
}

#[test]
fn what_is_wrong_with_credentials_is_told_at_once() {
    let kafka = asking(|listener| listener);
    let there = kafka.listener(ASKING);
    let alice = connect(&there, plain("alice", "wonder")).unwrap();
    let topic = unique("known");
    let made = alice.admin().create_topics([NewTopic::new(&topic, 1, 1)]);
    made.and_then(klamm::Results::all).unwrap();
    assert_eq!(alice.partitions(&topic).unwrap(), 1);

    let wrong = connect(&there, plain("alice", "blunder")).unwrap_err();
    assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::Authentication, Some(58)));
    assert!(
        !wrong.is_retriable() && !wrong.to_string().contains("blunder"),
        "{wrong}"
    );
    assert!(wrong.to_string().contains("Invalid username or password"), "{wrong}");
    assert_eq!(wrong.broker(), Some(&*there));

    let unknown = Sasl::custom(Plain {
        name: "SCRAM-SHA-512",
        user: "alice",
        password: "wonder",
        mistakes: Arc::default(),
    });
    let unknown = connect(&there, unknown).unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::Authentication, Some(33)));
    assert!(
        unknown
            .to_string()
            .contains("it has PLAIN enabled, and not SCRAM-SHA-512"),
        "{unknown}"
    );

    let needless = connect(&kafka.internal_bootstrap(), plain("alice", "wonder")).unwrap_err();
    assert_eq!(
        (needless.kind(), needless.code()),
        (ErrorKind::Authentication, Some(34))
    );
    assert!(
        needless.to_string().contains("does the port expect no SASL?"),
        "{needless}"
    );

    let nobody = Client::connect(&there).unwrap_err();
    assert!(nobody.to_string().contains("does the port expect SASL?"), "{nobody}");

    // Who does not connect before learns of it by the first call, by its stream, by its record.
    let lazy = Client::builder().bootstrap(&there).sasl(plain("bob", "destroy"));
    let lazy = lazy.connect_lazy().unwrap();
    let error = lazy.partitions(&topic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    let producer = lazy.producer().build().unwrap();
    let sent = producer.send(Record::to(&topic).value("never"));
    let error = sent.and_then(|delivery: Delivery| delivery.wait(LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    let error = match lazy.group("nobody").topics([&topic]).join() {
        Ok(stream) => stream
            .iter()
            .find_map(Result::err)
            .expect("a stream ends with what is wrong"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

#[test]
fn credentials_that_are_wrong_for_a_while_end_nothing_and_for_good_they_do() {
    let kafka = asking(Listener::behind_proxy);
    let mistakes = Arc::new(AtomicU64::new(0));
    let alice = Sasl::custom(Plain {
        name: "PLAIN",
        user: "alice",
        password: "wonder",
        mistakes: Arc::clone(&mistakes),
    });
    let client = connect(&kafka.listener(ASKING), alice).unwrap();
    let topic = unique("rotated");
    let made = client.admin().create_topics([NewTopic::new(&topic, 1, 1)]);
    made.and_then(klamm::Results::all).unwrap();
    kafka.wait_for_topic(&topic, 1);
    let producer = client.producer().build().unwrap();
    producer.send_sync(Record::to(&topic).value("one"), LONG).unwrap();
    let stream = client
        .reader()
        .topics([&topic])
        .start_at(StartAt::Earliest)
        .open()
        .unwrap();
    let mut messages = stream.iter();
    let mut next = |expected: &str| match messages.next_timeout(LONG).unwrap() {
        Next::Message(message) => assert_eq!(message.value(), Some(expected.as_bytes())),
        other => panic!("{other:?} instead of {expected}"),
    };
    next("one");

    // The third refusal in a row would be the end.
    mistakes.store(2, Ordering::SeqCst);
    kafka.listener_proxy(1, ASKING).cut();
    producer.send_sync(Record::to(&topic).value("two"), LONG).unwrap();
    next("two");
    wait_until("both mistakes are made", LONG, || mistakes.load(Ordering::SeqCst) == 0);

    mistakes.store(u64::MAX, Ordering::SeqCst);
    let before = kafka.listener_proxy(1, ASKING).accepted();
    kafka.listener_proxy(1, ASKING).cut();
    let error = messages.next_timeout(LONG).unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retriable()),
        (ErrorKind::Authentication, false),
        "{error}"
    );
    assert!(matches!(messages.next_timeout(LONG), Ok(Next::Ended)));
    let error = producer.send_sync(Record::to(&topic).value("never"), LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    // One in each second, of whoever looks for a connection then.
    let tries = kafka.listener_proxy(1, ASKING).accepted() - before;
    assert!(tries < 40, "{tries} connections were tried");
}

/// What one client did, and how long each call took.
#[derive(Default)]
struct Work {
    written: AtomicU64,
    read: AtomicU64,
    writes: Times,
    questions: Times,
}

impl Work {
    fn times(&self) -> [&Times; 2] {
        [&self.writes, &self.questions]
    }
}

/// What goes through a proxy: whether each request is answered, and nothing comes in the middle of a renewal.
#[derive(Default)]
struct Traffic {
    /// By API: asked, and answered.
    counts: Mutex<HashMap<i16, [u64; 2]>>,
    /// Connections that are in the middle of one.
    renewing: Mutex<HashSet<usize>>,
    intruders: AtomicU64,
}

impl Traffic {
    fn watch(proxy: &Proxy) -> Arc<Self> {
        let traffic = Arc::new(Self::default());
        proxy.on_request({
            let traffic = Arc::clone(&traffic);
            move |asked, _| {
                let mut renewing = traffic.renewing.lock().unwrap();
                if asked.api_key == SASL_HANDSHAKE {
                    renewing.insert(asked.connection);
                } else if asked.api_key != SASL_AUTHENTICATE && renewing.contains(&asked.connection) {
                    traffic.intruders.fetch_add(1, Ordering::Relaxed);
                }
                traffic.counts.lock().unwrap().entry(asked.api_key).or_default()[0] += 1;
                Fate::Forward
            }
        });
        proxy.on_answer({
            let traffic = Arc::clone(&traffic);
            move |asked, _| {
                if asked.api_key == SASL_AUTHENTICATE {
                    traffic.renewing.lock().unwrap().remove(&asked.connection);
                }
                traffic.counts.lock().unwrap().entry(asked.api_key).or_default()[1] += 1;
                Fate::Forward
            }
        });
        traffic
    }

    /// Whose connection ended before they were answered. A Fetch is left alone when its stream is closed, and so may be what
    /// a member asked last.
    fn unanswered(&self) -> Vec<(i16, u64)> {
        const LIST_OFFSETS: i16 = 2;
        const METADATA: i16 = 3;
        const JOIN_GROUP: i16 = 11;
        let counts = self.counts.lock().unwrap();
        let of = [
            PRODUCE,
            LIST_OFFSETS,
            METADATA,
            COMMIT,
            JOIN_GROUP,
            SASL_HANDSHAKE,
            SASL_AUTHENTICATE,
        ];
        let of = of.into_iter().filter_map(|api| Some((api, counts.get(&api)?)));
        of.map(|(api, [asked, answered])| (api, asked - answered))
            .filter(|(_, lost)| *lost > 0)
            .collect()
    }
}

/// Writes, reads in a group and asks, all at once, until it is told to stop. Anything that goes wrong is a panic.
fn load(client: &Client, topic: &str, until: &AtomicBool) -> Work {
    let work = Work::default();
    let written = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let producer = client.producer().build().unwrap();
            let mut number = 0_u64;
            while !until.load(Ordering::Relaxed) {
                // Many at once, and one whose way is timed.
                let sent: Vec<_> = (0..50)
                    .map(|at| {
                        let value = (number + at).to_string();
                        producer.send(Record::to(topic).partition(0).value(&value)).unwrap()
                    })
                    .collect();
                number += 50;
                let since = Instant::now();
                for delivery in sent {
                    delivery.wait(LONG).unwrap();
                }
                work.writes.note(since);
                thread::sleep(Duration::from_millis(5));
            }
            assert!(producer.close(LONG).unwrap().is_clean());
            work.written.store(number, Ordering::Relaxed);
            written.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let stream = client
                .group(unique("renewed"))
                .topics([topic])
                .commit_interval(Duration::from_millis(200))
                .join()
                .unwrap();
            let mut messages = stream.iter();
            let (mut next, mut in_vain) = (0, 0);
            while !written.load(Ordering::Acquire) || next < work.written.load(Ordering::Relaxed) {
                match messages.next_timeout(Duration::from_millis(500)).unwrap() {
                    Next::Message(message) => {
                        assert_eq!(message.value(), Some(next.to_string().as_bytes()));
                        (next, in_vain) = (next + 1, 0);
                    }
                    Next::TimedOut => {
                        in_vain += 1;
                        assert!(in_vain < 240, "nothing more comes after {next}");
                    }
                    other => panic!("{other:?}"),
                }
            }
            work.read.store(next, Ordering::Relaxed);
            drop(messages);
            stream.close(LONG).unwrap();
        });
        for _ in 0..3 {
            scope.spawn(|| {
                while !until.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    client.metadata(Topics::named([topic])).unwrap();
                    client.offset_for(topic, 0, StartAt::Latest).unwrap();
                    work.questions.note(since);
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
    });
    work
}

#[test]
fn no_request_is_lost_or_held_up_while_sessions_are_renewed() {
    // The shorter the sessions, the more there is to see; on a machine that stands still for half a second, what waits in
    // a broker meanwhile is refused at the session's end.
    let (session, time) = match is_long() {
        true => (Duration::from_secs(3), Duration::from_secs(60)),
        false => (Duration::from_secs(4), Duration::from_secs(12)),
    };
    let kafka = asking(|listener| listener.behind_proxy().session_lifetime_ms(session.as_millis() as u32));
    let renewed = connect(&kafka.listener(ASKING), plain("alice", "wonder")).unwrap();
    // The same beside it, on the same machine at the same time.
    let plain = Client::connect(&kafka.internal_bootstrap()).unwrap();
    let topics = [unique("renewed"), unique("plain")];
    let made = plain
        .admin()
        .create_topics(topics.iter().map(|topic| NewTopic::new(topic, 1, 1)));
    made.and_then(klamm::Results::all).unwrap();
    topics.iter().for_each(|topic| kafka.wait_for_topic(topic, 1));

    let traffic = Traffic::watch(kafka.listener_proxy(1, ASKING));
    let until = AtomicBool::new(false);
    let [with, without] = thread::scope(|scope| {
        let clients = [(&renewed, &topics[0]), (&plain, &topics[1])];
        let until = &until;
        let loads = clients.map(|(client, topic)| scope.spawn(move || load(client, topic, until)));
        thread::sleep(time);
        until.store(true, Ordering::Relaxed);
        loads.map(|load| load.join().unwrap())
    });
    let renewals =
        kafka.listener_proxy(1, ASKING).requests(SASL_HANDSHAKE) - kafka.listener_proxy(1, ASKING).accepted() as u64;
    println!(
        "{renewals} renewals on {} connections:",
        kafka.listener_proxy(1, ASKING).accepted()
    );
    for (name, work) in [("with", &with), ("without", &without)] {
        let [writes, questions] = work.times().map(|times| (times.took(), times.longest_in_each(session)));
        println!("  {name} renewals, writes took {writes:?}, questions {questions:?}");
        let written = work.written.load(Ordering::Relaxed);
        assert_eq!((work.read.load(Ordering::Relaxed), written > 0), (written, true));
    }
    assert!(renewals >= 5, "{renewals}");
    assert_eq!(traffic.intruders.load(Ordering::Relaxed), 0);
    let unanswered = traffic.unanswered();
    println!("  unanswered: {unanswered:?}");
    // One or the other, where the machine stood still.
    let most = if is_long() { 0 } else { 2 };
    let matters = |api: &i16| [PRODUCE, COMMIT, SASL_HANDSHAKE, SASL_AUTHENTICATE].contains(api);
    for (api, lost) in &unanswered {
        assert!(*lost <= most || !(is_long() || matters(api)), "{unanswered:?}");
    }
    if is_long() {
        // Each connection is renewed once in that time: what is held up by it, is then.
        let longest = |work: &Work| work.times().map(|times| times.longest_in_each(session));
        for (with, without) in longest(&with).into_iter().zip(longest(&without)) {
            assert!(
                with <= without + Duration::from_millis(100),
                "{with:?}, and {without:?} where nothing is renewed"
            );
        }
    }
}

#[test]
fn credentials_that_take_their_time_and_renewals_that_are_refused_cost_no_record() {
    struct Tired(Plain);
    impl Mechanism for Tired {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
            thread::sleep(Duration::from_millis(300));
            self.0.begin(peer)
        }
    }
    let kafka = asking(|listener| listener.behind_proxy().session_lifetime_ms(3000));
    let mistakes = Arc::new(AtomicU64::new(0));
    let alice = Sasl::custom(Tired(Plain {
        name: "PLAIN",
        user: "alice",
        password: "wonder",
        mistakes: Arc::clone(&mistakes),
    }));
    let client = connect(&kafka.listener(ASKING), alice).unwrap();
    let topic = unique("tired");
    let made = client.admin().create_topics([NewTopic::new(&topic, 1, 1)]);
    made.and_then(klamm::Results::all).unwrap();
    kafka.wait_for_topic(&topic, 1);
    let until = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = scope.spawn(|| load(&client, &topic, &until));
        let stopping = Stop(&until);
        // One connection at a time has it wrong, whichever renews next.
        for _ in 0..4 {
            mistakes.store(1, Ordering::SeqCst);
            wait_until("a mistake is made", LONG, || mistakes.load(Ordering::SeqCst) == 0);
            thread::sleep(Duration::from_millis(1500));
        }
        drop(stopping);
        let work = work.join().unwrap();
        assert_eq!(work.read.load(Ordering::Relaxed), work.written.load(Ordering::Relaxed));
    });
}

#[test]
fn a_fetch_that_waits_longer_than_a_session_lasts_is_answered() {
    let kafka = asking(|listener| listener.behind_proxy().session_lifetime_ms(1500));
    let client = connect(&kafka.listener(ASKING), plain("alice", "wonder")).unwrap();
    let topic = unique("parked");
    let made = client.admin().create_topics([NewTopic::new(&topic, 1, 1)]);
    made.and_then(klamm::Results::all).unwrap();
    kafka.wait_for_topic(&topic, 1);
    let stream = client
        .reader()
        .topics([&topic])
        .max_wait(Duration::from_secs(4))
        .open()
        .unwrap();
    let proxy = kafka.listener_proxy(1, ASKING);
    wait_until("a Fetch", LONG, || proxy.requests(FETCH) >= 1);
    let connections = proxy.accepted();
    // Each but the last has waited, and was answered.
    wait_until("three Fetches have waited", LONG, || proxy.requests(FETCH) >= 4);
    assert_eq!(proxy.accepted(), connections, "each over the connection of the first");
    let handshakes = proxy.requests(SASL_HANDSHAKE) as usize;
    assert!(handshakes > connections, "{handshakes} on {connections} connections");
    kafka.fill(&topic, 1, 1, "none", 10);
    let mut messages = stream.iter();
    assert!(matches!(messages.next_timeout(LONG), Ok(Next::Message(_))));
}
