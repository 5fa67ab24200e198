//! The layer that refuses.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION},
};
use tower::{Layer, Service, ServiceExt, util::Oneshot};
use tower_fanout_layers::config::ConfigError;

use super::{GuardConfig, Refused, check, is_about_server};
use crate::{
    bounds::valid,
    correlation::CorrelationId,
    problem::{OrRefused, Problem},
};

/// Lets only requests through whose head leaves no doubt; see the [module docs](super).
///
/// Its own answers are problems, with their code in the response's extensions; an event says why, at
/// level info. The body of its answers is made by `From<Bytes>`, which axum's body and `Full<Bytes>`
/// have.
#[derive(Clone, Debug)]
pub struct GuardLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: GuardConfig,
    /// The methods as the value of `Allow`.
    allow: HeaderValue,
}

impl GuardLayer {
    /// Lets through what `config` allows.
    ///
    /// # Errors
    /// A value of `config` is out of its range.
    pub fn new(config: GuardConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(valid(config)?))
    }

    fn of(config: GuardConfig) -> Self {
        let methods: Vec<_> = config.methods.iter().map(Method::as_str).collect();
        // The name of a method is a token, so this is a value.
        let allow = HeaderValue::from_str(&methods.join(", "));
        let allow = allow.unwrap_or_else(|_| HeaderValue::from_static(""));
        Self {
            shared: Arc::new(Shared { config, allow }),
        }
    }
}

impl Default for GuardLayer {
    fn default() -> Self {
        Self::of(GuardConfig::default())
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            shared: Arc::clone(&self.shared),
            inner,
        }
    }
}

/// The service of [`GuardLayer`].
#[derive(Clone, Debug)]
pub struct Guard<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Guard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = OrRefused<Oneshot<S, Request<ReqBody>>, ResBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let answer = match check(&request, &self.shared.config) {
            Ok(()) if is_about_server(&request) => self.shared.options(),
            Ok(()) => {
                return OrRefused::called(self.inner.clone().oneshot(request));
            }
            Err(refused) => self.shared.refusal(refused, request.extensions().get()),
        };
        OrRefused::refused(answer)
    }
}

impl Shared {
    /// The answer to `OPTIONS *`.
    fn options<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, self.allow.clone());
        response
    }

    fn refusal<B: From<Bytes>>(&self, refused: Refused, id: Option<&CorrelationId>) -> Response<B> {
        tracing::info!(
            correlation_id = id.map(CorrelationId::as_str),
            code = refused.code().as_str(),
            reason = refused.reason(),
            "a request was refused"
        );
        let mut problem = Problem::new(refused.code());
        if refused == Refused::MethodNotAllowed {
            problem = problem.allow(self.allow.clone());
        }
        if refused.ends_connection() {
            // In HTTP/2 hyper takes it out: there a stream ends by itself.
            problem = problem.header(CONNECTION, HeaderValue::from_static("close"));
        }
        problem.into_response(id)
    }
}
