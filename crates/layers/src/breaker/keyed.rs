//! The breaker as a layer with one instance per key.

use std::time::Duration;

use tower_service::Service;

use super::{
    future::ResponseFuture,
    layer::BreakerLayer,
    permit::Permit,
    shared::Shared,
    state::{Snapshot, State},
};
use crate::{
    call::CallContext,
    classify::Classify,
    event::Events,
    per_key::{Keyed, KeyedLayer, Retention},
    permit_scope::PermitScope,
    rejection::{AsRejection, Rejection},
};

impl<C: Clone, U> Keyed for BreakerLayer<C, U> {
    fn fresh(&self) -> Self {
        Self::fresh(self)
    }

    fn events(self, sink: Events) -> Self {
        Self::events(self, sink)
    }

    fn retention(&self) -> Retention {
        if self.handle().is_in_use() {
            Retention::Held
        } else {
            retention(self.handle().shared())
        }
    }
}

/// Returns the retention of a breaker that no call uses.
fn retention(breaker: &Shared) -> Retention {
    let snapshot = breaker.inspect(super::state::Machine::snapshot);
    match snapshot.state {
        State::Closed if is_empty(&snapshot, breaker.config().backoff_reset_after) => {
            Retention::Lossless
        }
        State::Closed => Retention::Counts,
        State::Open if snapshot.open_remaining.is_some_and(|left| !left.is_zero()) => {
            Retention::Held
        }
        // The next call is a probe. After a long time without calls, this is no longer worth the memory.
        State::Open | State::HalfOpen => Retention::UntilIdle,
        State::ForcedOpen | State::Disabled | State::Shadow => Retention::Held,
    }
}

/// Returns `true` if a new breaker would decide like the closed breaker of `snapshot`: the window is
/// empty, and no trip or failure is recent.
fn is_empty(snapshot: &Snapshot, recent: Duration) -> bool {
    let failed_recently = snapshot.last_failure.is_some_and(|age| age < recent);
    let tripped_recently = snapshot.trips > 0 && snapshot.time_in_state < recent;
    snapshot.calls == 0 && !failed_recently && !tripped_recently
}

impl<S, C, U, Req> KeyedLayer<S, Req> for BreakerLayer<C, U>
where
    S: Service<Req> + Clone,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    U: PermitScope<S::Response> + Clone,
    Req: CallContext,
{
    type Response = U::Response<Permit>;
    type Future = ResponseFuture<S, C, U, Req>;

    #[inline(always)]
    fn call(&self, inner: &mut S, request: Req) -> ResponseFuture<S, C, U, Req> {
        Self::call(self, inner, request)
    }
}
