//! A layer that responds from another source if the call failed.
//!
//! A chain of steps is tried in order: a fixed or created response, the last good response, a function or
//! another service. The first step that [covers the result](FallbackLayer::on) *and succeeds* wins. If no step
//! succeeds, the call ends with its original failure, never with the error of a step.
//! [`Event::FallbackFailed`] reports the failures of steps. The layers below are not affected: the
//! breaker has recorded the original failure.
//!
//! Every step is compared with the class of the original result, not with the failure of the step before.
//! The classifier also decides whether the response of a step is a success. A stale step without a
//! response, and a function or service step without time, are skipped without an event.
//!
//! | result of the call | fixed, created or last good response | function, service |
//! |---|---|---|
//! | failure, 408, 425, 429, 501, 505, local rejection | yes | yes, if there is time |
//! | [`Rejection::Deadline`] | yes | if there is time: it was [reserved](FallbackLayer::reserve), or a layer below had set an earlier deadline |
//! | another 4xx | only if the status is [listed](field@OutcomeSet::statuses) | only if the status is listed, and there is time |
//! | [`Class::Unanswered`] with another cause than the deadline | no | no |
//!
//! The [`OutcomeSet`] of a step changes these defaults.
//!
//! A step has time if at least 10 ms are left until the deadline that the request has when it reaches the
//! layer. A step that still runs at that deadline has failed, and the next step is tried. If the request
//! has no deadline, a function or service step has no time limit, even with a
//! [`DeadlineLayer`](crate::DeadlineLayer) below: that layer limits the original call only.
//!
//! A panic of the call is a failure with fallbacks, too. If no step succeeds, the panic continues.
//!
//! The field [`fallback`](crate::Call::fallback) of a call turns fallbacks off for that call.
//!
//! [`Class::Unanswered`]: crate::Class::Unanswered
//! [`Event::FallbackFailed`]: crate::Event::FallbackFailed
//! [`Rejection::Deadline`]: crate::Rejection::Deadline

mod chain;
mod future;
mod layer;
mod outcomes;
mod stale;

pub use self::{
    future::ResponseFuture,
    layer::{Fallback, FallbackLayer},
    outcomes::OutcomeSet,
    stale::{MemoryStore, StaleStore},
};
