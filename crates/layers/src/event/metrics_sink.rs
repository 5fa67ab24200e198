//! [`MetricsSink`], which counts events with the `metrics` facade.

use std::fmt;

use metrics::{
    Counter, Histogram, Label, Unit, counter, describe_counter, describe_histogram, histogram,
};

use super::{Event, EventSink, FallbackKind, RetryStopReason, names::REJECTIONS};
use crate::breaker::State;

/// A sink that counts events with the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`).
///
/// | metric | type | label | |
/// |---|---|---|---|
/// | `fanout_attempts_total` | counter | | attempts that were sent, as reported by a [`SentLayer`](super::SentLayer) below the other layers |
/// | `fanout_retries_total` | counter | | retries that a retry layer scheduled |
/// | `fanout_retries_stopped_total` | counter | `by` | calls without a further attempt after a failure; `by` is the name of the [`RetryStopReason`] |
/// | `fanout_hedges_total` | counter | | hedges |
/// | `fanout_rejected_total` | counter | `reason` | calls that a layer rejected; `reason` is the [name](crate::Rejection::as_str) of the rejection, `throttled` for the throttle |
/// | `fanout_queue_seconds` | histogram | | waits in the queue of a concurrency limit, of the calls that got their permit after a wait |
/// | `fanout_breaker_transitions_total` | counter | `to` | changes of a breaker's state, those by hand included; `to` is the [name](State::as_str) of the new state |
/// | `fanout_fallbacks_total` | counter | `fallback` | responses of fallbacks; `fallback` is the name of the [`FallbackKind`] |
/// | `fanout_fallbacks_failed_total` | counter | | fallback steps that failed |
///
/// All metrics also have the labels that the sink is created with. The names and labels are those of the
/// gateway `fanout`, where it has the same metric.
///
/// All handles are registered when the sink is created, and the counters start at 0. An event then costs one
/// atomic operation. Install a recorder of the `metrics` crate before you create the sink.
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, event::MetricsSink};
///
/// let page = PrometheusBuilder::new().install_recorder().unwrap();
/// let breaker = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult)
///     .unwrap()
///     .events(MetricsSink::new("prices"));
/// let _maintenance = breaker.handle().force_open();
/// let line = r#"fanout_breaker_transitions_total{name="prices",to="forced_open"} 1"#;
/// assert!(page.render().contains(line));
/// ```
///
/// # In a test
///
/// A process has one installed recorder, which all tests of the process share. A test that counts creates its sinks
/// inside [`with_local_recorder`], with a recorder of its own. Calls may come later and on other threads, because
/// a sink keeps its counters:
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BreakerConfig, BreakerLayer, ClassifyResult, LayerError, WithCall, event::MetricsSink,
/// };
///
/// // In a test: #[tokio::test(start_paused = true)]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// async fn the_third_failure_opens_the_circuit() {
///     let recorder = PrometheusBuilder::new().build_recorder();
///     let sink = metrics::with_local_recorder(&recorder, || MetricsSink::new("prices"));
///     let config = BreakerConfig::new().consecutive_failures(3);
///     let breaker = BreakerLayer::new("prices", config, ClassifyResult).unwrap().events(sink);
///     let prices = breaker.layer(service_fn(|_: WithCall<u32>| async {
///         Err::<u32, _>(LayerError::from("down"))
///     }));
///     let opened = |count| {
///         let series = r#"fanout_breaker_transitions_total{name="prices",to="open"}"#;
///         recorder.handle().render().contains(&format!("{series} {count}\n"))
///     };
///     for _ in 0..3 {
///         assert!(opened(0));
///         prices.clone().oneshot(WithCall::new(7)).await.unwrap_err();
///     }
///     assert!(opened(1));
/// }
/// # the_third_failure_opens_the_circuit();
/// ```
///
/// [`with_local_recorder`]: https://docs.rs/metrics/0.24/metrics/fn.with_local_recorder.html
#[derive(Clone)]
pub struct MetricsSink {
    attempts: Counter,
    retries: Counter,
    hedges: Counter,
    fallbacks_failed: Counter,
    queue: Histogram,
    // At the index of the label's value.
    stopped: [Counter; RetryStopReason::ALL.len()],
    rejected: [Counter; REJECTIONS.len()],
    transitions: [Counter; State::ALL.len()],
    fallbacks: [Counter; FallbackKind::ALL.len()],
}

impl MetricsSink {
    /// Creates a sink whose metrics have the label `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::with_labels([("name", name)])
    }

    /// Creates a sink whose metrics have these labels. The names `by`, `fallback`, `reason` and `to` are taken.
    #[must_use]
    pub fn with_labels<'v>(labels: impl IntoIterator<Item = (&'static str, &'v str)>) -> Self {
        describe();
        let labels = labels.into_iter();
        let labels = labels.map(|(name, value)| Label::new(name, value.to_owned()));
        Self::register(&labels.collect::<Vec<_>>())
    }

    fn register(labels: &[Label]) -> Self {
        let count = |metric: &'static str| counter!(metric, labels.to_vec());
        let count_by = |metric: &'static str, label, value| {
            let labels = labels.iter().cloned();
            let own = Label::from_static_parts(label, value);
            counter!(metric, labels.chain([own]).collect::<Vec<_>>())
        };
        let stopped = |by: &RetryStopReason| count_by(STOPPED, "by", by.as_str());
        let rejected = |reason: &&'static str| count_by(REJECTED, "reason", reason);
        let transition = |to: &State| count_by(TRANSITIONS, "to", to.as_str());
        let fallback = |kind: &FallbackKind| count_by(FALLBACKS, "fallback", kind.as_str());
        Self {
            attempts: count(ATTEMPTS),
            retries: count(RETRIES),
            hedges: count(HEDGES),
            fallbacks_failed: count(FALLBACKS_FAILED),
            queue: histogram!(QUEUE, labels.to_vec()),
            stopped: each(RetryStopReason::ALL, stopped),
            rejected: each(&REJECTIONS, rejected),
            transitions: each(&State::ALL, transition),
            fallbacks: each(FallbackKind::ALL, fallback),
        }
    }
}

/// Returns a counter per value of a label.
fn each<T, const N: usize>(values: &[T], counter: impl Fn(&T) -> Counter) -> [Counter; N] {
    // In bounds: the array is as long as the list of values.
    std::array::from_fn(|index| counter(&values[index]))
}

impl EventSink for MetricsSink {
    fn on(&self, event: Event) {
        // In bounds: each array has an entry per variant.
        let counter = match event {
            Event::Sent => &self.attempts,
            Event::Backoff { .. } => &self.retries,
            Event::Hedge { .. } => &self.hedges,
            Event::RetryStopped { by } => &self.stopped[by as usize],
            Event::Rejected(rejection) => &self.rejected[rejection.index()],
            Event::BreakerChanged { to, .. } => &self.transitions[to as usize],
            Event::FallbackFailed { .. } => &self.fallbacks_failed,
            Event::FallbackUsed { kind, .. } => &self.fallbacks[kind as usize],
            Event::PermitAcquired { waited } if !waited.is_zero() => {
                return self.queue.record(waited);
            }
            _ => return,
        };
        counter.increment(1);
    }
}

impl fmt::Debug for MetricsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsSink").finish_non_exhaustive()
    }
}

const ATTEMPTS: &str = "fanout_attempts_total";
const RETRIES: &str = "fanout_retries_total";
const STOPPED: &str = "fanout_retries_stopped_total";
const HEDGES: &str = "fanout_hedges_total";
const REJECTED: &str = "fanout_rejected_total";
const QUEUE: &str = "fanout_queue_seconds";
const TRANSITIONS: &str = "fanout_breaker_transitions_total";
const FALLBACKS: &str = "fanout_fallbacks_total";
const FALLBACKS_FAILED: &str = "fanout_fallbacks_failed_total";

/// Sets the help texts of the metrics.
fn describe() {
    for (name, help) in [
        (ATTEMPTS, "Attempts that were sent."),
        (RETRIES, "Retries that were scheduled."),
        (STOPPED, "Retries that a rule stopped."),
        (HEDGES, "Hedges that were sent."),
        (REJECTED, "Calls that a layer rejected."),
        (TRANSITIONS, "State transitions of circuit breakers."),
        (FALLBACKS, "Responses of fallbacks, by their source."),
        (FALLBACKS_FAILED, "Fallback steps that failed."),
    ] {
        describe_counter!(name, help);
    }
    let help = "Time that calls waited for a permit, without the calls that did not wait.";
    describe_histogram!(QUEUE, Unit::Seconds, help);
}
