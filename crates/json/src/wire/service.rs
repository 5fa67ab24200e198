//! The record of one service in a response.

use serde::Serialize;
use tower_fanout::{
    Branch, Millis, SkipReason, Status, breaker_state,
    layers::event::{FallbackKind, RetryStopReason},
};

use super::push;
use crate::Json;

/// The record of one service, without its `data`. Members that do not apply are omitted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceEntry<'a> {
    /// The type of the record, if the format of a stream does not name it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) r#type: Option<&'static str>,
    /// The name of the service, in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    response_time: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_time: Option<Millis>,
    circuit_breaker_state: &'static str,
    fallback_used: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_kind: Option<&'static str>,
    attempts: u32,
    #[serde(skip_serializing_if = "is_zero")]
    hedges: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_stopped_by: Option<&'static str>,
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

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl<'a> ServiceEntry<'a> {
    pub(super) fn of(branch: &'a Branch) -> Self {
        Self {
            r#type: None,
            name: None,
            status: branch.status.as_str(),
            http_status: branch.http_status,
            response_time: Millis(branch.elapsed.unwrap_or_default()),
            queue_time: (!branch.queued.is_zero()).then_some(Millis(branch.queued)),
            circuit_breaker_state: breaker_state(branch.breaker),
            fallback_used: branch.status == Status::Fallback,
            fallback_kind: branch.fallback.map(FallbackKind::as_str),
            attempts: branch.attempts,
            hedges: branch.hedges,
            retry_stopped_by: branch.stopped_by.map(RetryStopReason::as_str),
            error: branch.error.as_ref().map(|error| ServiceError {
                kind: error.kind().as_str(),
                message: error.message(),
            }),
            skip_reason: branch.skipped.map(SkipReason::as_str),
        }
    }

    /// Appends the record as JSON. `data` is the response of the service, and is copied byte for
    /// byte.
    pub(super) fn push(&self, out: &mut String, data: Option<&Json>) {
        push(out, self);
        if let Some(data) = data {
            // The closing brace.
            out.pop();
            out.push_str(",\"data\":");
            out.push_str(data.as_raw());
            out.push('}');
        }
    }
}
