//! One and the same file of properties lets Java's console programs in, and klamm: each reads what the other wrote.

use klamm::{ClientBuilder, ErrorKind, ProducerBuilder, Properties};

use super::refusals::tells_no_secret;
use super::{LONG, take, write};
use crate::support::{Identity, JavaAccess, User, secured, unique};

const ALICE: User = User::ALICE;
/// The same key twice: the second one is encrypted with [`PASSWORD`].
const KEY: &str = include_str!("pem/key.pem");
const ENCRYPTED_KEY: &str = include_str!("pem/encrypted-key.pem");
const PASSWORD: &str = "looking-glass-161";

#[track_caller]
fn lets_both_in(listener: &str, access: JavaAccess) {
    let kafka = &secured().kafka;
    let topic = unique("one-file");
    kafka.create_topic(&topic, 1, &[]);
    let access = access.property("client.id", "shared");
    let java = kafka.java_at(listener, &access.property("auto.offset.reset", "earliest"));
    let properties = Properties::from_file(java.properties()).expect("klamm reads it as well");
    assert_eq!(properties.unknown().collect::<Vec<_>>(), [""; 0]);

    let client = properties.client().and_then(ClientBuilder::connect);
    let client = client.expect("it is let in");
    let producer = client.producer().properties(&properties);
    let producer = producer.and_then(ProducerBuilder::build).expect("good settings");
    write(&producer, &topic, 0, ["klamm 1", "klamm 2"]);
    java.console_producer(&topic, "java 1\njava 2\n");

    let all = ["klamm 1", "klamm 2", "java 1", "java 2"];
    let lines: Vec<String> = java.console_consumer(&topic, 4).lines().map(str::to_owned).collect();
    assert_eq!(lines, all, "Java reads both");
    let group = client
        .group(unique("one-file"))
        .topics([&topic])
        .properties(&properties);
    let stream = group.and_then(klamm::GroupBuilder::join).expect("it joins");
    let texts: Vec<String> = take(&stream, 4).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, all, "klamm reads both");
    stream.close(LONG).expect("it leaves");
}

fn scram() -> JavaAccess {
    JavaAccess::new("SASL_SSL").scram("SCRAM-SHA-512", ALICE.name, ALICE.password)
}

#[test]
fn by_scram_with_the_roots_in_the_file_itself() {
    lets_both_in("SASL_TLS", scram().trusts_pem(&secured().authority.root()));
}

#[test]
fn by_scram_with_the_roots_in_another_file() {
    lets_both_in("SASL_TLS", scram().trusts(&secured().root_file()));
}

#[test]
fn by_a_certificate_in_a_keystore() {
    let keystore = secured().java_keystore("frank");
    lets_both_in("MTLS", secured().java_tls("SSL").shows(&keystore));
}

#[test]
fn by_a_certificate_whose_key_was_encrypted_once_that_is_undone() {
    let kafka = &secured().kafka;
    let topic = unique("encrypted");
    kafka.create_topic(&topic, 1, &[]);
    let identity = secured().authority.client_with_key("grace", KEY);
    let encrypted = Identity {
        key: ENCRYPTED_KEY.to_owned(),
        ..identity.clone()
    };
    let store = crate::support::run_folder().join(unique("encrypted.pem"));
    std::fs::write(&store, encrypted.keystore()).expect("a keystore can be written");
    let tls = || secured().java_tls("SSL").property("ssl.key.password", PASSWORD);
    for access in [tls().shows(&store), tls().shows_pem(&encrypted)] {
        let java = kafka.java_at("MTLS", &access);
        java.tries("partitions", &[&topic]).expect("Java is let in");
        let properties = Properties::from_file(java.properties()).expect("klamm reads it as well");
        let error = properties.client().map(drop).expect_err("klamm does not decrypt");
        println!("{error}");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let file = java.properties().display().to_string();
        for part in ["ssl.key.password", "openssl pkey -in", &file] {
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
        }
        tells_no_secret(&error);
        assert!(!format!("{error} {error:?} {properties:?}").contains(PASSWORD));
    }
    lets_both_in("MTLS", secured().java_tls("SSL").shows_pem(&identity));
}
