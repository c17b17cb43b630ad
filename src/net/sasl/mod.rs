//! Who we are: what a client proves to a broker, as values.
//!
//! An exchange is bytes in and bytes out; `net/handshake` carries them, and `net/reauthentication` does so again before a
//! session ends.

mod secret;

use std::{fmt, sync::Arc};

pub use secret::Secret;

/// Anything that user code fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a client says who it is. Kafka: `sasl.mechanism` and `sasl.jaas.config`.
///
/// Cheap to clone; clones share the credentials. `Debug` names the mechanism and nothing else.
#[derive(Clone)]
pub struct Sasl {
    mechanism: Arc<dyn Mechanism>,
}

impl Sasl {
    /// A mechanism of one's own.
    pub fn custom(mechanism: impl Mechanism) -> Self {
        Self {
            mechanism: Arc::new(mechanism),
        }
    }

    pub(crate) fn mechanism(&self) -> &dyn Mechanism {
        &*self.mechanism
    }
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sasl({})", self.mechanism.name())
    }
}

/// A way to prove who one is, for brokers that know it by the same name.
pub trait Mechanism: Send + Sync + 'static {
    /// The name under which brokers know it, such as `SCRAM-SHA-512`.
    fn name(&self) -> &str;

    /// Begins to authenticate one connection, or begins anew before a session ends: the place to look up credentials,
    /// which may have changed. It may take as long as `connect_timeout`; no lock is held meanwhile.
    ///
    /// # Errors
    ///
    /// When there are no credentials. The connection is not made, and the error is told as `Authentication`.
    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError>;
}

/// To whom one authenticates.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Peer<'a> {
    /// The broker's name or address, as it was dialled.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Whether TLS protects what is sent.
    pub is_encrypted: bool,
}

impl<'a> Peer<'a> {
    pub(crate) fn new(host: &'a str, port: u16, is_encrypted: bool) -> Self {
        Self {
            host,
            port,
            is_encrypted,
        }
    }
}

/// One authentication on its way.
pub trait Exchange: Send {
    /// What is sent first.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    fn first(&mut self) -> Result<Vec<u8>, BoxError>;

    /// The broker has accepted what was sent last, and answered this.
    ///
    /// # Errors
    ///
    /// When the answer is not what it must be: the broker is not who it should be.
    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError>;
}

/// What follows in an [`Exchange`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// This is sent.
    Send(Vec<u8>),
    /// Both sides know what they want to know.
    Done,
}
