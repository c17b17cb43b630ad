//! Where a broker listens.

use std::fmt;

use crate::error::{Error, Result};

/// A host, by name or number, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// `host:port`; a numeric IPv6 host stands in brackets.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        without_names(text)?;
        let refuse = |why: &str| Error::config(format!("{text:?} is not an address: {why}"));
        if text.contains("://") {
            return Err(refuse("it must be host:port, without a scheme"));
        }
        if text.contains(';') || text.contains(char::is_whitespace) {
            return Err(refuse("it must be host:port, and several are separated by commas"));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or_else(|| refuse("the bracket is not closed"))?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(refuse("what is in brackets must be an IPv6 address"));
                }
                (host, port.strip_prefix(':'))
            }
            None => match text.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err(refuse("an IPv6 address stands in brackets, as in [::1]:9092"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.ok_or_else(|| refuse("it must be host:port, and the port is missing"))?;
        if host.is_empty() {
            return Err(refuse("it must be host:port, and the host is missing"));
        }
        if host.contains('/') {
            return Err(refuse("it must be host:port, and nothing else"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Self::new(host, port)),
            _ => Err(refuse("the port must be a number from 1 to 65535")),
        }
    }

    /// A list, separated by commas.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>> {
        // In all of it, before any of it is quoted: a password may hold a comma.
        without_names(text)?;
        let mut list = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let address = Self::parse(part)?;
            if !list.contains(&address) {
                list.push(address);
            }
        }
        Ok(list)
    }
}

/// In front of an `@` may be a password.
fn without_names(text: &str) -> Result<()> {
    match text.contains('@') {
        false => Ok(()),
        true => Err(Error::config(
            "an address must be host:port, without anybody's name in front of it: who logs in is for Sasl to say",
        )),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read_and_shown_alike() {
        for text in ["localhost:9092", "10.0.0.1:1", "[::1]:9092", "a-b.example:65535"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let list = Address::parse_list(" a:1, b:2 ,,a:1").unwrap();
        assert_eq!(list, [Address::new("a", 1), Address::new("b", 2)]);
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, why) in [
            ("localhost", "port is missing"),
            ("[::1]", "port is missing"),
            (":9092", "host is missing"),
            ("a:b", "from 1 to 65535"),
            ("a:0", "from 1 to 65535"),
            ("a:70000", "from 1 to 65535"),
            ("::1:9092", "in brackets"),
            ("[::1:9092", "not closed"),
            ("[here]:9092", "IPv6"),
            ("kafka://a:1", "without a scheme"),
            ("SASL_SSL://[::1]:1", "without a scheme"),
            ("//a:1", "nothing else"),
            ("a:1 b:2", "separated by commas"),
            ("a:1;b:2", "separated by commas"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        for text in ["alice:secret@a:1", "alice:sec,ret@a:1"] {
            for error in [
                Address::parse(text).unwrap_err(),
                Address::parse_list(text).unwrap_err(),
            ] {
                let error = error.to_string();
                assert!(error.contains("Sasl") && !error.contains("sec"), "{error}");
            }
        }
    }
}
