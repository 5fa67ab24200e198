//! Tests of the breaker as a layer, against its statements. The state machine has unit tests of its
//! own.
#![allow(missing_docs)]

mod common;

use std::{
    future::{Future, Ready},
    sync::{Arc, OnceLock},
};

use common::*;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn, util::option_layer};
use tower_fanout_layers::{
    BreakerLayer, Class, ClassifyResult, Event, EventSink, Events, Failure, Rejection,
    breaker::{BreakerConfig, OpenReason, State, Window},
};

fn breaker(edit: impl FnOnce(&mut BreakerConfig)) -> BreakerLayer<ClassifyResult> {
    let mut config = BreakerConfig::new()
        .consecutive_failures(1)
        .open_jitter(0.0)
        .unanswered(ms(500));
    edit(&mut config);
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

fn state(layer: &BreakerLayer<ClassifyResult>) -> State {
    layer.handle().state()
}

fn open_rejection(left: u64) -> Result<u32, Fault> {
    Err(Fault::Refused(Rejection::CircuitOpen {
        retry_after: Some(ms(left)),
    }))
}

/// Opens the breaker with a failing call. Returns the script, whose further calls are set by
/// `rest`.
async fn open(
    layer: &BreakerLayer<ClassifyResult>,
    rest: impl FnOnce(Scripted) -> Scripted,
) -> Scripted {
    let script = rest(script().fail(BROKEN));
    layer
        .layer(script.clone())
        .oneshot(idempotent_request())
        .await
        .unwrap_err();
    assert_eq!(state(layer), State::Open);
    script
}

#[tokio::test(start_paused = true)]
async fn cb_11_cb_12_fault_f28_an_open_circuit_rejects_without_a_call() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1)).await;
    script.set_not_ready();
    sleep(ms(1_500)).await;
    let recorder = EventRecorder::default();
    let request = idempotent_request().events(recorder.events());
    let (result, elapsed) = timed(layer.layer(script.clone()).oneshot(request)).await;
    assert_eq!((result, elapsed), (open_rejection(3_500), ms(0)));
    assert_eq!(script.calls(), 1);
    let rejection = Rejection::CircuitOpen {
        retry_after: Some(ms(3_500)),
    };
    assert_eq!(recorder.recorded(), [Event::Rejected(rejection)]);
}

#[tokio::test(start_paused = true)]
async fn cb_14_fault_f29_admits_one_probe_of_a_thousand_calls() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1).after(ms(10))).await;
    sleep(ms(5_000)).await;
    let service = layer.layer(script.clone());
    let results = join_all((0..1_000).map(|_| service.clone().oneshot(idempotent_request()))).await;
    assert_eq!(script.calls(), 2);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn cb_18_cb_19_fault_f30_a_dropped_probe_fails_only_if_it_ran_long() {
    for (cancel_after, expected) in [(499, State::HalfOpen), (500, State::Open)] {
        let layer = breaker(|_| {});
        let script = open(&layer, Scripted::hang).await;
        sleep(ms(5_000)).await;
        let service = layer.layer(script.clone());
        timeout(
            ms(cancel_after),
            service.clone().oneshot(idempotent_request()),
        )
        .await
        .unwrap_err();
        assert_eq!(state(&layer), expected, "cancelled after {cancel_after} ms");
        if expected == State::HalfOpen {
            let _ = timeout(ms(1), service.oneshot(idempotent_request())).await;
            assert_eq!(script.calls(), 3, "the probe's slot should be free");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cb_20_a_hanging_probe_does_not_block_the_next_one() {
    let layer = breaker(|config| config.half_open_probes = 1);
    let script = open(&layer, |script| script.hang().respond(1)).await;
    sleep(ms(5_000)).await;
    let service = layer.layer(script.clone());
    let hanging = tokio::spawn(service.clone().oneshot(idempotent_request()));
    sleep(ms(5_000)).await;
    assert_eq!(
        service.clone().oneshot(idempotent_request()).await,
        open_rejection(10_000),
        "the lease of the probe is over"
    );
    sleep(ms(10_000)).await;
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
    assert_eq!(state(&layer), State::Closed);
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    assert_eq!(state(&layer), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_21_a_late_result_has_no_effect_while_half_open() {
    for late in [Ok(1), Err(BROKEN)] {
        let layer = breaker(|_| {});
        let script = script()
            .respond_with(move |_| late)
            .after(ms(5_100))
            .fail(BROKEN)
            .respond(1)
            .after(ms(1_000));
        let service = layer.layer(script);
        let recorder = EventRecorder::default();
        let late_call = tokio::spawn(
            service
                .clone()
                .oneshot(idempotent_request().events(recorder.events())),
        );
        tokio::task::yield_now().await;
        service
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
        sleep(ms(5_000)).await;
        let probe = tokio::spawn(service.oneshot(idempotent_request()));
        assert_eq!(
            late_call.await.unwrap(),
            late,
            "the caller should get the late response"
        );
        assert_eq!(
            (state(&layer), &recorder.recorded()[..]),
            (State::HalfOpen, &[Event::LateResult][..])
        );
        assert_eq!(probe.await.unwrap(), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn cb_25_services_of_one_layer_share_its_breaker() {
    let layer = breaker(|_| {});
    let (a, b) = (
        layer.layer(script().fail(BROKEN)),
        layer.layer(script().respond(1)),
    );
    let other = breaker(|_| {}).layer(script().respond(1));
    a.clone().oneshot(idempotent_request()).await.unwrap_err();
    assert_eq!(b.oneshot(idempotent_request()).await, open_rejection(5_000));
    assert_eq!(
        a.clone().oneshot(idempotent_request()).await,
        open_rejection(5_000)
    );
    assert_eq!(other.oneshot(idempotent_request()).await, Ok(1));
}

/// An event sink that reads the breaker's state while the breaker changes, and then panics.
struct PanickingSink(Arc<OnceLock<BreakerLayer<ClassifyResult>>>);

impl EventSink for PanickingSink {
    fn on(&self, event: Event) {
        let layer = self.0.get().unwrap();
        if let Event::BreakerChanged { to, .. } = event {
            assert_eq!(state(layer), to);
        }
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn cb_29_an_event_sink_may_read_the_breaker_and_may_panic() {
    let layer = breaker(|_| {});
    let sink = PanickingSink(Arc::new(OnceLock::from(layer.clone())));
    let events = Events::new(Arc::new(sink));
    let service = layer.layer(script().fail(BROKEN).respond(1));
    let result = service
        .clone()
        .oneshot(idempotent_request().events(events.clone()))
        .await;
    assert_eq!((result, state(&layer)), (Err(BROKEN), State::Open));
    sleep(ms(5_000)).await;
    assert_eq!(
        service.oneshot(idempotent_request().events(events)).await,
        Ok(1)
    );
}

#[tokio::test(start_paused = true)]
async fn cb_30_fault_f30_a_panic_of_the_service_is_a_failure() {
    let layer = breaker(|_| {});
    let service = layer.layer(script().panic("on purpose").respond(1));
    let call = tokio::spawn(service.clone().oneshot(idempotent_request()));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(state(&layer), State::Open);
    sleep(ms(5_000)).await;
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// Polls `call` once, and then panics while the call is alive.
fn panic_beside(call: impl Future) {
    let panics = std::panic::AssertUnwindSafe(|| {
        let mut call = std::pin::pin!(call);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = call.as_mut().poll(&mut cx);
        panic!("the caller");
    });
    assert!(std::panic::catch_unwind(panics).is_err());
}

#[tokio::test(start_paused = true)]
async fn cb_30_a_panic_of_the_caller_is_not_a_failure() {
    let layer = breaker(|_| {});
    let service = layer.layer(script().hang().times(5).respond(1));
    for _ in 0..5 {
        panic_beside(service.clone().oneshot(idempotent_request()));
    }
    assert_eq!(state(&layer), State::Closed);
    assert_eq!(layer.handle().snapshot().calls, 0);
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// Runs each call of `inner`, which panics, in a task of its own, and asserts that it opened the breaker.
async fn assert_panic_opens<S>(inner: S)
where
    S: Service<Request, Response = u32, Error = Fault, Future: Send> + Clone + Send + 'static,
{
    let layer = breaker(|_| {});
    let call = tokio::spawn(layer.layer(inner).oneshot(idempotent_request()));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(state(&layer), State::Open);
}

#[tokio::test(start_paused = true)]
async fn cb_30_a_panic_in_call_or_poll_ready_is_a_failure() {
    assert_panic_opens(service_fn(|_| -> Ready<Result<u32, Fault>> {
        panic!("in call")
    }))
    .await;
    let unready = script().respond(1).fail_ready(|| panic!("in poll_ready"));
    assert_panic_opens(unready).await;
}

/// A call that is polled when it is dropped.
struct PollOnDrop<F: Future + Unpin>(F);

impl<F: Future + Unpin> Drop for PollOnDrop<F> {
    fn drop(&mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(&mut self.0).poll(&mut cx).is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn cb_30_a_success_during_another_panic_is_a_success() {
    let layer = breaker(|_| {});
    let call = Box::pin(
        layer
            .layer(script().respond(1))
            .oneshot(idempotent_request()),
    );
    let unwinds = std::panic::AssertUnwindSafe(|| {
        let _call = PollOnDrop(call);
        panic!("the caller");
    });
    assert!(std::panic::catch_unwind(unwinds).is_err());
    let snapshot = layer.handle().snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failed),
        (State::Closed, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn cb_35_the_wait_for_readiness_is_no_time_of_the_call() {
    let layer = breaker(|config| {
        config.slow_call = Some(ms(100));
        config.unanswered = Some(ms(100));
    });
    let script = script().respond(1).after(ms(1));
    script.set_not_ready();
    let dropped = layer.layer(script.clone()).oneshot(idempotent_request());
    timeout(ms(1_000), dropped).await.unwrap_err();
    let ready = async {
        sleep(ms(1_000)).await;
        script.set_ready();
    };
    let call = layer.layer(script.clone()).oneshot(idempotent_request());
    let (result, ()) = tokio::join!(call, ready);
    let snapshot = layer.handle().snapshot();
    assert_eq!(
        (result, snapshot.calls, snapshot.slow, snapshot.failed),
        (Ok(1), 1, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn cb_26_open_for_has_no_effect_while_forced_open_or_disabled() {
    let layer = breaker(|_| {});
    let handle = layer.handle();
    let guard = handle.force_open();
    handle.open_for(ms(1_000));
    assert_eq!(state(&layer), State::ForcedOpen);
    drop(guard);
    assert_eq!(state(&layer), State::Closed);
    handle.disable();
    handle.open_for(ms(1_000));
    assert_eq!(state(&layer), State::Disabled);
    // A guard above a mode, and a mode alone.
    handle.shadow_mode();
    let guard = handle.force_open();
    handle.open_for(ms(1_000));
    drop(guard);
    handle.open_for(ms(1_000));
    let service = layer.layer(script().respond(1));
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
    handle.reset();
    handle.open_for(ms(1_000));
    assert_eq!(state(&layer), State::Open);
}

/// Returns the state of a breaker after a 429 and a success.
async fn after_a_429(throttled_is_failure: bool) -> State {
    let throttled = Fault::Failed(Failure::Status {
        code: 429,
        retry_after: None,
    });
    let classify = move |result: Result<&u32, &Fault>, _| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::Throttled { retry_after: None },
    };
    let config = BreakerConfig::new()
        .consecutive_failures(1)
        .throttled_is_failure(throttled_is_failure);
    let layer = BreakerLayer::new("users", config, classify).unwrap();
    let service = layer.layer(script().fail(throttled));
    assert_eq!(service.oneshot(idempotent_request()).await, Err(throttled));
    layer.handle().state()
}

#[tokio::test(start_paused = true)]
async fn cb_10_a_429_opens_the_breaker_only_with_throttled_is_failure() {
    assert_eq!(after_a_429(false).await, State::Closed);
    assert_eq!(after_a_429(true).await, State::Open);
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_all_calls_pass() {
    let off = option_layer(None::<BreakerLayer<ClassifyResult>>);
    let service = off.layer(script().fail(BROKEN).times(50).respond(1));
    for _ in 0..50 {
        service
            .clone()
            .oneshot(idempotent_request())
            .await
            .unwrap_err();
    }
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
}

/// A simple model of a window of ten seconds, or of the last twenty calls.
struct Model {
    window: Window,
    calls: Vec<(Instant, bool)>,
}

impl Model {
    /// Returns the lowest and the highest numbers of calls and failures that the window may hold.
    fn range(&self) -> [(usize, usize); 2] {
        let count = |calls: &[(Instant, bool)]| {
            let failed = calls.iter().filter(|(_, failed)| *failed).count();
            (calls.len(), failed)
        };
        let within = |span| {
            let young = self.calls.iter().filter(|(at, _)| at.elapsed() < span);
            count(&young.copied().collect::<Vec<_>>())
        };
        match self.window {
            Window::Time(span) => [within(span * 9 / 10), within(span)],
            Window::Count(size) => {
                let last = count(&self.calls[self.calls.len().saturating_sub(size)..]);
                [last, last]
            }
            _ => unreachable!("a window has a time or a count"),
        }
    }
}

/// Successes are counted outside the state machine. The snapshot must not show a difference.
#[tokio::test(start_paused = true)]
async fn counts_every_call_with_and_without_its_lock() {
    for (seed, window) in (0..60)
        .flat_map(|seed| [Window::Time(ms(10_000)), Window::Count(20)].map(|window| (seed, window)))
    {
        let mut random = fastrand::Rng::with_seed(seed);
        let layer = breaker(|breaker| breaker.window = window);
        layer.handle().shadow_mode();
        let (good, bad) = (script().respond(1), script().fail(BROKEN));
        let (good, bad) = (layer.layer(good), layer.layer(bad));
        let mut model = Model {
            window,
            calls: Vec::new(),
        };
        for _ in 0..200 {
            let fails = random.u8(0..10) == 0;
            let service = if fails { &bad } else { &good };
            let _ = service.clone().oneshot(idempotent_request()).await;
            model.calls.push((Instant::now(), fails));
            tokio::time::advance(ms(random.u64(0..300))).await;
            if random.bool() {
                let snapshot = layer.handle().snapshot();
                let [least, most] = model.range();
                let (calls, failed) = (snapshot.calls as usize, snapshot.failed as usize);
                assert!(
                    (least.0..=most.0).contains(&calls),
                    "{least:?} {snapshot:?} {most:?}"
                );
                assert!(
                    (least.1..=most.1).contains(&failed),
                    "{least:?} {snapshot:?} {most:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cb_03_earlier_successes_do_not_hide_an_outage() {
    let layer = breaker(|breaker| {
        (breaker.window, breaker.min_calls) = (Window::Count(10), 10);
        breaker.consecutive_failures = None;
    });
    let (good, bad) = (layer.layer(script().respond(1)), script().fail(BROKEN));
    for _ in 0..10_000 {
        good.clone().oneshot(idempotent_request()).await.unwrap();
    }
    for _ in 0..9 {
        let _ = layer.layer(bad.clone()).oneshot(idempotent_request()).await;
    }
    assert_eq!(
        bad.calls(),
        5,
        "the fifth failure of the last ten calls should open the breaker"
    );
}

#[tokio::test(start_paused = true)]
async fn a_success_that_completes_min_calls_may_open_the_breaker() {
    let layer = breaker(|breaker| {
        (breaker.min_calls, breaker.consecutive_failures) = (4, None);
    });
    for script in [
        script().fail(BROKEN),
        script().fail(BROKEN),
        script().respond(1),
    ] {
        let _ = layer.layer(script).oneshot(idempotent_request()).await;
        assert_eq!(layer.handle().state(), State::Closed);
    }
    let last = layer
        .layer(script().respond(1))
        .oneshot(idempotent_request());
    assert_eq!((last.await, layer.handle().state()), (Ok(1), State::Open));
}

#[tokio::test(start_paused = true)]
async fn open_on_retry_after_opens_the_breaker() {
    let retry_later = Fault::Failed(Failure::Status {
        code: 503,
        retry_after: Some(ms(7_000)),
    });
    for (open_on_retry_after, state) in [(false, State::Closed), (true, State::Open)] {
        let layer = breaker(|breaker| {
            breaker.open_on_retry_after = open_on_retry_after;
            breaker.consecutive_failures = None;
        });
        let recorder = EventRecorder::default();
        let service = layer.layer(script().fail(retry_later));
        let result = service
            .oneshot(idempotent_request().events(recorder.events()))
            .await;
        let handle = layer.handle();
        assert_eq!((result, handle.state()), (Err(retry_later), state));
        let opened = Event::BreakerChanged {
            from: State::Closed,
            to: State::Open,
            reason: Some(OpenReason::RetryAfter),
            by_hand: false,
        };
        assert_eq!(recorder.recorded().contains(&opened), open_on_retry_after);
        let retry_after = Some(ms(7_000));
        let refusal = open_on_retry_after.then_some(Rejection::CircuitOpen { retry_after });
        assert_eq!(handle.rejection(), refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn reading_the_rejection_takes_no_probe() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1)).await;
    let handle = layer.handle();
    assert!(handle.rejection().is_some());
    sleep(ms(5_000)).await;
    assert_eq!(
        (handle.rejection(), handle.rejection(), handle.state()),
        (None, None, State::Open)
    );
    assert_eq!(
        layer.layer(script).oneshot(idempotent_request()).await,
        Ok(1)
    );
}

/// Starts `probes` probes that hang for longer than their lease of 1 s. Returns whether a further call
/// would be rejected at once, and after the lease.
async fn rejects_beside(probes: usize, edit: impl FnOnce(&mut BreakerConfig)) -> [bool; 2] {
    let layer = breaker(|config| {
        config.probe_lease = ms(1_000);
        config.half_open_concurrency = 2;
        edit(config);
    });
    let script = open(&layer, |script| script.hang()).await;
    sleep(ms(5_000)).await;
    let mut running: Vec<_> = (0..probes)
        .map(|_| Box::pin(layer.layer(script.clone()).oneshot(idempotent_request())))
        .collect();
    for probe in &mut running {
        assert!(futures_util::poll!(probe).is_pending());
    }
    assert_eq!(script.calls(), 1 + probes);
    let rejects = || layer.handle().rejection().is_some();
    let at_once = rejects();
    sleep(ms(1_000)).await;
    [at_once, rejects()]
}

#[tokio::test(start_paused = true)]
async fn cb_20_the_rejection_counts_an_overdue_probe_as_failed() {
    let one_may_fail = |config: &mut BreakerConfig| config.half_open_max_failures = 1;
    assert_eq!(rejects_beside(1, one_may_fail).await, [false, false]);
    assert_eq!(rejects_beside(2, one_may_fail).await, [true, true]);
    assert_eq!(rejects_beside(1, |_| {}).await, [false, true]);
    // The running probe may suffice to close the breaker.
    let one_closes = |config: &mut BreakerConfig| config.half_open_probes = 1;
    assert_eq!(rejects_beside(1, one_closes).await, [true, true]);
}
