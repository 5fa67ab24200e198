//! The single-document response: the results of all services, totals and metadata.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tower_fanout::{Report, Strategy};
use tower_fanout_http::{correlation::CorrelationId, problem::Problem};

use super::{
    MAX_ANSWER,
    members::{Members, name},
    service::push_service,
    stats::write_totals,
};
use crate::Json;

/// Room for the members of a service other than its response, or of the metadata.
const ENTRY: usize = 256;

/// The limits that apply to a run, which are written to `meta.effective`.
///
/// If clients may request limits, these are the requested ones after your own maximums were applied.
/// The values are only written: set them on the [`FanOut`](tower_fanout::FanOut) and on the request,
/// too. No value means "no limit". For a run without a limit, write the maximum that it can reach, such
/// as the number of nodes for `max_concurrency`.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveLimits {
    /// Maximum number of services that run at the same time.
    pub max_concurrency: u8,
    /// Time from the start of the run to its deadline, in milliseconds.
    pub timeout: u64,
    /// Maximum number of retries per service.
    pub retry_attempts: u8,
}

impl EffectiveLimits {
    fn write(&self, members: &mut Members<'_>) {
        members.number(name!("maxConcurrency"), self.max_concurrency);
        members.number(name!("timeout"), self.timeout);
        members.number(name!("retryAttempts"), self.retry_attempts);
    }
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
    pub tier: Arc<str>,
    /// An id of the plan, which is written to `meta.planId`. The program chooses it, for example a
    /// route name with a version.
    pub plan_id: Arc<str>,
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
    /// Returns the response for a successful run, or `None` if its `data` is larger than [`MAX_ANSWER`].
    ///
    /// `data` holds the services of the run in plan order, and the totals. `answer` returns the response of a
    /// node by its index in the plan, or `None` if the node has no response. Responses are copied byte for byte.
    ///
    /// With a `merged` document, `data.merged` contains that document, and the services have no
    /// `data` of their own.
    #[must_use]
    pub fn success<'j>(
        &self,
        answer: impl Fn(usize) -> Option<&'j Json>,
        merged: Option<&Json>,
    ) -> Option<Bytes> {
        // A merged document holds the responses already.
        let answer = |node| answer(node).filter(|_| merged.is_none());
        let size = self.size(answer) + merged.map_or(0, |json| json.as_bytes().len());
        // A large response is not copied.
        if size > MAX_ANSWER {
            return None;
        }
        let room = ENTRY * (self.report.branches.len() + 4);
        let mut data = 0;
        let out = self.succeeded(Vec::with_capacity(size + room), |out| {
            data = self.push_data(out, answer, merged);
        });
        (data <= MAX_ANSWER).then(|| out.into())
    }

    /// Returns the response for a successful run whose services were sent before.
    pub(super) fn success_summary(&self, merged: Option<&Json>) -> Vec<u8> {
        self.succeeded(Vec::new(), |out| self.push_totals(out, merged))
    }

    /// Returns `problem` with the `data` and `meta` members that a successful response has, unless `data` is
    /// larger than [`MAX_ANSWER`].
    #[must_use]
    pub fn failure<'j>(
        &self,
        problem: Problem,
        answer: impl Fn(usize) -> Option<&'j Json>,
    ) -> Problem {
        if self.size(&answer) > MAX_ANSWER {
            return problem;
        }
        let mut data = Vec::new();
        if self.push_data(&mut data, answer, None) > MAX_ANSWER {
            return problem;
        }
        self.failed(problem, data)
    }

    /// Returns `problem` with the members of a response whose services were sent before.
    pub(super) fn failure_summary(&self, problem: Problem) -> Problem {
        let mut data = Vec::new();
        self.push_totals(&mut data, None);
        self.failed(problem, data)
    }

    fn succeeded(&self, mut out: Vec<u8>, write_data: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        Members::object(&mut out, |members| {
            members.flag(name!("success"), true);
            write_data(members.named("data"));
            members.members(name!("meta"), |meta| self.write_meta(meta));
        });
        out
    }

    fn failed(&self, problem: Problem, data: Vec<u8>) -> Problem {
        let mut meta = Vec::new();
        Members::object(&mut meta, |members| self.write_meta(members));
        // Both are written by `Members`.
        let raw = |json| -> Box<RawValue> {
            serde_json::from_slice(json).expect("data and meta are valid JSON")
        };
        problem
            .extension("data", raw(&data))
            .extension("meta", raw(&meta))
    }

    /// Returns the size of the responses of all nodes in bytes.
    fn size<'j>(&self, answer: impl Fn(usize) -> Option<&'j Json>) -> usize {
        let branches = self.report.branches.iter();
        let answers = branches.filter_map(|branch| answer(branch.node));
        answers.map(|json| json.as_bytes().len()).sum()
    }

    /// Appends the `data` member. Returns its size in bytes.
    fn push_data<'j>(
        &self,
        out: &mut Vec<u8>,
        answer: impl Fn(usize) -> Option<&'j Json>,
        merged: Option<&Json>,
    ) -> usize {
        let before = out.len();
        Members::object(out, |members| {
            members.members(name!("services"), |services| {
                for branch in &self.report.branches {
                    let out = services.named(&self.names[branch.node]);
                    push_service(out, branch, |_| {}, answer(branch.node));
                }
            });
            self.write_totals(members, merged);
        });
        out.len() - before
    }

    /// Appends the `data` member without the services.
    fn push_totals(&self, out: &mut Vec<u8>, merged: Option<&Json>) {
        Members::object(out, |members| self.write_totals(members, merged));
    }

    fn write_totals(&self, members: &mut Members<'_>, merged: Option<&Json>) {
        if let Some(merged) = merged {
            members.json(name!("merged"), merged.as_bytes());
        }
        write_totals(members, self.report, self.names);
    }

    fn write_meta(&self, members: &mut Members<'_>) {
        let (meta, report) = (self.meta, self.report);
        let sequential = meta.sequential;
        let mode = if sequential { "sequential" } else { "parallel" };
        members.constant(name!("executionMode"), mode);
        members.constant(name!("aggregationStrategy"), meta.strategy.as_str());
        members.members(name!("effective"), |effective| {
            meta.effective.write(effective)
        });
        members.text(name!("correlationId"), meta.correlation_id.as_str());
        members.text(name!("tier"), &meta.tier);
        members.flag(name!("completed"), report.is_complete());
        members.flag(name!("timedOut"), report.timed_out);
        let critical_path = report.critical_path.iter();
        members.texts(
            name!("criticalPath"),
            critical_path.map(|&node| &*self.names[node]),
        );
        members.text(name!("planId"), &meta.plan_id);
    }
}
