//! Every key that a Kafka client knows, and what klamm does with it.

/// What klamm makes of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// A builder takes it.
    Taken(By),
    /// librdkafka's word for it.
    Alias(&'static str),
    /// klamm does one thing; whoever wants another one is told so by an error.
    Only(By, &'static [&'static str], &'static str),
    /// klamm does one thing; that it is not what the file says harms nobody.
    Always(&'static [&'static str], &'static str),
    /// There is nothing in klamm that it could be about.
    Moot(&'static str),
}

/// Who takes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Client,
    /// The client, of connections that are encrypted.
    Tls,
    /// The client, where it says who it is.
    Sasl,
    /// Groups and readers.
    Reading,
    Group,
    Producer,
}

pub(super) fn meaning(key: &str) -> Option<Meaning> {
    let mut lines = KEYS.iter();
    let found = lines.find(|(name, _)| *name == key)?;
    Some(found.1)
}

/// The key by which Kafka knows it.
pub(super) fn canonical(key: &str) -> &str {
    match meaning(key) {
        Some(Meaning::Alias(of)) => of,
        _ => key,
    }
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(name, _)| *name)
}

/// Whether a value may be shown: those of unknown keys are not, since nobody knows what they are.
pub(super) fn is_shown(key: &str) -> bool {
    meaning(key).is_some() && !HIDDEN.contains(&key)
}

/// Java's keys of type PASSWORD, librdkafka's, and who it is that logs in.
const HIDDEN: &[&str] = &[
    "sasl.jaas.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.password",
    "ssl.truststore.certificates",
    "ssl.truststore.password",
];

const JAVA: &str = "klamm runs no Java classes";
const BYTES: &str = "keys and values are bytes to klamm; the program makes of them what they are";
const METRICS: &str = "klamm has no metrics of Kafka's; `health`, `events`, `observe` and reports tell how it is";
const SHARES: &str = "klamm has no share groups";
const TRANSACTIONS: &str = "klamm has no transactions yet";
const KERBEROS: &str = "klamm has no Kerberos";
const TOKENS: &str = "brokers look at what is in a token, and klamm does not";
const RENEWED: &str = "klamm asks for a token when it needs one, within the time that a connection may take to be made";
const CALLS: &str = "calls end within request.timeout.ms";
const ASSERTIONS: &str =
    "klamm asks for tokens with a client secret only; `Sasl::oauthbearer` takes those that a program brings";
const SUITES: &str = "klamm offers the cipher suites of rustls, all of which are sound";
const STORE: &str = "a PEM file has no password";

const KEYS: &[(&str, Meaning)] = {
    use By::{Client, Group, Producer, Reading, Sasl, Tls};
    use Meaning::{Alias, Always, Moot, Only, Taken};
    &[
        // The client's.
        ("bootstrap.servers", Taken(Client)),
        ("client.id", Taken(Client)),
        ("client.rack", Taken(Client)),
        ("connections.max.idle.ms", Taken(Client)),
        ("metadata.max.age.ms", Taken(Client)),
        ("receive.buffer.bytes", Taken(Client)),
        ("reconnect.backoff.max.ms", Taken(Client)),
        ("reconnect.backoff.ms", Taken(Client)),
        ("request.timeout.ms", Taken(Client)),
        ("retry.backoff.max.ms", Taken(Client)),
        ("retry.backoff.ms", Taken(Client)),
        ("send.buffer.bytes", Taken(Client)),
        ("socket.connection.setup.timeout.ms", Taken(Client)),
        (
            "bootstrap.controllers",
            Only(Client, &[""], "klamm asks brokers; name them in bootstrap.servers"),
        ),
        (
            "client.dns.lookup",
            Only(
                Client,
                &["use_all_dns_ips", "default"],
                "klamm tries all addresses of a name, under that name",
            ),
        ),
        (
            "config.providers",
            Only(
                Client,
                &[""],
                "klamm fills in no values; read them in the program, and set them",
            ),
        ),
        ("default.api.timeout.ms", Moot(CALLS)),
        ("enable.metrics.push", Always(&["false"], METRICS)),
        (
            "metadata.recovery.rebootstrap.trigger.ms",
            Moot("klamm asks the bootstrap servers whenever nobody else answers"),
        ),
        (
            "metadata.recovery.strategy",
            Always(
                &["rebootstrap"],
                "klamm asks the bootstrap servers whenever nobody else answers",
            ),
        ),
        ("metric.reporters", Moot(METRICS)),
        ("metrics.num.samples", Moot(METRICS)),
        ("metrics.recording.level", Moot(METRICS)),
        ("metrics.sample.window.ms", Moot(METRICS)),
        ("security.providers", Moot(JAVA)),
        (
            "socket.connection.setup.timeout.max.ms",
            Moot(
                "the time to connect does not grow in klamm; that between two attempts does (reconnect.backoff.max.ms)",
            ),
        ),
        // Security.
        ("security.protocol", Taken(Client)),
        ("ssl.ca.location", Taken(Tls)),
        ("ssl.ca.pem", Taken(Tls)),
        ("ssl.certificate.location", Taken(Tls)),
        ("ssl.certificate.pem", Taken(Tls)),
        ("enable.ssl.certificate.verification", Taken(Tls)),
        ("ssl.enabled.protocols", Taken(Tls)),
        ("ssl.endpoint.identification.algorithm", Taken(Tls)),
        ("ssl.key.location", Taken(Tls)),
        ("ssl.key.password", Taken(Tls)),
        ("ssl.key.pem", Taken(Tls)),
        ("ssl.keystore.certificate.chain", Taken(Tls)),
        ("ssl.keystore.key", Taken(Tls)),
        ("ssl.keystore.location", Taken(Tls)),
        ("ssl.keystore.type", Taken(Tls)),
        ("ssl.truststore.certificates", Taken(Tls)),
        ("ssl.truststore.location", Taken(Tls)),
        ("ssl.truststore.type", Taken(Tls)),
        ("ssl.cipher.suites", Only(Tls, &[""], SUITES)),
        ("ssl.engine.factory.class", Only(Tls, &[""], JAVA)),
        ("ssl.keymanager.algorithm", Moot(JAVA)),
        ("ssl.keystore.password", Moot(STORE)),
        (
            "ssl.protocol",
            Only(Tls, &["TLS", "TLSv1.2", "TLSv1.3"], "klamm speaks TLS 1.2 and 1.3"),
        ),
        ("ssl.provider", Moot(JAVA)),
        ("ssl.secure.random.implementation", Moot(JAVA)),
        ("ssl.trustmanager.algorithm", Moot(JAVA)),
        ("ssl.truststore.password", Moot(STORE)),
        ("sasl.jaas.config", Taken(Sasl)),
        ("sasl.login.callback.handler.class", Taken(Sasl)),
        ("sasl.client.callback.handler.class", Taken(Sasl)),
        ("sasl.login.class", Moot(JAVA)),
        ("sasl.mechanism", Taken(Sasl)),
        ("sasl.password", Taken(Sasl)),
        ("sasl.username", Taken(Sasl)),
        ("sasl.oauthbearer.client.credentials.client.id", Taken(Sasl)),
        ("sasl.oauthbearer.client.credentials.client.secret", Taken(Sasl)),
        ("sasl.oauthbearer.header.urlencode", Taken(Sasl)),
        ("sasl.oauthbearer.jwt.retriever.class", Taken(Sasl)),
        ("sasl.oauthbearer.method", Only(Sasl, &["oidc"], ASSERTIONS)),
        ("sasl.oauthbearer.scope", Taken(Sasl)),
        ("sasl.oauthbearer.token.endpoint.url", Taken(Sasl)),
        ("sasl.oauthbearer.assertion.algorithm", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.aud", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.exp.seconds", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.iss", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.jti.include", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.nbf.seconds", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.claim.sub", Moot(ASSERTIONS)),
        ("sasl.oauthbearer.assertion.file", Only(Sasl, &[""], ASSERTIONS)),
        (
            "sasl.oauthbearer.assertion.private.key.file",
            Only(Sasl, &[""], ASSERTIONS),
        ),
        ("sasl.oauthbearer.assertion.private.key.passphrase", Moot(ASSERTIONS)),
        (
            "sasl.oauthbearer.assertion.template.file",
            Only(Sasl, &[""], ASSERTIONS),
        ),
        ("sasl.oauthbearer.clock.skew.seconds", Moot(TOKENS)),
        ("sasl.oauthbearer.expected.audience", Moot(TOKENS)),
        ("sasl.oauthbearer.expected.issuer", Moot(TOKENS)),
        ("sasl.oauthbearer.jwks.endpoint.refresh.ms", Moot(TOKENS)),
        ("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Moot(TOKENS)),
        ("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Moot(TOKENS)),
        ("sasl.oauthbearer.jwks.endpoint.url", Moot(TOKENS)),
        ("sasl.oauthbearer.jwt.validator.class", Moot(TOKENS)),
        ("sasl.oauthbearer.scope.claim.name", Moot(TOKENS)),
        ("sasl.oauthbearer.sub.claim.name", Moot(TOKENS)),
        ("sasl.login.connect.timeout.ms", Moot(RENEWED)),
        ("sasl.login.read.timeout.ms", Moot(RENEWED)),
        ("sasl.login.refresh.buffer.seconds", Moot(RENEWED)),
        ("sasl.login.refresh.min.period.seconds", Moot(RENEWED)),
        ("sasl.login.refresh.window.factor", Moot(RENEWED)),
        ("sasl.login.refresh.window.jitter", Moot(RENEWED)),
        ("sasl.login.retry.backoff.max.ms", Moot(RENEWED)),
        ("sasl.login.retry.backoff.ms", Moot(RENEWED)),
        ("sasl.kerberos.kinit.cmd", Moot(KERBEROS)),
        ("sasl.kerberos.min.time.before.relogin", Moot(KERBEROS)),
        ("sasl.kerberos.service.name", Moot(KERBEROS)),
        ("sasl.kerberos.ticket.renew.jitter", Moot(KERBEROS)),
        ("sasl.kerberos.ticket.renew.window.factor", Moot(KERBEROS)),
        // Reading.
        ("auto.offset.reset", Taken(Reading)),
        ("fetch.max.bytes", Taken(Reading)),
        ("fetch.max.wait.ms", Taken(Reading)),
        ("fetch.min.bytes", Taken(Reading)),
        ("isolation.level", Taken(Reading)),
        ("max.partition.fetch.bytes", Taken(Reading)),
        (
            "allow.auto.create.topics",
            Always(&["false"], "reading never creates a topic in klamm"),
        ),
        ("check.crcs", Always(&["true"], "klamm always looks at checksums")),
        (
            "exclude.internal.topics",
            Moot("topics are named in klamm, and not matched"),
        ),
        ("interceptor.classes", Moot(JAVA)),
        (
            "internal.throw.on.fetch.stable.offset.unsupported",
            Moot("it is Kafka's own"),
        ),
        ("key.deserializer", Moot(BYTES)),
        ("value.deserializer", Moot(BYTES)),
        (
            "max.poll.records",
            Moot("an iterator gives one message after the other; `prefetch_count` bounds what is in memory"),
        ),
        ("share.acknowledgement.mode", Moot(SHARES)),
        ("share.acquire.mode", Moot(SHARES)),
        // Groups.
        ("auto.commit.interval.ms", Taken(Group)),
        ("enable.auto.commit", Taken(Group)),
        ("group.id", Taken(Group)),
        ("group.instance.id", Taken(Group)),
        ("heartbeat.interval.ms", Taken(Group)),
        ("max.poll.interval.ms", Taken(Group)),
        ("partition.assignment.strategy", Taken(Group)),
        ("session.timeout.ms", Taken(Group)),
        ("group.protocol", Taken(Group)),
        (
            "group.remote.assignor",
            Moot("it is of group.protocol=consumer, which klamm does not speak yet"),
        ),
        // Writing.
        ("acks", Taken(Producer)),
        ("batch.size", Taken(Producer)),
        ("buffer.memory", Taken(Producer)),
        ("compression.gzip.level", Taken(Producer)),
        ("compression.type", Taken(Producer)),
        ("compression.zstd.level", Taken(Producer)),
        ("delivery.timeout.ms", Taken(Producer)),
        ("enable.idempotence", Taken(Producer)),
        ("linger.ms", Taken(Producer)),
        ("max.block.ms", Taken(Producer)),
        ("max.in.flight.requests.per.connection", Taken(Producer)),
        ("partitioner.class", Taken(Producer)),
        ("retries", Taken(Producer)),
        ("compression.lz4.level", Moot("lz4 has one level in klamm")),
        ("key.serializer", Moot(BYTES)),
        ("value.serializer", Moot(BYTES)),
        (
            "max.request.size",
            Moot("how large a record may be is for the topic to say in klamm (max.message.bytes)"),
        ),
        (
            "metadata.max.idle.ms",
            Moot("klamm keeps what it knows of topics, and asks for those that are used"),
        ),
        (
            "partitioner.adaptive.partitioning.enable",
            Always(&["true"], "klamm gives less to brokers that are slow"),
        ),
        (
            "partitioner.availability.timeout.ms",
            Moot("klamm gives less to brokers that are slow"),
        ),
        (
            "partitioner.ignore.keys",
            Only(
                Producer,
                &["false"],
                "klamm has `Partitioner::Random` and `RoundRobin`, which look at no keys",
            ),
        ),
        ("transaction.timeout.ms", Moot(TRANSACTIONS)),
        (
            "transaction.two.phase.commit.enable",
            Only(Producer, &["false"], TRANSACTIONS),
        ),
        ("transactional.id", Only(Producer, &[""], TRANSACTIONS)),
        // librdkafka's words.
        ("compression.codec", Alias("compression.type")),
        ("fetch.message.max.bytes", Alias("max.partition.fetch.bytes")),
        ("fetch.wait.max.ms", Alias("fetch.max.wait.ms")),
        ("max.in.flight", Alias("max.in.flight.requests.per.connection")),
        ("message.send.max.retries", Alias("retries")),
        ("metadata.broker.list", Alias("bootstrap.servers")),
        ("partitioner", Alias("partitioner.class")),
        ("queue.buffering.max.ms", Alias("linger.ms")),
        ("request.required.acks", Alias("acks")),
        ("sasl.mechanisms", Alias("sasl.mechanism")),
        (
            "sasl.oauthbearer.client.id",
            Alias("sasl.oauthbearer.client.credentials.client.id"),
        ),
        (
            "sasl.oauthbearer.client.secret",
            Alias("sasl.oauthbearer.client.credentials.client.secret"),
        ),
        ("sasl.oauthbearer.config", Moot(ASSERTIONS)),
        (
            "sasl.oauthbearer.extensions",
            Moot("klamm takes extensions from the options of sasl.jaas.config"),
        ),
        ("socket.receive.buffer.bytes", Alias("receive.buffer.bytes")),
        ("socket.send.buffer.bytes", Alias("send.buffer.bytes")),
        ("topic.metadata.refresh.interval.ms", Alias("metadata.max.age.ms")),
        (
            "debug",
            Moot("klamm writes to the crate `log`, which decides what is shown"),
        ),
        (
            "log_level",
            Moot("klamm writes to the crate `log`, which decides what is shown"),
        ),
        (
            "message.max.bytes",
            Moot("how large a record may be is for the topic to say in klamm (max.message.bytes)"),
        ),
        ("statistics.interval.ms", Moot(METRICS)),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Name, type and clients of each key that Kafka 4.3.0's consumers, producers and admins have.
    const KAFKA: &str = include_str!("table/kafka-4.3.0.txt");

    #[test]
    fn no_key_of_kafka_s_is_forgotten() {
        let known: BTreeSet<_> = names().collect();
        let kafka = KAFKA.lines().map(|line| line.split(' ').next().unwrap());
        let forgotten: Vec<_> = kafka.filter(|name| !known.contains(name)).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
        assert_eq!(KAFKA.lines().count(), 141);
    }

    #[test]
    fn each_key_is_there_once() {
        let known: BTreeSet<_> = names().collect();
        assert_eq!(known.len(), KEYS.len());
    }

    #[test]
    fn an_alias_is_of_a_key_that_is_taken() {
        for name in names() {
            if let Some(Meaning::Alias(of)) = meaning(name) {
                assert!(matches!(meaning(of), Some(Meaning::Taken(_))), "{name}");
                assert_eq!(is_shown(name), is_shown(of), "{name}");
            }
        }
    }

    #[test]
    fn what_is_a_password_to_kafka_is_not_shown() {
        let passwords = KAFKA.lines().filter(|line| line.split(' ').nth(1) == Some("password"));
        let passwords: Vec<_> = passwords.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(passwords.len(), 9);
        assert!(passwords.iter().all(|name| !is_shown(name)));
        assert!(!is_shown("schema.registry.basic.auth.user.info"));
        assert!(HIDDEN.iter().all(|name| meaning(name).is_some()));
    }
}
