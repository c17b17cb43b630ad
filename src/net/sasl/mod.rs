//! Who we are: what a client proves to a broker, as values.
//!
//! An exchange is bytes in and bytes out; `net/handshake` carries them, and `net/reauthentication` does so again before a
//! session ends.

mod challenge;
mod credentials;
mod oauthbearer;
#[cfg(feature = "oidc")]
mod oidc;
mod plain;
#[cfg(feature = "scram")]
pub(crate) mod scram;
mod secret;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

pub use credentials::Credentials;
pub use oauthbearer::Token;
#[cfg(feature = "oidc")]
pub use oidc::Oidc;
pub use secret::Secret;

use credentials::Source;
use oauthbearer::OauthBearer;
use plain::Plain;
#[cfg(feature = "scram")]
use scram::{Hash, Scram};

/// Anything that user code fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there are no credentials now, where there may be some in a moment: the error of a mechanism's `begin` for which asking
/// again helps.
#[cfg_attr(
    not(feature = "oidc"),
    allow(dead_code, reason = "klamm's other mechanisms ask nobody")
)]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Passing(pub(crate) String);

/// How a client says who it is. Kafka: `sasl.mechanism` and `sasl.jaas.config`.
///
/// Cheap to clone; clones share the credentials. `Debug` names the mechanism and nothing else.
///
/// ```no_run
/// use klamm::{Client, Sasl};
/// # fn main() -> klamm::Result<()> {
/// # #[cfg(feature = "scram")] {
/// let sasl = Sasl::scram_sha_512("billing", std::env::var("KAFKA_PASSWORD").unwrap_or_default());
/// let client = Client::builder().bootstrap("kafka-1:9093").sasl(sasl).connect()?;
/// # drop(client);
/// # }
/// # Ok(())
/// # }
/// ```
///
/// | Mechanism | What brokers see | Feature |
/// |---|---|---|
/// | [`plain`](Self::plain) | the password: only over TLS | – |
/// | `scram_sha_256`, `scram_sha_512` | a proof that the password is known; they prove the same | `scram` |
/// | [`oauthbearer`](Self::oauthbearer) | a token that somebody else issued: only over TLS | – |
/// | `oauthbearer_oidc` | the same; klamm asks the identity provider for it | `oidc` |
/// | [`custom`](Self::custom) | what you make of it | – |
///
/// **Credentials that change**, each as `…_with`: a callback is asked whenever a connection is made, and again before a
/// session ends that brokers have limited. It may take as long as `connect_timeout`, and its error is the connection's.
///
/// **Characters outside of ASCII** in names and passwords are sent as they are, in UTF-8 and without SASLprep, as Kafka's own
/// clients and tools do: who types `é` in two ways has two passwords. With SCRAM, Kafka takes names in ASCII only.
#[derive(Clone)]
pub struct Sasl {
    mechanism: Arc<dyn Mechanism>,
}

impl Sasl {
    /// PLAIN (RFC 4616): sends the password. Over a connection that is not encrypted, everybody on the way can read it,
    /// which is warned of once. Kafka: `sasl.mechanism=PLAIN` with `PlainLoginModule`.
    ///
    /// ```
    /// let sasl = klamm::Sasl::plain("billing", "open sesame");
    /// assert_eq!(format!("{sasl:?}"), "Sasl(PLAIN)");
    /// ```
    pub fn plain(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::custom(Plain::new(Source::fixed(Credentials::new(user, password))))
    }

    /// The same, with credentials that are asked for whenever a connection is made.
    ///
    /// ```
    /// # use klamm::{Credentials, Sasl};
    /// let sasl = Sasl::plain_with(|peer| match peer.host {
    ///     "kafka.test" => Ok(Credentials::new("tester", "sesame")),
    ///     _ => Ok(Credentials::from_file("/run/secrets/kafka")?),
    /// });
    /// # drop(sasl);
    /// ```
    pub fn plain_with(
        credentials: impl Fn(&Peer<'_>) -> Result<Credentials, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::custom(Plain::new(Source::asked(credentials)))
    }

    /// SCRAM-SHA-256 (RFC 5802 and 7677): the password stays here, and brokers must prove that they know it. Kafka:
    /// `sasl.mechanism=SCRAM-SHA-256` with `ScramLoginModule`.
    ///
    /// What is sent does not tell the password, but over a connection that is not encrypted it lets others try passwords in
    /// peace: use TLS, or long ones.
    ///
    /// ```
    /// let sasl = klamm::Sasl::scram_sha_256("billing", "open sesame");
    /// assert_eq!(format!("{sasl:?}"), "Sasl(SCRAM-SHA-256)");
    /// ```
    #[cfg(feature = "scram")]
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::custom(Scram::new(
            Hash::Sha256,
            Source::fixed(Credentials::new(user, password)),
        ))
    }

    /// The same, with credentials that are asked for whenever a connection is made.
    ///
    /// ```
    /// # use klamm::{Credentials, Sasl};
    /// let sasl = Sasl::scram_sha_256_with(|_| Ok(Credentials::from_file("/run/secrets/kafka")?));
    /// # drop(sasl);
    /// ```
    #[cfg(feature = "scram")]
    pub fn scram_sha_256_with(
        credentials: impl Fn(&Peer<'_>) -> Result<Credentials, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::custom(Scram::new(Hash::Sha256, Source::asked(credentials)))
    }

    /// As [`scram_sha_256`](Self::scram_sha_256), with SHA-512. Kafka: `sasl.mechanism=SCRAM-SHA-512`.
    ///
    /// ```
    /// let sasl = klamm::Sasl::scram_sha_512("billing", "open sesame");
    /// assert_eq!(format!("{sasl:?}"), "Sasl(SCRAM-SHA-512)");
    /// ```
    #[cfg(feature = "scram")]
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::custom(Scram::new(
            Hash::Sha512,
            Source::fixed(Credentials::new(user, password)),
        ))
    }

    /// The same, with credentials that are asked for whenever a connection is made; a delegation token, for example:
    ///
    /// ```
    /// # use klamm::{Credentials, Sasl};
    /// # fn newest_token() -> std::io::Result<(String, String)> { Ok(Default::default()) }
    /// let sasl = Sasl::scram_sha_512_with(|_| {
    ///     let (id, hmac) = newest_token()?;
    ///     Ok(Credentials::delegation_token(id, hmac))
    /// });
    /// # drop(sasl);
    /// ```
    #[cfg(feature = "scram")]
    pub fn scram_sha_512_with(
        credentials: impl Fn(&Peer<'_>) -> Result<Credentials, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self::custom(Scram::new(Hash::Sha512, Source::asked(credentials)))
    }

    /// OAUTHBEARER (RFC 7628): a token that somebody else has issued, asked for whenever a connection is made. Whoever can
    /// read it can use it: use TLS; without, it is warned of once. Kafka: `sasl.mechanism=OAUTHBEARER` with a login callback
    /// handler.
    ///
    /// ```
    /// # use klamm::{Sasl, Token};
    /// let sasl = Sasl::oauthbearer(|_| {
    ///     let token = std::fs::read_to_string("/run/secrets/token")?;
    ///     Ok(Token::new(token.trim_end()))
    /// });
    /// assert_eq!(format!("{sasl:?}"), "Sasl(OAUTHBEARER)");
    /// ```
    pub fn oauthbearer(token: impl Fn(&Peer<'_>) -> Result<Token, BoxError> + Send + Sync + 'static) -> Self {
        Self::custom(OauthBearer::new(token))
    }

    /// OAUTHBEARER with tokens that an identity provider issues for an ID and a secret. See [`Oidc`].
    #[cfg(feature = "oidc")]
    pub fn oauthbearer_oidc(oidc: Oidc) -> Self {
        let tokens = Arc::new(oidc::Tokens::new(oidc));
        let refused = Arc::clone(&tokens);
        let tell = move |token: &Token| refused.refused(token);
        Self::custom(OauthBearer::new(move |_| tokens.token()).telling_refusals(tell))
    }

    /// A mechanism of one's own. See [`Mechanism`].
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
///
/// This one says a password that is good for a day. A real one, AWS_MSK_IAM, is in klamm's `examples/msk_iam.rs`.
///
/// ```
/// use klamm::{BoxError, Exchange, Mechanism, Peer, Sasl, Step};
///
/// struct WordOfTheDay;
///
/// impl Mechanism for WordOfTheDay {
///     fn name(&self) -> &str {
///         "X-WORD-OF-THE-DAY"
///     }
///
///     fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
///         if !peer.is_encrypted {
///             return Err("the word of the day is told over TLS only".into());
///         }
///         Ok(Box::new(Saying("sesame".to_owned())))
///     }
/// }
///
/// struct Saying(String);
///
/// impl Exchange for Saying {
///     fn first(&mut self) -> Result<Vec<u8>, BoxError> {
///         Ok(self.0.clone().into_bytes())
///     }
///
///     fn next(&mut self, _challenge: &[u8]) -> Result<Step, BoxError> {
///         Ok(Step::Done)
///     }
/// }
///
/// let sasl = Sasl::custom(WordOfTheDay);
/// # drop(sasl);
/// ```
///
/// Errors are shown to users and written to logs: they must not tell a secret.
pub trait Mechanism: Send + Sync + 'static {
    /// The name under which brokers know it, such as `SCRAM-SHA-512`.
    fn name(&self) -> &str;

    /// Begins to authenticate one connection, or begins anew before a session ends: the place to look up credentials,
    /// which may have changed. It may take as long as `connect_timeout`; no lock is held meanwhile.
    ///
    /// It runs on a thread of its own, which nobody can end: one that never comes back keeps it. When 64 are under way, no
    /// more are begun, and connections fail with an error that says so. Give what it waits for a time limit.
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
    /// For tests of a [`Mechanism`].
    #[must_use]
    pub fn new(host: &'a str, port: u16, is_encrypted: bool) -> Self {
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

/// What follows in an [`Exchange`]. `Debug` does not tell what is sent.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// This is sent.
    Send(Vec<u8>),
    /// Both sides know what they want to know.
    Done,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Done => f.write_str("Done"),
        }
    }
}
