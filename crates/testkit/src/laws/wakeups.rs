//! The law of wakeups: a layer wakes its task for progress only, and for all progress.

use std::pin::pin;

use tokio::{task::unconstrained, time::sleep};

use super::{
    Laws, Layered, Traffic,
    drive::{Law, MAX_LAYER_DELAY, SETTLE_TIME, WakeCounter, oneshot},
};
use crate::script::ScriptedService;

const WAKEUPS: Law = Law("wakeups");

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Checks that a waiting call is woken by the inner service only.
    ///
    /// A pending call must not wake itself, and must pass each wakeup of the inner service to the
    /// waker of its latest poll.
    ///
    /// # Panics
    ///
    /// Panics if a pending call wakes itself, if the layer polls the inner call more often than it is
    /// polled itself, or if the task is not woken when the inner service becomes ready or responds.
    pub async fn wakeups(&self) {
        self.check_no_self_wake();
        self.check_wake_on_readiness().await;
        self.check_wake_on_response().await;
    }

    fn check_no_self_wake(&self) {
        let trial = self.trial(ScriptedService::new().hang());
        let mut call = pin!(unconstrained(oneshot(
            trial.service,
            self.traffic.request(1)
        )));
        let wakes = WakeCounter::new();
        // No wake happened between these polls, so each wakeup is the layer's own.
        for _ in 0..3 {
            let _ = wakes.poll(call.as_mut());
        }
        WAKEUPS.require(
            wakes.count() == 0,
            "a call woke itself while the inner call was pending",
        );
        WAKEUPS.require(
            trial.script.polls() <= 3,
            "the inner call was polled more often than the call",
        );
    }

    async fn check_wake_on_readiness(&self) {
        let trial = self.trial(self.echo());
        trial.script.set_not_ready();
        let call = oneshot(trial.service, self.traffic.request(1));
        self.require_wake(
            call,
            || trial.script.set_ready(),
            "the inner service became ready",
        )
        .await;
    }

    async fn check_wake_on_response(&self) {
        // The response comes after both polls, and before the end of the final wait.
        let trial = self.trial(self.echo().after(2 * MAX_LAYER_DELAY));
        let call = oneshot(trial.service, self.traffic.request(1));
        self.require_wake(call, || (), "the inner service responded")
            .await;
    }

    async fn require_wake(&self, call: impl Future, event: impl FnOnce(), event_name: &str) {
        let mut call = pin!(unconstrained(call));
        // `first` starts the call and may be woken by a delay of the layer. The two polls after that
        // delay must not wake `stale` or `latest`. The event must wake `latest`.
        let (first, stale, latest) = (WakeCounter::new(), WakeCounter::new(), WakeCounter::new());
        if first.poll(call.as_mut()).is_ready() {
            return; // the layer skipped the inner service and waits for nothing
        }
        sleep(MAX_LAYER_DELAY).await;
        if stale.poll(call.as_mut()).is_ready() || latest.poll(call.as_mut()).is_ready() {
            return;
        }
        let spins = stale.count() + latest.count();
        WAKEUPS.require(
            spins == 0,
            "a call woke itself while the inner service was not ready",
        );
        event();
        sleep(2 * MAX_LAYER_DELAY + SETTLE_TIME).await;
        WAKEUPS.require(
            latest.count() > 0,
            format!("the latest waker was not woken when {event_name}"),
        );
    }
}
