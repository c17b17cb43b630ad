//! Certificates are replaced under load: who is connected stays so, who comes anew sees the new one, and nothing fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use klamm::{Client, ErrorKind, Producer, Record, StartAt, Tls};

use super::load::{PARTITIONS, compare, load};
use super::{LONG, at, take, tls, write};
use crate::support::{Authority, LOOPBACK, Stop, is_long, run_folder, secured, unique, wait_until};

/// Writes without a pause until it is told to stop; how many.
fn pour(producer: &Producer, topic: &str, stop: &AtomicBool) -> usize {
    let mut sent = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let text = sent.len().to_string();
        let record = Record::to(topic).partition(0).value(&text);
        sent.push(producer.send(record).expect("it is taken"));
        thread::sleep(Duration::from_millis(1));
    }
    for delivery in &sent {
        delivery.wait(LONG).expect("nothing fails");
    }
    sent.len()
}

#[test]
fn a_broker_s_certificate_may_be_replaced_under_load() {
    let (kafka, listener) = (&secured().kafka, "ROTATING");
    let topic = unique("rotating");
    kafka.create_topic(&topic, 1, &[]);
    let new = Authority::new("new");
    let both = at(listener)
        .tls(tls().root_pem(new.root()))
        .connect()
        .expect("the old certificate is vouched for");
    let producer = both.producer().build().expect("good settings");
    let stream = both
        .group(unique("rotating"))
        .topics([&topic])
        .start_at(StartAt::Earliest)
        .join()
        .expect("it joins");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let pouring = scope.spawn(|| pour(&producer, &topic, &stop));
        let stopping = Stop(&stop);
        let mut read = take(&stream, 100);

        kafka.show(1, listener, &new.server(&LOOPBACK));
        let connect = |tls: Tls| at(listener).tls(tls).connect();
        let new_one = || Tls::new().root_pem(new.root());
        wait_until("the new certificate is shown", LONG, || connect(new_one()).is_ok());
        let refused = connect(tls()).expect_err("nobody it trusts vouches for the new one");
        assert_eq!(refused.kind(), ErrorKind::Authentication, "{refused}");
        // Who is connected goes on, and comes again when it is cut off.
        read.extend(take(&stream, 100));
        let before = kafka.listener_proxy(1, listener).accepted();
        kafka.listener_proxy(1, listener).cut();
        read.extend(take(&stream, 200));
        let proxy = kafka.listener_proxy(1, listener);
        wait_until("new connections", LONG, || proxy.accepted() > before);

        drop(stopping);
        let written = pouring.join().expect("nothing fails");
        read.extend(take(&stream, written - read.len()));
        let texts = read.into_iter().map(|(_, text)| text);
        assert!(
            texts.eq((0..written).map(|number| number.to_string())),
            "each once, in order"
        );
        assert_eq!(kafka.offsets(&topic)[0].latest, written as i64, "and nothing else");
    });
    stream.close(LONG).expect("it leaves");
}

#[test]
fn a_client_s_certificate_may_be_replaced_in_its_files() {
    let (kafka, listener) = (&secured().kafka, "MTLS_CUT");
    let (before, topic) = (unique("before"), unique("renewed"));
    for (who, topic) in [("User:CN=old", &before), ("User:CN=new", &topic)] {
        kafka.create_topic(topic, 1, &[]);
        kafka.allow(who, "ALL", "TOPIC", topic);
    }
    let name = unique("client");
    let renew = |who| secured().authority.client(who).write(run_folder(), &name);
    let (chain, key) = renew("old");
    let client: Client = at(listener)
        .tls(tls().identity_files(&chain, &key))
        .unknown_topic_ttl(Duration::from_millis(300)) // for so long a refusal is believed
        .connect()
        .expect("it is let in");
    let attempt = |client: &Client| {
        let producer = client.producer().build()?;
        let record = Record::to(&topic).partition(0).value("one");
        producer.send(record)?.wait(LONG).map(drop)
    };
    let refused = attempt(&client).expect_err("only the new one may");
    assert_eq!(refused.kind(), ErrorKind::Authorization, "{refused}");

    let running = client.producer().build().expect("good settings");
    write(&running, &before, 0, ["one"]);
    renew("new");
    // Connections that there are keep their name until they end.
    write(&running, &before, 0, ["two"]);
    kafka.listener_proxy(1, listener).cut();
    wait_until("it is known by its new name", LONG, || attempt(&client).is_ok());
    write(&running, &topic, 0, ["three"]);
}

/// How often certificates are replaced.
const TURN: Duration = Duration::from_secs(1);

/// Connections are cut, or nobody would notice. Beside it, a client has the same load to whom the same happens, but that its
/// files, which it reads again, say the same again: neither has a TLS session to go on with.
#[test]
fn nothing_fails_or_is_held_up_while_both_sides_replace_their_certificates() {
    let (kafka, ours) = (&secured().kafka, &secured().authority);
    let turns = if is_long() { 40 } else { 4 };
    let (name, new) = (unique("turning"), Authority::new("new"));
    let (chain, key) = ours.client("turning").write(run_folder(), &name);
    let (same, name) = (ours.client("steady"), unique("steady"));
    let (same_chain, same_key) = same.write(run_folder(), &name);
    let turning = tls().root_pem(new.root()).identity_files(&chain, &key);
    let steady = tls().root_pem(new.root()).identity_files(same_chain, same_key);
    let clients = [("TURNING", turning), ("STEADY", steady)].map(|(listener, tls)| {
        let topic = unique("turning");
        kafka.create_topic(&topic, PARTITIONS as usize, &[]);
        (at(listener).tls(tls).connect().expect("it is let in"), topic)
    });
    let proxies = ["TURNING", "STEADY"].map(|listener| kafka.listener_proxy(1, listener));
    let over = AtomicBool::new(false);
    let [turning, steady] = thread::scope(|scope| {
        let stopping = Stop(&over);
        let over = &over;
        let loads = clients.each_ref();
        let loads = loads.map(|(client, topic)| scope.spawn(move || load(client, topic, over)));
        for turn in 0..turns {
            thread::sleep(TURN);
            let renewed = ours.client("turning");
            std::fs::write(&chain, &renewed.chain).expect("a certificate can be written");
            same.write(run_folder(), &name);
            // The key comes later, and who connects meanwhile has the old ones.
            let before = proxies.map(|proxy| proxy.accepted());
            proxies.iter().for_each(|proxy| proxy.cut());
            let has_come_again = |at: usize| proxies[at].accepted() > before[at] || loads[at].is_finished();
            wait_until("both have come again", LONG, || has_come_again(0) && has_come_again(1));
            std::fs::write(&key, &renewed.key).expect("a key can be written");
            same.write(run_folder(), &name);
            let authority = if turn % 2 == 0 { &new } else { ours };
            kafka.show(1, "TURNING", &authority.server(&LOOPBACK));
            proxies.iter().for_each(|proxy| proxy.cut());
        }
        thread::sleep(TURN);
        drop(stopping);
        loads.map(|load| load.join().expect("nothing fails"))
    });
    println!("{turns} turns:");
    turning.tell("with other certificates", TURN);
    steady.tell("without", TURN);
    for (run, (_, topic)) in [&turning, &steady].into_iter().zip(&clients) {
        let ends: i64 = kafka.offsets(topic).iter().map(|partition| partition.latest).sum();
        assert_eq!(ends, run.written as i64 + i64::from(PARTITIONS), "all of it, once");
    }
    if is_long() {
        compare(&turning, &steady, TURN);
    }
}
