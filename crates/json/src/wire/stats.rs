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

impl<'a> Totals<'a> {
    /// Counts the services of a run. Times are those of services that were called: a service that
    /// was refused before a call would lower the average.
    pub(super) fn of(report: &Report, names: &'a [Box<str>]) -> Self {
        let branches = &report.branches;
        let called = || branches.iter().filter(|branch| branch.was_called());
        let times = || called().filter_map(|branch| branch.elapsed);
        let calls = u32::try_from(times().count()).unwrap_or(u32::MAX);
        let retries = branches
            .iter()
            .map(|branch| branch.attempts.saturating_sub(1));
        let (fallback, skipped) = (
            report.count(Status::Fallback),
            report.count(Status::Skipped),
        );
        let successful = report.count(Status::Success) + fallback;
        Self {
            execution_time: Millis(report.elapsed),
            overhead: Millis(report.overhead),
            last_service: report.last.map(|node| &*names[node]),
            success_rate: match branches.len() - skipped {
                // Nothing ran, so nothing failed.
                0 => 1.0,
                ran => successful as f64 / ran as f64,
            },
            parallel_execution_stats: Stats {
                total_services: branches.len(),
                successful_services: successful,
                failed_services: report.count(Status::Failed),
                skipped_services: skipped,
                cancelled_services: report.count(Status::Cancelled),
                fallback_services: fallback,
                average_response_time: Millis(times().sum::<Duration>() / calls.max(1)),
                max_response_time: Millis(times().max().unwrap_or_default()),
                retries: retries.sum(),
            },
        }
    }
}
