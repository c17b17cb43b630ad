//! Connections that break in the middle of anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use klamm::{Client, Next, StartAt};

use super::{LONG, Order, alone};
use crate::support::{
    ALONE, Direction, Kafka, Random, Then, nothing_is_left, sockets, unique, wait_for_a_place, wait_until,
};

const CUTS: usize = 200;

/// In a process of its own, since it counts threads and descriptors.
#[test]
fn a_stream_that_is_cut_two_hundred_times_is_the_log() {
    let place = std::env::var_os(ALONE).is_none().then(wait_for_a_place);
    if alone("cuts::a_stream_that_is_cut_two_hundred_times_is_the_log", "").is_none() {
        return drop(place);
    }
    let kafka = Kafka::builder().behind_proxies().start();
    let topic = unique("cuts");
    kafka.create_topic(&topic, 3, &[]);
    kafka.fill(&topic, 3, 60_000, "none", 400);
    let sockets_before = sockets();
    let proxy = kafka.proxy(1);

    let client = Client::builder()
        .bootstrap(kafka.bootstrap())
        .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(20))
        .connect()
        .unwrap();
    let stream = client
        .reader()
        .topics([&topic])
        .max_wait(Duration::from_millis(20))
        .partition_max_bytes(64 << 10)
        .open()
        .unwrap();
    let is_over = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut rounds = 0;
            loop {
                let mut order = Order::default();
                let mut iter = stream.iter();
                while order.count < 60_000 {
                    match iter.next_timeout(LONG).unwrap() {
                        Next::Message(message) => order.take(&message),
                        other => panic!("{other:?} after {} in round {rounds}", order.count),
                    }
                }
                rounds += 1;
                match iter.next_timeout(Duration::from_millis(100)).unwrap() {
                    Next::TimedOut => {}
                    other => panic!("more than there is: {other:?}"),
                }
                drop(iter);
                if is_over.load(Ordering::SeqCst) {
                    return rounds;
                }
                for partition in 0..3 {
                    stream.seek((&topic, partition), StartAt::Earliest).unwrap();
                }
            }
        });
        let mut random = Random(0x006b_6c61_6d6d);
        for cut in 0..CUTS {
            let then = if cut % 2 == 0 { Then::Cut } else { Then::Reset };
            let (direction, most) = if cut % 4 == 3 {
                (Direction::ToBroker, 600)
            } else {
                (Direction::ToClient, 150_000)
            };
            proxy.after(direction, 1 + random.below(most), then);
            wait_until("a cut", LONG, || !proxy.is_pending(direction) || reader.is_finished());
            assert!(!reader.is_finished(), "the reader has ended at cut {cut}");
        }
        is_over.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    println!("{rounds} times the log, {} connections", proxy.accepted());
    wait_until("health after the last cut", LONG, || stream.health().is_healthy());
    stream.close(LONG).unwrap();
    drop(client);
    nothing_is_left(sockets_before);
}
