//! The answer on the wire: what each service said, how it went, and what the whole amounts to.

use std::time::Duration;

use serde::Serialize;
use tower_fanout::{Branch, BranchError, Report, Status, Strategy, layers::breaker::State};
use tower_fanout_http::json::Json;

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

/// The part of an answer that is about the request as a whole.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta<'a> {
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

/// What is known of a request before it is run, for its [`Meta`].
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whether services are asked one at a time.
    pub sequential: bool,
    /// When the whole is a success.
    pub strategy: Strategy,
    /// What was granted.
    pub effective: Effective,
    /// The id of the request.
    pub correlation_id: &'a str,
    /// The caller's tier.
    pub tier: &'a str,
    /// The id of the plan.
    pub plan_id: &'a str,
}

impl<'a> Asked<'a> {
    /// The part of the answer that is about the whole.
    #[must_use]
    pub fn meta(&self, report: &Report, names: &'a [Box<str>]) -> Meta<'a> {
        Meta {
            execution_mode: if self.sequential {
                "sequential"
            } else {
                "parallel"
            },
            aggregation_strategy: self.strategy.as_str(),
            effective: self.effective,
            correlation_id: self.correlation_id,
            tier: self.tier,
            completed: report.is_complete(),
            timed_out: report.timed_out,
            critical_path: report
                .critical_path
                .iter()
                .map(|&node| &*names[node])
                .collect(),
            plan_id: self.plan_id,
        }
    }
}

/// One service's part of an answer, without its data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'a> {
    status: &'static str,
    response_time: Millis,
    circuit_breaker_state: &'static str,
    fallback_used: bool,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ServiceError<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct ServiceError<'a> {
    kind: &'static str,
    message: &'a str,
}

/// A time in milliseconds, fractions kept to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Millis(pub Duration);

impl Serialize for Millis {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if micros.is_multiple_of(1000) {
            serializer.serialize_u64(micros / 1000)
        } else {
            serializer.serialize_f64(micros as f64 / 1000.0)
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    total_services: usize,
    successful_services: usize,
    failed_services: usize,
    skipped_services: usize,
    cancelled_services: usize,
    fallback_services: usize,
    average_response_time: Millis,
    max_response_time: Millis,
    retries: u32,
}

impl Stats {
    fn of(report: &Report) -> Self {
        let fallback_services = report.count(Status::Fallback);
        let times: Vec<Duration> = report
            .branches
            .iter()
            .filter_map(|branch| branch.elapsed)
            .collect();
        let sum: Duration = times.iter().sum();
        Self {
            total_services: report.branches.len(),
            successful_services: report.count(Status::Success) + fallback_services,
            failed_services: report.count(Status::Failed),
            skipped_services: report.count(Status::Skipped),
            cancelled_services: report.count(Status::Cancelled),
            fallback_services,
            average_response_time: Millis(
                sum / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX),
            ),
            max_response_time: Millis(times.into_iter().max().unwrap_or_default()),
            retries: report
                .branches
                .iter()
                .map(|branch| branch.attempts.saturating_sub(1))
                .sum(),
        }
    }

    /// Successful services among those that were not skipped; 1 if nothing ran.
    fn success_rate(&self) -> f64 {
        match self.total_services - self.skipped_services {
            0 => 1.0,
            ran => self.successful_services as f64 / ran as f64,
        }
    }
}

/// The name of a breaker's state on the wire; a service without a breaker is always closed.
#[must_use]
pub fn breaker_state(state: Option<State>) -> &'static str {
    match state {
        Some(State::Open | State::ForcedOpen) => "OPEN",
        Some(State::HalfOpen) => "HALF_OPEN",
        _ => "CLOSED",
    }
}

/// Writes `data`: every service that was asked for, in order of the plan. What a service answered
/// is copied as it came.
#[must_use]
pub fn data<'a>(
    report: &'a Report,
    names: &[Box<str>],
    breaker: impl Fn(usize) -> Option<State>,
    answer: impl Fn(usize) -> Option<&'a Json>,
) -> String {
    let mut out = String::from("{\"services\":{");
    for (place, branch) in report.branches.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        push(&mut out, &names[branch.node]);
        out.push(':');
        push(&mut out, &service(branch, breaker(branch.node)));
        if let Some(json) = answer(branch.node) {
            out.pop();
            out.push_str(",\"data\":");
            out.push_str(json.as_raw());
            out.push('}');
        }
    }
    out.push_str("},\"parallelExecutionStats\":");
    let stats = Stats::of(report);
    push(&mut out, &stats);
    out.push_str(",\"executionTime\":");
    push(&mut out, &Millis(report.elapsed));
    out.push_str(",\"successRate\":");
    push(&mut out, &stats.success_rate());
    out.push('}');
    out
}

/// Writes the whole answer of a success.
#[must_use]
pub fn success(data: &str, meta: &Meta<'_>) -> String {
    let mut out = String::with_capacity(data.len() + 512);
    out.push_str("{\"success\":true,\"data\":");
    out.push_str(data);
    out.push_str(",\"meta\":");
    push(&mut out, meta);
    out.push('}');
    out
}

fn service(branch: &Branch, breaker: Option<State>) -> Service<'_> {
    Service {
        status: branch.status.as_str(),
        response_time: Millis(branch.elapsed.unwrap_or_default()),
        circuit_breaker_state: breaker_state(breaker),
        fallback_used: branch.status == Status::Fallback,
        attempts: branch.attempts,
        error: branch.error.as_ref().map(service_error),
        skip_reason: branch.skipped.map(tower_fanout::SkipReason::as_str),
    }
}

fn service_error(error: &BranchError) -> ServiceError<'_> {
    ServiceError {
        kind: error.kind().as_str(),
        message: error.message(),
    }
}

/// Writes `value` by itself.
#[must_use]
pub fn to_string(value: &impl Serialize) -> String {
    let mut out = String::new();
    push(&mut out, value);
    out
}

/// Writes `value`, whose serialization cannot fail: strings for keys, finite numbers.
fn push(out: &mut String, value: &(impl Serialize + ?Sized)) {
    out.push_str(&serde_json::to_string(value).expect("plain values are always JSON"));
}
