//! Base64 (RFC 4648), as far as SCRAM needs it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| {
            number << 8 | three.get(at).copied().map_or(0, usize::from)
        });
        for at in 0..4 {
            text.push(match at <= three.len() {
                true => char::from(ALPHABET[number >> (18 - 6 * at) & 63]),
                false => '=',
            });
        }
    }
    text
}

/// `None` if it is none.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() % 4 != 0 {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::new();
    for four in digits.as_bytes().chunks(4) {
        let mut number = 0;
        for at in 0..4 {
            let digit = match four.get(at) {
                Some(digit) => ALPHABET.iter().position(|known| known == digit)?,
                None => 0,
            };
            number = number << 6 | digit;
        }
        let three = (number as u32).to_be_bytes();
        bytes.extend(&three[1..four.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_standard_has_as_examples_comes_out() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        for text in ["Zg", "Zg=", "Z===", "====", "Zg=v", "Zm9!"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
