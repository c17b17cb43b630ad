//! One run of one program, and all runs of one contender.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{contenders, contenders::Contender, race, support::Process};

/// What a program has printed.
#[derive(Debug)]
pub(crate) struct Run(Map<String, Value>);

/// One, or beside busy partitions alone the same among idle ones.
pub(crate) type Turn = Vec<Run>;

/// All that a contender has done in a trial.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) name: String,
    /// Round by round.
    turns: Vec<Option<Turn>>,
    /// Why it was left out of those that are missing.
    pub(crate) failure: Option<String>,
}

impl Run {
    /// Waits for the program's end, or ends it.
    pub(crate) fn of(mut command: Command, messages: u64, limit: Duration, folder: &Path) -> Result<Self, String> {
        let [out, err] = ["out", "err"].map(|name| folder.join(name));
        let file = |path| File::create(path).expect("a file can be made");
        command.stdout(file(&out)).stderr(file(&err));
        let mut process = Process::start(&mut command);
        let Some(status) = process.wait(limit) else {
            process.kill();
            return Err(format!("not done within {} s", limit.as_secs()));
        };
        let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        if !status.success() {
            let said = read(&err);
            eprintln!("{command:?}: {status}\n{said}");
            return Err(last_words(&said).unwrap_or_else(|| status.to_string()));
        }
        let run: Map<String, Value> = serde_json::from_str(&read(&out)).map_err(|error| error.to_string())?;
        let run = Self(run);
        match run.number("messages") {
            handled if messages == 0 || handled == messages as f64 => Ok(run),
            handled => Err(format!("{handled} messages, not {messages}")),
        }
    }

    fn from_json(fields: &Value) -> Option<Self> {
        fields.as_object().cloned().map(Self)
    }

    /// Not a number, when it was not said.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }

    pub(crate) fn add(&mut self, name: &str, number: f64) {
        // What is no number is none in JSON.
        self.0.insert(name.to_owned(), number.into());
    }

    /// Millions of messages a second, from the creation of the client on.
    pub(crate) fn rate(&self) -> f64 {
        self.number("messages") / self.number("seconds") / 1e6
    }

    /// The same without what comes before the first.
    pub(crate) fn rate_behind_first(&self) -> f64 {
        self.number("messages") / (self.number("seconds") - self.number("first_seconds")) / 1e6
    }

    pub(crate) fn processor_seconds(&self) -> f64 {
        self.number("user_seconds") + self.number("system_seconds")
    }

    /// Of the processor, for a million messages.
    pub(crate) fn processor(&self) -> f64 {
        self.processor_seconds() / self.number("messages") * 1e6
    }

    pub(crate) fn peak_megabytes(&self) -> f64 {
        self.number("peak_bytes") / f64::from(1 << 20)
    }
}

impl Race {
    pub(crate) fn new(contender: &Contender, turns: Vec<Option<Turn>>, failure: Option<String>) -> Self {
        Self {
            name: contender.name.clone(),
            turns,
            failure,
        }
    }

    pub(crate) fn is_floor(&self) -> bool {
        contenders::is_floor(&self.name)
    }

    pub(crate) fn is_klamm(&self) -> bool {
        contenders::is_klamm(&self.name)
    }

    /// Not a number without any.
    pub(crate) fn median(&self, what: impl Fn(&Turn) -> f64) -> f64 {
        median(self.turns.iter().flatten().map(what).collect())
    }

    /// What it came to, as a multiple of what the other's came to in the same round.
    pub(crate) fn ratio(&self, other: &Self, what: impl Fn(&Turn) -> f64) -> f64 {
        let pairs = self.turns.iter().zip(&other.turns);
        let both = pairs.filter_map(|(mine, other)| Some((mine.as_ref()?, other.as_ref()?)));
        median(both.map(|(mine, other)| what(mine) / what(other)).collect())
    }

    /// A field that is the same in all runs.
    pub(crate) fn said(&self, name: &str) -> Option<&Value> {
        let run = self.turns.iter().flatten().next()?.first()?;
        run.0.get(name)
    }

    /// Everything, run by run.
    pub(crate) fn to_json(&self) -> Value {
        let runs = |turn: &Turn| turn.iter().map(|run| Value::Object(run.0.clone())).collect();
        let turns = self.turns.iter().map(|turn| turn.as_ref().map_or(Value::Null, runs));
        json!({"name": self.name, "turns": turns.collect::<Value>(), "failure": self.failure})
    }

    pub(crate) fn from_json(fields: &Value) -> Option<Self> {
        let runs = |turn: &Value| turn.as_array()?.iter().map(Run::from_json).collect();
        let failure = fields.get("failure").and_then(Value::as_str);
        Some(Self {
            name: fields.get("name")?.as_str()?.to_owned(),
            turns: fields.get("turns")?.as_array()?.iter().map(runs).collect(),
            failure: failure.map(str::to_owned),
        })
    }
}

fn median(values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    race::median(values)
}

/// The line that is most likely to tell why: what a panic says stands below where it was, and above a backtrace.
fn last_words(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let line = panic.and_then(|at| lines.get(at + 1)).or(lines.last())?;
    Some(line.chars().take(100).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_named_by_what_it_says() {
        let said = "\nthread 'main' panicked at src/bin/x.rs:1:2:\nno broker\nnote: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(last_words(said).as_deref(), Some("no broker"));
        assert_eq!(last_words("a hint\nthe reason\n").as_deref(), Some("the reason"));
        assert_eq!(last_words("\n"), None);
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let race = |rates: &[f64]| Race {
            name: String::new(),
            turns: rates
                .iter()
                .map(|&rate| (rate > 0.0).then(|| vec![run(rate)]))
                .collect(),
            failure: None,
        };
        let rate = |turn: &Turn| turn[0].rate();
        let (slow, fast) = (race(&[1.0, 4.0, 8.0]), race(&[2.0, 8.0, 0.0]));
        assert_eq!(slow.ratio(&fast, rate), 0.5);
        assert_eq!(slow.median(rate), 4.0);
        assert!(race(&[0.0]).ratio(&fast, rate).is_nan());
    }

    #[test]
    fn what_was_measured_is_read_again_as_it_was() {
        let race = Race {
            name: "klamm:group".to_owned(),
            turns: vec![Some(vec![run(1.0), run(2.0)]), None],
            failure: Some("no broker".to_owned()),
        };
        let again = Race::from_json(&race.to_json()).expect("a race");
        assert_eq!(format!("{again:?}"), format!("{race:?}"));
        assert!(again.is_klamm() && !again.is_floor());
    }

    fn run(rate: f64) -> Run {
        let fields = [("messages", rate * 1e6), ("seconds", 1.0)];
        Run(Map::from_iter(
            fields.map(|(name, value)| (name.to_owned(), value.into())),
        ))
    }
}
