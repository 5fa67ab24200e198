//! The circuit breaker as a layer, against its statements; its states have tests of their own.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, OnceLock};

use common::*;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer, ServiceExt, util::option_layer};
use tower_fanout_layers::{
    BreakerLayer, ClassifyResult, Event, EventSink, Events, Failure, Rejection,
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

fn refused(left: u64) -> Result<u32, Fault> {
    Err(Fault::Refused(Rejection::CircuitOpen {
        retry_after: Some(ms(left)),
    }))
}

/// A layer around a script whose first call opens it.
async fn open(
    layer: &BreakerLayer<ClassifyResult>,
    rest: impl FnOnce(Scripted) -> Scripted,
) -> Scripted {
    let script = rest(script().fail(BROKEN));
    layer
        .layer(script.clone())
        .oneshot(ask())
        .await
        .unwrap_err();
    assert_eq!(state(layer), State::Open);
    script
}

#[tokio::test(start_paused = true)]
async fn cb_11_cb_12_fault_f28_an_open_circuit_refuses_at_once_without_asking_the_service() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1)).await;
    script.set_not_ready();
    sleep(ms(1_500)).await;
    let ear = Ear::default();
    let request = ask().events(ear.events());
    let (result, elapsed) = timed(layer.layer(script.clone()).oneshot(request)).await;
    assert_eq!((result, elapsed), (refused(3_500), ms(0)));
    assert_eq!(script.calls(), 1);
    let rejection = Rejection::CircuitOpen {
        retry_after: Some(ms(3_500)),
    };
    assert_eq!(ear.heard(), [Event::Rejected(rejection)]);
}

#[tokio::test(start_paused = true)]
async fn cb_14_fault_f29_one_probe_among_a_thousand() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1).after(ms(10))).await;
    sleep(ms(5_000)).await;
    let service = layer.layer(script.clone());
    let results = join_all((0..1_000).map(|_| service.clone().oneshot(ask()))).await;
    assert_eq!(script.calls(), 2);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn cb_18_cb_19_fault_f30_a_probe_that_is_dropped_is_blamed_only_if_it_had_run_long() {
    for (cut, expected) in [(499, State::HalfOpen), (500, State::Open)] {
        let layer = breaker(|_| {});
        let script = open(&layer, Scripted::hang).await;
        sleep(ms(5_000)).await;
        let service = layer.layer(script.clone());
        timeout(ms(cut), service.clone().oneshot(ask()))
            .await
            .unwrap_err();
        assert_eq!(state(&layer), expected, "cut after {cut} ms");
        if expected == State::HalfOpen {
            let _ = timeout(ms(1), service.oneshot(ask())).await;
            assert_eq!(script.calls(), 3, "its slot is free for the next");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cb_20_a_probe_that_hangs_does_not_block_the_next_for_ever() {
    let layer = breaker(|settings| settings.half_open_probes = 1);
    let script = open(&layer, |script| script.hang().respond(1)).await;
    sleep(ms(5_000)).await;
    let service = layer.layer(script.clone());
    let hanging = tokio::spawn(service.clone().oneshot(ask()));
    sleep(ms(5_000)).await;
    assert_eq!(
        service.clone().oneshot(ask()).await,
        refused(10_000),
        "its lease is over"
    );
    sleep(ms(10_000)).await;
    assert_eq!(service.oneshot(ask()).await, Ok(1));
    assert_eq!(state(&layer), State::Closed);
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    assert_eq!(state(&layer), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn cb_21_a_straggler_of_the_closed_breaker_says_nothing_of_the_half_open_one() {
    for late in [Ok(1), Err(BROKEN)] {
        let layer = breaker(|_| {});
        let script = script()
            .respond_with(move |_| late)
            .after(ms(5_100))
            .fail(BROKEN)
            .respond(1)
            .after(ms(1_000));
        let service = layer.layer(script);
        let ear = Ear::default();
        let straggler = tokio::spawn(service.clone().oneshot(ask().events(ear.events())));
        tokio::task::yield_now().await;
        service.clone().oneshot(ask()).await.unwrap_err();
        sleep(ms(5_000)).await;
        let probe = tokio::spawn(service.oneshot(ask()));
        assert_eq!(straggler.await.unwrap(), late, "its caller gets the answer");
        assert_eq!(
            (state(&layer), &ear.heard()[..]),
            (State::HalfOpen, &[Event::LateResult][..])
        );
        assert_eq!(probe.await.unwrap(), Ok(1));
    }
}

#[tokio::test(start_paused = true)]
async fn cb_25_a_layer_is_one_breaker_and_another_layer_another() {
    let layer = breaker(|_| {});
    let (a, b) = (
        layer.layer(script().fail(BROKEN)),
        layer.layer(script().respond(1)),
    );
    let apart = breaker(|_| {}).layer(script().respond(1));
    a.clone().oneshot(ask()).await.unwrap_err();
    assert_eq!(b.oneshot(ask()).await, refused(5_000));
    assert_eq!(a.clone().oneshot(ask()).await, refused(5_000));
    assert_eq!(apart.oneshot(ask()).await, Ok(1));
}

/// Looks at the breaker, from within the event that the breaker is changing, and then panics.
struct Rude(Arc<OnceLock<BreakerLayer<ClassifyResult>>>);

impl EventSink for Rude {
    fn on(&self, event: Event) {
        let layer = self.0.get().unwrap();
        if let Event::BreakerChanged { to, .. } = event {
            assert_eq!(state(layer), to);
        }
        panic!("rude");
    }
}

#[tokio::test(start_paused = true)]
async fn cb_29_an_observer_may_look_at_the_breaker_and_may_panic() {
    let layer = breaker(|_| {});
    let rude = Rude(Arc::new(OnceLock::from(layer.clone())));
    let events = Events::new(Arc::new(rude));
    let service = layer.layer(script().fail(BROKEN).respond(1));
    let result = service.clone().oneshot(ask().events(events.clone())).await;
    assert_eq!((result, state(&layer)), (Err(BROKEN), State::Open));
    sleep(ms(5_000)).await;
    assert_eq!(service.oneshot(ask().events(events)).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn cb_30_fault_f30_a_panic_of_the_service_is_a_failure() {
    let layer = breaker(|_| {});
    let service = layer.layer(script().panic("as told").respond(1));
    let call = tokio::spawn(service.clone().oneshot(ask()));
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(state(&layer), State::Open);
    sleep(ms(5_000)).await;
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_off_lets_everything_pass() {
    let off = option_layer(None::<BreakerLayer<ClassifyResult>>);
    let service = off.layer(script().fail(BROKEN).times(50).respond(1));
    for _ in 0..50 {
        service.clone().oneshot(ask()).await.unwrap_err();
    }
    assert_eq!(service.oneshot(ask()).await, Ok(1));
}

/// What a window of ten seconds, or of the last twenty calls, holds by plain counting.
struct Model {
    window: Window,
    calls: Vec<(Instant, bool)>,
}

impl Model {
    /// The calls and the failures that certainly count, and those that may still.
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
            _ => unreachable!("there are two kinds of windows"),
        }
    }
}

/// Good calls are counted apart from the machine; nobody may see a difference.
#[tokio::test(start_paused = true)]
async fn a_breaker_counts_every_call_whether_or_not_it_takes_its_lock() {
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
            let _ = service.clone().oneshot(ask()).await;
            model.calls.push((Instant::now(), fails));
            tokio::time::advance(ms(random.u64(0..300))).await;
            if random.bool() {
                let seen = layer.handle().snapshot();
                let [least, most] = model.range();
                let (calls, failed) = (seen.calls as usize, seen.failed as usize);
                assert!(
                    (least.0..=most.0).contains(&calls),
                    "{least:?} {seen:?} {most:?}"
                );
                assert!(
                    (least.1..=most.1).contains(&failed),
                    "{least:?} {seen:?} {most:?}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cb_03_a_long_good_time_does_not_hide_an_outage() {
    let layer = breaker(|breaker| {
        (breaker.window, breaker.min_calls) = (Window::Count(10), 10);
        breaker.consecutive_failures = None;
    });
    let (good, bad) = (layer.layer(script().respond(1)), script().fail(BROKEN));
    for _ in 0..10_000 {
        good.clone().oneshot(ask()).await.unwrap();
    }
    for _ in 0..9 {
        let _ = layer.layer(bad.clone()).oneshot(ask()).await;
    }
    assert_eq!(bad.calls(), 5, "the fifth of the last ten opens it");
}

#[tokio::test(start_paused = true)]
async fn a_good_call_opens_it_if_it_makes_the_calls_enough() {
    let layer = breaker(|breaker| {
        (breaker.min_calls, breaker.consecutive_failures) = (4, None);
    });
    for script in [
        script().fail(BROKEN),
        script().fail(BROKEN),
        script().respond(1),
    ] {
        let _ = layer.layer(script).oneshot(ask()).await;
        assert_eq!(layer.handle().state(), State::Closed);
    }
    let last = layer.layer(script().respond(1)).oneshot(ask());
    assert_eq!((last.await, layer.handle().state()), (Ok(1), State::Open));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_wants_to_be_left_alone_is() {
    let wish = Fault::Failed(Failure::Status {
        code: 503,
        retry_after: Some(ms(7_000)),
    });
    for (open_on_retry_after, state) in [(false, State::Closed), (true, State::Open)] {
        let layer = breaker(|breaker| {
            breaker.open_on_retry_after = open_on_retry_after;
            breaker.consecutive_failures = None;
        });
        let ear = Ear::default();
        let service = layer.layer(script().fail(wish));
        let result = service.oneshot(ask().events(ear.events())).await;
        let handle = layer.handle();
        assert_eq!((result, handle.state()), (Err(wish), state));
        let opened = Event::BreakerChanged {
            from: State::Closed,
            to: State::Open,
            reason: Some(OpenReason::RetryAfter),
        };
        assert_eq!(ear.heard().contains(&opened), open_on_retry_after);
        let retry_after = Some(ms(7_000));
        let refusal = open_on_retry_after.then_some(Rejection::CircuitOpen { retry_after });
        assert_eq!(handle.refusal(), refusal);
    }
}

#[tokio::test(start_paused = true)]
async fn asking_for_the_refusal_takes_no_probe() {
    let layer = breaker(|_| {});
    let script = open(&layer, |script| script.respond(1)).await;
    let handle = layer.handle();
    assert!(handle.refusal().is_some());
    sleep(ms(5_000)).await;
    assert_eq!(
        (handle.refusal(), handle.refusal(), handle.state()),
        (None, None, State::Open)
    );
    assert_eq!(layer.layer(script).oneshot(ask()).await, Ok(1));
}
