//! The law of cancellation: what is dropped is released.

use std::task::Poll;

use tokio::{task::unconstrained, time::timeout};

use super::{
    FAILING, Laws, Layered, Traffic, Trial,
    drive::{MANY, MOMENT, PATIENCE, oneshot, poll_times, require, within},
};
use crate::script::Script;

const CANCELLATION: &str = "cancellation";

/// Who else is there when the call is dropped.
#[derive(Clone, Copy, PartialEq)]
enum Company {
    Nobody,
    /// A call that hangs, so that this one waits its turn, if the layer has turns.
    Busy,
    /// The same, but it leaves just before the drop: what it gave to this call must go back.
    Leaving,
}

const CASES: [(u64, Company); 4] = [
    (1, Company::Nobody),
    (FAILING, Company::Nobody),
    (1, Company::Busy),
    (1, Company::Leaving),
];

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Tries calls that are dropped after each number of polls until they end: one that succeeds,
    /// one that fails again and again, one beside a call that hangs, and one that this call has
    /// just made room for.
    ///
    /// # Panics
    ///
    /// Panics if, after the drop, an inner call still runs, the check of
    /// [`at_rest`](Self::at_rest) is false, or the next call does not succeed.
    pub async fn cancellation(&self) {
        for (number, company) in CASES {
            let mut polls = 0;
            while !self.drop_after(polls, number, company).await {
                polls += 1;
                require(
                    CANCELLATION,
                    polls < MANY,
                    "a call did not end in a thousand polls",
                );
            }
        }
    }

    /// True if the call ended, or would never be polled again, before it could be dropped.
    async fn drop_after(&self, polls: usize, number: u64, company: Company) -> bool {
        let (start, occupied) = match company {
            Company::Nobody => (Script::new(), false),
            Company::Busy | Company::Leaving => (Script::new().hang(), true),
        };
        let trial = self.trial(self.then_echo(start).after_polls(3).not_ready(2));
        let occupant = if occupied {
            self.occupy(&trial).await
        } else {
            None
        };
        if occupied && occupant.is_none() {
            return true;
        }
        let call = oneshot(trial.service.clone(), self.traffic.request(number));
        let mut call = Box::pin(unconstrained(call));
        let polled = timeout(PATIENCE, unconstrained(poll_times(call.as_mut(), polls))).await;
        match company {
            Company::Leaving => drop((occupant, call)),
            Company::Nobody | Company::Busy => drop((call, occupant)),
        }
        self.require_rest(trial, polls).await;
        !matches!(polled, Ok(Poll::Pending))
    }

    /// A call that hangs in the inner service, if the layer let it in at once.
    async fn occupy(&self, trial: &Trial<T, S>) -> Option<impl Future + use<T, S>> {
        let call = oneshot(trial.service.clone(), self.traffic.request(1));
        let mut call = Box::pin(unconstrained(call));
        timeout(MOMENT, poll_times(call.as_mut(), MANY)).await.ok();
        (trial.script.in_flight() > 0).then_some(call)
    }

    async fn require_rest(&self, trial: Trial<T, S>, polls: usize) {
        let require = |kept, what: &str| {
            require(
                CANCELLATION,
                kept,
                &format!("{what} after a call was dropped at poll {polls}"),
            );
        };
        require(trial.script.in_flight() == 0, "an inner call still runs");
        require((self.at_rest)(), "the layer is not at rest");
        trial.script.release();
        let next = oneshot(trial.service, self.traffic.request(2));
        require(
            within(CANCELLATION, next).await.is_ok(),
            "the next call failed",
        );
    }
}
