//! [`UploadLayer`] and its service.

use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{ReplayBody, Upload};
use crate::call::CallContext as _;

/// A layer that makes the body of a request repeatable (feature `http`); see the [module docs](super).
///
/// ```
/// use http::{Method, Request};
/// use http_body_util::{BodyExt, Full};
/// use bytes::Bytes;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     CallContext, ClassifyResult, LayerError, RetryConfig, RetryLayer, UploadLayer,
///     upload::ReplayBody,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = ServiceBuilder::new()
///     .layer(UploadLayer::new(64 * 1024))
///     .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
///     .service(service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async {
///         let attempt = request.call().attempt;
///         let body = request.into_body().collect().await?.to_bytes();
///         if attempt == 1 { Err(LayerError::from("a hiccup")) } else { Ok(body) }
///     }));
/// let request = Request::put("/").body(Full::from("all of it")).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap(), "all of it");
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct UploadLayer {
    max_body: u64,
}

impl UploadLayer {
    /// Creates a layer that keeps up to `max_body` bytes of a request body.
    ///
    /// A body that announces more bytes by its `size_hint` is not kept, and its request is never retried. A
    /// body of unknown size is kept until it exceeds `max_body`. Until then, its request may be retried.
    ///
    /// With 0, no data is kept. So a request is retried only if it has no body, or if its body has an unknown
    /// size and the attempt failed before any data was read.
    #[must_use]
    pub const fn new(max_body: u64) -> Self {
        Self { max_body }
    }
}

/// Keeps up to 64 KiB of a body, as linkerd does.
impl Default for UploadLayer {
    fn default() -> Self {
        Self::new(64 * 1024)
    }
}

impl<S> Layer<S> for UploadLayer {
    type Service = Uploading<S>;

    fn layer(&self, inner: S) -> Uploading<S> {
        Uploading {
            layer: *self,
            inner,
        }
    }
}

/// A [`Service`] that makes request bodies repeatable, created by [`UploadLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Copy, Debug)]
pub struct Uploading<S> {
    layer: UploadLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for Uploading<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let upload = Upload::default();
        let max = self.layer.max_body;
        let mut request = request.map(|body| ReplayBody::new(body, max, upload.share()));
        if let Some(call) = request.call_mut() {
            call.upload = Some(upload);
        }
        self.inner.call(request)
    }
}
