//! InitProducerId: a number that makes a producer idempotent.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Context;
use crate::{
    error_code::{INVALID_REQUEST, TRANSACTIONAL_ID_AUTHORIZATION_FAILED},
    state::State,
};

pub(crate) fn answer(
    state: &mut State,
    context: &Context<'_>,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default().with_throttle_time_ms(state.throttle_ms());
    let refuse = |code| {
        let refused = response.clone().with_error_code(code);
        refused.with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    if let Err(code) = context.check_fault() {
        return refuse(code);
    }
    match &request.transactional_id {
        None => {}
        Some(id) if id.is_empty() => return refuse(INVALID_REQUEST),
        // There are no transactions here; this is what ends a client's attempts.
        Some(_) => return refuse(TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    }
    state.last_producer_id += 1;
    response
        .with_producer_id(ProducerId(state.last_producer_id))
        .with_producer_epoch(0)
}
