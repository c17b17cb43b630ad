//! Against identity providers that the tests make, on loopback.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::*;

const SECRET: &str = "0pen sesame/+";

/// Answers as it is told, one connection after the other, and keeps what it was asked.
struct Provider {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn answering<'a>(answers: impl IntoIterator<Item = (u16, &'a str)>) -> Self {
        Self::over(answers, |stream| stream)
    }

    /// The same over what connections become.
    fn over<'a, T: Read + Write>(
        answers: impl IntoIterator<Item = (u16, &'a str)>,
        wrap: impl Fn(TcpStream) -> T + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::default());
        let answers: Vec<_> = answers
            .into_iter()
            .map(|(status, body)| (status, body.to_owned()))
            .collect();
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for (status, body) in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                answer(wrap(stream), status, &body, &seen);
            }
        });
        Self { address, requests }
    }

    fn endpoint(&self) -> String {
        format!("http://{}/oauth2/token", self.address)
    }

    fn tokens(&self) -> Tokens {
        Tokens::new(Oidc::new(self.endpoint(), "billing", SECRET))
    }
}

fn answer(mut stream: impl Read + Write, status: u16, body: &str, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    seen.lock().push(String::from_utf8(request).unwrap());
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nLocation: /elsewhere\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok();
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn sent(token: &Token) -> String {
    String::from_utf8(token.message()).unwrap()
}

const FIVE_MINUTES: &str = r#"{"access_token":"abc.def","token_type":"Bearer","expires_in":300}"#;

#[test]
fn a_token_is_fetched_once_and_used_by_all() {
    let provider = Provider::answering([(200, FIVE_MINUTES)]);
    let oidc = Oidc::new(provider.endpoint(), "billing", "sesame")
        .scope("kafka read")
        .extension("a", "b");
    let tokens = Tokens::new(oidc);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let token = tokens.token().unwrap();
                assert_eq!(sent(&token), "n,,\x01auth=Bearer abc.def\x01a=b\x01\x01");
            });
        }
    });
    let requests = provider.requests.lock();
    assert_eq!(requests.len(), 1);
    let request = requests[0].to_ascii_lowercase();
    assert!(request.starts_with("post /oauth2/token http/1.1\r\n"), "{request}");
    let authorization = format!(
        "authorization: basic {}\r\n",
        BASE64.encode("billing:sesame").to_ascii_lowercase()
    );
    assert!(request.contains(&authorization), "{request}");
    assert!(
        request.contains("content-type: application/x-www-form-urlencoded\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka+read")
            || request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka%20read"),
        "{request}"
    );
}

#[test]
fn what_has_no_time_or_none_left_is_not_kept() {
    let provider = Provider::answering([
        (200, r#"{"access_token":"a"}"#),
        (200, r#"{"access_token":"b","expires_in":0}"#),
        (200, r#"{"access_token":"c","expires_in":"3600"}"#),
    ]);
    let tokens = provider.tokens();
    let next = || sent(&tokens.token().unwrap());
    let all = [next(), next(), next(), next()];
    let expected = ["a", "b", "c", "c"].map(|token| format!("n,,\x01auth=Bearer {token}\x01\x01"));
    assert_eq!(all, expected);
}

#[test]
fn a_failure_names_the_endpoint_and_the_status_and_tells_no_secret() {
    for (status, body, words) in [
        (
            401,
            r#"{"error":"invalid_client","error_description":"no 0pen sesame/+ here"}"#,
            "it answers with status 401: invalid_client (no *** here)",
        ),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            "it answers with status 400: invalid_scope",
        ),
        (500, "<html>0pen sesame/+</html>", "it answers with status 500"),
        (302, "", "it answers with status 302"),
        (200, "<html>", "it answers with status 200, but not with JSON"),
        (200, "[]", "it answers with status 200, but not with JSON"),
        (200, "{}", "its answer has no access_token"),
        (
            200,
            r#"{"access_token":7,"expires_in":{}}"#,
            "its answer has no access_token",
        ),
    ] {
        let provider = Provider::answering([(status, body)]);
        let error = provider.tokens().token().unwrap_err().to_string();
        assert_eq!(error, format!("no token from {}: {words}", provider.endpoint()));
        let requests = provider.requests.lock();
        assert_eq!(requests.len(), 1, "redirects are not followed");
    }
}

#[test]
fn the_next_connection_asks_again_after_a_failure() {
    let provider = Provider::answering([(503, ""), (200, FIVE_MINUTES)]);
    let tokens = provider.tokens();
    tokens.token().unwrap_err();
    tokens.token().unwrap();
    tokens.token().unwrap();
}

#[test]
fn only_what_passes_is_worth_asking_again() {
    let is_passing = |tokens: Tokens| tokens.token().unwrap_err().is::<Passing>();
    for (status, passes) in [(503, true), (429, true), (401, false), (400, false), (302, false)] {
        assert_eq!(
            is_passing(Provider::answering([(status, "")]).tokens()),
            passes,
            "{status}"
        );
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let oidc = |endpoint: String| Tokens::new(Oidc::new(endpoint, "billing", SECRET));
    assert!(is_passing(oidc(format!("http://{gone}/"))));
    assert!(!is_passing(oidc(format!("ftp://{gone}/"))));
}

#[test]
fn nobody_waits_long_for_a_new_token_while_the_old_one_is_good() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/", silent.local_addr().unwrap());
    // So long that a test which waits for it does not end.
    let tokens = Tokens::new(Oidc::new(endpoint, "billing", SECRET).timeout(Duration::from_secs(100_000)));
    let now = Instant::now();
    let mut old = held(now, "a", 100_000);
    old.renew_at = now;
    tokens.state.lock().hold(old);
    assert!(sent(&tokens.token().unwrap()).contains("Bearer a"));
    let state = tokens.state.lock();
    assert_eq!(state.patience(NOT_LONG / 2, now), NOT_LONG / 2);
    assert_eq!(state.patience(10 * NOT_LONG, now + 2 * LONGEST_WAIT), 10 * NOT_LONG);
}

#[test]
fn a_token_that_a_broker_refuses_is_fetched_anew_but_not_all_the_time() {
    let provider = Provider::answering([
        (200, r#"{"access_token":"a","expires_in":9999}"#),
        (200, r#"{"access_token":"b","expires_in":9999}"#),
        (200, r#"{"access_token":"c","expires_in":9999}"#),
    ]);
    let sasl = super::super::Sasl::oauthbearer_oidc(Oidc::new(provider.endpoint(), "billing", SECRET));
    let refused = || {
        let mut exchange = sasl
            .mechanism()
            .begin(&super::super::Peer::new("b", 9092, true))
            .unwrap();
        let first = String::from_utf8(exchange.first().unwrap()).unwrap();
        exchange.next(br#"{"status":"invalid_token"}"#).unwrap();
        first
    };
    let all = [refused(), refused(), refused()];
    assert_eq!(
        all,
        ["a", "b", "b"].map(|token| format!("n,,\x01auth=Bearer {token}\x01\x01"))
    );
    let now = Instant::now();
    let mut state = State::default();
    let token = state.hold(held(now, "a", 1000));
    state.refused(&Token::new("another"), now);
    assert_eq!(state.token(now), Some(token.clone()));
    state.refused(&token, now);
    assert_eq!(state.token(now), None);
    assert_eq!(state.old_token(now), Some(token), "better than none");
}

#[test]
fn a_provider_that_is_silent_or_gone_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/token?key=0pen", listener.local_addr().unwrap());
    let oidc = Oidc::new(&endpoint, "billing", SECRET).timeout(Duration::from_millis(50));
    let shown = endpoint.strip_suffix("?key=0pen").unwrap();
    let error = Tokens::new(oidc.clone()).token().unwrap_err().to_string();
    assert_eq!(error, format!("no token from {shown}: no answer in time"));
    drop(listener);
    let oidc = oidc.timeout(Duration::from_secs(60));
    let error = Tokens::new(oidc).token().unwrap_err().to_string();
    assert!(error.starts_with(&format!("no token from {shown}: ")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_provider_without_tls_behind_https_is_an_error() {
    let provider = Provider::answering([]);
    let endpoint = provider.endpoint().replace("http:", "https:");
    Tokens::new(Oidc::new(endpoint, "billing", SECRET)).token().unwrap_err();
}

#[cfg(feature = "tls")]
#[test]
fn a_provider_must_be_who_it_says() {
    use crate::{
        TlsVersion,
        net::tls::tests::{Authority, Clients, server},
    };
    let authority = Authority::new();
    let asked = |names: &[&str], trusted: Option<&Authority>| {
        let config = server(&authority.issue(names), &Clients::Anybody, TlsVersion::Tls13);
        let provider = Provider::over([(200, FIVE_MINUTES)], move |stream| {
            rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(&config)).unwrap(), stream)
        });
        let mut oidc = Oidc::new(provider.endpoint().replace("http:", "https:"), "billing", SECRET);
        if let Some(authority) = trusted {
            oidc = oidc.root_pem(&*authority.pem);
        }
        let token = Tokens::new(oidc).token();
        assert_eq!(
            provider.requests.lock().len(),
            usize::from(token.is_ok()),
            "the secret went out"
        );
        token.map_err(|error| error.to_string())
    };
    let token = asked(&["127.0.0.1"], Some(&authority)).unwrap();
    assert!(sent(&token).contains("abc.def"));
    for (names, trusted, words) in [
        (["127.0.0.1"], None, "UnknownIssuer"),
        (["127.0.0.1"], Some(&Authority::new()), "UnknownIssuer"),
        (["localhost"], Some(&authority), "not valid for name"),
    ] {
        let error = asked(&names, trusted).unwrap_err();
        assert!(error.starts_with("no token from https://127.0.0.1:"), "{error}");
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn secrets_are_not_sent_in_plain_text_to_other_machines() {
    let checked = |endpoint: &str| Oidc::new(endpoint, "billing", SECRET).checked_endpoint();
    for endpoint in [
        "https://id.example.com/token",
        "http://localhost/token",
        "http://LOCALHOST:8080/token",
        "http://127.0.0.1:8080/token",
        "http://[::1]:8080/token",
    ] {
        checked(endpoint).unwrap();
    }
    for endpoint in [
        "http://id.example.com/token",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
        "ftp://id.example.com/",
        "https://me:0pen@id.example.com/",
        "id.example.com/token",
        "/token",
        "",
    ] {
        checked(endpoint).unwrap_err();
        let oidc = Oidc::new(endpoint, "billing", SECRET);
        let shown = format!("{oidc:?} {}", Tokens::new(oidc.clone()).token().unwrap_err());
        assert!(!shown.contains("0pen"), "{shown}");
    }
    let oidc = Oidc::new("http://id.example.com/token", "billing", SECRET).danger_allow_http();
    oidc.checked_endpoint().unwrap();
}

#[test]
fn roots_that_are_none_are_named() {
    for pem in [
        "",
        "sesame",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ] {
        let oidc = Oidc::new("https://localhost:1/", "billing", SECRET).root_pem(pem);
        let error = Tokens::new(oidc).token().unwrap_err().to_string();
        assert!(error.contains("root_pem"), "{error}");
    }
}

#[test]
fn id_and_secret_are_encoded_if_that_is_wanted() {
    let authorization = |oidc: &Oidc| {
        let shown = oidc.authorization();
        let encoded = shown.expose().strip_prefix("Basic ").unwrap().to_owned();
        String::from_utf8(BASE64.decode(encoded).unwrap()).unwrap()
    };
    let oidc = Oidc::new("https://localhost/", "bill&ing", SECRET);
    assert_eq!(authorization(&oidc), "bill&ing:0pen sesame/+");
    assert_eq!(
        authorization(&oidc.header_urlencode(true)),
        "bill%26ing:0pen+sesame%2F%2B"
    );
    assert_eq!(*urlencoded("aZ09-._~ é"), "aZ09-._~+%C3%A9");
}

/// As the provider has issued it at this time.
fn held(now: Instant, token: &str, seconds: u64) -> Held {
    let answer = Answer {
        token: Secret::new(token),
        lasts: Some(Duration::from_secs(seconds)),
    };
    Held::new((now, SystemTime::now()), answer, &[])
}

#[test]
fn a_token_is_renewed_at_four_fifths_of_its_time() {
    let now = Instant::now();
    let mut state = State::default();
    assert_eq!(state.token(now), None);
    let token = state.hold(held(now, "a", 100));
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(state.token(after(79)), Some(token.clone()));
    assert_eq!(state.token(after(81)), None);
    // Somebody is asking for the next one: this one is good meanwhile.
    state.is_asking = true;
    assert_eq!(state.token(after(99)), Some(token));
    assert_eq!(state.token(after(100)), None);
}

#[test]
fn an_old_token_is_used_while_there_is_no_new_one() {
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    let mut state = State::default();
    assert_eq!(state.old_token(now), None);
    let token = state.hold(held(now, "a", 100));
    assert_eq!(state.old_token(after(85)), Some(token.clone()));
    assert_eq!(state.token(after(94)), Some(token.clone()), "not every connection asks");
    assert_eq!(state.token(after(96)), None);
    assert_eq!(state.old_token(after(96)), Some(token.clone()));
    assert_eq!(state.token(after(99)), Some(token));
    assert_eq!(state.old_token(after(100)), None);
    assert_eq!(state.token(after(100)), None);
}

#[test]
fn times_that_cannot_be_are_no_reason_to_panic() {
    for expires_in in [
        "-1",
        "1e300",
        "\"x\"",
        "null",
        "[]",
        "1.5",
        "\"NaN\"",
        "\"inf\"",
        "18446744073709551616",
    ] {
        let body = format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#);
        let answer = Answer::read(200, body.as_bytes()).unwrap();
        Held::new((Instant::now(), SystemTime::now()), answer, &[]);
    }
}

#[test]
fn a_panic_while_asking_does_not_leave_others_waiting() {
    let tokens = Tokens::new(Oidc::new("https://localhost:1/", "billing", SECRET));
    tokens.state.lock().is_asking = true;
    drop(Asking(&tokens));
    assert!(!tokens.state.lock().is_asking);
}
