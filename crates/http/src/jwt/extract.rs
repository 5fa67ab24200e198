//! [`Claims`] as an axum extractor.

use axum_core::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::request::Parts;

use super::claims::Claims;
use crate::{
    correlation::CorrelationId,
    problem::{Code, Problem},
};

/// Rejection of the [`Claims`] extractor (feature `axum`): the request passed no [`JwtLayer`](super::JwtLayer), or is a
/// preflight that [`JwtConfig::skip_preflight`](field@super::JwtConfig::skip_preflight) let through.
///
/// The response is a 500 with [`Code::AuthNotConfigured`] in both cases, because the server is
/// misconfigured. A handler of preflight requests must not extract [`Claims`].
#[derive(Clone, Debug)]
pub struct AuthNotConfigured(Option<CorrelationId>);

impl IntoResponse for AuthNotConfigured {
    fn into_response(self) -> Response {
        Problem::new(Code::AuthNotConfigured).into_response::<Body>(self.0.as_ref())
    }
}

/// Extracts the claims of the caller's token. Without claims the response is a 500, so a handler that
/// needs them never runs for an unauthenticated caller.
impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = AuthNotConfigured;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthNotConfigured> {
        if let Some(claims) = parts.extensions.get::<Self>() {
            return Ok(claims.clone());
        }
        let id = parts.extensions.get::<CorrelationId>().cloned();
        let (code, correlation_id) = (
            Code::AuthNotConfigured.as_str(),
            id.as_ref().map(CorrelationId::as_str),
        );
        tracing::error!(
            code,
            correlation_id,
            "a handler extracts claims, but no JwtLayer has added any"
        );
        Err(AuthNotConfigured(id))
    }
}
