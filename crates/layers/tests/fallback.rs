//! Tests of the fallback statements (FB).
#![allow(missing_docs)]

mod common;

use std::{
    future::ready,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, panic_any},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::*;
use futures_util::{FutureExt, poll};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_layers::{
    BoxError, BreakerConfig, BreakerLayer, CallContext, Class, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, DeadlineLayer, Event, EventSink, Events, Failure, FallbackLayer, Rejection,
    TimeoutLayer, WithCall,
    breaker::Window,
    event::FallbackKind,
    fallback::{MemoryStore, OutcomeSet, StaleStore},
    timeout::DeadlineConfig,
};

type Chain = FallbackLayer<ClassifyResult, Request, u32, Fault>;

fn chain() -> Chain {
    FallbackLayer::new(ClassifyResult)
}

/// Returns the result of a call that fails with `fault`.
async fn answer(chain: &Chain, fault: Fault) -> Result<u32, Fault> {
    chain
        .layer(script().fail(fault))
        .oneshot(idempotent_request())
        .await
}

fn used(recorder: &EventRecorder) -> Vec<(usize, FallbackKind)> {
    let used = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::FallbackUsed { step, kind } => Some((step, kind)),
            _ => None,
        });
    used.collect()
}

/// Returns the steps that were started.
fn asked(recorder: &EventRecorder) -> Vec<(usize, FallbackKind)> {
    let asked = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::FallbackStarted { step, kind } => Some((step, kind)),
            _ => None,
        });
    asked.collect()
}

/// Returns the steps that failed.
fn failed(recorder: &EventRecorder) -> Vec<(usize, Class)> {
    let failed = recorder
        .recorded()
        .into_iter()
        .filter_map(|event| match event {
            Event::FallbackFailed { step, class } => Some((step, class)),
            _ => None,
        });
    failed.collect()
}

/// Collects the errors that fallbacks replace.
#[derive(Default)]
struct Errors(Mutex<Vec<BoxError>>);

impl EventSink for Errors {
    fn on(&self, _: Event) {}

    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        self.0.lock().unwrap().push(error());
    }
}

#[tokio::test(start_paused = true)]
async fn fb_14_reports_the_error_that_a_step_replaces() {
    let described = |result: Result<&u32, &Fault>| format!("described {result:?}").into();
    for (chain, expected) in [
        (chain().response(7), Failure::ConnectionReset.to_string()),
        (
            chain().describe_failure(described).response(7),
            format!("described {:?}", Err::<u32, _>(BROKEN)),
        ),
        (chain(), String::new()),
    ] {
        let errors = Arc::new(Errors::default());
        let request = idempotent_request().events(Events::new(errors.clone()));
        let service = chain.layer(script().fail(BROKEN));
        let _ = service.oneshot(request).await;
        let errors: Vec<_> = errors
            .0
            .lock()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors.concat(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn fb_01_after_a_success_no_step_runs() {
    let other = script().respond(2);
    let (service, recorder) = (
        chain().service(other.clone()).layer(script().respond(1)),
        EventRecorder::default(),
    );
    let answer = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!((answer, other.calls(), used(&recorder)), (Ok(1), 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn fb_02_fault_f28_an_open_breaker_gets_the_fixed_response_at_once() {
    let config = BreakerConfig::new().window(Window::Count(1)).min_calls(1);
    let breaker = BreakerLayer::new("team", config, ClassifyResult).unwrap();
    let primary = script().fail(BROKEN);
    let service = chain().response(9).layer(breaker.layer(primary.clone()));
    for _ in 0..3 {
        let call = service.clone().oneshot(idempotent_request());
        assert_eq!(timed(call).await, (Ok(9), ms(0)));
    }
    // The breaker has recorded the failure, not the response of the fallback.
    assert_eq!(primary.calls(), 1);
}

/// Creates a set of the results that `edit` adds.
fn on(edit: impl FnOnce(&mut OutcomeSet)) -> OutcomeSet {
    let mut outcomes = OutcomeSet::nothing();
    edit(&mut outcomes);
    outcomes
}

#[tokio::test(start_paused = true)]
async fn fb_03_the_step_that_covers_the_result_responds() {
    let store = store();
    store.put(0, &1, Instant::now());
    let chain = chain()
        .on(on(|outcomes| outcomes.timeout = true))
        .stale(store, |request: &Request| Some(*request.get()), ms(1_000))
        .on(on(|outcomes| outcomes.statuses = vec![500, 503]))
        .service(script().respond(2))
        .on(on(|outcomes| outcomes.local = true))
        .response(3);
    let status = |code| {
        let retry_after = None;
        Fault::Failed(Failure::Status { code, retry_after })
    };
    let open = Rejection::CircuitOpen { retry_after: None };
    for (fault, expected) in [
        (Fault::Refused(Rejection::AttemptTimeout), Ok(1)),
        (Fault::Refused(Rejection::Deadline), Ok(1)),
        (status(500), Ok(2)),
        (status(503), Ok(2)),
        (Fault::Refused(open), Ok(3)),
        (status(502), Err(status(502))),
        (BROKEN, Err(BROKEN)),
    ] {
        let recorder = EventRecorder::default();
        let service = chain.layer(script().fail(fault));
        let result = service
            .oneshot(idempotent_request().events(recorder.events()))
            .await;
        assert_eq!(result, expected, "{fault:?}");
        assert_eq!(
            failed(&recorder),
            [],
            "a step that does not cover the result runs"
        );
    }
    // The setting of one step does not apply to the next.
    let chain = chain.response(4);
    assert_eq!(answer(&chain, BROKEN).await, Ok(4));
}

/// A store of the last good responses, with the number in the request as the key.
type Store = MemoryStore<u32, u32>;

fn stale(store: &Store) -> Chain {
    let key = |request: &Request| Some(*request.get()).filter(|number| *number < 100);
    chain().stale(store.clone(), key, ms(1_000))
}

fn store() -> Store {
    MemoryStore::new(NonZeroUsize::new(9).unwrap())
}

#[tokio::test(start_paused = true)]
async fn fb_04_fault_f35_if_the_stale_response_is_too_old_the_next_step_runs() {
    let store = store();
    let chain = stale(&store).response(9);
    let fresh = chain
        .layer(script().respond(7))
        .oneshot(idempotent_request());
    assert_eq!(fresh.await, Ok(7));
    tokio::time::advance(ms(1_000)).await;
    let recorder = EventRecorder::default();
    let broken = chain.layer(script().fail(BROKEN));
    let request = || idempotent_request().events(recorder.events());
    assert_eq!(broken.clone().oneshot(request()).await, Ok(7));
    tokio::time::advance(ms(1)).await;
    assert_eq!(broken.clone().oneshot(request()).await, Ok(9));
    let kinds = [(0, FallbackKind::Stale), (1, FallbackKind::Static)];
    assert_eq!(used(&recorder), kinds);
    // Another request has no response yet, and a request without a key never has one.
    for number in [1, 100] {
        let request = WithCall::new(number).idempotent();
        assert_eq!(broken.clone().oneshot(request).await, Ok(9));
    }
}

#[tokio::test(start_paused = true)]
async fn fb_04_a_stale_response_needs_no_time() {
    let store = store();
    let primary = script().respond(7).hang();
    let service = stale(&store).layer(TimeoutLayer::new(ms(100)).unwrap().layer(primary));
    assert_eq!(service.clone().oneshot(idempotent_request()).await, Ok(7));
    let call = timed(service.oneshot(request_within(ms(50))));
    assert_eq!(call.await, (Ok(7), ms(50)));
}

#[tokio::test(start_paused = true)]
async fn fb_13_the_response_of_a_fallback_is_not_stored() {
    let store = store();
    let chain = stale(&store).service(script().respond(8)).response(9);
    assert_eq!(answer(&chain, BROKEN).await, Ok(8));
    assert!(store.is_empty());
    assert_eq!(
        chain
            .layer(script().respond(7))
            .oneshot(idempotent_request())
            .await,
        Ok(7)
    );
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dl_13_a_fallback_has_the_reserved_time() {
    let other = script().respond(8).after(ms(90));
    let hung = DeadlineLayer::new(DeadlineConfig::new())
        .unwrap()
        .layer(script().hang());
    let reserved = chain().service(other.clone()).reserve(ms(100));
    let call = timed(
        reserved
            .layer(hung.clone())
            .oneshot(request_within(ms(500))),
    );
    assert_eq!(call.await, (Ok(8), ms(490)));
    // At most a third of the remaining time is reserved.
    let too_much = chain().service(other).reserve(ms(10_000)).layer(hung);
    let call = timed(too_much.oneshot(request_within(ms(600))));
    assert_eq!(call.await, (Ok(8), ms(490)));
}

#[tokio::test(start_paused = true)]
async fn fb_05_fault_f34_if_all_steps_fail_the_original_error_is_returned() {
    let chain = chain()
        .function(|_, _| ready(Err(Fault::Failed(Failure::TooLarge))))
        .service(script().fail(UNREACHED))
        .on(on(|outcomes| outcomes.timeout = true))
        .response(9);
    let recorder = EventRecorder::default();
    let service = chain.layer(script().fail(BROKEN));
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    assert_eq!(result, Err(BROKEN));
    let failures = [(0, Failure::TooLarge), (1, Failure::Connect)];
    let failures = failures.map(|(step, failure)| (step, Class::Failure(failure)));
    assert_eq!(
        (failed(&recorder), used(&recorder)),
        (failures.to_vec(), vec![])
    );
    assert_eq!(answer(&self::chain(), BROKEN).await, Err(BROKEN));
}

#[tokio::test(start_paused = true)]
async fn fb_06_dropping_the_caller_drops_the_step() {
    let other = script().hang();
    let service = chain().service(other.clone()).layer(script().fail(BROKEN));
    let mut call = service.oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut call).is_pending());
    assert_eq!(other.in_flight(), 1);
    drop(call);
    assert_eq!((other.in_flight(), other.cancelled()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn fb_07_fault_f34_a_step_that_hits_the_deadline_leaves_the_next_one() {
    let other = script().hang();
    let chain = chain().service(other.clone()).response(9);
    let recorder = EventRecorder::default();
    let request = request_within(ms(80)).events(recorder.events());
    let call = chain.layer(script().fail(BROKEN)).oneshot(request);
    assert_eq!(timed(call).await, (Ok(9), ms(80)));
    assert_eq!(other.cancelled(), 1);
    assert_eq!(used(&recorder), [(1, FallbackKind::Static)]);
    assert!(matches!(
        failed(&recorder)[..],
        [(0, Class::Unanswered { .. })]
    ));

    // With too little time or none, the service is not called at all.
    let primary = TimeoutLayer::new(ms(100)).unwrap().layer(script().hang());
    let call = chain.layer(primary).oneshot(request_within(ms(80)));
    assert_eq!(timed(call).await, (Ok(9), ms(80)));
    let call = chain
        .layer(script().fail(BROKEN))
        .oneshot(request_within(ms(9)));
    assert_eq!(timed(call).await, (Ok(9), ms(0)));
    assert_eq!(other.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn fb_08_a_correct_response_has_no_fallback_unless_it_is_listed() {
    // A response from 400 on is a status.
    let classify = |result: Result<&u32, &Fault>, _| match result {
        Ok(status @ 400..) => Class::NonRetryable(*status as u16),
        Ok(_) => Class::Success,
        Err(_) => Class::Failure(Failure::Other),
    };
    let plain = FallbackLayer::new(classify).response(1);
    let mut outcomes = OutcomeSet::default();
    outcomes.statuses.push(404);
    let listed = FallbackLayer::new(classify).on(outcomes).response(1);
    for status in [400, 401, 403, 404, 409] {
        let script = script().respond(status);
        assert_eq!(
            plain
                .layer(script.clone())
                .oneshot(idempotent_request())
                .await,
            Ok(status)
        );
        let expected = if status == 404 { 1 } else { status };
        assert_eq!(
            listed.layer(script).oneshot(idempotent_request()).await,
            Ok(expected)
        );
    }
    for unable in [501, 505] {
        assert_eq!(
            plain
                .layer(script().respond(unable))
                .oneshot(idempotent_request())
                .await,
            Ok(1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fb_09_a_call_can_turn_fallbacks_off() {
    let request = ask_with(|call| call.fallback = false);
    let service = chain().response(9).layer(script().fail(BROKEN));
    assert_eq!(service.oneshot(request).await, Err(BROKEN));
}

#[tokio::test(start_paused = true)]
async fn fb_11_fault_f34_a_step_that_panics_has_failed() {
    let sleepy = |_, _| async {
        tokio::task::yield_now().await;
        panic!("later")
    };
    let chain = chain()
        .function(|_, _| -> std::future::Ready<_> { panic!("at once") })
        .function(sleepy);
    let recorder = EventRecorder::default();
    let service = chain.layer(script().fail(BROKEN));
    let result = service
        .oneshot(idempotent_request().events(recorder.events()))
        .await;
    let panicked = Class::Failure(Failure::Panic);
    assert_eq!(
        (result, failed(&recorder)),
        (Err(BROKEN), vec![(0, panicked), (1, panicked)])
    );
    assert_eq!(answer(&chain.response(9), BROKEN).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn the_first_step_that_succeeds_is_reported_and_ends_the_chain() {
    static LATER: AtomicUsize = AtomicUsize::new(0);
    let other = script().respond_with(|request| Ok(request.get() + 40));
    let service = chain()
        .function(|_, _| ready(Err(UNREACHED)))
        .service(other.clone())
        .function(|_, _| {
            LATER.fetch_add(1, Ordering::Relaxed);
            ready(Ok(3))
        })
        .layer(script().fail(BROKEN));
    let recorder = EventRecorder::default();
    let request = tower_fanout_layers::WithCall::new(2).events(recorder.events());
    assert_eq!(service.oneshot(request).await, Ok(42));
    assert_eq!(used(&recorder), [(1, FallbackKind::Service)]);
    assert_eq!(
        asked(&recorder),
        [(0, FallbackKind::Function), (1, FallbackKind::Service)]
    );
    assert_eq!((other.calls(), LATER.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_call_is_a_failure_with_a_fallback() {
    let breaker = BreakerLayer::new("team", BreakerConfig::new(), ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let held = limit.clone();
    let chain = chain().function(move |_, class| {
        assert_eq!(class, Class::Failure(Failure::Panic));
        ready(Ok(held.in_flight()))
    });
    let primary = script().panic("primary");
    let service = chain.layer(breaker.layer(limit.layer(primary)));
    assert_eq!(
        service.oneshot(idempotent_request()).await,
        Ok(0),
        "the panicked call still holds a permit"
    );
    assert_eq!(breaker.handle().snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_without_a_successful_step_continues() {
    let failing = chain().function(|_, _| ready(Err(UNREACHED)));
    let for_others = chain()
        .on(on(|outcomes| outcomes.timeout = true))
        .response(9);
    for chain in [chain(), failing, for_others] {
        let primary = service_fn(|_: Request| async { panic_any(7_u8) });
        let call = AssertUnwindSafe(chain.layer(primary).oneshot(idempotent_request()));
        let panic = call.catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&7_u8));
    }
}

/// A request that cannot be cloned.
struct Once;

impl CallContext for Once {}

#[tokio::test(start_paused = true)]
async fn a_fixed_response_does_not_clone_the_request() {
    let primary = service_fn(|_: Once| async { Err::<u32, _>(BROKEN) });
    let service = FallbackLayer::new(ClassifyResult)
        .response(9)
        .layer(primary);
    assert_eq!(service.oneshot(Once).await, Ok(9));
}

/// A response that cannot be cloned.
#[derive(Debug, PartialEq)]
struct Page(&'static str);

#[tokio::test(start_paused = true)]
async fn fb_15_a_created_response_needs_the_class_and_no_clone() {
    let chain = FallbackLayer::new(ClassifyResult).response_with(|class| match class {
        Class::Rejected(Rejection::AtCapacity) => Page("busy"),
        Class::Failure(Failure::ConnectionReset) => Page("down"),
        class => panic!("unexpected {class:?}"),
    });
    for (fault, expected) in [
        (Fault::Refused(Rejection::AtCapacity), Ok(Page("busy"))),
        (BROKEN, Ok(Page("down"))),
        (UNREACHED, Err(UNREACHED)), // the panic of the step is a failure of the step
    ] {
        let primary = service_fn(move |_: Once| async move { Err::<Page, _>(fault) });
        assert_eq!(chain.layer(primary).oneshot(Once).await, expected);
    }
    // The step needs no time.
    let primary = TimeoutLayer::new(ms(100)).unwrap().layer(script().hang());
    let chain = self::chain().response_with(|_| 9);
    let call = chain.layer(primary).oneshot(request_within(ms(80)));
    assert_eq!(timed(call).await, (Ok(9), ms(80)));
}

#[tokio::test(start_paused = true)]
async fn a_step_added_to_a_clone_is_not_added_to_the_layer() {
    let base = chain().on(on(|outcomes| outcomes.local = true)).response(1);
    let other = base.clone().service(script().respond(2));
    let other = other.reserve(ms(100)).response(3);
    assert_eq!(answer(&base, BROKEN).await, Err(BROKEN));
    assert_eq!(answer(&other, BROKEN).await, Ok(2));
    let full = Fault::Refused(Rejection::AtCapacity);
    assert_eq!(answer(&base, full).await, Ok(1));
    assert_eq!(answer(&other, full).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn the_last_setting_of_a_step_counts() {
    let (local, timeout) = (
        on(|outcomes| outcomes.local = true),
        on(|outcomes| outcomes.timeout = true),
    );
    let chain = chain().on(local).on(timeout.clone()).response(1);
    for chain in [chain.clone(), chain.on(timeout)] {
        let late = Fault::Refused(Rejection::AttemptTimeout);
        assert_eq!(answer(&chain, late).await, Ok(1));
        let full = Fault::Refused(Rejection::AtCapacity);
        assert_eq!(answer(&chain, full).await, Err(full));
    }
}
