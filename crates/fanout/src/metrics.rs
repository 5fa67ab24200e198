//! Counts events and outcomes with the `metrics` facade.
//!
//! | metric | type | labels | |
//! |---|---|---|---|
//! | `fanout_call_total` | counter | `service`, `outcome` | branches that ended; `outcome` is the error kind if the branch failed, else its status |
//! | `fanout_call_seconds` | histogram | `service` | durations of branches |
//! | `fanout_attempts_total` | counter | `service` | attempts |
//! | `fanout_rejected_total` | counter | `service`, `reason` | calls that a layer rejected; `reason` is the error kind, except `throttled` for the throttle and `evicted` for calls that lost their place in a queue |
//! | `fanout_retries_stopped_total` | counter | `service`, `by` | retries that a rule stopped |
//! | `fanout_breaker_transitions_total` | counter | `service`, `to` | state transitions of circuit breakers; `to` is the label of [`state()`] |
//!
//! The label `service` is the name given to [`ServiceMetrics::new`]. [`Metrics`] uses the name of the
//! node, not that of its downstream.

use std::{collections::BTreeMap, sync::Arc};

use ::metrics::{
    Counter, Histogram, SharedString, Unit, counter, describe_counter, describe_histogram,
    histogram,
};
use tower_fanout_layers::{Event, EventSink, Rejection, breaker::State};

use crate::{
    outcome::{ErrorKind, Status},
    report::Branch,
    run::RunObserver,
};

/// Counts the calls of one service.
///
/// As an [`EventSink`], it counts the events of layers without a plan. The handles of frequent
/// events are looked up once, at creation.
#[derive(Clone, Debug)]
pub struct ServiceMetrics {
    service: SharedString,
    attempts: Counter,
    successes: Counter,
    seconds: Histogram,
}

impl ServiceMetrics {
    /// Creates the counters of the service named `name`, with the recorder that is installed at
    /// that time.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let service = SharedString::from(Arc::<str>::from(name));
        Self {
            attempts: counter!("fanout_attempts_total", "service" => service.clone()),
            successes: ended(&service, Status::Success.as_str()),
            seconds: histogram!("fanout_call_seconds", "service" => service.clone()),
            service,
        }
    }

    /// Counts a branch that ended.
    pub fn ended(&self, branch: &Branch) {
        match &branch.error {
            _ if branch.status == Status::Success => self.successes.increment(1),
            Some(error) if branch.status == Status::Failed => {
                ended(&self.service, error.kind().as_str()).increment(1);
            }
            _ => ended(&self.service, branch.status.as_str()).increment(1),
        }
        if let Some(elapsed) = branch.elapsed {
            self.seconds.record(elapsed);
        }
    }
}

fn ended(service: &SharedString, outcome: &'static str) -> Counter {
    counter!("fanout_call_total", "service" => service.clone(), "outcome" => outcome)
}

/// Returns the label of a rejection: its error kind, except where one kind has several causes.
fn reason(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::ClientThrottled => "throttled",
        Rejection::Evicted => "evicted",
        rejection => ErrorKind::from(rejection).as_str(),
    }
}

impl EventSink for ServiceMetrics {
    fn on(&self, event: Event) {
        let service = || self.service.clone();
        let counter = match event {
            Event::Attempt { .. } => return self.attempts.increment(1),
            Event::Rejected(rejection) => {
                let reason = reason(rejection);
                counter!("fanout_rejected_total", "service" => service(), "reason" => reason)
            }
            Event::RetryStopped { by } => {
                let by = by.as_str();
                counter!("fanout_retries_stopped_total", "service" => service(), "by" => by)
            }
            Event::BreakerChanged { to, .. } => {
                let to = state(to);
                counter!("fanout_breaker_transitions_total", "service" => service(), "to" => to)
            }
            _ => return,
        };
        counter.increment(1);
    }
}

/// Counts the runs of a plan, as their observer.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<Box<str>, ServiceMetrics>);

impl Metrics {
    /// Describes the metrics to the installed recorder and creates the counters of the named nodes.
    ///
    /// Install a recorder of the `metrics` crate first. Then pass the result to
    /// [`FanOut::observer`](crate::FanOut::observer), in an `Arc`. Events of other nodes are not
    /// counted.
    #[must_use]
    pub fn new<'n>(nodes: impl IntoIterator<Item = &'n str>) -> Self {
        describe_counter!("fanout_call_total", "Branches that ended, by outcome.");
        describe_histogram!(
            "fanout_call_seconds",
            Unit::Seconds,
            "Duration of branches."
        );
        describe_counter!("fanout_attempts_total", "Attempts that were sent.");
        describe_counter!("fanout_rejected_total", "Calls that a layer rejected.");
        describe_counter!(
            "fanout_retries_stopped_total",
            "Retries that a rule stopped."
        );
        describe_counter!(
            "fanout_breaker_transitions_total",
            "State transitions of circuit breakers."
        );
        let nodes = nodes.into_iter();
        Self(
            nodes
                .map(|name| (name.into(), ServiceMetrics::new(name)))
                .collect(),
        )
    }
}

impl RunObserver for Metrics {
    fn on_event(&self, node: &str, event: Event) {
        if let Some(service) = self.0.get(node) {
            service.on(event);
        }
    }

    fn on_end(&self, node: &str, branch: &Branch) {
        if let Some(service) = self.0.get(node) {
            service.ended(branch);
        }
    }
}

/// Returns the label of a breaker state: `closed`, `open`, `half_open`, `forced_open`, `disabled` or
/// `shadow_mode`, and `other` for a state that this version does not know.
#[must_use]
pub const fn state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
        State::ForcedOpen => "forced_open",
        State::Disabled => "disabled",
        State::Shadow => "shadow_mode",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_call_and_a_full_limit_have_different_reasons() {
        for (rejection, expected) in [
            (Rejection::ClientThrottled, "throttled"),
            (Rejection::Evicted, "evicted"),
            (Rejection::AtCapacity, "at_capacity"),
            (Rejection::QueueTimeout, "queue_timeout"),
        ] {
            assert_eq!(reason(rejection), expected);
        }
    }
}
