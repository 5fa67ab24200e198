//! Layers against the faults of a downstream that show only over many calls.
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

/// Runs `test` in virtual time.
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

/// Answers with `status` and `retry_after`, and counts.
fn answering(
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
async fn fault_f20_f22_a_status_says_whether_to_retry_and_whom_to_blame() {
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
        let (service, calls) = answering(status, None);
        let retrying = RetryLayer::new(retry(), ClassifyHttp::new())
            .unwrap()
            .layer(service.clone());
        let response = retrying.oneshot(ask()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), calls.load(Relaxed)),
            (status, attempts),
            "{status}"
        );
        let breaker = breaker(ClassifyHttp::new(), |_| {});
        for _ in 0..3 {
            breaker.layer(service.clone()).oneshot(ask()).await.unwrap();
        }
        let state = breaker.handle().state();
        assert_eq!(state == State::Open, opens, "{status}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fault_f21_a_wish_to_be_left_alone_is_kept_if_it_fits_and_else_the_call_is_over(
        value in prop_oneof!["[0-9]{1,2}", "[0-9]{3,30}", "-[0-9]{1,3}", "[ -~]{0,12}"],
        left in 0u64..15_000,
    ) {
        in_virtual_time(async {
            let (service, calls) = answering(503, Some(value.clone()));
            let policy = RetryConfig::new().jitter(Jitter::None).max_attempts(2);
            let retrying = RetryLayer::new(policy, ClassifyHttp::new()).unwrap().layer(service);
            let (_, elapsed) = timed(retrying.oneshot(ask_within(ms(left)))).await;
            let value = value.trim();
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let wish = digits.then(|| value.parse().unwrap_or(u64::MAX));
            // What is no number of seconds leaves the usual pause; a wish is spread by up to the base.
            let pause = wish.map_or(50, |wish: u64| wish.saturating_mul(1_000).max(50));
            let spread = if wish.is_some() { 50 } else { 0 };
            let fits = |pause: u64| {
                wish.is_none_or(|wish| wish <= 10) && pause.saturating_add(10) <= left
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
async fn fault_f23_when_all_fails_a_fifth_more_is_asked_and_a_little() {
    let script = script().fail(BROKEN);
    let layer = RetryLayer::new(retry(), ClassifyResult).unwrap();
    let calls = (0..1_000).map(|call| {
        let service = layer.layer(script.clone());
        async move {
            sleep(ms(call)).await;
            service.oneshot(ask()).await
        }
    });
    join_all(calls).await;
    // 20 % of the calls, and 3 in each second of the 10 that a budget remembers.
    let retries = script.calls() - 1_000;
    assert!((200..=230).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn fault_f24_no_attempt_begins_with_less_time_than_it_needs() {
    for left in 0..400 {
        let script = script().fail(BROKEN);
        let service = RetryLayer::new(retry(), ClassifyResult)
            .unwrap()
            .layer(script.clone());
        let deadline = Instant::now() + ms(left);
        service.oneshot(ask_within(ms(left))).await.unwrap_err();
        let late = |start: &Instant| *start + ms(10) > deadline;
        assert!(!script.call_times()[1..].iter().any(late), "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f30_a_probe_that_panics_or_is_dropped_gives_its_slot_back() {
    for cut in [None, Some(0), Some(1), Some(5), Some(9)] {
        let layer = breaker(ClassifyResult, |settings| {
            settings.consecutive_failures = Some(1);
        });
        let broken = script().fail(BROKEN);
        let script = match cut {
            None => broken.panic("in the probe").respond(1),
            Some(_) => broken.respond(1).after(ms(10)),
        };
        let service = layer.layer(script);
        service.clone().oneshot(ask()).await.unwrap_err();
        sleep(5 * SECOND).await;
        let probe = tokio::spawn(service.clone().oneshot(ask()));
        if let Some(cut) = cut {
            sleep(ms(cut)).await;
            probe.abort();
        }
        probe.await.unwrap_err();
        sleep(60 * SECOND).await;
        assert_eq!(service.oneshot(ask()).await, Ok(1), "{cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f32_a_service_that_flaps_does_not_make_the_circuit_flap() {
    let layer = breaker(ClassifyResult, |settings| {
        settings.consecutive_failures = None;
        settings.window = Window::Count(10);
        settings.min_calls = 4;
    });
    let flapping = Arc::new(AtomicUsize::new(0));
    let service = layer.layer(service_fn(move |_: Request| {
        let good = flapping.fetch_add(1, Relaxed).is_multiple_of(2);
        async move { if good { Ok(1) } else { Err(BROKEN) } }
    }));
    let (mut opened, mut since) = (0, None::<Instant>);
    for _ in 0..20_000 {
        let _ = service.clone().oneshot(ask()).await;
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

/// What a downstream does for a while.
#[derive(Clone, Copy)]
enum Weather {
    Fair,
    Slow,
    Partitioned,
    Crashed,
}

/// A downstream whose weather changes by `seed` for five seconds, and is fair from then on. Gives the
/// most calls that it had at once, too.
fn downstream(
    seed: u64,
) -> (
    impl Service<Request, Response = u32, Error = Fault, Future: Send> + Clone,
    Arc<AtomicUsize>,
) {
    let start = Instant::now();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = Arc::clone(&most);
    let service = service_fn(move |_: Request| {
        let in_flight = InFlight::new(&now, &peak);
        let time = start.elapsed().as_millis() as u64;
        // A step of a linear congruential generator for each quarter of a second.
        let dice = (seed ^ (time / 250)).wrapping_mul(6_364_136_223_846_793_005) >> 60;
        let weather = match dice {
            _ if time >= 5_000 => Weather::Fair,
            0..8 => Weather::Fair,
            8..11 => Weather::Slow,
            11..14 => Weather::Partitioned,
            _ => Weather::Crashed,
        };
        async move {
            let _in_flight = in_flight;
            match weather {
                Weather::Fair => sleep(ms(5)).await,
                Weather::Slow => sleep(ms(150)).await,
                Weather::Partitioned => sleep(60 * SECOND).await,
                Weather::Crashed => return Err(UNREACHED),
            }
            Ok(1)
        }
    });
    (service, most)
}

struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(now: &Arc<AtomicUsize>, most: &AtomicUsize) -> Self {
        most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
        Self(Arc::clone(now))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Deadlines are kept, the limit holds, no permit is lost, and all is well again afterwards.
async fn weathers(seed: u64) {
    const LIMIT: usize = 4;
    let (service, most) = downstream(seed);
    let limit = ConcurrencyConfig::new().max(LIMIT as u32).queue(8);
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let breaker = breaker(ClassifyResult, |settings| settings.open = SECOND);
    let service = DeadlineLayer::new(ms(300)).unwrap().layer(
        RetryLayer::new(retry(), ClassifyResult)
            .unwrap()
            .layer(breaker.layer(limit.layer(TimeoutLayer::new(ms(100)).unwrap().layer(service)))),
    );
    let calls = (0..400).map(|call| {
        let service = service.clone();
        async move {
            sleep(ms(call * 15)).await;
            // Some callers go away.
            let patience = if call % 7 == 0 { ms(40) } else { SECOND };
            let (_, elapsed) = timed(tokio::time::timeout(patience, service.oneshot(ask()))).await;
            assert!(elapsed <= ms(350), "seed {seed}: {elapsed:?}");
        }
    });
    join_all(calls).await;
    assert!(most.load(Relaxed) <= LIMIT, "seed {seed}");
    assert_eq!(limit.in_flight(), 0, "seed {seed}");
    sleep(300 * SECOND).await;
    for _ in 0..3 {
        let result = service.clone().oneshot(ask()).await;
        assert_eq!(result, Ok(1), "seed {seed}");
    }
    let state = breaker.handle().state();
    assert_eq!(state, State::Closed, "seed {seed}");
}

#[test]
fn fault_f38_the_layers_weather_partitions_spikes_and_crashes() {
    for seed in 0..300 {
        in_virtual_time(weathers(seed));
    }
}
