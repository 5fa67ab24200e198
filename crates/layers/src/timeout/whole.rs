//! The deadline of the whole call.

use std::{
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    MIN_USEFUL,
    future::{Bound, End, ResponseFuture},
};
use crate::{
    call::CallContext,
    clone::CloneService,
    config::{ConfigError, Validate},
    deadline::Deadline,
    event::{Events, Sinks},
    rejection::{AsRejection, Rejection},
};
use tokio::time::Instant;

crate::config! {
    serde
    /// Configuration of a [`DeadlineLayer`].
    #[derive(Copy, Eq)]
    pub struct DeadlineConfig {
        /// Maximum time for the call, above 0 s. Off by default: the layer then enforces only the deadline
        /// that the call already has.
        pub total: Option<Duration> = None,
        /// Minimum remaining time for a call to be sent, 0 s or more. Defaults to 10 ms.
        ///
        /// If the call arrives with a deadline and less than this remains, the call is rejected with
        /// [`Rejection::DeadlineBeforeSend`]. A call that has the whole [`total`](field@Self::total) is
        /// always sent, even if `total` is below `min_useful`.
        pub min_useful: Duration = MIN_USEFUL,
    }
    limits {
        total: positive(),
    }
}

impl From<Duration> for DeadlineConfig {
    fn from(total: Duration) -> Self {
        Self::new().total(total)
    }
}

impl Validate for DeadlineConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits().into_vec()
    }
}

/// A layer that gives the whole call one absolute deadline.
///
/// The deadline is the earlier of the call's own deadline and the end of the total time. The layers below
/// read it from the request. If the call is not complete at the deadline, it ends with
/// [`Rejection::Deadline`].
///
/// ```
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, CallContext, DeadlineLayer, LayerError, Rejection, WithCall};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let total = Duration::from_millis(800);
/// let layer = DeadlineLayer::new(total).unwrap();
/// let service = layer.layer(service_fn(|request: WithCall<Duration>| async move {
///     sleep(*request.get()).await;
///     Ok::<_, LayerError>(request.call().deadline.unwrap().remaining(Instant::now()))
/// }));
/// let quick = WithCall::new(Duration::from_millis(300));
/// assert_eq!(service.clone().oneshot(quick).await.unwrap(), Duration::from_millis(500));
/// let slow = WithCall::new(Duration::from_secs(5));
/// let error = service.oneshot(slow).await.unwrap_err();
/// assert_eq!(error.as_rejection(), Some(Rejection::Deadline));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineLayer {
    config: DeadlineConfig,
    events: Sinks,
}

impl DeadlineLayer {
    /// Creates a layer from a [`Duration`], the total time, or a [`DeadlineConfig`].
    ///
    /// # Errors
    /// Returns an error if the total time is zero.
    pub fn new(config: impl Into<DeadlineConfig>) -> Result<Self, ConfigError> {
        let config = config.into().validated()?;
        let events = Sinks::default();
        Ok(Self { config, events })
    }

    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        self.events.add(sink.into());
        self
    }

    /// Returns the earlier deadline, and `true` if too little time is left until then.
    fn deadline(&self, call: Option<Deadline>) -> Option<(Deadline, bool)> {
        let DeadlineConfig { total, min_useful } = self.config;
        if (total, call) == (None, None) {
            return None;
        }
        let now = Instant::now();
        let own = total.and_then(|total| Deadline::after(now, total));
        let deadline = match (own, call) {
            (Some(own), Some(call)) => own.min(call),
            (own, call) => own.or(call)?,
        };
        let useful = total.map_or(min_useful, |total| total.min(min_useful));
        Some((deadline, deadline.remaining(now) < useful))
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline {
            layer: self.clone(),
            inner,
        }
    }
}

/// A [`Service`] with a deadline for the whole call, created by [`DeadlineLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct WithDeadline<S> {
    layer: DeadlineLayer,
    inner: S,
}

impl<S, Req> Service<Req> for WithDeadline<S>
where
    S: Service<Req> + CloneService,
    S::Error: AsRejection + From<Rejection>,
    Req: CallContext,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let events = &self.layer.events;
        let Some((deadline, late)) = self.layer.deadline(request.call().deadline) else {
            let bound = (Bound::Never, End::Deadline);
            return ResponseFuture::new(&mut self.inner, request, bound, events);
        };
        if late {
            return ResponseFuture::late(&request, events);
        }
        if let Some(call) = request.call_mut() {
            call.deadline = Some(deadline);
        }
        let bound = (Bound::At(deadline.instant()), End::Deadline);
        ResponseFuture::new(&mut self.inner, request, bound, events)
    }
}
