//! Whole exchanges, against the examples of the RFCs and against what Kafka's own classes answer.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// One for all, as connections share theirs: deriving takes its time.
static DERIVED: LazyLock<Arc<Derived>> = LazyLock::new(Arc::default);

/// An exchange with a nonce that is known beforehand.
fn exchange(hash: Hash, credentials: Credentials, nonce: &str) -> ScramExchange {
    ScramExchange {
        hash,
        credentials,
        derived: Arc::clone(&DERIVED),
        most_iterations: 20_000,
        nonce: nonce.to_owned(),
        is: State::Begun,
    }
}

/// Goes through all of it; `messages` are the client's and the server's in turns.
fn comes_out(hash: Hash, credentials: Credentials, nonce: &str, messages: [&str; 4]) {
    let [first, challenge, last, signature] = messages;
    let mut exchange = exchange(hash, credentials, nonce);
    assert_eq!(String::from_utf8(exchange.first().unwrap()).unwrap(), first);
    let sent = match exchange.next(challenge.as_bytes()).unwrap() {
        Step::Send(sent) => String::from_utf8(sent).unwrap(),
        Step::Done => panic!("done too early"),
    };
    assert_eq!(sent, last);
    assert_eq!(exchange.next(signature.as_bytes()).unwrap(), Step::Done);
    exchange.next(signature.as_bytes()).unwrap_err();
}

#[test]
fn the_example_of_rfc_5802_comes_out() {
    comes_out(
        Hash::Sha1,
        Credentials::new("user", "pencil"),
        "fyko+d2lbbFgONRv9qkxdawL",
        [
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    );
}

const RFC_7677: [&str; 4] = [
    "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
];

fn of_rfc_7677() -> ScramExchange {
    exchange(Hash::Sha256, Credentials::new("user", "pencil"), "rOprNGfwEbeRWgbNEkqO")
}

#[test]
fn the_example_of_rfc_7677_comes_out() {
    let user = Credentials::new("user", "pencil");
    comes_out(Hash::Sha256, user, "rOprNGfwEbeRWgbNEkqO", RFC_7677);
}

/// SASLprep would take the soft hyphen out, and write the numeral as `IX`: Kafka does neither, for whomever it makes a user.
const USER: &str = "jürgen,=Ⅸ";
const PASSWORD: &str = "päss\u{ad}wort Ⅸ";
const NONCE: &str = "abcdefghijklmnopqrstuvwx";
const CHALLENGE: &str = "r=abcdefghijklmnopqrstuvwx/server)$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=8192";

#[test]
fn what_kafka_s_own_classes_make_of_unicode_and_tokens_comes_out() {
    let user = || Credentials::new(USER, PASSWORD);
    let token = || Credentials::delegation_token(USER, PASSWORD);
    let first = "n,,n=jürgen=2C=3DⅨ,r=abcdefghijklmnopqrstuvwx";
    let with_token = "n,,n=jürgen=2C=3DⅨ,r=abcdefghijklmnopqrstuvwx,tokenauth=true";
    for (hash, credentials, first, proof, signature) in [
        (
            Hash::Sha256,
            user(),
            first,
            "Y7B5ZboivmV8qqM5U4en/DWUaIUgPQKzDe1Y4efwxwI=",
            "v=tgvs2o2X0xvE3FclgUWjqzcQyUlYXIAKoJLM6eGDRCs=",
        ),
        (
            Hash::Sha256,
            token(),
            with_token,
            "Bs8omm8bJb9F4GOAJzmVNbgziFeBMZ/kDTfd7Qd5tkE=",
            "v=M8RfljBaTK2hliGIll5/1LGGQbb3SgaRODpAh1SWHSM=",
        ),
        (
            Hash::Sha512,
            user(),
            first,
            "x34SRUNMVd5rQK0SbKGGrfUYQwaZuJw5mEt7dJT2qLgtRAVCYE5sHJWUuBXk3Fv4RmJ2wXmDLP1m70PbaALOyg==",
            "v=7sijsWlgQZrFis3XsaJU6XmtxKqeckC0jjaVt8XeqwKeZPq/LptgFe+677ho0ire7jMh+tOKw5g0VeYEayyjwA==",
        ),
        (
            Hash::Sha512,
            token(),
            with_token,
            "7f9CNGgG2owaSSW7fZLvfhoK9rCp6r8YtywmngOh7JNyhWdUict5wsFmQArkmq+UY8BGfwvcqKx9xV6+n4In5A==",
            "v=XhQBf3Peba4ATkMiZL5KcSjzXwiyhSSSeV3YUr3OEonmS7ciNXrpxnFePr/K3+Ojv3nXHJgyfXSWsv7GtWvX0g==",
        ),
    ] {
        let last = format!("c=biws,r=abcdefghijklmnopqrstuvwx/server)$k0,p={proof}");
        comes_out(hash, credentials, NONCE, [first, CHALLENGE, &last, signature]);
    }
}

#[test]
fn a_broker_that_does_not_know_the_password_is_not_believed() {
    let right = RFC_7677[3];
    let of_another_password = "v=tgvs2o2X0xvE3FclgUWjqzcQyUlYXIAKoJLM6eGDRCs=";
    let first_bit = right.replacen('6', "7", 1);
    for wrong in [
        of_another_password,
        &first_bit,
        "v=",
        "v=6rri",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4AAAA=",
    ] {
        let mut exchange = of_rfc_7677();
        exchange.first().unwrap();
        exchange.next(RFC_7677[1].as_bytes()).unwrap();
        let error = exchange.next(wrong.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error, "the broker does not know the password of user: it is not who it should be",
            "{wrong}"
        );
        // There is no second try.
        exchange.next(right.as_bytes()).unwrap_err();
    }
}

#[test]
fn nothing_else_than_a_signature_ends_well() {
    for instead in ["", "v", "x=y", "e=other-error", "m=x,v=AQID", RFC_7677[1], RFC_7677[2]] {
        let mut exchange = of_rfc_7677();
        exchange.first().unwrap();
        exchange.next(RFC_7677[1].as_bytes()).unwrap();
        exchange.next(instead.as_bytes()).unwrap_err();
    }
    let mut exchange = of_rfc_7677();
    exchange.next(RFC_7677[1].as_bytes()).unwrap_err();
    exchange.next(RFC_7677[3].as_bytes()).unwrap_err();
}

/// 2^31 iterations would take a quarter of an hour.
#[test]
fn too_many_iterations_are_refused_before_they_are_made() {
    for (iterations, words) in [
        ("2147483648", "take too long"),
        ("9223372036854775808", "take too long"),
        ("20001", "take too long"),
        ("4095", "do not protect"),
        ("0", "do not protect"),
        ("-1", "is none"),
    ] {
        let mut exchange = of_rfc_7677();
        exchange.first().unwrap();
        let challenge = RFC_7677[1].replace("i=4096", &format!("i={iterations}"));
        let error = exchange.next(challenge.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn each_exchange_has_a_nonce_of_its_own() {
    let scram = Scram::new(Hash::Sha256, Source::fixed(Credentials::new("user", "pencil")));
    let first = || {
        let mut exchange = scram.begin(&Peer::new("b", 9092, false)).unwrap();
        String::from_utf8(exchange.first().unwrap()).unwrap()
    };
    let (one, other) = (first(), first());
    assert_ne!(one, other);
    let nonce = one.strip_prefix("n,,n=user,r=").unwrap();
    assert!(nonce.len() >= 24 && !nonce.contains(','), "{nonce}");
}

#[test]
fn connections_of_one_mechanism_share_their_keys() {
    let scram = Scram::new(Hash::Sha256, Source::fixed(Credentials::new("user", "pencil")));
    let prove = || {
        let mut exchange = scram.begin(&Peer::new("b", 9092, false)).unwrap();
        let first = String::from_utf8(exchange.first().unwrap()).unwrap();
        let nonce = first.strip_prefix("n,,n=user,").unwrap();
        let step = exchange.next(format!("{nonce}server,s=AQID,i=4096").as_bytes());
        assert!(matches!(step, Ok(Step::Send(_))));
    };
    prove();
    let keys = scram
        .derived
        .keys(Hash::Sha256, &Credentials::new("user", "pencil"), &[1, 2, 3], 4096);
    prove();
    // Here, and where they are kept.
    assert_eq!(Arc::strong_count(&keys), 2);
}

proptest! {
    #[test]
    fn no_challenge_panics_or_authenticates(challenges in prop::collection::vec(any_challenge(), 1..4)) {
        let mut exchange = exchange(Hash::Sha256, Credentials::new("user", "pencil"), NONCE);
        exchange.most_iterations = 4100;
        exchange.first().unwrap();
        for challenge in challenges {
            match exchange.next(&challenge) {
                Ok(step) => prop_assert_ne!(step, Step::Done),
                Err(error) => prop_assert!(error.to_string().len() < 1_000),
            }
        }
    }

    #[test]
    fn a_server_s_message_with_one_byte_changed_is_not_believed(at in 0..RFC_7677[3].len(), to in any::<u8>()) {
        let mut signature = RFC_7677[3].as_bytes().to_vec();
        prop_assume!(signature[at] != to);
        signature[at] = to;
        let mut exchange = of_rfc_7677();
        exchange.first().unwrap();
        exchange.next(RFC_7677[1].as_bytes()).unwrap();
        exchange.next(&signature).unwrap_err();
    }
}

/// Any bytes, and such as come close.
fn any_challenge() -> impl Strategy<Value = Vec<u8>> {
    let close = "r=abcdefghijklmnopqrstuvwx[!-+.-~]{0,9},s=[A-D]{0,8}={0,2},i=(4096|4100|[0-9]{0,5}|-1)(,[a-z]=x)?";
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        close.prop_map(String::into_bytes),
        "[rsivem]=[ -~]{0,40}".prop_map(String::into_bytes),
        "v=[A-Za-z0-9+/]{43}=".prop_map(String::into_bytes),
    ]
}
