//! What brokers send meanwhile, and what of it may be shown.

use super::{BoxError, Secret};
use crate::net::sasl::credentials::quoted;

/// Longer is no part of any mechanism, and not looked at.
const LONGEST: usize = 64 << 10;

pub(super) fn check(challenge: &[u8]) -> Result<(), BoxError> {
    if challenge.len() > LONGEST {
        return Err(format!(
            "the broker's challenge has {} bytes, more than any mechanism needs",
            challenge.len()
        )
        .into());
    }
    Ok(())
}

/// Bounded, and as text.
pub(super) fn text(challenge: &[u8]) -> Result<&str, BoxError> {
    check(challenge)?;
    std::str::from_utf8(challenge).map_err(|_| "the broker's challenge is not UTF-8".into())
}

/// A broker's words for an error, without what it was told in confidence, in case it says that again.
pub(super) fn told(words: &str, secret: &Secret) -> String {
    let secret = secret.expose();
    if secret.is_empty() {
        return quoted(words).to_string();
    }
    quoted(&words.replace(secret, "***")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_s_words_hold_no_secret() {
        let secret = Secret::new("sesame");
        assert_eq!(told("no sesame\0, no entry", &secret), "no ***\\0, no entry");
        assert_eq!(told("sesamsesame", &secret), "sesam***");
    }

    #[test]
    fn what_is_too_long_is_not_looked_at() {
        check(&vec![0; LONGEST]).unwrap();
        check(&vec![0; LONGEST + 1]).unwrap_err();
        text(&[0xff]).unwrap_err();
        assert_eq!(text("é".as_bytes()).unwrap(), "é");
    }
}
