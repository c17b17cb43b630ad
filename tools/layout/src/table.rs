//! The table as Rust.

use crate::{
    Result,
    definition::{Field, Kind, Message, Versions},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

/// What writes the table.
pub const COMMAND: &str = "cargo run -p layout -- kafka-clients-4.3.0.jar";

/// The whole file, formatted.
pub fn write(messages: &[Message]) -> Result<String> {
    let mut constants = String::new();
    let mut names = BTreeSet::new();
    let mut layouts = String::new();
    for message in messages {
        for (name, fields) in &message.structs {
            let constant = constant(message, name);
            if !names.insert(constant.clone()) {
                return Err(format!("two structs would be {constant}"));
            }
            write!(
                constants,
                "\nconst {constant}: &[Field] = &[{}];\n",
                list(message, fields)?
            )
            .expect("a String");
        }
        write!(
            layouts,
            "// {}\nLayout {{ api_key: {}, versions: {}, flexible: {}, fields: &[{}] }},",
            message.name,
            message.api_key,
            range(message.versions),
            range(message.flexible),
            list(message, &message.fields)?
        )
        .expect("a String");
    }
    formatted(&format!(
        "// Generated from Kafka's own message definitions by: {COMMAND}\n\n\
         use super::{{Field, Kind::*, Layout, NEVER, between, field, nullable, since, tagged}};\n\n\
         /// In the order of their API keys.\n\
         pub(super) static LAYOUTS: &[Layout] = &[{layouts}];\n{constants}"
    ))
}

fn list(message: &Message, fields: &[Field]) -> Result<String> {
    let mut list = String::new();
    for Field {
        name,
        versions,
        nullable,
        tag,
        kind,
    } in fields
    {
        let (versions, kind) = (range(*versions), kind_of(message, kind)?);
        match (tag, nullable) {
            (Some(tag), _) => write!(list, "tagged({name:?}, {versions}, {tag}, {kind}),"),
            (None, Some(_)) => write!(list, "nullable({name:?}, {versions}, {}, {kind}),", range(*nullable)),
            (None, None) => write!(list, "field({name:?}, {versions}, {kind}),"),
        }
        .expect("a String");
    }
    Ok(list)
}

fn kind_of(message: &Message, kind: &Kind) -> Result<String> {
    Ok(match kind {
        Kind::Fixed(size) => format!("Fixed({size})"),
        Kind::String => "String".into(),
        Kind::Bytes => "Bytes".into(),
        Kind::Array(element) => format!("Array(&{})", kind_of(message, element)?),
        Kind::Struct(name) if message.structs.contains_key(name) => format!("Struct({})", constant(message, name)),
        Kind::Struct(name) => return Err(format!("{}Response.json defines no {name}", message.name)),
    })
}

fn range(versions: Versions) -> String {
    match versions {
        None => "NEVER".into(),
        Some((from, i16::MAX)) => format!("since({from})"),
        Some((from, to)) => format!("between({from}, {to})"),
    }
}

/// `PartitionData` of Fetch is `FETCH_PARTITION_DATA`; `MetadataResponseTopic` of Metadata is `METADATA_TOPIC`.
fn constant(message: &Message, name: &str) -> String {
    let mut own = name;
    for word in [message.name.as_str(), "Response"] {
        let rest = own
            .strip_prefix(word)
            .filter(|rest| rest.starts_with(char::is_uppercase));
        own = rest.unwrap_or(own);
    }
    let mut constant = String::new();
    for char in format!("{}{own}", message.name).chars() {
        if char.is_uppercase() && !constant.is_empty() {
            constant.push('_');
        }
        constant.push(char.to_ascii_uppercase());
    }
    constant
}

/// Through rustfmt, with the settings of the tree.
fn formatted(code: &str) -> Result<String> {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let failed = |why: std::io::Error| format!("rustfmt cannot be used: {why}");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path", tree])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // All of it is read before anything is written back, so neither side can wait for the other.
    rustfmt
        .stdin
        .take()
        .expect("piped")
        .write_all(code.as_bytes())
        .map_err(failed)?;
    let output = rustfmt.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        return Err("rustfmt does not accept the table".into());
    }
    String::from_utf8(output.stdout).map_err(|why| why.to_string())
}
