//! The law of polls: a layer is woken for work, and for all of it.

use std::pin::pin;

use tokio::{task::unconstrained, time::sleep};

use super::{
    Laws, Layered, Traffic,
    drive::{MOMENT, PAUSE, Wakes, oneshot, require},
};
use crate::script::Script;

const POLLS: &str = "polls";

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Tries that a waiting call does not wake itself, and that it passes on the wakes of the inner
    /// service to the waker of its latest poll.
    ///
    /// # Panics
    ///
    /// Panics if a call spins, polls the inner call more often than it is polled, or is not woken
    /// when the inner service becomes ready or answers.
    pub async fn polls(&self) {
        self.no_spin();
        self.wake_of_readiness().await;
        self.wake_of_answer().await;
    }

    fn no_spin(&self) {
        let trial = self.trial(Script::new().hang());
        let mut call = pin!(unconstrained(oneshot(
            trial.service,
            self.traffic.request(1)
        )));
        let wakes = Wakes::new();
        for _ in 0..3 {
            let _ = wakes.poll(call.as_mut());
        }
        require(
            POLLS,
            wakes.count() == 0,
            "a call woke itself while the inner call was pending",
        );
        require(
            POLLS,
            trial.script.polls() <= 3,
            "the inner call was polled more often than the call",
        );
    }

    async fn wake_of_readiness(&self) {
        let trial = self.trial(self.echo());
        trial.script.hold();
        let call = oneshot(trial.service, self.traffic.request(1));
        self.require_wake(
            call,
            || trial.script.release(),
            "the inner service became ready",
        )
        .await;
    }

    async fn wake_of_answer(&self) {
        let trial = self.trial(self.echo().after(2 * PAUSE));
        let call = oneshot(trial.service, self.traffic.request(1));
        self.require_wake(call, || (), "the inner service answered")
            .await;
    }

    async fn require_wake(&self, call: impl Future, event: impl FnOnce(), what: &str) {
        let mut call = pin!(unconstrained(call));
        let (first, stale, latest) = (Wakes::new(), Wakes::new(), Wakes::new());
        if first.poll(call.as_mut()).is_ready() {
            return; // it was refused, and waits for nothing
        }
        sleep(PAUSE).await;
        if stale.poll(call.as_mut()).is_ready() || latest.poll(call.as_mut()).is_ready() {
            return;
        }
        let spins = stale.count() + latest.count();
        require(
            POLLS,
            spins == 0,
            "a call woke itself while the inner service was not ready",
        );
        event();
        sleep(2 * PAUSE + MOMENT).await;
        require(
            POLLS,
            latest.count() > 0,
            &format!("no wake reached the latest waker when {what}"),
        );
    }
}
