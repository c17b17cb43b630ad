//! The settings of topics: Kafka 4.3's, with their defaults. Only some of them change anything here.

/// What a value must be; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Kind,
    /// The values it may have, if they can be counted.
    choices: &'static [&'static str],
}

const fn setting(name: &'static str, default: &'static str, kind: Kind) -> Setting {
    let choices = &[];
    Setting {
        name,
        default,
        kind,
        choices,
    }
}

const fn choice(name: &'static str, default: &'static str, kind: Kind, choices: &'static [&'static str]) -> Setting {
    Setting {
        name,
        default,
        kind,
        choices,
    }
}

/// By name.
pub(crate) const SETTINGS: &[Setting] = &[
    choice("cleanup.policy", "delete", Kind::List, &["compact", "delete"]),
    setting("compression.gzip.level", "-1", Kind::Int),
    setting("compression.lz4.level", "9", Kind::Int),
    choice(
        "compression.type",
        "producer",
        Kind::String,
        &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
    ),
    setting("compression.zstd.level", "3", Kind::Int),
    setting("delete.retention.ms", "86400000", Kind::Long),
    setting("file.delete.delay.ms", "60000", Kind::Long),
    setting("flush.messages", "9223372036854775807", Kind::Long),
    setting("flush.ms", "9223372036854775807", Kind::Long),
    setting("follower.replication.throttled.replicas", "", Kind::List),
    setting("index.interval.bytes", "4096", Kind::Int),
    setting("leader.replication.throttled.replicas", "", Kind::List),
    setting("local.retention.bytes", "-2", Kind::Long),
    setting("local.retention.ms", "-2", Kind::Long),
    setting("max.compaction.lag.ms", "9223372036854775807", Kind::Long),
    setting("max.message.bytes", "1048588", Kind::Int),
    setting("message.timestamp.after.max.ms", "3600000", Kind::Long),
    setting("message.timestamp.before.max.ms", "9223372036854775807", Kind::Long),
    choice(
        "message.timestamp.type",
        "CreateTime",
        Kind::String,
        &["CreateTime", "LogAppendTime"],
    ),
    setting("min.cleanable.dirty.ratio", "0.5", Kind::Double),
    setting("min.compaction.lag.ms", "0", Kind::Long),
    setting("min.insync.replicas", "1", Kind::Int),
    setting("preallocate", "false", Kind::Boolean),
    setting("remote.log.copy.disable", "false", Kind::Boolean),
    setting("remote.log.delete.on.disable", "false", Kind::Boolean),
    setting("remote.storage.enable", "false", Kind::Boolean),
    setting("retention.bytes", "-1", Kind::Long),
    setting("retention.ms", "604800000", Kind::Long),
    setting("segment.bytes", "1073741824", Kind::Int),
    setting("segment.index.bytes", "10485760", Kind::Int),
    setting("segment.jitter.ms", "0", Kind::Long),
    setting("segment.ms", "604800000", Kind::Long),
    setting("unclean.leader.election.enable", "false", Kind::Boolean),
];

/// What Kafka says to a value that cannot be.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    let refuse = |why: String| Err(format!("Invalid value {value} for configuration {name}: {why}"));
    let number = match setting.kind {
        Kind::Boolean if !matches!(value, "true" | "false") => {
            return refuse("Expected value to be either true or false".to_owned());
        }
        Kind::Double if value.parse::<f64>().is_err() => return refuse("Not a number of type DOUBLE".to_owned()),
        Kind::Int => value.parse::<i32>().map(i64::from).map_err(|_| "INT"),
        Kind::Long => value.parse::<i64>().map_err(|_| "LONG"),
        _ => Ok(0),
    };
    match number {
        Err(kind) => return refuse(format!("Not a number of type {kind}")),
        Ok(number) if number < 0 && !setting.default.starts_with('-') => {
            return refuse("Value must be at least 0".to_owned());
        }
        Ok(_) => {}
    }
    let known = |value: &str| setting.choices.is_empty() || setting.choices.contains(&value);
    let is_known = match setting.kind {
        Kind::List => value.split(',').map(str::trim).all(known),
        _ => known(value),
    };
    if is_known {
        Ok(())
    } else {
        refuse(format!("String must be one of: {}", setting.choices.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_can_be_set() {
        for setting in SETTINGS {
            assert_eq!(check(setting.name, setting.default), Ok(()));
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused_in_kafka_s_words() {
        let refused = |name, value| check(name, value).unwrap_err();
        assert_eq!(refused("nonsense", "1"), "Unknown topic config name: nonsense");
        assert_eq!(
            refused("retention.ms", "abc"),
            "Invalid value abc for configuration retention.ms: Not a number of type LONG"
        );
        assert_eq!(
            refused("cleanup.policy", "zip"),
            "Invalid value zip for configuration cleanup.policy: String must be one of: compact, delete"
        );
        assert_eq!(
            refused("max.message.bytes", "-5"),
            "Invalid value -5 for configuration max.message.bytes: Value must be at least 0"
        );
        assert_eq!(check("cleanup.policy", "compact, delete"), Ok(()));
    }
}
