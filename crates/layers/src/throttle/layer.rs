//! [`ThrottleLayer`], its history of calls, and its service.

use std::{
    fmt,
    sync::OnceLock,
    task::{self, Poll},
};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{ThrottleConfig, future::ResponseFuture};
use crate::{
    breaker::{self, Window},
    call::CallContext,
    classify::{Class, Classify, Failure},
    clock,
    clone::CloneService,
    config::{ConfigError, Validate},
    event::{Events, Sinks},
    oneshot::Oneshot,
    rejection::{AsRejection, Rejection},
    sync::{Arc, Mutex, lock},
    window::{Calls, Tally},
};

/// A layer that rejects calls which the service would probably reject. See the [module
/// docs](super).
///
/// One layer is one history of calls: all services that the layer makes, and all their clones,
/// share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{Class, LayerError, ThrottleConfig, ThrottleLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let classify = |result: Result<&u16, &LayerError>, _| match result {
///     Ok(429) => Class::Throttled { retry_after: None },
///     _ => Class::Success,
/// };
/// let layer = ThrottleLayer::new(ThrottleConfig::new(), classify).unwrap();
/// let service = layer.layer(service_fn(|status| async move { Ok::<_, LayerError>(status) }));
/// for _ in 0..100 {
///     service.clone().oneshot(200).await.unwrap();
/// }
/// assert_eq!(layer.rejection_probability(), 0.0);
/// // The service accepts 100 of 400 calls. With `k` 2.0, calls above 200 may be rejected.
/// for _ in 0..300 {
///     let _ = service.clone().oneshot(429).await;
/// }
/// assert_eq!(layer.rejection_probability(), (400.0 - 2.0 * 100.0) / 401.0);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ThrottleLayer<C> {
    history: Arc<CallHistory>,
    classify: C,
    events: Sinks,
}

impl<C> ThrottleLayer<C> {
    /// Creates a throttle. `classify` decides which calls the service accepted.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: ThrottleConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let calls = Calls::new(Window::Time(config.window), Instant::now());
        let history = CallHistory {
            config,
            calls: Mutex::new(calls),
            breaker: OnceLock::new(),
        };
        Ok(Self {
            history: Arc::new(history),
            classify,
            events: Sinks::default(),
        })
    }

    /// Checks `breaker`, which must be below the throttle, before each call.
    ///
    /// While the circuit is open, the call is rejected as the breaker would reject it, and is not
    /// counted. A throttle has one breaker: further calls of this method have no effect.
    #[must_use]
    pub fn breaker(self, breaker: impl Into<Option<breaker::Handle>>) -> Self {
        let _ = breaker
            .into()
            .map(|breaker| self.history.breaker.set(breaker));
        self
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

    /// Returns the current probability of a rejection, 0 to 1.
    #[must_use]
    pub fn rejection_probability(&self) -> f64 {
        self.history.rejection_probability()
    }
}

/// The results of the recent calls.
pub(super) struct CallHistory {
    config: ThrottleConfig,
    calls: Mutex<Calls>,
    breaker: OnceLock<breaker::Handle>,
}

impl CallHistory {
    fn rejection_probability(&self) -> f64 {
        let tally = lock(&self.calls).sum(clock::now());
        // `failed` counts the calls that were not accepted.
        let (made, accepted) = (tally.total as f64, (tally.total - tally.failed) as f64);
        ((made - self.config.k * accepted) / (made + 1.0)).clamp(0.0, self.config.max)
    }

    /// Returns the rejection of the breaker or of the throttle, or `None` if the call may be sent.
    /// A rejection by the throttle counts as a request.
    fn reject(&self) -> Option<Rejection> {
        if let Some(rejection) = self.breaker.get().and_then(breaker::Handle::reject) {
            return Some(rejection);
        }
        let rejects = fastrand::f64() < self.rejection_probability();
        rejects.then(|| {
            self.add(false);
            Rejection::ClientThrottled
        })
    }

    /// Adds the result of a call.
    pub(super) fn record(&self, class: Class) {
        if let Some(accepted) = accepted(class) {
            self.add(accepted);
        }
    }

    fn add(&self, accepted: bool) {
        lock(&self.calls).add(Tally::one(!accepted, false), clock::now());
    }
}

/// Returns `true` if the service accepted the call, or `None` if the result does not show it.
const fn accepted(class: Class) -> Option<bool> {
    match class {
        Class::Rejected(_) | Class::Unanswered { .. } => None,
        Class::Throttled { .. }
        | Class::Failure(
            Failure::Status { code: 503, .. } | Failure::NotProcessed | Failure::AttemptTimeout,
        ) => Some(false),
        _ => Some(true),
    }
}

impl fmt::Debug for CallHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHistory")
            .field("config", &self.config)
            .field("rejection_probability", &self.rejection_probability())
            .finish()
    }
}

impl<S, C: Clone> Layer<S> for ThrottleLayer<C> {
    type Service = Throttle<S, C>;

    fn layer(&self, inner: S) -> Throttle<S, C> {
        Throttle {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`ThrottleLayer`].
#[derive(Clone, Debug)]
pub struct Throttle<S, C> {
    layer: ThrottleLayer<C>,
    inner: S,
}

impl<S, C, Req> Service<Req> for Throttle<S, C>
where
    S: Service<Req> + CloneService,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    Req: CallContext,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let ThrottleLayer {
            history,
            classify,
            events,
        } = &self.layer;
        if let Some(rejection) = history.reject() {
            let call = Oneshot::failed(events.reject(&request.call().events, rejection));
            return ResponseFuture::new(call, None, classify.clone());
        }
        let call = Oneshot::start(&mut self.inner, request);
        ResponseFuture::new(call, Some(Arc::clone(history)), classify.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::table::{self, ROWS, THROTTLED, status};

    #[test]
    fn overload_results_are_not_accepted() {
        let not_accepted = [
            THROTTLED,
            status(503),
            Class::Failure(Failure::NotProcessed),
            Class::Failure(Failure::AttemptTimeout),
        ];
        let mut others = not_accepted.map(|class| (class, Some(false))).to_vec();
        let unknown =
            |class: &Class| matches!(class, Class::Rejected(_) | Class::Unanswered { .. });
        let unknown = ROWS.into_iter().filter(unknown);
        others.extend(unknown.map(|class| (class, None)));
        table::check(accepted, &Some(true), &others);
    }
}
