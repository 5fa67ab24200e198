//! Counts events and outcomes with the `metrics` facade (feature `metrics`).
//!
//! | metric | type | further labels | |
//! |---|---|---|---|
//! | `fanout_call_total` | counter | `outcome` | branches that ended; `outcome` is the error kind if the branch failed, else its status |
//! | `fanout_call_seconds` | histogram | | durations of branches |
//!
//! The events of the layers are counted by a [`MetricsSink`] per stack, because a branch may call other services
//! as fallbacks: put an `EventsLayer` above each [`Downstream`](crate::Downstream).
//!
//! All metrics have the labels `route`, `node` and `downstream`, so that nodes with one name in two plans
//! have series of their own.
//!
//! [`MetricsSink`]: tower_fanout_layers::event::MetricsSink

use std::sync::Arc;

use ::metrics::{
    Counter, Histogram, Label, SharedString, Unit, counter, describe_counter, describe_histogram,
    histogram,
};

use crate::{outcome::Status, report::Branch, run::RunObserver};

/// Counts the calls of one node. The handles of frequent outcomes are looked up once, at creation.
#[derive(Clone, Debug)]
struct NodeMetrics {
    labels: Labels,
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
    fn new(route: &str, node: &str, downstream: &str) -> Self {
        let shared = |name: &str| SharedString::from(Arc::<str>::from(name));
        let labels = Labels {
            route: shared(route),
            node: shared(node),
            downstream: shared(downstream),
        };
        Self {
            successes: ended(&labels, Status::Success.as_str()),
            seconds: histogram!("fanout_call_seconds", labels.with(None)),
            labels,
        }
    }

    /// Counts a branch that ended.
    fn ended(&self, branch: &Branch) {
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

/// Counts the runs of a plan, as their observer.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<NodeMetrics>);

impl Metrics {
    /// Describes the metrics to the installed recorder and creates the counters of `nodes`, which are the
    /// nodes of the plan `route` in their order, with the names of their downstreams.
    ///
    /// Install a recorder of the `metrics` crate first. Then pass the result to
    /// [`FanOut::observer`](crate::FanOut::observer), in an `Arc`. Branches of further nodes are not
    /// counted. Use an empty text for a name that does not apply.
    #[must_use]
    pub fn new<'n>(route: &str, nodes: impl IntoIterator<Item = (&'n str, &'n str)>) -> Self {
        describe_counter!("fanout_call_total", "Branches that ended, by outcome.");
        describe_histogram!(
            "fanout_call_seconds",
            Unit::Seconds,
            "Duration of branches."
        );
        let nodes = nodes.into_iter();
        Self(
            nodes
                .map(|(name, downstream)| NodeMetrics::new(route, name, downstream))
                .collect(),
        )
    }
}

impl RunObserver for Metrics {
    fn on_end(&self, node: usize, branch: &Branch) {
        if let Some(service) = self.0.get(node) {
            service.ended(branch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_fanout_layers::Rejection;

    use crate::outcome::ErrorKind;

    #[test]
    fn the_reason_of_a_rejection_is_its_error_kind_except_for_two_causes() {
        let retry_after = Duration::ZERO;
        for (rejection, reason) in [
            (Rejection::AttemptTimeout, None),
            (Rejection::Deadline, None),
            (Rejection::DeadlineBeforeSend, None),
            (Rejection::CircuitOpen { retry_after: None }, None),
            (Rejection::AtCapacity, None),
            (Rejection::Evicted, Some("evicted")),
            (Rejection::QueueTimeout, None),
            (Rejection::ClientThrottled, Some("throttled")),
            (Rejection::RateLimited { retry_after }, None),
            (Rejection::NoEndpoint, None),
            (Rejection::DescriptorLimit, None),
        ] {
            let kind = ErrorKind::from(rejection).as_str();
            assert_eq!(rejection.as_str(), reason.unwrap_or(kind));
        }
    }
}
