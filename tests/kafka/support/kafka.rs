//! Starts brokers, and does to them what happens to brokers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::certificates::Identity;
use super::listener::Listener;
use super::process::Process;
use super::proxy::Proxy;
use super::{corner, jars, raw, wait, watchdog};

/// How many tests may have the shared broker behind a proxy at a time.
const PLACES: usize = 4;

/// A start takes two seconds on an idle machine; this one may not be idle.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The broker that all tests share which neither hurt it nor change its settings.
///
/// Use names from [`unique`](wait::unique) on it. It starts with the first test that asks, and ends with the process.
/// `KLAMM_TEST_BOOTSTRAP` puts a running cluster in its place.
pub fn shared() -> &'static Kafka {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("KLAMM_TEST_BOOTSTRAP") {
        Ok(bootstrap) => Kafka::at(bootstrap),
        Err(_) => Kafka::builder().places(PLACES).start_with(None),
    })
}

/// The same broker behind a proxy that is this test's alone, until it is dropped: for tests that hurt connections, or count
/// what goes over them, and leave the broker in peace. A broker of its own would cost seconds.
///
/// It is called 1, and other tests use it meanwhile: names from [`unique`](wait::unique) here too.
pub fn shared_behind_a_proxy() -> Kafka {
    let broker = shared();
    let Some(node) = broker.nodes.first() else {
        // Of a cluster that was not started here nobody can say where it tells clients to connect to.
        return Kafka::builder().behind_proxies().start();
    };
    let place = broker.places.take();
    let proxy = Proxy::start_at(place.door().clients(), place.door().broker);
    let lent = Node {
        id: node.id,
        folder: node.folder.clone(),
        client: place.door().broker,
        internal: node.internal,
        advertised: proxy.address(),
        proxy: Some(proxy),
        more: Vec::new(),
        heap_mb: node.heap_mb,
        full_speed: node.full_speed,
        process: Mutex::new(None),
        starts: AtomicUsize::new(node.starts.load(Ordering::Relaxed)),
    };
    Kafka {
        nodes: vec![lent],
        external: None,
        folder: PathBuf::new(),
        places: Places::default(),
        place: Some(place),
        _permit: None,
    }
}

/// A cluster of the test's own: one broker, or more, that are dropped with it.
///
/// Brokers are named by their node id: 1, 2, 3.
pub struct Kafka {
    nodes: Vec<Node>,
    /// The bootstrap addresses of a cluster that was not started here.
    external: Option<String>,
    folder: PathBuf,
    places: Places,
    /// Of the shared broker, if this is that. Declared after the nodes, with whose proxy it has been used.
    place: Option<Place>,
    /// Declared last: the next test may start its brokers when these are gone.
    _permit: Option<Permit>,
}

struct Node {
    id: i32,
    folder: PathBuf,
    /// Where the broker listens for clients.
    client: SocketAddr,
    /// Where brokers and the Java programs talk to it: no fault that a test injects for clients is in their way.
    internal: SocketAddr,
    /// What it tells clients to connect to.
    advertised: SocketAddr,
    proxy: Option<Proxy>,
    more: Vec<Door>,
    heap_mb: u32,
    full_speed: bool,
    process: Mutex<Option<Process>>,
    starts: AtomicUsize,
}

/// A listener of one broker beside the plain ones.
struct Door {
    listener: Listener,
    address: SocketAddr,
    advertised: SocketAddr,
    proxy: Option<Proxy>,
}

#[must_use = "a builder does nothing until `start`"]
pub struct KafkaBuilder {
    brokers: usize,
    properties: Vec<(String, String)>,
    listeners: Vec<Listener>,
    scram_users: Vec<(String, String)>,
    advertise: Option<u16>,
    proxies: bool,
    full_speed: bool,
    places: usize,
}

impl Kafka {
    /// A cluster that runs already, and goes on when this is dropped. What needs its processes panics.
    pub fn at(bootstrap: String) -> Self {
        Self {
            nodes: Vec::new(),
            external: Some(bootstrap),
            folder: PathBuf::new(),
            places: Places::default(),
            place: None,
            _permit: None,
        }
    }

    /// One broker with the usual settings, unless told otherwise.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder {
            brokers: 1,
            properties: Vec::new(),
            listeners: Vec::new(),
            scram_users: Vec::new(),
            advertise: None,
            proxies: false,
            full_speed: false,
            places: 0,
        }
    }

    /// What a client is given: the advertised addresses of all brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        match &self.external {
            Some(bootstrap) => bootstrap.clone(),
            None => self
                .nodes
                .iter()
                .map(|node| node.advertised.to_string())
                .collect::<Vec<_>>()
                .join(","),
        }
    }

    /// The same brokers by their inner listener: past proxies, and without TLS or SASL if clients must use them.
    pub fn internal_bootstrap(&self) -> String {
        self.internal_addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// How many brokers were started here.
    pub fn brokers(&self) -> usize {
        self.nodes.len()
    }

    /// Where clients are told to find this broker: its proxy, if it has one.
    pub fn address(&self, id: i32) -> SocketAddr {
        self.node(id).advertised
    }

    /// Where the broker itself listens for clients.
    pub fn direct_address(&self, id: i32) -> SocketAddr {
        self.node(id).client
    }

    /// What stands between clients and this broker, after [`KafkaBuilder::behind_proxies`].
    pub fn proxy(&self, id: i32) -> &Proxy {
        self.node(id)
            .proxy
            .as_ref()
            .expect("only a cluster that was built `behind_proxies` has them")
    }

    /// What a client of this listener is given: [`KafkaBuilder::listener`].
    pub fn listener(&self, name: &str) -> String {
        let addresses = self.nodes.iter().map(|node| node.door(name).advertised.to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Where the broker itself listens there.
    pub fn direct_listener(&self, id: i32, name: &str) -> SocketAddr {
        self.node(id).door(name).address
    }

    /// What stands between clients and this listener, after [`Listener::behind_proxy`].
    pub fn listener_proxy(&self, id: i32, name: &str) -> &Proxy {
        let proxy = self.node(id).door(name).proxy.as_ref();
        proxy.expect("only a cluster that was built `behind_proxies` has them")
    }

    /// The listener will show another certificate to new connections, in a moment.
    pub fn show(&self, id: i32, name: &str, identity: &Identity) {
        let node = self.node(id);
        let keystore = node.door(name).listener.keystore(&node.folder);
        std::fs::write(&keystore, identity.keystore()).expect("a keystore can be written");
        // The same path again: the broker then looks whether the file has changed.
        let setting = format!(
            "listener.name.{}.ssl.keystore.location={}",
            name.to_lowercase(),
            keystore.display()
        );
        self.corner("set-broker", &[&id.to_string(), &setting]);
    }

    /// Where this broker keeps a partition's segments: for `DumpLogSegments`.
    pub fn partition_folder(&self, id: i32, topic: &str, partition: i32) -> PathBuf {
        self.node(id).folder.join("data").join(format!("{topic}-{partition}"))
    }

    /// The broker's process, for those who want to know what it costs.
    pub fn process_id(&self, id: i32) -> u32 {
        let process = self.node(id).process();
        process.as_ref().expect("the broker runs").id()
    }

    /// Kills the broker with no chance to say goodbye.
    pub fn kill9(&self, id: i32) {
        if let Some(mut process) = self.own(id).process().take() {
            process.kill();
        }
    }

    /// Asks the broker to stop, and waits until it has.
    pub fn stop(&self, id: i32) {
        let taken = self.own(id).process().take();
        if let Some(mut process) = taken {
            process.signal("CONT");
            process.signal("TERM");
            assert!(
                process.wait(STOP_LIMIT).is_some(),
                "broker {id} did not stop within {STOP_LIMIT:?}"
            );
        }
    }

    /// Freezes the broker: its connections stay open, and nothing answers.
    pub fn sigstop(&self, id: i32) {
        self.signal(id, "STOP");
    }

    /// Lets a frozen broker go on.
    pub fn sigcont(&self, id: i32) {
        self.signal(id, "CONT");
    }

    /// Starts a broker again that was killed or stopped, on its old address and data, and waits until it serves.
    pub fn start(&self, id: i32) {
        let node = self.own(id);
        node.launch();
        node.wait_until_ready(1);
    }

    /// Starts a broker again and does not wait.
    pub fn start_without_waiting(&self, id: i32) {
        self.own(id).launch();
    }

    /// The node that leads a partition; -1 when there is none.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        let metadata = self.ask_any(|broker| raw::metadata(broker, &[topic]));
        metadata
            .topics
            .first()
            .and_then(|topic| topic.leaders.get(partition as usize).copied())
            .unwrap_or(-1)
    }

    /// The node that coordinates a group; waits until there is one.
    pub fn coordinator(&self, group: &str) -> i32 {
        let mut found = -1;
        wait::wait_until(&format!("a coordinator of group {group}"), START_LIMIT, || {
            let answers = self.live_addresses();
            found = answers
                .iter()
                .find_map(|broker| raw::coordinator(*broker, group).ok())
                .unwrap_or(-1);
            found >= 0
        });
        found
    }

    /// Waits until every running broker knows all partitions of the topic, each with a leader, and the leaders serve.
    ///
    /// Java's producer must not meet a leader that does not know of it yet: with several first batches under way, the
    /// broker may take the second one first, and then refuses the first for ever.
    pub fn wait_for_topic(&self, topic: &str, partitions: usize) {
        wait::wait_until(
            &format!("topic {topic} with {partitions} leaders on every broker"),
            START_LIMIT,
            || {
                self.live_addresses().iter().all(|broker| {
                    raw::metadata(*broker, &[topic]).is_ok_and(|metadata| {
                        let leaders = &metadata.topics[0].leaders;
                        leaders.len() == partitions
                            && leaders.iter().all(|leader| *leader >= 0)
                            && self.serves(topic, leaders)
                    })
                })
            },
        );
    }

    /// Of a cluster that was not started here only what its metadata says is known.
    fn serves(&self, topic: &str, leaders: &[i32]) -> bool {
        self.nodes.iter().all(|node| {
            let led = (0..).zip(leaders).filter(|(_, leader)| **leader == node.id);
            let led: Vec<i32> = led.map(|(partition, _)| partition).collect();
            led.is_empty() || raw::leads(node.internal, topic, &led).unwrap_or(false)
        })
    }

    /// What the broker has logged so far: for messages of failed tests.
    pub fn log_tail(&self, id: i32) -> String {
        self.node(id).log_tail()
    }

    fn signal(&self, id: i32, name: &str) {
        match self.own(id).process().as_mut() {
            Some(process) => process.signal(name),
            None => panic!("broker {id} does not run"),
        }
    }

    /// A broker that may be hurt.
    fn own(&self, id: i32) -> &Node {
        assert!(self.place.is_none(), "other tests use the shared broker");
        self.node(id)
    }

    fn node(&self, id: i32) -> &Node {
        let found = self.nodes.iter().find(|node| node.id == id);
        found
            .unwrap_or_else(|| panic!("no broker {id} was started here (a test that needs one builds its own cluster)"))
    }

    fn internal_addresses(&self) -> Vec<SocketAddr> {
        match &self.external {
            Some(bootstrap) => bootstrap
                .split(',')
                .map(|address| {
                    let mut found = address.trim().to_socket_addrs().unwrap_or_else(|error| {
                        panic!("KLAMM_TEST_BOOTSTRAP names {address:?}, which is no host:port: {error}")
                    });
                    found.next().expect("a resolved name has an address")
                })
                .collect(),
            None => self.nodes.iter().map(|node| node.internal).collect(),
        }
    }

    /// The inner addresses of brokers that have not been killed.
    fn live_addresses(&self) -> Vec<SocketAddr> {
        match self.external {
            Some(_) => self.internal_addresses(),
            None => self
                .nodes
                .iter()
                .filter(|node| self.place.is_some() || node.process().is_some())
                .map(|node| node.internal)
                .collect(),
        }
    }

    fn ask_any<T>(&self, ask: impl Fn(SocketAddr) -> std::io::Result<T>) -> T {
        let mut failures = Vec::new();
        for broker in self.live_addresses() {
            match ask(broker) {
                Ok(answer) => return answer,
                Err(error) => failures.push(format!("{broker}: {error}")),
            }
        }
        panic!("no broker answers: {failures:?}")
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Some(mut process) = node.process().take() {
                if std::thread::panicking() {
                    eprintln!("broker {}, as the test failed:\n{}", node.id, node.log_tail());
                }
                process.kill();
            }
        }
        let is_own = self.external.is_none() && self.place.is_none();
        if is_own && std::env::var_os("KLAMM_TEST_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl KafkaBuilder {
    /// How many brokers, each of them also a controller: 1 or 3. With two of three dead the quorum is gone too.
    pub fn brokers(mut self, brokers: usize) -> Self {
        assert!((1..=5).contains(&brokers), "a cluster of {brokers} brokers");
        self.brokers = brokers;
        self
    }

    /// A line of `server.properties`, in place of the usual value.
    ///
    /// The client listener is called CLIENT; for TLS and SASL see [`listener`](Self::listener).
    pub fn property(mut self, name: &str, value: impl ToString) -> Self {
        self.properties.push((name.to_owned(), value.to_string()));
        self
    }

    /// A listener beside the plain ones, on a port of its own.
    pub fn listener(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// A user of SCRAM-SHA-256 and SCRAM-SHA-512, whom brokers know from their start on.
    pub fn scram_user(mut self, name: &str, password: &str) -> Self {
        self.scram_users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Only super users (those of the plain listeners, and these) may do what no ACL allows, on what has one.
    pub fn authorizer(self, super_users: &[&str]) -> Self {
        let mut all = "User:ANONYMOUS".to_owned();
        for user in super_users {
            all.push_str(";User:");
            all.push_str(user);
        }
        self.property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("allow.everyone.if.no.acl.found", true)
        .property("super.users", all)
    }

    /// The single broker tells clients to connect to this port on 127.0.0.1.
    pub fn advertise(mut self, port: u16) -> Self {
        self.advertise = Some(port);
        self
    }

    /// A proxy before each broker, whose address is the one that the broker advertises.
    pub fn behind_proxies(mut self) -> Self {
        self.proxies = true;
        self
    }

    /// Runs as in production: compiled as well as Java can, with a heap for large requests. Such a broker starts
    /// slower, and takes some seconds of work to become fast: for measuring only.
    pub fn full_speed(mut self) -> Self {
        self.full_speed = true;
        self
    }

    /// The single broker has so many listeners more, each to be lent: [`shared_behind_a_proxy`].
    fn places(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    /// Starts the brokers and waits until each of them serves clients and knows all others.
    ///
    /// Waits first while two other tests have clusters of their own.
    pub fn start(self) -> Kafka {
        self.start_with(Some(Permit::wait()))
    }

    pub(super) fn start_with(self, permit: Option<Permit>) -> Kafka {
        static CLUSTERS: AtomicUsize = AtomicUsize::new(1);
        assert!(
            self.advertise.is_none() || (self.brokers == 1 && !self.proxies),
            "`advertise` is for one broker without a proxy of the harness"
        );
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = watchdog::run_folder().join(format!("cluster-{number}"));
        let controllers: Vec<u16> = (0..self.brokers).map(|_| free_port()).collect();
        let voters: Vec<String> = controllers
            .iter()
            .enumerate()
            .map(|(n, port)| format!("{}@127.0.0.1:{port}", n + 1))
            .collect();

        let doors: Vec<LentDoor> = (0..self.places).map(|_| LentDoor::new()).collect();
        let mut nodes = Vec::new();
        for (n, controller) in controllers.into_iter().enumerate() {
            let client = local(free_port());
            let proxy = self.proxies.then(|| Proxy::start(client));
            let advertised = match (&proxy, self.advertise) {
                (Some(proxy), _) => proxy.address(),
                (None, Some(port)) => local(port),
                (None, None) => client,
            };
            let id = n as i32 + 1;
            let more = self.listeners.iter().map(|listener| {
                let address = local(free_port());
                let proxy = (self.proxies || listener.has_proxy()).then(|| Proxy::start(address));
                Door {
                    listener: listener.clone(),
                    address,
                    advertised: proxy.as_ref().map_or(address, Proxy::address),
                    proxy,
                }
            });
            let node = Node {
                id,
                folder: folder.join(format!("broker-{id}")),
                client,
                internal: local(free_port()),
                advertised,
                proxy,
                more: more.chain(doors.iter().zip(1..).map(LentDoor::listener)).collect(),
                heap_mb: match self.brokers {
                    _ if self.full_speed => 1024,
                    1 => 512,
                    _ => 320,
                },
                full_speed: self.full_speed,
                process: Mutex::new(None),
                starts: AtomicUsize::new(0),
            };
            std::fs::create_dir_all(node.folder.join("data")).expect("the broker's folder can be made");
            let properties = self.server_properties(&node, controller, &voters.join(","));
            std::fs::write(node.properties(), properties).expect("server.properties can be written");
            self.format(&node);
            nodes.push(node);
        }
        // From here on a panic drops the cluster and with it the brokers that run.
        let kafka = Kafka {
            nodes,
            external: None,
            folder,
            places: Places::of(doors),
            place: None,
            _permit: permit,
        };
        for node in &kafka.nodes {
            node.launch();
        }
        for node in &kafka.nodes {
            node.wait_until_ready(kafka.nodes.len());
        }
        kafka
    }

    fn format(&self, node: &Node) {
        let mut args = vec![CLUSTER_ID.to_owned(), node.properties().display().to_string()];
        for (name, password) in &self.scram_users {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                args.push("--add-scram".to_owned());
                args.push(format!("{mechanism}=[name={name},password={password}]"));
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        corner::run("", "format", &args);
    }

    fn server_properties(&self, node: &Node, controller: u16, voters: &str) -> String {
        let id = node.id;
        let copies = self.brokers.min(3).to_string();
        let in_sync = if self.brokers < 3 { "1" } else { "2" };
        let Node {
            client,
            internal,
            advertised,
            ..
        } = node;
        let [mut listeners, mut advertised_listeners, mut protocols] = [const { String::new() }; 3];
        for door in &node.more {
            let name = door.listener.name();
            listeners += &format!(",{name}://{}", door.address);
            advertised_listeners += &format!(",{name}://{}", door.advertised);
            protocols += &format!(",{name}:{}", door.listener.protocol());
        }
        let mut lines: Vec<(String, String)> = vec![
            ("node.id".into(), id.to_string()),
            ("broker.rack".into(), format!("rack-{id}")),
            (
                "listeners".into(),
                format!(
                    "CLIENT://{client},INTERNAL://{internal},CONTROLLER://{}{listeners}",
                    local(controller)
                ),
            ),
            (
                "advertised.listeners".into(),
                format!("CLIENT://{advertised},INTERNAL://{internal}{advertised_listeners}"),
            ),
            (
                "listener.security.protocol.map".into(),
                format!("CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}"),
            ),
            ("controller.quorum.voters".into(), voters.to_owned()),
            ("log.dirs".into(), node.folder.join("data").display().to_string()),
        ];
        let replication = [
            "offsets.topic",
            "transaction.state.log",
            "share.coordinator.state.topic",
            "default",
        ]
        .map(|topic| {
            let name = format!("{topic}.replication.factor");
            (name, copies.clone())
        });
        lines.extend(replication);
        for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
            lines.push((format!("{topic}.min.isr"), in_sync.to_owned()));
        }
        // A dead broker is noticed soon, and a killed one may register again soon: the controller first waits until
        // its old life's session has ended. Three on a busy machine need more time not to be taken for dead.
        let session = if self.brokers == 1 { "2000" } else { "4000" };
        lines.push(("broker.session.timeout.ms".into(), session.to_owned()));
        lines.extend(
            USUAL
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        for door in &node.more {
            lines.extend(door.listener.server_properties(&node.folder));
        }
        for (name, value) in &self.properties {
            lines.retain(|(usual, _)| usual != name);
            lines.push((name.clone(), value.clone()));
        }
        lines.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

const CLUSTER_ID: &str = "a2xhbW0tdGVzdC1rYWZrYQ";

const USUAL: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "INTERNAL"),
    ("num.partitions", "1"),
    // A client that asks for a topic that is not there must hear so.
    ("auto.create.topics.enable", "false"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.num.partitions", "2"),
    // Groups: no waiting for members that may yet come, and limits low enough to see them fire in a test.
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("offsets.retention.check.interval.ms", "2000"),
    // Cleaning and deleting begin soon, and the cleaner's table is not a third of the heap.
    ("log.initial.task.delay.ms", "500"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    ("log.retention.check.interval.ms", "1000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("leader.imbalance.check.interval.seconds", "5"),
    ("auto.leader.rebalance.enable", "false"),
];

impl Node {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn door(&self, name: &str) -> &Door {
        let found = self.more.iter().find(|door| door.listener.name() == name);
        found.unwrap_or_else(|| panic!("broker {} has no listener {name}", self.id))
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn launch(&self) {
        let mut process = self.process();
        assert!(process.is_none(), "broker {} runs already", self.id);
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let said = std::fs::File::create(self.folder.join(format!("out-{start}.txt"))).expect("a file can be made");
        let mut command = if self.full_speed {
            jars::fast_java_command(self.heap_mb)
        } else {
            jars::java_command(self.heap_mb)
        };
        command
            .arg(format!(
                "-Dorg.slf4j.simpleLogger.logFile={}",
                self.log(start).display()
            ))
            .args(["-cp", jars::class_path(), "kafka.Kafka"])
            .arg(self.properties())
            .current_dir(&self.folder)
            .stderr(said.try_clone().expect("a file has many handles"))
            .stdout(Stdio::from(said));
        *process = Some(Process::start(&mut command));
    }

    /// Until it answers, is not fenced, and knows so many brokers.
    fn wait_until_ready(&self, brokers: usize) {
        let end = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.process().as_mut().and_then(Process::exit_status) {
                panic!(
                    "broker {} ended with {status} while it started:\n{}",
                    self.id,
                    self.log_tail()
                );
            }
            let ready = raw::api_versions(self.internal).and_then(|_| raw::metadata(self.internal, &[]));
            match ready {
                Ok(metadata) if metadata.brokers.contains(&self.id) && metadata.brokers.len() >= brokers => return,
                _ if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                last => panic!(
                    "broker {} does not serve after {START_LIMIT:?} (its last answer: {last:?}):\n{}",
                    self.id,
                    self.log_tail()
                ),
            }
        }
    }

    fn log(&self, start: usize) -> PathBuf {
        self.folder.join(format!("log-{start}.txt"))
    }

    fn log_tail(&self) -> String {
        let start = self.starts.load(Ordering::Relaxed);
        let tail = |file: &Path| {
            let bytes = std::fs::read(file).unwrap_or_default();
            String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4000)..]).into_owned()
        };
        tail(&self.log(start)) + &tail(&self.folder.join(format!("out-{start}.txt")))
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that nobody uses and nobody is given by chance.
///
/// Below the range that systems choose from for outgoing connections, so that a killed broker finds its port free
/// when it comes back. Every process takes from a block of its own.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const BLOCK: usize = 200;
    let first = 10_000 + std::process::id() as usize % 110 * BLOCK;
    for _ in 0..BLOCK {
        let port = (first + NEXT.fetch_add(1, Ordering::Relaxed) % BLOCK) as u16;
        if TcpListener::bind(local(port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {first} and {}", first + BLOCK)
}

/// A listener of the shared broker, and where clients are told to find it. Nobody listens there but the proxy of the test
/// that it is lent to; the port stays its own meanwhile.
struct LentDoor {
    broker: SocketAddr,
    clients: TcpListener,
}

impl LentDoor {
    fn new() -> Self {
        Self {
            broker: local(free_port()),
            clients: TcpListener::bind(local(0)).expect("a port on loopback"),
        }
    }

    fn listener((door, number): (&Self, usize)) -> Door {
        Door {
            listener: Listener::plaintext(&format!("LENT{number}")),
            address: door.broker,
            advertised: door.clients.local_addr().expect("a bound listener has an address"),
            proxy: None,
        }
    }

    /// Whoever has connected since the last test is not this test's client.
    fn clients(&self) -> TcpListener {
        let set = |is_on| self.clients.set_nonblocking(is_on).expect("a listener takes it");
        set(true);
        while self.clients.accept().is_ok() {}
        set(false);
        self.clients.try_clone().expect("a listener has many handles")
    }
}

/// What the shared broker has to lend.
#[derive(Clone, Default)]
struct Places(Arc<(Mutex<Vec<LentDoor>>, Condvar)>);

impl Places {
    fn of(doors: Vec<LentDoor>) -> Self {
        Self(Arc::new((Mutex::new(doors), Condvar::new())))
    }

    /// Waits until a test that has one ends.
    fn take(&self) -> Place {
        let (doors, returned) = &*self.0;
        let doors = doors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doors = returned
            .wait_while(doors, |doors| doors.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        Place {
            door: doors.pop(),
            places: self.clone(),
        }
    }
}

/// A door that is lent, until this is dropped.
struct Place {
    door: Option<LentDoor>,
    places: Places,
}

impl Place {
    fn door(&self) -> &LentDoor {
        self.door.as_ref().expect("it is given back when this is dropped")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (doors, returned) = &*self.places.0;
        doors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(self.door.take());
        returned.notify_one();
    }
}

/// One of the few clusters that may run at a time beside the shared one: each takes a core while it starts.
pub(super) struct Permit;

static PERMITS: Mutex<usize> = Mutex::new(2);
static RETURNED: Condvar = Condvar::new();

impl Permit {
    fn wait() -> Self {
        let free = PERMITS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = RETURNED
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *PERMITS.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        RETURNED.notify_one();
    }
}

/// For the clusters of another process that this test starts: as [`KafkaBuilder::start`], waits while two others have
/// some, and holds their place until it is dropped.
pub fn wait_for_a_place() -> impl Drop {
    Permit::wait()
}
