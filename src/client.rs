//! The door: a client knows a cluster and makes everything else.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    admin::Admin,
    cluster::{self, Backoff, Cluster, ClusterConfig, CoordinatorKey},
    consumer::{self, ReaderBuilder},
    deadline::{Deadline, FOR_EVER},
    error::{Error, Result},
    group::GroupBuilder,
    metadata::{Broker, ClusterMetadata},
    net::Address,
    offset::{Isolation, StartAt},
    producer::ProducerBuilder,
    properties::Remark,
    stop::Registration,
};

/// A Kafka cluster, and the connections to it.
///
/// Cheap to clone; clones share connections and what is known of the cluster. When the last clone, and everything
/// that was made with it, is gone, the connections are closed and their threads joined. There is nothing to clean up.
///
/// ```no_run
/// # fn main() -> klamm::Result<()> {
/// let client = klamm::Client::connect("localhost:9092,localhost:9093")?;
/// for partition in 0..client.partitions("orders")? {
///     println!("orders-{partition} is led by {:?}", client.leader("orders", partition)?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Calls that ask the cluster something take at most `request_timeout`, in which they find the right broker, connect to
/// it and retry what can be retried.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: Cluster,
}

impl Client {
    /// Connects with every option at its default. One broker of the list (`host:port`, separated by commas) must
    /// answer; it tells about the others.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) when the list cannot be read, and
    /// [`Unreachable`](crate::ErrorKind::Unreachable), naming each address and why, when nobody answers.
    pub fn connect(bootstrap: &str) -> Result<Self> {
        Self::builder().bootstrap(bootstrap).connect()
    }

    /// Sets options before connecting.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> klamm::Result<()> {
    /// let client = klamm::Client::builder()
    ///     .bootstrap("kafka-1:9092,kafka-2:9092")
    ///     .client_id("billing")
    ///     .connect_timeout(Duration::from_secs(3))
    ///     .connect()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Asks for the brokers, and for topics: all of them, or those named. Never creates a topic.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// for topic in client.metadata(klamm::Topics::All)?.topics {
    ///     println!("{} has {} partitions", topic.name, topic.partitions.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When no broker answers. A topic that does not exist is no error: it is missing in the answer.
    pub fn metadata(&self, topics: Topics) -> Result<ClusterMetadata> {
        let deadline = self.deadline();
        match topics {
            Topics::All => {
                let metadata = self.cluster.fetch_metadata(cluster::Topics::All, &deadline)?;
                Ok(ClusterMetadata::of(&metadata, |_| true))
            }
            Topics::Named(names) => {
                let names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
                let metadata = self.cluster.fetch_metadata(cluster::Topics::Named(&names), &deadline)?;
                Ok(ClusterMetadata::of(&metadata, |name| {
                    names.iter().any(|wanted| **wanted == *name)
                }))
            }
        }
    }

    /// How many partitions the topic has; they are numbered from 0. Known for `metadata_max_age` once asked.
    ///
    /// # Errors
    ///
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) when brokers have denied it for `unknown_topic_ttl`. Asking
    /// does not create it.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        let topic = self.cluster.topic(topic, &self.deadline())?;
        Ok(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX))
    }

    /// The broker that leads this partition.
    ///
    /// # Errors
    ///
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) when there is no such topic or partition; after
    /// `request_timeout` when the partition has no leader.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Broker> {
        self.cluster
            .with_leader(topic, partition, &self.deadline(), |leader, _, _| {
                let metadata = self.cluster.metadata();
                let broker = metadata.brokers.get(&leader).cloned();
                broker.map(Broker::from).ok_or_else(|| {
                    let message = format!("broker {leader} is not in the metadata");
                    Error::new(crate::ErrorKind::Unreachable, message)
                })
            })
    }

    /// The broker that coordinates a group or a transactional ID. Asked anew each time.
    ///
    /// # Errors
    ///
    /// After `request_timeout` when there is none yet, as in a cluster that has just been started.
    pub fn coordinator(&self, of: Coordinator<'_>) -> Result<Broker> {
        let key = match of {
            Coordinator::Group(id) => CoordinatorKey::Group(id),
            Coordinator::Transaction(id) => CoordinatorKey::Transaction(id),
        };
        let mut found = self.cluster.find_coordinator(key, &self.deadline())?;
        // The answer leaves out the rack.
        if let Some(known) = self.cluster.metadata().brokers.get(&found.id) {
            found.rack.clone_from(&known.rack);
        }
        Ok(found.into())
    }

    /// The offset that reading from there would start with; `None` when no message is as new as the time asked for.
    /// [`StartAt::Latest`] is the end of what is committed: in front of the oldest open transaction, if there is one.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let an_hour_ago = klamm::StartAt::Ago(Duration::from_secs(3600));
    /// let first = client.offset_for("orders", 0, an_hour_ago)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) when there is no such topic or partition; after
    /// `request_timeout` when its leader cannot be asked.
    pub fn offset_for(&self, topic: &str, partition: i32, start: StartAt) -> Result<Option<i64>> {
        start.check()?;
        self.cluster
            .offset_for(topic, partition, start, Isolation::default(), &self.deadline())
    }

    /// Reads topics or partitions without a group: whoever reads says where to start.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// for message in client.reader().topics(["orders"]).open()? {
    ///     println!("{:?}", message?.value());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reader(&self) -> ReaderBuilder {
        ReaderBuilder::new(self.clone(), self.cluster.config().rack.clone())
    }

    /// Reads topics together with the other members of a consumer group, which remembers how far it got. Kafka: `group.id`.
    /// [`klamm::join`](crate::join) is the short form.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// for message in client.group("billing").topics(["orders"]).join()? {
    ///     println!("{:?}", message?.value());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn group(&self, id: impl Into<String>) -> GroupBuilder {
        GroupBuilder::new(self.clone(), id.into(), self.cluster.config().rack.clone())
    }

    /// Writes records. One producer is enough for a program, whatever the number of its threads and topics: it has one buffer,
    /// and what several write to one partition shares batches.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let producer = client.producer().linger(Duration::from_millis(20)).build()?;
    /// # drop(producer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// For changes to the cluster: creating and deleting topics, and the like.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.cluster.clone())
    }

    /// Ends this client, all of its clones and the streams that were made with them: every call that waits returns
    /// [`Closed`](crate::ErrorKind::Closed), and so does every later one; iterators end. Connections are shut down and
    /// their threads joined; a stream joins its own when it is closed or dropped. Calling it again does nothing.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when a thread did not end within `timeout`.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        self.cluster.close(&Deadline::after(timeout, "timeout"))
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// For what is made with this client and may outlive its last handle.
    pub(crate) fn hold(&self) -> ClientHold {
        ClientHold {
            client: self.clone(),
            ending: Mutex::new(None),
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(self.cluster.config().request_timeout, "request_timeout")
    }
}

/// Keeps the client for as long as something lives that was made with it, and ends that with the client.
#[derive(Debug)]
pub(crate) struct ClientHold {
    client: Client,
    ending: Mutex<Option<Registration>>,
}

impl ClientHold {
    pub(crate) fn register(&self, stream: &Arc<consumer::buffer::Shared>) {
        let stream = Arc::downgrade(stream);
        let closing = self.client.cluster.closing();
        let registration = closing.on_stop(move || {
            if let Some(stream) = stream.upgrade() {
                stream.close();
            }
        });
        *self.ending.lock() = Some(registration);
    }
}

/// Which topics to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Topics {
    /// Every topic the client may see.
    #[default]
    All,
    /// These.
    Named(Vec<String>),
}

impl Topics {
    /// These topics.
    ///
    /// ```
    /// let topics = klamm::Topics::named(["orders", "invoices"]);
    /// # drop(topics);
    /// ```
    pub fn named<T: Into<String>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self::Named(topics.into_iter().map(Into::into).collect())
    }
}

/// What a broker coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coordinator<'a> {
    /// A consumer group, by its ID.
    Group(&'a str),
    /// A producer's transactions, by its transactional ID.
    Transaction(&'a str),
}

/// Options of a [`Client`]. Invalid ones are reported when connecting.
///
/// | Option | Kafka's name | Default |
/// |---|---|---|
/// | [`bootstrap`](Self::bootstrap) | `bootstrap.servers` | none, and needed |
/// | [`client_id`](Self::client_id) | `client.id` | `klamm` |
/// | [`rack`](Self::rack) | `client.rack` | none |
/// | [`request_timeout`](Self::request_timeout) | `request.timeout.ms` | 30 s |
/// | [`connect_timeout`](Self::connect_timeout) | `socket.connection.setup.timeout.ms` | 10 s |
/// | [`retry_backoff`](Self::retry_backoff) | `retry.backoff.ms`, `retry.backoff.max.ms` | 100 ms … 1 s |
/// | [`reconnect_backoff`](Self::reconnect_backoff) | `reconnect.backoff.ms`, `reconnect.backoff.max.ms` | 50 ms … 1 s |
/// | [`metadata_max_age`](Self::metadata_max_age) | `metadata.max.age.ms` | 5 min |
/// | [`unknown_topic_ttl`](Self::unknown_topic_ttl) | – | 5 s |
/// | [`connections_max_idle`](Self::connections_max_idle) | `connections.max.idle.ms` | 9 min |
/// | `tls` (feature `tls`) | `security.protocol`, `ssl.*` | none: what is sent can be read on its way |
/// | [`sasl`](Self::sasl) | `sasl.mechanism`, `sasl.jaas.config` | none: the client says not who it is |
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) config: ClusterConfig,
    /// What properties said to nobody's ears; told when it connects.
    pub(crate) remarks: Vec<Remark>,
}

impl ClientBuilder {
    /// Brokers to ask first, as `host:port`, separated by commas; they tell about all the others. Two or three are
    /// enough for any cluster: one of them must be up when the client starts, and again after an outage of every other
    /// broker. An IPv6 address stands in brackets: `[::1]:9092`. Called again, it adds to the list. Kafka's
    /// `bootstrap.servers`.
    ///
    /// Names are resolved by the operating system, each time a connection is made, on a thread that ends with the answer:
    /// when a name server is silent, it may outlast the call, whose deadline holds.
    pub fn bootstrap(mut self, servers: impl Into<String>) -> Self {
        self.bootstrap.push(servers.into());
        self
    }

    /// How this program is called in the broker's logs, metrics and quotas. Default: `klamm`. Kafka's `client.id`.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.config.client_id = id.into();
        self
    }

    /// Where this program runs, in the words of the brokers' `broker.rack`, so that a broker may point it to a replica
    /// nearby. Default: none, and everything is read from leaders. Kafka's `client.rack`.
    pub fn rack(mut self, rack: impl Into<String>) -> Self {
        self.config.rack = Some(rack.into());
        self
    }

    /// How long a broker may take to answer, and how long a call that asks the cluster something goes on trying.
    /// Default: 30 s. A broker that is silent for that long loses its connection, and everything in flight on it fails:
    /// shorter than the brokers' own pauses, it turns each of them into an outage. Kafka's `request.timeout.ms`.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_timeout = timeout;
        self
    }

    /// How long it may take until a connection can be used: TCP, TLS, the exchange of versions and SASL together. Default:
    /// 10 s. Kafka's `socket.connection.setup.timeout.ms`.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How long to wait before something is tried again: the first time, and at most. It doubles in between, and varies
    /// by a fifth so that clients that failed together do not come back together. Default: 100 ms and 1 s. Shorter
    /// times burden brokers that are in trouble already. Kafka's `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub fn retry_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.config.retry_backoff = Backoff { min, max };
        self
    }

    /// The same between attempts to connect to one broker. Default: 50 ms and 1 s. Kafka's `reconnect.backoff.ms` and
    /// `reconnect.backoff.max.ms`.
    pub fn reconnect_backoff(mut self, min: Duration, max: Duration) -> Self {
        self.config.reconnect_backoff = Backoff { min, max };
        self
    }

    /// How long what is known of a topic is believed without asking again. Default: 5 min. A leader that moved is
    /// noticed at once in any case; partitions that were added are noticed after this time. Kafka's
    /// `metadata.max.age.ms`.
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// How long a topic that brokers do not know is asked for before it is reported as unknown, and then for how long
    /// that is remembered, as it is of a topic that this user may not see. Default: 5 s. A topic just created takes a moment
    /// to be known to every broker: with a much shorter time it may be reported as unknown.
    pub fn unknown_topic_ttl(mut self, ttl: Duration) -> Self {
        self.config.unknown_topic_ttl = ttl;
        self
    }

    /// Connections not used for this long are closed. Default: 9 min, a little less than the brokers'. Kafka's
    /// `connections.max.idle.ms`.
    pub fn connections_max_idle(mut self, idle: Duration) -> Self {
        self.config.connections_max_idle = idle;
        self
    }

    /// Encrypts every connection. Kafka's `security.protocol` (`SSL`, or `SASL_SSL` with [`sasl`](Self::sasl)) and `ssl.*`.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// let tls = klamm::Tls::new().root_file("/etc/kafka/ca.pem");
    /// let client = klamm::Client::builder().bootstrap("kafka-1:9093").tls(tls).connect()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::Tls) -> Self {
        self.config.tls = Some(tls);
        self
    }

    /// Says who this program is, on every connection. Kafka's `security.protocol` (`SASL_PLAINTEXT`, or `SASL_SSL` with
    /// `tls`) and `sasl.*`.
    ///
    /// Where the broker's sessions end (`connections.max.reauth.ms`, or with a token), they are renewed before that, on
    /// connections that are in use and beside the requests on them: credentials are asked for when 80 to 90 per cent of the
    /// session are over, and only while broker and client exchange them others wait. Credentials that are refused end what
    /// needs them, at once if they were never accepted; see [`Authentication`](crate::ErrorKind::Authentication).
    pub fn sasl(mut self, sasl: crate::Sasl) -> Self {
        self.config.sasl = Some(sasl);
        self
    }

    /// Connects; one of the bootstrap servers must answer, each within `connect_timeout`.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) when an option is invalid, and
    /// [`Unreachable`](crate::ErrorKind::Unreachable), naming each address and why, when nobody answers.
    pub fn connect(self) -> Result<Client> {
        let cluster = Cluster::connect(self.check()?)?;
        Ok(Client { cluster })
    }

    /// Returns at once and connects when something is asked for: that no broker can be reached yet is no error here.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) when an option is invalid.
    pub fn connect_lazy(self) -> Result<Client> {
        let cluster = Cluster::connect_lazy(self.check()?);
        Ok(Client { cluster })
    }

    fn check(self) -> Result<ClusterConfig> {
        let Self {
            bootstrap,
            mut config,
            remarks,
        } = self;
        remarks.iter().for_each(Remark::log);
        config.bootstrap = Address::parse_list(&bootstrap.join(","))?;
        if config.bootstrap.is_empty() {
            return Err(Error::config(
                "bootstrap names no broker: it must be a list of host:port",
            ));
        }
        for limit in [
            &mut config.request_timeout,
            &mut config.connect_timeout,
            &mut config.retry_backoff.min,
            &mut config.retry_backoff.max,
            &mut config.reconnect_backoff.min,
            &mut config.reconnect_backoff.max,
            &mut config.metadata_max_age,
            &mut config.unknown_topic_ttl,
            &mut config.connections_max_idle,
        ] {
            *limit = (*limit).min(FOR_EVER);
        }
        for (name, limit) in [
            ("request_timeout", config.request_timeout),
            ("connect_timeout", config.connect_timeout),
            ("metadata_max_age", config.metadata_max_age),
            ("connections_max_idle", config.connections_max_idle),
        ] {
            if limit.is_zero() {
                return Err(Error::config(format!("{name} must not be zero")));
            }
        }
        for (name, Backoff { min, max }) in [
            ("retry_backoff", config.retry_backoff),
            ("reconnect_backoff", config.reconnect_backoff),
        ] {
            if min.is_zero() || max < min {
                let message =
                    format!("{name} must be above zero and its maximum not below it, not {min:?} and {max:?}");
                return Err(Error::config(message));
            }
        }
        #[cfg(feature = "tls")]
        config.tls.as_ref().map_or(Ok(()), crate::Tls::check)?;
        let rack = config.rack.as_deref().unwrap_or_default();
        for (name, text) in [("client_id", &*config.client_id), ("rack", rack)] {
            if text.len() > LONGEST_STRING {
                let message = format!("{name} must not be longer than {LONGEST_STRING} bytes");
                return Err(Error::config(message));
            }
        }
        Ok(config)
    }
}

/// The protocol counts the bytes of a string in 15 bits.
const LONGEST_STRING: usize = 32_767;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refused(builder: ClientBuilder) -> String {
        let error = builder.connect_lazy().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn invalid_options_are_refused_by_name() {
        let valid = || Client::builder().bootstrap("localhost:9092");
        valid().connect_lazy().unwrap();
        assert!(refused(Client::builder()).contains("bootstrap"));
        assert!(refused(Client::builder().bootstrap(" , ")).contains("bootstrap"));
        assert!(refused(Client::builder().bootstrap("localhost")).contains("host:port"));
        assert!(refused(valid().request_timeout(Duration::ZERO)).contains("request_timeout"));
        assert!(refused(valid().connect_timeout(Duration::ZERO)).contains("connect_timeout"));
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(1));
        assert!(refused(valid().retry_backoff(long, short)).contains("retry_backoff"));
        assert!(refused(valid().reconnect_backoff(Duration::ZERO, long)).contains("reconnect_backoff"));
    }

    #[test]
    fn bootstrap_lists_add_up() {
        let client = Client::builder().bootstrap("a:1,b:2").bootstrap("[::1]:3");
        let client = client.connect_lazy().unwrap();
        let list = &client.cluster().config().bootstrap;
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a:1", "b:2", "[::1]:3"]
        );
    }

    #[test]
    fn a_closed_client_refuses_and_may_be_closed_again() {
        let client = Client::builder().bootstrap("localhost:9").connect_lazy().unwrap();
        client.close(Duration::from_secs(5)).unwrap();
        client.close(Duration::from_secs(5)).unwrap();
        assert_eq!(client.partitions("t").unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.metadata(Topics::All).unwrap_err().kind(), ErrorKind::Closed);
    }
}
