//! The layer that rejects requests with an ambiguous head.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONNECTION},
};
use tower::Layer;
use tower_fanout_layers::config::{ConfigError, Validate};

use super::{GuardConfig, HeadError, check, target::is_asterisk};
use crate::{
    correlation::CorrelationId,
    problem::Problem,
    service::{CheckRequest, RequestCheck},
};

/// A layer that rejects requests whose head is ambiguous or not supported. See the [module docs](super).
///
/// A rejection is a problem document, with its [`Code`](crate::problem::Code) in the extensions of
/// the response, and is logged at level info with its reason. The body type of the responses must
/// implement `From<Bytes>`, as axum's body and `Full<Bytes>` do.
#[derive(Clone, Debug)]
pub struct GuardLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: GuardConfig,
    /// The allowed methods as the value of the `Allow` header.
    allow: HeaderValue,
}

impl GuardLayer {
    /// Creates a layer with `config`.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is out of range.
    pub fn new(config: GuardConfig) -> Result<Self, ConfigError> {
        Ok(Self::of(config.validated()?))
    }

    fn of(config: GuardConfig) -> Self {
        let methods: Vec<_> = config.methods.iter().map(Method::as_str).collect();
        // Method names are tokens, so the list is always a valid header value.
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
    type Service = CheckRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        CheckRequest { layer, inner }
    }
}

impl<B> RequestCheck<B> for GuardLayer {
    fn check<R: From<Bytes>>(&self, request: &mut Request<B>) -> Option<Response<R>> {
        match check(request, &self.shared.config) {
            // The check allows `*` only for `OPTIONS`, and then it means the server as a whole (RFC 9110 §9.3.7).
            Ok(()) => is_asterisk(request.uri()).then(|| self.shared.options()),
            Err(refused) => Some(self.shared.refusal(refused, request.extensions().get())),
        }
    }
}

impl Shared {
    /// Returns the response to `OPTIONS *`: 204 with `Allow`.
    fn options<B: From<Bytes>>(&self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, self.allow.clone());
        response
    }

    /// Logs a rejection and returns its response, with the reason in its extensions.
    fn refusal<B: From<Bytes>>(
        &self,
        refused: HeadError,
        id: Option<&CorrelationId>,
    ) -> Response<B> {
        tracing::info!(
            correlation_id = id.map(CorrelationId::as_str),
            code = refused.code().as_str(),
            reason = refused.as_str(),
            "request rejected"
        );
        let mut problem = Problem::new(refused.code());
        if refused == HeadError::MethodNotAllowed {
            problem = problem.header(ALLOW, self.allow.clone());
        }
        if refused.ends_connection() {
            // hyper removes this header over HTTP/2, where the stream ends without closing the
            // connection.
            problem = problem.header(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = problem.into_response(id);
        response.extensions_mut().insert(refused);
        response
    }
}
