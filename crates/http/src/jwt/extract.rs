//! Claims as an argument of axum's handlers.

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

/// A handler reads claims, and no [`JwtLayer`](super::JwtLayer) has put any there: the server is at
/// fault, not the caller.
#[derive(Clone, Debug)]
pub struct AuthNotConfigured(Option<CorrelationId>);

impl IntoResponse for AuthNotConfigured {
    fn into_response(self) -> Response {
        Problem::new(Code::AuthNotConfigured).into_response::<Body>(self.0.as_ref())
    }
}

/// The claims of the caller's token. Without them the answer is a 500, so that a handler that asks for
/// them never runs for a stranger.
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
            "a handler asks for claims, and no layer for a token"
        );
        Err(AuthNotConfigured(id))
    }
}
