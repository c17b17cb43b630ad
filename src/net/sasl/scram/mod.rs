//! SCRAM (RFC 5802, 7677): both sides prove that they know the password, and neither says it.
//!
//! Names and passwords are taken as they are, in UTF-8: Kafka does not prepare them (SASLprep), neither where a user is made
//! nor where one logs in, so who prepared would not get in.

mod keys;
mod message;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    BoxError, Credentials, Exchange, Mechanism, Peer, Step, challenge,
    credentials::{Source, quoted},
    oauthbearer::sasl_name,
};

pub(super) use keys::Hash;
use keys::{Derived, Keys};
use message::ServerFirst;

/// More would keep a processor busy for seconds. Brokers of Kafka go to 16 384.
const MOST_ITERATIONS: u32 = 1_000_000;

pub(super) struct Scram {
    hash: Hash,
    source: Source,
    derived: Arc<Derived>,
    most_iterations: u32,
}

impl Scram {
    pub(super) fn new(hash: Hash, source: Source) -> Self {
        Self {
            hash,
            source,
            derived: Arc::default(),
            most_iterations: MOST_ITERATIONS,
        }
    }
}

impl Mechanism for Scram {
    fn name(&self) -> &str {
        self.hash.mechanism()
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        Ok(Box::new(ScramExchange {
            hash: self.hash,
            credentials: self.source.look(peer)?,
            derived: Arc::clone(&self.derived),
            most_iterations: self.most_iterations,
            nonce: nonce()?,
            is: State::Begun,
        }))
    }
}

/// For fuzzing, which has no time for many iterations.
#[cfg(feature = "unstable-internals")]
pub(crate) fn in_a_hurry(credentials: Credentials) -> super::Sasl {
    super::Sasl::custom(Scram {
        most_iterations: 4200,
        ..Scram::new(Hash::Sha256, Source::fixed(credentials))
    })
}

/// What nobody can guess and nobody has sent before: 192 bits, without a comma.
fn nonce() -> Result<String, BoxError> {
    let mut bytes = [0; 24];
    keys::fill_random(&mut bytes)?;
    Ok(BASE64.encode(bytes))
}

struct ScramExchange {
    hash: Hash,
    credentials: Credentials,
    derived: Arc<Derived>,
    most_iterations: u32,
    nonce: String,
    is: State,
}

enum State {
    Begun,
    /// We have said who we are.
    Named,
    /// We have proved that we know the password; the broker has to.
    Proved {
        keys: Arc<Keys>,
        exchanged: String,
    },
    Ended,
}

/// That channels are not bound, and no name to act as.
const HEADER: &str = "n,,";

impl Exchange for ScramExchange {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        self.is = State::Named;
        Ok([HEADER, &self.bare()].concat().into_bytes())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        // Whatever fails has ended.
        match std::mem::replace(&mut self.is, State::Ended) {
            State::Begun => Err("the broker challenges before it knows whom".into()),
            State::Named => self.prove(challenge::text(challenge)?),
            State::Proved { keys, exchanged } => self.verify(&keys, &exchanged, challenge::text(challenge)?),
            State::Ended => Err("the broker asks for more after the exchange has ended".into()),
        }
    }
}

impl ScramExchange {
    /// `client-first-message-bare` of the RFC.
    fn bare(&self) -> String {
        let name = sasl_name(&self.credentials.user);
        let extension = if self.credentials.is_delegation_token {
            ",tokenauth=true"
        } else {
            ""
        };
        format!("n={name},r={}{extension}", self.nonce)
    }

    fn prove(&mut self, challenge: &str) -> Result<Step, BoxError> {
        let asked = ServerFirst::parse(challenge, &self.nonce, self.most_iterations)?;
        let keys = self
            .derived
            .keys(self.hash, &self.credentials, &asked.salt, asked.iterations);
        let without_proof = format!("c={},r={}", BASE64.encode(HEADER), asked.nonce);
        let exchanged = format!("{},{challenge},{without_proof}", self.bare());
        let proof = BASE64.encode(keys.proof(exchanged.as_bytes()));
        self.is = State::Proved { keys, exchanged };
        Ok(Step::Send(format!("{without_proof},p={proof}").into_bytes()))
    }

    fn verify(&self, keys: &Keys, exchanged: &str, challenge: &str) -> Result<Step, BoxError> {
        if keys.is_signed(exchanged.as_bytes(), &message::signature(challenge)?) {
            return Ok(Step::Done);
        }
        let user = quoted(&self.credentials.user);
        Err(format!("the broker does not know the password of {user}: it is not who it should be").into())
    }
}
