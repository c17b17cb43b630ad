//! What came out, as Markdown.

use serde_json::Value;

use crate::{
    rows::{Kind, Trial},
    runs::{Race, Turn},
};

/// What contenders are compared by.
struct Measure {
    name: &'static str,
    of: fn(&Turn) -> f64,
    more_is_better: bool,
}

const RATE: Measure = Measure {
    name: "M msg/s",
    of: |turn| turn[0].rate(),
    more_is_better: true,
};
const PROCESSOR: Measure = less("CPU s/M", |turn| turn[0].processor());
const PEAK: Measure = less("peak MB", peak);
const MIDDLE: Measure = less("p50 µs", |turn| turn[0].number("p50_us"));
const LAST: Measure = less("p99 µs", |turn| turn[0].number("p99_us"));
const IDLE: Measure = less("CPU s", |turn| turn[0].processor_seconds());
const AMONG: Measure = Measure {
    name: "among of alone",
    of: |turn| turn[1].rate() / turn[0].rate(),
    more_is_better: true,
};
const AMONG_BEHIND_FIRST: Measure = Measure {
    name: "the same from the first message on",
    of: |turn| turn[1].rate_behind_first() / turn[0].rate_behind_first(),
    more_is_better: true,
};

const BESIDE: Measure = less("slowest p99, of without", |turn| slowest(turn, "p99"));
const BESIDE_MIDDLE: Measure = less("slowest p50, of without", |turn| slowest(turn, "p50"));

const fn less(name: &'static str, of: fn(&Turn) -> f64) -> Measure {
    Measure {
        name,
        of,
        more_is_better: false,
    }
}

/// Of the kinds of call that were measured: how many times as long they take beside a long poll.
fn slowest(turn: &Turn, percentile: &str) -> f64 {
    let calls = ["commit", "heartbeat", "metadata", "produce"];
    let ratios = calls.map(|call| beside(turn, call, percentile));
    ratios.into_iter().fold(f64::NAN, f64::max)
}

fn beside(turn: &Turn, call: &str, percentile: &str) -> f64 {
    let number = |prefix: &str| turn[0].number(&format!("{call}_{prefix}{percentile}_us"));
    number("") / number("without_")
}

fn peak(turn: &Turn) -> f64 {
    turn.iter().map(|run| run.peak_megabytes()).fold(f64::NAN, f64::max)
}

/// The two that the goals name.
fn measures(kind: Kind) -> [Measure; 2] {
    match kind {
        Kind::Read | Kind::Write => [RATE, PROCESSOR],
        Kind::Latency => [MIDDLE, LAST],
        Kind::Idle => [IDLE, PEAK],
        Kind::Neighbours(_) => [AMONG, AMONG_BEHIND_FIRST],
        Kind::LongPoll => [BESIDE, BESIDE_MIDDLE],
    }
}

/// Whether what is measured is a ratio already, of a client to itself.
fn is_ratio(kind: Kind) -> bool {
    matches!(kind, Kind::Neighbours(_) | Kind::LongPoll)
}

/// Whether it is about moments, not amounts: one is as slow as its processor, however many there are.
fn has_rate(kind: Kind) -> bool {
    matches!(kind, Kind::Read | Kind::Write | Kind::Neighbours(_))
}

/// Whether it says something how many times the floor's a figure is.
fn has_floor(kind: Kind) -> bool {
    matches!(kind, Kind::Read | Kind::Write | Kind::Latency)
}

// ---- one trial ----

/// Without a title.
pub(crate) fn of_trial(trial: &Trial, races: &[Race]) -> String {
    let floor = races.iter().find(|race| race.is_floor());
    let mut columns = vec!["".to_owned()];
    columns.extend(measures(trial.kind).map(|measure| measure.name.to_owned()));
    columns.extend(others(trial.kind).into_iter().map(|(name, _)| name.to_owned()));
    if has_floor(trial.kind) {
        columns.extend(measures(trial.kind).map(|measure| format!("{}, of the floor's", measure.name)));
    }
    columns.push(String::new());
    let lines = races.iter().map(|race| {
        let mut cells = vec![race.name.clone()];
        cells.extend(measures(trial.kind).map(|measure| short(race.median(measure.of))));
        cells.extend(others(trial.kind).into_iter().map(|(_, of)| short(race.median(of))));
        if let Some(floor) = floor.filter(|_| has_floor(trial.kind)) {
            cells.extend(measures(trial.kind).map(|measure| short(race.ratio(floor, measure.of))));
        }
        cells.push(remarks(trial, race));
        cells
    });
    let table = table(columns, lines);
    format!("{}\n\n{table}{}", about(trial), words(trial, races))
}

type Column = (&'static str, fn(&Turn) -> f64);

fn others(kind: Kind) -> Vec<Column> {
    let first: Column = ("first s", |turn| turn[0].number("first_seconds"));
    let peak: Column = (PEAK.name, PEAK.of);
    match kind {
        Kind::Read => vec![peak, first],
        Kind::Write => vec![peak],
        Kind::Latency => vec![(PROCESSOR.name, PROCESSOR.of), peak],
        Kind::Idle => vec![
            ("threads", |turn| turn[0].number("threads")),
            ("connections", |turn| turn[0].number("connections")),
        ],
        Kind::Neighbours(_) => vec![
            ("alone M msg/s", |turn| turn[0].rate()),
            ("among M msg/s", |turn| turn[1].rate()),
            ("among CPU s/M", |turn| turn[1].processor()),
            peak,
        ],
        Kind::LongPoll => vec![
            ("commit p99", |turn| beside(turn, "commit", "p99")),
            ("heartbeat p99", |turn| beside(turn, "heartbeat", "p99")),
            ("metadata p99", |turn| beside(turn, "metadata", "p99")),
            ("produce p99", |turn| beside(turn, "produce", "p99")),
            ("commit p99 µs", |turn| turn[0].number("commit_p99_us")),
            ("heartbeat p99 µs", |turn| turn[0].number("heartbeat_p99_us")),
            ("metadata p99 µs", |turn| turn[0].number("metadata_p99_us")),
            ("produce p99 µs", |turn| turn[0].number("produce_p99_us")),
            ("fetches waiting", |turn| turn[0].number("fetches_waiting")),
            ("without", |turn| turn[0].number("fetches_without_waiting")),
            ("calls of each", |turn| turn[0].number("calls")),
        ],
    }
}

fn about(trial: &Trial) -> String {
    let Trial {
        partitions,
        load,
        messages,
        seconds,
        work_ns,
        ..
    } = trial;
    let records = format!("{messages} records of {} bytes, {}", load.value_bytes, load.codec);
    match trial.kind {
        Kind::Read | Kind::Write => format!("{records}; partitions: {partitions}."),
        Kind::Latency => format!("{records}, in {seconds} s, through {partitions} partition."),
        Kind::Idle => format!("{seconds} s, {partitions} partitions."),
        Kind::Neighbours(all) => {
            format!(
                "{records}, in {partitions} of {partitions} partitions and of {all}; {work_ns} ns of work for each."
            )
        }
        Kind::LongPoll => format!(
            "{seconds} s of calls in turns, beside a Fetch that waits 10 s in the broker for {partitions} idle partitions, and \
             without; behind a proxy."
        ),
    }
}

/// What there is to say about a contender.
fn remarks(trial: &Trial, race: &Race) -> String {
    let text = |name: &str| race.said(name).and_then(Value::as_str).map(str::to_owned);
    let mut remarks = Vec::new();
    remarks.extend(text("version").filter(|version| !version.is_empty()));
    if race.said("idempotent") == Some(&Value::Bool(false)) {
        remarks.push("not idempotent".to_owned());
    }
    let messages = race.median(|turn| turn[0].number("messages"));
    if has_rate(trial.kind) && messages < trial.messages as f64 {
        remarks.push(format!("{messages} records"));
    }
    remarks.extend(text("note"));
    remarks.extend(race.failure.as_ref().map(|failure| format!("**left out: {failure}**")));
    remarks.join("; ").replace('|', "/")
}

/// How klamm did, when there is somebody to compare it with.
fn words(trial: &Trial, races: &[Race]) -> String {
    if is_ratio(trial.kind) {
        return String::new();
    }
    let measures = measures(trial.kind);
    let klamm = races.iter().filter(|race| race.is_klamm());
    let lines = klamm.map(|klamm| {
        let each = measures.iter().filter_map(|measure| {
            let best = best(races, measure)?;
            let ratio = short(klamm.ratio(best, measure.of));
            Some(format!("{}: {ratio} of the best peer's ({})", measure.name, best.name))
        });
        let each: Vec<_> = each.collect();
        if each.is_empty() {
            return String::new();
        }
        format!("\n{}, {}.\n", klamm.name, each.join("; "))
    });
    lines.collect()
}

/// Of the peers, by the median.
fn best<'a>(races: &'a [Race], measure: &Measure) -> Option<&'a Race> {
    let peers = races.iter().filter(|race| !race.is_floor() && !race.is_klamm());
    let known = peers.filter(|race| !race.median(measure.of).is_nan());
    let by = |race: &&Race| {
        let value = race.median(measure.of);
        if measure.more_is_better { -value } else { value }
    };
    known.min_by(|one, other| by(one).total_cmp(&by(other)))
}

// ---- all of them ----

/// Each in a line.
pub(crate) fn of_all(results: &[(Trial, Vec<Race>)]) -> String {
    let columns = [
        "",
        "of what",
        "floor",
        "klamm",
        "best peer",
        "klamm, of the floor's",
        "klamm, of the best peer's",
        "klamm's peak MB",
    ];
    let lines = results.iter().map(|(trial, races)| {
        let line = Line::new(trial, races);
        [
            trial.name.clone(),
            line.measured,
            line.floor,
            line.klamm,
            line.best,
            line.of_floor,
            line.of_best,
            line.peak,
        ]
    });
    table(columns.map(str::to_owned).into(), lines.map(Vec::from))
}

/// Whether whoever meets klamm for the first time is shown it: amounts and delays, which have a floor.
pub(crate) fn is_shown(trial: &Trial) -> bool {
    has_floor(trial.kind)
}

/// The same of what is shown to him.
pub(crate) fn of_most(results: &[(Trial, Vec<Race>)]) -> String {
    let columns = [
        "",
        "floor",
        "klamm",
        "best peer",
        "of the floor's",
        "of the best peer's",
        "peak memory",
    ];
    let shown = results.iter().filter(|(trial, _)| is_shown(trial));
    let lines = shown.map(|(trial, races)| {
        let line = Line::new(trial, races);
        [
            format!("`{}`", trial.name),
            line.floor,
            format!("**{}**", line.klamm),
            line.best,
            line.of_floor,
            line.of_best,
            format!("{} MB", line.peak),
        ]
    });
    table(columns.map(str::to_owned).into(), lines.map(Vec::from))
}

/// What there is to say in short: two figures in most cells.
struct Line {
    measured: String,
    floor: String,
    klamm: String,
    best: String,
    of_floor: String,
    of_best: String,
    peak: String,
}

impl Line {
    fn new(trial: &Trial, races: &[Race]) -> Self {
        let measures = measures(trial.kind);
        let floor = races.iter().find(|race| race.is_floor());
        let klamm = races.iter().find(|race| race.is_klamm());
        let both = |of: &dyn Fn(&Measure) -> String| measures.each_ref().map(of).join(" / ");
        let median = |race: &Race, measure: &Measure| short(race.median(measure.of));
        let medians = |race: Option<&Race>| both(&|measure| race.map_or_else(nothing, |race| median(race, measure)));
        let ratio = |other: Option<&Race>, measure: &Measure| {
            let ratio = klamm.zip(other).map(|(klamm, other)| klamm.ratio(other, measure.of));
            short(ratio.unwrap_or(f64::NAN))
        };
        Self {
            measured: both(&|measure| measure.name.to_owned()),
            floor: medians(floor),
            klamm: medians(klamm),
            best: both(&|measure| {
                let named = |best: &Race| format!("{} ({})", median(best, measure), best.name);
                best(races, measure).map_or_else(nothing, named)
            }),
            of_floor: both(&|measure| ratio(floor.filter(|_| has_floor(trial.kind)), measure)),
            of_best: both(&|measure| ratio(best(races, measure).filter(|_| !is_ratio(trial.kind)), measure)),
            peak: short(klamm.map_or(f64::NAN, |klamm| klamm.median(peak))),
        }
    }
}

// ---- text ----

/// As wide as its cells are, so that it can be read as it is.
fn table(columns: Vec<String>, lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut all = vec![columns];
    all.extend(lines);
    let width = |at: usize| all.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..all[0].len()).map(width).collect();
    let mut text = String::new();
    for (at, cells) in all.iter().enumerate() {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!(" {cell:<width$} |"));
        text += &format!("|{}\n", padded.collect::<String>());
        if at == 0 {
            let rules = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
            text += &format!("|{}\n", rules.collect::<String>());
        }
    }
    text
}

fn nothing() -> String {
    short(f64::NAN)
}

/// Three digits that count, or as many as there are before the point.
fn short(value: f64) -> String {
    match value {
        // Of nothing there is no multiple.
        value if !value.is_finite() => "–".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value if value.abs() >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let lines = [vec!["klamm".to_owned(), short(14.7251)]];
        let text = table(["".to_owned(), "M msg/s".to_owned()].into(), lines.into_iter());
        assert_eq!(text, "|       | M msg/s |\n|-------|---------|\n| klamm | 14.7    |\n");
    }

    #[test]
    fn numbers_have_three_digits() {
        let each = [2563.4, 14.7251, 1.0, 0.03519, f64::NAN, 1.0 / 0.0].map(short);
        assert_eq!(each, ["2563", "14.7", "1.00", "0.035", "–", "–"]);
    }
}
