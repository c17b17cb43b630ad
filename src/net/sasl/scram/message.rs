//! What a broker sends in SCRAM.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::net::sasl::{BoxError, credentials::quoted};

/// Fewer protect a password too little (RFC 7677); Kafka has no fewer either.
const FEWEST_ITERATIONS: u32 = 4096;

/// Kafka's have some 50 characters.
const LONGEST_NONCE: usize = 1024;

/// Kafka's have some 20 bytes.
const LONGEST_SALT: usize = 1024;

/// How the broker keeps the password.
#[derive(Debug)]
pub(super) struct ServerFirst<'a> {
    /// Ours, and what the broker has added.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    pub(super) fn parse(message: &'a str, ours: &str, most_iterations: u32) -> Result<Self, BoxError> {
        let mut fields = Fields::of(message)?;
        let nonce = fields.expect('r', "nonce")?;
        let is_of_nonce = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b',';
        if nonce.len() > LONGEST_NONCE || !nonce.bytes().all(is_of_nonce) {
            return Err("the broker's nonce is none".into());
        }
        if nonce.len() <= ours.len() || !nonce.starts_with(ours) {
            return Err(
                "the broker's nonce does not go on where ours ends: it answers somebody else, or repeats".into(),
            );
        }
        let salt = bytes(fields.expect('s', "salt")?, "salt")?;
        if salt.is_empty() || salt.len() > LONGEST_SALT {
            return Err(format!("the broker's salt has {} bytes", salt.len()).into());
        }
        let iterations = iterations(fields.expect('i', "number of iterations")?, most_iterations)?;
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }
}

/// How the exchange ends: what only those can make who know the password.
pub(super) fn signature(message: &str) -> Result<Vec<u8>, BoxError> {
    bytes(Fields::of(message)?.expect('v', "signature")?, "signature")
}

/// `a=…,b=…`, in an order that is given. What follows those that are expected are extensions, which may be ignored.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn of(message: &'a str) -> Result<Self, BoxError> {
        if let Some(error) = message.strip_prefix("e=") {
            let error = error.split(',').next().unwrap_or_default();
            return Err(format!("the broker refuses: {}", quoted(error)).into());
        }
        if message.starts_with("m=") {
            return Err("the broker wants an extension of SCRAM that does not exist yet".into());
        }
        Ok(Self(message.split(',')))
    }

    fn expect(&mut self, name: char, what: &str) -> Result<&'a str, BoxError> {
        let field = self
            .0
            .next()
            .and_then(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.ok_or_else(|| format!("the broker's challenge has no {what} where it should be").into())
    }
}

fn bytes(base64: &str, what: &str) -> Result<Vec<u8>, BoxError> {
    BASE64
        .decode(base64)
        .map_err(|_| format!("the broker's {what} is not Base64").into())
}

fn iterations(text: &str, most: u32) -> Result<u32, BoxError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the broker's number of iterations is none: {}", quoted(text)).into());
    }
    match text.parse() {
        Ok(few) if few < FEWEST_ITERATIONS => Err(format!(
            "the broker asks for {few} iterations: fewer than {FEWEST_ITERATIONS} do not protect the password"
        )
        .into()),
        Ok(iterations) if iterations <= most => Ok(iterations),
        _ => Err(format!(
            "the broker asks for {} iterations, and more than {most} take too long",
            quoted(text)
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 10_000;

    fn refused(message: &str) -> String {
        ServerFirst::parse(message, "abc", MOST).unwrap_err().to_string()
    }

    #[test]
    fn a_first_message_is_taken_apart() {
        for message in [
            "r=abcd,s=AQID,i=4096",
            "r=abcd,s=AQID,i=4096,x=y",
            "r=abcd,s=AQID,i=0004096",
        ] {
            let first = ServerFirst::parse(message, "abc", MOST).unwrap();
            assert_eq!(
                (first.nonce, &*first.salt, first.iterations),
                ("abcd", &[1, 2, 3][..], 4096)
            );
        }
    }

    #[test]
    fn what_is_out_of_order_or_missing_is_refused() {
        for message in [
            "",
            ",",
            "r",
            "r=abcd",
            "r=abcd,s=AQID",
            "s=AQID,r=abcd,i=4096",
            "r=abcd,i=4096,s=AQID",
            "R=abcd,s=AQID,i=4096",
            "r=abcd,x=y,s=AQID,i=4096",
            "r=abcd,,i=4096",
        ] {
            assert!(refused(message).contains("has no "), "{message}");
        }
    }

    #[test]
    fn a_nonce_that_does_not_extend_ours_is_refused() {
        for nonce in ["abc", "ab", "", "abd", "Abcd", "xabc"] {
            assert!(
                refused(&format!("r={nonce},s=AQID,i=4096")).contains("somebody else"),
                "{nonce}"
            );
        }
        for nonce in ["abc d", "abc\0", "abcé", &format!("abc{}", "x".repeat(LONGEST_NONCE))] {
            assert!(
                refused(&format!("r={nonce},s=AQID,i=4096")).contains("is none"),
                "{nonce}"
            );
        }
    }

    #[test]
    fn salts_are_bounded_base64() {
        for salt in [
            "",
            "AQI",
            "AQ==AQ==",
            "A Q=",
            "_-_-",
            &BASE64.encode([0; LONGEST_SALT + 1]),
        ] {
            assert!(refused(&format!("r=abcd,s={salt},i=4096")).contains("salt"), "{salt}");
        }
        let longest = format!("r=abcd,s={},i=4096", BASE64.encode([0; LONGEST_SALT]));
        ServerFirst::parse(&longest, "abc", MOST).unwrap();
    }

    #[test]
    fn iterations_are_neither_few_nor_many() {
        let asked = |iterations: &str| refused(&format!("r=abcd,s=AQID,i={iterations}"));
        for few in ["0", "1", "4095"] {
            assert!(asked(few).contains("do not protect"), "{few}");
        }
        for many in [
            "10001",
            "2147483648",
            "4294967296",
            "9223372036854775808",
            &"9".repeat(1_000),
        ] {
            assert!(asked(many).contains("take too long"), "{many}");
        }
        for none in ["", "-1", "+4096", "4096.0", " 4096", "0x1000", "４０９６"] {
            assert!(asked(none).contains("is none"), "{none}");
        }
        assert!(asked(&"9".repeat(10_000)).len() < 500);
    }

    #[test]
    fn errors_and_mandatory_extensions_end_the_exchange() {
        assert!(refused("e=unknown-user,x=y").ends_with("the broker refuses: unknown-user"));
        assert!(refused("m=x,r=abcd,s=AQID,i=4096").contains("extension"));
        let last = |message| signature(message).unwrap_err().to_string();
        assert!(last("e=invalid-proof").ends_with("invalid-proof"));
        assert!(last("m=x,v=AQID").contains("extension"));
        assert!(last("v=AQI").contains("signature"));
        assert!(last("").contains("signature"));
        assert_eq!(signature("v=AQID,x=y").unwrap(), [1, 2, 3]);
    }
}
