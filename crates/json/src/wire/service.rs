//! The record of one service in a response.

use tower_fanout::{
    Branch, SkipReason, Status, breaker_state,
    layers::event::{FallbackKind, RetryStopReason},
};

use super::members::{Members, Name, name};
use crate::Json;

/// Appends the record of the service whose branch is `branch`. Members that do not apply are omitted.
///
/// `first` writes the members of a stream, and `data` is the response of the service.
pub(super) fn push_service(
    out: &mut Vec<u8>,
    branch: &Branch,
    first: impl FnOnce(&mut Members<'_>),
    data: Option<&Json>,
) {
    Members::object(out, |members| {
        first(members);
        members.constant(name!("status"), branch.status.as_str());
        if let Some(status) = branch.http_status {
            members.number(name!("httpStatus"), status);
        }
        members.millis(name!("responseTime"), branch.elapsed.unwrap_or_default());
        if !branch.queued.is_zero() {
            members.millis(name!("queueTime"), branch.queued);
        }
        members.constant(name!("circuitBreakerState"), breaker_state(branch.breaker));
        members.flag(name!("fallbackUsed"), branch.status == Status::Fallback);
        let kind = branch.fallback.map(FallbackKind::as_str);
        optional(members, name!("fallbackKind"), kind);
        members.number(name!("attempts"), branch.attempts);
        if branch.hedges > 0 {
            members.number(name!("hedges"), branch.hedges);
        }
        let stopped_by = branch.stopped_by.map(RetryStopReason::as_str);
        optional(members, name!("retryStoppedBy"), stopped_by);
        if let Some(error) = &branch.error {
            members.members(name!("error"), |members| {
                members.constant(name!("kind"), error.kind().as_str());
                members.text(name!("message"), error.message());
            });
        }
        optional(
            members,
            name!("skipReason"),
            branch.skipped.map(SkipReason::as_str),
        );
        if let Some(data) = data {
            members.json(name!("data"), data.as_bytes());
        }
    });
}

/// Appends a member, unless it does not apply.
pub(super) fn optional(members: &mut Members<'_>, name: Name, value: Option<&'static str>) {
    if let Some(value) = value {
        members.constant(name, value);
    }
}
