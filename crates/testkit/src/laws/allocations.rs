//! The law of allocations: what a layer costs beside what is below it.

use std::{future::poll_fn, pin::pin};

use tower_service::Service;

use super::{
    Laws, Layered, Traffic,
    drive::{require, within},
};

const ALLOCATIONS: &str = "allocations";

/// The calls of a trial, of which the first may make what is made once.
const CALLS: u64 = 8;

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Tries that a successful call allocates at most as often as [`allocating`](Self::allocating)
    /// says, 0 times by default, beside what it allocates in the inner service. The call is pending
    /// once. The first of a few calls is left out, since it may make what is made once.
    ///
    /// # Panics
    ///
    /// Panics if a call allocates more often, or fails.
    pub async fn allocations(&self) {
        let limit = self.allocations.unwrap_or_default();
        let script = || self.echo().after_polls(1);
        let bare = self.counts(self.inner(script())).await;
        let layered = self.counts(self.trial(script()).service).await;
        for (layered, bare) in layered.into_iter().zip(bare).skip(1) {
            let own = layered.saturating_sub(bare);
            require(
                ALLOCATIONS,
                own <= limit,
                &format!(
                    "a call allocated {own} times in the layer, and {limit} times at most were allowed"
                ),
            );
        }
    }

    /// How often each of some calls of `service` allocates.
    async fn counts(&self, mut service: impl Layered<T>) -> Vec<u64> {
        let mut counts = Vec::new();
        for number in 1..=CALLS {
            let request = self.traffic.request(number);
            let (answered, count) = within(ALLOCATIONS, count(&mut service, request)).await;
            require(ALLOCATIONS, answered, "a call failed");
            counts.push(count);
        }
        counts
    }
}

/// Whether a call of `service` succeeded, and how often it allocated.
async fn count<S: Service<Req>, Req>(service: &mut S, request: Req) -> (bool, u64) {
    let mut count = 0;
    let ready = poll_fn(|cx| counting(&mut count, || service.poll_ready(cx))).await;
    let mut call = pin!(counting(&mut count, || service.call(request)));
    let result = poll_fn(|cx| counting(&mut count, || call.as_mut().poll(cx))).await;
    (ready.is_ok() && result.is_ok(), count)
}

/// Adds to `count` how often `act` allocates.
fn counting<Output>(count: &mut u64, act: impl FnOnce() -> Output) -> Output {
    let mut output = None;
    *count += allocation_counter::measure(|| output = Some(act())).count_total;
    output.expect("what is measured is done")
}
