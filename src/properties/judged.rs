//! Texts that Java was asked about, and what it answered.

use std::collections::BTreeMap;

pub(super) struct Case {
    pub(super) text: String,
    /// The class of a login module.
    pub(super) name: Option<String>,
    /// None: it is refused.
    pub(super) pairs: Option<BTreeMap<String, String>>,
}

/// `?` a text, `!` it is refused, `@` a name, `=` a key and its value.
pub(super) fn cases(file: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in file.lines() {
        let (kind, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        if kind == "?" {
            cases.push(Case {
                text: plain(rest),
                name: None,
                pairs: Some(BTreeMap::new()),
            });
            continue;
        }
        let case = cases.last_mut().unwrap();
        match (kind, &mut case.pairs) {
            ("!", pairs) => *pairs = None,
            ("@", _) => case.name = Some(plain(rest)),
            ("=", Some(pairs)) => {
                let (key, value) = rest.split_once(' ').unwrap();
                pairs.insert(plain(key), plain(value));
            }
            _ => panic!("{line:?}"),
        }
    }
    cases
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next().unwrap() {
                's' => ' ',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'f' => '\x0c',
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                }
                other => other,
            },
            c => c,
        };
        plain.push(c);
    }
    plain
}
