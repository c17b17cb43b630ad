//! SaslHandshake and SaslAuthenticate: who a connection is.

use kafka_protocol::{
    messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse},
    protocol::StrBytes,
};

use super::Context;
use crate::{
    error_code::{NONE, UNSUPPORTED_SASL_MECHANISM},
    sasl::{Accepted, Rejected, Session},
};

/// `None` ends the connection.
pub(super) fn handshake(
    context: &Context<'_>,
    session: &mut Session,
    request: &SaslHandshakeRequest,
) -> Option<SaslHandshakeResponse> {
    let sasl = context.shared.sasl();
    let code = match context.refuses {
        Some(code) => {
            session.end();
            code
        }
        None => session.handshake(&sasl, context.version(), &request.mechanism)?,
    };
    let response = SaslHandshakeResponse::default().with_error_code(code);
    if !matches!(code, NONE | UNSUPPORTED_SASL_MECHANISM) {
        return Some(response);
    }
    let mechanisms = sasl.mechanisms().into_iter().map(StrBytes::from_static_str);
    Some(response.with_mechanisms(mechanisms.collect()))
}

pub(super) fn authenticate(
    context: &Context<'_>,
    session: &mut Session,
    request: &SaslAuthenticateRequest,
) -> SaslAuthenticateResponse {
    let outcome = match context.refuses {
        Some(code) => {
            session.end();
            Err(Rejected {
                code,
                message: String::new(),
            })
        }
        None => {
            let (sasl, now) = (context.shared.sasl(), context.shared.now());
            session.authenticate(&sasl, &request.auth_bytes, now)
        }
    };
    let response = SaslAuthenticateResponse::default();
    match outcome {
        Ok(Accepted { token, lifetime }) => {
            let lifetime = lifetime.filter(|_| context.version() >= FIRST_WITH_LIFETIME);
            let lifetime = lifetime.map_or(0, |lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
            response
                .with_auth_bytes(token.into())
                .with_session_lifetime_ms(lifetime)
        }
        Err(Rejected { code, message }) => {
            let message = (!message.is_empty()).then(|| StrBytes::from_string(message));
            response.with_error_code(code).with_error_message(message)
        }
    }
}

const FIRST_WITH_LIFETIME: i16 = 1;
