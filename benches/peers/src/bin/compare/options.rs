//! What the command line says.

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::rows::Row;

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rows: Vec<&'static Row>,
    /// By name; `None` are the usual.
    pub(crate) peers: Option<Vec<String>>,
    pub(crate) tuned: bool,
    pub(crate) rounds: usize,
    pub(crate) messages: Option<u64>,
    pub(crate) seconds: Option<u64>,
    pub(crate) limit: Duration,
    pub(crate) bootstrap: Option<String>,
    pub(crate) json: Option<PathBuf>,
    /// What earlier runs have written with `json`.
    pub(crate) from: Vec<PathBuf>,
    /// Whether the documents are to say what came out.
    pub(crate) write: bool,
    /// No row begins later.
    pub(crate) deadline: Option<Duration>,
}

impl Options {
    pub(crate) fn new(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rows: Vec::new(),
            peers: None,
            tuned: false,
            rounds: 3,
            messages: None,
            seconds: None,
            limit: Duration::from_secs(180),
            bootstrap: None,
            json: None,
            from: Vec::new(),
            write: false,
            deadline: None,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--peers" => {
                    let names: String = value(&arg, args.next())?;
                    options.peers = Some(names.split(',').map(str::to_owned).collect());
                }
                "--tuned" => options.tuned = true,
                "--rounds" => options.rounds = value(&arg, args.next())?,
                "--messages" => options.messages = Some(value(&arg, args.next())?),
                "--seconds" => options.seconds = Some(value(&arg, args.next())?),
                "--limit" => options.limit = Duration::from_secs(value(&arg, args.next())?),
                "--bootstrap" => options.bootstrap = Some(value(&arg, args.next())?),
                "--json" => options.json = Some(value(&arg, args.next())?),
                "--from" => {
                    let files: String = value(&arg, args.next())?;
                    options.from = files.split(',').map(PathBuf::from).collect();
                }
                "--write" => options.write = true,
                "--deadline" => {
                    let minutes: u64 = value(&arg, args.next())?;
                    options.deadline = Some(Duration::from_secs(minutes * 60));
                }
                name => {
                    let row = Row::named(name).ok_or_else(|| format!("nothing is called {name:?}"))?;
                    options.rows.push(row);
                }
            }
        }
        // Who has measured already measures again only what he names.
        if options.rows.is_empty() && options.from.is_empty() {
            options.rows = Row::all().collect();
        }
        if options.rounds == 0 {
            return Err("no rounds, no medians".to_owned());
        }
        Ok(options)
    }
}

fn value<T: FromStr>(name: &str, given: Option<String>) -> Result<T, String> {
    let given = given.ok_or_else(|| format!("{name} needs a value"))?;
    given.parse().map_err(|_| format!("{name} cannot be {given:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        Options::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_rows_all_are_done() {
        let all = options("--rounds 5").expect("understood");
        assert_eq!((all.rows.len(), all.rounds), (Row::all().count(), 5));
        let some = options("read-lz4 --peers java,franz idle").expect("understood");
        assert_eq!(some.rows.len(), 2);
        let none = options("--from a.json,b.json --write").expect("understood");
        assert_eq!((none.rows.len(), none.from.len()), (0, 2));
        assert_eq!(some.peers.expect("given"), ["java", "franz"]);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for line in ["read-lz5", "--round 5", "--rounds", "--rounds x", "--rounds 0"] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
