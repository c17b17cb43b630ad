//! The handle that tests hold.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{Builder, port::Port, server, shared::Shared, state::State, topic};

/// A Kafka cluster in this process, listening on 127.0.0.1.
///
/// Clones are handles to the same cluster; it ends with the last of them, or with [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct FakeCluster {
    running: Arc<Running>,
}

/// Ends the cluster when the last handle goes.
#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
}

impl FakeCluster {
    /// One broker and no topic, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(builder: Builder) -> io::Result<Self> {
        let opened: Vec<_> = (0..builder.brokers)
            .map(|_| Port::open((Ipv4Addr::LOCALHOST, 0).into()))
            .collect::<io::Result<_>>()?;
        let (ports, listeners): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let addresses: Vec<SocketAddr> = ports.iter().map(Port::address).collect();
        let mut state = State::new(&builder, &addresses);
        if builder.limits.partitions < 1 {
            return refuse("topics that come into being have a partition at least".to_owned());
        }
        create_topics(&mut state, &builder.topics)?;
        let cluster = Self {
            running: Arc::new(Running {
                shared: Arc::new(Shared::new(state, (1..).zip(ports).collect())),
            }),
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            server::start(&cluster.running.shared, index as i32 + 1, 0, listener)?;
        }
        Ok(cluster)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.running.shared
    }

    /// What a client is given: the addresses of all brokers, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.running.shared.look(|state| {
            let addresses = state.nodes.iter().map(|node| node.address.to_string());
            addresses.collect::<Vec<_>>().join(",")
        })
    }

    /// Where this broker listens, or did before it crashed.
    ///
    /// # Panics
    ///
    /// When there is no broker of this ID.
    pub fn address(&self, node: i32) -> SocketAddr {
        self.running.shared.look(|state| match state.node(node) {
            Some(node) => node.address,
            None => panic!("there is no broker {node}"),
        })
    }

    /// Moves the brokers' clock: timers that are due go off at once.
    pub fn advance(&self, by: Duration) {
        self.running.shared.change(|state| state.clock.advance(by));
    }

    /// Ends all brokers for good, and waits until their threads are gone. What they have stored can still be asked for.
    pub fn close(&self) {
        self.running.close();
    }
}

impl Running {
    fn close(&self) {
        let mut ports = self.shared.ports.lock();
        let addresses = self.shared.change(|state| {
            let up = state.nodes.iter_mut().filter(|node| node.is_up);
            up.map(|node| {
                node.is_up = false;
                (node.id, node.address)
            })
            .collect::<Vec<_>>()
        });
        for (node, address) in addresses {
            self.shared.hang_up(node);
            server::end(&self.shared, node, address);
        }
        ports.clear();
        // Threads that are waited for may wait for the ports: hooks may crash and restart brokers.
        drop(ports);
        self.shared.join();
        self.shared.faults.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

fn create_topics(state: &mut State, topics: &[(String, i32)]) -> io::Result<()> {
    if state.nodes.is_empty() {
        return refuse("a cluster needs a broker".to_owned());
    }
    for (name, partitions) in topics {
        if !topic::is_valid_name(name) {
            return refuse(format!("{name:?} cannot be the name of a topic"));
        }
        if *partitions < 1 || state.topics.contains_key(name) {
            return refuse(format!("topic {name} has {partitions} partitions, or is named twice"));
        }
        state.create_topic(name, *partitions, state.default_replication());
    }
    Ok(())
}

fn refuse<T>(message: String) -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
