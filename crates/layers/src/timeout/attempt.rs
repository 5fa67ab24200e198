//! The timeout of one attempt.

use std::{
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    MIN_USEFUL,
    future::{Limits, ResponseFuture},
};
use crate::{
    call::CallContext,
    clone::CloneService,
    config::{ConfigError, ConfigErrors, Validate},
    event::{Events, Sinks},
    rejection::{AsRejection, Rejection},
};

/// Configuration of a [`TimeoutLayer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct TimeoutConfig {
    /// Maximum time for one attempt, above 0 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub timeout: Duration,
    /// Minimum remaining time before the call's deadline for an attempt to be sent, 0 s or more. Defaults
    /// to 10 ms. An attempt that has the whole timeout is always sent, even if `timeout` is below
    /// `min_useful`.
    ///
    /// A retry, a hedge and a [`DeadlineLayer`](super::DeadlineLayer) above check a `min_useful` of their
    /// own. Each check rejects for itself, so the largest value applies.
    #[cfg_attr(
        feature = "serde",
        serde(with = "crate::config::duration", default = "min_useful")
    )]
    pub min_useful: Duration,
    /// Lifts the timeout for the [last attempt](crate::Call::last_attempt) of a call with a deadline,
    /// because no later attempt could use the time. Defaults to `false`, so that a hung attempt releases
    /// its permits.
    #[cfg_attr(feature = "serde", serde(default))]
    pub last_attempt_uses_deadline: bool,
}

#[cfg(feature = "serde")]
const fn min_useful() -> Duration {
    MIN_USEFUL
}

impl TimeoutConfig {
    /// Creates a configuration with this timeout and the default of the other fields.
    #[must_use]
    pub const fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            min_useful: MIN_USEFUL,
            last_attempt_uses_deadline: false,
        }
    }
}

crate::setters! {
    without new TimeoutConfig {
        min_useful: Duration,
        last_attempt_uses_deadline: bool,
    }
}

impl From<Duration> for TimeoutConfig {
    fn from(timeout: Duration) -> Self {
        Self::new(timeout)
    }
}

impl Validate for TimeoutConfig {
    fn errors(&self) -> Vec<ConfigError> {
        ConfigErrors::default()
            .positive("timeout", self.timeout)
            .into_vec()
    }
}

/// A layer that limits the time of one attempt.
///
/// The time starts when the inner service is ready and is called, and ends at the call's deadline at the
/// latest. The wait until the service is ready is not part of the attempt: only the deadline limits it, and
/// a call whose deadline passes meanwhile is not sent. If less than
/// [`min_useful`](TimeoutConfig::min_useful) is left until the deadline, the attempt is not sent either.
/// Both end with [`Rejection::DeadlineBeforeSend`].
///
/// ```
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, Deadline, LayerError, Rejection, TimeoutLayer, WithCall};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let layer = TimeoutLayer::new(Duration::from_millis(300)).unwrap();
/// let service = layer.layer(service_fn(|_: WithCall<()>| async {
///     sleep(Duration::from_secs(5)).await;
///     Ok::<_, LayerError>(())
/// }));
/// let error = service.clone().oneshot(WithCall::new(())).await.unwrap_err();
/// assert_eq!(error.as_rejection(), Some(Rejection::AttemptTimeout));
/// // The bound that is reached first determines the error.
/// let deadline = Deadline::at(Instant::now() + Duration::from_millis(100));
/// let error = service.oneshot(WithCall::new(()).deadline(deadline)).await.unwrap_err();
/// assert_eq!(error.as_rejection(), Some(Rejection::Deadline));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    config: TimeoutConfig,
    events: Sinks,
}

impl TimeoutLayer {
    /// Creates a layer from a [`Duration`] or a [`TimeoutConfig`].
    ///
    /// # Errors
    /// Returns an error if the timeout is zero.
    pub fn new(config: impl Into<TimeoutConfig>) -> Result<Self, ConfigError> {
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
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout {
            layer: self.clone(),
            inner,
        }
    }
}

/// A [`Service`] with a timeout per attempt, created by [`TimeoutLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    layer: TimeoutLayer,
    inner: S,
}

impl<S, Req> Service<Req> for Timeout<S>
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
    fn call(&mut self, request: Req) -> Self::Future {
        let TimeoutConfig {
            timeout,
            min_useful,
            last_attempt_uses_deadline,
        } = self.layer.config;
        let call = request.call();
        let lifted = last_attempt_uses_deadline && call.last_attempt && call.deadline.is_some();
        let limits = Limits {
            timeout: (!lifted).then_some(timeout),
            min_useful,
            deadline: call.deadline,
        };
        ResponseFuture::attempt(&mut self.inner, request, limits, &self.layer.events)
    }
}
