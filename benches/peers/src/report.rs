//! The one line that a program prints.

use std::{
    env, fmt,
    process::{self, ExitCode},
};

use serde_json::{Map, Value};

use crate::Task;

/// What a task has cost: what the runner finds in the line by name.
#[derive(Debug, Default)]
#[must_use = "it is what the program was started for"]
pub struct Report(Map<String, Value>);

impl Report {
    /// Adds a field, such as `idempotent` or `note`. What is no number is left out.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        out.write_str(&line)
    }
}

/// A program's `main`: does what the command line says, and prints what came out.
///
/// A program that cannot do its work panics; what it then says goes to stderr.
pub fn run(peer: &str, version: &str, program: impl FnOnce(Task) -> Report) -> ExitCode {
    let task = match Task::new(env::args().skip(1)) {
        Ok(task) => task,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::from(2);
        }
    };
    let report = program(task).with("peer", peer).with("version", version);
    println!("{report}");
    ExitCode::SUCCESS
}

/// Ends the program: this client cannot do what it was told to, and is left out.
pub fn unsupported(why: &str) -> ! {
    eprintln!("unsupported: {why}");
    process::exit(3)
}

/// Of a package that this crate was built with.
#[must_use]
pub fn version_of(package: &str) -> String {
    let mut lines = include_str!("../Cargo.lock").lines();
    let name = format!("name = {package:?}");
    lines.find(|line| *line == name);
    let version = lines.next().and_then(|line| line.strip_prefix("version = "));
    version.map_or_else(String::new, |version| version.trim_matches('"').to_owned())
}
