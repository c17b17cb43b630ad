//! `sasl.jaas.config`: one login module with its options, in the words of Java's authentication service.
//!
//! What is wrong is told by its place and never quoted: a quote that is missing makes a word of a password.

use std::{collections::BTreeMap, fmt};

use zeroize::Zeroizing;

use crate::net::sasl::Secret;

/// One entry: `some.LoginModule required key="value";`
pub(super) struct LoginModule {
    class: String,
    options: BTreeMap<String, Secret>,
}

impl LoginModule {
    /// # Errors
    ///
    /// What is wrong, and at which character.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens { text, at: 0 };
        let module = tokens.entry()?;
        match tokens.next()? {
            None => Ok(module),
            Some(_) => Err("has more than one login module; there must be one".to_owned()),
        }
    }

    /// Its class without the package, which some distributions have renamed.
    pub(super) fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    pub(super) fn option(&self, name: &str) -> Option<&Secret> {
        self.options.get(name)
    }

    pub(super) fn options(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.options.iter().map(|(name, value)| (&**name, value))
    }
}

impl fmt::Debug for LoginModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginModule").finish_non_exhaustive()
    }
}

enum Token {
    /// In quotes or without.
    Word(Secret),
    Equals,
    Semicolon,
    /// A number, or a sign that means nothing here.
    Other,
}

/// The words of Java's `StreamTokenizer`, as it is set up for this.
struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn entry(&mut self) -> Result<LoginModule, String> {
        let class = self.word("must begin with the class of a login module")?;
        let flag = self.word("needs `required` behind the login module")?;
        let flags = ["required", "requisite", "sufficient", "optional"];
        if !flags.iter().any(|known| flag.expose().eq_ignore_ascii_case(known)) {
            return Err(self.wrong("needs `required` behind the login module"));
        }
        let mut options = BTreeMap::new();
        loop {
            let name = match self.next()? {
                Some(Token::Semicolon) => break,
                Some(Token::Word(name)) => name,
                Some(_) => return Err(self.wrong("needs a name there, or a semicolon")),
                None => {
                    return Err(self.wrong(
                        "must end with a semicolon; where it goes on in the next line, a backslash ends this one",
                    ));
                }
            };
            let Some(Token::Equals) = self.next()? else {
                return Err(self.wrong("needs an equals sign there: each option is name=\"value\""));
            };
            let value = self.word("needs a value there, best in quotes: each option is name=\"value\"")?;
            options.insert(name.expose().to_owned(), value);
        }
        let class = class.expose().to_owned();
        Ok(LoginModule { class, options })
    }

    fn word(&mut self, otherwise: &str) -> Result<Secret, String> {
        match self.next()? {
            Some(Token::Word(word)) => Ok(word),
            _ => Err(self.wrong(otherwise)),
        }
    }

    fn wrong(&self, what: &str) -> String {
        let characters = self.text[..self.at].chars().count();
        format!("{what} (at character {characters})")
    }

    fn next(&mut self) -> Result<Option<Token>, String> {
        self.skip_blanks_and_comments();
        let Some(first) = self.peek() else {
            return Ok(None);
        };
        if is_word(first) && !is_number(first) {
            let rest = &self.text[self.at..];
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            self.at += end;
            return Ok(Some(Token::Word(Secret::new(&rest[..end]))));
        }
        self.at += first.len_utf8();
        Ok(Some(match first {
            '"' | '\'' => return self.quoted(first).map(Some),
            '=' => Token::Equals,
            ';' => Token::Semicolon,
            _ if is_number(first) => {
                let rest = &self.text[self.at..];
                self.at += rest.find(|c| !is_number(c)).unwrap_or(rest.len());
                Token::Other
            }
            _ => Token::Other,
        }))
    }

    fn quoted(&mut self, quote: char) -> Result<Token, String> {
        // Large enough at once, or what it grows out of would keep a part of a password. Nothing is longer than its text.
        let mut value = Zeroizing::new(String::with_capacity(self.text.len() - self.at));
        loop {
            match self.take() {
                Some(c) if c == quote => return Ok(Token::Word(Secret::new(std::mem::take(&mut *value)))),
                // Java goes on behind the line as if there had been a quote.
                None | Some('\n' | '\r') => return Err(self.wrong("has a quote that is not closed")),
                Some('\\') => value.extend(self.escaped()),
                Some(c) => value.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let c = self.take()?;
        Some(match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                // Three digits at most, and no number above 255.
                let digits = if c <= '3' { 3 } else { 2 };
                let mut code = c.to_digit(8)?;
                for _ in 1..digits {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.at += 1;
                    code = code << 3 | digit;
                }
                char::from_u32(code)?
            }
            other => other,
        })
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches(|c| c <= ' ');
            self.at += rest.len() - trimmed.len();
            // Also a single slash begins a comment, outside of quotes.
            let comment = match trimmed.strip_prefix("/*") {
                Some(comment) => 2 + comment.find("*/").map_or(comment.len(), |end| end + 2),
                None if trimmed.starts_with('/') => trimmed.find(['\n', '\r']).unwrap_or(trimmed.len()),
                None => return,
            };
            self.at += comment;
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphabetic() || is_number(c) || matches!(c, '_' | '$') || c >= '\u{a0}'
}

/// What begins with one of these is taken for a number, of which Java has no text.
fn is_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::properties::judged;

    #[test]
    fn java_reads_the_same() {
        let cases = judged::cases(include_str!("jaas/cases.txt"));
        assert!(cases.iter().filter(|case| case.pairs.is_some()).count() > 50);
        for case in cases {
            let read = LoginModule::parse(&case.text).ok();
            let name = read.as_ref().map(|module| module.class.clone());
            let pairs = read.map(|module| {
                let options = module.options();
                let pairs = options.map(|(name, value)| (name.to_owned(), value.expose().to_owned()));
                pairs.collect::<BTreeMap<_, _>>()
            });
            assert_eq!((name, pairs), (case.name, case.pairs), "{:?}", case.text);
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_place() {
        let wrong = |text| LoginModule::parse(text).unwrap_err();
        assert!(wrong("").contains("login module"));
        assert!(wrong("a.PlainLoginModule").contains("`required`"));
        assert!(wrong("a.B required user=\"x\"").contains("semicolon"));
        assert!(wrong("a.B required user=\"x;").contains("not closed (at character 21)"));
        assert!(wrong("a.B required user=1;").contains("in quotes"));
        assert!(wrong("a.B required; a.B required;").contains("more than one"));
    }

    #[test]
    fn a_package_may_have_been_renamed() {
        let module = LoginModule::parse("shaded.org.apache.PlainLoginModule required;").unwrap();
        assert_eq!(module.name(), "PlainLoginModule");
    }

    proptest! {
        #[test]
        fn nothing_of_the_text_is_in_an_error(text in "[a-z.]{3,8} required [ =\"';/*\\\\a-z0-9]{0,20}hunter2[ =\"';/*\\\\a-z0-9]{0,20}") {
            if let Err(error) = LoginModule::parse(&text) {
                prop_assert!(!error.contains("hunter2"));
            }
        }

        #[test]
        fn what_is_in_quotes_is_read_as_it_was(value in "[^\\n\\r]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let module = LoginModule::parse(&format!("a.B required password=\"{escaped}\";")).unwrap();
            prop_assert_eq!(module.option("password").unwrap().expose(), value);
        }
    }
}
