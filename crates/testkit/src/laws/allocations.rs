//! The law of allocations: the cost of a layer beyond its inner service.

use std::{future::poll_fn, pin::pin};

use tower_service::Service;

use super::{Laws, Layered, Traffic, drive::Law};

const ALLOCATIONS: Law = Law("allocations");

/// Calls per trial. The first may allocate what the service creates once, so it is not checked.
const CALLS: u64 = 8;

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Checks that a successful call allocates at most the number of times that
    /// [`max_allocations`](Self::max_allocations) allows, 0 by default.
    ///
    /// Allocations of the inner service are subtracted. Each call is pending once, so allocations of
    /// the first pending poll count. The first call is not checked, because it may allocate what the
    /// service creates once.
    ///
    /// # Panics
    ///
    /// Panics if a call allocates more often, or fails.
    pub async fn allocations(&self) {
        let limit = self.max_allocations.unwrap_or_default();
        let script = || self.echo().after_polls(1);
        let bare = self.counts(self.inner(script())).await;
        let layered = self.counts(self.trial(script()).service).await;
        // Both run the same calls, so the difference is what the layer allocates.
        for (layered, bare) in layered.into_iter().zip(bare).skip(1) {
            let own = layered.saturating_sub(bare);
            ALLOCATIONS.require(
                own <= limit,
                format!("a call allocated {own} times in the layer, expected at most {limit}"),
            );
        }
    }

    /// Returns the number of allocations of each of [`CALLS`] calls to `service`.
    async fn counts(&self, mut service: impl Layered<T>) -> Vec<u64> {
        let mut counts = Vec::new();
        for number in 1..=CALLS {
            let request = self.traffic.request(number);
            let (succeeded, count) = ALLOCATIONS.complete(count(&mut service, request)).await;
            ALLOCATIONS.require(succeeded, "a call failed");
            counts.push(count);
        }
        counts
    }
}

/// Calls `service`. Returns whether the call succeeded and the number of its allocations.
async fn count<S: Service<Req>, Req>(service: &mut S, request: Req) -> (bool, u64) {
    let mut count = 0;
    let ready = poll_fn(|cx| counting(&mut count, || service.poll_ready(cx))).await;
    let mut call = pin!(counting(&mut count, || service.call(request)));
    let result = poll_fn(|cx| counting(&mut count, || call.as_mut().poll(cx))).await;
    (ready.is_ok() && result.is_ok(), count)
}

/// Runs `action` and adds the number of its allocations to `count`.
fn counting<Output>(count: &mut u64, action: impl FnOnce() -> Output) -> Output {
    let mut output = None;
    *count += allocation_counter::measure(|| output = Some(action())).count_total;
    output.expect("`measure` runs the closure before it returns")
}
