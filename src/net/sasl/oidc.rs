//! ● Tokens for OAUTHBEARER that klamm fetches itself: OAuth's client credentials grant (RFC 6749, 4.4; KIP-768).

#![expect(
    clippy::disallowed_methods,
    reason = "waits for an identity provider, and knows when its tokens have to be renewed"
)]

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::Value;
use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, PemItem, RootCerts, TlsConfig},
};
use zeroize::Zeroizing;

use super::{BoxError, Passing, Secret, Token, challenge, credentials::quoted};
#[cfg(feature = "tls")]
use crate::net::tls::provider;
#[cfg(not(feature = "tls"))]
use rustls::crypto::ring::default_provider as provider;

/// How to get tokens from an identity provider: with an ID and a secret of this program. Kafka:
/// `OAuthBearerLoginCallbackHandler` with `sasl.oauthbearer.*`.
///
/// ```no_run
/// use klamm::{Client, Oidc, Sasl};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let oidc = Oidc::new("https://id.example.com/oauth2/token", "billing", std::env::var("OIDC_SECRET")?).scope("kafka");
/// let client = Client::builder().bootstrap("kafka-1:9093").sasl(Sasl::oauthbearer_oidc(oidc)).connect()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
///
/// A token is fetched when the first connection is made, and kept for all of them until 80 % of its time (`expires_in`) have
/// passed, or a broker has refused it; then the next connection, or the next renewal of a session, fetches another one. While
/// the provider is out of reach, the old one is used until it expires, and no connection waits for longer than 2 s in vain. A
/// token without `expires_in` is not kept.
///
/// That a provider is out of reach or overloaded (status 408, 429 or 5xx) is an error that is retriable; that it says no, one
/// that is not, as long as no broker has accepted a token.
///
/// What a proxy is called is taken from the environment (`HTTPS_PROXY`, `NO_PROXY`), but for this machine itself. Redirects
/// are not followed: they would tell the secret elsewhere.
#[derive(Clone)]
#[must_use = "it does nothing until it is given to `Sasl::oauthbearer_oidc`"]
pub struct Oidc {
    endpoint: String,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    timeout: Duration,
    is_urlencoded: bool,
    may_be_http: bool,
    roots: Vec<Vec<u8>>,
}

impl Oidc {
    /// Where tokens are issued (Kafka: `sasl.oauthbearer.token.endpoint.url`), and who asks
    /// (`sasl.oauthbearer.client.credentials.client.id` and `….secret`). The endpoint begins with `https`; or with `http`, if it is
    /// on this machine.
    pub fn new(endpoint: impl Into<String>, client_id: impl Into<String>, client_secret: impl Into<Secret>) -> Self {
        Self {
            endpoint: endpoint.into(),
            client_id: client_id.into(),
            client_secret: client_secret.into(),
            scope: None,
            extensions: Vec::new(),
            timeout: Duration::from_secs(10),
            is_urlencoded: false,
            may_be_http: false,
            roots: Vec::new(),
        }
    }

    /// What the token shall be good for; several are separated by blanks. Default: the provider decides. Kafka:
    /// `sasl.oauthbearer.scope`.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Tells brokers something beside the token, as [`Token::extension`].
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// How long it may take to get a token. Default: 10 s. A connection that needs one waits no longer than
    /// `connect_timeout` for it.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether ID and secret are URL-encoded before they are put together for the request's `Authorization`, as RFC 6749
    /// wants and not every provider does. It matters to those with other characters than letters, digits and `-._~`. Default:
    /// false. Kafka: `sasl.oauthbearer.header.urlencode`.
    pub fn header_urlencode(mut self, is_urlencoded: bool) -> Self {
        self.is_urlencoded = is_urlencoded;
        self
    }

    /// Trusts these certificates, in PEM, and no others, to tell who the provider is. May be called again. Default: whom
    /// browsers trust.
    pub fn root_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Sends the secret over connections that are not encrypted, to other machines than this one: everybody on the way can
    /// read it, and the tokens.
    pub fn danger_allow_http(mut self) -> Self {
        self.may_be_http = true;
        self
    }

    fn agent(&self, endpoint: &Uri) -> Result<Agent, String> {
        // Named, as for brokers: klamm has no say in what is the default of the process.
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider()));
        if !self.roots.is_empty() {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(self.certificates()?)));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("klamm/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build());
        if is_here(endpoint) {
            config = config.proxy(None);
        }
        Ok(config.build().new_agent())
    }

    fn certificates(&self) -> Result<Vec<Certificate<'static>>, String> {
        let mut all = Vec::new();
        for pem in &self.roots {
            let before = all.len();
            for item in ureq::tls::parse_pem(pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|error| format!("root_pem: {error}"))? {
                    all.push(certificate);
                }
            }
            if all.len() == before {
                return Err("root_pem holds no certificate".to_owned());
            }
        }
        Ok(all)
    }

    /// Where to ask, if the secret may be sent there.
    fn checked_endpoint(&self) -> Result<Uri, String> {
        let uri: Uri = self.endpoint.parse().map_err(|error| format!("no URL: {error}"))?;
        let authority = uri.authority().ok_or("no URL: it has no host")?;
        if authority.as_str().contains('@') {
            return Err("a URL with a password in it".to_owned());
        }
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.may_be_http || is_here(&uri) => Ok(uri),
            Some("http") => Err("not encrypted: it must begin with https".to_owned()),
            _ => Err("no URL: it must begin with https".to_owned()),
        }
    }

    /// The endpoint for errors: what follows a question mark may be confidential.
    fn shown(&self) -> String {
        let shown = self.endpoint.split(['?', '#']).next().unwrap_or_default();
        let shown = match shown.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{host}{path}")
            }
            None => shown.rsplit('@').next().unwrap_or_default().to_owned(),
        };
        quoted(&shown).to_string()
    }

    fn authorization(&self) -> Secret {
        let (id, secret) = (&*self.client_id, self.client_secret.expose());
        let both = if self.is_urlencoded {
            Zeroizing::new([urlencoded(id).as_str(), ":", urlencoded(secret).as_str()].concat())
        } else {
            Zeroizing::new([id, ":", secret].concat())
        };
        Secret::new(["Basic ", &Zeroizing::new(BASE64.encode(&*both))].concat())
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("endpoint", &self.shown())
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// Whether it is this machine, so that nobody is on the way.
fn is_here(uri: &Uri) -> bool {
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// `application/x-www-form-urlencoded`, as RFC 6749 has it in its appendix B.
fn urlencoded(text: &str) -> Zeroizing<String> {
    // Of the right size at once: where it grew, a copy would be left.
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            b' ' => encoded.push('+'),
            _ => {
                for digit in [byte >> 4, byte & 15] {
                    encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
                let at = encoded.len() - 2;
                encoded.insert(at, '%');
            }
        }
    }
    encoded
}

/// Fetches tokens, and keeps the last one.
pub(super) struct Tokens {
    oidc: Oidc,
    /// Made at the first question, so that whoever makes a client is told of a mistake when it connects.
    agent: Mutex<Option<Agent>>,
    state: Mutex<State>,
    /// A question has an answer.
    answered: Condvar,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// Somebody is asking; others wait for the answer instead of asking as well.
    is_asking: bool,
    /// How many questions were answered, and why the last one was answered with no token.
    rounds: u64,
    failed: Option<Failure>,
    /// When a broker's refusal last made a token to be fetched before its time.
    refused_at: Option<Instant>,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    why: String,
    /// The provider was out of reach, or asks for patience.
    is_passing: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, is_passing: false }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        let is_passing = match &error {
            // A certificate that is no good comes as this one.
            ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
            ureq::Error::Timeout(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        let why = plain(&error);
        Self { why, is_passing }
    }
}

impl From<Failure> for BoxError {
    fn from(failure: Failure) -> Self {
        match failure.is_passing {
            true => Passing(failure.why).into(),
            false => failure.why.into(),
        }
    }
}

impl Tokens {
    pub(super) fn new(oidc: Oidc) -> Self {
        Self {
            oidc,
            agent: Mutex::default(),
            state: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    /// One that is good for a while yet.
    pub(super) fn token(&self) -> Result<Token, BoxError> {
        let mut state = self.state.lock();
        if let Some(token) = state.token(Instant::now()) {
            return Ok(token);
        }
        if state.is_asking {
            return self.wait(state);
        }
        state.is_asking = true;
        let patience = state.patience(self.oidc.timeout.min(LONGEST_WAIT), Instant::now());
        drop(state);
        let asking = Asking(self);
        let asked_at = (Instant::now(), SystemTime::now());
        let answer = self.ask(patience);
        asking.end(asked_at, answer)
    }

    /// A broker does not take this one.
    pub(super) fn refused(&self, token: &Token) {
        self.state.lock().refused(token, Instant::now());
    }

    /// For what another connection has asked for.
    fn wait(&self, mut state: MutexGuard<'_, State>) -> Result<Token, BoxError> {
        let round = state.rounds;
        let end = Instant::now() + self.oidc.timeout.min(LONGEST_WAIT);
        while state.rounds == round {
            if self.answered.wait_until(&mut state, end).timed_out() {
                let why = self.failure("no answer, for another connection either");
                return Err(Passing(why).into());
            }
        }
        match (&state.failed, &state.held) {
            (None, Some(held)) => Ok(held.token.clone()),
            (Some(failure), _) => Err(failure.clone().into()),
            (None, None) => Err(self.failure("no answer").into()),
        }
    }

    fn ask(&self, patience: Duration) -> Result<Answer, Failure> {
        let endpoint = self.oidc.checked_endpoint().map_err(Failure::from);
        let answer = endpoint.and_then(|endpoint| self.post(&endpoint, patience));
        answer.map_err(|failure| Failure {
            why: self.failure(&failure.why),
            ..failure
        })
    }

    fn post(&self, endpoint: &Uri, patience: Duration) -> Result<Answer, Failure> {
        let agent = self.agent(endpoint)?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.oidc.scope.as_deref().map(|scope| ("scope", scope)));
        let request = agent
            .post(endpoint)
            .header("Authorization", self.oidc.authorization().expose())
            .header("Accept", "application/json")
            .config()
            .timeout_global(Some(patience))
            .build();
        let mut answer = request.send_form(form)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
        let body = Zeroizing::new(body?);
        Answer::read(status, &body).map_err(|why| Failure {
            why: challenge::told(&why, &self.oidc.client_secret),
            is_passing: matches!(status, 408 | 429 | 500..),
        })
    }

    fn agent(&self, endpoint: &Uri) -> Result<Agent, String> {
        let mut agent = self.agent.lock();
        if let Some(agent) = &*agent {
            return Ok(agent.clone());
        }
        Ok(agent.insert(self.oidc.agent(endpoint)?).clone())
    }

    fn failure(&self, why: &str) -> String {
        format!("no token from {}: {why}", self.oidc.shown())
    }
}

/// Thirty years, so that it can be added to a point in time.
const LONGEST_WAIT: Duration = Duration::from_secs(1 << 30);

/// Tokens have some kilobytes.
const LONGEST_ANSWER: u64 = 256 << 10;

/// Ends the question when it is dropped, also by a panic: others wait for that.
struct Asking<'a>(&'a Tokens);

impl Asking<'_> {
    fn end(&self, asked_at: (Instant, SystemTime), answer: Result<Answer, Failure>) -> Result<Token, BoxError> {
        let mut state = self.0.state.lock();
        state.failed = None;
        match answer {
            Ok(answer) => Ok(state.hold(Held::new(asked_at, answer, &self.0.oidc.extensions))),
            Err(failure) => {
                let now = Instant::now();
                if let Some(token) = state.old_token(now) {
                    log::warn!("{}; the old one is used until it expires", failure.why);
                    return Ok(token);
                }
                state.failed = Some(failure.clone());
                Err(failure.into())
            }
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_asking = false;
        state.rounds += 1;
        drop(state);
        self.0.answered.notify_all();
    }
}

impl State {
    /// What needs no question, or is good as long as somebody else has asked one.
    fn token(&self, now: Instant) -> Option<Token> {
        let held = self.held.as_ref()?;
        let is_good = now < held.renew_at || (self.is_asking && now < held.ends_at);
        is_good.then(|| held.token.clone())
    }

    /// How long to ask for: not long while the old one would do.
    fn patience(&self, timeout: Duration, now: Instant) -> Duration {
        match &self.held {
            Some(held) if now < held.ends_at => timeout.min(NOT_LONG),
            _ => timeout,
        }
    }

    /// Another one is to be fetched, and this one used only if there is none. Not for every refusal: a broker that takes none
    /// must not have us ask a provider all the time.
    fn refused(&mut self, token: &Token, now: Instant) {
        let is_soon = |at: Instant| now.saturating_duration_since(at) < AGAIN;
        match &mut self.held {
            Some(held) if held.token == *token && !self.refused_at.is_some_and(is_soon) => {
                held.renew_at = held.renew_at.min(now);
                self.refused_at = Some(now);
            }
            _ => {}
        }
    }

    fn hold(&mut self, held: Held) -> Token {
        let token = held.token.clone();
        self.held = Some(held);
        token
    }

    /// What is left when there is no new one: that one for a little while, so that not every connection asks.
    fn old_token(&mut self, now: Instant) -> Option<Token> {
        let held = self.held.as_mut().filter(|held| now < held.ends_at)?;
        held.renew_at = (now + AGAIN).min(held.ends_at);
        Some(held.token.clone())
    }
}

/// When a provider that did not answer is asked again, as long as there is a token.
const AGAIN: Duration = Duration::from_secs(10);

/// How long a connection waits for a new token while it could use the old one.
const NOT_LONG: Duration = Duration::from_secs(2);

/// A token, and for how long it is one.
struct Held {
    token: Token,
    /// At 80 % of its time.
    renew_at: Instant,
    ends_at: Instant,
}

impl Held {
    fn new((now, today): (Instant, SystemTime), answer: Answer, extensions: &[(String, String)]) -> Self {
        let mut token = Token::new(answer.token);
        for (name, value) in extensions {
            token = token.extension(name, value);
        }
        if let Some(end) = answer.lasts.and_then(|lasts| today.checked_add(lasts)) {
            token = token.expires_at(end);
        }
        let lasts = answer.lasts.unwrap_or_default().min(LONGEST_WAIT);
        Self {
            token,
            renew_at: now + lasts.mul_f64(0.8),
            ends_at: now + lasts,
        }
    }
}

/// What a provider issues.
struct Answer {
    token: Secret,
    lasts: Option<Duration>,
}

impl Answer {
    fn read(status: u16, body: &[u8]) -> Result<Self, String> {
        let json: Option<Value> = serde_json::from_slice(body).ok();
        if status != 200 {
            return Err(format!("it answers with status {status}{}", refusal(json.as_ref())));
        }
        let Some(Value::Object(mut json)) = json else {
            return Err("it answers with status 200, but not with JSON".to_owned());
        };
        let lasts = json.get("expires_in").and_then(seconds);
        match json.remove("access_token") {
            // Taken out as it is, without a copy.
            Some(Value::String(token)) if !token.is_empty() => Ok(Self {
                token: Secret::new(token),
                lasts,
            }),
            _ => Err("its answer has no access_token".to_owned()),
        }
    }
}

/// A number; some providers write it as a string.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// `error` and `error_description`, as RFC 6749 has them in 5.2.
fn refusal(json: Option<&Value>) -> String {
    let member = |name| json.and_then(|json| json.get(name)?.as_str());
    match (member("error"), member("error_description")) {
        (Some(error), Some(more)) => format!(": {error} ({more})"),
        (Some(error), None) => format!(": {error}"),
        (None, _) => String::new(),
    }
}

fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => crate::error::plain(error),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        other => quoted(&other.to_string()).to_string(),
    }
}

#[cfg(test)]
mod tests;
