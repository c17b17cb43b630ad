//! Writes klamm's table of answer layouts from the message definitions that Kafka ships inside its client library.
//!
//!     cargo run -p layout -- kafka-clients-4.3.0.jar            writes src/wire/layout/table.rs
//!     cargo run -p layout -- kafka-clients-4.3.0.jar --check    exits 1 when the table in the tree differs
//!
//! Instead of the jar, a folder that holds its `common/message/` works too.

mod definition;
mod source;
mod table;

use std::{fs, path::PathBuf, process::ExitCode};

/// The APIs klamm speaks, by the names of Kafka's definitions.
const APIS: [&str; 34] = [
    "AddOffsetsToTxn",
    "AddPartitionsToTxn",
    "ApiVersions",
    "ConsumerGroupDescribe",
    "ConsumerGroupHeartbeat",
    "CreatePartitions",
    "CreateTopics",
    "DeleteGroups",
    "DeleteRecords",
    "DeleteTopics",
    "DescribeCluster",
    "DescribeConfigs",
    "DescribeGroups",
    "DescribeTopicPartitions",
    "EndTxn",
    "Fetch",
    "FindCoordinator",
    "Heartbeat",
    "IncrementalAlterConfigs",
    "InitProducerId",
    "JoinGroup",
    "LeaveGroup",
    "ListGroups",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetDelete",
    "OffsetFetch",
    "OffsetForLeaderEpoch",
    "Produce",
    "SaslAuthenticate",
    "SaslHandshake",
    "SyncGroup",
    "TxnOffsetCommit",
];

/// What can go wrong here is for a person to read, so a sentence is all an error needs to be.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "usage: layout <kafka-clients jar, or a folder with its common/message> [--check]";

fn main() -> ExitCode {
    match run() {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String> {
    let (flags, paths): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|arg| arg.starts_with('-'));
    let check = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => return Err(USAGE.into()),
    };
    let [definitions] = &paths[..] else {
        return Err(USAGE.into());
    };

    let texts = source::read(definitions.as_ref(), &APIS)?;
    let mut messages = texts
        .iter()
        .map(|(api, text)| definition::parse(text).map_err(|why| format!("{api}Response.json: {why}")))
        .collect::<Result<Vec<_>>>()?;
    messages.sort_by_key(|message| message.api_key);
    let fresh = table::write(&messages)?;

    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/wire/layout/table.rs"));
    let in_tree = fs::read_to_string(&path).unwrap_or_default();
    if fresh == in_tree {
        return Ok("src/wire/layout/table.rs is as Kafka's definitions say".into());
    }
    if check {
        return Err(format!(
            "src/wire/layout/table.rs is not what Kafka's definitions say, {}; write it anew with: {}",
            first_difference(&in_tree, &fresh),
            table::COMMAND
        ));
    }
    fs::write(&path, fresh).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok("wrote src/wire/layout/table.rs".into())
}

fn first_difference(in_tree: &str, fresh: &str) -> String {
    let mut pairs = in_tree.lines().zip(fresh.lines()).enumerate();
    match pairs.find(|(_, (old, new))| old != new) {
        Some((index, (old, new))) => {
            format!(
                "first in line {}, which is `{}` and should be `{}`",
                index + 1,
                old.trim(),
                new.trim()
            )
        }
        None => format!(
            "it has {} lines and should have {}",
            in_tree.lines().count(),
            fresh.lines().count()
        ),
    }
}
