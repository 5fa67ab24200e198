//! One probe that is told what the layers see of a call.
//!
//! A call carries its probe in its [`Call`](crate::Call); a call without one costs a branch per
//! event. Counting, logging and reporting are all functions of these events, so no layer knows of
//! metrics.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    breaker::{OpenReason, State},
    classify::Class,
    rejection::Rejection,
};

/// Something that happened to a call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A retry layer sends an attempt; numbers count from 1.
    Attempt {
        /// The number of the attempt.
        number: u8,
    },
    /// A hedge is sent beside the attempts that run.
    Hedge {
        /// Which attempt it is, from 2.
        number: u8,
    },
    /// An attempt ended.
    AttemptEnded {
        /// What its result means.
        class: Class,
        /// From sending to the result.
        elapsed: Duration,
    },
    /// A service answered over HTTP.
    ResponseStatus {
        /// The status of the answer.
        status: u16,
    },
    /// A retry layer pauses before the next attempt.
    Backoff {
        /// How long.
        delay: Duration,
    },
    /// A retry layer gave up on a failure that it might have retried.
    RetryStopped {
        /// Which rule said so.
        by: RetryStopReason,
    },
    /// A call got its turn at a concurrency limit.
    PermitAcquired {
        /// How long it waited.
        waited: Duration,
    },
    /// A layer refused the call.
    Rejected(Rejection),
    /// A caller's header that says how much time is left made no sense, and was ignored.
    BadTimeout,
    /// A circuit breaker changed its state.
    BreakerChanged {
        /// The state it left.
        from: State,
        /// The state it entered.
        to: State,
        /// Why, if it opened.
        reason: Option<OpenReason>,
    },
    /// A circuit breaker that is for metrics only would have opened.
    BreakerWouldOpen,
    /// A call that was admitted before the breaker changed its state ended after it; its result
    /// counts for nothing.
    LateResult,
    /// Chaos was injected into an attempt.
    #[cfg(feature = "chaos")]
    Chaos,
    /// A function or a service is asked that is a step of a fallback. What is told until it has
    /// answered or failed may be of that service.
    FallbackAsked {
        /// The place of the step in its chain, from 0.
        step: usize,
        /// What kind of step it is.
        kind: FallbackKind,
    },
    /// A step of a fallback was asked and failed.
    FallbackFailed {
        /// The place of the step in its chain, from 0.
        step: usize,
        /// What its result means.
        class: Class,
    },
    /// A fallback answered.
    FallbackUsed {
        /// The place of the step in its chain, from 0.
        step: usize,
        /// What kind of step it was.
        kind: FallbackKind,
    },
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryStopReason {
    /// The result is not one that is retried.
    NotRetryable,
    /// The policy's attempts are used up.
    Attempts,
    /// The request's branches have used up their retries together.
    RequestCap,
    /// The retry budget is empty.
    Budget,
    /// The next attempt could not be made before the deadline.
    Deadline,
    /// The service asked for a longer pause than the policy allows.
    RetryAfter,
    /// The circuit breaker is open.
    BreakerOpen,
    /// A layer below refused the next attempt before it was sent.
    Refused,
    /// The request's body cannot be sent again.
    Body,
}

impl RetryStopReason {
    /// Its name in metrics and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Attempts => "attempts",
            Self::RequestCap => "request_cap",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
            Self::BreakerOpen => "breaker_open",
            Self::Refused => "refused",
            Self::Body => "body",
        }
    }
}

/// Where a fallback's answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallbackKind {
    /// A fixed answer.
    Static,
    /// The last good answer.
    Stale,
    /// A function.
    Function,
    /// Another service.
    Service,
}

impl FallbackKind {
    /// Its name on the wire.
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

/// Is told of events. It runs on the path of the call: it must be quick and must not block.
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
    /// Takes note of `event`.
    fn on(&self, event: Event);
}

/// Whoever is told of a call's events, or nobody; see the example of [`EventSink`].
///
/// What is not a layer of this crate may tell of events too:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tower_fanout_layers::{Event, EventSink, Events, Rejection};
///
/// #[derive(Default)]
/// struct Heard(Mutex<Vec<Event>>);
///
/// impl EventSink for Heard {
///     fn on(&self, event: Event) {
///         self.0.lock().unwrap().push(event);
///     }
/// }
///
/// let heard = Arc::new(Heard::default());
/// Events::new(heard.clone()).emit(Event::Rejected(Rejection::NoEndpoint));
/// Events::NONE.emit(Event::BadTimeout);
/// assert_eq!(*heard.0.lock().unwrap(), [Event::Rejected(Rejection::NoEndpoint)]);
/// ```
#[derive(Clone, Default)]
pub struct Events(Option<Arc<dyn EventSink>>);

impl Events {
    /// Nobody.
    pub const NONE: Self = Self(None);

    /// Tells `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self(Some(sink))
    }

    /// Tells of `event`. A panic of the probe stays in the probe.
    #[inline]
    pub fn emit(&self, event: Event) {
        if let Some(sink) = &self.0 {
            let _ = catch_unwind(AssertUnwindSafe(|| sink.on(event)));
        }
    }

    /// Tells of the refusal, and makes the error of it.
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
