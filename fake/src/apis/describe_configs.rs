//! DescribeConfigs: the settings of topics, and some of the brokers'.

use kafka_protocol::{
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym},
    },
    protocol::StrBytes,
};

use super::{Context, Refused, refused};
use crate::{
    error_code::{INVALID_REQUEST, INVALID_TOPIC_EXCEPTION, UNKNOWN_TOPIC_OR_PARTITION},
    state::State,
    topic::is_valid_name,
    topic_configs::{Kind, SETTINGS},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from.
const FROM_TOPIC: i8 = 1;
const FROM_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;

pub(crate) fn answer(state: &State, context: &Context<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let with_synonyms = request.include_synonyms;
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
        let result = match describe(state, context, &resource) {
            Ok(configs) => {
                let wanted = configs.into_iter().filter(|config| {
                    let keys = resource.configuration_keys.as_ref();
                    keys.is_none_or(|keys| keys.is_empty() || keys.contains(&config.name))
                });
                let wanted = wanted.map(|config| if with_synonyms { synonyms(config) } else { config });
                result.with_configs(wanted.collect())
            }
            Err(refused) => result
                .with_error_code(refused.code)
                .with_error_message(Some(refused.message)),
        };
        result.with_resource_name(resource.resource_name)
    });
    DescribeConfigsResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_results(results.collect())
}

fn describe(
    state: &State,
    context: &Context<'_>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    context.check_fault().map_err(|code| refused(code, ""))?;
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC if !is_valid_name(name) => Err(refused(INVALID_TOPIC_EXCEPTION, "Topic name is invalid")),
        TOPIC => {
            let topic = state
                .topics
                .get(name)
                .ok_or_else(|| refused(UNKNOWN_TOPIC_OR_PARTITION, ""))?;
            let settings = SETTINGS.iter().map(|setting| match topic.config(setting.name) {
                Some(value) => config(setting.name, value.to_owned(), setting.kind, FROM_TOPIC),
                None => config(
                    setting.name,
                    default(state, setting.name, setting.default),
                    setting.kind,
                    FROM_DEFAULT,
                ),
            });
            Ok(settings.collect())
        }
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if name == context.caller.node.to_string() => Ok(of_broker(state, name)),
        BROKER => {
            let why = format!(
                "Unexpected broker id, expected {} or empty string, but received {name}",
                context.caller.node
            );
            Err(refused(INVALID_REQUEST, why))
        }
        other => Err(refused(INVALID_REQUEST, format!("Unsupported resource type: {other}"))),
    }
}

/// A topic's default may be set for the whole cluster.
fn default(state: &State, name: &str, default: &str) -> String {
    match name {
        "max.message.bytes" => state.limits.message_bytes.to_string(),
        _ => default.to_owned(),
    }
}

fn of_broker(state: &State, id: &str) -> Vec<DescribeConfigsResourceResult> {
    let limits = &state.limits;
    vec![
        config(
            "auto.create.topics.enable",
            limits.auto_create.to_string(),
            Kind::Boolean,
            FROM_FILE,
        ),
        config(
            "default.replication.factor",
            state.default_replication().to_string(),
            Kind::Int,
            FROM_FILE,
        ),
        config(
            "fetch.max.bytes",
            limits.fetch_bytes.to_string(),
            Kind::Int,
            FROM_DEFAULT,
        ),
        config(
            "message.max.bytes",
            limits.message_bytes.to_string(),
            Kind::Int,
            FROM_FILE,
        ),
        config("node.id", id.to_owned(), Kind::Int, FROM_FILE).with_read_only(true),
        config("num.partitions", limits.partitions.to_string(), Kind::Int, FROM_FILE).with_read_only(true),
        config(
            "socket.request.max.bytes",
            limits.request_bytes.to_string(),
            Kind::Int,
            FROM_FILE,
        )
        .with_read_only(true),
    ]
}

fn config(name: &'static str, value: String, kind: Kind, source: i8) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(StrBytes::from_string(value)))
        .with_config_type(kind as i8)
        .with_config_source(source)
}

/// The same value by the names it has elsewhere: here, its own.
fn synonyms(config: DescribeConfigsResourceResult) -> DescribeConfigsResourceResult {
    let synonym = DescribeConfigsSynonym::default()
        .with_name(config.name.clone())
        .with_value(config.value.clone())
        .with_source(config.config_source);
    config.with_synonyms(vec![synonym])
}
