//! Events and outcomes, counted with the `metrics` facade.
//!
//! | metric | labels | |
//! |---|---|---|
//! | `fanout_call_total` | `service`, `outcome` | branches that ended; `outcome` is the error's kind where one failed, else its status |
//! | `fanout_call_seconds` | `service` | how long branches took |
//! | `fanout_attempts_total` | `service` | attempts |
//! | `fanout_rejected_total` | `service`, `reason` | calls that a layer refused |
//! | `fanout_retries_stopped_total` | `service`, `by` | retries that were not made |
//! | `fanout_breaker_transitions_total` | `service`, `to` | changes of a breaker's state |

use ::metrics::{counter, describe_counter, describe_histogram, histogram};
use tower_fanout_layers::{Event, breaker::State, observe::StoppedBy};

use crate::{outcome::BranchError, report::Branch, run::RunObserver};

/// Counts what happens in runs.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Metrics;

impl Metrics {
    /// Describes the metrics to the installed recorder.
    #[must_use]
    pub fn install() -> Self {
        describe_counter!("fanout_call_total", "Branches that ended, by outcome.");
        describe_histogram!(
            "fanout_call_seconds",
            ::metrics::Unit::Seconds,
            "How long branches took."
        );
        describe_counter!("fanout_attempts_total", "Attempts.");
        describe_counter!("fanout_rejected_total", "Calls that a layer refused.");
        describe_counter!(
            "fanout_retries_stopped_total",
            "Retries that were not made, by the rule."
        );
        describe_counter!(
            "fanout_breaker_transitions_total",
            "Changes of a breaker's state."
        );
        Self
    }
}

impl RunObserver for Metrics {
    fn on_event(&self, node: &str, event: Event) {
        let service = node.to_owned();
        match event {
            Event::Attempt { .. } => {
                counter!("fanout_attempts_total", "service" => service).increment(1)
            }
            Event::Rejected(reject) => {
                let reason = BranchError::from(reject).kind().as_str();
                counter!("fanout_rejected_total", "service" => service, "reason" => reason)
                    .increment(1);
            }
            Event::RetryStopped { by } => {
                let by = stopped_by(by);
                counter!("fanout_retries_stopped_total", "service" => service, "by" => by)
                    .increment(1);
            }
            Event::BreakerChanged { to, .. } => {
                let to = state(to);
                counter!("fanout_breaker_transitions_total", "service" => service, "to" => to)
                    .increment(1);
            }
            _ => {}
        }
    }

    fn on_end(&self, node: &str, branch: &Branch) {
        let service = node.to_owned();
        let outcome = match &branch.error {
            Some(error) => error.kind().as_str(),
            None => branch.status.as_str(),
        };
        counter!("fanout_call_total", "service" => service.clone(), "outcome" => outcome)
            .increment(1);
        if let Some(elapsed) = branch.elapsed {
            histogram!("fanout_call_seconds", "service" => service).record(elapsed);
        }
    }
}

/// The label of a breaker's state.
#[must_use]
pub const fn state(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half_open",
        State::ForcedOpen => "forced_open",
        State::Disabled => "disabled",
        State::MetricsOnly => "metrics_only",
        _ => "other",
    }
}

const fn stopped_by(by: StoppedBy) -> &'static str {
    match by {
        StoppedBy::NotRetryable => "not_retryable",
        StoppedBy::Attempts => "attempts",
        StoppedBy::RequestCap => "request_cap",
        StoppedBy::Budget => "budget",
        StoppedBy::Deadline => "deadline",
        StoppedBy::RetryAfter => "retry_after",
        StoppedBy::BreakerOpen => "breaker_open",
        StoppedBy::Refused => "refused",
        StoppedBy::Body => "body",
        _ => "other",
    }
}
