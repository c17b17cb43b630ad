//! Nothing outlives its handle: counted in a process of its own.

use std::time::Duration;

use klamm::Client;

use super::{LONG, alone, texts};
use crate::support::{ALONE, klamm_threads, nothing_is_left, shared, sockets, unique, wait_until};

#[test]
fn a_hundred_streams_leave_no_thread_and_no_descriptor() {
    let mut made = String::new();
    if std::env::var_os(ALONE).is_none() {
        let topic = unique("leaks");
        shared().create_topic(&topic, 5, &[]);
        shared().fill(&topic, 5, 50, "lz4", 100);
        made = format!("{} {topic}", shared().bootstrap());
    }
    let Some(given) = alone("leaks::a_hundred_streams_leave_no_thread_and_no_descriptor", &made) else {
        return;
    };
    let (bootstrap, topic) = given.split_once(' ').unwrap();
    let before = sockets();
    assert_eq!(klamm_threads(), Vec::<String>::new());
    let client = Client::connect(bootstrap).unwrap();
    client.partitions(topic).unwrap();
    let with_client = (klamm_threads().len(), sockets());
    for round in 0..100 {
        let reader = client.reader().topics([topic]).max_wait(Duration::from_secs(10));
        let stream = reader.open().unwrap();
        match round % 5 {
            0 => {} // closed while it finds out where to begin
            1 => drop(texts(&stream, 1)),
            2 => drop(texts(&stream, 50)),
            3 => stream.closer().close(),
            _ => {
                stream.pause((0..5).map(|partition| (topic, partition))).unwrap();
                assert!(stream.health().is_healthy());
            }
        }
        if round % 2 == 0 {
            stream.close(LONG).unwrap();
        } else {
            drop(stream);
        }
        // A joined thread may be listed for a moment longer.
        wait_until("the threads have ended", LONG, || {
            klamm_threads().len() <= with_client.0
        });
        assert!(sockets() <= with_client.1 + 1, "round {round}: {} sockets", sockets());
    }
    drop(client);
    nothing_is_left(before);
    for _ in 0..20 {
        let client = Client::connect(bootstrap).unwrap();
        let stream = client.reader().topics([topic]).open().unwrap();
        drop(client);
        drop(texts(&stream, 1));
        drop(stream);
    }
    nothing_is_left(before);
}
