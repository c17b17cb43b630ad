//! One value, which becomes what a builder wants, or an error that says where it is and what is possible.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use super::table;
use crate::error::{Error, Result};

/// What a key was set to, and where.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    /// As it was written: perhaps librdkafka's word.
    pub(super) key: &'a str,
    /// Without blanks around it.
    pub(super) text: &'a str,
    pub(super) place: Option<&'a str>,
}

impl<'a> Value<'a> {
    /// Its key, if it can be one: what is something else may be a line that slipped out of a secret.
    pub(super) fn name(&self) -> &'a str {
        let can_be = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match self.key.chars().all(can_be) && !self.key.is_empty() {
            true => self.key,
            false => "what stands there for a key",
        }
    }

    /// Whether its text may be shown: a key or a password may have come to where a name should be.
    pub(super) fn is_shown(&self) -> bool {
        table::is_shown(self.key) && !self.is_pem() && !self.text.contains('@')
    }

    pub(super) fn is_pem(&self) -> bool {
        self.text.contains("-----BEGIN")
    }

    /// Where it is, its key, and what is to be said of it.
    pub(super) fn sentence(&self, what: impl fmt::Display) -> String {
        let key = self.name();
        match self.place {
            Some(place) => format!("{place}: {key} {what}"),
            None => format!("{key} {what}"),
        }
    }

    /// An error about this value.
    pub(super) fn wrong(&self, what: impl fmt::Display) -> Error {
        Error::config(self.sentence(what))
    }

    /// An error that says what would be possible.
    pub(super) fn refuse(&self, possible: impl fmt::Display) -> Error {
        match (self.is_shown(), self.text) {
            (true, "") => self.wrong(format!("must be {possible}, and is empty")),
            (true, text) => self.wrong(format!("must be {possible}, not {text}")),
            (false, _) => self.wrong(format!("must be {possible}")),
        }
    }

    pub(super) fn integer<T: FromStr + PartialOrd + fmt::Display>(&self, range: RangeInclusive<T>) -> Result<T> {
        let number = self.text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| self.refuse(format!("a whole number from {} to {}", range.start(), range.end())))
    }

    pub(super) fn millis(&self, range: RangeInclusive<u64>) -> Result<Duration> {
        self.integer(range).map(Duration::from_millis)
    }

    pub(super) fn is_true(&self) -> Result<bool> {
        self.one_of(&[("true", true), ("false", false)])
    }

    /// Small letters and large ones are the same.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let found = choices.iter().find(|(name, _)| self.is(name));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.refuse(names.join(" or "))
        })
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.split(',').map(str::trim).filter(|item| !item.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: &'static str, text: &'static str) -> Value<'static> {
        let place = Some("app.properties, line 3");
        Value { key, text, place }
    }

    #[test]
    fn what_cannot_be_is_told_with_place_key_and_what_is_possible() {
        let error = value("linger.ms", "soon").millis(0..=10).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "app.properties, line 3: linger.ms must be a whole number from 0 to 10, not soon"
        );
        let error = value("check.crcs", "yes").is_true().unwrap_err();
        assert!(error.to_string().ends_with("must be true or false, not yes"));
        assert!(value("linger.ms", "11").millis(0..=10).is_err());
        assert!(value("linger.ms", "").millis(0..=10).is_err());
    }

    #[test]
    fn secrets_and_what_nobody_knows_are_not_quoted() {
        for (key, text) in [
            ("sasl.password", "hunter2"),
            ("sasl.jaas.config", "hunter2"),
            ("my.own", "hunter2"),
            ("password:\"hunter2\";", ""),
            ("security.protocol", "SASL_SSL://me:hunter2@a:1"),
            ("acks", "-----BEGIN PRIVATE KEY----- hunter2"),
        ] {
            let error = value(key, text).refuse("something else");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
