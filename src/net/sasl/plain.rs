//! PLAIN (RFC 4616): the password itself.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{BoxError, Exchange, Mechanism, Peer, Step, challenge, credentials::Source};

pub(super) struct Plain {
    source: Source,
    /// Each `Sasl` has one of these, so it is warned once.
    is_warned: AtomicBool,
}

impl Plain {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            is_warned: AtomicBool::new(false),
        }
    }

    fn warn(&self, peer: &Peer<'_>) {
        if !peer.is_encrypted && !self.is_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the password is sent to {}:{} over a connection that is not encrypted: everybody on the way can read \
                 it; use TLS, or SCRAM",
                peer.host,
                peer.port
            );
        }
    }
}

impl Mechanism for Plain {
    fn name(&self) -> &str {
        "PLAIN"
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        let credentials = self.source.look(peer)?;
        if credentials.is_delegation_token {
            return Err("PLAIN cannot carry a delegation token: SCRAM does".into());
        }
        self.warn(peer);
        let (user, password) = (credentials.user.as_str(), credentials.password.expose());
        // No name to act as: brokers refuse another one than the user's.
        let message = ["", user, password].join("\0").into_bytes();
        Ok(Box::new(Sent(message)))
    }
}

struct Sent(Vec<u8>);

impl Exchange for Sent {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(std::mem::take(&mut self.0))
    }

    /// That it was accepted is all: some brokers say something beside.
    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        challenge::check(challenge)?;
        Ok(Step::Done)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sasl::{Credentials, Sasl};

    fn first(user: &str, password: &str) -> Result<Vec<u8>, BoxError> {
        let sasl = Sasl::plain(user, password);
        sasl.mechanism().begin(&Peer::new("b", 9092, true))?.first()
    }

    #[test]
    fn name_and_password_stand_between_nuls() {
        // The examples of RFC 4616, without another identity.
        assert_eq!(first("tim", "tanstaaftanstaaf").unwrap(), b"\0tim\0tanstaaftanstaaf");
        assert_eq!(first("Kurt", "xipj3plmq").unwrap(), b"\0Kurt\0xipj3plmq");
        assert_eq!(first("Ⅸ", "pass wört").unwrap(), "\0Ⅸ\0pass wört".as_bytes());
    }

    #[test]
    fn a_nul_in_a_name_or_password_is_refused() {
        for (user, password) in [("a\0admin", "sesame"), ("a", "sesame\0"), ("", "sesame"), ("a", "")] {
            let error = first(user, password).unwrap_err().to_string();
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn a_client_is_warned_once() {
        let plain = Plain::new(Source::fixed(Credentials::new("a", "b")));
        plain.begin(&Peer::new("b", 9092, true)).map(drop).unwrap();
        assert!(!plain.is_warned.load(Ordering::Relaxed), "nobody can read it");
        plain.begin(&Peer::new("b", 9092, false)).map(drop).unwrap();
        assert!(plain.is_warned.load(Ordering::Relaxed));
    }

    #[test]
    fn credentials_are_looked_up_for_each_connection() {
        let sasl = Sasl::plain_with(|peer| match peer.port {
            9092 => Ok(Credentials::new("a", "b")),
            _ => Err("no credentials for that one".into()),
        });
        let begin = |port| sasl.mechanism().begin(&Peer::new("b", port, true));
        assert_eq!(begin(9092).unwrap().first().unwrap(), b"\0a\0b");
        let error = begin(9093).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "no credentials for that one");
    }

    #[test]
    fn what_is_accepted_is_done() {
        for answer in [&b""[..], b"welcome"] {
            let sasl = Sasl::plain("a", "b");
            let mut exchange = sasl.mechanism().begin(&Peer::new("b", 9092, true)).unwrap();
            exchange.first().unwrap();
            assert_eq!(exchange.next(answer).unwrap(), Step::Done);
        }
    }
}
