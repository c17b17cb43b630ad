//! Every call from every place, at the worst moments: each returns within its time, or says that it would never
//! (scenario 11), and nothing is left behind.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use klamm::{Client, Closer, Error, ErrorKind, Event, GroupBuilder, Message, Next, StartAt, Stream};

use crate::support::{self, ALONE, Direction, Kafka, alone, klamm_threads, shared, unique, wait_until};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);
/// What calls are given that have a timeout, by themselves or as `request_timeout`.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What a busy machine adds. `lag` may wait twice: for positions, and for ends.
const LIMIT: Duration = Duration::from_secs(12);

fn filled(kafka: &Kafka, partitions: usize, records: usize) -> String {
    let topic = unique("everywhere");
    kafka.create_topic(&topic, partitions, &[]);
    kafka.fill(&topic, partitions, records, "none", 10);
    topic
}

fn connect(bootstrap: &str) -> Client {
    let client = Client::builder().bootstrap(bootstrap).request_timeout(TIMEOUT);
    client.connect().unwrap()
}

fn member(client: &Client, group: &str, topic: &str) -> GroupBuilder {
    client
        .group(group)
        .topics([topic])
        .session_timeout(Duration::from_secs(10))
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(Duration::from_millis(500))
}

type Outcome = (&'static str, Option<ErrorKind>);

/// Calls everything that can be called with a stream that goes on, and watches the time.
#[track_caller]
fn everything(stream: &Stream, topic: &str) -> Vec<Outcome> {
    let all = [(topic, 0), (topic, 1)];
    let timed = |name: &'static str, call: &dyn Fn() -> Result<(), Error>| {
        let begun = Instant::now();
        let result = call();
        let took = begun.elapsed();
        assert!(took < LIMIT, "{name} took {took:?}: {result:?}");
        if let Err(error) = &result {
            assert_ne!(error.kind(), ErrorKind::Internal, "{name}: {error}");
        }
        (name, result.err().map(|error| error.kind()))
    };
    vec![
        timed("commit", &|| stream.commit(TIMEOUT)),
        timed("commit_each", &|| stream.commit_each(TIMEOUT).map(drop)),
        timed("committed", &|| stream.committed(all).map(drop)),
        timed("commit_async", &|| {
            stream.commit_async();
            Ok(())
        }),
        timed("ack_through", &|| stream.ack_through(topic, 0, 0)),
        timed("pause", &|| stream.pause(all)),
        timed("resume", &|| stream.resume(all)),
        timed("position", &|| stream.position(stream.assignment()).map(drop)),
        timed("lag", &|| stream.lag().map(drop)),
        timed("health", &|| {
            println!("{:?}, {:?}", stream.health(), stream.assignment());
            Ok(())
        }),
        timed("events", &|| {
            drop(stream.events().try_next());
            Ok(())
        }),
        timed("seek", &|| stream.seek((topic, 0), StartAt::Earliest)),
    ]
}

/// So many messages, each acked.
#[track_caller]
fn take(stream: &Stream, count: usize) {
    support::take(stream, count, |_| ());
}

#[track_caller]
fn close(stream: Stream) {
    let begun = Instant::now();
    stream.close(TIMEOUT * 3).unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

fn is_well(outcomes: &[Outcome]) {
    let bad: Vec<_> = outcomes
        .iter()
        .filter(|(name, error)| error.is_some() && *name != "ack_through") // nothing was given out since the seek
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn from_the_loop_an_events_reader_and_another_thread_at_once() {
    let topic = filled(shared(), 2, 200);
    let client = connect(&shared().bootstrap());
    let stream = member(&client, &unique("group"), &topic).join().unwrap();
    let (events, in_loop) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in stream.events() {
                drop(everything(&stream, &topic));
                events.fetch_add(1, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while in_loop.load(Ordering::SeqCst) < 3 {
                drop(everything(&stream, &topic));
            }
            stream.closer().close();
        });
        for message in &stream {
            let message = message.unwrap();
            drop(everything(&stream, &topic));
            drop(message);
            in_loop.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(in_loop.into_inner() >= 3 && events.into_inner() >= 1);
    // All of it says that it is closed, at once, or does what it can.
    let begun = Instant::now();
    drop(everything(&stream, &topic));
    assert!(begun.elapsed() < LIMIT);
    close(stream);
}

#[test]
fn while_joining_before_anything_is_assigned() {
    let topic = filled(shared(), 2, 20);
    let client = connect(&shared().bootstrap());
    for _ in 0..5 {
        let stream = member(&client, &unique("group"), &topic).join().unwrap();
        let outcomes = everything(&stream, &topic);
        println!("{outcomes:?}");
        close(stream);
    }
    for ending in 0..3 {
        let begun = Instant::now();
        let stream = member(&client, &unique("group"), &topic).join().unwrap();
        match ending {
            0 => drop(stream),
            1 => close(stream),
            _ => {
                stream.closer().close();
                assert!(stream.iter().next().is_none());
            }
        }
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    }
}

#[test]
fn in_the_middle_of_a_rebalance() {
    let topic = filled(shared(), 2, 200);
    let client = connect(&shared().bootstrap());
    let group = unique("group");
    let first = member(&client, &group, &topic).join().unwrap();
    let mut iter = first.iter();
    let Ok(Next::Message(held)) = iter.next_timeout(LONG) else {
        panic!("no message; health {:?}", first.health());
    };
    let second = member(&client, &group, &topic).join().unwrap();
    let end = Instant::now() + LONG;
    while !matches!(first.events().next_timeout(LONG), Some(Event::RebalanceStarted)) {
        assert!(Instant::now() < end, "no rebalance");
    }
    let outcomes = everything(&first, &topic);
    println!("{outcomes:?}");
    drop(everything(&second, &topic));
    assert!(held.is_current(), "it may still be acked");
    assert!(held.ack());
    drop(held);
    // Whoever closes in the middle of it waits for nobody.
    close(second);
    drop(iter);
    wait_until(
        "the first goes on",
        LONG,
        || matches!(first.iter().next_timeout(Duration::from_millis(50)), Ok(Next::Message(message)) if message.ack()),
    );
    let third = member(&client, &group, &topic).join().unwrap();
    let mut iter = first.iter();
    let held = iter.next_timeout(LONG);
    let begun = Instant::now();
    wait_until("the next rebalance", LONG, || {
        matches!(first.events().try_next(), Some(Event::RebalanceStarted)) || begun.elapsed() > LIMIT
    });
    drop(iter);
    close(first);
    drop(held);
    take(&third, 50);
    close(third);
}

#[test]
fn with_a_coordinator_that_is_silent_or_dead() {
    let kafka = Kafka::builder().behind_proxies().start();
    let topic = filled(&kafka, 2, 200);
    let client = connect(&kafka.bootstrap());
    let join = || member(&client, &unique("group"), &topic).join().unwrap();
    let (dropped, leaked) = (join(), join());
    let others = [join(), join()];
    for stream in others.iter().chain([&dropped, &leaked]) {
        take(stream, 10);
    }
    let [asked, closed] = others;
    kafka.proxy(1).stall(Direction::ToClient);
    let outcomes = everything(&asked, &topic);
    println!("silent: {outcomes:?}");
    assert!(
        outcomes.contains(&("committed", Some(ErrorKind::TimedOut))),
        "{outcomes:?}"
    );
    close(closed);
    kafka.proxy(1).resume();
    wait_until("it is well again", LONG, || {
        drop(asked.iter().next_timeout(Duration::from_millis(50)));
        asked.commit(TIMEOUT).is_ok() && asked.health().is_healthy()
    });
    is_well(&everything(&asked, &topic));
    kafka.kill9(1);
    let outcomes = everything(&asked, &topic);
    println!("dead: {outcomes:?}");
    let begun = Instant::now();
    drop(dropped);
    assert!(begun.elapsed() < LIMIT, "a drop took {:?}", begun.elapsed());
    // Nobody waits for one that is never closed.
    std::mem::forget(leaked);
    close(asked);
    let begun = Instant::now();
    client.close(TIMEOUT).unwrap();
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

/// Calls everything in its drop, as a guard of a program may.
struct InDrop<'a>(&'a Stream, &'a str);

impl Drop for InDrop<'_> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        drop(everything(self.0, self.1));
    }
}

#[test]
fn while_a_thread_panics() {
    let topic = filled(shared(), 2, 200);
    let client = connect(&shared().bootstrap());
    let group = unique("group");
    let begun = Instant::now();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let stream = member(&client, &group, &topic).join().unwrap();
        for message in stream {
            assert!(message.unwrap().offset() < 5, "as planned");
        }
    }));
    assert!(panicked.is_err());
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    let stream = member(&client, &group, &topic).join().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut iter = stream.iter();
        let _guard = InDrop(&stream, &topic);
        let message = iter.next_timeout(LONG);
        assert!(message.is_err(), "as planned");
    }));
    assert!(panicked.is_err());
    take(&stream, 100);
    close(stream);
}

// ---- ends ----

#[test]
fn messages_outlive_their_stream_and_their_acks_are_refused() {
    let topic = filled(shared(), 2, 200);
    let client = connect(&shared().bootstrap());
    let group = unique("group");
    for ending in 0..4 {
        let stream = member(&client, &group, &topic).join().unwrap();
        let mut held: Vec<Message> = Vec::new();
        let mut iter = stream.into_iter();
        while held.len() < 5 {
            match iter.next_timeout(LONG) {
                Ok(Next::Message(message)) => held.push(message),
                other => panic!("{other:?}"),
            }
        }
        let begun = Instant::now();
        match ending {
            0 => drop(iter),
            1 => std::thread::spawn(move || drop(iter)).join().unwrap(),
            2 => drop(catch_unwind(AssertUnwindSafe(move || {
                let _iter = iter;
                panic!("as planned");
            }))),
            _ => {
                let client = connect(&shared().bootstrap());
                drop(client);
                drop(iter);
            }
        }
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
        for message in held {
            assert!(!message.is_current());
            assert!(!message.ack());
            assert!(message.value().is_some(), "it can still be read");
            if message.offset() % 2 == 0 {
                drop(message.detach());
            }
        }
    }
    let first = shared().committed(&group).into_values().map(|(offset, _)| offset).max();
    assert!(first.unwrap_or(0) == 0, "nothing was acked: {first:?}");
}

#[test]
fn a_closer_ends_a_member_as_often_as_it_likes_and_may_come_too_late() {
    let topic = filled(shared(), 2, 200);
    let client = connect(&shared().bootstrap());
    let group = unique("group");
    let stream = member(&client, &group, &topic).join().unwrap();
    take(&stream, 5);
    let closers: Vec<Closer> = (0..4).map(|_| stream.closer()).collect();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| stream.iter().take_while(Result::is_ok).count()))
            .collect();
        for closer in &closers {
            scope.spawn(|| {
                closer.close();
                closer.close();
            });
        }
        for thread in waiting {
            thread.join().unwrap();
        }
    });
    let report = stream.close(LONG).unwrap();
    assert!(report.left_group);
    assert!(report.uncommitted.is_empty(), "{report:?}");
    closers.iter().for_each(Closer::close);
    // What was done by then is committed.
    let committed = shared()
        .committed(&group)
        .into_values()
        .map(|(offset, _)| offset)
        .sum::<i64>();
    assert!(committed >= 5, "{committed}");
}

#[test]
fn a_client_may_go_or_be_closed_before_its_member() {
    let topic = filled(shared(), 2, 200);
    let group = unique("group");
    let client = connect(&shared().bootstrap());
    let stream = member(&client, &group, &topic).join().unwrap();
    drop(client);
    take(&stream, 5);
    is_well(&everything(&stream, &topic));
    close(stream);
    let client = connect(&shared().bootstrap());
    let stream = member(&client, &group, &topic).join().unwrap();
    take(&stream, 5);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stream.iter().take_while(Result::is_ok).count());
        let begun = Instant::now();
        client.close(TIMEOUT).unwrap();
        client.close(TIMEOUT).unwrap();
        waiting.join().unwrap();
        assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    });
    drop(everything(&stream, &topic));
    close(stream);
}

#[test]
fn a_member_whose_client_was_closed_leaves_although_its_stream_is_still_there() {
    let topic = filled(shared(), 2, 200);
    let group = unique("group");
    let client = connect(&shared().bootstrap());
    let session = Duration::from_secs(600);
    let stream = member(&client, &group, &topic).session_timeout(session).join().unwrap();
    take(&stream, 50);
    client.close(TIMEOUT).unwrap();
    // Nobody waits for the end of its session.
    let other = connect(&shared().bootstrap());
    let other = member(&other, &group, &topic).join().unwrap();
    take(&other, 150);
    wait_until("all partitions", LONG, || other.assignment().len() == 2);
    assert!(stream.iter().next().is_none() && stream.assignment().is_empty());
    close(other);
    let report = stream.close(TIMEOUT).unwrap();
    assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
}

#[test]
fn a_member_that_is_leaked_keeps_no_other_from_working() {
    let topic = filled(shared(), 4, 400);
    let client = connect(&shared().bootstrap());
    let group = unique("group");
    let leaked = member(&client, &group, &topic).join().unwrap();
    take(&leaked, 5);
    std::mem::forget(leaked);
    // It gives its partitions up in good order: nobody has anything of them in hand.
    let other = member(&client, &group, &topic).join().unwrap();
    take(&other, 100);
    assert_eq!(other.assignment().len(), 2);
    let alone = member(&client, &unique("group"), &topic).join().unwrap();
    take(&alone, 400);
    close(other);
    close(alone);
}

// ---- in a logger ----

/// Calls everything on whichever thread logs, klamm's own above all.
struct Nosy {
    topic: String,
    stream: RwLock<Option<Arc<Stream>>>,
    /// To be closed and dropped in here.
    victims: Mutex<Vec<Stream>>,
    client: Mutex<Option<Client>>,
    outcomes: Mutex<Vec<(String, Outcome)>>,
    is_on: AtomicBool,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl log::Log for Nosy {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        let is_ours = name.starts_with("klamm-") && record.target().starts_with("klamm");
        if !self.is_on.load(Ordering::SeqCst) || !is_ours || INSIDE.replace(true) {
            return;
        }
        let stream = self.stream.try_read().ok().and_then(|stream| stream.clone());
        if let Some(stream) = stream {
            let outcomes = everything(&stream, &self.topic);
            let mut all = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(outcomes.into_iter().map(|outcome| (name.clone(), outcome)));
        }
        let victim = self.victims.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(victim) = victim {
            let begun = Instant::now();
            let outcome = victim.close(LONG).map_err(|error| error.kind());
            let outcome = ("close", outcome.err());
            assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
            let mut all = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((name.clone(), outcome));
        }
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(client) = client {
            let begun = Instant::now();
            let closed = client.close(TIMEOUT).err().map(|error| error.kind());
            assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
            let mut all = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((name, ("client.close", closed)));
        }
        INSIDE.set(false);
    }

    fn flush(&self) {}
}

#[test]
fn from_a_logger_that_klamm_calls() {
    let mut made = String::new();
    if std::env::var_os(ALONE).is_none() {
        made = format!("{} {}", shared().bootstrap(), filled(shared(), 2, 200));
    }
    let Some(given) = alone("groups::everywhere::from_a_logger_that_klamm_calls", &made) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let nosy: &'static Nosy = Box::leak(Box::new(Nosy {
        topic: topic.to_owned(),
        stream: RwLock::new(None),
        victims: Mutex::default(),
        client: Mutex::default(),
        outcomes: Mutex::default(),
        is_on: AtomicBool::new(true),
    }));
    log::set_logger(nosy).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let client = connect(bootstrap);
    let group = unique("group");
    let stream = Arc::new(member(&client, &group, topic).join().unwrap());
    *nosy.stream.write().unwrap() = Some(Arc::clone(&stream));
    // Rebalances are what is logged.
    for _ in 0..2 {
        let other = member(&client, &group, topic).join().unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            for stream in [&*stream, &other] {
                drop(stream.iter().next_timeout(Duration::from_millis(20)).unwrap());
            }
        }
        nosy.victims.lock().unwrap().push(other);
        wait_until("a stream was closed in the logger", LONG, || {
            drop(stream.iter().next_timeout(Duration::from_millis(20)).unwrap());
            // A rebalance is something to log.
            let another = member(&client, &group, topic).join().unwrap();
            drop(another.iter().next_timeout(Duration::from_millis(500)));
            nosy.victims.lock().unwrap().is_empty()
        });
    }
    let other = connect(bootstrap);
    *nosy.client.lock().unwrap() = Some(other);
    wait_until("a client was closed in the logger", LONG, || {
        let another = member(&client, &group, topic).join().unwrap();
        drop(another.iter().next_timeout(Duration::from_millis(500)));
        nosy.client.lock().unwrap().is_none()
    });
    nosy.is_on.store(false, Ordering::SeqCst);
    *nosy.stream.write().unwrap() = None;
    let mut stream = stream;
    let stream = loop {
        // The logger may have it for a moment longer.
        match Arc::try_unwrap(stream) {
            Ok(stream) => break stream,
            Err(shared) => stream = shared,
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    take(&stream, 10);
    close(stream);
    drop(client);
    wait_until("no thread of klamm is left", LONG, || klamm_threads().is_empty());
    let outcomes = std::mem::take(&mut *nosy.outcomes.lock().unwrap());
    println!("{} calls in the logger", outcomes.len());
    let said = |call: &str| -> Vec<_> {
        let of_it = outcomes.iter().filter(|(_, (name, _))| *name == call);
        of_it.map(|(thread, (_, error))| (thread.clone(), *error)).collect()
    };
    for call in ["commit", "commit_each", "committed", "close"] {
        let said = said(call);
        assert!(!said.is_empty(), "{call} was not called");
        let would_deadlock = Some(ErrorKind::WouldDeadlock);
        assert!(
            said.iter().all(|(_, error)| *error == would_deadlock),
            "{call}: {said:?}"
        );
    }
    // That has nobody to wait for but connections.
    assert_eq!(said("client.close").len(), 1);
    for call in ["position", "lag"] {
        let said = said(call);
        assert!(
            said.iter().all(|(_, error)| *error != Some(ErrorKind::TimedOut)),
            "{call}: {said:?}"
        );
    }
}
