//! Brokers that want to know again and again who asks: nobody notices.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use klamm::Sasl;

use super::load::{PARTITIONS, Run, compare, load};
use super::{at, oauthbearer, plain};
use crate::support::{Stop, User, is_long, secured, unique};

const SASL_HANDSHAKE: i16 = 17;
/// Of the listener `SHORT`.
const SESSION: Duration = Duration::from_secs(3);

#[test]
fn sessions_of_three_seconds_are_renewed_and_nothing_fails() {
    let kafka = &secured().kafka;
    let proxy = kafka.listener_proxy(1, "SHORT");
    let time = Duration::from_secs(if is_long() { 60 } else { 8 });
    let ways: &[fn() -> Sasl] = match is_long() {
        true => &[
            || plain(User::ALICE),
            || Sasl::scram_sha_512(User::ALICE.name, User::ALICE.password),
            || oauthbearer(User::ALICE),
        ],
        false => &[|| Sasl::scram_sha_256(User::ALICE.name, User::ALICE.password)],
    };
    for sasl in ways {
        let topic = unique("sessions");
        kafka.create_topic(&topic, PARTITIONS as usize, &[]);
        let client = at("SHORT").sasl(sasl()).connect().expect("it is let in");
        let (connections, handshakes) = (proxy.accepted(), proxy.requests(SASL_HANDSHAKE));
        let over = AtomicBool::new(false);
        let (run, without) = thread::scope(|scope| {
            let run = scope.spawn(|| load(&client, &topic, &over));
            // The same beside it, on the same machine at the same time.
            let without = is_long().then(|| scope.spawn(|| load_without(&over)));
            let stopping = Stop(&over);
            thread::sleep(time);
            drop(stopping);
            let run = run.join().expect("nothing fails");
            (run, without.map(|run| run.join().expect("nothing fails")))
        });
        let connections = proxy.accepted() - connections;
        let renewals = (proxy.requests(SASL_HANDSHAKE) - handshakes) as usize - connections;
        println!("{:?}: {renewals} renewals on {connections} connections", sasl());
        // Without renewing, each is a new one every three seconds.
        let sessions = (time.as_secs() / SESSION.as_secs()) as usize;
        assert!(connections < 5 + 3 * sessions, "{connections} connections");
        assert!(renewals >= sessions, "{renewals} renewals");
        run.tell("with", SESSION);
        if let Some(without) = without {
            without.tell("without", SESSION);
            // Each connection is renewed once in that time: what is held up by it, is then.
            compare(&run, &without, SESSION);
        }
    }
}

/// A run in which nobody asks again.
fn load_without(over: &AtomicBool) -> Run {
    let topic = unique("without");
    secured().kafka.create_topic(&topic, PARTITIONS as usize, &[]);
    let client = at("SASL").sasl(plain(User::ALICE)).connect().expect("it is let in");
    load(&client, &topic, over)
}
