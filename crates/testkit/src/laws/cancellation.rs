//! The law of cancellation: a dropped call releases everything it holds.

use std::task::Poll;

use tokio::{task::unconstrained, time::timeout};

use super::{
    FAILING, Laws, Layered, Traffic, Trial,
    drive::{CALL_TIMEOUT, Law, MAX_POLLS, SETTLE_TIME, oneshot, poll_times},
};
use crate::script::ScriptedService;

const CANCELLATION: Law = Law("cancellation");

/// The other call that runs beside the call that is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Background {
    Idle,
    /// Another call hangs in the inner service, so the call waits in the layer if its permits are
    /// limited.
    Hanging,
    /// Another call hangs and is dropped just before the call. A permit that it handed over to the
    /// waiting call must be released again.
    DroppedFirst,
}

const CASES: [(u64, Background); 4] = [
    (1, Background::Idle),
    (FAILING, Background::Idle),
    (1, Background::Hanging),
    (1, Background::DroppedFirst),
];

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Checks that a dropped call releases everything it holds.
    ///
    /// The law repeats a call and drops it after 0 polls, 1 poll, 2 polls and so on, until the call
    /// completes. It does so for a call that succeeds, for a call that always fails, for a call beside
    /// another that hangs, and for a call that has just got the permit of another.
    ///
    /// # Panics
    ///
    /// Panics if, after the drop, an inner call is still running, the predicate of
    /// [`idle_when`](Self::idle_when) returns `false`, or the next call fails.
    pub async fn cancellation(&self) {
        for (number, background) in CASES {
            let mut polls = 0;
            while !self.drop_after(polls, number, background).await {
                polls += 1;
                CANCELLATION.require(
                    polls < MAX_POLLS,
                    "a call did not complete within 1000 polls",
                );
            }
        }
    }

    /// Drops a call after `polls` polls and checks that nothing is held.
    ///
    /// Returns `true` if the call completed, or would not have been polled again, before the drop.
    async fn drop_after(&self, polls: usize, number: u64, background: Background) -> bool {
        let (start, occupied) = match background {
            Background::Idle => (ScriptedService::new(), false),
            Background::Hanging | Background::DroppedFirst => (ScriptedService::new().hang(), true),
        };
        // Two polls of readiness and three of the call give a layer several await points to be dropped at.
        let trial = self.trial(self.then_echo(start).after_polls(3).ready_after_polls(2));
        let occupant = if occupied {
            self.occupy(&trial).await
        } else {
            None
        };
        // The layer kept the hanging call back, so no call can wait behind it.
        if occupied && occupant.is_none() {
            return true;
        }
        let call = oneshot(trial.service.clone(), self.traffic.request(number));
        let mut call = Box::pin(unconstrained(call));
        let polled = timeout(
            CALL_TIMEOUT,
            unconstrained(poll_times(call.as_mut(), polls)),
        )
        .await;
        // With `DroppedFirst`, the occupant hands its permit to the waiting call, which is dropped next.
        match background {
            Background::DroppedFirst => drop((occupant, call)),
            Background::Idle | Background::Hanging => drop((call, occupant)),
        }
        self.require_idle(trial, polls).await;
        !matches!(polled, Ok(Poll::Pending))
    }

    /// Starts a call that hangs in the inner service. Returns `None` if the layer did not pass it to
    /// the inner service at once.
    async fn occupy(&self, trial: &Trial<T, S>) -> Option<impl Future + use<T, S>> {
        let call = oneshot(trial.service.clone(), self.traffic.request(1));
        let mut call = Box::pin(unconstrained(call));
        timeout(SETTLE_TIME, poll_times(call.as_mut(), MAX_POLLS))
            .await
            .ok();
        (trial.script.in_flight() > 0).then_some(call)
    }

    async fn require_idle(&self, trial: Trial<T, S>, polls: usize) {
        let require = |kept, violation: &str| {
            CANCELLATION.require(
                kept,
                format!("{violation} after a call was dropped at poll {polls}"),
            );
        };
        require(
            trial.script.in_flight() == 0,
            "an inner call is still running",
        );
        require(
            (self.idle_when)(),
            "the predicate of `idle_when` returned false",
        );
        trial.script.set_ready(); // ends the polls of `ready_after_polls`
        let next = oneshot(trial.service, self.traffic.request(2));
        require(
            CANCELLATION.complete(next).await.is_ok(),
            "the next call failed",
        );
    }
}
