//! Totals over the services of a run.

use std::time::Duration;

use serde::Serialize;
use tower_fanout::{Millis, Report, Status};

/// The members of `data` beside `services`.
///
/// `overhead` and `lastService` explain the total time: the part of it during which no service was
/// in flight, and the service that ended last.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals<'a> {
    parallel_execution_stats: Stats,
    execution_time: Millis,
    overhead: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_service: Option<&'a str>,
    success_rate: f64,
}

impl<'a> Totals<'a> {
    pub(super) fn of(report: &Report, names: &'a [Box<str>]) -> Self {
        let stats = Stats::of(report);
        Self {
            execution_time: Millis(report.elapsed),
            overhead: Millis(report.overhead),
            last_service: report.last.map(|node| &*names[node]),
            success_rate: stats.success_rate(),
            parallel_execution_stats: stats,
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
    /// Counts services by status. Times are those of services that were called: a service that was
    /// refused before a call would lower the average.
    fn of(report: &Report) -> Self {
        let fallback_services = report.count(Status::Fallback);
        let called = || (report.branches.iter()).filter(|branch| branch.was_called());
        let times = || called().filter_map(|branch| branch.elapsed);
        let calls = u32::try_from(times().count()).unwrap_or(u32::MAX);
        let retries = (report.branches.iter()).map(|branch| branch.attempts.saturating_sub(1));
        Self {
            total_services: report.branches.len(),
            successful_services: report.count(Status::Success) + fallback_services,
            failed_services: report.count(Status::Failed),
            skipped_services: report.count(Status::Skipped),
            cancelled_services: report.count(Status::Cancelled),
            fallback_services,
            average_response_time: Millis(times().sum::<Duration>() / calls.max(1)),
            max_response_time: Millis(times().max().unwrap_or_default()),
            retries: retries.sum(),
        }
    }

    /// Returns the share of successful services among those that were not skipped, or 1 if all were
    /// skipped.
    fn success_rate(&self) -> f64 {
        match self.total_services - self.skipped_services {
            0 => 1.0,
            ran => self.successful_services as f64 / ran as f64,
        }
    }
}
