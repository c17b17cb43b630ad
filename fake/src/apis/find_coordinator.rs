//! FindCoordinator: which broker knows a group.

use kafka_protocol::{
    messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator},
    protocol::StrBytes,
};

use super::Context;
use crate::{
    error_code::{COORDINATOR_NOT_AVAILABLE, INVALID_REQUEST, NONE, TRANSACTIONAL_ID_AUTHORIZATION_FAILED},
    state::State,
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) fn answer(state: &State, context: &Context<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default().with_throttle_time_ms(state.throttle_ms());
    if context.version() >= 4 {
        let keys = request.coordinator_keys.into_iter();
        return response.with_coordinators(keys.map(|key| find(state, context, request.key_type, key)).collect());
    }
    let found = find(state, context, request.key_type, request.key);
    response
        .with_error_code(found.error_code)
        .with_error_message(Some(match found.error_code {
            NONE => StrBytes::from_static_str("NONE"),
            COORDINATOR_NOT_AVAILABLE => StrBytes::from_static_str("The coordinator is not available."),
            _ => found.error_message.unwrap_or_default(),
        }))
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(state: &State, context: &Context<'_>, kind: i8, key: StrBytes) -> Coordinator {
    let node = state.node(state.coordinator(&key));
    let found = Coordinator::default().with_key(key);
    let refuse = |code| {
        let found = found.clone().with_error_code(code);
        found.with_node_id(BrokerId(-1)).with_port(-1)
    };
    if let Err(code) = context.check_fault() {
        return refuse(code);
    }
    match (kind, node) {
        (GROUP, Some(node)) => found
            .with_node_id(BrokerId(node.id))
            .with_host(node.host())
            .with_port(node.port()),
        (GROUP, None) => refuse(COORDINATOR_NOT_AVAILABLE),
        // There are no transactions here; this is what ends a client's attempts.
        (TRANSACTION, _) => refuse(TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        _ => refuse(INVALID_REQUEST),
    }
}
