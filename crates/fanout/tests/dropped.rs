//! A run that is dropped at any await point releases everything it holds.
#![allow(missing_docs)]

mod common;

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
};

use common::*;
use tokio::time::{advance, sleep};
use tower::{BoxError, Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_fanout::{
    Downstream, FanOut, Plan,
    layers::{
        ClassifyResult, WithCall,
        breaker::State,
        hedge::{HedgeConfig, HedgeDelay},
    },
};

/// Polls `future` at most `polls` times and drops it. Returns `true` if it completed.
async fn polled<F: Future>(future: F, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left > 0 && future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        left = left.saturating_sub(1);
        if left == 0 {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

type FullStack = BoxCloneSyncService<WithCall<()>, &'static str, BoxError>;

/// The whole stack around a service whose every other call fails after a delay.
fn shaky(downstream: &Downstream<ClassifyResult>, in_flight: &InFlight) -> FullStack {
    let (calls, in_flight) = (Arc::new(AtomicU32::new(0)), in_flight.clone());
    let service = service_fn(move |_: WithCall<()>| {
        let fails = calls.fetch_add(1, Ordering::Relaxed) % 2 == 0;
        let running = in_flight.enter();
        async move {
            sleep(ms(10)).await;
            drop(running);
            if fails { Err(failed()) } else { Ok("ok") }
        }
    });
    let plan_b = service_fn(|_| async {
        sleep(ms(5)).await;
        Ok("plan b")
    });
    let fallback = downstream.fallback().service(plan_b);
    BoxCloneSyncService::new(fallback.layer(downstream.layer(service)))
}

fn fan_out(downstreams: &[Downstream<ClassifyResult>], in_flight: &InFlight) -> FanOut<()> {
    let mut plan = Plan::builder();
    for (place, downstream) in downstreams.iter().enumerate() {
        let service = shaky(downstream, in_flight);
        let first = plan.node(&format!("a{place}"), service.clone(), |(), _| {
            Ok(idempotent_request())
        });
        let first = first.optional().key();
        // One node waits for a permit, and one for a response.
        plan.node(&format!("b{place}"), service.clone(), |(), _| {
            Ok(idempotent_request())
        })
        .optional();
        plan.node(&format!("c{place}"), service, |(), _| {
            Ok(idempotent_request())
        })
        .optional()
        .after_optional(first);
    }
    FanOut::new(plan.build().unwrap()).max_concurrency(5)
}

/// One downstream with retries and one with hedges. Each admits one call at a time.
fn downstreams() -> [Downstream<ClassifyResult>; 2] {
    [false, true].map(|hedges| {
        downstream(|policy| {
            let limit = policy.concurrency.as_mut().unwrap();
            (limit.max, limit.queue, limit.max_wait) = (1, 4, ms(1000));
            if hedges {
                let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(3)));
                (policy.retry, policy.hedge) = (None, Some(hedge));
            }
        })
    })
}

/// Asserts that nothing is held and that the next call is admitted.
async fn is_at_rest(downstream: &Downstream<ClassifyResult>, in_flight: &InFlight) {
    assert_eq!(in_flight.now(), 0);
    let limit = downstream.concurrency().unwrap();
    assert_eq!((limit.in_flight(), limit.queued()), (0, 0));
    let breaker = downstream.breaker();
    let (state, rejected) = (breaker.state(), breaker.snapshot().rejected);
    let call = shaky(downstream, in_flight)
        .oneshot(idempotent_request())
        .await;
    assert!(call.is_ok());
    let lets_in = breaker.snapshot().rejected == rejected;
    assert!(lets_in || state == State::Open, "a probe was lost");
}

/// Runs with closed circuits, and with half-open ones, where the first call is a probe.
#[tokio::test(start_paused = true)]
async fn fault_g10_a_run_dropped_at_any_await_point_releases_everything() {
    for half_open in [false, true] {
        for polls in 0.. {
            let (downstreams, in_flight) = (downstreams(), InFlight::default());
            if half_open {
                let trip = |one: &Downstream<_>| one.breaker().open_for(ms(1));
                downstreams.iter().for_each(trip);
                advance(ms(2)).await;
            }
            let fan_out = fan_out(&downstreams, &in_flight);
            let done = polled(fan_out.oneshot(()), polls).await;
            for downstream in &downstreams {
                is_at_rest(downstream, &in_flight).await;
            }
            if done {
                assert!(polls > 5, "{polls} await points");
                break;
            }
        }
    }
}
