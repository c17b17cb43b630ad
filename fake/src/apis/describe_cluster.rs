//! DescribeCluster: the brokers.

use kafka_protocol::{
    messages::{
        BrokerId, DescribeClusterRequest, DescribeClusterResponse, describe_cluster_response::DescribeClusterBroker,
    },
    protocol::StrBytes,
};

use super::Context;
use crate::{
    error_code::{MISMATCHED_ENDPOINT_TYPE, NONE, UNSUPPORTED_ENDPOINT_TYPE},
    state::State,
};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) fn answer(
    state: &State,
    context: &Context<'_>,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default()
        .with_throttle_time_ms(state.throttle_ms())
        .with_cluster_authorized_operations(i32::MIN);
    let why = match request.endpoint_type {
        BROKERS => String::new(),
        CONTROLLERS => {
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned()
        }
        other => format!("Unsupported endpoint type {other}"),
    };
    let code = context.refuses.unwrap_or(match request.endpoint_type {
        BROKERS => NONE,
        CONTROLLERS => MISMATCHED_ENDPOINT_TYPE,
        _ => UNSUPPORTED_ENDPOINT_TYPE,
    });
    if code != NONE {
        let why = StrBytes::from_string(why);
        return response.with_error_code(code).with_error_message(Some(why));
    }
    let shown = state
        .nodes
        .iter()
        .filter(|node| node.is_up || request.include_fenced_brokers);
    let brokers = shown.map(|node| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.id))
            .with_host(node.host())
            .with_port(node.port())
            .with_rack(node.rack())
            .with_is_fenced(!node.is_up)
    });
    response
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(state.cluster_id.clone()))
        .with_controller_id(BrokerId(state.controller()))
        .with_brokers(brokers.collect())
}
