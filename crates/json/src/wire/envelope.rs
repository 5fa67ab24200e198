//! The single-document response: the results of all services, totals and metadata.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use tower_fanout::{Report, Strategy};
use tower_fanout_http::{correlation::CorrelationId, problem::Problem};

use super::{push, service::ServiceEntry, stats::Totals};
use crate::Json;

/// The limits that apply to a run, which are written to `meta.effective`.
///
/// If clients may request limits, these are the requested ones after your own maximums were applied.
/// The values are only written: set them on the [`FanOut`](tower_fanout::FanOut) and on the request,
/// too. No value means "no limit". For a run without a limit, write the maximum that it can reach, such
/// as the number of nodes for `max_concurrency`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveLimits {
    /// Maximum number of services that run at the same time.
    pub max_concurrency: u8,
    /// Time from the start of the run to its deadline, in milliseconds.
    pub timeout: u64,
    /// Maximum number of retries per service.
    pub retry_attempts: u8,
}

/// Metadata of a run that is known before it starts.
#[derive(Clone, Debug)]
pub struct RunMeta {
    /// `true` if services run one at a time. Only written, as `meta.executionMode`: to run one node at a
    /// time, set [`FanOut::max_concurrency`](tower_fanout::FanOut::max_concurrency) to 1.
    pub sequential: bool,
    /// The strategy of the run, which must be that of the [`FanOut`](tower_fanout::FanOut). Written as
    /// `meta.aggregationStrategy`. [`RunStream`](super::RunStream) also decides the success of the run
    /// by it. An [`Envelope`] only writes it, because you call [`success`](Envelope::success) or
    /// [`failure`](Envelope::failure).
    pub strategy: Strategy,
    /// The limits of the run.
    pub effective: EffectiveLimits,
    /// The correlation id of the request.
    pub correlation_id: CorrelationId,
    /// The name of the caller's tier, which is written to `meta.tier`. Usually the tier that was passed
    /// to [`FanOut::tier`](tower_fanout::FanOut::tier).
    pub tier: Box<str>,
    /// An id of the plan, which is written to `meta.planId`. The program chooses it, for example a
    /// route name with a version.
    pub plan_id: Arc<str>,
}

/// The `meta` member of a response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta<'a> {
    execution_mode: &'static str,
    aggregation_strategy: &'static str,
    effective: EffectiveLimits,
    correlation_id: &'a str,
    tier: &'a str,
    completed: bool,
    timed_out: bool,
    critical_path: Vec<&'a str>,
    plan_id: &'a str,
}

/// A finished run with its metadata, for writing responses.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Metadata of the run.
    pub meta: &'a RunMeta,
    /// Names of all nodes, in plan order.
    pub names: &'a [Box<str>],
    /// Report of the run.
    pub report: &'a Report,
}

impl Envelope<'_> {
    /// Returns the `data` member: the services of the run in plan order, and the totals.
    ///
    /// `answer` returns the response of a node by its index in the plan, or `None` if the node has
    /// no response. Responses are copied byte for byte.
    ///
    /// With a `merged` document, `data.merged` contains that document, and the services have no
    /// `data` of their own.
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
            // The merged document holds the responses already.
            let data = answer(branch.node).filter(|_| merged.is_none());
            ServiceEntry::of(branch).push(&mut out, data);
        }
        out.push_str("},");
        self.push_totals(&mut out, merged);
        out
    }

    /// Returns the `data` member without the services.
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
        // The opening brace of `data` is already there.
        out.push_str(&totals[1..]);
    }

    /// Returns the response for a successful run. `data` is the JSON text of its `data` member.
    ///
    /// `data` is copied without a check, so the response is valid JSON only if `data` is. The function
    /// never panics.
    #[must_use]
    pub fn success(&self, data: &str) -> String {
        let mut out = String::with_capacity(data.len() + 512);
        out.push_str("{\"success\":true,\"data\":");
        out.push_str(data);
        out.push_str(",\"meta\":");
        push(&mut out, &self.meta_member());
        out.push('}');
        out
    }

    /// Returns `problem` with the `data` and `meta` members that a successful response has.
    ///
    /// # Panics
    /// Panics if `data` is not valid JSON.
    #[must_use]
    pub fn failure(&self, problem: Problem, data: String) -> Problem {
        let mut meta = String::new();
        push(&mut meta, &self.meta_member());
        // `data` comes from `Envelope::data` or `totals`, and `meta` is serialized here.
        let raw = |json| RawValue::from_string(json).expect("data and meta must be valid JSON");
        problem
            .extension("data", raw(data))
            .extension("meta", raw(meta))
    }

    fn meta_member(&self) -> Meta<'_> {
        let Self {
            meta,
            names,
            report,
        } = self;
        let critical_path = report.critical_path.iter().map(|&node| &*names[node]);
        Meta {
            execution_mode: if meta.sequential {
                "sequential"
            } else {
                "parallel"
            },
            aggregation_strategy: meta.strategy.as_str(),
            effective: meta.effective,
            correlation_id: meta.correlation_id.as_str(),
            tier: &meta.tier,
            completed: report.is_complete(),
            timed_out: report.timed_out,
            critical_path: critical_path.collect(),
            plan_id: &meta.plan_id,
        }
    }
}
