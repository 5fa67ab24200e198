//! The laws about readiness of the inner service: `readiness`, `reservations` and `short_circuit`.

use std::mem;

use tokio::task::JoinSet;
use tower_service::Service;

use super::{
    FAILING, Laws, Layered, Traffic,
    drive::{self, Law, oneshot},
};
use crate::assert_ready::ReadinessCounts;

const READINESS: Law = Law("readiness");
const RESERVATIONS: Law = Law("reservations");
const SHORT_CIRCUIT: Law = Law("short_circuit");

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Checks that the layer calls an inner instance only after it returned `Ready(Ok(()))`.
    ///
    /// The law makes consecutive calls, calls through a clone, calls after `mem::replace`, a call after
    /// a dropped call, and concurrent calls.
    ///
    /// # Panics
    ///
    /// Panics if the layer calls an inner instance that is not ready, or if `poll_ready` of the layer
    /// fails although the inner service is healthy.
    pub async fn readiness(&self) {
        let trial = self.trial(self.echo().after_polls(1).ready_after_polls(3));
        let mut service = trial.service;
        for number in FAILING..8 {
            self.call(&mut service, number).await;
        }
        require_no_violations(&trial.counts, "in consecutive calls");

        ready(&mut service).await;
        let mut clone = service.clone();
        self.send(READINESS, &mut service, 1).await;
        self.call(&mut clone, 1).await;
        require_no_violations(&trial.counts, "through a clone of a ready instance");

        ready(&mut service).await;
        // The pattern that tower documents: move the ready instance out, leave a clone.
        let mut taken = mem::replace(&mut service, clone);
        self.send(READINESS, &mut taken, 1).await;
        drop(taken);
        self.call(&mut service, 1).await;
        require_no_violations(&trial.counts, "after mem::replace");

        ready(&mut service).await;
        drop(service.call(self.traffic.request(1)));
        self.call(&mut service, 1).await;
        require_no_violations(&trial.counts, "after a dropped call");

        let mut tasks = JoinSet::new();
        for number in FAILING..16 {
            let call = oneshot(service.clone(), self.traffic.request(number));
            tasks.spawn(async move { READINESS.complete(call).await.is_ok() });
        }
        tasks.join_all().await;
        require_no_violations(&trial.counts, "in concurrent calls");
    }

    /// Checks that a completed call leaves no readiness of the inner service behind, whether the call
    /// succeeded or failed.
    ///
    /// An inner service may reserve a permit in `poll_ready`. A layer that polls an instance ready
    /// and never calls it takes this permit from other callers.
    ///
    /// # Panics
    ///
    /// Panics if the layer still holds a ready instance after the call, or dropped one uncalled.
    pub async fn reservations(&self) {
        for number in [FAILING, 1] {
            let trial = self.trial(self.echo().after_polls(1));
            let mut service = trial.service;
            self.call(&mut service, number).await;
            require_no_reservations(RESERVATIONS, &trial.counts);
        }
    }

    /// Checks a layer that is configured to skip the inner service, because it rejects every call or
    /// responds on its own.
    ///
    /// The layer must do so both while the inner service is ready and while it is not.
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_fanout_testkit::laws::{Laws, Numbers};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let full = ServiceBuilder::new().load_shed().concurrency_limit(0);
    /// Laws::new(Numbers, |inner| full.service(inner)).short_circuit().await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a call waits for readiness of the inner service or reserves it. Also panics if a call
    /// reaches the inner service, because then the layer is not configured to skip it.
    pub async fn short_circuit(&self) {
        for inner_is_ready in [false, true] {
            let trial = self.trial(self.echo());
            if !inner_is_ready {
                trial.script.set_not_ready();
            }
            let mut service = trial.service;
            // A second call shows whether the first one left readiness behind.
            for number in 1..3 {
                let ready = drive::ready(&mut service);
                SHORT_CIRCUIT.complete(ready).await.ok();
                self.send(SHORT_CIRCUIT, &mut service, number).await;
            }
            require_no_reservations(SHORT_CIRCUIT, &trial.counts);
            SHORT_CIRCUIT.require(
                trial.script.calls() == 0,
                "the layer called the inner service instead of skipping it",
            );
        }
    }

    async fn call(&self, service: &mut S, number: u64) {
        ready(service).await;
        // The laws about readiness apply to failed calls as well, so errors are ignored.
        self.send(READINESS, service, number).await;
    }
}

async fn ready<S: Service<Req>, Req>(service: &mut S) {
    let ready = READINESS.complete(drive::ready(service)).await;
    READINESS.require(
        ready.is_ok(),
        "poll_ready failed although the inner service is healthy",
    );
}

fn require_no_violations(counts: &ReadinessCounts, when: &str) {
    let obeyed = counts.violations() == 0;
    READINESS.require(
        obeyed,
        format!("the layer called an inner instance that was not ready, {when}"),
    );
}

fn require_no_reservations(law: Law, counts: &ReadinessCounts) {
    law.require(
        counts.reserved() == 0,
        "the layer still holds a ready inner instance after the call",
    );
    law.require(
        counts.discarded() == 0,
        "the layer dropped a ready inner instance without a call",
    );
}
