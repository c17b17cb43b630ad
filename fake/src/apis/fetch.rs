//! Fetch: waits until there is enough to read, or until its time is over.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName,
        fetch_request::FetchPartition,
        fetch_response::{
            AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
        },
    },
    protocol::StrBytes,
};

use super::{Context, endpoints};
use crate::{
    batch::Batch,
    error_code::{
        FENCED_LEADER_EPOCH, FETCH_SESSION_ID_NOT_FOUND, FETCH_SESSION_TOPIC_ID_ERROR, INVALID_FETCH_SESSION_EPOCH,
        NONE, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
    },
    log::Want,
    sessions::{Place, Plan},
    shared::Step,
    state::State,
    topic::Partition,
};

const READ_COMMITTED: i8 = 1;

/// `None` if the broker ended before there was an answer.
pub(crate) fn answer(context: &Context<'_>, request: &FetchRequest) -> Option<FetchResponse> {
    let node = context.caller.node;
    let begun = context.shared.note(|state| {
        let now = state.clock.now();
        if let Some(code) = context.refuses.filter(|code| of_session(*code)) {
            return Some((now, Err(code)));
        }
        let sessions = state.sessions.get_mut(&node)?;
        Some((now, sessions.begin(request, context.version(), now)))
    });
    let (began, plan) = begun?;
    let plan = match plan {
        Ok(plan) => plan,
        Err(code) => return Some(FetchResponse::default().with_error_code(code)),
    };
    let until = began + Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let answers = context.shared.wait(&context.caller, |state, now| {
        let answers = look(state, context, request, &plan);
        if now >= until || is_worth_it(state, request, &plan, &answers) {
            Step::Done(answers)
        } else {
            Step::Wait(Some(until))
        }
    })?;
    Some(context.shared.note(|state| finish(state, context, plan, answers)))
}

/// Errors of the whole answer; others are those of partitions.
fn of_session(code: i16) -> bool {
    matches!(
        code,
        FETCH_SESSION_ID_NOT_FOUND | INVALID_FETCH_SESSION_EPOCH | FETCH_SESSION_TOPIC_ID_ERROR
    )
}

/// Whether the answer need not wait for more.
fn is_worth_it(state: &State, request: &FetchRequest, plan: &Plan, answers: &[PartitionData]) -> bool {
    let size: usize = answers.iter().map(records_len).sum();
    let enough = request.min_bytes.min(most(state, request));
    let cannot_wait = |answer: &PartitionData| {
        answer.error_code != NONE || answer.preferred_read_replica.0 >= 0 || answer.diverging_epoch.epoch >= 0
    };
    plan.partitions.is_empty() || size as i64 >= i64::from(enough) || answers.iter().any(cannot_wait)
}

fn records_len(answer: &PartitionData) -> usize {
    answer.records.as_ref().map_or(0, Bytes::len)
}

fn most(state: &State, request: &FetchRequest) -> i32 {
    request.max_bytes.min(state.limits.fetch_bytes)
}

/// Reads all partitions in their order, until the answer is full.
fn look(state: &State, context: &Context<'_>, request: &FetchRequest, plan: &Plan) -> Vec<PartitionData> {
    let mut room = usize::try_from(most(state, request)).unwrap_or(0);
    let mut first_whole = true;
    let partitions = plan.partitions.iter();
    partitions
        .map(|(place, wants)| {
            let read = Reading {
                state,
                context,
                request,
                room,
                first_whole,
            };
            let answer = read.partition(place, wants);
            room = room.saturating_sub(records_len(&answer));
            first_whole &= records_len(&answer) == 0;
            answer
        })
        .collect()
}

/// What one partition's part of an answer depends on.
struct Reading<'a> {
    state: &'a State,
    context: &'a Context<'a>,
    request: &'a FetchRequest,
    room: usize,
    first_whole: bool,
}

impl Reading<'_> {
    fn partition(&self, place: &Place, wants: &FetchPartition) -> PartitionData {
        match self.find(place, wants) {
            Ok(partition) => self.read(partition, wants),
            Err(code) => refusal(wants.partition, code),
        }
    }

    fn find(&self, place: &Place, wants: &FetchPartition) -> Result<&Partition, i16> {
        self.context.check_fault()?;
        let name = match self.context.version() {
            ..13 => &place.name,
            _ => self.state.name_of(place.topic).ok_or(UNKNOWN_TOPIC_ID)?,
        };
        let partition = self
            .state
            .partition(name, place.partition)
            .ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
        partition.check_epoch(wants.current_leader_epoch)?;
        // Since version 11 consumers may read from followers (KIP-392).
        let serves = partition.leader == self.context.caller.node
            || self.context.version() >= 11 && partition.replicas.contains(&self.context.caller.node);
        if serves {
            Ok(partition)
        } else {
            Err(NOT_LEADER_OR_FOLLOWER)
        }
    }

    fn read(&self, partition: &Partition, wants: &FetchPartition) -> PartitionData {
        let (log, offset) = (&partition.log, wants.fetch_offset);
        let data = PartitionData::default()
            .with_partition_index(wants.partition)
            .with_high_watermark(log.high_watermark())
            .with_last_stable_offset(log.last_stable())
            .with_log_start_offset(log.start())
            .with_aborted_transactions(None)
            .with_records(Some(Bytes::new()));
        if wants.last_fetched_epoch >= 0 {
            let (epoch, end) = log.end_of_epoch(wants.last_fetched_epoch);
            if epoch < 0 {
                return refusal(wants.partition, OFFSET_OUT_OF_RANGE);
            }
            if epoch < wants.last_fetched_epoch || end < offset {
                let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                return data.with_diverging_epoch(diverging);
            }
        }
        if offset < log.start() || offset > log.end() {
            return refusal(wants.partition, OFFSET_OUT_OF_RANGE);
        }
        if let Some(follower) = self.preferred(partition) {
            return data.with_preferred_read_replica(BrokerId(follower));
        }
        let committed_only = self.request.isolation_level == READ_COMMITTED;
        let before = if committed_only {
            log.last_stable()
        } else {
            log.high_watermark()
        };
        let records = log.read(Want {
            offset,
            bytes: self.room.min(usize::try_from(wants.partition_max_bytes).unwrap_or(0)),
            first_whole: self.first_whole,
            before,
        });
        let aborted = committed_only.then(|| {
            let aborted = log.aborted_between(offset, before).into_iter();
            let aborted = aborted.filter(|_| !records.is_empty());
            aborted
                .map(|aborted| {
                    AbortedTransaction::default()
                        .with_producer_id(ProducerId(aborted.producer_id))
                        .with_first_offset(aborted.first)
                })
                .collect()
        });
        data.with_records(Some(records)).with_aborted_transactions(aborted)
    }

    /// The follower that a leader sends this consumer to: one in its rack, if the leader is not.
    fn preferred(&self, partition: &Partition) -> Option<i32> {
        let wanted = self.request.rack_id.as_str();
        let asked = self.state.limits.rack_aware && self.context.version() >= 11 && !wanted.is_empty();
        if !asked || partition.leader != self.context.caller.node {
            return None;
        }
        let is_near = |id: i32| {
            let node = self.state.node(id).filter(|node| node.is_up);
            node.and_then(|node| node.rack.as_deref()) == Some(wanted)
        };
        if is_near(partition.leader) {
            return None;
        }
        partition.replicas.iter().copied().find(|id| is_near(*id))
    }
}

fn refusal(partition: i32, code: i16) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(code)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

fn finish(state: &mut State, context: &Context<'_>, plan: Plan, answers: Vec<PartitionData>) -> FetchResponse {
    let session = plan.session;
    let told = match state.sessions.get_mut(&context.caller.node) {
        Some(sessions) => sessions.end(plan, answers),
        None => Vec::new(),
    };
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut leaders: Vec<i32> = Vec::new();
    for (place, mut answer) in told {
        if context.corrupts {
            corrupt(&mut answer);
        }
        if context.version() >= 16 {
            leaders.extend(hint(state, &place, &mut answer));
        }
        match topics.last_mut() {
            Some(last) if last.topic_id == place.topic && *last.topic == *place.name => last.partitions.push(answer),
            _ => topics.push(
                FetchableTopicResponse::default()
                    .with_topic_id(place.topic)
                    .with_topic(TopicName(StrBytes::from_string(place.name)))
                    .with_partitions(vec![answer]),
            ),
        }
    }
    FetchResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_session_id(session)
        .with_responses(topics)
        .with_node_endpoints(endpoints!(NodeEndpoint, state, leaders))
}

/// Tells who leads now, to a client that believed something else (KIP-951).
fn hint(state: &State, place: &Place, answer: &mut PartitionData) -> Option<i32> {
    if !matches!(answer.error_code, NOT_LEADER_OR_FOLLOWER | FENCED_LEADER_EPOCH) {
        return None;
    }
    let partition = state.partition(state.name_of(place.topic)?, place.partition)?;
    answer.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch);
    Some(partition.leader)
}

/// Flips a bit of the first batch's last record. What comes last may be half a batch, which clients do not look at.
fn corrupt(answer: &mut PartitionData) {
    let Some(records) = &mut answer.records else {
        return;
    };
    let Ok(first) = Batch::parse(records) else {
        return;
    };
    let mut bytes = BytesMut::from(&records[..]);
    bytes[first.bytes.len() - 1] ^= 1;
    *records = bytes.freeze();
}
