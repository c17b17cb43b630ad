//! Each listener does what it is there for, by the word of Java's own clients.

use super::LONG;
use crate::support::{
    Authority, JavaAccess, LOOPBACK, Secured, User, is_long, run_folder, secured, unique, wait_until,
};

/// Every way in that works.
fn ways(secured: &Secured) -> Vec<(&'static str, JavaAccess)> {
    let User { name, password } = User::ALICE;
    let tls = |protocol| secured.java_tls(protocol);
    let plain = || JavaAccess::new("SASL_PLAINTEXT");
    vec![
        ("SSL", tls("SSL")),
        ("MTLS", tls("SSL").shows(&secured.java_keystore("carol"))),
        ("PLAIN_ONLY", plain().plain(name, password)),
        ("SASL", plain().scram("SCRAM-SHA-256", name, password)),
        ("SASL", plain().scram("SCRAM-SHA-512", name, password)),
        ("SASL", plain().oauthbearer(name)),
        ("SASL", plain().plain(name, password)),
        ("SASL_TLS", tls("SASL_SSL").plain(name, password)),
        ("SASL_TLS", tls("SASL_SSL").scram("SCRAM-SHA-512", name, password)),
        ("SASL_TLS", tls("SASL_SSL").oauthbearer(name)),
    ]
}

#[test]
fn java_writes_and_reads_by_every_listener() {
    let secured = secured();
    for (listener, access) in ways(secured) {
        let topic = unique("java-secured");
        secured.kafka.create_topic(&topic, 1, &[]);
        let java = secured.kafka.java_at(listener, &access);
        java.writes(&topic, 0, &["one", "two"]);
        assert_eq!(java.texts(&topic), ["one", "two"], "{listener} by {access:?}");
    }
}

#[test]
fn the_console_programs_are_let_in() {
    let secured = secured();
    let mut ways = ways(secured);
    if !is_long() {
        // A JVM for each program: the last one has all, TLS and a name.
        ways.drain(..ways.len() - 1);
    }
    for (listener, access) in ways {
        let topic = unique("console-secured");
        secured.kafka.create_topic(&topic, 1, &[]);
        let java = secured.kafka.java_at(listener, &access);
        java.console_producer(&topic, "one\ntwo\n");
        assert_eq!(
            java.console_consumer(&topic, 2),
            "one\ntwo\n",
            "{listener} by {access:?}"
        );
    }
}

#[test]
fn java_is_kept_out_where_something_is_wrong() {
    let secured = secured();
    let User { name, password } = User::ALICE;
    let plain = || JavaAccess::new("SASL_PLAINTEXT");
    let wrong = [
        ("SASL", plain().plain(name, "wrong"), "Authentication"),
        (
            "SASL",
            plain().scram("SCRAM-SHA-256", "nobody", password),
            "Authentication",
        ),
        (
            "PLAIN_ONLY",
            plain().scram("SCRAM-SHA-256", name, password),
            "UnsupportedSaslMechanism",
        ),
        ("MTLS", secured.java_tls("SSL"), "SslAuthentication"),
        ("OVER", secured.java_tls("SSL"), "SslAuthentication"),
        ("EARLY", secured.java_tls("SSL"), "SslAuthentication"),
        ("SELF_SIGNED", secured.java_tls("SSL"), "SslAuthentication"),
        ("STRANGER", secured.java_tls("SSL"), "SslAuthentication"),
        ("MISNAMED", secured.java_tls("SSL"), "SslAuthentication"),
    ];
    for (listener, access, word) in wrong {
        let java = secured.kafka.java_at(listener, &access);
        let said = java.tries("partitions", &["whatever"]).expect_err(listener);
        assert!(said.contains(word), "{listener} by {access:?}: {said}");
    }
}

#[test]
fn what_is_allowed_to_one_is_refused_to_others_until_it_is_taken_back() {
    let secured = secured();
    let kafka = &secured.kafka;
    let topic = unique("allowed");
    kafka.create_topic(&topic, 1, &[]);
    let [alice, bob] = [User::ALICE, User::BOB]
        .map(|User { name, password }| kafka.java_at("SASL", &JavaAccess::new("SASL_PLAINTEXT").plain(name, password)));
    alice.writes(&topic, 0, &["free for all"]);
    kafka.allow("User:alice", "READ", "TOPIC", &topic);
    assert_eq!(alice.texts(&topic), ["free for all"]);
    let said = bob
        .tries("consume", &[&topic, "1", "read_uncommitted"])
        .expect_err("not allowed");
    assert!(said.contains("TopicAuthorization"), "{said}");
    kafka.revoke("User:alice", "READ", "TOPIC", &topic);
    assert_eq!(bob.texts(&topic), ["free for all"]);
}

#[test]
fn another_certificate_is_shown_to_those_who_come_later() {
    let secured = secured();
    let kafka = &secured.kafka;
    let topic = unique("rotated");
    kafka.create_topic(&topic, 1, &[]);
    let new = Authority::new("new");
    let new_root = run_folder().join("new-root.pem");
    std::fs::write(&new_root, new.root()).expect("a certificate can be written");
    let before = kafka.java_at("ROTATED", &secured.java_tls("SSL"));
    let after = kafka.java_at("ROTATED", &JavaAccess::new("SSL").trusts(&new_root));
    before.writes(&topic, 0, &["before"]);
    kafka.show(1, "ROTATED", &new.server(&LOOPBACK));
    wait_until("the new certificate is shown", LONG, || {
        after.tries("send", &[&topic, "0", "after"]).is_ok()
    });
    let said = before
        .tries("partitions", &[&topic])
        .expect_err("its root is not the new one's");
    assert!(said.contains("SslAuthentication"), "{said}");
}
