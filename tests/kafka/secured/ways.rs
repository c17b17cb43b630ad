//! Whoever is let in, by whichever door, writes, reads in a group and looks after topics as ever; and is who they say.

use klamm::{Client, ClientBuilder, NewTopic, Record, Results, Sasl, StartAt};

use super::{LONG, at, oauthbearer, plain, take, tls};
use crate::support::{JavaAccess, User, run_folder, secured, unique, wait_until};

const ALICE: User = User::ALICE;
/// More than one TLS record, and a few of the socket's buffers.
const LARGE: usize = 700_000;

/// Topics, records to and from Java, a group: as a user whom nobody else can be.
#[track_caller]
fn goes_around(listener: &str, client: ClientBuilder, principal: &str, java: &JavaAccess) {
    let kafka = &secured().kafka;
    let java = kafka.java_at(listener, java);
    let client = client.connect().expect("it is let in");
    let shown = format!("{client:?}");
    assert!(!shown.contains(ALICE.password) && !shown.contains("PRIVATE"), "{shown}");
    let (topic, group) = (unique("ways"), unique("ways"));
    let admin = client.admin();
    let new = NewTopic::new(&topic, 2, 1);
    admin.create_topics([new]).and_then(Results::all).expect("it is made");
    kafka.wait_for_topic(&topic, 2);
    // Now nobody else may do anything with it.
    kafka.allow(principal, "ALL", "TOPIC", &topic);

    let mut wanted: Vec<String> = (0..200).map(|number| format!("klamm {number:03}")).collect();
    wanted.push("x".repeat(LARGE));
    let producer = client.producer().build().expect("good settings");
    for (at, text) in wanted.iter().enumerate() {
        let partition = (at % 2) as i32;
        let record = Record::to(&topic).partition(partition).value(text);
        producer.send_detached(record).expect("it is taken");
    }
    let report = producer.close(LONG).expect("a report");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(java.texts(&topic), wanted, "Java reads what klamm has written");

    java.writes(&topic, 0, &["java 0", "java 1"]);
    wanted.extend(["java 0", "java 1"].map(str::to_owned));
    wanted.sort();
    let stream = client
        .group(&group)
        .topics([&topic])
        .start_at(StartAt::Earliest)
        .join()
        .expect("it joins");
    let mut texts: Vec<String> = take(&stream, wanted.len()).into_iter().map(|(_, text)| text).collect();
    texts.sort();
    assert!(texts == wanted, "klamm reads what both have written");
    stream.close(LONG).expect("it leaves");
    let committed: i64 = kafka.committed_offsets(&group).values().sum();
    assert_eq!(committed, wanted.len() as i64);

    admin
        .delete_topics([&topic])
        .and_then(Results::all)
        .expect("it is deleted");
    client.close(LONG).expect("it ends");
}

/// How Java is let in as Alice, without TLS.
fn java() -> JavaAccess {
    JavaAccess::new("SASL_PLAINTEXT").plain(ALICE.name, ALICE.password)
}

/// The same with TLS.
fn java_over_tls() -> JavaAccess {
    secured().java_tls("SASL_SSL").plain(ALICE.name, ALICE.password)
}

#[test]
fn by_tls_alone() {
    goes_around(
        "SSL",
        at("SSL").tls(tls()),
        "User:ANONYMOUS",
        &secured().java_tls("SSL"),
    );
}

#[test]
fn by_tls_to_a_name_and_with_the_root_in_a_file() {
    let port = secured().kafka.direct_listener(1, "SSL").port();
    let tls = klamm::Tls::new().root_file(secured().root_file());
    let client = Client::builder().bootstrap(format!("localhost:{port}")).tls(tls);
    goes_around("SSL", client, "User:ANONYMOUS", &secured().java_tls("SSL"));
}

#[test]
fn by_tls_and_a_certificate() {
    let identity = secured().authority.client("carol");
    let client = at("MTLS").tls(tls().identity_pem(&identity.chain, &identity.key));
    let java = secured().java_tls("SSL").shows(&secured().java_keystore("carol"));
    goes_around("MTLS", client, "User:CN=carol", &java);
}

#[test]
fn by_tls_and_a_certificate_in_files() {
    let identity = secured().authority.client("dora");
    let (chain, key) = identity.write(run_folder(), &unique("dora"));
    let client = at("MTLS").tls(tls().identity_files(chain, key));
    let java = secured().java_tls("SSL").shows(&secured().java_keystore("dora"));
    goes_around("MTLS", client, "User:CN=dora", &java);
}

#[test]
fn by_plain() {
    goes_around("PLAIN_ONLY", at("PLAIN_ONLY").sasl(plain(ALICE)), "User:alice", &java());
}

#[test]
fn by_scram_sha_256() {
    let sasl = Sasl::scram_sha_256(ALICE.name, ALICE.password);
    goes_around("SASL", at("SASL").sasl(sasl), "User:alice", &java());
}

#[test]
fn by_scram_sha_512() {
    let sasl = Sasl::scram_sha_512(ALICE.name, ALICE.password);
    goes_around("SASL", at("SASL").sasl(sasl), "User:alice", &java());
}

#[test]
fn by_oauthbearer() {
    goes_around("SASL", at("SASL").sasl(oauthbearer(ALICE)), "User:alice", &java());
}

#[test]
fn by_tls_and_plain() {
    let client = at("SASL_TLS").tls(tls()).sasl(plain(ALICE));
    goes_around("SASL_TLS", client, "User:alice", &java_over_tls());
}

#[test]
fn by_tls_and_scram_sha_256() {
    let sasl = Sasl::scram_sha_256(ALICE.name, ALICE.password);
    let client = at("SASL_TLS").tls(tls()).sasl(sasl);
    goes_around("SASL_TLS", client, "User:alice", &java_over_tls());
}

#[test]
fn by_tls_and_scram_sha_512() {
    let sasl = Sasl::scram_sha_512(ALICE.name, ALICE.password);
    let client = at("SASL_TLS").tls(tls()).sasl(sasl);
    goes_around("SASL_TLS", client, "User:alice", &java_over_tls());
}

#[test]
fn by_tls_and_oauthbearer() {
    let client = at("SASL_TLS").tls(tls()).sasl(oauthbearer(ALICE));
    goes_around("SASL_TLS", client, "User:alice", &java_over_tls());
}

#[test]
fn by_a_password_that_is_not_ascii() {
    // Kafka keeps it as it was given: with a letter that could be written in two ways, and one that stands for two.
    let (name, password) = (unique("zoe"), "p\u{e4}ss wo\u{308}rt \u{2168}");
    let kafka = &secured().kafka;
    kafka.set_scram_password("SCRAM-SHA-512", &name, password);
    let java = JavaAccess::new("SASL_PLAINTEXT").scram("SCRAM-SHA-512", &name, password);
    let known = kafka.java_at("SASL", &java);
    let any = unique("any");
    kafka.create_topic(&any, 1, &[]);
    wait_until("the user is known", LONG, || known.tries("partitions", &[&any]).is_ok());
    let sasl = Sasl::scram_sha_512(&name, password);
    goes_around("SASL", at("SASL").sasl(sasl), &format!("User:{name}"), &java);
}
