//! Produce: checks a batch as Kafka does, and puts it at the end of the log.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{
    BrokerId, ProduceRequest, ProduceResponse,
    produce_request::PartitionProduceData,
    produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse},
};
use uuid::Uuid;

use super::{Context, endpoints};
use crate::{
    Profile,
    batch::{Batch, Refusal},
    error_code::{
        INVALID_PRODUCER_EPOCH, INVALID_REQUIRED_ACKS, INVALID_TIMESTAMP, NONE, NOT_ENOUGH_REPLICAS,
        NOT_LEADER_OR_FOLLOWER, OUT_OF_ORDER_SEQUENCE_NUMBER, REQUEST_TIMED_OUT, TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
    },
    producers::Verdict,
    shared::Step,
    state::State,
};

/// How far into the future a record's time may be (`message.timestamp.after.max.ms`).
const FUTURE_MS: i64 = 3_600_000;

/// What an acknowledgement waits for.
#[derive(Debug)]
struct Waiting {
    topic: String,
    /// Another topic of the same name acknowledges nothing.
    topic_id: Uuid,
    partition: i32,
    leader_epoch: i32,
    /// Committed when the high watermark is here.
    end: i64,
    /// Where its answer is.
    at: (usize, usize),
}

/// `None` if the broker ended before there was an answer.
pub(crate) fn answer(context: &Context<'_>, request: ProduceRequest) -> Option<ProduceResponse> {
    let (acks, timeout) = (request.acks, u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut waiting = Vec::new();
    let (mut response, began) = context.shared.change_alive(&context.caller, |state| {
        let response = append_all(state, context, request, &mut waiting);
        (response, state.clock.now())
    })?;
    if acks != -1 {
        return Some(response);
    }
    let until = began.saturating_add(Duration::from_millis(timeout));
    context.shared.wait(&context.caller, |state, now| {
        waiting.retain(|waiting| {
            let code = acknowledge(state, context.caller.node, waiting, now >= until);
            if let Some(code) = code.filter(|code| *code != NONE) {
                let answer = &mut response.responses[waiting.at.0].partition_responses[waiting.at.1];
                *answer = refusal(answer.index, Refusal { code, message: "" });
            }
            code.is_none()
        });
        if waiting.is_empty() {
            Step::Done(())
        } else {
            Step::Wait(Some(until))
        }
    })?;
    Some(response)
}

/// Whether anything was refused: without acks a broker can say that only by hanging up.
pub(crate) fn has_errors(response: &ProduceResponse) -> bool {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.into_iter().any(|partition| partition.error_code != NONE)
}

/// What has become of records that wait for followers; `None` if they go on waiting.
fn acknowledge(state: &State, node: i32, waiting: &Waiting, is_late: bool) -> Option<i16> {
    let topic = state.topics.get(&waiting.topic);
    let topic = topic.filter(|topic| topic.id == waiting.topic_id);
    let Some(partition) = topic.and_then(|topic| topic.partition(waiting.partition)) else {
        return Some(UNKNOWN_TOPIC_OR_PARTITION);
    };
    if partition.leader != node || partition.leader_epoch != waiting.leader_epoch {
        return Some(NOT_LEADER_OR_FOLLOWER);
    }
    if partition.log.high_watermark() >= waiting.end {
        return Some(NONE);
    }
    is_late.then_some(REQUEST_TIMED_OUT)
}

fn append_all(
    state: &mut State,
    context: &Context<'_>,
    request: ProduceRequest,
    waiting: &mut Vec<Waiting>,
) -> ProduceResponse {
    let acks = request.acks;
    let mut leaders = Vec::new();
    let mut responses = Vec::new();
    for topic in request.topic_data {
        let name = match context.version() {
            ..13 => Ok(topic.name.to_string()),
            _ => state.name_of(topic.topic_id).map(str::to_owned).ok_or(UNKNOWN_TOPIC_ID),
        };
        let mut answers = Vec::new();
        for data in &topic.partition_data {
            let at = (responses.len(), answers.len());
            let appended = match &name {
                _ if !matches!(acks, -1..=1) => Err(code(INVALID_REQUIRED_ACKS)),
                Err(unknown) => Err(code(*unknown)),
                Ok(name) => append(state, context, acks, name, data),
            };
            answers.push(match appended {
                Ok((answer, mut wait)) => {
                    wait.at = at;
                    waiting.push(wait);
                    answer
                }
                Err(refused) => {
                    log::debug!("a batch is refused with {}: {}", refused.code, refused.message);
                    let mut answer = refusal(data.index, refused);
                    if let Ok(name) = &name {
                        tell_start(state, name, &mut answer);
                        leaders.extend(hint(state, name, &mut answer));
                    }
                    answer
                }
            });
        }
        responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.topic_id)
                .with_partition_responses(answers),
        );
    }
    ProduceResponse::default()
        .with_responses(responses)
        .with_throttle_time_ms(state.throttle_ms())
        .with_node_endpoints(endpoints!(NodeEndpoint, state, leaders))
}

fn append(
    state: &mut State,
    context: &Context<'_>,
    acks: i16,
    name: &str,
    data: &PartitionProduceData,
) -> Result<(PartitionProduceResponse, Waiting), Refusal> {
    context.check_fault().map_err(code)?;
    let now = state.clock.wall_ms();
    let alive = state.alive();
    let (profile, default_limit) = (state.profile, state.limits.message_bytes);
    let topic = state.topics.get_mut(name).ok_or(code(UNKNOWN_TOPIC_OR_PARTITION))?;
    let by_broker = topic.config("message.timestamp.type") == Some("LogAppendTime");
    let limit = topic.number("max.message.bytes").unwrap_or(default_limit);
    let needs_replicas = topic.number("min.insync.replicas").unwrap_or(1);
    let topic_id = topic.id;
    let partition = topic
        .partition_mut(data.index)
        .ok_or(code(UNKNOWN_TOPIC_OR_PARTITION))?;
    let mut batch = Batch::requested(data.records.as_ref().unwrap_or(&Bytes::new()), context.version())?;
    if batch.is_transactional() {
        // There are no transactions here; this is what ends a client's attempts.
        return Err(code(TRANSACTIONAL_ID_AUTHORIZATION_FAILED));
    }
    if partition.leader != context.caller.node {
        return Err(code(NOT_LEADER_OR_FOLLOWER));
    }
    let in_sync = partition.replicas.iter().filter(|node| alive.contains(node)).count();
    if acks == -1 && in_sync < needs_replicas {
        return Err(code(NOT_ENOUGH_REPLICAS));
    }
    batch.check(limit)?;
    if by_broker {
        batch = batch.stamped(now);
    } else if profile == Profile::V4_3 && batch.max_timestamp > now + FUTURE_MS {
        return Err(Refusal {
            code: INVALID_TIMESTAMP,
            message: "a record is too far in the future",
        });
    }
    let (base, timestamp) = match partition.log.producers.check(&batch)? {
        Verdict::Append => {
            let base = partition.log.append(&batch, partition.leader_epoch);
            (base, if by_broker { now } else { -1 })
        }
        Verdict::Duplicate { base, max_timestamp } => (base, max_timestamp),
    };
    let answer = PartitionProduceResponse::default()
        .with_index(data.index)
        .with_base_offset(base)
        .with_log_append_time_ms(timestamp)
        .with_log_start_offset(partition.log.start());
    let waiting = Waiting {
        topic: name.to_owned(),
        topic_id,
        partition: data.index,
        leader_epoch: partition.leader_epoch,
        end: base + i64::from(batch.count),
        at: (0, 0),
    };
    Ok((answer, waiting))
}

fn code(code: i16) -> Refusal {
    Refusal { code, message: "" }
}

/// Kafka gives no reason but the code.
fn refusal(index: i32, refused: Refusal) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(refused.code)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
}

/// Kafka tells where the log begins when it is the log that refuses a batch, for most reasons.
fn tell_start(state: &State, name: &str, answer: &mut PartitionProduceResponse) {
    let by_log = matches!(
        answer.error_code,
        INVALID_TIMESTAMP | OUT_OF_ORDER_SEQUENCE_NUMBER | INVALID_PRODUCER_EPOCH
    );
    if let Some(partition) = state.partition(name, answer.index).filter(|_| by_log) {
        answer.log_start_offset = partition.log.start();
    }
}

/// Tells who leads now, to a client that believed something else (KIP-951).
fn hint(state: &State, name: &str, answer: &mut PartitionProduceResponse) -> Option<i32> {
    if answer.error_code != NOT_LEADER_OR_FOLLOWER {
        return None;
    }
    let partition = state.partition(name, answer.index)?;
    answer.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch);
    Some(partition.leader)
}
