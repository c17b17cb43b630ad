//! One broker: a connection to it, and calls over that connection.

mod address;
pub(crate) mod authentication;
pub(crate) mod connection;
pub(crate) mod handshake;
mod in_flight;
pub(crate) mod prover;
pub(crate) mod reauthentication;
pub(crate) mod sasl;
pub(crate) mod session;
pub(crate) mod standing;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod transport;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
pub(crate) mod tests;

use std::{sync::Arc, time::Duration};

pub(crate) use address::Address;
pub(crate) use connection::{Ask, Connection, Pending};

use crate::wire::frame;

/// What every connection of a client has in common.
#[derive(Debug, Clone)]
pub(crate) struct NetConfig {
    pub(crate) client_id: String,
    /// For name, TCP, ApiVersions and authentication together.
    pub(crate) connect_timeout: Duration,
    /// A request not answered for this long kills its connection.
    pub(crate) request_timeout: Duration,
    /// The largest answer that is read.
    pub(crate) frame_limit: usize,
    pub(crate) socket: SocketOptions,
    /// Without it, what is sent can be read on its way.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::Tls>,
    pub(crate) sasl: Option<sasl::Sasl>,
    /// What brokers think of it.
    pub(crate) standing: Arc<standing::Standing>,
    /// Between two renewals of a connection's session.
    pub(crate) renewal_pause: Duration,
}

impl NetConfig {
    /// Whether connections are.
    pub(crate) fn is_encrypted(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            client_id: "klamm".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            frame_limit: frame::DEFAULT_LIMIT,
            socket: SocketOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
            sasl: None,
            standing: Arc::default(),
            renewal_pause: session::PAUSE,
        }
    }
}

/// `None` leaves it to the operating system.
#[derive(Debug, Clone)]
pub(crate) struct SocketOptions {
    /// How long a connection is silent before the system asks whether the other side is still there.
    pub(crate) keepalive: Option<Duration>,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(60)),
            send_buffer: None,
            receive_buffer: None,
        }
    }
}
