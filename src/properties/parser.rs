//! The format of Java's `Properties.load`: text to keys and values.

/// One property, and the number of the line on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) key: String,
    /// With the blanks at its end, as Java keeps them.
    pub(super) value: String,
}

/// What Java refuses as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) what: &'static str,
}

const BLANK: [char; 3] = [' ', '\t', '\x0c'];
const SEPARATOR: [char; 2] = ['=', ':'];

/// All properties in their order; a key may be there twice.
pub(super) fn parse(text: &str) -> Result<Vec<Line>, Malformed> {
    let mut lines = Logical { rest: text, number: 0 };
    let mut properties = Vec::new();
    while let Some((number, line)) = lines.next() {
        let (key, value) = split(&line);
        let unescaped = |text| unescape(text).map_err(|what| Malformed { line: number, what });
        properties.push(Line {
            number,
            key: unescaped(key)?,
            value: unescaped(value)?,
        });
    }
    Ok(properties)
}

/// A file as text. Java reads Latin-1 and leaves the rest to escapes; files of today are UTF-8, and what is not UTF-8 is
/// Latin-1.
pub(super) fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Lines that a backslash at their end has joined, without comments and empty ones.
struct Logical<'a> {
    rest: &'a str,
    /// Of the line that was read last, from 1.
    number: usize,
}

impl<'a> Logical<'a> {
    fn next(&mut self) -> Option<(usize, String)> {
        let mut joined = String::new();
        let mut began = 0;
        while let Some(line) = self.next_line() {
            let line = line.trim_start_matches(BLANK);
            if joined.is_empty() {
                if line.is_empty() || line.starts_with(['#', '!']) {
                    continue;
                }
                began = self.number;
            }
            let backslashes = line.len() - line.trim_end_matches('\\').len();
            if backslashes % 2 == 0 {
                joined.push_str(line);
                return Some((began, joined));
            }
            joined.push_str(&line[..line.len() - 1]);
        }
        (!joined.is_empty()).then_some((began, joined))
    }

    fn next_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\r', '\n']).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest
            .strip_prefix("\r\n")
            .or_else(|| rest.strip_prefix(['\r', '\n']))
            .unwrap_or(rest);
        Some(line)
    }
}

/// The key ends at the first separator or blank that is not escaped. Blanks around one separator belong to neither.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.find(|c| {
        let ends = !is_escaped && (BLANK.contains(&c) || SEPARATOR.contains(&c));
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(SEPARATOR).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // Java's escapes name UTF-16 units, of which some characters need two.
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('u') => {
                    units.push(unit(&mut rest).ok_or("behind \\u there must be four hexadecimal digits")?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "\\u names one half of a character, without the other")
}

fn unit(rest: &mut std::str::Chars<'_>) -> Option<u16> {
    (0..4).try_fold(0, |unit, _| {
        let digit = rest.next()?.to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::properties::judged;

    #[test]
    fn java_reads_the_same() {
        let cases = judged::cases(include_str!("parser/cases.txt"));
        assert!(cases.len() > 300);
        for case in cases {
            let read = parse(&case.text).ok().map(|lines| {
                let pairs = lines.into_iter().map(|line| (line.key, line.value));
                pairs.collect::<BTreeMap<_, _>>()
            });
            let mut java = case.pairs;
            // A backslash that ends the file is an empty key to Java. Half a character, which Java keeps and nobody can
            // mean, is among what is refused.
            if let (Some(java), Some(read)) = (&mut java, &read) {
                if java.get("").is_some_and(String::is_empty) && !read.contains_key("") {
                    java.remove("");
                }
            }
            assert_eq!(read, java, "{:?}", case.text);
        }
    }

    #[test]
    fn a_property_is_where_it_begins() {
        let lines = parse("# a\n\na=1\r\n  ! b\rb=\\\n  2\n\\\n\nc").unwrap();
        let numbers: Vec<_> = lines.iter().map(|line| (line.number, &*line.key)).collect();
        assert_eq!(numbers, [(3, "a"), (5, "b"), (9, "c")]);
        let malformed = parse("a=1\nb=\\\n \\u00g0").unwrap_err();
        assert_eq!(malformed.line, 2);
        assert!(parse("a=\\uD83D").is_err());
    }

    #[test]
    fn a_file_is_utf8_or_else_latin1() {
        assert_eq!(decode("a=ü".as_bytes()), "a=ü");
        assert_eq!(decode(b"a=\xfc"), "a=ü");
        assert_eq!(decode(b"\xef\xbb\xbfa=b"), "a=b");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_escaped_is_read_as_it_was(key in "\\PC{1,10}", value in "(\\PC|[\\n\\r\\t\\x0c]){0,20}") {
            let mut text = String::new();
            for (part, behind) in [(&key, "="), (&value, "\n")] {
                for unit in part.encode_utf16() {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
                text.push_str(behind);
            }
            let lines = parse(&text).unwrap();
            prop_assert_eq!(lines, vec![Line { number: 1, key, value }]);
        }
    }
}
