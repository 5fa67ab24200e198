//! Counts events and outcomes with the `metrics` facade.
//!
//! | metric | type | further labels | |
//! |---|---|---|---|
//! | `fanout_call_total` | counter | `outcome` | branches that ended; `outcome` is the error kind if the branch failed, else its status |
//! | `fanout_call_seconds` | histogram | | durations of branches |
//! | `fanout_attempts_total` | counter | | attempts |
//! | `fanout_rejected_total` | counter | `reason` | calls that a layer rejected; `reason` is the error kind, except `throttled` for the throttle and `evicted` for calls that lost their place in a queue |
//! | `fanout_retries_stopped_total` | counter | `by` | retries that a rule stopped |
//! | `fanout_breaker_transitions_total` | counter | `to` | state transitions of circuit breakers; `to` is the label of [`state()`] |
//!
//! All metrics have the labels `route`, `node` and `downstream`, so that nodes with one name in two plans
//! have series of their own.

use std::{collections::BTreeMap, sync::Arc};

use ::metrics::{
    Counter, Histogram, Label, SharedString, Unit, counter, describe_counter, describe_histogram,
    histogram,
};
use tower_fanout_layers::{Event, EventSink, Rejection, breaker::State};

use crate::{
    outcome::{ErrorKind, Status},
    report::Branch,
    run::RunObserver,
};

/// Counts the calls of one node.
///
/// As an [`EventSink`], it counts the events of layers without a plan. The handles of frequent
/// events are looked up once, at creation.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    labels: Labels,
    attempts: Counter,
    successes: Counter,
    seconds: Histogram,
}

/// The labels that all metrics of a node have.
#[derive(Clone, Debug)]
struct Labels {
    route: SharedString,
    node: SharedString,
    downstream: SharedString,
}

impl Labels {
    fn with(&self, more: Option<(&'static str, &'static str)>) -> Vec<Label> {
        let own = [
            ("route", &self.route),
            ("node", &self.node),
            ("downstream", &self.downstream),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| Label::new(name, value.clone()));
        own.chain(more.map(|(name, value)| Label::from_static_parts(name, value)))
            .collect()
    }
}

impl NodeMetrics {
    /// Creates the counters of `node` in the plan `route`, which calls `downstream`, with the recorder that
    /// is installed at that time. Use an empty text for a name that does not apply.
    #[must_use]
    pub fn new(route: &str, node: &str, downstream: &str) -> Self {
        let shared = |name: &str| SharedString::from(Arc::<str>::from(name));
        let labels = Labels {
            route: shared(route),
            node: shared(node),
            downstream: shared(downstream),
        };
        Self {
            attempts: counter!("fanout_attempts_total", labels.with(None)),
            successes: ended(&labels, Status::Success.as_str()),
            seconds: histogram!("fanout_call_seconds", labels.with(None)),
            labels,
        }
    }

    /// Counts a branch that ended.
    pub fn ended(&self, branch: &Branch) {
        match &branch.error {
            _ if branch.status == Status::Success => self.successes.increment(1),
            Some(error) if branch.status == Status::Failed => {
                ended(&self.labels, error.kind().as_str()).increment(1);
            }
            _ => ended(&self.labels, branch.status.as_str()).increment(1),
        }
        if let Some(elapsed) = branch.elapsed {
            self.seconds.record(elapsed);
        }
    }
}

fn ended(labels: &Labels, outcome: &'static str) -> Counter {
    counter!("fanout_call_total", labels.with(Some(("outcome", outcome))))
}

/// Returns the label of a rejection: its error kind, except where one kind has several causes.
fn reason(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::ClientThrottled => "throttled",
        Rejection::Evicted => "evicted",
        rejection => ErrorKind::from(rejection).as_str(),
    }
}

impl EventSink for NodeMetrics {
    fn on(&self, event: Event) {
        let with = |name, value| self.labels.with(Some((name, value)));
        let counter = match event {
            Event::Attempt { .. } => return self.attempts.increment(1),
            Event::Rejected(rejection) => {
                let reason = reason(rejection);
                counter!("fanout_rejected_total", with("reason", reason))
            }
            Event::RetryStopped { by } => {
                let by = by.as_str();
                counter!("fanout_retries_stopped_total", with("by", by))
            }
            Event::BreakerChanged { to, .. } => {
                let to = state(to);
                counter!("fanout_breaker_transitions_total", with("to", to))
            }
            _ => return,
        };
        counter.increment(1);
    }
}

/// Counts the runs of a plan, as their observer.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<Box<str>, NodeMetrics>);

impl Metrics {
    /// Describes the metrics to the installed recorder and creates the counters of `nodes`, which are the
    /// nodes of the plan `route` with the names of their downstreams.
    ///
    /// Install a recorder of the `metrics` crate first. Then pass the result to
    /// [`FanOut::observer`](crate::FanOut::observer), in an `Arc`. Events of other nodes are not
    /// counted.
    #[must_use]
    pub fn new<'n>(route: &str, nodes: impl IntoIterator<Item = (&'n str, &'n str)>) -> Self {
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
                .map(|(name, downstream)| (name.into(), NodeMetrics::new(route, name, downstream)))
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
