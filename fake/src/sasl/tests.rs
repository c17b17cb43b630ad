use super::*;

const AT: Duration = Duration::from_secs(5);

fn sasl() -> Sasl {
    let builder = Builder::default()
        .sasl_plain("alice", "secret")
        .sasl_plain("bob", "hidden")
        .sasl_scram("carol", "quiet")
        .session_lifetime(Duration::from_secs(10));
    builder.sasl
}

fn plain(session: &mut Session, sasl: &Sasl, token: &str, now: Duration) -> Result<Accepted, Rejected> {
    assert_eq!(session.handshake(sasl, 1, "PLAIN"), Some(NONE));
    session.authenticate(sasl, token.as_bytes(), now)
}

/// The client's side.
fn scram(session: &mut Session, sasl: &Sasl, hash: Hash, user: &str, password: &str) -> Result<Vec<u8>, Rejected> {
    assert_eq!(session.handshake(sasl, 1, hash.mechanism()), Some(NONE));
    let first = format!("n={user},r=abc");
    let challenge = session.authenticate(sasl, format!("n,,{first}").as_bytes(), AT)?;
    assert_eq!(challenge.lifetime, None);
    let challenge = String::from_utf8(challenge.token).unwrap();
    let mut fields = challenge.split(',').map(|field| field.split_once('=').unwrap().1);
    let [nonce, salt, iterations] = [(); 3].map(|()| fields.next().unwrap());
    assert!(nonce.starts_with("abc") && nonce.len() > 20, "{nonce}");
    let salted = hash.salted(password, &base64::decode(salt).unwrap(), iterations.parse().unwrap());
    let client_key = hash.hmac(&salted, b"Client Key");
    let last = format!("c=biws,r={nonce}");
    let both = format!("{first},{challenge},{last}");
    let signature = hash.hmac(&hash.digest(&client_key), both.as_bytes());
    let proof = base64::encode(&scram::xor(&client_key, &signature));
    let accepted = session.authenticate(sasl, format!("{last},p={proof}").as_bytes(), AT)?;
    let signature = hash.hmac(&hash.hmac(&salted, b"Server Key"), both.as_bytes());
    assert_eq!(
        String::from_utf8(accepted.token.clone()).unwrap(),
        format!("v={}", base64::encode(&signature))
    );
    assert_eq!(accepted.lifetime, Some(Duration::from_secs(10)));
    Ok(accepted.token)
}

#[test]
fn where_nobody_is_named_everybody_comes_in() {
    let sasl = Sasl::default();
    let mut session = Session::new(&sasl);
    assert_eq!(session.admit(Api::Metadata, AT), Admission::Pass);
    assert_eq!(session.admit(Api::SaslHandshake, AT), Admission::Pass);
    assert_eq!(session.handshake(&sasl, 1, "PLAIN"), Some(ILLEGAL_SASL_STATE));
    let rejected = session.authenticate(&sasl, b"", AT).unwrap_err();
    assert_eq!(rejected.code, ILLEGAL_SASL_STATE);
    assert_eq!(session.admit(Api::Metadata, AT), Admission::Pass);
}

#[test]
fn only_what_leads_to_a_session_is_answered_before_there_is_one() {
    let sasl = sasl();
    let mut session = Session::new(&sasl);
    for api in [Api::Metadata, Api::SaslAuthenticate] {
        assert_eq!(session.admit(api, AT), Admission::End);
    }
    assert_eq!(session.admit(Api::ApiVersions, AT), Admission::Pass);
    session.told_versions();
    assert_eq!(session.admit(Api::ApiVersions, AT), Admission::End, "once is enough");
    assert_eq!(session.admit(Api::SaslHandshake, AT), Admission::Pass);
    assert_eq!(session.handshake(&sasl, 1, "PLAIN"), Some(NONE));
    assert_eq!(session.admit(Api::SaslAuthenticate, AT), Admission::Pass);
    assert_eq!(session.admit(Api::Metadata, AT), Admission::Refuse(ILLEGAL_SASL_STATE));
    assert!(session.is_over());
}

#[test]
fn each_mechanism_has_users_of_its_own() {
    let sasl = sasl();
    assert_eq!(sasl.mechanisms(), ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    for hash in Hash::ALL {
        scram(&mut Session::new(&sasl), &sasl, hash, "carol", "quiet").unwrap();
        for (user, password) in [("carol", "loud"), ("alice", "secret")] {
            let mut session = Session::new(&sasl);
            let rejected = scram(&mut session, &sasl, hash, user, password).unwrap_err();
            let why = "Authentication failed during authentication due to invalid credentials with SASL mechanism";
            assert_eq!(rejected.code, SASL_AUTHENTICATION_FAILED);
            assert_eq!(rejected.message, format!("{why} {}", hash.mechanism()));
            assert!(session.is_over());
        }
    }
    let only_scram = Builder::default().sasl_scram("carol", "quiet").sasl;
    assert_eq!(only_scram.mechanisms(), ["SCRAM-SHA-256", "SCRAM-SHA-512"]);
    let mut session = Session::new(&only_scram);
    assert_eq!(
        session.handshake(&only_scram, 1, "PLAIN"),
        Some(UNSUPPORTED_SASL_MECHANISM)
    );
    assert!(session.is_over());
}

#[test]
fn a_wrong_password_is_told_in_kafka_s_words() {
    let sasl = sasl();
    for (token, message) in [
        ("\0alice\0wrong", "Authentication failed: Invalid username or password"),
        ("\0carol\0quiet", "Authentication failed: Invalid username or password"),
        (
            "bob\0alice\0secret",
            "Authentication failed: Client requested an authorization id that is different from username",
        ),
        ("", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (
            "\0alice\0secret\0more",
            "Invalid SASL/PLAIN response: expected 3 tokens, got 4",
        ),
        ("\0alice\0", "Authentication failed: password not specified"),
        ("\0\0secret", "Authentication failed: username not specified"),
    ] {
        let mut session = Session::new(&sasl);
        let rejected = plain(&mut session, &sasl, token, AT).unwrap_err();
        assert_eq!(
            (rejected.code, &*rejected.message),
            (SASL_AUTHENTICATION_FAILED, message)
        );
        assert!(session.is_over());
    }
    for token in ["\0alice\0secret", "alice\0alice\0secret"] {
        plain(&mut Session::new(&sasl), &sasl, token, AT).unwrap();
    }
}

#[test]
fn a_session_ends_and_may_be_renewed_before_and_after_that_once_a_second() {
    let sasl = sasl();
    let mut session = Session::new(&sasl);
    let after = |seconds| AT + Duration::from_millis(seconds);
    plain(&mut session, &sasl, "\0alice\0secret", AT).unwrap();
    assert_eq!(session.admit(Api::Metadata, after(10_000)), Admission::Pass);
    assert_eq!(session.admit(Api::Metadata, after(10_001)), Admission::End);
    for at in [9_000, 30_000] {
        assert_eq!(session.admit(Api::SaslHandshake, after(at)), Admission::Pass);
        let accepted = plain(&mut session, &sasl, "\0alice\0secret", after(at)).unwrap();
        assert_eq!(accepted.lifetime, Some(Duration::from_secs(10)));
        assert_eq!(session.admit(Api::Metadata, after(at + 10_000)), Admission::Pass);
        // It is a request like any other then.
        assert_eq!(session.admit(Api::SaslHandshake, after(at + 999)), Admission::Pass);
        assert_eq!(session.handshake(&sasl, 1, "PLAIN"), Some(ILLEGAL_SASL_STATE));
    }
}

#[test]
fn who_renews_a_session_must_be_who_it_was_in_the_same_way() {
    let sasl = sasl();
    let again = |mechanism: &str| {
        let mut session = Session::new(&sasl);
        plain(&mut session, &sasl, "\0alice\0secret", AT).unwrap();
        assert_eq!(session.admit(Api::SaslHandshake, AT), Admission::Pass);
        assert_eq!(session.handshake(&sasl, 1, mechanism), Some(NONE));
        session
    };
    let mut session = again("PLAIN");
    let rejected = session.authenticate(&sasl, b"\0bob\0hidden", AT).unwrap_err();
    assert_eq!(
        rejected.message,
        "Cannot change principals during re-authentication from User.alice: User.bob"
    );
    let mut session = Session::new(&sasl);
    scram(&mut session, &sasl, Hash::Sha256, "carol", "quiet").unwrap();
    assert_eq!(session.admit(Api::SaslHandshake, AT), Admission::Pass);
    let rejected = scram(&mut session, &sasl, Hash::Sha256, "carol", "loud").unwrap_err();
    assert!(
        rejected.message.contains("during re-authentication due to"),
        "{rejected:?}"
    );
    let mut session = again("SCRAM-SHA-256");
    assert_eq!(session.admit(Api::SaslAuthenticate, AT), Admission::End);
}

#[test]
fn who_renews_a_session_by_an_unknown_mechanism_is_not_answered() {
    let sasl = sasl();
    let mut session = Session::new(&sasl);
    plain(&mut session, &sasl, "\0alice\0secret", AT).unwrap();
    assert_eq!(session.admit(Api::SaslHandshake, AT), Admission::Pass);
    assert_eq!(session.handshake(&sasl, 1, "GSSAPI"), None);
    assert!(session.is_over());
}
