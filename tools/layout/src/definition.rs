//! What one of Kafka's definitions says about bytes.

use crate::Result;
use serde_json::Value;
use std::collections::BTreeMap;

/// A range of versions, both ends included; `None` where there is no version at all.
pub type Versions = Option<(i16, i16)>;

/// The answer of one API.
pub struct Message {
    pub api_key: i16,
    /// The API's name: `Fetch`.
    pub name: String,
    pub versions: Versions,
    pub flexible: Versions,
    pub fields: Vec<Field>,
    /// Every struct that a field names. Names are unique within a message.
    pub structs: BTreeMap<String, Vec<Field>>,
}

pub struct Field {
    pub name: String,
    pub versions: Versions,
    pub nullable: Versions,
    pub tag: Option<u32>,
    pub kind: Kind,
}

pub enum Kind {
    Fixed(u8),
    String,
    /// Records too: the same lengths in front.
    Bytes,
    Array(Box<Self>),
    Struct(String),
}

pub fn parse(text: &str) -> Result<Message> {
    let json: Value = serde_json::from_str(text).map_err(|why| why.to_string())?;
    let name = string(&json, "name")?;
    let mut structs = BTreeMap::new();
    for shared in json["commonStructs"].as_array().into_iter().flatten() {
        collect(&string(shared, "name")?, &shared["fields"], &mut structs)?;
    }
    let api_key = json["apiKey"].as_i64().ok_or("no apiKey")?;
    Ok(Message {
        api_key: i16::try_from(api_key).map_err(|_| "apiKey is out of range")?,
        name: name
            .strip_suffix("Response")
            .ok_or_else(|| format!("{name} is no response"))?
            .to_owned(),
        versions: versions(&json, "validVersions")?,
        flexible: versions(&json, "flexibleVersions")?,
        fields: fields(&json["fields"], &mut structs)?,
        structs,
    })
}

fn collect(name: &str, json: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Result<()> {
    let fields = fields(json, structs)?;
    match structs.insert(name.to_owned(), fields) {
        None => Ok(()),
        Some(_) => Err(format!("two structs have the name {name}")),
    }
}

fn fields(json: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Result<Vec<Field>> {
    let list = json.as_array().ok_or("a struct without fields")?;
    list.iter()
        .map(|json| {
            let name = string(json, "name")?;
            field(name.clone(), json, structs).map_err(|why| format!("{name}: {why}"))
        })
        .collect()
}

fn field(name: String, json: &Value, structs: &mut BTreeMap<String, Vec<Field>>) -> Result<Field> {
    let kind = kind(&string(json, "type")?)?;
    if let (Kind::Struct(of), true) = (innermost(&kind), json.get("fields").is_some()) {
        collect(of, &json["fields"], structs)?;
    }
    let present = versions(json, "versions")?;
    let nullable = versions(json, "nullableVersions")?;
    let tag = match json.get("tag") {
        None => None,
        Some(tag) => Some(
            tag.as_u64()
                .and_then(|tag| u32::try_from(tag).ok())
                .ok_or("an odd tag")?,
        ),
    };
    // The table has no words for what no answer uses. Whoever meets one of these sentences adds the word.
    if tag.is_some() && versions(json, "taggedVersions")? != present {
        return Err("it is tagged in some of its versions only".into());
    }
    if tag.is_some() && nullable.is_some() {
        return Err("it is tagged and nullable".into());
    }
    if json.get("flexibleVersions").is_some() {
        return Err("its encoding differs from its message's".into());
    }
    Ok(Field {
        name,
        versions: present,
        nullable,
        tag,
        kind,
    })
}

fn kind(name: &str) -> Result<Kind> {
    Ok(match name {
        "bool" | "int8" => Kind::Fixed(1),
        "int16" | "uint16" => Kind::Fixed(2),
        "int32" | "uint32" => Kind::Fixed(4),
        "int64" | "float64" => Kind::Fixed(8),
        "uuid" => Kind::Fixed(16),
        "string" => Kind::String,
        "bytes" | "records" => Kind::Bytes,
        _ => match name.strip_prefix("[]") {
            Some(element) => Kind::Array(Box::new(kind(element)?)),
            None if name.starts_with(char::is_uppercase) => Kind::Struct(name.to_owned()),
            None => return Err(format!("the type {name} is not known")),
        },
    })
}

fn innermost(kind: &Kind) -> &Kind {
    match kind {
        Kind::Array(element) => innermost(element),
        other => other,
    }
}

/// Kafka writes `3`, `3-7`, `3+` and `none`.
fn versions(json: &Value, key: &str) -> Result<Versions> {
    let Some(text) = json.get(key) else {
        return Ok(None);
    };
    let text = text.as_str().ok_or_else(|| format!("{key} is no text"))?;
    let number = |text: &str| text.parse::<i16>().map_err(|_| format!("{key} is `{text}`"));
    Ok(match (text, text.strip_suffix('+'), text.split_once('-')) {
        ("none", ..) => None,
        (_, Some(from), _) => Some((number(from)?, i16::MAX)),
        (_, _, Some((from, to))) => Some((number(from)?, number(to)?)),
        _ => Some((number(text)?, number(text)?)),
    })
}

fn string(json: &Value, key: &str) -> Result<String> {
    let text = json[key].as_str().ok_or_else(|| format!("{key} is missing"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(field: &str) -> Result<Message> {
        parse(&format!(
            r#"{{"apiKey": 1, "name": "AResponse", "validVersions": "0-3", "flexibleVersions": "2+", "fields": [{field}]}}"#
        ))
    }

    #[test]
    fn versions_are_read_in_all_four_forms() {
        let read = |text: &str| versions(&serde_json::json!({ "v": text }), "v");
        assert_eq!(read("3"), Ok(Some((3, 3))));
        assert_eq!(read("3-7"), Ok(Some((3, 7))));
        assert_eq!(read("3+"), Ok(Some((3, i16::MAX))));
        assert_eq!(read("none"), Ok(None));
        assert!(read("three").is_err());
    }

    #[test]
    fn a_struct_is_found_where_its_field_defines_it() {
        let field = r#"{"name": "F", "type": "[]B", "versions": "0+",
                        "fields": [{"name": "G", "type": "uuid", "versions": "1+"}]}"#;
        let message = message(field).unwrap();
        assert_eq!(message.name, "A");
        assert!(matches!(&message.structs["B"][0].kind, Kind::Fixed(16)));
    }

    #[test]
    fn what_the_table_cannot_say_is_refused() {
        for more in [
            r#""tag": 0, "taggedVersions": "3+""#,
            r#""tag": 0, "taggedVersions": "2+", "nullableVersions": "2+""#,
            r#""flexibleVersions": "none""#,
        ] {
            let field = format!(r#"{{"name": "F", "type": "string", "versions": "2+", {more}}}"#);
            assert!(message(&field).is_err(), "{more}");
        }
        assert!(message(r#"{"name": "F", "type": "varint", "versions": "2+"}"#).is_err());
    }
}
