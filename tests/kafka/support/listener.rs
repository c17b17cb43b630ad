//! Listeners with TLS and SASL, and how Java's clients are let in by them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::certificates::Identity;
use super::corner::{self, Seen};
use super::{Kafka, tools, wait, watchdog};

/// A listener of each broker beside the plain ones: [`KafkaBuilder::listener`](super::KafkaBuilder::listener).
#[derive(Clone)]
#[must_use = "a listener is nothing without a broker"]
pub struct Listener {
    name: String,
    protocol: &'static str,
    identity: Option<Identity>,
    trusted: Option<String>,
    proxy: bool,
    properties: Vec<(String, String)>,
}

impl Listener {
    /// Neither names nor TLS.
    pub(super) fn plaintext(name: &str) -> Self {
        Self::new(name, "PLAINTEXT")
    }

    /// TLS, and no names.
    pub fn ssl(name: &str, identity: &Identity) -> Self {
        let mut listener = Self::new(name, "SSL");
        listener.identity = Some(identity.clone());
        listener
    }

    /// Names and passwords, and no TLS.
    pub fn sasl_plaintext(name: &str) -> Self {
        Self::new(name, "SASL_PLAINTEXT")
    }

    /// Both.
    pub fn sasl_ssl(name: &str, identity: &Identity) -> Self {
        let mut listener = Self::new(name, "SASL_SSL");
        listener.identity = Some(identity.clone());
        listener
    }

    fn new(name: &str, protocol: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            protocol,
            identity: None,
            trusted: None,
            proxy: false,
            properties: Vec::new(),
        }
    }

    /// A proxy before it, whose address is the one that the broker advertises.
    pub fn behind_proxy(mut self) -> Self {
        self.proxy = true;
        self
    }

    /// A setting of this listener alone.
    pub fn property(mut self, name: &str, value: impl ToString) -> Self {
        self.properties.push((name.to_owned(), value.to_string()));
        self
    }

    /// Clients must show a certificate that this root vouches for.
    pub fn requires_certificates_of(self, root: &str) -> Self {
        self.asks_for_certificates_of("required", root)
    }

    /// Clients may show a certificate; one that is shown must be good.
    pub fn requests_certificates_of(self, root: &str) -> Self {
        self.asks_for_certificates_of("requested", root)
    }

    fn asks_for_certificates_of(mut self, how: &str, root: &str) -> Self {
        self.trusted = Some(root.to_owned());
        self.property("ssl.client.auth", how)
    }

    /// PLAIN for these users and passwords.
    pub fn plain(self, users: &[(&str, &str)]) -> Self {
        let mut jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required".to_owned();
        for (user, password) in users {
            write!(jaas, " user_{user}=\"{password}\"").expect("text takes text");
        }
        self.mechanism("PLAIN", &jaas)
    }

    /// SCRAM-SHA-256 and SCRAM-SHA-512 for the users of the cluster: [`KafkaBuilder::scram_user`](super::KafkaBuilder::scram_user).
    pub fn scram(self) -> Self {
        let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required";
        self.mechanism("SCRAM-SHA-256", jaas).mechanism("SCRAM-SHA-512", jaas)
    }

    /// OAUTHBEARER with tokens that nobody has signed: see [`unsecured_token`].
    pub fn oauthbearer(self) -> Self {
        self.mechanism(
            "OAUTHBEARER",
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required",
        )
    }

    fn mechanism(mut self, name: &str, jaas: &str) -> Self {
        let enabled = "sasl.enabled.mechanisms";
        match self.properties.iter_mut().find(|(known, _)| known == enabled) {
            Some((_, mechanisms)) => {
                mechanisms.push(',');
                mechanisms.push_str(name);
            }
            None => self.properties.push((enabled.to_owned(), name.to_owned())),
        }
        self.property(&format!("{}.sasl.jaas.config", name.to_lowercase()), format!("{jaas};"))
    }

    /// Connections must say again who they are before this is over.
    pub fn session_lifetime_ms(self, milliseconds: u32) -> Self {
        self.property("connections.max.reauth.ms", milliseconds)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn has_proxy(&self) -> bool {
        self.proxy
    }

    pub(super) fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Its lines of `server.properties`; writes its certificates where they say.
    pub(super) fn server_properties(&self, folder: &Path) -> Vec<(String, String)> {
        let mut properties = self.properties.clone();
        if let Some(identity) = &self.identity {
            let file = self.keystore(folder);
            std::fs::write(&file, identity.keystore()).expect("a keystore can be written");
            properties.push(("ssl.keystore.type".into(), "PEM".into()));
            properties.push(("ssl.keystore.location".into(), file.display().to_string()));
        }
        if let Some(trusted) = &self.trusted {
            let file = folder.join(format!("{}-trusted.pem", self.name));
            std::fs::write(&file, trusted).expect("a truststore can be written");
            properties.push(("ssl.truststore.type".into(), "PEM".into()));
            properties.push(("ssl.truststore.location".into(), file.display().to_string()));
        }
        let prefix = format!("listener.name.{}", self.name.to_lowercase());
        properties
            .into_iter()
            .map(|(name, value)| (format!("{prefix}.{name}"), value))
            .collect()
    }

    /// Where this listener's certificate and key are, among a broker's files.
    pub(super) fn keystore(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}-keystore.pem", self.name))
    }
}

/// How a client of Java's is let in by a listener: a file of properties for `--command-config` and `Corner.java`.
#[derive(Debug, Clone)]
#[must_use = "these are the lines of a file"]
pub struct JavaAccess(Vec<(String, String)>);

impl JavaAccess {
    /// Under `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub fn new(protocol: &str) -> Self {
        Self(vec![("security.protocol".to_owned(), protocol.to_owned())])
    }

    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Trusts these roots, as PEM, which must be in a file.
    pub fn trusts(self, file: &Path) -> Self {
        self.property("ssl.truststore.type", "PEM")
            .property("ssl.truststore.location", &file.display().to_string())
    }

    /// The same in the properties themselves.
    pub fn trusts_pem(self, roots: &str) -> Self {
        self.property("ssl.truststore.type", "PEM")
            .property("ssl.truststore.certificates", &in_lines(roots))
    }

    /// Shows a certificate: a file with key and certificate.
    pub fn shows(self, file: &Path) -> Self {
        self.property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.location", &file.display().to_string())
    }

    /// The same in the properties themselves, the key as PKCS#8.
    pub fn shows_pem(self, identity: &Identity) -> Self {
        self.property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.certificate.chain", &in_lines(&identity.chain))
            .property("ssl.keystore.key", &in_lines(&identity.key))
    }

    pub fn plain(self, user: &str, password: &str) -> Self {
        self.login("PLAIN", "plain.PlainLoginModule", user, password)
    }

    /// By SCRAM-SHA-256 or SCRAM-SHA-512.
    pub fn scram(self, mechanism: &str, user: &str, password: &str) -> Self {
        self.login(mechanism, "scram.ScramLoginModule", user, password)
    }

    fn login(self, mechanism: &str, module: &str, user: &str, password: &str) -> Self {
        let jaas =
            format!("org.apache.kafka.common.security.{module} required username=\"{user}\" password=\"{password}\";");
        self.property("sasl.mechanism", mechanism)
            .property("sasl.jaas.config", &jaas)
    }

    /// With a token that says so and that nobody has signed.
    pub fn oauthbearer(self, user: &str) -> Self {
        let jaas = format!(
            "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
             unsecuredLoginStringClaim_sub=\"{user}\";"
        );
        self.property("sasl.mechanism", "OAUTHBEARER")
            .property("sasl.jaas.config", &jaas)
    }

    pub(super) fn lines(&self, bootstrap: &str) -> String {
        let mut lines = format!("bootstrap.servers={bootstrap}\n");
        for (name, value) in &self.0 {
            writeln!(lines, "{name}={value}").expect("text takes text");
        }
        lines
    }
}

/// PEM as a value that goes on over several lines of a file, which for whoever reads the file are one.
fn in_lines(pem: &str) -> String {
    pem.trim_end().replace('\n', " \\\n    ")
}

/// Java's clients, let in by one listener.
#[derive(Debug)]
pub struct JavaClient {
    addresses: String,
    file: PathBuf,
}

impl Kafka {
    /// Java at this listener.
    pub fn java_at(&self, listener: &str, access: &JavaAccess) -> JavaClient {
        let addresses = self.listener(listener);
        let file = watchdog::run_folder().join(wait::unique("client.properties"));
        std::fs::write(&file, access.lines(&addresses)).expect("properties can be written");
        JavaClient { addresses, file }
    }
}

impl JavaClient {
    /// Writes texts, each in a batch of its own; their offsets.
    pub fn writes(&self, topic: &str, partition: i32, values: &[&str]) -> Vec<String> {
        let partition = partition.to_string();
        let mut args = vec![topic, &partition];
        args.extend(values);
        corner::run(&self.bootstrap(), "send", &args)
    }

    /// Reads the whole topic.
    pub fn reads(&self, topic: &str) -> Vec<Seen> {
        corner::seen(&corner::run(
            &self.bootstrap(),
            "consume",
            &[topic, "1000000", "read_uncommitted"],
        ))
    }

    /// The values of that, in order of their text.
    pub fn texts(&self, topic: &str) -> Vec<String> {
        let mut texts: Vec<_> = self.reads(topic).iter().map(Seen::text).collect();
        texts.sort();
        texts
    }

    /// Tries any command of `Corner.java`: Java's own words when it fails.
    ///
    /// # Errors
    ///
    /// Why it has failed.
    pub fn tries(&self, command: &str, args: &[&str]) -> Result<Vec<String>, String> {
        corner::try_run(&self.bootstrap(), command, args)
    }

    /// `ConsoleProducer` sends each line as a record.
    pub fn console_producer(&self, topic: &str, lines: &str) -> String {
        tools::console_producer(&self.connecting(), topic, &[], lines)
    }

    /// `ConsoleConsumer` reads so many records from the beginning and prints them.
    pub fn console_consumer(&self, topic: &str, records: usize) -> String {
        tools::console_consumer(&self.connecting(), topic, records, &[])
    }

    /// The file, which others may be given as well.
    pub fn properties(&self) -> &Path {
        &self.file
    }

    fn connecting(&self) -> [&str; 4] {
        let file = self.file.to_str().expect("a path of letters");
        ["--bootstrap-server", &self.addresses, "--command-config", file]
    }

    fn bootstrap(&self) -> String {
        format!("@{}", self.file.display())
    }
}

/// A token that says who bears it and for how long, and that nobody has signed: Kafka takes those unless told better.
pub fn unsecured_token(user: &str, seconds: u64) -> String {
    unsecured_token_with(user, seconds, "")
}

/// The same with so much more in it that nobody reads.
pub fn unsecured_token_with(user: &str, seconds: u64, more: &str) -> String {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let now = since_epoch.as_secs();
    // One who has it may be a little behind.
    let claims = format!(
        r#"{{"sub":"{user}","iat":{},"exp":{},"more":"{more}"}}"#,
        now - 60,
        now + seconds
    );
    format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(claims.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        let digits = [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize % 64]);
        text.extend(digits[..=three.len()].iter().map(|digit| char::from(*digit)));
    }
    text
}
