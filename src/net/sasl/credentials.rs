//! A name and a password, and where they come from.

use std::{fmt, fs::File, io::Read, path::Path};

use zeroize::Zeroizing;

use super::{BoxError, Peer, Secret};
use crate::error::{Error, ErrorKind, Result};

/// Who somebody is, and the password that proves it.
///
/// ```
/// let credentials = klamm::Credentials::new("billing", "open sesame");
/// assert!(!format!("{credentials:?}").contains("sesame"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) is_delegation_token: bool,
}

impl Credentials {
    /// Of a user that the brokers know. Kafka: `username` and `password` in `sasl.jaas.config`.
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
            is_delegation_token: false,
        }
    }

    /// Of a delegation token (KIP-48), for one of the SCRAM mechanisms: its ID and its HMAC, in the Base64 in which Kafka's
    /// tools show it. Kafka: `tokenauth="true"` in `sasl.jaas.config`.
    pub fn delegation_token(id: impl Into<String>, hmac: impl Into<Secret>) -> Self {
        Self {
            is_delegation_token: true,
            ..Self::new(id, hmac)
        }
    }

    /// From a file of two lines: the user's name, and the password. Blanks are part of them.
    ///
    /// Read in a callback, it is looked at whenever a connection is made, so that a new password is used from then on:
    ///
    /// ```
    /// # use klamm::{Credentials, Sasl};
    /// let sasl = Sasl::plain_with(|_| Ok(Credentials::from_file("/run/secrets/kafka")?));
    /// # drop(sasl);
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming the file, when it cannot be read or is something else. What is in it is not told.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read(path)?;
        let (user, password) = two_lines(&text).map_err(|what| {
            let message = format!("{} has {what}: it must be two lines, user and password", path.display());
            Error::new(ErrorKind::Config, message)
        })?;
        Ok(Self::new(user, password))
    }

    /// What no mechanism can send.
    pub(super) fn check(&self) -> std::result::Result<(), BoxError> {
        if self.user.is_empty() {
            return Err("the user's name is empty".into());
        }
        if self.password.expose().is_empty() {
            return Err(format!("the password of {} is empty", quoted(&self.user)).into());
        }
        if self.user.contains('\0') || self.password.expose().contains('\0') {
            return Err(format!("name or password of {} hold a NUL character", quoted(&self.user)).into());
        }
        Ok(())
    }
}

/// Longer is no name and password.
const LONGEST_FILE: usize = 16 << 10;

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let refused = |why: &str| Error::new(ErrorKind::Config, format!("credentials in {}: {why}", path.display()));
    let io = |error: std::io::Error| refused(&crate::error::plain(&error));
    let file = File::open(path).map_err(io)?;
    // All of it at once, so that no copy is left behind where a buffer has grown.
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST_FILE + 1));
    file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut text).map_err(io)?;
    if text.len() > LONGEST_FILE {
        return Err(refused("too long to be a name and a password"));
    }
    let text = std::str::from_utf8(&text).map_err(|_| refused("not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn two_lines(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    let mut lines = text.lines();
    let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
        return Err("fewer lines");
    };
    if lines.any(|line| !line.is_empty()) {
        return Err("more lines");
    }
    if user.is_empty() || password.is_empty() {
        return Err("an empty line");
    }
    Ok((user, password))
}

/// Where credentials come from, each time they are needed.
pub(super) struct Source(Box<Look>);

type Look = dyn Fn(&Peer<'_>) -> std::result::Result<Credentials, BoxError> + Send + Sync;

impl Source {
    pub(super) fn fixed(credentials: Credentials) -> Self {
        Self::asked(move |_| Ok(credentials.clone()))
    }

    pub(super) fn asked(
        look: impl Fn(&Peer<'_>) -> std::result::Result<Credentials, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(look))
    }

    pub(super) fn look(&self, peer: &Peer<'_>) -> std::result::Result<Credentials, BoxError> {
        let credentials = (self.0)(peer)?;
        credentials.check()?;
        Ok(credentials)
    }
}

/// What others wrote, fit for one line of an error: bounded, and without control characters.
pub(super) fn quoted(text: &str) -> impl fmt::Display {
    const LONGEST: usize = 300;
    let mut shown = String::new();
    for character in text.chars().take(LONGEST) {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_a_name_and_a_password() {
        for text in [
            "billing\nopen sesame",
            "billing\nopen sesame\n",
            "billing\r\nopen sesame\r\n",
            "billing\nopen sesame\n\n",
        ] {
            assert_eq!(two_lines(text), Ok(("billing", "open sesame")), "{text:?}");
        }
        assert_eq!(two_lines(" a \n b "), Ok((" a ", " b ")));
        for text in [
            "",
            "billing",
            "billing\n",
            "billing\n\n",
            "\nsesame",
            "a\nb\nc",
            "a\nb\n\nc",
        ] {
            two_lines(text).unwrap_err();
        }
    }

    #[test]
    fn a_file_that_is_something_else_is_named_but_not_told() {
        let path = std::env::temp_dir().join(format!("klamm-credentials-{}", std::process::id()));
        std::fs::write(&path, "billing\nsesame\n").unwrap();
        assert_eq!(
            Credentials::from_file(&path).unwrap(),
            Credentials::new("billing", "sesame")
        );
        for text in [
            &b"sesame"[..],
            b"billing\nsesame\nsesame",
            b"sesame\n\xff",
            &[b's'; LONGEST_FILE + 1],
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Credentials::from_file(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("klamm-credentials"), "{error}");
            assert!(!format!("{error:?}").contains("ses"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        let error = Credentials::from_file(&path).unwrap_err().to_string();
        assert!(error.ends_with("no such file or directory"), "{error}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_the_password() {
        for (user, password) in [
            ("", "sesame"),
            ("billing", ""),
            ("bil\0ling", "sesame"),
            ("billing", "se\0same"),
        ] {
            let error = Credentials::new(user, password).check().unwrap_err().to_string();
            assert!(!error.contains("same"), "{error}");
        }
        Credentials::new("b", "s").check().unwrap();
    }

    #[test]
    fn what_others_wrote_is_cut_and_has_no_control_characters() {
        assert_eq!(
            quoted("a\nb\u{1b}[1mé\u{202e}").to_string(),
            "a\\nb\\u{1b}[1mé\\u{202e}"
        );
        assert_eq!(quoted(r#"o'brien\"x""#).to_string(), r#"o'brien\"x""#);
        assert_eq!(quoted(&"x".repeat(1_000)).to_string().chars().count(), 301);
    }
}
