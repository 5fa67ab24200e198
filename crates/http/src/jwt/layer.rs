//! The layer that asks for a token.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use super::{
    claims::{Claims, Rules},
    jose::verify_jws,
    keys::KeySet,
    refusal::{Reason, Refusal},
};
use crate::correlation::CorrelationId;

/// Knows whom to believe.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: KeySet,
    rules: Rules,
    clock: fn() -> SystemTime,
}

impl Verifier {
    /// Believes tokens that are signed with one of `keys` and fit `rules`, by the system's clock.
    #[must_use]
    pub const fn new(keys: KeySet, rules: Rules) -> Self {
        let clock = SystemTime::now;
        Self { keys, rules, clock }
    }

    /// Reads the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// What `token` says, if it is believed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let verified = verify_jws(token, &self.keys)?;
        self.rules.check(&verified.payload, (self.clock)())
    }

    fn authenticate(&self, headers: &HeaderMap, any_role: &[String]) -> Result<Claims, Refusal> {
        let claims = self.verify(bearer(headers)?)?;
        if any_role.is_empty() || claims.roles().iter().any(|role| any_role.contains(role)) {
            Ok(claims)
        } else {
            Err(Refusal(Reason::Scope))
        }
    }
}

/// The token of `Authorization: Bearer` ([RFC 6750 §2.1](https://www.rfc-editor.org/rfc/rfc6750#section-2.1)).
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal(Reason::Missing))?;
    if values.next().is_some() {
        return Err(Refusal(Reason::Duplicate));
    }
    let value = value.to_str().map_err(|_| Refusal(Reason::Syntax))?;
    if value.contains(',') {
        return Err(Refusal(Reason::Duplicate));
    }
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal(Reason::Scheme));
    }
    let token = rest.trim_start_matches(' ');
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(Refusal(Reason::Syntax));
    }
    Ok(token)
}

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
            }),
        }
    }

    /// Names what is protected in the challenge; `fanout` by default. Quotes and backslashes are left
    /// out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        Arc::make_mut(&mut self.shared).realm = realm.replace(['"', '\\'], "");
        self
    }

    /// Asks for at least one of these roles too.
    #[must_use]
    pub fn any_role(mut self, roles: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Arc::make_mut(&mut self.shared).any_role = roles.into_iter().map(Into::into).collect();
        self
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
        let Shared {
            verifier,
            realm,
            any_role,
        } = &*self.layer.shared;
        match verifier.authenticate(request.headers(), any_role) {
            Ok(claims) => {
                request.extensions_mut().insert(claims);
                ResponseFuture {
                    inner: Some(self.inner.clone().oneshot(request)),
                    refusal: None,
                }
            }
            Err(refusal) => {
                tracing::debug!(reason = refusal.0.as_str(), "a token was refused");
                let id = request.extensions().get::<CorrelationId>();
                ResponseFuture {
                    inner: None,
                    refusal: Some(refusal.problem(realm).into_response(id)),
                }
            }
        }
    }
}

pin_project! {
    /// The future of [`Jwt`]: the call, or what turns the caller away.
    #[derive(Debug)]
    pub struct ResponseFuture<F, B> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Response<B>>,
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => Poll::Ready(Ok(this.refusal.take().expect("polled after completion"))),
        }
    }
}
