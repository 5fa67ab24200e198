//! The layer, what it remembers, and its service.

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
    config::{ConfigError, Validate},
    oneshot::Oneshot,
    rejection::{AsRejection, Rejection},
    sync::{Arc, Mutex, PoisonError},
    window::{Calls, Tally},
};

/// Refuses what the service would refuse; see the [module docs](super).
///
/// One layer is one memory: all services that it makes, and all their clones, share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BoxError, Class, ThrottleConfig, ThrottleLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let classify = |result: Result<&u16, &BoxError>, _| match result {
///     Ok(429) => Class::Throttled { retry_after: None },
///     _ => Class::Success,
/// };
/// let layer = ThrottleLayer::new(ThrottleConfig::new(), classify).unwrap();
/// let service = layer.layer(service_fn(|status| async move { Ok::<_, BoxError>(status) }));
/// for _ in 0..100 {
///     service.clone().oneshot(200).await.unwrap();
/// }
/// assert_eq!(layer.refused_share(), 0.0);
/// // Of 400 calls it accepts 100, and twice as many are made before any is refused.
/// for _ in 0..300 {
///     let _ = service.clone().oneshot(429).await;
/// }
/// assert_eq!(layer.refused_share(), (400.0 - 2.0 * 100.0) / 401.0);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ThrottleLayer<C> {
    memory: Arc<Memory>,
    classify: C,
}

impl<C> ThrottleLayer<C> {
    /// Creates a throttle. `classify` tells which calls the service accepted.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: ThrottleConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let calls = Calls::new(Window::Time(config.window), Instant::now());
        let memory = Memory {
            config,
            calls: Mutex::new(calls),
            breaker: OnceLock::new(),
        };
        Ok(Self {
            memory: Arc::new(memory),
            classify,
        })
    }

    /// Asks `breaker`, which is below the throttle, before each call. While the circuit is open the call
    /// is rejected as by the breaker, and the throttle does not remember it. One throttle has one
    /// breaker, the first that it is given.
    #[must_use]
    pub fn breaker(self, breaker: breaker::Handle) -> Self {
        let _ = self.memory.breaker.set(breaker);
        self
    }

    /// The share of the calls that is refused now, 0 to 1.
    #[must_use]
    pub fn refused_share(&self) -> f64 {
        self.memory.refused_share()
    }
}

/// What became of the calls of late.
pub(super) struct Memory {
    config: ThrottleConfig,
    calls: Mutex<Calls>,
    breaker: OnceLock<breaker::Handle>,
}

impl Memory {
    fn with<T>(&self, act: impl FnOnce(&mut Calls, Instant) -> T) -> T {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut calls, Instant::now())
    }

    fn refused_share(&self) -> f64 {
        let seen = self.with(Calls::sum);
        let (made, accepted) = (seen.total as f64, (seen.total - seen.failed) as f64);
        ((made - self.config.k * accepted) / (made + 1.0)).clamp(0.0, self.config.max)
    }

    /// Returns the rejection of a call that is not to be made. One that the throttle itself rejects is
    /// remembered.
    fn reject(&self) -> Option<Rejection> {
        if let Some(rejection) = self.breaker.get().and_then(breaker::Handle::reject) {
            return Some(rejection);
        }
        let rejects = fastrand::f64() < self.refused_share();
        rejects.then(|| {
            self.remember(false);
            Rejection::Throttled
        })
    }

    /// Remembers a call that ended as `class`.
    pub(super) fn record(&self, class: Class) {
        if let Some(accepted) = accepted(class) {
            self.remember(accepted);
        }
    }

    fn remember(&self, accepted: bool) {
        self.with(|calls, now| calls.add(Tally::one(!accepted, false), now));
    }
}

/// Whether the service accepted a call that ended as `class`, if that says anything of it.
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

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("config", &self.config)
            .field("refused_share", &self.refused_share())
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
    S: Service<Req> + Clone,
    S::Error: From<Rejection> + AsRejection,
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
        let ThrottleLayer { memory, classify } = &self.layer;
        if let Some(rejection) = memory.reject() {
            return ResponseFuture::refused(request.call().events.reject(rejection));
        }
        let call = Oneshot::start(&mut self.inner, request);
        ResponseFuture::running(call, Arc::clone(memory), classify.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::table::{self, ROWS, THROTTLED, status};

    #[test]
    fn what_a_service_under_overload_answers_was_not_accepted() {
        let refused = [
            THROTTLED,
            status(503),
            Class::Failure(Failure::NotProcessed),
            Class::Failure(Failure::AttemptTimeout),
        ];
        let mut others = refused.map(|class| (class, Some(false))).to_vec();
        let unknown =
            |class: &Class| matches!(class, Class::Rejected(_) | Class::Unanswered { .. });
        let unknown = ROWS.into_iter().filter(unknown);
        others.extend(unknown.map(|class| (class, None)));
        table::check(accepted, &Some(true), &others);
    }
}
