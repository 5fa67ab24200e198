//! A layer with body limits for handlers that read the body themselves.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::{Layer, Service, ServiceExt, util::Oneshot};
use tower_fanout_layers::config::{ConfigError, Validate};

use super::{BodyError, BodyLimitConfig, LimitedBody};
use crate::{correlation::CorrelationId, problem::Problem};

/// A layer that limits the size of request bodies and the time that they take to arrive.
///
/// If the `Content-Length` exceeds the limit, the layer responds with 413 without calling the
/// handler. Otherwise it calls the handler with a [`LimitedBody`]. If that body fails before the
/// handler responds, the layer replaces the handler's response or error: 413 for a body that is too large,
/// 408 for one that is too slow, and 400 for one that is incomplete. These responses have
/// `Connection: close`. If the body does not fail, the layer returns an error of the handler unchanged.
///
/// The layer does not read the body itself. The limits have no effect on a body that the handler does not
/// read, except that of a `Content-Length` above `max`. A body that fails after the handler has responded
/// does not change the response.
///
/// The layer ignores `Content-Encoding`. A body in any content coding is passed on as it is,
/// even with `decode: true` in the config, which only [`read_body`](super::read_body) uses. The limit
/// then applies to the encoded size.
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_http::body::{BodyLimitConfig, BodyLimitLayer, LimitedBody};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(BodyLimitLayer::new(BodyLimitConfig::default().max(4_usize)).unwrap())
///     .service(service_fn(|request: Request<LimitedBody<Full<Bytes>>>| async {
///         let body = request.into_body().collect().await.unwrap_or_default();
///         Ok::<_, Infallible>(Response::new(Full::new(body.to_bytes())))
///     }));
/// let request = Request::post("/").body(Full::from("12345")).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 413);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyLimitLayer {
    config: BodyLimitConfig,
}

impl BodyLimitLayer {
    /// Creates a layer with the limits of `config`.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is out of range.
    pub fn new(config: BodyLimitConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        Ok(Self { config })
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimit<S>;

    fn layer(&self, inner: S) -> BodyLimit<S> {
        BodyLimit {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`BodyLimitLayer`].
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit<S> {
    layer: BodyLimitLayer,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for BodyLimit<S>
where
    S: Service<Request<LimitedBody<ReqBody>>, Response = Response<ResBody>> + Clone,
    ReqBody: Body,
    ReqBody::Error: Into<Box<dyn Error + Send + Sync>>,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<Oneshot<S, Request<LimitedBody<ReqBody>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let BodyLimitConfig { max, timeout, .. } = self.layer.config;
        let id = request.extensions().get().cloned();
        if request.body().size_hint().lower() > max as u64 {
            let failed = Some(Arc::new(BodyError::TooLarge.into()));
            let inner = None;
            return ResponseFuture { inner, failed, id };
        }
        // Most requests have no body, which cannot fail, and need no shared cell.
        let failed = (!request.body().is_end_stream()).then(|| Arc::new(OnceLock::new()));
        let limited = |body| LimitedBody::new(body, max, timeout);
        let request = match failed.clone() {
            Some(failed) => request.map(|body| limited(body).reporting(failed)),
            None => request.map(limited),
        };
        let inner = Some(self.inner.clone().oneshot(request));
        ResponseFuture { inner, failed, id }
    }
}

pin_project! {
    /// The response future of [`BodyLimit`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        failed: Option<Arc<OnceLock<BodyError>>>,
        id: Option<CorrelationId>,
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.inner.as_pin_mut() {
            Some(inner) => Some(ready!(inner.poll(cx))),
            None => None,
        };
        let failed = this
            .failed
            .as_ref()
            .and_then(|failed| failed.get().copied());
        Poll::Ready(match (failed, response) {
            (None, Some(response)) => response,
            (failed, _) => {
                let error = failed.unwrap_or(BodyError::TooLarge);
                Ok(Problem::from(error).into_response(this.id.as_ref()))
            }
        })
    }
}
