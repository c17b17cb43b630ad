//! Regular expressions that members subscribe with: as much of RE2's syntax as names of topics ask for.
//!
//! Literals, `.`, classes with ranges, `\d \w \s` and their opposites, groups, `|`, `* + ? {m,n}` and anchors. Anything
//! else is refused, as Kafka refuses what RE2 does not know. A whole name has to match.

use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    source: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Any,
    /// One of these ranges, or none of them.
    Class {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
    Start,
    End,
    Sequence(Vec<Self>),
    Either(Vec<Self>),
    Repeat {
        node: Box<Self>,
        least: usize,
        most: Option<usize>,
    },
}

impl Pattern {
    /// `None` if it is no regular expression, or one that is not known here.
    pub(super) fn parse(source: &str) -> Option<Self> {
        let mut parser = Parser {
            rest: source.chars().collect::<Vec<_>>(),
            at: 0,
            depth: 0,
        };
        let root = parser.either()?;
        (parser.at == parser.rest.len()).then(|| Self {
            source: source.to_owned(),
            root,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.source
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.root.ends(&name, &BTreeSet::from([0])).contains(&name.len())
    }
}

impl Node {
    /// Where a match may end that begins at one of these places. All at once, so that no pattern takes for ever.
    fn ends(&self, name: &[char], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        match self {
            Self::Any => one_further(name, starts, |_| true),
            Self::Class { ranges, is_negated } => {
                let is_in = |c: char| ranges.iter().any(|(first, last)| (*first..=*last).contains(&c));
                one_further(name, starts, |c| is_in(c) != *is_negated)
            }
            Self::Start => starts.iter().copied().filter(|at| *at == 0).collect(),
            Self::End => starts.iter().copied().filter(|at| *at == name.len()).collect(),
            Self::Sequence(nodes) => nodes
                .iter()
                .fold(starts.clone(), |starts, node| node.ends(name, &starts)),
            Self::Either(nodes) => nodes.iter().flat_map(|node| node.ends(name, starts)).collect(),
            Self::Repeat { node, least, most } => node.repeated(name, starts, *least, *most),
        }
    }

    fn repeated(&self, name: &[char], starts: &BTreeSet<usize>, least: usize, most: Option<usize>) -> BTreeSet<usize> {
        let mut reached = (0..least).fold(starts.clone(), |starts, _| self.ends(name, &starts));
        let mut ends = reached.clone();
        let mut count = least;
        while most.is_none_or(|most| count < most) {
            let further: BTreeSet<usize> = self.ends(name, &reached).difference(&ends).copied().collect();
            if further.is_empty() {
                break;
            }
            ends.extend(&further);
            reached = further;
            count += 1;
        }
        ends
    }
}

fn one_further(name: &[char], starts: &BTreeSet<usize>, fits: impl Fn(char) -> bool) -> BTreeSet<usize> {
    starts
        .iter()
        .filter(|at| name.get(**at).is_some_and(|c| fits(*c)))
        .map(|at| at + 1)
        .collect()
}

struct Parser {
    rest: Vec<char>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn either(&mut self) -> Option<Node> {
        let mut branches = vec![self.sequence()?];
        while self.eat('|') {
            branches.push(self.sequence()?);
        }
        Some(if branches.len() == 1 {
            branches.remove(0)
        } else {
            Node::Either(branches)
        })
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(next) = self.peek() {
            if next == '|' || next == ')' {
                break;
            }
            let node = self.atom()?;
            nodes.push(self.repetition(node)?);
        }
        Some(Node::Sequence(nodes))
    }

    fn atom(&mut self) -> Option<Node> {
        match self.next()? {
            '.' => Some(Node::Any),
            '^' => Some(Node::Start),
            '$' => Some(Node::End),
            '(' => self.group(),
            '[' => self.class(),
            '\\' => self.escape(),
            '*' | '+' | '?' | '{' | ')' => None,
            literal => Some(class(vec![(literal, literal)])),
        }
    }

    fn group(&mut self) -> Option<Node> {
        self.depth += 1;
        let is_sane = self.depth <= DEEPEST && (!self.eat('?') || self.eat(':'));
        let node = if is_sane { self.either()? } else { return None };
        self.depth -= 1;
        self.eat(')').then_some(node)
    }

    fn class(&mut self) -> Option<Node> {
        let is_negated = self.eat('^');
        let mut ranges = Vec::new();
        loop {
            let first = match self.next()? {
                ']' if !ranges.is_empty() => break,
                '\\' => match self.escape()? {
                    Node::Class {
                        ranges: escaped,
                        is_negated: false,
                    } if escaped.len() > 1 || escaped[0].0 != escaped[0].1 => {
                        ranges.extend(escaped);
                        continue;
                    }
                    Node::Class {
                        ranges: escaped,
                        is_negated: false,
                    } => escaped[0].0,
                    _ => return None,
                },
                first => first,
            };
            let is_range = self.peek() == Some('-') && self.rest.get(self.at + 1).is_some_and(|c| *c != ']');
            let last = if is_range {
                self.next()?;
                self.next()?
            } else {
                first
            };
            if last < first {
                return None;
            }
            ranges.push((first, last));
        }
        Some(Node::Class { ranges, is_negated })
    }

    fn escape(&mut self) -> Option<Node> {
        let escaped = self.next()?;
        let ranges = match escaped.to_ascii_lowercase() {
            'd' => vec![('0', '9')],
            'w' => vec![('0', '9'), ('a', 'z'), ('A', 'Z'), ('_', '_')],
            's' => vec![(' ', ' '), ('\t', '\r')],
            _ if escaped.is_ascii_alphanumeric() => return None,
            _ => vec![(escaped, escaped)],
        };
        Some(Node::Class {
            ranges,
            is_negated: escaped.is_ascii_uppercase(),
        })
    }

    fn repetition(&mut self, node: Node) -> Option<Node> {
        let (least, most) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => return self.counted(node),
            _ => return Some(node),
        };
        self.at += 1;
        // Lazy ones match the same names.
        self.eat('?');
        Some(Node::Repeat {
            node: Box::new(node),
            least,
            most,
        })
    }

    fn counted(&mut self, node: Node) -> Option<Node> {
        self.at += 1;
        let least = self.number()?;
        let most = match self.next()? {
            '}' => Some(least),
            ',' if self.eat('}') => None,
            ',' => {
                let most = self.number()?;
                self.eat('}').then_some(Some(most))?
            }
            _ => return None,
        };
        self.eat('?');
        let is_sane = most.is_none_or(|most| least <= most);
        is_sane.then(|| Node::Repeat {
            node: Box::new(node),
            least,
            most,
        })
    }

    /// As RE2: no more than a thousand times.
    fn number(&mut self) -> Option<usize> {
        let digits: String = self.rest[self.at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        self.at += digits.len();
        digits.parse().ok().filter(|number| *number <= 1000)
    }

    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn eat(&mut self, expected: char) -> bool {
        let is_next = self.peek() == Some(expected);
        self.at += usize::from(is_next);
        is_next
    }
}

fn class(ranges: Vec<(char, char)>) -> Node {
    Node::Class {
        ranges,
        is_negated: false,
    }
}

/// Groups in groups: the parser calls itself for each.
const DEEPEST: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern)
            .unwrap_or_else(|| panic!("{pattern} is one"))
            .matches(name)
    }

    #[test]
    fn a_whole_name_has_to_match() {
        assert!(matches("orders", "orders"));
        assert!(!matches("order", "orders"));
        assert!(!matches("rders", "orders"));
        assert!(matches("^orders$", "orders"));
    }

    #[test]
    fn the_usual_syntax_is_understood() {
        assert!(matches("orders-.*", "orders-eu") && matches("orders-.*", "orders-"));
        assert!(matches("(eu|us)[-_.]v\\d+", "us.v12") && !matches("(eu|us)[-_.]v\\d+", "us.v"));
        assert!(matches("[^_].{2,4}", "abc") && !matches("[^_].{2,4}", "_bc") && !matches("[^_].{2,4}", "ab"));
        assert!(matches("a{3}", "aaa") && !matches("a{3}", "aaaa"));
        assert!(matches("(?:a|b)?c", "c") && matches("(?:a|b)?c", "bc"));
        assert!(matches("a\\.b", "a.b") && !matches("a\\.b", "axb"));
        assert!(matches("[\\w.]+", "a_1.b") && !matches("\\W", "a"));
        assert!(matches("", "") && matches("a||b", ""));
    }

    #[test]
    fn what_is_none_is_refused() {
        for pattern in [
            "(", ")", "[", "[]", "*", "a**", "a{2,1}", "a{1001}", "\\q", "(?=a)", "a{", "[z-a]", "\\",
        ] {
            assert_eq!(Pattern::parse(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!matches("(a*)*(a*)*(a|aa)+b", &"a".repeat(249)));
        assert_eq!(Pattern::parse(&"(".repeat(100_000)), None);
    }
}
