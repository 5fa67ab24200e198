//! The laws of readiness: `readiness`, `hoarding` and `refusal`.

use std::mem;

use tokio::task::JoinSet;
use tower_service::Service;

use super::{
    FAILING, Laws, Layered, Traffic,
    drive::{self, oneshot, require, within},
};
use crate::probe::Watch;

const READINESS: &str = "readiness";
const HOARDING: &str = "hoarding";
const REFUSAL: &str = "refusal";

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Tries that only the instance that returned `Ready` is called: in a row, through clones,
    /// after `mem::replace`, after a dropped call, and by many tasks at once.
    ///
    /// # Panics
    ///
    /// Panics if an unready instance is called, or `poll_ready` fails over a healthy service.
    pub async fn readiness(&self) {
        let trial = self.trial(self.echo().after_polls(1).not_ready(3));
        let mut service = trial.service;
        for number in FAILING..8 {
            self.call(&mut service, number).await;
        }
        require_obedience(&trial.watch, "in a row of calls");

        ready(&mut service).await;
        let mut clone = service.clone();
        self.finish(&mut service).await;
        self.call(&mut clone, 1).await;
        require_obedience(&trial.watch, "through a clone of a ready instance");

        ready(&mut service).await;
        let mut taken = mem::replace(&mut service, clone);
        self.finish(&mut taken).await;
        drop(taken);
        self.call(&mut service, 1).await;
        require_obedience(&trial.watch, "after mem::replace");

        ready(&mut service).await;
        drop(service.call(self.traffic.request(1)));
        self.call(&mut service, 1).await;
        require_obedience(&trial.watch, "after a dropped call");

        let mut tasks = JoinSet::new();
        for number in FAILING..16 {
            let call = oneshot(service.clone(), self.traffic.request(number));
            tasks.spawn(async move { within(READINESS, call).await.is_ok() });
        }
        tasks.join_all().await;
        require_obedience(&trial.watch, "by many tasks at once");
    }

    /// Tries that no readiness of the inner service is held or thrown away by a call that ended
    /// with an answer or a failure.
    ///
    /// # Panics
    ///
    /// Panics if some is.
    pub async fn hoarding(&self) {
        for number in [FAILING, 1] {
            let trial = self.trial(self.echo().after_polls(1));
            let mut service = trial.service;
            self.call(&mut service, number).await;
            require_empty_hands(HOARDING, &trial.watch);
        }
    }

    /// Tries a layer that is set up to skip the inner service, because it refuses the call or
    /// answers it alone: it must do so whether the inner service is ready or not.
    ///
    /// ```
    /// use tower::ServiceBuilder;
    /// use tower_fanout_testkit::laws::{Laws, Numbers};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let full = ServiceBuilder::new().load_shed().concurrency_limit(0);
    /// Laws::new(Numbers, |inner| full.service(inner)).refusal().await;
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a call waits for the inner service, takes its readiness, or reaches it (then the
    /// layer was not set up to skip it).
    pub async fn refusal(&self) {
        for inner_is_ready in [false, true] {
            let trial = self.trial(self.echo());
            if !inner_is_ready {
                trial.script.hold();
            }
            let mut service = trial.service;
            for number in 1..3 {
                within(REFUSAL, drive::ready(&mut service)).await.ok();
                within(REFUSAL, service.call(self.traffic.request(number)))
                    .await
                    .ok();
            }
            require_empty_hands(REFUSAL, &trial.watch);
            require(
                REFUSAL,
                trial.script.calls() == 0,
                "the layer did not skip the inner service",
            );
        }
    }

    async fn call(&self, service: &mut S, number: u64) {
        ready(service).await;
        // A failed call is none of these laws' business.
        within(READINESS, service.call(self.traffic.request(number)))
            .await
            .ok();
    }

    async fn finish(&self, service: &mut S) {
        within(READINESS, service.call(self.traffic.request(1)))
            .await
            .ok();
    }
}

async fn ready<S: Service<Req>, Req>(service: &mut S) {
    let ready = within(READINESS, drive::ready(service)).await;
    require(
        READINESS,
        ready.is_ok(),
        "poll_ready failed over a healthy inner service",
    );
}

fn require_obedience(watch: &Watch, when: &str) {
    let obeyed = watch.violations() == 0;
    require(
        READINESS,
        obeyed,
        &format!("an inner instance was called that was not ready, {when}"),
    );
}

fn require_empty_hands(law: &str, watch: &Watch) {
    require(
        law,
        watch.held() == 0,
        "the layer holds readiness of the inner service after the call",
    );
    require(
        law,
        watch.wasted() == 0,
        "the layer took readiness of the inner service and did not use it",
    );
}
