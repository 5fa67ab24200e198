//! [`TracingSink`], which writes events with `tracing`.

use tracing::{debug, info, trace, warn};

use super::{Event, EventSink};
use crate::{
    breaker::{OpenReason, State},
    rejection::BoxError,
};

/// A sink that writes events with [`tracing`](https://docs.rs/tracing) (feature `tracing`).
///
/// Each line has the field `name`, the name of the sink, and the target `tower_fanout_layers::event`.
///
/// | event | level |
/// |---|---|
/// | a breaker opened or was forced open, or would have opened in shadow mode | warn |
/// | another change of a breaker's state | info |
/// | a layer rejected the call; a retry, a hedge, or the reason why no retry follows; a fallback was used, with the error that it replaces, or failed; an injected fault; an invalid header with the caller's remaining time | debug |
/// | every other event | trace |
///
/// Rejections and fallbacks are not warnings, because an overload or an outage would write a line per call.
/// The change of the breaker's state is the warning. Count the calls with `MetricsSink` (feature `metrics`).
///
/// ```
/// use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, event::TracingSink};
///
/// let breaker = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult)
///     .unwrap()
///     .events(TracingSink::new("prices"));
/// // WARN tower_fanout_layers::event: circuit breaker opened name="prices" from="closed" to="forced_open"
/// // reason="manual" by_hand=true
/// let _maintenance = breaker.handle().force_open();
/// ```
#[derive(Clone, Debug)]
pub struct TracingSink {
    name: Box<str>,
}

/// Writes one event with the name of the sink.
macro_rules! record {
    ($level:ident, $sink:ident, { $($fields:tt)* }, $message:literal) => {
        $level!(target: "tower_fanout_layers::event", name = &*$sink.name, $($fields)* $message)
    };
}

impl TracingSink {
    /// Creates a sink whose lines have the field `name` with this value.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.into() }
    }

    fn breaker_changed(&self, from: State, to: State, reason: Option<OpenReason>, by_hand: bool) {
        let (from, state) = (from.as_str(), to.as_str());
        let reason = reason.map(OpenReason::as_str);
        match to {
            State::Open | State::ForcedOpen => {
                record!(warn, self, { from, to = state, reason, by_hand, }, "circuit breaker opened");
            }
            _ => record!(info, self, { from, to = state, by_hand, }, "circuit breaker changed"),
        }
    }
}

impl EventSink for TracingSink {
    fn on(&self, event: Event) {
        match event {
            Event::BreakerChanged {
                from,
                to,
                reason,
                by_hand,
            } => self.breaker_changed(from, to, reason, by_hand),
            Event::BreakerWouldOpen => {
                record!(warn, self, {}, "circuit breaker in shadow mode would open");
            }
            Event::Rejected(rejection) => {
                record!(debug, self, { reason = rejection.as_str(), }, "call rejected");
            }
            Event::Backoff { delay } => record!(debug, self, { ?delay, }, "retry scheduled"),
            Event::RetryStopped { by } => {
                record!(debug, self, { by = by.as_str(), }, "no further attempt");
            }
            Event::Hedge { number } => record!(debug, self, { number, }, "hedge sent"),
            Event::FallbackUsed { step, kind } => {
                record!(debug, self, { step, fallback = kind.as_str(), }, "fallback used");
            }
            Event::FallbackFailed { step, class } => {
                record!(debug, self, { step, ?class, }, "fallback failed");
            }
            #[cfg(feature = "chaos")]
            Event::Chaos => record!(debug, self, {}, "fault injected"),
            Event::BadTimeout => record!(debug, self, {}, "invalid remaining time ignored"),
            Event::Attempt { .. }
            | Event::Sent
            | Event::AttemptEnded { .. }
            | Event::Queued
            | Event::PermitAcquired { .. }
            | Event::FallbackStarted { .. }
            | Event::ResponseStatus { .. }
            | Event::LateResult => record!(trace, self, { ?event, }, "layer event"),
        }
    }

    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        if tracing::enabled!(target: "tower_fanout_layers::event", tracing::Level::DEBUG) {
            let error = error();
            record!(debug, self, { error = &*error as &(dyn std::error::Error + 'static), }, "fallback replaces an error");
        }
    }
}
