//! OAUTHBEARER (RFC 7628, KIP-255): a token that somebody else has issued, with extensions (KIP-342).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use super::{BoxError, Exchange, Mechanism, Peer, Secret, Step, challenge};

/// What an identity provider has issued, and what is told beside it.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// let token = klamm::Token::new("eyJhbGciOi…")
///     .expires_at(SystemTime::now() + Duration::from_secs(300))
///     .extension("logicalCluster", "lkc-1234");
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    secret: Secret,
    expires_at: Option<SystemTime>,
    principal: Option<String>,
    extensions: Vec<(String, String)>,
}

impl Token {
    /// The token alone, in the form in which it was issued.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self {
            secret: secret.into(),
            expires_at: None,
            principal: None,
            extensions: Vec::new(),
        }
    }

    /// When brokers refuse it from. A token that has expired by this machine's clock is sent all the same, since theirs
    /// may differ, with a warning. Default: not known.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// As whom to act, which brokers compare with the token's principal. Default: the token decides.
    #[must_use]
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        self.principal = Some(name.into());
        self
    }

    /// Tells brokers something more; may be called again. Names consist of letters. Kafka: `extension_NAME` in
    /// `sasl.jaas.config`.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// What cannot be sent, or would be read as something else.
    fn check(&self) -> Result<(), BoxError> {
        let token = self.secret.expose();
        if token.is_empty() {
            return Err("the token is empty".into());
        }
        // `b64token` of RFC 6750, and the tilde: what Kafka takes.
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !token.bytes().all(is_of_token) {
            return Err("the token holds characters that no bearer token has".into());
        }
        if self
            .principal
            .as_deref()
            .is_some_and(|name| name.is_empty() || name.contains('\0'))
        {
            return Err("the principal's name is empty or holds a NUL character".into());
        }
        for (name, value) in &self.extensions {
            if name == "auth" {
                return Err("an extension cannot be called auth: the token is".into());
            }
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(format!("an extension is called {name:?}, and must be of letters").into());
            }
            let is_of_value = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
            if value.is_empty() || !value.bytes().all(is_of_value) {
                return Err(format!("the value of extension {name} is empty or not ASCII").into());
            }
        }
        Ok(())
    }

    pub(super) fn message(&self) -> Vec<u8> {
        let token = self.secret.expose();
        let principal = self.principal.as_deref().map(sasl_name);
        let told: usize = self
            .extensions
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        // Of the right size at once: where it grew, a copy would be left.
        let mut message = Vec::with_capacity(32 + principal.as_ref().map_or(0, String::len) + token.len() + told);
        message.extend_from_slice(b"n,");
        if let Some(principal) = principal {
            message.extend_from_slice(b"a=");
            message.extend_from_slice(principal.as_bytes());
        }
        message.extend_from_slice(b",\x01auth=Bearer ");
        message.extend_from_slice(token.as_bytes());
        message.push(SEPARATOR);
        for (name, value) in &self.extensions {
            message.extend_from_slice(name.as_bytes());
            message.push(b'=');
            message.extend_from_slice(value.as_bytes());
            message.push(SEPARATOR);
        }
        message.push(SEPARATOR);
        message
    }
}

const SEPARATOR: u8 = 1;

/// A name within a message whose parts are separated by commas: `saslname` of RFC 5801.
pub(super) fn sasl_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

pub(super) struct OauthBearer {
    look: Box<Look>,
    /// For who keeps tokens.
    refused: Arc<Refused>,
    /// Each `Sasl` has one of these, so it is warned once.
    is_warned: AtomicBool,
}

type Look = dyn Fn(&Peer<'_>) -> Result<Token, BoxError> + Send + Sync;
type Refused = dyn Fn(&Token) + Send + Sync;

impl OauthBearer {
    pub(super) fn new(look: impl Fn(&Peer<'_>) -> Result<Token, BoxError> + Send + Sync + 'static) -> Self {
        Self {
            look: Box::new(look),
            refused: Arc::new(|_| {}),
            is_warned: AtomicBool::new(false),
        }
    }

    #[cfg(feature = "oidc")]
    pub(super) fn telling_refusals(mut self, tell: impl Fn(&Token) + Send + Sync + 'static) -> Self {
        self.refused = Arc::new(tell);
        self
    }

    fn warn(&self, peer: &Peer<'_>) {
        if !peer.is_encrypted && !self.is_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the token is sent to {}:{} over a connection that is not encrypted: everybody on the way can read and use \
                 it; use TLS",
                peer.host,
                peer.port
            );
        }
    }
}

impl Mechanism for OauthBearer {
    fn name(&self) -> &str {
        "OAUTHBEARER"
    }

    fn begin(&self, peer: &Peer<'_>) -> Result<Box<dyn Exchange>, BoxError> {
        let token = (self.look)(peer)?;
        token.check()?;
        if token.expires_at.is_some_and(|end| end <= SystemTime::now()) {
            log::warn!(
                "the token for {}:{} has expired, by the clock of this machine; it is sent all the same",
                peer.host,
                peer.port
            );
        }
        self.warn(peer);
        Ok(Box::new(OauthExchange {
            token,
            refused: Arc::clone(&self.refused),
            is: State::Begun,
        }))
    }
}

struct OauthExchange {
    token: Token,
    refused: Arc<Refused>,
    is: State,
}

enum State {
    Begun,
    /// What the broker said of the token.
    Refused(String),
    Ended,
}

impl Exchange for OauthExchange {
    fn first(&mut self) -> Result<Vec<u8>, BoxError> {
        Ok(self.token.message())
    }

    fn next(&mut self, challenge: &[u8]) -> Result<Step, BoxError> {
        match std::mem::replace(&mut self.is, State::Ended) {
            State::Begun if challenge.is_empty() => Ok(Step::Done),
            State::Begun => {
                (self.refused)(&self.token);
                self.is = State::Refused(self.refusal(challenge)?);
                // RFC 7628, 3.2.3: so that it may end in failure.
                Ok(Step::Send(vec![SEPARATOR]))
            }
            State::Refused(why) => Err(why.into()),
            State::Ended => Err("the broker asks for more after the exchange has ended".into()),
        }
    }
}

impl OauthExchange {
    fn refusal(&self, challenge: &[u8]) -> Result<String, BoxError> {
        let words = challenge::text(challenge)?;
        let words = challenge::told(status(words).unwrap_or(words), &self.token.secret);
        Ok(format!("the broker refuses the token: {words}"))
    }
}

/// The member `status` of a JSON object as brokers write it: one word.
fn status(json: &str) -> Option<&str> {
    let (_, rest) = json.split_once("\"status\"")?;
    let (status, _) = rest
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?
        .split_once('"')?;
    (!status.is_empty() && !status.contains('\\')).then_some(status)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::sasl::Sasl;

    fn begin(token: Token) -> Result<Box<dyn Exchange>, BoxError> {
        let sasl = Sasl::oauthbearer(move |_| Ok(token.clone()));
        sasl.mechanism().begin(&Peer::new("b", 9092, true))
    }

    fn first(token: Token) -> String {
        String::from_utf8(begin(token).unwrap().first().unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_sent_as_kafka_s_client_sends_it() {
        assert_eq!(
            first(Token::new("abc.def_-~+/==")),
            "n,,\x01auth=Bearer abc.def_-~+/==\x01\x01"
        );
        let token = Token::new("t")
            .extension("logicalCluster", "lkc-1")
            .extension("b", "x y=z");
        assert_eq!(
            first(token),
            "n,,\x01auth=Bearer t\x01logicalCluster=lkc-1\x01b=x y=z\x01\x01"
        );
    }

    #[test]
    fn the_example_of_rfc_7628_comes_out() {
        let token = Token::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==").principal("user@example.com");
        let token = token.extension("host", "server.example.com").extension("port", "143");
        let sent = first(token);
        // There the token comes last; the order of pairs means nothing.
        assert_eq!(
            sent,
            "n,a=user@example.com,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\
             \x01host=server.example.com\x01port=143\x01\x01"
        );
        assert_eq!(
            first(Token::new("t").principal("a=b,c")),
            "n,a=a=3Db=2Cc,\x01auth=Bearer t\x01\x01"
        );
    }

    #[test]
    fn what_would_be_read_as_something_else_is_refused() {
        let token = || Token::new("sesame");
        for token in [
            Token::new(""),
            Token::new("sesame\x01a=b"),
            Token::new("sesame sesame"),
            Token::new("sesamé"),
            token().principal(""),
            token().extension("auth", "x"),
            token().extension("", "x"),
            token().extension("a1", "x"),
            token().extension("a", ""),
            token().extension("a", "sesame\x01b=c"),
            token().extension("a", "sesamé"),
        ] {
            let shown = format!("{token:?}");
            let error = begin(token).map(drop).unwrap_err().to_string();
            assert!(!error.contains("sesam"), "{error}");
            assert!(!shown.contains("Secret(s"), "{shown}");
        }
    }

    #[test]
    fn an_accepted_token_is_done() {
        let mut exchange = begin(Token::new("t")).unwrap();
        exchange.first().unwrap();
        assert_eq!(exchange.next(b"").unwrap(), Step::Done);
        exchange.next(b"").unwrap_err();
    }

    #[test]
    fn a_refusal_is_answered_and_ends_with_the_broker_s_status() {
        let refused = |challenge: &[u8]| {
            let mut exchange = begin(Token::new("sesame")).unwrap();
            exchange.first().unwrap();
            assert_eq!(exchange.next(challenge).unwrap(), Step::Send(vec![1]));
            // Whatever comes now, and be it nothing: it was refused.
            let error = exchange.next(b"").unwrap_err().to_string();
            exchange.next(b"").unwrap_err();
            error
        };
        assert_eq!(
            refused(br#"{"status":"invalid_token","scope":"s","openid-configuration":"u"}"#),
            "the broker refuses the token: invalid_token"
        );
        assert_eq!(refused(br#"{ "status" : "x" }"#), "the broker refuses the token: x");
        assert_eq!(
            refused(b"no \x1b[1msesame"),
            "the broker refuses the token: no \\u{1b}[1m***"
        );
        for odd in [&br#"{"status":""}"#[..], br#"{"status":7}"#, br#"{"status"#, b"{"] {
            assert!(refused(odd).len() < 400);
        }
        assert!(refused("x".repeat(60_000).as_bytes()).len() < 400);
        let mut exchange = begin(Token::new("t")).unwrap();
        exchange.next(b"\xff").unwrap_err();
        exchange.next(b"").unwrap_err();
    }

    #[test]
    fn a_client_is_warned_once_of_a_token_that_everybody_can_read() {
        let bearer = OauthBearer::new(|_| Ok(Token::new("t")));
        bearer.begin(&Peer::new("b", 9092, true)).map(drop).unwrap();
        assert!(!bearer.is_warned.load(Ordering::Relaxed));
        bearer.begin(&Peer::new("b", 9092, false)).map(drop).unwrap();
        assert!(bearer.is_warned.load(Ordering::Relaxed));
    }

    #[test]
    fn an_expired_token_is_sent_since_clocks_differ() {
        let token = Token::new("t").expires_at(SystemTime::now() - Duration::from_secs(60));
        assert!(first(token).contains("Bearer t"));
    }
}
