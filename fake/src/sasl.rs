//! Who a connection is: SASL as Kafka's brokers speak it, as values.
//!
//! A connection names itself (ApiVersions) if it likes, says by which mechanism it proves who it is (SaslHandshake), and
//! does so (SaslAuthenticate, or bare tokens after version 0 of the handshake). Whoever has a session that ends begins
//! again with the handshake before that (KIP-368).

mod base64;
mod scram;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use scram::{Credential, Hash, Pending};

use crate::{
    Api, Builder,
    error_code::{ILLEGAL_SASL_STATE, NONE, SASL_AUTHENTICATION_FAILED, UNSUPPORTED_SASL_MECHANISM},
};

/// Who may come in, and how; everybody does where nobody is named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sasl {
    plain: BTreeMap<String, String>,
    scram: BTreeMap<(Hash, String), Credential>,
    /// `connections.max.reauth.ms`
    lifetime: Option<Duration>,
}

/// SASL.
impl Builder {
    /// Lets in who knows this password, by PLAIN, and nobody who does not say who it is. May be called for several users,
    /// and together with [`sasl_scram`](Self::sasl_scram), which has users of its own.
    pub fn sasl_plain(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.sasl.plain.insert(user.into(), password.into());
        self
    }

    /// The same by SCRAM-SHA-256 and SCRAM-SHA-512.
    pub fn sasl_scram(mut self, user: impl Into<String>, password: impl AsRef<str>) -> Self {
        let user = user.into();
        for hash in Hash::ALL {
            let credential = Credential::new(hash, password.as_ref());
            self.sasl.scram.insert((hash, user.clone()), credential);
        }
        self
    }

    /// How long brokers believe who a connection is (`connections.max.reauth.ms`): after that its first request, but a
    /// handshake, ends it. For ever by default.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.sasl.lifetime = Some(lifetime);
        self
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram(Hash),
}

impl Mechanism {
    const ALL: [Self; 3] = [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512)];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(hash) => hash.mechanism(),
        }
    }
}

impl Sasl {
    fn is_open(&self) -> bool {
        self.plain.is_empty() && self.scram.is_empty()
    }

    /// Those that somebody can use.
    pub(crate) fn mechanisms(&self) -> Vec<&'static str> {
        let enabled = Mechanism::ALL.into_iter().filter(|mechanism| self.has(*mechanism));
        enabled.map(Mechanism::name).collect()
    }

    fn has(&self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Plain => !self.plain.is_empty(),
            Mechanism::Scram(_) => !self.scram.is_empty(),
        }
    }

    fn find(&self, name: &str) -> Option<Mechanism> {
        let mut all = Mechanism::ALL.into_iter();
        all.find(|mechanism| mechanism.name() == name && self.has(*mechanism))
    }

    fn step(&self, exchange: Exchange, token: &[u8]) -> Result<Progress, Failure> {
        match exchange {
            Exchange::Plain => self.check_plain(token),
            Exchange::ScramFirst(hash) => {
                let find = |user: &str| self.scram.get(&(hash, user.to_owned())).cloned();
                let pending = Pending::new(hash, token, &scram::nonce(), find)?;
                let challenge = pending.challenge();
                Ok(Progress::Challenge(Exchange::ScramFinal(Box::new(pending)), challenge))
            }
            Exchange::ScramFinal(pending) => {
                let last = pending.check(token)?;
                let user = pending.user;
                Ok(Progress::Done { user, last })
            }
        }
    }

    fn check_plain(&self, token: &[u8]) -> Result<Progress, Failure> {
        let text = String::from_utf8_lossy(token);
        let tokens: Vec<&str> = text.split('\0').collect();
        let [claimed, user, password] = tokens[..] else {
            let count = tokens.len();
            return told(&format!("Invalid SASL/PLAIN response: expected 3 tokens, got {count}"));
        };
        if user.is_empty() {
            return told("Authentication failed: username not specified");
        }
        if password.is_empty() {
            return told("Authentication failed: password not specified");
        }
        if self.plain.get(user).is_none_or(|known| known != password) {
            return told("Authentication failed: Invalid username or password");
        }
        check_claim(claimed, user)?;
        Ok(Progress::Done {
            user: user.to_owned(),
            last: Vec::new(),
        })
    }
}

/// Nobody may act for another one.
fn check_claim(claimed: &str, user: &str) -> Result<(), Failure> {
    if claimed.is_empty() || claimed == user {
        return Ok(());
    }
    told("Authentication failed: Client requested an authorization id that is different from username")
}

fn told<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::Told(why.to_owned()))
}

/// A proof on its way.
#[derive(Debug)]
enum Exchange {
    Plain,
    ScramFirst(Hash),
    ScramFinal(Box<Pending>),
}

enum Progress {
    Challenge(Exchange, Vec<u8>),
    Done { user: String, last: Vec<u8> },
}

/// Why a proof is none.
#[derive(Debug)]
enum Failure {
    /// Kafka says only that it is none: more might help whoever guesses.
    Silent,
    Told(String),
}

/// What is answered to a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) token: Vec<u8>,
    /// How long the session lasts, once there is one that ends.
    pub(crate) lifetime: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: i16,
    pub(crate) message: String,
}

/// Whether a request is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Pass,
    /// It is refused with this code, and the connection ends.
    Refuse(i16),
    /// The connection ends: how Kafka answers who has not said who it is.
    End,
}

/// A connection on its way to be somebody.
#[derive(Debug)]
pub(crate) struct Session {
    stage: Stage,
    /// Who it was before, when it begins again.
    identity: Option<(Mechanism, String)>,
    expires: Option<Duration>,
    /// When it has begun again for the last time.
    renewed: Option<Duration>,
}

#[derive(Debug)]
enum Stage {
    /// ApiVersions may come, or the handshake.
    New,
    Handshake,
    Exchange {
        mechanism: Mechanism,
        exchange: Exchange,
        /// Tokens come without anything around them.
        is_bare: bool,
    },
    /// Another mechanism than before was asked for, which Kafka minds when the first token comes.
    Mistaken,
    Open,
    Over,
}

/// A session is not renewed more often than that.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

impl Session {
    pub(crate) fn new(sasl: &Sasl) -> Self {
        Self {
            stage: if sasl.is_open() { Stage::Open } else { Stage::New },
            identity: None,
            expires: None,
            renewed: None,
        }
    }

    /// What comes next is a token, and no request.
    pub(crate) fn takes_bare_token(&self) -> bool {
        matches!(self.stage, Stage::Exchange { is_bare: true, .. })
    }

    /// After the next answer nothing follows.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(crate) fn admit(&mut self, api: Api, now: Duration) -> Admission {
        match (&self.stage, api) {
            (Stage::New, Api::ApiVersions | Api::SaslHandshake)
            | (Stage::Handshake, Api::SaslHandshake)
            | (Stage::Exchange { .. }, Api::SaslAuthenticate) => Admission::Pass,
            (Stage::Exchange { .. }, _) => {
                self.end();
                Admission::Refuse(ILLEGAL_SASL_STATE)
            }
            (Stage::Open, Api::SaslHandshake) if self.may_be_renewed(now) => {
                self.renewed = Some(now);
                self.stage = Stage::Handshake;
                Admission::Pass
            }
            (Stage::Open, _) if self.expires.is_none_or(|end| now <= end) => Admission::Pass,
            _ => Admission::End,
        }
    }

    /// One that never ends has nothing to renew. One that has ended may be renewed still.
    fn may_be_renewed(&self, now: Duration) -> bool {
        let is_rested = |at: Duration| now.saturating_sub(at) >= RENEWAL_PAUSE;
        self.expires.is_some() && self.renewed.is_none_or(is_rested)
    }

    pub(crate) fn told_versions(&mut self) {
        if matches!(self.stage, Stage::New) {
            self.stage = Stage::Handshake;
        }
    }

    pub(crate) fn end(&mut self) {
        self.stage = Stage::Over;
    }

    /// The code that answers a handshake; `None` ends the connection.
    pub(crate) fn handshake(&mut self, sasl: &Sasl, version: i16, name: &str) -> Option<i16> {
        if matches!(self.stage, Stage::Open) {
            return Some(ILLEGAL_SASL_STATE);
        }
        let Some(mechanism) = sasl.find(name) else {
            self.end();
            // Kafka says so only to who is nobody yet.
            return self.identity.is_none().then_some(UNSUPPORTED_SASL_MECHANISM);
        };
        let is_other = self.identity.as_ref().is_some_and(|(before, _)| *before != mechanism);
        self.stage = if is_other {
            Stage::Mistaken
        } else {
            Stage::Exchange {
                mechanism,
                exchange: match mechanism {
                    Mechanism::Plain => Exchange::Plain,
                    Mechanism::Scram(hash) => Exchange::ScramFirst(hash),
                },
                is_bare: version == 0,
            }
        };
        Some(NONE)
    }

    pub(crate) fn authenticate(&mut self, sasl: &Sasl, token: &[u8], now: Duration) -> Result<Accepted, Rejected> {
        let (mechanism, exchange, is_bare) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Exchange {
                mechanism,
                exchange,
                is_bare,
            } => (mechanism, exchange, is_bare),
            other => {
                self.stage = other;
                return Err(Rejected {
                    code: ILLEGAL_SASL_STATE,
                    message: "SaslAuthenticate request received after successful authentication".to_owned(),
                });
            }
        };
        let progress = sasl
            .step(exchange, token)
            .and_then(|progress| self.check_identity(mechanism, progress));
        match progress {
            Ok(Progress::Challenge(exchange, token)) => {
                self.stage = Stage::Exchange {
                    mechanism,
                    exchange,
                    is_bare,
                };
                Ok(Accepted { token, lifetime: None })
            }
            Ok(Progress::Done { user, last }) => {
                self.stage = Stage::Open;
                self.identity = Some((mechanism, user));
                self.expires = sasl.lifetime.map(|lifetime| now.saturating_add(lifetime));
                Ok(Accepted {
                    token: last,
                    lifetime: sasl.lifetime,
                })
            }
            Err(failure) => Err(self.rejected(mechanism, failure)),
        }
    }

    /// Who begins again must be who it was.
    fn check_identity(&self, mechanism: Mechanism, progress: Progress) -> Result<Progress, Failure> {
        match (&self.identity, &progress) {
            (Some((_, before)), Progress::Done { user, .. }) if before != user => Err(Failure::Told(format!(
                "Cannot change principals during re-authentication from User.{before}: User.{user}"
            ))),
            (Some((before, _)), _) if *before != mechanism => Err(Failure::Silent),
            _ => Ok(progress),
        }
    }

    fn rejected(&self, mechanism: Mechanism, failure: Failure) -> Rejected {
        let doing = match self.identity {
            None => "authentication",
            Some(_) => "re-authentication",
        };
        let name = mechanism.name();
        Rejected {
            code: SASL_AUTHENTICATION_FAILED,
            message: match failure {
                Failure::Told(message) => message,
                Failure::Silent => {
                    format!(
                        "Authentication failed during {doing} due to invalid credentials with SASL mechanism {name}"
                    )
                }
            },
        }
    }
}
