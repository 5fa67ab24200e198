//! The answer in one piece: what each service said, how it went, and what the whole amounts to.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use tower_fanout::{Report, Strategy};
use tower_fanout_http::{correlation::CorrelationId, problem::Problem};

use super::{push, service::Service, stats::Totals};
use crate::Json;

/// What was asked for, as far as it was granted.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Services at once.
    pub max_concurrency: u8,
    /// The deadline, in milliseconds.
    pub timeout: u64,
    /// Retries per service.
    pub retry_attempts: u8,
}

/// What is known of a request before it is run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whether services are asked one at a time.
    pub sequential: bool,
    /// When the whole is a success.
    pub strategy: Strategy,
    /// What was granted.
    pub effective: Effective,
    /// The id of the request.
    pub correlation_id: CorrelationId,
    /// The caller's tier.
    pub tier: Box<str>,
    /// The id of the plan.
    pub plan_id: Arc<str>,
}

/// The part of an answer that is about the request as a whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    execution_mode: &'static str,
    aggregation_strategy: &'static str,
    effective: Effective,
    correlation_id: &'a str,
    tier: &'a str,
    completed: bool,
    timed_out: bool,
    critical_path: Vec<&'a str>,
    plan_id: &'a str,
}

/// A run that is over, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// What was asked for.
    pub asked: &'a Asked,
    /// The names of the plan's nodes, in its order.
    pub names: &'a [Box<str>],
    /// What happened.
    pub report: &'a Report,
}

impl Envelope<'_> {
    /// Writes `data`: every service that was asked for, in order of the plan, and what they come to
    /// together. What a service answered is copied as it came; `answer` finds it by its node.
    ///
    /// With a `merged` document of all answers that one stands in `data.merged`, and services have
    /// no `data` of their own.
    #[must_use]
    pub fn data<'j>(
        &self,
        answer: impl Fn(usize) -> Option<&'j Json>,
        merged: Option<&Json>,
    ) -> String {
        let mut out = String::from("{\"services\":{");
        for (place, branch) in self.report.branches.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            push(&mut out, &self.names[branch.node]);
            out.push(':');
            let data = if merged.is_none() {
                answer(branch.node)
            } else {
                None
            };
            Service::of(branch).push(&mut out, data);
        }
        out.push_str("},");
        self.push_totals(&mut out, merged);
        out
    }

    /// Writes `data` without the services.
    pub(super) fn totals(&self, merged: Option<&Json>) -> String {
        let mut out = String::from("{");
        self.push_totals(&mut out, merged);
        out
    }

    fn push_totals(&self, out: &mut String, merged: Option<&Json>) {
        if let Some(merged) = merged {
            out.push_str("\"merged\":");
            out.push_str(merged.as_raw());
            out.push(',');
        }
        let mut totals = String::new();
        push(&mut totals, &Totals::of(self.report, self.names));
        out.push_str(&totals[1..]);
    }

    /// Writes the whole answer of a success.
    #[must_use]
    pub fn success(&self, data: &str) -> String {
        let mut out = String::with_capacity(data.len() + 512);
        out.push_str("{\"success\":true,\"data\":");
        out.push_str(data);
        out.push_str(",\"meta\":");
        push(&mut out, &self.meta());
        out.push('}');
        out
    }

    /// Adds the facts that a success has to `problem`.
    ///
    /// # Panics
    /// If `data` is not JSON.
    #[must_use]
    pub fn failure(&self, problem: Problem, data: String) -> Problem {
        let mut meta = String::new();
        push(&mut meta, &self.meta());
        let raw = |json| RawValue::from_string(json).expect("the envelope is JSON");
        problem
            .extension("data", raw(data))
            .extension("meta", raw(meta))
    }

    fn meta(&self) -> Meta<'_> {
        let Self {
            asked,
            names,
            report,
        } = self;
        let critical_path = report.critical_path.iter().map(|&node| &*names[node]);
        Meta {
            execution_mode: if asked.sequential {
                "sequential"
            } else {
                "parallel"
            },
            aggregation_strategy: asked.strategy.as_str(),
            effective: asked.effective,
            correlation_id: asked.correlation_id.as_str(),
            tier: &asked.tier,
            completed: report.is_complete(),
            timed_out: report.timed_out,
            critical_path: critical_path.collect(),
            plan_id: &asked.plan_id,
        }
    }
}
