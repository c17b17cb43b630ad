//! Command lines by hand: `--name value`, `--name=value` and flags.

use std::{
    env,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use klamm::StartAt;

/// What was typed wrong, for people.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// How a program ends that was called in the wrong way.
pub(crate) const USAGE_ERROR: u8 = 2;

/// Goes over the arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    left: std::vec::IntoIter<String>,
    /// Of `--name=value`.
    value: Option<String>,
}

impl Arguments {
    /// What the program was called with. Prints `help` and says how to end where that is all that was asked for.
    pub(crate) fn read(help: &str) -> std::result::Result<Self, ExitCode> {
        let mut arguments = Vec::new();
        for argument in env::args_os().skip(1) {
            match argument.into_string() {
                Ok(argument) => arguments.push(argument),
                Err(argument) => return Err(wrong(&format!("{} is not UTF-8", argument.to_string_lossy()))),
            }
        }
        if arguments
            .iter()
            .any(|argument| argument == "--help" || argument == "-h")
        {
            println!("{help}");
            return Err(ExitCode::SUCCESS);
        }
        Ok(Self {
            left: arguments.into_iter(),
            value: None,
        })
    }

    /// The next option's name.
    pub(crate) fn option(&mut self) -> Result<Option<String>> {
        if let Some(value) = self.value.take() {
            return Err(format!("unexpected value {value:?}: that option takes none"));
        }
        let Some(argument) = self.left.next() else {
            return Ok(None);
        };
        if !argument.starts_with("--") {
            return Err(format!("unexpected argument {argument:?}"));
        }
        Ok(Some(match argument.split_once('=') {
            Some((name, value)) => {
                self.value = Some(value.to_owned());
                name.to_owned()
            }
            None => argument,
        }))
    }

    /// The value of the option that was just read.
    pub(crate) fn value(&mut self, option: &str) -> Result<String> {
        let value = self.value.take().or_else(|| self.left.next());
        value.ok_or_else(|| format!("{option} needs a value"))
    }

    /// The same as a number, from 1.
    #[allow(dead_code, reason = "not every program counts")]
    pub(crate) fn number(&mut self, option: &str) -> Result<u64> {
        let text = self.value(option)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("{option} {text:?} is no number from 1 on"))
    }
}

/// Tells what was typed wrong.
pub(crate) fn wrong(what: &str) -> ExitCode {
    eprintln!("{what}\nTry --help.");
    ExitCode::from(USAGE_ERROR)
}

/// What `--from` means, for the help.
#[allow(dead_code, reason = "a group knows where to begin")]
pub(crate) const FROM: &str = "\
    earliest | latest | an OFFSET (in every partition) | a time ago, as -30s, -15m, -1h or -7d |
                        a point in time (UTC), as 2026-01-31, 2026-01-31T12:00:00Z or @1769860800";

/// Where to begin.
#[allow(dead_code, reason = "a group knows where to begin")]
pub(crate) fn start(text: &str) -> Result<StartAt> {
    let parsed = match text {
        "earliest" => Some(StartAt::Earliest),
        "latest" => Some(StartAt::Latest),
        _ => match text.as_bytes().first() {
            Some(b'-') => ago(&text[1..]).map(StartAt::Ago),
            Some(b'@') => text[1..].parse().ok().and_then(since_1970).map(StartAt::Timestamp),
            _ if text.contains('-') => point_in_time(text).map(StartAt::Timestamp),
            _ => text.parse().ok().map(StartAt::Offset),
        },
    };
    parsed.ok_or_else(|| format!("--from {text:?} is none of:\n    {FROM}"))
}

fn ago(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return None,
    };
    let count: u64 = text[..text.len() - 1].parse().ok()?;
    Some(Duration::from_secs(count.checked_mul(unit)?))
}

fn since_1970(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// A date, or a date and a time of day, in UTC.
fn point_in_time(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "0:0:0"));
    let [year, month, day] = numbers(date, '-')?;
    let time = if time.matches(':').count() == 1 {
        format!("{time}:0")
    } else {
        time.to_owned()
    };
    let [hour, minute, second] = numbers(&time, ':')?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let years = if month <= 2 { year - 1 } else { year };
    let months = (month + 9) % 12;
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - 719_468;
    since_1970(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}
