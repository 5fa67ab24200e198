//! Events that report what the layers do with a call.
//!
//! Metrics, logs and reports are derived from these events, so the layers themselves depend on no metrics
//! library. A receiver of events is an [`EventSink`], which a closure `Fn(Event)` is too. There are three
//! places for it, which can be combined:
//!
//! | place | hears | for |
//! |---|---|---|
//! | `events(sink)` of a layer, such as [`BreakerLayer::events`] | every event of this layer, for every call | metrics and logs of one layer, any type of request |
//! | [`EventsLayer::new(sink)`](EventsLayer) | every event of the layers below, for every call that passes | metrics and logs of a whole stack |
//! | [`Call::events`](field@crate::Call::events) | every event of all layers that this one call passes | reports about one call |
//!
//! The sinks of one place hear an event in the order of their registration. The order of the places is not
//! defined. A sink that is at two places gets the event twice. Without a receiver, an event costs one
//! comparison per place. With one, a layer allocates nothing, except that an [`EventsLayer`] or a sink of a
//! timeout, deadline or concurrency layer below an `EventsLayer` allocates a joined list of sinks: once for the
//! first list above it, and for each call that comes through another list.
//!
//! | event | emitted by |
//! |---|---|
//! | [`Attempt`](Event::Attempt), [`AttemptEnded`](Event::AttemptEnded) | [`RetryLayer`], [`HedgeLayer`] |
//! | [`Sent`](Event::Sent) | [`SentLayer`] |
//! | [`Hedge`](Event::Hedge) | [`HedgeLayer`] |
//! | [`Backoff`](Event::Backoff), [`RetryStopped`](Event::RetryStopped) | [`RetryLayer`] |
//! | [`Queued`](Event::Queued), [`PermitAcquired`](Event::PermitAcquired) | [`ConcurrencyLayer`] |
//! | [`Rejected`](Event::Rejected) | [`DeadlineLayer`], [`TimeoutLayer`], [`ConcurrencyLayer`], [`BreakerLayer`], [`ThrottleLayer`] |
//! | [`BreakerChanged`](Event::BreakerChanged), [`BreakerWouldOpen`](Event::BreakerWouldOpen), [`LateResult`](Event::LateResult) | [`BreakerLayer`] |
//! | `Chaos` | `ChaosLayer` (feature `chaos`) |
//! | [`FallbackStarted`](Event::FallbackStarted), [`FallbackFailed`](Event::FallbackFailed), [`FallbackUsed`](Event::FallbackUsed) | [`FallbackLayer`] |
//! | [`ResponseStatus`](Event::ResponseStatus), [`BadTimeout`](Event::BadTimeout) | no layer of this crate |
//!
//! # Names
//!
//! An event has no name of a layer or a service. A sink has the name instead: create one sink per name when
//! you build the stack. No name is looked up while a call runs. The features `metrics` and `tracing` have
//! ready-made sinks, `MetricsSink` and `TracingSink`, which are created with a name.
//!
//! The call of a fallback step has the receivers of the original call: [`Event::FallbackStarted`] marks its
//! start. The layers of the fallback service have sinks of their own.
//!
//! # Circuit breakers
//!
//! The sinks of a [`BreakerLayer`] belong to the breaker. They hear the calls of all layers that share the
//! breaker, and the changes that are made by hand through a [`Handle`](crate::breaker::Handle), such as
//! `force_open` or `reset`. Such a change belongs to no call, so only these sinks hear it, with
//! [`by_hand`](Event::BreakerChanged::by_hand) set. Another change of state is also reported to the call that
//! caused it.
//!
//! The breakers and limits of a [`PerKeyLayer`](crate::PerKeyLayer) report to the sinks of its template, to which
//! [`PerKeyLayer::events`](crate::PerKeyLayer::events) adds. An event has no key.
//!
//! A limit or a throttle with the handle of a breaker rejects calls itself while the circuit is open.
//! [`Rejected`](Event::Rejected) then goes to the sinks of that layer, not to those of the breaker.
//!
//! ```
//! use std::sync::mpsc;
//! use tower_fanout_layers::{
//!     BreakerConfig, BreakerLayer, ClassifyResult, Event, breaker::State,
//! };
//!
//! let (sender, changes) = mpsc::channel();
//! let breaker = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult)
//!     .unwrap()
//!     .events(move |event: Event| {
//!         if let Event::BreakerChanged { to, by_hand, .. } = event {
//!             sender.send((to, by_hand)).unwrap();
//!         }
//!     });
//! let maintenance = breaker.handle().force_open();
//! drop(maintenance);
//! let changes: Vec<_> = changes.try_iter().collect();
//! assert_eq!(changes, [(State::ForcedOpen, true), (State::Closed, true)]);
//! ```
//!
//! [`BreakerLayer::events`]: crate::BreakerLayer::events
//! [`BreakerLayer`]: crate::BreakerLayer
//! [`ConcurrencyLayer`]: crate::ConcurrencyLayer
//! [`DeadlineLayer`]: crate::DeadlineLayer
//! [`FallbackLayer`]: crate::FallbackLayer
//! [`HedgeLayer`]: crate::HedgeLayer
//! [`RetryLayer`]: crate::RetryLayer
//! [`ThrottleLayer`]: crate::ThrottleLayer
//! [`TimeoutLayer`]: crate::TimeoutLayer

mod layer;
#[cfg(feature = "metrics")]
mod metrics_sink;
mod names;
mod sent;
mod sink;
#[cfg(feature = "tracing")]
mod tracing_sink;

use std::time::Duration;

#[cfg(feature = "metrics")]
pub use self::metrics_sink::MetricsSink;
pub(crate) use self::sink::{CallEvents, SharedEvents, Sinks};
#[cfg(feature = "tracing")]
pub use self::tracing_sink::TracingSink;
pub use self::{
    layer::{EventsLayer, WithEvents},
    sent::{Sent, SentLayer},
    sink::{EventSink, Events},
};
use crate::{
    breaker::{OpenReason, State},
    classify::Class,
    rejection::Rejection,
};

/// An event in the life of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A retry or hedge layer starts an attempt. A layer below may reject it: see [`Sent`](Self::Sent).
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
    /// A call, or an attempt of it, passed all layers and is sent to the service. Emitted by [`SentLayer`].
    Sent,
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
    /// A circuit breaker changed its state.
    BreakerChanged {
        /// The state it left.
        from: State,
        /// The state it entered.
        to: State,
        /// The reason, if the breaker opened. Else `None`.
        reason: Option<OpenReason>,
        /// `true` if code changed the state through a [`Handle`](crate::breaker::Handle), `false` if a call
        /// did. Only the sinks of the breaker hear a change by hand.
        by_hand: bool,
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

crate::labels! {
    /// The reason why a retry layer made no further attempt.
    ///
    /// The [module docs of the retry](crate::retry) list the checks in their order. The names of
    /// [`as_str`](Self::as_str) are part of the public API, as the variants are. Some differ from their
    /// variant. They are the label `by` of `fanout_retries_stopped_total` and the field `retryStoppedBy` in
    /// the responses of `tower-fanout-json`.
    pub enum RetryStopReason {
        /// The result is not in [`retry_on`](field@crate::RetryConfig::retry_on), or the request is not
        /// idempotent. Also the reason after a rejection of the first attempt, except
        /// [`Rejection::NoEndpoint`], which is retried.
        NotRetryable = "not_retryable",
        /// All attempts of the configuration or of the call are used up.
        Attempts = "attempts",
        /// The branches of the request have used up their common
        /// [`RetryAllowance`](crate::RetryAllowance).
        RequestAllowance = "request_cap",
        /// The retry budget is empty.
        Budget = "budget",
        /// The next attempt could not be useful before the deadline, or a layer below rejected it with
        /// [`Rejection::DeadlineBeforeSend`].
        Deadline = "deadline",
        /// The `Retry-After` of the response is longer than the configuration allows.
        RetryAfter = "retry_after",
        /// The circuit breaker is open: the [handle](crate::RetryLayer::breaker) shows it after the pause,
        /// or a layer below rejected an attempt after the first with [`Rejection::CircuitOpen`].
        BreakerOpen = "breaker_open",
        /// A layer below rejected an attempt after the first for another reason, such as a full limit.
        Rejected = "refused",
        /// The request's body cannot be sent again.
        Body = "body",
    }
}

crate::labels! {
    /// The source of a fallback's response.
    ///
    /// The names of [`as_str`](Self::as_str) are part of the public API, as the variants are. They are the
    /// field `fallbackKind` in the responses of `tower-fanout-json`.
    pub enum FallbackKind {
        /// A fixed response, or one that a function created at once.
        Static = "static",
        /// The last good response.
        Stale = "stale",
        /// A function.
        Function = "function",
        /// Another service.
        Service = "service",
    }
}
