//! ApiVersions: what is offered.

use kafka_protocol::messages::{ApiVersionsResponse, api_versions_response::ApiVersion};

use super::Context;
use crate::{
    Api, Profile,
    error_code::{NONE, UNSUPPORTED_VERSION},
    state::State,
    versions::{Offer, offer, offers},
};

pub(crate) fn answer(state: &State, context: &Context<'_>) -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(context.refuses.unwrap_or(NONE))
        .with_api_keys(offers(state.profile).into_iter().map(entry).collect())
        .with_throttle_time_ms(state.throttle_ms())
}

/// The answer to a version that is not offered, in the shape of version 0: it names the ones of ApiVersions that are.
pub(crate) fn unsupported(profile: Profile) -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(UNSUPPORTED_VERSION)
        .with_api_keys(offer(profile, Api::ApiVersions).into_iter().map(entry).collect())
}

fn entry(offer: Offer) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(offer.api.key())
        .with_min_version(offer.first)
        .with_max_version(offer.last)
}
