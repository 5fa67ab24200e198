//! The layer that authenticates requests by their bearer token.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::Either;
use http::{
    Extensions, HeaderMap, Method, Request, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use tokio::time::timeout_at;
use tower::{Layer, Service, ServiceExt};
use tower_fanout_layers::{CallContext as _, ConfigError, config::Validate};

use super::{
    bearer::bearer,
    claims::Claims,
    config::JwtConfig,
    keys::Flight,
    reason::{Outcome, Reason},
    verifier::{Verifier, VerifyError},
};
use crate::{
    correlation::CorrelationId,
    service::{CheckFuture, respond_or_call},
};

/// Passes on only requests with a valid token and adds its [`Claims`] to their extensions. See the
/// [module docs](super).
///
/// The `Authorization` header stays in the request. A refusal is logged at level debug with its
/// [`Reason`]. Without a valid token the inner service is not called, except for
/// [preflight requests](field@JwtConfig::skip_preflight).
///
/// If the token's key is unknown and the keys are fetched, the request waits for the running or next fetch,
/// at most until the deadline of its call. Without a deadline the timeout of the fetch limits the wait. If
/// the deadline passes first, or no usable keys exist, the response is 503. Its `Retry-After` is
/// [`Unavailable::retry_after`](super::Unavailable::retry_after), or one second if the deadline passed.
/// During the cooldown of the keys the request does not wait: the response is 401.
#[derive(Clone, Debug)]
pub struct JwtLayer {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    verifier: Verifier,
    config: JwtConfig,
    on_outcome: fn(Outcome),
}

impl JwtLayer {
    /// Creates a layer that requires a token that `verifier` accepts and that satisfies `config`.
    ///
    /// # Errors
    /// Returns the first invalid value of `config`.
    pub fn new(verifier: Verifier, config: JwtConfig) -> Result<Self, ConfigError> {
        let shared = Shared {
            verifier,
            config: config.validated()?,
            on_outcome: |_| {},
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Calls `observer` with the outcome of each request, for metrics.
    #[must_use]
    pub fn on_outcome(mut self, observer: fn(Outcome)) -> Self {
        Arc::make_mut(&mut self.shared).on_outcome = observer;
        self
    }
}

impl Shared {
    /// Adds the caller's claims to the request, or returns the reason for refusing it.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), VerifyError> {
        // Claims of an outer layer must not pass for claims that this layer has checked.
        request.extensions_mut().remove::<Claims>();
        if self.config.skip_preflight && is_preflight(request) {
            (self.on_outcome)(Outcome::Preflight);
            return Ok(());
        }
        let claims = self.authenticate(request.headers())?;
        request.extensions_mut().insert(claims);
        (self.on_outcome)(Outcome::Accepted);
        Ok(())
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Claims, VerifyError> {
        let claims = self.verifier.check(bearer(headers)?)?;
        let (roles, scopes) = (claims.roles(), claims.scopes());
        let JwtConfig {
            any_role,
            all_scopes,
            ..
        } = &self.config;
        let has_role = any_role.is_empty() || roles.iter().any(|role| any_role.contains(role));
        if has_role && all_scopes.iter().all(|scope| scopes.contains(scope)) {
            Ok(claims)
        } else {
            Err(Reason::Scope.into())
        }
    }

    fn refuse<B: From<Bytes>>(&self, failure: VerifyError, extensions: &Extensions) -> Response<B> {
        let (reason, retry_after) = match failure {
            VerifyError::Refused(reason, retry_after) => (reason, retry_after),
            // The call's deadline passed while it waited, and the fetch ends soon.
            VerifyError::NoKeyYet(_) => (Reason::Unavailable, Some(Duration::from_secs(1))),
        };
        (self.on_outcome)(Outcome::Rejected(reason));
        let id = extensions.get::<CorrelationId>();
        tracing::debug!(
            code = reason.code().as_str(),
            reason = reason.as_str(),
            correlation_id = id.map(CorrelationId::as_str),
            "token refused"
        );
        let mut problem = reason.problem(&self.config.realm, &self.required_scopes());
        if reason == Reason::Expired && self.config.reveal_expired {
            problem = problem.detail("the token has expired");
        }
        problem.retry_after(retry_after).into_response(id)
    }

    /// Returns the required scopes, or else the accepted roles, in the form of a challenge
    /// ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    fn required_scopes(&self) -> String {
        let required = match &*self.config.all_scopes {
            [] => &self.config.any_role,
            scopes => scopes,
        };
        // Names outside the grammar of `scope-token` cannot be part of a challenge.
        let is_scope = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let required = required.iter().filter(|name| name.bytes().all(is_scope));
        required.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl<S> Layer<S> for JwtLayer {
    type Service = Jwt<S>;

    fn layer(&self, inner: S) -> Jwt<S> {
        let shared = Arc::clone(&self.shared);
        Jwt { shared, inner }
    }
}

/// The service of [`JwtLayer`].
#[derive(Clone, Debug)]
pub struct Jwt<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Jwt<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    ReqBody: Send + 'static,
    ResBody: From<Bytes> + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = JwtFuture<S, ReqBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // A refused request needs no inner service. `oneshot` polls it for admitted requests.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let response = match self.shared.admit(&mut request) {
            Ok(()) => None,
            Err(VerifyError::NoKeyYet(fetch)) => {
                return Either::Right(Box::pin(self.clone().call_after(fetch, request)));
            }
            Err(failure) => Some(self.shared.refuse(failure, request.extensions())),
        };
        Either::Left(respond_or_call(response, &mut self.inner, request))
    }
}

/// The future of [`Jwt`]. Boxed only for a call that waits for a fetch of keys.
pub type JwtFuture<S, B> = Either<
    CheckFuture<S, B>,
    Pin<Box<dyn Future<Output = <CheckFuture<S, B> as Future>::Output> + Send>>,
>;

impl<S> Jwt<S> {
    /// Checks a call again at the end of `fetch`, or at the call's deadline if that is earlier.
    /// The call does not wait again.
    async fn call_after<B, R>(
        self,
        fetch: Flight,
        mut request: Request<B>,
    ) -> Result<Response<R>, S::Error>
    where
        S: Service<Request<B>, Response = Response<R>>,
        R: From<Bytes>,
    {
        match request.call().deadline {
            None => fetch.await,
            // The token is checked again in either case.
            Some(deadline) => drop(timeout_at(deadline.instant(), fetch).await),
        }
        match self.shared.admit(&mut request) {
            Ok(()) => self.inner.oneshot(request).await,
            Err(failure) => Ok(self.shared.refuse(failure, request.extensions())),
        }
    }
}

/// Returns `true` for a CORS preflight request
/// ([Fetch §3.3.2](https://fetch.spec.whatwg.org/#cors-preflight-request)).
fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
