//! What a broker says while a client authenticates.

use std::sync::LazyLock;

#[cfg(feature = "scram")]
use crate::net::sasl::{Credentials, scram::in_a_hurry};
use crate::net::sasl::{Peer, Sasl, Step, Token};

const PASSWORD: &str = "0pen-sesame";

/// One of each, for all inputs, as a client has one for all connections.
static ALL: LazyLock<Vec<Sasl>> = LazyLock::new(|| {
    vec![
        Sasl::plain("billing", PASSWORD),
        Sasl::oauthbearer(|_| Ok(Token::new(PASSWORD))),
        #[cfg(feature = "scram")]
        in_a_hurry(Credentials::new("billing", PASSWORD)),
    ]
});

/// The first byte chooses the mechanism, each line is what a broker answers. `NONCE` in it becomes ours, which is another one
/// each time: a broker knows it.
pub(super) fn run(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let sasl = &ALL[usize::from(which) % ALL.len()];
    let peer = Peer::new("kafka", 9092, true);
    let mut exchange = sasl.mechanism().begin(&peer).expect("there are credentials");
    let first = exchange.first().expect("they can be sent");
    let nonce = nonce(&first);
    let mut has_failed = false;
    // No mechanism has more than two answers.
    for challenge in bytes.split(|byte| *byte == b'\n').take(4) {
        let challenge = with_nonce(challenge, nonce);
        match exchange.next(&challenge) {
            Ok(Step::Send(answer)) => {
                assert!(!has_failed, "it goes on after it has failed");
                assert!(answer.len() < 4096, "{} bytes", answer.len());
                // A broker that says it hears it again: in SCRAM, its nonce is said back to it.
                let is_told = contains(&challenge, PASSWORD.as_bytes());
                assert!(is_told || !contains(&answer, PASSWORD.as_bytes()), "said once more");
            }
            Ok(Step::Done) => match sasl.mechanism().name() {
                "PLAIN" => {}
                "OAUTHBEARER" => assert!(challenge.is_empty() && !has_failed),
                _ => panic!("nobody signs what was never sent before"),
            },
            Err(error) => {
                has_failed = true;
                let error = error.to_string();
                assert!(error.len() < 4096 && !error.contains(char::is_control), "{error:?}");
            }
        }
    }
}

fn nonce(first: &[u8]) -> &[u8] {
    let at = first.windows(3).position(|window| window == b",r=");
    at.map_or(&[], |at| &first[at + 3..])
}

fn with_nonce(challenge: &[u8], nonce: &[u8]) -> Vec<u8> {
    const HERE: &[u8] = b"NONCE";
    let at = challenge.windows(HERE.len()).position(|window| window == HERE);
    at.map_or_else(
        || challenge.to_vec(),
        |at| [&challenge[..at], nonce, &challenge[at + HERE.len()..]].concat(),
    )
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}
