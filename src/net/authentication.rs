//! Says to a broker who we are: SaslHandshake and SaslAuthenticate, over whatever carries requests to it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{SaslAuthenticateRequest, SaslHandshakeRequest},
    protocol::{Request, StrBytes},
};

use zeroize::Zeroizing;

use super::{
    prover::{Proof, Prover},
    sasl::Step,
    session::Granted,
};
use crate::{
    deadline::Deadline,
    error::{Error, ErrorKind, Result},
    wire::{api, versions::Versions},
};

/// Takes one request to the broker and brings its answer, as nothing else is asked meanwhile.
pub(crate) trait Carrier {
    fn carry<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response>;
}

/// All of the exchange, for the first time or to renew a session. Its errors are of kind Authentication where the broker
/// does not want us, or we do not want the broker. `limit` says for how long the mechanism may think about an answer.
pub(crate) fn authenticate(
    proof: Proof,
    carrier: &mut impl Carrier,
    versions: &Versions,
    limit: &dyn Fn() -> Deadline,
) -> Result<Granted> {
    let Proof { prover, first } = proof;
    agree(&prover, carrier, versions)?;
    let version = versions.pick::<SaslAuthenticateRequest>()?;
    let name = api::name(SaslAuthenticateRequest::KEY);
    let mut token = first;
    for _ in 0..MOST_ROUNDS {
        // Wiped with the request.
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_owner(token));
        let since = now();
        let answer = carrier.carry(&request, version)?;
        if answer.error_code != 0 {
            return Err(refusal(answer.error_code, answer.error_message.as_deref()).in_api(name));
        }
        let step = prover.next(answer.auth_bytes, &limit());
        token = match step.map_err(|error| error.in_api(name))? {
            Step::Send(token) => Zeroizing::new(token),
            Step::Done => {
                return Ok(Granted {
                    lifetime: lifetime(answer.session_lifetime_ms),
                    since,
                });
            }
        };
    }
    let message = format!("{} comes to no end after {MOST_ROUNDS} rounds", prover.mechanism());
    Err(Error::new(ErrorKind::Authentication, message).in_api(name))
}

/// No mechanism that Kafka knows takes half as many.
const MOST_ROUNDS: usize = 16;

fn agree(prover: &Prover, carrier: &mut impl Carrier, versions: &Versions) -> Result<()> {
    let name = api::name(SaslHandshakeRequest::KEY);
    let version = versions.pick::<SaslHandshakeRequest>().map_err(|error| {
        error
            .explained("it does not ask who one is (SASL) as klamm can answer")
            .in_api(name)
    })?;
    let mechanism = prover.mechanism();
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_string(mechanism.to_owned()));
    let answer = carrier.carry(&request, version)?;
    let refused = match ResponseError::try_from_code(answer.error_code) {
        None => return Ok(()),
        Some(ResponseError::UnsupportedSaslMechanism) => {
            let enabled: Vec<&str> = answer.mechanisms.iter().take(20).map(|name| &**name).collect();
            let theirs = match enabled[..] {
                [] => "has none enabled".to_owned(),
                _ => format!("has {} enabled", readable(&enabled.join(", "))),
            };
            Error::refused(answer.error_code).explained(&format!("it {theirs}, and not {mechanism}"))
        }
        Some(ResponseError::IllegalSaslState) => {
            Error::refused(answer.error_code).explained("does the port expect no SASL?")
        }
        Some(_) => Error::refused(answer.error_code),
    };
    Err(refused.in_api(name))
}

/// With what the broker says to it, which is meant for us to read.
fn refusal(code: i16, message: Option<&str>) -> Error {
    let error = Error::refused(code);
    match message.map(readable).filter(|message| !message.is_empty()) {
        Some(message) => error.explained(&format!("{message:?}")),
        None => error,
    }
}

/// No more than a line of what a broker has sent.
fn readable(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|char| !char.is_control())
        .take(300)
        .collect()
}

fn lifetime(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis)
}

#[allow(clippy::disallowed_methods, reason = "a session counts from when it was asked for")]
fn now() -> Instant {
    Instant::now()
}
