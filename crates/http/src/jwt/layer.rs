//! The layer that asks for a token.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, Method, Request, Response,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use super::{
    bearer::bearer,
    claims::Claims,
    future::ResponseFuture,
    refusal::{Outcome, Reason, Refusal, quotable},
    verifier::Verifier,
};
use crate::correlation::CorrelationId;

/// Lets only requests with a valid token through, with its [`Claims`] in their extensions; see the
/// [module docs](super).
#[derive(Clone, Debug)]
pub struct JwtLayer {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    verifier: Verifier,
    realm: String,
    any_role: Vec<String>,
    all_scopes: Vec<String>,
    skip_preflight: bool,
    reveal_expired: bool,
    on_outcome: fn(Outcome),
}

impl JwtLayer {
    /// Lets those through whom `verifier` believes.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self {
            shared: Arc::new(Shared {
                verifier,
                realm: "fanout".into(),
                any_role: Vec::new(),
                all_scopes: Vec::new(),
                skip_preflight: false,
                reveal_expired: true,
                on_outcome: |_| {},
            }),
        }
    }

    /// Names what is protected in the challenge; `fanout` by default. What cannot stand in
    /// quotes is left out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        Arc::make_mut(&mut self.shared).realm = quotable(realm);
        self
    }

    /// Asks for at least one of these roles too.
    #[must_use]
    pub fn any_role(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.shared).any_role = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Asks for all of these scopes too.
    #[must_use]
    pub fn all_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.shared).all_scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Whether CORS preflights are let through without a token, and without claims; no by default.
    #[must_use]
    pub fn skip_preflight(mut self, skip: bool) -> Self {
        Arc::make_mut(&mut self.shared).skip_preflight = skip;
        self
    }

    /// Whether a caller is told that a token, good otherwise, has expired; yes by default.
    #[must_use]
    pub fn reveal_expired(mut self, reveal: bool) -> Self {
        Arc::make_mut(&mut self.shared).reveal_expired = reveal;
        self
    }

    /// Calls `observer` with what becomes of each request, to count it.
    #[must_use]
    pub fn on_outcome(mut self, observer: fn(Outcome)) -> Self {
        Arc::make_mut(&mut self.shared).on_outcome = observer;
        self
    }
}

impl Shared {
    fn authenticate(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let claims = self.verifier.verify(bearer(headers)?)?;
        let (roles, scopes) = (claims.roles(), claims.scopes());
        let has_role = self.any_role.is_empty() || roles.iter().any(|r| self.any_role.contains(r));
        if has_role && self.all_scopes.iter().all(|scope| scopes.contains(scope)) {
            Ok(claims)
        } else {
            Err(Refusal(Reason::Scope))
        }
    }

    fn refuse<B: From<Bytes>>(&self, refusal: Refusal, extensions: &Extensions) -> Response<B> {
        (self.on_outcome)(Outcome::Rejected(refusal.0));
        let id = extensions.get::<CorrelationId>();
        let (code, reason) = (refusal.code().as_str(), refusal.0.as_str());
        let correlation_id = id.map(CorrelationId::as_str);
        tracing::debug!(code, reason, correlation_id, "a token was refused");
        let mut problem = refusal.problem(&self.realm, &self.needed());
        if refusal.0 == Reason::Expired && self.reveal_expired {
            problem = problem.detail("the token has expired");
        }
        problem.into_response(id)
    }

    /// The scopes that are needed, or else the roles, as a challenge names them
    /// ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
    fn needed(&self) -> String {
        let needed = match &*self.all_scopes {
            [] => &self.any_role,
            scopes => scopes,
        };
        let is_scope = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        let needed = needed.iter().filter(|name| name.bytes().all(is_scope));
        needed.map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl<S> Layer<S> for JwtLayer {
    type Service = Jwt<S>;

    fn layer(&self, inner: S) -> Jwt<S> {
        Jwt {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`JwtLayer`].
#[derive(Clone, Debug)]
pub struct Jwt<S> {
    layer: JwtLayer,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Jwt<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<Oneshot<S, Request<ReqBody>>, ResBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let shared = &*self.layer.shared;
        // Another layer's claims are not this layer's.
        request.extensions_mut().remove::<Claims>();
        if shared.skip_preflight && is_preflight(&request) {
            (shared.on_outcome)(Outcome::Preflight);
        } else {
            match shared.authenticate(request.headers()) {
                Ok(claims) => request.extensions_mut().insert(claims),
                Err(refusal) => {
                    let response = shared.refuse(refusal, request.extensions());
                    return ResponseFuture::refused(response);
                }
            };
            (shared.on_outcome)(Outcome::Accepted);
        }
        ResponseFuture::called(self.inner.clone().oneshot(request))
    }
}

/// Whether a browser asks what it may ask ([Fetch §3.3.2](https://fetch.spec.whatwg.org/#cors-preflight-request)).
fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
