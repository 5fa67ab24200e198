//! Fallback against its statements.
#![allow(missing_docs)]

mod common;

use std::{
    future::ready,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, panic_any},
    sync::atomic::{AtomicUsize, Ordering},
};

use common::*;
use futures_util::{FutureExt, poll};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallContext, Class, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, DeadlineLayer, Event, Failure, FallbackLayer, Rejection, TimeoutLayer,
    WithCall,
    breaker::Window,
    event::FallbackKind,
    fallback::{MemoryStore, OutcomeSet, StaleStore},
    timeout::DeadlineConfig,
};

type Chain = FallbackLayer<ClassifyResult, Request, u32, Fault>;

fn chain() -> Chain {
    FallbackLayer::new(ClassifyResult)
}

/// What a call that ends with `fault` is answered with.
async fn answer(chain: &Chain, fault: Fault) -> Result<u32, Fault> {
    chain.layer(script().fail(fault)).oneshot(ask()).await
}

fn used(ear: &Ear) -> Vec<(usize, FallbackKind)> {
    let used = ear.heard().into_iter().filter_map(|event| match event {
        Event::FallbackUsed { step, kind } => Some((step, kind)),
        _ => None,
    });
    used.collect()
}

/// The steps that were asked.
fn asked(ear: &Ear) -> Vec<(usize, FallbackKind)> {
    let asked = ear.heard().into_iter().filter_map(|event| match event {
        Event::FallbackAsked { step, kind } => Some((step, kind)),
        _ => None,
    });
    asked.collect()
}

/// The steps that were asked and failed.
fn failed(ear: &Ear) -> Vec<(usize, Class)> {
    let failed = ear.heard().into_iter().filter_map(|event| match event {
        Event::FallbackFailed { step, class } => Some((step, class)),
        _ => None,
    });
    failed.collect()
}

#[tokio::test(start_paused = true)]
async fn fb_01_after_a_success_no_step_is_asked() {
    let other = script().respond(2);
    let (service, ear) = (
        chain().service(other.clone()).layer(script().respond(1)),
        Ear::default(),
    );
    let answer = service.oneshot(ask().events(ear.events())).await;
    assert_eq!((answer, other.calls(), used(&ear)), (Ok(1), 0, vec![]));
}

#[tokio::test(start_paused = true)]
async fn fb_02_fault_f28_an_open_breaker_is_answered_for_at_once() {
    let policy = BreakerConfig::new().window(Window::Count(1)).min_calls(1);
    let breaker = BreakerLayer::new("team", policy, ClassifyResult).unwrap();
    let primary = script().fail(BROKEN);
    let service = chain().answer(9).layer(breaker.layer(primary.clone()));
    for _ in 0..3 {
        let call = service.clone().oneshot(ask());
        assert_eq!(timed(call).await, (Ok(9), ms(0)));
    }
    // What the breaker saw is the failure, not what was answered instead.
    assert_eq!(primary.calls(), 1);
}

/// The ends that `edit` names.
fn on(edit: impl FnOnce(&mut OutcomeSet)) -> OutcomeSet {
    let mut outcomes = OutcomeSet::nothing();
    edit(&mut outcomes);
    outcomes
}

#[tokio::test(start_paused = true)]
async fn fb_03_what_failed_how_is_answered_by_the_step_for_it() {
    let store = store();
    store.put(0, &1, Instant::now());
    let chain = chain()
        .on(on(|ends| ends.timeout = true))
        .stale(store, |request: &Request| Some(*request.get()), ms(1_000))
        .on(on(|ends| ends.statuses = vec![500, 503]))
        .service(script().respond(2))
        .on(on(|ends| ends.local = true))
        .answer(3);
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
        let ear = Ear::default();
        let service = chain.layer(script().fail(fault));
        let result = service.oneshot(ask().events(ear.events())).await;
        assert_eq!(result, expected, "{fault:?}");
        assert_eq!(failed(&ear), [], "a step for something else is not asked");
    }
    // What is said of one step is not said of the next.
    let chain = chain.answer(4);
    assert_eq!(answer(&chain, BROKEN).await, Ok(4));
}

/// The last good answers to requests with the same number.
type Store = MemoryStore<u32, u32>;

fn stale(store: &Store) -> Chain {
    let key = |request: &Request| Some(*request.get()).filter(|number| *number < 100);
    chain().stale(store.clone(), key, ms(1_000))
}

fn store() -> Store {
    MemoryStore::new(NonZeroUsize::new(9).unwrap())
}

#[tokio::test(start_paused = true)]
async fn fb_04_fault_f35_a_stale_answer_that_is_too_old_leaves_it_to_the_next_step() {
    let store = store();
    let chain = stale(&store).answer(9);
    let fresh = chain.layer(script().respond(7)).oneshot(ask());
    assert_eq!(fresh.await, Ok(7));
    tokio::time::advance(ms(1_000)).await;
    let ear = Ear::default();
    let broken = chain.layer(script().fail(BROKEN));
    let request = || ask().events(ear.events());
    assert_eq!(broken.clone().oneshot(request()).await, Ok(7));
    tokio::time::advance(ms(1)).await;
    assert_eq!(broken.clone().oneshot(request()).await, Ok(9));
    let kinds = [(0, FallbackKind::Stale), (1, FallbackKind::Static)];
    assert_eq!(used(&ear), kinds);
    // Another question has no answer yet, and one without a key never has.
    for number in [1, 100] {
        let request = WithCall::new(number).idempotent();
        assert_eq!(broken.clone().oneshot(request).await, Ok(9));
    }
}

#[tokio::test(start_paused = true)]
async fn fb_04_a_stale_answer_needs_no_time() {
    let store = store();
    let primary = script().respond(7).hang();
    let service = stale(&store).layer(TimeoutLayer::new(ms(100)).unwrap().layer(primary));
    assert_eq!(service.clone().oneshot(ask()).await, Ok(7));
    let call = timed(service.oneshot(ask_within(ms(50))));
    assert_eq!(call.await, (Ok(7), ms(50)));
}

#[tokio::test(start_paused = true)]
async fn fb_13_the_answer_of_a_fallback_is_not_remembered() {
    let store = store();
    let chain = stale(&store).service(script().respond(8)).answer(9);
    assert_eq!(answer(&chain, BROKEN).await, Ok(8));
    assert!(store.is_empty());
    assert_eq!(chain.layer(script().respond(7)).oneshot(ask()).await, Ok(7));
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dl_13_a_fallback_has_the_time_that_is_kept_back_for_it() {
    let other = script().respond(8).after(ms(90));
    let hung = DeadlineLayer::new(DeadlineConfig::new())
        .unwrap()
        .layer(script().hang());
    let kept = chain().service(other.clone()).reserve(ms(100));
    let call = timed(kept.layer(hung.clone()).oneshot(ask_within(ms(500))));
    assert_eq!(call.await, (Ok(8), ms(490)));
    // A third of what is left at most, however much is wished for.
    let greedy = chain().service(other).reserve(ms(10_000)).layer(hung);
    let call = timed(greedy.oneshot(ask_within(ms(600))));
    assert_eq!(call.await, (Ok(8), ms(490)));
}

#[tokio::test(start_paused = true)]
async fn fb_05_fault_f34_when_no_step_succeeds_the_failure_is_the_first_one() {
    let chain = chain()
        .function(|_, _| ready(Err(Fault::Failed(Failure::TooLarge))))
        .service(script().fail(UNREACHED))
        .on(on(|ends| ends.timeout = true))
        .answer(9);
    let ear = Ear::default();
    let service = chain.layer(script().fail(BROKEN));
    let result = service.oneshot(ask().events(ear.events())).await;
    assert_eq!(result, Err(BROKEN));
    let failures = [(0, Failure::TooLarge), (1, Failure::Connect)];
    let failures = failures.map(|(step, failure)| (step, Class::Failure(failure)));
    assert_eq!((failed(&ear), used(&ear)), (failures.to_vec(), vec![]));
    assert_eq!(answer(&self::chain(), BROKEN).await, Err(BROKEN));
}

#[tokio::test(start_paused = true)]
async fn fb_06_a_caller_that_goes_away_takes_the_step_with_it() {
    let other = script().hang();
    let service = chain().service(other.clone()).layer(script().fail(BROKEN));
    let mut call = service.oneshot(ask()).boxed();
    assert!(poll!(&mut call).is_pending());
    assert_eq!(other.in_flight(), 1);
    drop(call);
    assert_eq!((other.in_flight(), other.cancelled()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn fb_07_fault_f34_a_step_that_reaches_the_deadline_leaves_the_fixed_answer() {
    let other = script().hang();
    let chain = chain().service(other.clone()).answer(9);
    let ear = Ear::default();
    let request = ask_within(ms(80)).events(ear.events());
    let call = chain.layer(script().fail(BROKEN)).oneshot(request);
    assert_eq!(timed(call).await, (Ok(9), ms(80)));
    assert_eq!(other.cancelled(), 1);
    assert_eq!(used(&ear), [(1, FallbackKind::Static)]);
    assert!(matches!(failed(&ear)[..], [(0, Class::Unanswered { .. })]));

    // With too little time, or none, the other service is not asked at all.
    let primary = TimeoutLayer::new(ms(100)).unwrap().layer(script().hang());
    let call = chain.layer(primary).oneshot(ask_within(ms(80)));
    assert_eq!(timed(call).await, (Ok(9), ms(80)));
    let call = chain
        .layer(script().fail(BROKEN))
        .oneshot(ask_within(ms(9)));
    assert_eq!(timed(call).await, (Ok(9), ms(0)));
    assert_eq!(other.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn fb_08_what_the_service_answered_rightly_stays_unless_it_is_listed() {
    // Numbers from 400 are statuses.
    let classify = |result: Result<&u32, &Fault>, _| match result {
        Ok(status @ 400..) => Class::NonRetryable(*status as u16),
        Ok(_) => Class::Success,
        Err(_) => Class::Failure(Failure::Other),
    };
    let plain = FallbackLayer::new(classify).answer(1);
    let listed = FallbackLayer::new(classify).answer(1).on_status(404);
    for status in [400, 401, 403, 404, 409] {
        let script = script().respond(status);
        assert_eq!(plain.layer(script.clone()).oneshot(ask()).await, Ok(status));
        let expected = if status == 404 { 1 } else { status };
        assert_eq!(listed.layer(script).oneshot(ask()).await, Ok(expected));
    }
    for unable in [501, 505] {
        assert_eq!(
            plain.layer(script().respond(unable)).oneshot(ask()).await,
            Ok(1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fb_09_a_call_may_ask_for_no_fallback() {
    let request = ask_with(|call| call.fallback = false);
    let service = chain().answer(9).layer(script().fail(BROKEN));
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
    let ear = Ear::default();
    let service = chain.layer(script().fail(BROKEN));
    let result = service.oneshot(ask().events(ear.events())).await;
    let panicked = Class::Failure(Failure::Panic);
    assert_eq!(
        (result, failed(&ear)),
        (Err(BROKEN), vec![(0, panicked), (1, panicked)])
    );
    assert_eq!(answer(&chain.answer(9), BROKEN).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn the_first_step_that_succeeds_is_named_and_ends_the_chain() {
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
    let ear = Ear::default();
    let request = tower_fanout_layers::WithCall::new(2).events(ear.events());
    assert_eq!(service.oneshot(request).await, Ok(42));
    assert_eq!(used(&ear), [(1, FallbackKind::Service)]);
    assert_eq!(
        asked(&ear),
        [(0, FallbackKind::Function), (1, FallbackKind::Service)]
    );
    assert_eq!((other.calls(), LATER.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_call_is_a_failure_that_is_answered_for() {
    let breaker = BreakerLayer::new("team", BreakerConfig::new(), ClassifyResult).unwrap();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let held = limit.clone();
    let chain = chain().function(move |_, class| {
        assert_eq!(class, Class::Failure(Failure::Panic));
        ready(Ok(held.in_flight()))
    });
    let primary = script().panic("as told");
    let service = chain.layer(breaker.layer(limit.layer(primary)));
    assert_eq!(
        service.oneshot(ask()).await,
        Ok(0),
        "permits held meanwhile"
    );
    assert_eq!(breaker.handle().snapshot().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_no_step_answers_for_goes_on() {
    let failing = chain().function(|_, _| ready(Err(UNREACHED)));
    let for_others = chain().on(on(|ends| ends.timeout = true)).answer(9);
    for chain in [chain(), failing, for_others] {
        let primary = service_fn(|_: Request| async { panic_any(7_u8) });
        let call = AssertUnwindSafe(chain.layer(primary).oneshot(ask()));
        let panic = call.catch_unwind().await.unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&7_u8));
    }
}

/// A request that cannot be cloned.
struct Once;

impl CallContext for Once {}

#[tokio::test(start_paused = true)]
async fn a_fixed_answer_needs_no_copy_of_the_request() {
    let primary = service_fn(|_: Once| async { Err::<u32, _>(BROKEN) });
    let service = FallbackLayer::new(ClassifyResult).answer(9).layer(primary);
    assert_eq!(service.oneshot(Once).await, Ok(9));
}

#[tokio::test(start_paused = true)]
async fn what_is_added_to_a_clone_is_not_added_to_the_layer() {
    let base = chain().on(on(|ends| ends.local = true)).answer(1);
    let other = base.clone().service(script().respond(2)).on_status(404);
    let other = other.reserve(ms(100)).answer(3);
    assert_eq!(answer(&base, BROKEN).await, Err(BROKEN));
    assert_eq!(answer(&other, BROKEN).await, Ok(2));
    let full = Fault::Refused(Rejection::AtCapacity);
    assert_eq!(answer(&base, full).await, Ok(1));
    assert_eq!(answer(&other, full).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_last_of_a_step_counts() {
    let (local, timeout) = (on(|ends| ends.local = true), on(|ends| ends.timeout = true));
    let chain = chain().on(local).on(timeout.clone()).answer(1);
    for chain in [chain.clone(), chain.on(timeout)] {
        let late = Fault::Refused(Rejection::AttemptTimeout);
        assert_eq!(answer(&chain, late).await, Ok(1));
        let full = Fault::Refused(Rejection::AtCapacity);
        assert_eq!(answer(&chain, full).await, Err(full));
    }
}
