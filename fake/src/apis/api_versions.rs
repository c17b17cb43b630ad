//! ApiVersions: what is offered.

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion};

use super::Context;
use crate::{
    Api, Profile,
    error_code::{INVALID_REQUEST, NONE, UNSUPPORTED_VERSION},
    state::State,
    versions::{Offer, offer, offers},
};

pub(crate) fn answer(state: &State, context: &Context<'_>, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let names_itself = is_name(&request.client_software_name) && is_name(&request.client_software_version);
    if context.version() >= 3 && !names_itself {
        return refused(INVALID_REQUEST);
    }
    if let Some(code) = context.refuses {
        return refused(code);
    }
    ApiVersionsResponse::default()
        .with_error_code(NONE)
        .with_api_keys(offers(state.profile).into_iter().map(entry).collect())
        .with_throttle_time_ms(state.throttle_ms())
}

/// What may be a program's name or version (KIP-511).
fn is_name(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    text.chars().all(|c| is_plain(c) || matches!(c, '-' | '.'))
        && text.starts_with(is_plain)
        && text.ends_with(is_plain)
}

/// Who is refused is not told what is offered.
pub(crate) fn refused(code: i16) -> ApiVersionsResponse {
    ApiVersionsResponse::default().with_error_code(code)
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
