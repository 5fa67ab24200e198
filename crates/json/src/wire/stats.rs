//! Totals over the services of a run.

use std::time::Duration;

use tower_fanout::{Report, Status};

use super::members::{Members, name};

/// Writes the members of `data` beside `services`.
///
/// `overhead` and `lastService` explain the total time: the part of it during which no service was
/// in flight, and the service that ended last.
pub(super) fn write_totals(members: &mut Members<'_>, report: &Report, names: &[Box<str>]) {
    let total = report.branches.len();
    let (fallback, skipped) = (
        report.count(Status::Fallback),
        report.count(Status::Skipped),
    );
    let successful = report.count(Status::Success) + fallback;
    members.members(name!("parallelExecutionStats"), |stats| {
        stats.number(name!("totalServices"), total);
        stats.number(name!("successfulServices"), successful);
        stats.number(name!("failedServices"), report.count(Status::Failed));
        stats.number(name!("skippedServices"), skipped);
        stats.number(name!("cancelledServices"), report.count(Status::Cancelled));
        stats.number(name!("fallbackServices"), fallback);
        write_times(stats, report);
    });
    members.millis(name!("executionTime"), report.elapsed);
    members.millis(name!("overhead"), report.overhead);
    if let Some(last) = report.last {
        members.text(name!("lastService"), &names[last]);
    }
    let rate = match total - skipped {
        // Nothing ran, so nothing failed.
        0 => 1.0,
        ran => successful as f64 / ran as f64,
    };
    members.share(name!("successRate"), rate);
}

/// Writes the times of the services that were called, and their retries.
fn write_times(stats: &mut Members<'_>, report: &Report) {
    let branches = || report.branches.iter();
    let called = branches().filter(|branch| branch.was_called());
    let times = called.filter_map(|branch| branch.elapsed);
    let (calls, sum, max) = times.fold(
        (0, Duration::ZERO, Duration::ZERO),
        |(calls, sum, max), time| (calls + 1, sum + time, max.max(time)),
    );
    stats.millis(name!("averageResponseTime"), sum / calls.max(1));
    stats.millis(name!("maxResponseTime"), max);
    let retries = branches().map(|branch| branch.attempts.saturating_sub(1));
    stats.number(name!("retries"), retries.sum::<u32>());
}
