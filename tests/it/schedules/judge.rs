//! Whether what was promised held: of the records that were written, and of those that were read.

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::records::RecordBatchDecoder;
use klamm_fake::FakeCluster;

use super::{member::Done, run::TOPIC, schedule::Schedule};
use crate::support::{self, Checker, Fault, History, Log, Logged, LoggedBatch, Look, Outcome, Promise, What};

/// All there is to judge by.
pub(crate) struct Seen<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) cluster: &'a FakeCluster,
    pub(crate) outcomes: Vec<Outcome>,
    /// Of the logs, when the group had read all there was. A record whose sender has given it up may come later.
    pub(crate) ends: Vec<i64>,
    pub(crate) done: Vec<Done>,
    pub(crate) looks: Vec<Look>,
}

pub(crate) fn complaints(seen: Seen<'_>) -> Vec<String> {
    let Seen {
        schedule,
        cluster,
        outcomes,
        ends,
        done,
        looks,
    } = seen;
    let logs = logs(cluster, schedule.partitions);
    let promise = Promise::delivery_timeout(schedule.delivery_timeout);
    let mut found = support::complaints(promise, &logs, &outcomes);
    let mut histories = Vec::new();
    for done in done {
        found.extend(done.complaints);
        for ((partition, offset), value) in done.read {
            let logged = logs[&partition].records.iter().find(|logged| logged.offset == offset);
            if logged.is_none_or(|logged| logged.value.as_bytes() != value) {
                found.push(format!(
                    "{value:?} was read at {offset} of {partition}, where {logged:?} is"
                ));
            }
        }
        histories.push(done.history);
    }
    let counts = logs.iter().map(|(partition, log)| (*partition, log.records.len()));
    let checker = Checker::of(histories).wrote_all(TOPIC, &counts.collect());
    found.extend(group_complaints(schedule, &checker, &looks, &ends));
    if !found.is_empty() {
        found.extend(stories(checker.history()));
    }
    found
}

fn group_complaints(schedule: &Schedule, checker: &Checker, looks: &[Look], ends: &[i64]) -> Vec<String> {
    let mut found = checker.history().failures();
    let mut committed = looks.last().map(|(_, committed)| committed.clone()).unwrap_or_default();
    committed.retain(|_, offset| *offset >= 0);
    let mut checks = vec![
        checker.only_what_was_written(),
        checker.loss().or_else(|fault| match fault {
            Fault::Loss { missing, .. }
                if missing
                    .iter()
                    .all(|(at, number)| *number >= ends[at.partition() as usize]) =>
            {
                Ok(())
            }
            fault => Err(fault),
        }),
        checker.order(),
        checker.one_at_a_time(),
        checker.gapless(),
        checker.commit_safety(&committed),
        checker.commit_completeness(&committed),
        checker.commits(looks),
    ];
    if !schedule.ends_sessions() {
        checks.push(checker.single_owner());
    }
    // Whose session has ended may hear of what was its own when it is somebody else's already: no commit can be told from
    // another one's.
    let looks = if schedule.ends_sessions() { &[] } else { looks };
    checks.push(checker.duplicates_of_uncommitted(looks));
    found.extend(
        checks
            .into_iter()
            .filter_map(Result::err)
            .map(|fault| fault.to_string()),
    );
    found
}

/// What else members have recorded, for whoever has to find out.
fn stories(history: &History) -> Vec<String> {
    let mut stories = Vec::new();
    for (member, lines) in &history.lines {
        let told = lines.iter().filter(|line| {
            !matches!(
                line.what,
                What::Begin { .. } | What::End { .. } | What::Acking { .. } | What::Acked { .. } | What::Committed
            )
        });
        let told: Vec<String> = told
            .map(|line| format!("\n    {}: {:?}", since(line.at, history), line.what))
            .collect();
        stories.push(format!("{member} tells:{}", told.concat()));
    }
    stories
}

/// Milliseconds from the first thing that anybody has recorded.
fn since(at: Duration, history: &History) -> u128 {
    let first = history.lines.values().flatten().map(|line| line.at).min();
    at.saturating_sub(first.unwrap_or(at)).as_millis()
}

/// What the brokers have stored, read by somebody else's code.
fn logs(cluster: &FakeCluster, partitions: i32) -> BTreeMap<i32, Log> {
    let logs = (0..partitions).map(|partition| (partition, log(cluster, partition)));
    logs.collect()
}

fn log(cluster: &FakeCluster, partition: i32) -> Log {
    let mut log = Log::default();
    for mut batch in cluster.batches(TOPIC, partition) {
        let records = RecordBatchDecoder::decode(&mut batch)
            .expect("brokers store what can be read")
            .records;
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            continue;
        };
        log.batches.push(LoggedBatch {
            base_offset: first.offset,
            last_offset: last.offset,
            count: records.len() as i64,
            base_sequence: first.sequence.into(),
            last_sequence: last.sequence.into(),
            producer_id: first.producer_id,
            epoch: first.producer_epoch.into(),
            codec: "none".to_owned(),
        });
        log.records.extend(records.iter().map(|record| Logged {
            offset: record.offset,
            value: String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned(),
        }));
    }
    log
}
