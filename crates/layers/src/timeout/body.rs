//! Timeouts of a streamed response body: between frames, and until the deadline.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    call::CallContext as _,
    config::ConfigError,
    deadline::{Deadline, later},
    rejection::{BoxError, Rejection},
    timer::Timer,
};

/// A layer that limits the time of a streamed response body (feature `http`).
///
/// The body ends with [`Rejection::AttemptTimeout`] if a frame takes longer than the idle timeout, and with
/// [`Rejection::Deadline`] at the call's deadline, however steadily frames arrive. The idle time runs only
/// while a reader waits for a frame, because a slow reader is not a fault of the service.
///
/// The error of the body is a [`BoxError`]. [`AsRejection`](crate::AsRejection) finds the rejection in it.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use futures_util::{StreamExt, stream};
/// use http::{Request, Response};
/// use http_body::Frame;
/// use http_body_util::{BodyExt, StreamBody};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, BodyTimeoutLayer, BoxError, LayerError, Rejection};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = BodyTimeoutLayer::new(Duration::from_secs(5)).unwrap();
/// let service = layer.layer(service_fn(|_: Request<()>| async {
///     let first = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from("half")))]);
///     Ok::<_, LayerError>(Response::new(StreamBody::new(first.chain(stream::pending()))))
/// }));
/// let answer = service.oneshot(Request::new(())).await.unwrap();
/// let error = answer.into_body().collect().await.unwrap_err();
/// assert_eq!(error.as_rejection(), Some(Rejection::AttemptTimeout));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeoutLayer {
    idle: Duration,
}

impl BodyTimeoutLayer {
    /// Creates a layer with an idle timeout. With [`Duration::MAX`], only the call's deadline ends the
    /// body.
    ///
    /// # Errors
    /// Returns an error if `idle` is zero.
    pub fn new(idle: Duration) -> Result<Self, ConfigError> {
        if idle.is_zero() {
            return Err(ConfigError::new("idle", "must be > 0, got 0s").of("BodyTimeoutLayer"));
        }
        Ok(Self { idle })
    }
}

/// Idle timeout of 5 s.
impl Default for BodyTimeoutLayer {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(5),
        }
    }
}

impl<S> Layer<S> for BodyTimeoutLayer {
    type Service = BodyTimeout<S>;

    fn layer(&self, inner: S) -> BodyTimeout<S> {
        BodyTimeout {
            layer: *self,
            inner,
        }
    }
}

/// A [`Service`] with timeouts for response bodies, created by [`BodyTimeoutLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Copy, Debug)]
pub struct BodyTimeout<S> {
    layer: BodyTimeoutLayer,
    inner: S,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for BodyTimeout<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<TimedBody<ResB>>;
    type Error = S::Error;
    type Future = BodyResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        BodyResponseFuture {
            idle: self.layer.idle,
            deadline: request.call().deadline.map(Deadline::instant),
            inner: self.inner.call(request),
        }
    }
}

pin_project! {
    /// The response future of [`BodyTimeout`].
    pub struct BodyResponseFuture<F> {
        idle: Duration,
        deadline: Option<Instant>,
        #[pin]
        inner: F,
    }
}

impl<F, B, E> Future for BodyResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<TimedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let (idle, deadline) = (*this.idle, *this.deadline);
        Poll::Ready(Ok(response.map(|body| TimedBody {
            body: Some(body),
            idle,
            deadline,
            waiting: None,
            timer: Timer::default(),
        })))
    }
}

pin_project! {
    /// A response body with an idle timeout and a deadline (feature `http`).
    pub struct TimedBody<B> {
        // `None` once a timeout has ended the body.
        #[pin]
        body: Option<B>,
        idle: Duration,
        deadline: Option<Instant>,
        // The reason of the next timeout, while a reader waits for a frame.
        waiting: Option<Rejection>,
        timer: Timer,
    }
}

/// Returns the end of a wait that starts now, and the rejection at that time.
fn bound(idle: Duration, deadline: Option<Instant>) -> (Instant, Rejection) {
    let idle = later(Instant::now(), idle);
    match deadline.filter(|deadline| *deadline <= idle) {
        Some(deadline) => (deadline, Rejection::Deadline),
        None => (idle, Rejection::AttemptTimeout),
    }
}

impl<B> TimedBody<B> {
    /// Waits until the idle timeout or the deadline. Starts the timer on the first call of a wait.
    fn wait(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Rejection> {
        let this = self.project();
        let rejection = *this.waiting.get_or_insert_with(|| {
            let (at, rejection) = bound(*this.idle, *this.deadline);
            this.timer.set(at);
            rejection
        });
        this.timer.poll(cx).map(|()| rejection)
    }

    /// Returns `true` after the deadline.
    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline < Instant::now())
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let Some(body) = self.as_mut().project().body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        // The body is polled before the timer, so a frame that is ready wins. Only the deadline can
        // reject such a frame.
        let rejection = match body.poll_frame(cx) {
            Poll::Pending => ready!(self.as_mut().wait(cx)),
            Poll::Ready(Some(Ok(_))) if self.is_late() => Rejection::Deadline,
            Poll::Ready(frame) => {
                *self.project().waiting = None;
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
        };
        self.project().body.set(None);
        Poll::Ready(Some(Err(rejection.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
