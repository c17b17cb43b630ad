//! A Java client's `.properties` file, for klamm.

mod builders;
mod environment;
mod jaas;
#[cfg(test)]
mod judged;
mod parser;
mod pem;
mod secured;
mod security;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use zeroize::Zeroizing;

use crate::{
    client::{Client, ClientBuilder},
    error::{Error, Result},
    net::sasl::Secret,
};
use table::{By, Meaning};
use value::Value;

/// What a Java client is configured with, for klamm: the same file, or the same keys from elsewhere.
///
/// It is read once, and each builder takes the keys that are its own:
///
/// ```
/// # fn main() -> klamm::Result<()> {
/// let properties: klamm::Properties = r#"
///     bootstrap.servers = kafka-1:9092, kafka-2:9092
///     client.id = billing
///     group.id = invoices
///     auto.offset.reset = latest
///     linger.ms = 20
///     compression.type = zstd
/// "#.parse()?; // or Properties::from_file("client.properties")?
///
/// let client = properties.client()?.connect_lazy()?;
/// let producer = client.producer().properties(&properties)?;
/// let group = client.group(properties.group_id().unwrap_or("billing")).properties(&properties)?;
/// # drop((producer, group));
/// # Ok(())
/// # }
/// ```
///
/// **What comes later counts**: a setting behind `properties` replaces the file's, and one before it is replaced by the
/// file's. **What the file does not name is as klamm has it**, which is not always as Java has it: groups begin at the first
/// record (`auto.offset.reset`), records of open transactions are not shown (`isolation.level`), and sizes are others. Each
/// builder lists its defaults.
///
/// **No key is passed over in silence.** One that klamm knows, with a value that it cannot honour, is an error that names
/// file, line, key and what would be possible. Those that nobody knows are in [`unknown`](Self::unknown), and connecting
/// warns of each, or who else takes the properties first; those that are Kafka's and mean nothing to klamm are in [`ignored`](Self::ignored), each with the reason.
/// Passwords and keys are shown in no error, log or `Debug`, nor is the value of a key that nobody knows.
///
/// # Format
///
/// Java's: `key=value`, `key: value` or `key value`, comments behind `#` and `!`, lines that end with a backslash go on, and
/// `\u00fc` is a character. A file is UTF-8, and Latin-1 if it cannot be that; Java itself takes every file for Latin-1, which
/// is the same as long as characters beyond ASCII are escaped.
///
/// # Keys
///
/// | Taken by | Keys |
/// |---|---|
/// | [`ClientBuilder::properties`] | `bootstrap.servers`, `client.id`, `client.rack`, `request.timeout.ms`, `socket.connection.setup.timeout.ms`, `retry.backoff.ms`, `retry.backoff.max.ms`, `reconnect.backoff.ms`, `reconnect.backoff.max.ms`, `metadata.max.age.ms`, `connections.max.idle.ms`, `send.buffer.bytes`, `receive.buffer.bytes`, and those of security |
/// | [`GroupBuilder::properties`](crate::GroupBuilder::properties) and [`ReaderBuilder::properties`](crate::ReaderBuilder::properties) | `auto.offset.reset`, `fetch.min.bytes`, `fetch.max.bytes`, `fetch.max.wait.ms`, `max.partition.fetch.bytes`, `isolation.level` |
/// | `GroupBuilder::properties` | `group.id`, `group.instance.id`, `group.protocol`, `session.timeout.ms`, `heartbeat.interval.ms`, `max.poll.interval.ms`, `partition.assignment.strategy`, `enable.auto.commit`, `auto.commit.interval.ms` |
/// | [`ProducerBuilder::properties`](crate::ProducerBuilder::properties) | `acks`, `enable.idempotence`, `batch.size`, `linger.ms`, `buffer.memory`, `max.block.ms`, `delivery.timeout.ms`, `retries`, `max.in.flight.requests.per.connection`, `compression.type`, `compression.gzip.level`, `compression.zstd.level`, `partitioner.class` |
///
/// Where librdkafka has another word for the same (`metadata.broker.list`, `sasl.username`, `ssl.ca.location`, …), that is
/// taken as well.
///
/// # Security
///
/// `security.protocol` says whether there is TLS, SASL, both or none; without it, what is said of them does not count, as in
/// Java.
///
/// - **TLS**: `ssl.truststore.type=PEM` with `ssl.truststore.location` or `ssl.truststore.certificates`; without a trust store,
///   the roots that browsers trust. `ssl.keystore.type=PEM` with `ssl.keystore.location` (a file with key and chain), or
///   `ssl.keystore.certificate.chain` and `ssl.keystore.key`. Stores of the types JKS and PKCS12 are refused, with the command
///   that makes PEM of them. `ssl.enabled.protocols`; `ssl.endpoint.identification.algorithm`, which, when it is empty, lets
///   any name in a certificate pass, and librdkafka's `enable.ssl.certificate.verification`, which, when it is false, lets any
///   certificate pass: connecting warns of either, and of properties without TLS that take away a
///   `Tls` of the program's.
/// - **SASL**: `sasl.mechanism` PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, and OAUTHBEARER with client credentials
///   (`sasl.oauthbearer.token.endpoint.url`; feature `oidc`). User and password come from `sasl.jaas.config`, or from
///   `sasl.username` and `sasl.password`. A mechanism that klamm does not have, and tokens of one's own, are given to
///   [`ClientBuilder::sasl`] before `properties`.
///
/// ```
/// # fn main() -> klamm::Result<()> {
/// let properties: klamm::Properties = r#"
///     bootstrap.servers = pkc-12345.europe-west1.gcp.confluent.cloud:9092
///     security.protocol = SASL_SSL
///     sasl.mechanism = PLAIN
///     sasl.jaas.config = org.apache.kafka.common.security.plain.PlainLoginModule required \
///         username="MYKEY" password="my-secret";
///     session.timeout.ms = 45000
/// "#.parse()?;
/// assert!(properties.unknown().next().is_none());
/// assert!(!format!("{properties:?}").contains("my-secret"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Properties {
    /// By the key as Kafka knows it.
    entries: BTreeMap<String, Entry>,
    /// Somebody has told of the keys that nobody knows.
    is_told: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Entry {
    /// The key as it was written.
    key: String,
    value: Secret,
    place: Option<String>,
}

impl Properties {
    /// Reads a file.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// let properties = klamm::Properties::from_file("/etc/billing/client.properties")?;
    /// let client = properties.client()?.connect()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming the file, when it cannot be read, and the line when that is malformed or
    /// says with another word what an earlier one has said otherwise.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map(Zeroizing::new).map_err(|error| {
            let why = crate::error::plain(&error);
            Error::config(format!("{} cannot be read: {why}", path.display()))
        })?;
        let text = Secret::new(parser::decode(&bytes));
        Self::parsed(text.expose(), &format!("{}, ", path.display()))
    }

    /// What the environment says: each key that klamm knows, in capitals behind `KAFKA_`, as in `KAFKA_BOOTSTRAP_SERVERS`,
    /// `KAFKA_SECURITY_PROTOCOL` or `KAFKA_SASL_JAAS_CONFIG`. Other variables are not looked at.
    ///
    /// Some hosts have words of their own, which are taken as well: `KAFKA_URL`, a list of `kafka://host:port` or
    /// `kafka+ssl://host:port`, and for the latter, as PEM text, `KAFKA_TRUSTED_CERT`, `KAFKA_CLIENT_CERT` and
    /// `KAFKA_CLIENT_CERT_KEY`. Beside them, the variable of the key itself counts: of `KAFKA_URL` and
    /// `KAFKA_BOOTSTRAP_SERVERS`, the servers of the latter. `kafka://` and `kafka+ssl://` are of `KAFKA_URL` only; in `bootstrap.servers`, what
    /// may stand in front of a server is the `security.protocol`. An empty `KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM` counts
    /// as none at all; `none` lets any name in a certificate pass.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// let properties = klamm::Properties::from_env()?;
    /// if properties.value("bootstrap.servers").is_none() {
    ///     eprintln!("KAFKA_BOOTSTRAP_SERVERS is not set");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming the variable, when it is not Unicode, or two of them contradict each other.
    pub fn from_env() -> Result<Self> {
        environment::read(|name| std::env::var_os(name))
    }

    /// Sets a key, also to replace what a file says.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// let properties: klamm::Properties = "bootstrap.servers=kafka:9092\nacks=1".parse()?;
    /// let properties = properties.with("bootstrap.servers", "localhost:9092");
    /// assert_eq!(properties.value("bootstrap.servers"), Some("localhost:9092"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(Entry {
            key: key.into(),
            value: Secret::new(value),
            place: None,
        });
        self
    }

    /// What a key was set to, without blanks around it; under Kafka's name also what was set under librdkafka's.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.find(key).map(|value| value.text)
    }

    /// `group.id`, for [`Client::group`].
    #[must_use]
    pub fn group_id(&self) -> Option<&str> {
        self.value("group.id").filter(|id| !id.is_empty())
    }

    /// The keys that neither Kafka's clients nor klamm know, in alphabetical order: for others, or misspelt.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// let properties: klamm::Properties = "bootstrap.servers=kafka:9092\nlinger.milliseconds=5".parse()?;
    /// assert_eq!(properties.unknown().collect::<Vec<_>>(), ["linger.milliseconds"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries.values().map(|entry| &*entry.key);
        entries.filter(|key| table::meaning(key).is_none())
    }

    /// The keys that a Kafka client knows, and that make no difference here, or less than they say, each with the reason.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// let properties: klamm::Properties = "max.poll.records=100".parse()?;
    /// for (key, reason) in properties.ignored() {
    ///     println!("{key}: {reason}");
    /// }
    /// # assert_eq!(properties.ignored().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn ignored(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.entries.iter();
        entries.filter_map(|(key, entry)| Some((&*entry.key, self.without_effect(key)?)))
    }

    /// The options of a client: [`Client::builder`] and [`ClientBuilder::properties`].
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::properties`].
    pub fn client(&self) -> Result<ClientBuilder> {
        Client::builder().properties(self)
    }

    fn parsed(text: &str, file: &str) -> Result<Self> {
        let lines = parser::parse(text)
            .map_err(|malformed| Error::config(format!("{file}line {}: {}", malformed.line, malformed.what)))?;
        let mut properties = Self::default();
        for line in lines {
            // Nor may the lines in between be taken for keys, and be named as such.
            if line.key.starts_with("-----") {
                let why = "PEM that begins in a line before ends here: all but the last of its lines must end with a backslash";
                return Err(Error::config(format!("{file}line {}: {why}", line.number)));
            }
            properties.add(Entry {
                key: line.key,
                value: Secret::new(line.value),
                place: Some(format!("{file}line {}", line.number)),
            })?;
        }
        Ok(properties)
    }

    /// The last one counts, as in Java, but not between two words for the same.
    fn add(&mut self, entry: Entry) -> Result<()> {
        if let Some(earlier) = self.entries.get(table::canonical(&entry.key)) {
            let (one, other) = (earlier.value(), entry.value());
            if one.key != other.key && one.text != other.text {
                return Err(other.wrong(format!("says otherwise than {}, which means the same", one.key)));
            }
        }
        self.set(entry);
        Ok(())
    }

    fn set(&mut self, entry: Entry) {
        // Of this one there is something else to tell.
        self.is_told = Arc::default();
        self.entries.insert(table::canonical(&entry.key).to_owned(), entry);
    }

    fn find(&self, key: &str) -> Option<Value<'_>> {
        self.entries.get(table::canonical(key)).map(Entry::value)
    }

    /// One that says something: empty is what Kafka's files have for nothing.
    fn find_filled(&self, key: &str) -> Option<Value<'_>> {
        self.find(key).filter(|value| !value.text.is_empty())
    }

    /// Refuses what only looks as if it would be honoured; and first of all, since others quote what is wrong, keys that
    /// stand where nobody keeps them secret.
    fn check(&self, whose: By) -> Result<()> {
        let mut values = self.entries.values().map(Entry::value);
        if let Some(misplaced) = values.find(|value| value.is_pem() && table::is_shown(value.key)) {
            let is_file = misplaced.key.ends_with(".location") || misplaced.key.ends_with(".file");
            return Err(misplaced.wrong(match is_file {
                true => "must name a file, and holds PEM itself",
                false => "holds PEM, which cannot be meant",
            }));
        }
        for (key, entry) in &self.entries {
            let Some(Meaning::Only(by, values, why)) = table::meaning(key) else {
                continue;
            };
            let value = entry.value();
            if by != whose || values.iter().any(|possible| value.is(possible)) {
                continue;
            }
            let possible: Vec<_> = values.iter().copied().filter(|value| !value.is_empty()).collect();
            return Err(match possible.is_empty() {
                true => value.wrong(format!("must be left out: {why}")),
                false => value.refuse(format!("{}: {why}", possible.join(" or "))),
            });
        }
        Ok(())
    }

    /// Why a key that is known changes nothing.
    fn without_effect(&self, key: &str) -> Option<&'static str> {
        let value = self.find(key)?;
        match table::meaning(key)? {
            Meaning::Moot(why) => Some(why),
            Meaning::Always(values, why) => (!values.iter().any(|same| value.is(same))).then_some(why),
            Meaning::Taken(by) | Meaning::Only(by, ..) if matches!(by, By::Tls | By::Sasl) => {
                security::without_effect(self, by, value)
            }
            Meaning::Taken(_) => settings::without_effect(self, key, value),
            Meaning::Only(..) | Meaning::Alias(_) => None,
        }
    }

    /// Of a program that had asked for TLS itself.
    fn taking_tls_away(&self) -> Option<Remark> {
        let protocol = self.find("security.protocol")?;
        let what = "asks for no TLS, and takes away what the program has given: what is sent can be read on its way";
        Some(Remark::warning(&protocol, what))
    }

    /// Of keys that nobody knows, unless they were told already: whoever makes no client of this is to hear it too.
    fn untold(&self) -> Vec<Remark> {
        match self.is_told.swap(true, Ordering::Relaxed) {
            true => Vec::new(),
            false => self.unknown_remarks().collect(),
        }
    }

    fn unknown_remarks(&self) -> impl Iterator<Item = Remark> {
        let unknown = self.unknown().filter_map(|key| self.find(key));
        unknown.map(|value| Remark::warning(&value, "is known neither to Kafka's clients nor to klamm"))
    }

    /// All that is to be said when a client connects.
    fn remarks(&self) -> Vec<Remark> {
        let ignored = self.ignored().filter_map(|(key, why)| Some((self.find(key)?, why)));
        let ignored = ignored.map(|(value, why)| Remark {
            // What was to make a connection safe, and does not.
            is_warning: value.key.starts_with("ssl.") || value.key.starts_with("sasl."),
            text: value.sentence(format!("makes no difference: {why}")),
        });
        let dangers = security::dangers(self).map(|(value, danger)| Remark::warning(&value, danger));
        self.unknown_remarks().chain(ignored).chain(dangers).collect()
    }
}

/// What is to be said when a client connects that was made of this.
#[derive(Debug, Clone)]
pub(crate) struct Remark {
    is_warning: bool,
    text: String,
}

impl Remark {
    fn warning(value: &Value<'_>, what: &str) -> Self {
        Self {
            is_warning: true,
            text: value.sentence(what),
        }
    }

    pub(crate) fn log(&self) {
        match self.is_warning {
            true => log::warn!("{}", self.text),
            false => log::info!("{}", self.text),
        }
    }
}

impl Entry {
    fn value(&self) -> Value<'_> {
        Value {
            key: &self.key,
            text: self.value.expose().trim_matches(|c| c <= ' '),
            place: self.place.as_deref(),
        }
    }
}

impl FromStr for Properties {
    type Err = Error;

    /// Reads what could be in a file.
    fn from_str(text: &str) -> Result<Self> {
        Self::parsed(text, "")
    }
}

/// Keys and values from elsewhere; the last one of each key counts.
///
/// ```
/// let properties: klamm::Properties = [("bootstrap.servers", "kafka:9092"), ("acks", "all")].into_iter().collect();
/// assert_eq!(properties.value("acks"), Some("all"));
/// ```
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut properties = Self::default();
        for (key, value) in pairs {
            properties = properties.with(key, value);
        }
        properties
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.values().map(Entry::value);
        f.debug_map()
            .entries(entries.map(|value| match value.is_shown() {
                true => (value.key, value.text),
                false => (value.name(), "***"),
            }))
            .finish()
    }
}
