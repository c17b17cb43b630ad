//! What holds for every mechanism.

use proptest::prelude::*;

use super::*;

const PASSWORD: &str = "0pen-sesame";

fn all() -> Vec<Sasl> {
    vec![
        Sasl::plain("billing", PASSWORD),
        Sasl::plain_with(|_| Ok(Credentials::new("billing", PASSWORD))),
        #[cfg(feature = "scram")]
        Sasl::scram_sha_256("billing", PASSWORD),
        #[cfg(feature = "scram")]
        Sasl::scram_sha_512_with(|_| Ok(Credentials::delegation_token("billing", PASSWORD))),
        Sasl::oauthbearer(|_| Ok(Token::new(PASSWORD).principal("billing").extension("a", "b"))),
        #[cfg(feature = "oidc")]
        Sasl::oauthbearer_oidc(Oidc::new("http://localhost:1/token", "billing", PASSWORD)),
    ]
}

fn begin(sasl: &Sasl) -> Result<Box<dyn Exchange>, BoxError> {
    sasl.mechanism().begin(&Peer::new("kafka", 9092, true))
}

/// What may be said to each: words with and without the secret in them.
fn challenges() -> Vec<Vec<u8>> {
    let words = ["", "no", "e=", "v=", "r=", "{\"status\":\"", "m=", "v=AQID,"];
    let mut all: Vec<Vec<u8>> = words.iter().map(|words| words.as_bytes().to_vec()).collect();
    all.extend(words.map(|words| format!("{words}{PASSWORD}\"}}").into_bytes()));
    all.extend([vec![0xff; 100], vec![b'x'; 100_000]]);
    all
}

#[test]
fn no_secret_is_in_any_debug_output_or_error() {
    let mut texts = vec![
        format!("{:?}", Secret::new(PASSWORD)),
        format!("{:#?}", Credentials::new("billing", PASSWORD)),
        format!("{:#?}", Credentials::delegation_token("billing", PASSWORD)),
        format!("{:#?}", Token::new(PASSWORD)),
        format!("{:?}", Step::Send(PASSWORD.into())),
    ];
    #[cfg(feature = "oidc")]
    texts.push(format!(
        "{:#?}",
        Oidc::new("https://localhost/token", "billing", PASSWORD)
    ));
    for sasl in all() {
        texts.push(format!("{sasl:#?}"));
        let builder = crate::Client::builder().bootstrap("localhost:9092").sasl(sasl.clone());
        texts.push(format!("{builder:#?}"));
        texts.push(format!("{:#?}", builder.connect_lazy().unwrap()));
        for challenge in challenges() {
            let Ok(mut exchange) = begin(&sasl) else {
                continue;
            };
            exchange.first().unwrap();
            for _ in 0..3 {
                match exchange.next(&challenge) {
                    Ok(step) => texts.push(format!("{step:?}")),
                    Err(error) => texts.extend([error.to_string(), format!("{error:?}")]),
                }
            }
        }
        if let Err(error) = begin(&sasl) {
            texts.push(format!("{error:?} {error}"));
        }
    }
    // In SCRAM the broker was not told it: whatever it says, it does not have from us.
    let is_of_scram = |text: &str| text.contains("the broker refuses: ");
    for text in texts {
        assert!(is_of_scram(&text) || !text.contains(PASSWORD), "{text}");
        assert!(!text.contains("MHBlbi1zZXNhbWU"), "in Base64: {text}");
    }
}

#[test]
fn credentials_without_a_name_or_password_are_not_sent() {
    for (user, password) in [("", "x"), ("x", ""), ("x\0y", "x"), ("x", "x\0")] {
        let mut all = vec![Sasl::plain(user, password)];
        #[cfg(feature = "scram")]
        all.extend([Sasl::scram_sha_256(user, password), Sasl::scram_sha_512(user, password)]);
        for sasl in all {
            begin(&sasl).map(drop).unwrap_err();
        }
    }
}

#[test]
fn an_error_of_a_callback_is_the_connection_s() {
    let fails = |_: &Peer<'_>| Err("the vault is sealed".into());
    let mut all = vec![
        Sasl::plain_with(fails),
        Sasl::oauthbearer(|_| Err("the vault is sealed".into())),
    ];
    #[cfg(feature = "scram")]
    all.extend([Sasl::scram_sha_256_with(fails), Sasl::scram_sha_512_with(fails)]);
    for sasl in all {
        let error = begin(&sasl).map(drop).unwrap_err();
        assert_eq!(error.to_string(), "the vault is sealed");
    }
}

#[test]
fn mechanisms_have_the_names_that_brokers_know() {
    let names: Vec<_> = all().iter().map(|sasl| sasl.mechanism().name().to_owned()).collect();
    for name in names {
        let known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];
        assert!(known.contains(&&*name), "{name}");
    }
}

proptest! {
    #[test]
    fn no_challenge_panics_and_what_is_said_of_it_is_short(challenge in prop::collection::vec(any::<u8>(), 0..2_000)) {
        for sasl in all() {
            let Ok(mut exchange) = begin(&sasl) else {
                continue;
            };
            exchange.first().unwrap();
            for _ in 0..3 {
                match exchange.next(&challenge) {
                    Ok(Step::Send(bytes)) => prop_assert!(bytes.len() < 4_000),
                    Ok(Step::Done) => {
                        let is_trusted = sasl.mechanism().name() == "PLAIN" || challenge.is_empty();
                        prop_assert!(is_trusted, "{sasl:?} {challenge:?}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        prop_assert!(error.len() < 4_000 && !error.contains(char::is_control), "{}", error);
                    }
                }
            }
        }
    }
}
