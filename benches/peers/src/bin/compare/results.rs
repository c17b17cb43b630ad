//! All that was measured, with when and where: kept in a file from row to row, and read again from several.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use serde_json::{Map, Value, json};

use crate::{options::Options, rows::Trial, runs::Race, support::class_path};

#[derive(Debug, Default)]
pub(crate) struct Results {
    /// In the order of the table of rows.
    pub(crate) rows: Vec<(Trial, Vec<Race>)>,
    /// Of each row, under which circumstances.
    circumstances: Vec<String>,
}

impl Results {
    /// Of several files; what a later one has replaces what an earlier one has.
    pub(crate) fn read(files: &[impl AsRef<Path>]) -> Result<Self, String> {
        let mut results = Self::default();
        for file in files.iter().map(AsRef::as_ref) {
            let mut read = || {
                let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
                let rows: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                rows.iter().try_for_each(|row| results.add_json(row))
            };
            read().map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(results)
    }

    fn add_json(&mut self, row: &Value) -> Result<(), String> {
        let trial = Trial::from_json(row).ok_or("a row that is not known, or none that `--json` has written")?;
        let races = row.get("contenders").and_then(Value::as_array);
        let races = races.and_then(|races| races.iter().map(Race::from_json).collect());
        let circumstances = row.get("circumstances").and_then(Value::as_str);
        let (races, circumstances) = races.zip(circumstances).ok_or("a row without runs")?;
        self.add(trial, races, circumstances);
        Ok(())
    }

    pub(crate) fn add(&mut self, trial: Trial, races: Vec<Race>, circumstances: &str) {
        if let Some(at) = self.rows.iter().position(|(known, _)| known.name == trial.name) {
            self.rows.remove(at);
            self.circumstances.remove(at);
        }
        let before = |(known, _): &(Trial, Vec<Race>)| known.place() <= trial.place();
        let at = self.rows.partition_point(before);
        self.rows.insert(at, (trial, races));
        self.circumstances.insert(at, circumstances.to_owned());
    }

    /// Whole at any time, should the machine not live to see the end.
    pub(crate) fn write(&self, file: &Path) {
        let rows = self.rows.iter().zip(&self.circumstances);
        let rows = rows.map(|((trial, races), circumstances)| {
            let mut row: Map<String, Value> = trial.to_json();
            let races: Vec<_> = races.iter().map(Race::to_json).collect();
            row.insert("contenders".to_owned(), races.into());
            row.insert("circumstances".to_owned(), circumstances.clone().into());
            Value::Object(row)
        });
        let text = serde_json::to_string_pretty(&json!(rows.collect::<Vec<_>>())).expect("numbers and names");
        let next = file.with_extension("next");
        let written = fs::write(&next, text).and_then(|()| fs::rename(&next, file));
        written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// When, where and how often; if not all of these rows agree, with their names.
    pub(crate) fn circumstances(&self, of: impl Fn(&Trial) -> bool) -> String {
        let mut told: Vec<(&str, Vec<String>)> = Vec::new();
        let rows = self.rows.iter().zip(&self.circumstances);
        for ((trial, _), circumstances) in rows.filter(|((trial, _), _)| of(trial)) {
            let name = format!("`{}`", trial.name);
            match told.iter_mut().find(|(known, _)| known == circumstances) {
                Some((_, names)) => names.push(name),
                None => told.push((circumstances, vec![name])),
            }
        }
        if let [(circumstances, _)] = &told[..] {
            return format!("{circumstances}.");
        }
        let each = told
            .iter()
            .map(|(circumstances, names)| format!("- {}: {circumstances}.", names.join(", ")));
        each.collect::<Vec<_>>().join("\n")
    }

    /// Who cannot be missing, and is, and where.
    pub(crate) fn missed(&self) -> Vec<String> {
        let races = self
            .rows
            .iter()
            .flat_map(|(trial, races)| races.iter().map(move |race| (trial, race)));
        let needed = races.filter(|(_, race)| race.is_floor() || race.is_klamm());
        let failed = needed.filter_map(|(trial, race)| {
            let failure = race.failure.as_ref()?;
            Some(format!("{}: {}: {failure}", trial.name, race.name))
        });
        failed.collect()
    }
}

/// Those of rows that are measured now.
pub(crate) fn circumstances(options: &Options) -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let machine = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let machine = machine
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let versions = [
        Some(format!("Kafka {} on the same machine", kafka())),
        said("rustc", &["--version"]).and_then(|said| word(&said, 1).map(|version| format!("rustc {version}"))),
        said("go", &["env", "GOVERSION"]).map(|version| version.replace("go", "Go ")),
        said("java", &["--version"]).and_then(|said| word(&said, 1).map(|version| format!("OpenJDK {version}"))),
    ];
    let versions: Vec<_> = versions.into_iter().flatten().collect();
    let rounds = match options.rounds {
        1 => "1 round".to_owned(),
        rounds => format!("{rounds} rounds"),
    };
    let settings = if options.tuned {
        "default settings, and `tuned` ones for throughput"
    } else {
        "default settings"
    };
    format!(
        "medians of {rounds} on {}; {cores} cores of an {}; {}; {settings}",
        said("date", &["+%F"]).unwrap_or_default(),
        machine.map_or("unknown processor", |(_, name)| name),
        versions.join(", "),
    )
}

/// As its jar is called.
fn kafka() -> String {
    let jar = class_path().split("kafka-clients-").nth(1).unwrap_or_default();
    if let Some((version, _)) = jar.split_once(".jar") {
        return version.to_owned();
    }
    "?".to_owned()
}

/// The first line.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().next().map(str::to_owned)
}

fn word(line: &str, at: usize) -> Option<String> {
    line.split_whitespace().nth(at).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(trial: &str, circumstances: &str, failure: Option<&str>) -> Value {
        json!({
            "trial": trial, "messages": 7, "seconds": 0, "work_ns": 0, "circumstances": circumstances,
            "contenders": [{"name": "klamm", "turns": [null], "failure": failure}],
        })
    }

    fn results(rows: &[Value]) -> Results {
        let mut results = Results::default();
        rows.iter()
            .for_each(|row| results.add_json(row).expect("what `write` writes"));
        results
    }

    #[test]
    fn rows_stand_in_their_order_and_later_ones_replace_earlier_ones() {
        let rows = [
            row("latency", "a", None),
            row("read-lz4", "a", Some("it hung")),
            row("read-lz4", "b", None),
        ];
        let results = results(&rows);
        let names: Vec<_> = results.rows.iter().map(|(trial, _)| &trial.name[..]).collect();
        assert_eq!(names, ["read-lz4", "latency"]);
        assert_eq!(results.circumstances(|_| true), "- `read-lz4`: b.\n- `latency`: a.");
        assert!(results.missed().is_empty());
    }

    #[test]
    fn what_klamm_does_not_do_is_missed() {
        let results = results(&[row("idle", "a", Some("it hung"))]);
        assert_eq!(results.missed(), ["idle: klamm: it hung"]);
        assert_eq!(results.circumstances(|trial| trial.name == "idle"), "a.");
    }

    #[test]
    fn a_row_that_is_gone_is_named() {
        assert!(Results::default().add_json(&row("read-lz5", "a", None)).is_err());
        assert!(Results::default().add_json(&json!({"row": "read-lz4"})).is_err());
    }
}
