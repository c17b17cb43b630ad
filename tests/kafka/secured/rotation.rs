//! Certificates are replaced under load: who is connected stays so, who comes anew sees the new one, and nothing fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use klamm::{Client, ErrorKind, Producer, Record, StartAt, Tls};

use super::{LONG, at, take, tls, write};
use crate::support::{Authority, LOOPBACK, Stop, run_folder, secured, unique, wait_until};

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
