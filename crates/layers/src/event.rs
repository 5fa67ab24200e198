//! Events that report what the layers do with a call.
//!
//! A call carries its receiver, [`Events`], in its [`Call`](crate::Call). Without a receiver, an event
//! costs one comparison. Metrics, logs and reports are derived from these events, so the layers depend on
//! no metrics library.
//!
//! | event | emitted by |
//! |---|---|
//! | [`Attempt`](Event::Attempt), [`AttemptEnded`](Event::AttemptEnded) | [`RetryLayer`], [`HedgeLayer`] |
//! | [`Hedge`](Event::Hedge) | [`HedgeLayer`] |
//! | [`Backoff`](Event::Backoff), [`RetryStopped`](Event::RetryStopped) | [`RetryLayer`] |
//! | [`Queued`](Event::Queued), [`PermitAcquired`](Event::PermitAcquired) | [`ConcurrencyLayer`] |
//! | [`Rejected`](Event::Rejected) | [`DeadlineLayer`], [`TimeoutLayer`], [`ConcurrencyLayer`], [`BreakerLayer`], [`ThrottleLayer`] |
//! | [`BreakerChanged`](Event::BreakerChanged), [`BreakerWouldOpen`](Event::BreakerWouldOpen), [`LateResult`](Event::LateResult) | [`BreakerLayer`] |
//! | `Chaos` | `ChaosLayer` (feature `chaos`) |
//! | [`FallbackStarted`](Event::FallbackStarted), [`FallbackFailed`](Event::FallbackFailed), [`FallbackUsed`](Event::FallbackUsed) | [`FallbackLayer`] |
//! | [`ResponseStatus`](Event::ResponseStatus), [`BadTimeout`](Event::BadTimeout) | no layer of this crate |
//!
//! Each call has one receiver, which gets the events of all layers that the call passes. An event has no
//! name of a layer or a service. To tell services apart, give the calls to each service a receiver that is
//! created with the name of that service. The call of a fallback step has the receiver of the original call:
//! [`Event::FallbackStarted`] marks its start.
//!
//! A change of a breaker's state is reported to the call that caused it. A change that is made through a
//! [`Handle`](crate::breaker::Handle), such as `force_open` or `reset`, belongs to no call and is reported
//! to no receiver. [`Handle::snapshot`](crate::breaker::Handle::snapshot) shows the state in every case.
//!
//! [`BreakerLayer`]: crate::BreakerLayer
//! [`ConcurrencyLayer`]: crate::ConcurrencyLayer
//! [`DeadlineLayer`]: crate::DeadlineLayer
//! [`FallbackLayer`]: crate::FallbackLayer
//! [`HedgeLayer`]: crate::HedgeLayer
//! [`RetryLayer`]: crate::RetryLayer
//! [`ThrottleLayer`]: crate::ThrottleLayer
//! [`TimeoutLayer`]: crate::TimeoutLayer

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    breaker::{OpenReason, State},
    classify::Class,
    rejection::{BoxError, Rejection},
};

/// An event in the life of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A retry or hedge layer sends an attempt.
    Attempt {
        /// Number of the attempt, from 1.
        number: u8,
    },
    /// A hedge layer sends an attempt after the first, because of the delay or a failure. An
    /// [`Attempt`](Self::Attempt) with the same number follows directly.
    Hedge {
        /// Number of the attempt, from 2.
        number: u8,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Class of the attempt's result.
        class: Class,
        /// Time from sending the attempt to its result.
        elapsed: Duration,
    },
    /// A service responded over HTTP.
    ///
    /// No layer of this crate emits this event. `JsonLayer` of the crate `tower-fanout-json` does, and
    /// your own service can.
    ResponseStatus {
        /// Status of the response.
        status: u16,
    },
    /// A retry layer pauses before the next attempt.
    Backoff {
        /// Length of the pause.
        delay: Duration,
    },
    /// A retry layer makes no further attempt after a result that is not a success.
    ///
    /// Not emitted for a [`Class::NonRetryable`] result, unless the retry lists its status. A hedge layer
    /// does not emit this event.
    RetryStopped {
        /// The reason why no further attempt follows.
        by: RetryStopReason,
    },
    /// A call waits in the queue of a concurrency limit. [`PermitAcquired`](Self::PermitAcquired) or
    /// [`Rejected`](Self::Rejected) follows, unless the call is dropped.
    Queued,
    /// A call got its permit at a concurrency limit.
    PermitAcquired {
        /// Time that the call waited in the queue.
        waited: Duration,
    },
    /// A layer rejected the call or one of its attempts, timeouts included.
    ///
    /// Emitted once, by the layer that creates the rejection. Layers above return the error without another
    /// event. A timeout of a response body or of a fallback step does not emit this event.
    Rejected(Rejection),
    /// A request header with the caller's remaining time is invalid, and was ignored.
    ///
    /// No layer of this crate emits this event. `InboundDeadlineLayer` of the crate `tower-fanout-http`
    /// does.
    BadTimeout,
    /// A circuit breaker changed its state because of this call. A change through a
    /// [`Handle`](crate::breaker::Handle) is not reported.
    BreakerChanged {
        /// The state it left.
        from: State,
        /// The state it entered.
        to: State,
        /// The reason, if the breaker opened. Else `None`.
        reason: Option<OpenReason>,
    },
    /// A circuit breaker in shadow mode would have opened.
    BreakerWouldOpen,
    /// A call ended after the breaker changed its state. The breaker ignores the result, because the call
    /// was admitted in the earlier state.
    LateResult,
    /// A fault was injected into an attempt.
    #[cfg(feature = "chaos")]
    Chaos,
    /// A function or service step of a fallback starts. A fixed or last good response has no such event.
    ///
    /// Until the step succeeds or fails, further events of this call may come from that service.
    FallbackStarted {
        /// Position of the step in its chain, from 0.
        step: usize,
        /// Kind of the step.
        kind: FallbackKind,
    },
    /// A fallback step failed.
    FallbackFailed {
        /// Position of the step in its chain, from 0.
        step: usize,
        /// Class of the step's result.
        class: Class,
    },
    /// A fallback step succeeded, and its response is the result of the call.
    FallbackUsed {
        /// Position of the step in its chain, from 0.
        step: usize,
        /// Kind of the step.
        kind: FallbackKind,
    },
}

/// The reason why a retry layer made no further attempt.
///
/// The [module docs of the retry](crate::retry) list the checks in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryStopReason {
    /// The result is not in [`retry_on`](field@crate::RetryConfig::retry_on), or the request is not
    /// idempotent. Also the reason after a rejection of the first attempt, except
    /// [`Rejection::NoEndpoint`], which is retried.
    NotRetryable,
    /// All attempts of the configuration or of the call are used up.
    Attempts,
    /// The branches of the request have used up their common [`RetryAllowance`](crate::RetryAllowance).
    RequestAllowance,
    /// The retry budget is empty.
    Budget,
    /// The next attempt could not be useful before the deadline, or a layer below rejected it with
    /// [`Rejection::DeadlineBeforeSend`].
    Deadline,
    /// The `Retry-After` of the response is longer than the configuration allows.
    RetryAfter,
    /// The circuit breaker is open: the [handle](crate::RetryLayer::breaker) shows it after the pause, or
    /// a layer below rejected an attempt after the first with [`Rejection::CircuitOpen`].
    BreakerOpen,
    /// A layer below rejected an attempt after the first for another reason, such as a full limit.
    Rejected,
    /// The request's body cannot be sent again.
    Body,
}

impl RetryStopReason {
    /// Returns the name for metrics and reports, such as the label `by` of `fanout_retries_stopped_total` and
    /// the field `retryStoppedBy` in the responses of `tower-fanout-json`.
    ///
    /// The names are part of the public API, as the variants are. Some differ from their variant.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Attempts => "attempts",
            Self::RequestAllowance => "request_cap",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
            Self::BreakerOpen => "breaker_open",
            Self::Rejected => "refused",
            Self::Body => "body",
        }
    }
}

/// The source of a fallback's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallbackKind {
    /// A fixed response.
    Static,
    /// The last good response.
    Stale,
    /// A function.
    Function,
    /// Another service.
    Service,
}

impl FallbackKind {
    /// Returns the name for metrics and reports, such as the field `fallbackKind` in the responses of
    /// `tower-fanout-json`.
    ///
    /// The names are part of the public API, as the variants are.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Stale => "stale",
            Self::Function => "function",
            Self::Service => "service",
        }
    }
}

/// A receiver of events.
///
/// The receiver runs on the path of the call, so it must be fast and must not block.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BoxError, ClassifyResult, Event, EventSink, Events, RetryConfig, RetryLayer, WithCall,
/// };
///
/// #[derive(Default)]
/// struct Attempts(AtomicU32);
///
/// impl EventSink for Attempts {
///     fn on(&self, event: Event) {
///         if let Event::Attempt { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = RetryLayer::new(RetryConfig::new().max_attempts(3), ClassifyResult)
///     .unwrap()
///     .layer(service_fn(|_: WithCall<()>| async { Err::<(), BoxError>("down".into()) }));
/// let attempts = Arc::new(Attempts::default());
/// let request = WithCall::new(()).idempotent().events(Events::new(attempts.clone()));
/// service.oneshot(request).await.unwrap_err();
/// assert_eq!(attempts.0.load(Ordering::Relaxed), 3);
/// # }
/// ```
pub trait EventSink: Send + Sync {
    /// Handles `event`.
    fn on(&self, event: Event);

    /// Handles the error that the response of a fallback replaces, just before
    /// [`Event::FallbackUsed`]. Drops it by default.
    ///
    /// The error is the one that
    /// [`FallbackLayer::describe_failure`](crate::FallbackLayer::describe_failure) returns. Without that
    /// setting it is the [`Failure`](crate::Failure) or the [`Rejection`] of the call.
    fn on_replaced(&self, error: BoxError) {
        drop(error);
    }
}

/// The receiver of a call's events, or none. Clones share the receiver. See the example of [`EventSink`].
///
/// Code outside this crate can emit events too:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tower_fanout_layers::{Event, EventSink, Events, Rejection};
///
/// #[derive(Default)]
/// struct Recorder(Mutex<Vec<Event>>);
///
/// impl EventSink for Recorder {
///     fn on(&self, event: Event) {
///         self.0.lock().unwrap().push(event);
///     }
/// }
///
/// let recorder = Arc::new(Recorder::default());
/// Events::new(recorder.clone()).emit(Event::Rejected(Rejection::NoEndpoint));
/// Events::NONE.emit(Event::BadTimeout);
/// assert_eq!(*recorder.0.lock().unwrap(), [Event::Rejected(Rejection::NoEndpoint)]);
/// ```
#[derive(Clone, Default)]
pub struct Events(Option<Arc<dyn EventSink>>);

impl Events {
    /// No receiver. Events are dropped.
    pub const NONE: Self = Self(None);

    /// Creates a handle that sends events to `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self(Some(sink))
    }

    /// Sends `event` to the receiver. A panic of the receiver is caught and ignored.
    #[inline]
    pub fn emit(&self, event: Event) {
        if let Some(sink) = &self.0 {
            let _ = catch_unwind(AssertUnwindSafe(|| sink.on(event)));
        }
    }

    /// Sends the error that a fallback replaces to the receiver. A panic of `error` or of the receiver is
    /// caught and ignored.
    pub(crate) fn replaced(&self, error: impl FnOnce() -> BoxError) {
        if let Some(sink) = &self.0 {
            let _ = catch_unwind(AssertUnwindSafe(|| sink.on_replaced(error())));
        }
    }

    /// Reports `rejection` and converts it to an error.
    pub(crate) fn reject<E: From<Rejection>>(&self, rejection: Rejection) -> E {
        self.emit(Event::Rejected(rejection));
        E::from(rejection)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Events"
        } else {
            "Events::NONE"
        })
    }
}
