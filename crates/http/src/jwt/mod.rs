//! Ask for a JSON Web Token, and know who calls.
//!
//! A token is checked in three steps: its form by our own strict reading ([`verify_jws`]), its signature
//! by aws-lc with keys that are given ([`KeySet`]) or [fetched](jwks), and its claims by rules that leave nothing optional that
//! matters ([`VerifierConfig`]). Whatever is wrong, the caller gets the same 401; the reason goes to the log and
//! to who counts ([`Outcome`]) alone.
//!
//! What was verified is not remembered: each request is checked anew, so that a token is refused from
//! the moment when it expires, is revoked ([`DenyList`]) or loses its key.
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
//! let config = VerifierConfig::new(["https://idp.example"], ["orders"]);
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
mod refusal;
mod rules;
#[cfg(test)]
mod tests;
mod verifier;
mod waiting;

#[cfg(feature = "axum")]
pub use self::extract::AuthNotConfigured;
pub use self::{
    algorithm::{Algorithm, UnknownAlgorithm},
    claims::Claims,
    config::{JwtConfig, VerifierConfig},
    denylist::{DenyList, DenyListFull},
    jose::{Verified, verify_jws},
    keys::{DroppedKey, Key, KeyError, KeySet, Keys, Unavailable, sign},
    layer::{Jwt, JwtLayer},
    propagate::{PropagateClaims, PropagateClaimsConfig, PropagateClaimsLayer, PropagatedClaim},
    refusal::{Outcome, Reason, Refusal},
    verifier::Verifier,
    waiting::JwtFuture,
};
