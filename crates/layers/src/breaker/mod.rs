//! A circuit breaker that stops calls to a service that keeps failing, and probes for its recovery.
//!
//! The breaker has six [states](State). It moves between three of them by itself:
//!
//! - *Closed*: calls pass. Their results are counted in a window of time or of calls. If enough of
//!   them failed or were slow, the breaker opens.
//! - *Open*: calls are rejected at once, with the time until the next attempt may pass. When the
//!   open time is over, the next call makes the breaker half-open.
//! - *Half-open*: a few probes pass, by default one at a time. If enough probes succeed, the
//!   breaker closes. If a probe fails, the breaker opens again, for a longer time.
//!
//! A [`Handle`] sets the other three, which the breaker never leaves by itself:
//!
//! - *Forced open*: calls are rejected, as long as a guard of [`Handle::force_open`] is alive.
//! - *Disabled*: calls pass and are not recorded. See [`Handle::disable`].
//! - *Shadow*: calls pass and are recorded. See [`Handle::shadow_mode`].
//!
//! | result of the call | counts as |
//! |---|---|
//! | [`Class::Success`], [`Class::NonRetryable`] | success |
//! | [`Class::Failure`] | failure, except [`Failure::NotProcessed`], which is not counted |
//! | [`Class::Throttled`] | not counted while closed, a failed probe while half-open |
//! | [`Class::Unanswered`], or the call is dropped | failure if the call had run for [`unanswered`](field@BreakerConfig::unanswered), else not counted |
//! | [`Class::Transient`], [`Class::Rejected`] | not counted |
//!
//! With [`open_on_retry_after`](field@BreakerConfig::open_on_retry_after), a result with a `Retry-After`,
//! such as a 429 or 503, opens the breaker for that time.
//!
//! A probe whose result is not counted gives its slot back. Every change of state begins a new
//! *generation*, and the result of a call that was admitted in an older generation has no effect. A
//! probe that does not end within its lease counts as failed. Therefore a breaker cannot get stuck
//! half-open, a cancelled probe cannot close it, and a late result cannot reopen it.
//!
//! A [`Handle`] gives access to the breaker from outside. It takes snapshots, sets and
//! [resets](Handle::reset) the states above, [opens](Handle::open_for) the breaker for a time, and [ends
//! the open time](Handle::probe_now).
//!
//! The breaker has no background task. The end of the open time and of a lease is noticed at the
//! next call.
//!
//! # Order
//!
//! The breaker measures everything below it. Below a [`ConcurrencyLayer`](crate::ConcurrencyLayer)
//! it measures the service alone: a queued call has not reached the breaker, is not counted and
//! holds no probe slot. Above a limit, the time in the queue counts as the service's time, and a
//! call that is dropped in the queue may count as a slow failure.
//!
//! A layer above that delays calls should not delay them while the circuit is open. Such a layer
//! takes the breaker's [`Handle`] and checks it first: see the method `breaker` of
//! [`ConcurrencyLayer`](crate::ConcurrencyLayer::breaker),
//! [`ThrottleLayer`](crate::ThrottleLayer::breaker), [`RetryLayer`](crate::RetryLayer::breaker) and
//! [`HedgeLayer`](crate::HedgeLayer::breaker). The check uses no probe slot.
//!
//! Do not give a layer the handle of a breaker *above* it. While that breaker is half-open, its own
//! probe would hold the slot, and the layer below would reject the probe.
//!
//! # Below a load balancer
//!
//! A breaker is always ready, because a rejection must not wait. A load balancer that compares the pending requests
//! or the latencies of its endpoints would therefore prefer an endpoint whose circuit is open. Make the load of an
//! endpoint depend on [`Handle::rejection`] too: it returns `None` as soon as a probe is due. The example
//! `balance` does so for tower's `Balance`.
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
mod keyed;
mod layer;
mod permit;
#[cfg(all(test, shuttle))]
mod schedules;
mod shared;
mod state;
#[cfg(test)]
mod tests;

pub use self::{
    config::{BreakerConfig, Window},
    future::ResponseFuture,
    handle::{ForcedOpen, Handle},
    layer::{Breaker, BreakerLayer},
    permit::Permit,
    state::{OpenReason, Snapshot, State},
};
