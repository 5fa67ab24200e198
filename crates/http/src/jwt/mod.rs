//! Authentication of callers by JSON Web Tokens ([RFC 7519](https://www.rfc-editor.org/rfc/rfc7519); feature
//! `jwt`).
//!
//! [`verify_jws`] parses the compact serialization of a token strictly and verifies its signature, on
//! aws-lc, with keys that are configured ([`KeySet`]) or [fetched](jwks). Then the rules of
//! [`VerifierConfig`] validate the claims.
//!
//! Signature, `exp`, `iss` and `aud` are always checked, and `nbf` and `iat` if the token has them. Checks
//! of `typ`, `jti`, the age and a deny list are off unless configured.
//!
//! | request | [`Reason`] | response |
//! |---|---|---|
//! | without `Authorization`, or with another scheme than `Bearer` | `Missing`, `Scheme` | 401 `auth_required` |
//! | with a malformed or repeated `Authorization` | `Syntax`, `EmptyToken`, `Duplicate` | 400 `invalid_request` |
//! | with a token that has expired and is otherwise valid | `Expired` | 401 `invalid_token`, by default with a detail |
//! | with a valid token that lacks a role or scope | `Scope` | 403 `insufficient_scope` |
//! | with any token, while no keys are available | `Unavailable` | 503 `auth_unavailable` with `Retry-After` |
//! | with any other invalid token | all others | 401 `invalid_token` |
//!
//! All invalid tokens of the last row get the same response. The detail for expired tokens can be turned
//! off with [`JwtConfig::reveal_expired`](field@JwtConfig::reveal_expired). The [`Reason`] goes to the log
//! and to the callback for [`Outcome`]s.
//!
//! Results are not cached. Each request is checked in full, so a token is refused as soon as it
//! expires, is revoked ([`DenyList`]) or loses its key.
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_http::jwt::{Algorithm, Claims, JwtConfig, JwtLayer, Key, KeySet, Verifier, VerifierConfig};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let key = Key::from_secret(Algorithm::HS256, b"an example secret, long enough for 256 bits").unwrap();
//! let config = VerifierConfig::new().issuers(["https://idp.example"]).audiences(["orders"]);
//! let verifier = Verifier::new(KeySet::new([key]).unwrap(), config).unwrap();
//! let layer = JwtLayer::new(verifier, JwtConfig::default()).unwrap();
//! let service = layer.layer(service_fn(|request: Request<()>| async move {
//!     let claims: &Claims = request.extensions().get().unwrap();
//!     Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(claims.subject().to_owned()))))
//! }));
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), 401);
//! assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"fanout\"");
//! # }
//! ```

mod algorithm;
mod bearer;
mod claims;
mod config;
mod denylist;
#[cfg(feature = "axum")]
mod extract;
mod jose;
pub mod jwks;
mod keys;
mod layer;
mod object;
mod propagate;
mod reason;
mod rules;
#[cfg(test)]
mod tests;
mod verifier;

#[cfg(feature = "axum")]
pub use self::extract::AuthNotConfigured;
pub use self::{
    algorithm::Algorithm,
    claims::Claims,
    config::{JwtConfig, VerifierConfig},
    denylist::{DenyList, DenyListFull},
    jose::{Verified, verify_jws},
    keys::{DroppedKey, Key, KeyError, KeySet, Keys, Unavailable, sign},
    layer::{Jwt, JwtFuture, JwtLayer},
    propagate::{PropagateClaimsConfig, PropagateClaimsLayer, PropagatedClaim},
    reason::{Outcome, Reason},
    verifier::Verifier,
};
