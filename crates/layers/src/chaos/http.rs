//! Faults for HTTP responses.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::inject::Injected;
use crate::{classify::Failure, rejection::BoxError};

/// A response with a body that can break off.
type Breakable<B> = Response<ChaosBody<B>>;

/// Returns the function that creates faults for an HTTP service (feature `http`). `error` creates the errors.
///
/// An injected response has no body and no headers. The body of a broken response ends with an error of
/// the kind [`Failure::TruncatedBody`]. The service below must respond with a [`ChaosBody`], so that the
/// layer can break it.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     AsRejection, Failure, LayerError,
///     chaos::{ChaosBody, ChaosConfig, ChaosLayer, Injection, Rule, inject_http},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let config = ChaosConfig::new()
///     .enabled(true)
///     .rules(vec![Rule::new(1.0, Injection::Truncate(5))]);
/// let layer = ChaosLayer::new(config, inject_http(LayerError::from)).unwrap();
/// let service = layer.layer(service_fn(|_: Request<()>| async {
///     Ok::<_, LayerError>(Response::new(ChaosBody::new(Full::new(Bytes::from("all of it")))))
/// }));
/// let mut body = service.oneshot(Request::new(())).await.unwrap().into_body();
/// assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "all o");
/// assert_eq!(body.frame().await.unwrap().unwrap_err().failure(), Failure::TruncatedBody);
/// # }
/// ```
pub fn inject_http<B, E>(
    error: impl Fn(Failure) -> E + Clone,
) -> impl Fn(Injected<Breakable<B>>) -> Result<Breakable<B>, E> + Clone {
    move |injected| match injected {
        Injected::Error(failure) => Err(error(failure)),
        Injected::Status(status) => {
            let mut response = Response::new(ChaosBody::empty());
            let status = StatusCode::from_u16(status);
            *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Ok(response)
        }
        Injected::Truncate(response, bytes) => {
            Ok(response.map(|body| body.with_end(End::After(bytes))))
        }
        Injected::ResetBody(response) => Ok(response.map(|body| body.with_end(End::Now))),
    }
}

pin_project! {
    /// A body that may break off (feature `http`). The headers and the size hint still announce the whole body.
    #[derive(Debug)]
    pub struct ChaosBody<B> {
        // `None` after the break, and for an injected response.
        #[pin]
        body: Option<B>,
        end: End,
    }
}

/// The point at which a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// At the end of the inner body.
    Inner,
    /// After this number of bytes, if the inner body has more.
    After(u64),
    /// Before the next frame.
    Now,
}

impl<B> ChaosBody<B> {
    /// Creates a body that is complete unless a fault is injected.
    #[must_use]
    pub const fn new(body: B) -> Self {
        Self {
            body: Some(body),
            end: End::Inner,
        }
    }

    fn with_end(self, end: End) -> Self {
        Self { end, ..self }
    }

    const fn empty() -> Self {
        let end = End::Inner;
        Self { body: None, end }
    }
}

impl End {
    /// Truncates `data` at the end. Returns `false` if no byte of `data` is before the end.
    fn admits(&mut self, data: &mut Bytes) -> bool {
        let size = data.len() as u64;
        match *self {
            Self::Inner => true,
            Self::After(left) if size <= left => {
                *self = Self::After(left - size);
                true
            }
            Self::After(left) => {
                // Longer than the rest, so the body ends within this frame.
                data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                *self = Self::Now;
                left > 0
            }
            Self::Now => false,
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for ChaosBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if !matches!(this.end, End::Now) {
            let frame = ready!(body.poll_frame(cx))
                .transpose()
                .map_err(Into::into)?;
            let Some(frame) = frame else {
                return Poll::Ready(None);
            };
            let mut frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
            let data = frame.data_mut();
            if data.is_none_or(|data| this.end.admits(data)) {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        this.body.set(None);
        Poll::Ready(Some(Err(Failure::TruncatedBody.into())))
    }

    fn is_end_stream(&self) -> bool {
        let whole = !matches!(self.end, End::Now);
        self.body
            .as_ref()
            .is_none_or(|body| whole && body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
