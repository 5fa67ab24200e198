//! Tests of the layers against faults of a downstream that show only over many calls.
#![cfg(feature = "http")]
#![allow(missing_docs)]

mod common;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use common::*;
use futures_util::future::join_all;
use http::{Response, header::RETRY_AFTER};
use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerLayer, ClassifyHttp, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, DeadlineLayer,
    RetryConfig, RetryLayer, TimeoutLayer,
    breaker::{BreakerConfig, State, Window},
    retry::Jitter,
};

const SECOND: Duration = Duration::from_secs(1);

/// Runs `test` on a clock that advances virtually.
fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn breaker<C>(classify: C, edit: impl FnOnce(&mut BreakerConfig)) -> BreakerLayer<C> {
    let mut config = BreakerConfig::new()
        .open_jitter(0.0)
        .consecutive_failures(3);
    edit(&mut config);
    BreakerLayer::new("users", config, classify).unwrap()
}

fn retry() -> RetryConfig {
    RetryConfig::new().jitter(Jitter::None)
}

/// Returns a service that responds with `status` and `retry_after`, and the number of its calls.
fn responding(
    status: u16,
    retry_after: Option<String>,
) -> (
    impl Service<Request, Response = Response<()>, Error = Fault, Future: Send> + Clone,
    Arc<AtomicUsize>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |_: Request| {
        counted.fetch_add(1, Relaxed);
        let mut response = Response::builder().status(status);
        if let Some(value) = &retry_after {
            response = response.header(RETRY_AFTER, value);
        }
        async move { Ok(response.body(()).unwrap()) }
    });
    (service, calls)
}

#[tokio::test(start_paused = true)]
async fn fault_f20_f22_statuses_decide_on_retries_and_breaker() {
    for (status, attempts, opens) in [
        (400, 1, false),
        (404, 1, false),
        (408, 3, false),
        (425, 3, false),
        (429, 3, false),
        (500, 3, true),
        (503, 3, true),
        (501, 1, false),
    ] {
        let (service, calls) = responding(status, None);
        let retrying = RetryLayer::new(retry(), ClassifyHttp::new())
            .unwrap()
            .layer(service.clone());
        let response = retrying.oneshot(idempotent_request()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), calls.load(Relaxed)),
            (status, attempts),
            "{status}"
        );
        let breaker = breaker(ClassifyHttp::new(), |_| {});
        for _ in 0..3 {
            breaker
                .layer(service.clone())
                .oneshot(idempotent_request())
                .await
                .unwrap();
        }
        let state = breaker.handle().state();
        assert_eq!(state == State::Open, opens, "{status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fault_f21_obeys_retry_after_or_ends_the_call(
        value in prop_oneof!["[0-9]{1,2}", "[0-9]{3,30}", "-[0-9]{1,3}", "[ -~]{0,12}"],
        left in 0u64..15_000,
    ) {
        in_virtual_time(async {
            let (service, calls) = responding(503, Some(value.clone()));
            let config = RetryConfig::new().jitter(Jitter::None).max_attempts(2);
            let retrying = RetryLayer::new(config, ClassifyHttp::new()).unwrap().layer(service);
            let (_, elapsed) = timed(retrying.oneshot(request_within(ms(left)))).await;
            let value = value.trim();
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let seconds = digits.then(|| value.parse().unwrap_or(u64::MAX));
            // Other values leave the usual pause. `Retry-After` is extended by up to `base` at
            // random.
            let pause = seconds.map_or(50, |seconds: u64| seconds.saturating_mul(1_000).max(50));
            let spread = if seconds.is_some() { 50 } else { 0 };
            let fits = |pause: u64| {
                seconds.is_none_or(|seconds| seconds <= 10) && pause.saturating_add(10) <= left
            };
            if calls.load(Relaxed) == 2 {
                prop_assert!(fits(pause), "{value:?}");
                prop_assert!((ms(pause)..=ms(pause + spread)).contains(&elapsed), "{value:?}");
            } else {
                prop_assert!(!fits(pause.saturating_add(spread)), "{value:?}");
                prop_assert_eq!(elapsed, ms(0), "{:?}", value);
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f23_the_budget_limits_retries_when_all_calls_fail() {
    let script = script().fail(BROKEN);
    let layer = RetryLayer::new(retry(), ClassifyResult).unwrap();
    let calls = (0..1_000).map(|call| {
        let service = layer.layer(script.clone());
        async move {
            sleep(ms(call)).await;
            service.oneshot(idempotent_request()).await
        }
    });
    join_all(calls).await;
    // 20 % of the calls, the 30 of a full floor, and 3 per second for the 1.2 s of the calls.
    let retries = script.calls() - 1_000;
    assert!((230..=233).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn fault_f24_no_attempt_starts_with_less_than_min_useful() {
    for left in 0..400 {
        let script = script().fail(BROKEN);
        let service = RetryLayer::new(retry(), ClassifyResult)
            .unwrap()
            .layer(script.clone());
        let deadline = Instant::now() + ms(left);
        service.oneshot(request_within(ms(left))).await.unwrap_err();
        let starts_late = |start: &Instant| *start + ms(10) > deadline;
        assert!(!script.call_times()[1..].iter().any(starts_late), "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f30_a_panicked_or_dropped_probe_frees_its_slot() {
    for cancel_after in [None, Some(0), Some(1), Some(5), Some(9)] {
        let layer = breaker(ClassifyResult, |config| {
            config.consecutive_failures = Some(1);
        });
        let broken = script().fail(BROKEN);
        let script = match cancel_after {
            None => broken.panic("on purpose").respond(1),
            Some(_) => broken.respond(1).after(ms(10)),
        };
        let service = layer.layer(script);
        service
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
        sleep(5 * SECOND).await;
        let probe = tokio::spawn(service.clone().oneshot(idempotent_request()));
        if let Some(cancel_after) = cancel_after {
            sleep(ms(cancel_after)).await;
            probe.abort();
        }
        probe.await.unwrap_err();
        sleep(60 * SECOND).await;
        assert_eq!(
            service.oneshot(idempotent_request()).await,
            Ok(1),
            "{cancel_after:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f32_a_flapping_service_does_not_flap_the_circuit() {
    let layer = breaker(ClassifyResult, |config| {
        config.consecutive_failures = None;
        config.window = Window::Count(10);
        config.min_calls = 4;
    });
    let flapping = Arc::new(AtomicUsize::new(0));
    let service = layer.layer(service_fn(move |_: Request| {
        let good = flapping.fetch_add(1, Relaxed) % 2 == 0;
        async move { if good { Ok(1) } else { Err(BROKEN) } }
    }));
    let (mut opened, mut since) = (0, None::<Instant>);
    for _ in 0..20_000 {
        let _ = service.clone().oneshot(idempotent_request()).await;
        match (layer.handle().state(), since) {
            (State::Open, None) => (opened, since) = (opened + 1, Some(Instant::now())),
            (State::Open, Some(_)) | (_, None) => {}
            (_, Some(start)) => {
                assert!(start.elapsed() >= 5 * SECOND, "{:?}", start.elapsed());
                since = None;
            }
        }
        sleep(ms(10)).await;
    }
    assert!(opened > 1, "{opened}");
}

/// The condition of a downstream for a quarter of a second.
#[derive(Clone, Copy)]
enum Condition {
    Good,
    Slow,
    Partitioned,
    Crashed,
}

/// Returns a downstream whose condition changes by `seed` for five seconds and is good afterwards,
/// and the peak number of its concurrent calls.
fn downstream(
    seed: u64,
) -> (
    impl Service<Request, Response = u32, Error = Fault, Future: Send> + Clone,
    Arc<AtomicUsize>,
) {
    let start = Instant::now();
    let (now, peak_in_flight) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&peak_in_flight);
    let service = service_fn(move |_: Request| {
        let in_flight = InFlight::new(&now, &peak);
        let time = start.elapsed().as_millis() as u64;
        // One step of a linear congruential generator per quarter of a second.
        let draw = (seed ^ (time / 250)).wrapping_mul(6_364_136_223_846_793_005) >> 60;
        let condition = match draw {
            _ if time >= 5_000 => Condition::Good,
            0..8 => Condition::Good,
            8..11 => Condition::Slow,
            11..14 => Condition::Partitioned,
            _ => Condition::Crashed,
        };
        async move {
            let _in_flight = in_flight;
            match condition {
                Condition::Good => sleep(ms(5)).await,
                Condition::Slow => sleep(ms(150)).await,
                Condition::Partitioned => sleep(60 * SECOND).await,
                Condition::Crashed => return Err(UNREACHED),
            }
            Ok(1)
        }
    });
    (service, peak_in_flight)
}

struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(now: &Arc<AtomicUsize>, peak_in_flight: &AtomicUsize) -> Self {
        peak_in_flight.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
        Self(Arc::clone(now))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Checks that deadlines are kept, that the limit holds, that no permit is lost, and that calls
/// succeed afterwards.
async fn check_recovery(seed: u64) {
    const LIMIT: usize = 4;
    let (service, peak_in_flight) = downstream(seed);
    let limit = ConcurrencyConfig::new().max(LIMIT as u32).queue(8);
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let breaker = breaker(ClassifyResult, |config| config.open = SECOND);
    let service = DeadlineLayer::new(ms(300)).unwrap().layer(
        RetryLayer::new(retry(), ClassifyResult)
            .unwrap()
            .layer(breaker.layer(limit.layer(TimeoutLayer::new(ms(100)).unwrap().layer(service)))),
    );
    let calls = (0..400).map(|call| {
        let service = service.clone();
        async move {
            sleep(ms(call * 15)).await;
            // Some callers drop their calls early.
            let caller_timeout = if call % 7 == 0 { ms(40) } else { SECOND };
            let (_, elapsed) = timed(tokio::time::timeout(
                caller_timeout,
                service.oneshot(idempotent_request()),
            ))
            .await;
            assert!(elapsed <= ms(350), "seed {seed}: {elapsed:?}");
        }
    });
    join_all(calls).await;
    assert!(peak_in_flight.load(Relaxed) <= LIMIT, "seed {seed}");
    assert_eq!(limit.in_flight(), 0, "seed {seed}");
    sleep(300 * SECOND).await;
    for _ in 0..3 {
        let result = service.clone().oneshot(idempotent_request()).await;
        assert_eq!(result, Ok(1), "seed {seed}");
    }
    let state = breaker.handle().state();
    assert_eq!(state, State::Closed, "seed {seed}");
}

#[test]
fn fault_f38_layers_survive_partitions_spikes_and_crashes() {
    for seed in 0..300 {
        in_virtual_time(check_recovery(seed));
    }
}
