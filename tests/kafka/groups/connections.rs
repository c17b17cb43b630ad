//! Connections of a group's member that break anywhere, that an idle broker closes, and that wait; and a close at every
//! moment.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{FindCoordinatorResponse, HeartbeatResponse};
use klamm::{Client, Event, GroupBuilder, Next, Stream};

use super::brokers::{
    FIND_COORDINATOR, HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, LONG, OFFSET_COMMIT, OFFSET_FETCH, Reading, SYNC_GROUP,
    check, committed, connect, drain, edit, next, texts, troubles, wait_for_event, wait_until_assigned,
};
use crate::support::{
    ALONE, Direction, Fate, Kafka, Random, Then, What, alone, is_long, nothing_is_left, shared_behind_a_proxy, sockets,
    unique, wait_for_a_place, wait_until,
};

/// Quick to notice things, and hard to lose.
fn member(client: &Client, group: &str, topic: &str) -> GroupBuilder {
    client
        .group(group)
        .topics([topic])
        .session_timeout(Duration::from_secs(60))
        .rebalance_timeout(Duration::from_secs(90))
        .heartbeat_interval(Duration::from_millis(200))
        .commit_interval(Duration::from_millis(50))
}

fn quick(kafka: &Kafka) -> Client {
    Client::builder()
        .bootstrap(kafka.bootstrap())
        .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(20))
        .connect()
        .unwrap()
}

/// One member stays, and another comes and goes.
#[test]
fn nothing_is_lost_or_doubled_while_connections_are_cut_anywhere() {
    let cuts = if is_long() { 300 } else { 40 };
    let kafka = shared_behind_a_proxy();
    let proxy = kafka.proxy(1);
    let (topic, group) = (unique("cut"), unique("cut"));
    kafka.create_topic(&topic, 4, &[]);
    let pouring = kafka.pour(&topic, 4, 400.0, Duration::from_secs(1800));
    let client = quick(&kafka);
    let stays = Reading::start("stays", member(&client, &group, &topic).join().unwrap(), Duration::ZERO);
    let is_over = AtomicBool::new(false);
    let others = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut histories = Vec::new();
            while !is_over.load(Ordering::SeqCst) {
                let name = format!("other-{}", histories.len());
                let joined = member(&client, &group, &topic).join();
                let other = Reading::start(&name, joined.unwrap(), Duration::ZERO);
                wait_until("it has read", LONG, || {
                    other.read() > 50 || is_over.load(Ordering::SeqCst)
                });
                histories.push(other.stop().0);
            }
            histories
        });
        let mut random = Random(0x67_726f_7570);
        for cut in 0..cuts {
            let then = if cut % 2 == 0 { Then::Cut } else { Then::Reset };
            let (direction, most) = if cut % 4 < 2 {
                (Direction::ToBroker, 4_000)
            } else {
                (Direction::ToClient, 20_000)
            };
            proxy.after(direction, 1 + random.below(most), then);
            wait_until("a cut", LONG, || !proxy.is_pending(direction) || others.is_finished());
            assert!(!others.is_finished(), "the other members have ended at cut {cut}");
        }
        is_over.store(true, Ordering::SeqCst);
        others.join().unwrap()
    });
    proxy.heal();
    let counts = pouring.stop();
    let all: usize = counts.values().sum();
    wait_until("all is committed", LONG, || committed(&kafka, &group) == all as i64);
    wait_until("health", LONG, || stays.stream.health().is_healthy());
    let (mut history, report) = stays.stop();
    assert!(report.left_group && report.uncommitted.is_empty(), "{report:?}");
    println!("{} other members, {} connections", others.len(), proxy.accepted());
    for other in others {
        history.add(other);
    }
    println!("{} rebalances", history.rebalances.len());
    let lost: Vec<_> = history
        .lines
        .values()
        .flatten()
        .filter(|line| {
            matches!(
                line.what,
                What::Lost { .. } | What::Failed { .. } | What::Abandoned { .. }
            )
        })
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    check(&kafka, &group, &topic, &counts, &history, 0);
}

/// What the answer says is not known: it may have been done.
#[test]
fn an_answer_that_breaks_off_costs_nothing_whichever_it_is() {
    let kafka = shared_behind_a_proxy();
    let proxy = kafka.proxy(1);
    let client = quick(&kafka);
    for api in [
        FIND_COORDINATOR,
        JOIN_GROUP,
        SYNC_GROUP,
        HEARTBEAT,
        OFFSET_FETCH,
        OFFSET_COMMIT,
    ] {
        let (topic, group) = (unique("broken"), unique("broken"));
        kafka.create_topic(&topic, 2, &[]);
        kafka.fill(&topic, 2, 200, "none", 10);
        let left = Arc::new(AtomicUsize::new(6));
        proxy.on_answer({
            let left = Arc::clone(&left);
            move |asked, frame| {
                if asked.api_key != api {
                    return Fate::Forward;
                }
                let take = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                match take {
                    Err(_) => Fate::Forward,
                    Ok(number) if number % 2 == 0 => Fate::Cut,
                    // Half of it, and then nothing; or rather, what comes next cannot be understood.
                    Ok(_) => {
                        let mut broken = (frame.len() as u32 / 2).to_be_bytes().to_vec();
                        broken.extend(&frame[..frame.len() / 2]);
                        *frame = broken;
                        Fate::ForwardRaw
                    }
                }
            }
        });
        let stream = member(&client, &group, &topic).join().unwrap();
        let reading = Reading::start("member", stream, Duration::ZERO);
        reading.wait_until_read(200);
        wait_until("all is committed", LONG, || committed(&kafka, &group) == 200);
        wait_until("all are broken", LONG, || left.load(Ordering::SeqCst) == 0);
        kafka.fill_from(100, &topic, 2, 200, "none", 10);
        reading.wait_until_read(400);
        wait_until("all is committed", LONG, || committed(&kafka, &group) == 400);
        wait_until("health", LONG, || reading.stream.health().is_healthy());
        let (history, report) = reading.stop();
        assert!(report.left_group && report.uncommitted.is_empty(), "{api}: {report:?}");
        check(&kafka, &group, &topic, &[(0, 200), (1, 200)].into(), &history, 0);
    }
}

/// The links to the coordinator, and those for metadata and offsets: what the member does next must succeed at once.
#[test]
fn a_group_does_not_notice_that_brokers_close_idle_connections() {
    let kafka = Kafka::builder()
        .property("connections.max.idle.ms", 2000)
        .behind_proxies()
        .start();
    for interval in [Duration::from_millis(500), Duration::from_secs(5)] {
        let (topic, group) = (unique("idle"), unique("idle"));
        kafka.create_topic(&topic, 2, &[]);
        kafka.fill(&topic, 2, 20, "none", 10);
        let join = || {
            let client = connect(&kafka.bootstrap());
            member(&client, &group, &topic)
                .heartbeat_interval(interval)
                .commit_interval(None)
                .join()
                .unwrap()
        };
        let stream = join();
        texts(&stream, 20);
        stream.commit(LONG).unwrap();
        // A coordinator that is new to this group has trouble of its own.
        drain(&stream);
        std::thread::sleep(Duration::from_secs(10));
        assert!(stream.health().is_healthy(), "{interval:?}: {:?}", stream.health());
        kafka.fill_from(10, &topic, 2, 20, "none", 10);
        texts(&stream, 20);
        links_become_idle(&kafka, interval);
        stream.commit(Duration::from_secs(40)).unwrap();
        assert_eq!(committed(&kafka, &group), 40);
        std::thread::sleep(Duration::from_secs(6));
        // The link that joins has done nothing since the beginning.
        let second = join();
        wait_until_assigned(&second, 1);
        wait_until_assigned(&stream, 1);
        assert!(troubles(&stream).is_empty(), "{:?}", stream.health());
        wait_until("the rebalance is over", LONG, || stream.health().is_healthy());
        let events = drain(&stream);
        assert!(!events.iter().any(is_trouble), "{interval:?}: {events:?}");
        let rebalances = events.iter().filter(|event| matches!(event, Event::Rebalanced { .. }));
        assert_eq!(rebalances.count(), 1, "{interval:?}: {events:?}");
        // And the goodbye: nothing is to be committed before it.
        second.close(LONG).unwrap();
        wait_until_assigned(&stream, 2);
        wait_until("the rebalance is over", LONG, || stream.health().is_healthy());
        links_become_idle(&kafka, interval);
        assert!(stream.close(LONG).unwrap().left_group);
    }
}

/// Until the broker has closed them, and no heartbeat has made others; if heartbeats leave the time for that.
fn links_become_idle(kafka: &Kafka, interval: Duration) {
    if interval > Duration::from_secs(2) {
        let heartbeats = kafka.proxy(1).requests(HEARTBEAT);
        wait_until("a heartbeat", LONG, || kafka.proxy(1).requests(HEARTBEAT) > heartbeats);
        std::thread::sleep(Duration::from_millis(3500));
    }
}

fn is_trouble(event: &Event) -> bool {
    matches!(
        event,
        Event::GroupTrouble { .. } | Event::Lost { .. } | Event::CommitFailed { .. } | Event::Disconnected { .. }
    )
}

/// How long answers take, by API.
type Latencies = Arc<Mutex<HashMap<i16, Vec<Duration>>>>;

/// Nineteen of twenty partitions wait in the broker for ten seconds each time.
#[test]
fn commits_and_heartbeats_do_not_wait_behind_long_polls() {
    let kafka = shared_behind_a_proxy();
    let proxy = kafka.proxy(1);
    let run = |partitions: usize, max_wait: Duration| {
        let latencies = Latencies::default();
        let asked_at: Arc<Mutex<HashMap<(usize, i32), Instant>>> = Arc::default();
        proxy.on_request({
            let asked_at = Arc::clone(&asked_at);
            move |asked, _| {
                let key = (asked.connection, asked.correlation);
                asked_at.lock().unwrap().insert(key, Instant::now());
                Fate::Forward
            }
        });
        proxy.on_answer({
            let latencies = Arc::clone(&latencies);
            move |asked, _| {
                let key = (asked.connection, asked.correlation);
                if let Some(at) = asked_at.lock().unwrap().remove(&key) {
                    latencies
                        .lock()
                        .unwrap()
                        .entry(asked.api_key)
                        .or_default()
                        .push(at.elapsed());
                }
                Fate::Forward
            }
        });
        let (topic, group) = (unique("behind"), unique("behind"));
        kafka.create_topic(&topic, partitions, &[]);
        let client = connect(&kafka.bootstrap());
        let stream = member(&client, &group, &topic)
            .max_wait(max_wait)
            .commit_interval(None)
            .join()
            .unwrap();
        wait_until_assigned(&stream, partitions);
        let mut commits = Vec::new();
        for number in 0..25 {
            kafka.java_writes(&topic, 0, &["next"]);
            assert_eq!(next(&stream), number);
            let begun = Instant::now();
            stream.commit(LONG).unwrap();
            commits.push(begun.elapsed());
        }
        stream.close(LONG).unwrap();
        proxy.no_hooks();
        let mut latencies = latencies.lock().unwrap().clone();
        let heartbeats = latencies.remove(&HEARTBEAT).unwrap_or_default();
        [commits, heartbeats].map(|mut times| {
            times.sort_unstable();
            (times[times.len() / 2], *times.last().unwrap())
        })
    };
    let quiet = run(1, Duration::from_millis(100));
    let crowded = run(20, Duration::from_secs(10));
    println!("median and longest of commits and heartbeats: {quiet:?} alone, {crowded:?} behind long polls");
    for ((quiet, _), (median, longest)) in quiet.into_iter().zip(crowded) {
        assert!(
            median < quiet * 10 + Duration::from_millis(100),
            "{median:?}, not {quiet:?}"
        );
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    }
}

/// What a close of `stream` takes, and whether the group was told.
#[track_caller]
fn close(stream: Stream, timeout: Duration) -> (Duration, bool) {
    let closer = stream.closer();
    closer.close();
    closer.close();
    assert!(stream.iter().next().is_none());
    let begun = Instant::now();
    let report = stream.close(timeout).expect("it closes in time");
    closer.close();
    (begun.elapsed(), report.left_group)
}

/// In a process of its own, since it counts threads and descriptors.
#[test]
fn a_member_may_be_closed_at_any_moment() {
    let place = std::env::var_os(ALONE).is_none().then(wait_for_a_place);
    if alone("groups::connections::a_member_may_be_closed_at_any_moment", "").is_none() {
        return drop(place);
    }
    let kafka = Kafka::builder().behind_proxies().start();
    let topic = unique("closing");
    kafka.create_topic(&topic, 2, &[]);
    kafka.fill(&topic, 2, 20, "none", 10);
    let sockets_before = sockets();
    while_another_is_slow(&kafka, &topic);
    between_join_and_sync(&kafka, &topic);
    while_nobody_coordinates(&kafka, &topic);
    nothing_is_left(sockets_before);
    while_the_broker_is_frozen_and_then_dead(&kafka, &topic);
    nothing_is_left(sockets_before);
}

/// What needs no time may take that on a busy machine; all limits of the members are far longer.
const SOON: Duration = Duration::from_secs(20);

fn while_another_is_slow(kafka: &Kafka, topic: &str) {
    let group = unique("slow");
    let client = connect(&kafka.bootstrap());
    let slow = member(&client, &group, topic).join().unwrap();
    let mut iter = slow.iter();
    let Next::Message(held) = iter.next_timeout(LONG).unwrap() else {
        panic!("a message")
    };
    for is_dropped in [false, true] {
        let joins = kafka.proxy(1).requests(JOIN_GROUP);
        let waits = member(&connect(&kafka.bootstrap()), &group, topic).join().unwrap();
        // Without an ID, and then with the one that it was given.
        wait_until("it joins", LONG, || kafka.proxy(1).requests(JOIN_GROUP) >= joins + 2);
        wait_for_event(&slow, "RebalanceStarted", |event| {
            matches!(event, Event::RebalanceStarted).then_some(())
        });
        assert!(waits.assignment().is_empty());
        let leaves = kafka.proxy(1).requests(LEAVE_GROUP);
        if is_dropped {
            let begun = Instant::now();
            drop(waits);
            println!("dropped while JoinGroup waits: {:?}", begun.elapsed());
            assert!(begun.elapsed() < SOON);
        } else {
            let (took, left) = close(waits, LONG);
            println!("closed while JoinGroup waits: {took:?}");
            assert!(took < SOON && left, "{took:?}, {left}");
        }
        assert_eq!(kafka.proxy(1).requests(LEAVE_GROUP), leaves + 1);
        if !is_dropped {
            // The slow one finds that nobody else is there, and goes on: what it has acked need not be dropped.
            held.ack();
            let Next::Message(_) = iter.next_timeout(Duration::from_secs(50)).unwrap() else {
                panic!("the revocation waits for nothing")
            };
        }
    }
    drop((held, iter));
    let (took, left) = close(slow, LONG);
    assert!(took < SOON && left, "{took:?}, {left}");
}

fn between_join_and_sync(kafka: &Kafka, topic: &str) {
    let group = unique("sync");
    let proxy = kafka.proxy(1);
    proxy.on_request(|asked, _| match asked.api_key {
        SYNC_GROUP => Fate::Drop,
        _ => Fate::Forward,
    });
    let client = connect(&kafka.bootstrap());
    let syncs = proxy.requests(SYNC_GROUP);
    let stream = member(&client, &group, topic).join().unwrap();
    wait_until("it syncs", LONG, || proxy.requests(SYNC_GROUP) > syncs);
    let (took, left) = close(stream, LONG);
    println!("closed between join and sync: {took:?}");
    assert!(took < SOON && left, "{took:?}, {left}");
    proxy.no_hooks();
}

fn while_nobody_coordinates(kafka: &Kafka, topic: &str) {
    let proxy = kafka.proxy(1);
    let client = connect(&kafka.bootstrap());
    for has_acked in [false, true] {
        let group = unique("nobody");
        let stream = member(&client, &group, topic).commit_interval(None).join().unwrap();
        wait_until_assigned(&stream, 2);
        if has_acked {
            next(&stream);
        }
        let searches = proxy.requests(FIND_COORDINATOR);
        proxy.on_answer(|asked, frame| {
            match asked.api_key {
                FIND_COORDINATOR => edit(asked, frame, |answer: &mut FindCoordinatorResponse| {
                    for coordinator in &mut answer.coordinators {
                        coordinator.error_code = 15;
                    }
                }),
                HEARTBEAT => edit(asked, frame, |answer: &mut HeartbeatResponse| answer.error_code = 16),
                _ => {}
            }
            Fate::Forward
        });
        wait_until("it searches", LONG, || proxy.requests(FIND_COORDINATOR) > searches);
        let timeout = Duration::from_secs(3);
        let closer = stream.closer();
        closer.close();
        let begun = Instant::now();
        let report = stream.close(timeout).unwrap();
        let took = begun.elapsed();
        println!("closed while nobody coordinates (acked: {has_acked}): {took:?}");
        assert!(
            took < timeout + Duration::from_secs(1) && !report.left_group,
            "{took:?}, {report:?}"
        );
        assert_eq!(report.uncommitted.len(), usize::from(has_acked), "{report:?}");
        proxy.no_hooks();
    }
}

fn while_the_broker_is_frozen_and_then_dead(kafka: &Kafka, topic: &str) {
    let group = unique("dead");
    let client = connect(&kafka.bootstrap());
    let join = |number: usize| {
        let group = format!("{group}-{number}");
        let stream = member(&client, &group, topic).commit_interval(None).join().unwrap();
        next(&stream);
        stream
    };
    let (frozen, frozen_drop, dead, dead_drop) = (join(1), join(2), join(3), join(4));
    let waits = member(&client, &format!("{group}-5"), topic).join().unwrap();
    kafka.sigstop(1);
    std::thread::sleep(Duration::from_millis(700));
    let timeout = Duration::from_secs(3);
    let limit = timeout + Duration::from_secs(1);
    let (took, left) = close(frozen, timeout);
    println!("closed while the broker is frozen: {took:?}");
    assert!(took < limit && !left, "{took:?}, {left}");
    let begun = Instant::now();
    drop(frozen_drop);
    println!("dropped while the broker is frozen: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let (took, _) = close(waits, timeout);
    assert!(took < limit, "{took:?}");
    kafka.kill9(1);
    wait_until("it is noticed", LONG, || !dead.health().is_healthy());
    let (took, left) = close(dead, timeout);
    println!("closed while the broker is dead: {took:?}");
    assert!(took < limit && !left, "{took:?}, {left}");
    let begun = Instant::now();
    drop(dead_drop);
    println!("dropped while the broker is dead: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    client.close(timeout).unwrap();
}
