//! Stop asking a service that keeps failing, and find out gently when it is back.
//!
//! *Closed*, the breaker lets calls pass and counts what becomes of them in a window of time or of
//! calls. When enough of them failed or were slow, it *opens*: calls are refused at once, with the
//! time of the next chance. Then it is *half-open*: a few probes pass, one at a time; if they
//! succeed it closes, if one fails it opens again, for longer.
//!
//! | | counts as |
//! |---|---|
//! | [`Class::Success`], [`Class::NonRetryable`] | success |
//! | [`Class::Failure`] | failure, but [`Failure::NotProcessed`] counts for nothing |
//! | [`Class::Throttled`] | nothing while closed, a failed probe while half-open |
//! | [`Class::Unanswered`], or the call is dropped | slow failure if it had run for [`unanswered`](field@BreakerConfig::unanswered), else nothing |
//! | [`Class::Transient`], [`Class::Rejected`] | nothing |
//!
//! A 429 or 503 that says how long the service wants to be left alone may
//! [open it](field@BreakerConfig::open_on_retry_after) for that long.
//!
//! What counts for nothing gives a probe its slot back. Every change of state begins a new
//! *generation*, and a call admitted in an older one changes nothing when it ends. So a breaker
//! cannot get stuck half-open, a cancelled probe cannot close it, and a straggler cannot reopen it.
//! A probe that does not end within its lease counts as failed.
//!
//! By its [`Handle`] it can be looked at, and by hand it can be [held open](Handle::force_open),
//! [disabled](Handle::disable), kept [for metrics only](Handle::shadow_mode) and
//! [reset](Handle::reset).
//!
//! Nothing runs in the background: time is looked at when a call comes.
//!
//! # Order
//!
//! The breaker measures everything below it. Below a [`ConcurrencyLayer`](crate::ConcurrencyLayer) it
//! measures the service alone: a call that queues has not reached the breaker, counts for nothing and
//! holds no probe's slot. Above a limit the time in the queue counts as the service's time, and a call
//! that is dropped in the queue may count as a slow failure.
//!
//! Layers above that hold calls back should not do so while the circuit is open. They take the
//! breaker's [`Handle`] and ask it first: see `recheck` of
//! [`ConcurrencyLayer`](crate::ConcurrencyLayer::breaker),
//! [`ThrottleLayer`](crate::ThrottleLayer::breaker), [`RetryLayer`](crate::RetryLayer::breaker) and
//! [`HedgeLayer`](crate::HedgeLayer::breaker). Asking takes no probe. A layer must not be given the
//! handle of a breaker *above* it: while that breaker is half-open, its probe would be rejected by the
//! layer below, for there is another probe already.
//!
//! [`Class::Success`]: crate::Class::Success
//! [`Class::NonRetryable`]: crate::Class::NonRetryable
//! [`Class::Failure`]: crate::Class::Failure
//! [`Failure::NotProcessed`]: crate::Failure::NotProcessed
//! [`Class::Throttled`]: crate::Class::Throttled
//! [`Class::Unanswered`]: crate::Class::Unanswered
//! [`Class::Transient`]: crate::Class::Transient
//! [`Class::Rejected`]: crate::Class::Rejected

mod config;
mod future;
mod handle;
mod layer;
mod permit;
#[cfg(all(test, shuttle))]
mod schedules;
mod service;
mod shared;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    config::{BreakerConfig, Window},
    future::ResponseFuture,
    handle::{ForcedOpen, Handle, Snapshot},
    layer::BreakerLayer,
    permit::Permit,
    service::Breaker,
    state::{OpenReason, State},
};
