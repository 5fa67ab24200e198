//! Tests of breakers and limits per key.
#![allow(missing_docs)]

mod common;

use std::{collections::HashMap, future::pending, panic::AssertUnwindSafe, time::Duration};

use common::*;
use futures_util::{FutureExt, poll};
use proptest::prelude::*;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, PerKeyConfig,
    PerKeyLayer, Rejection, WithCall,
    breaker::{Snapshot, State},
};

/// A call: the key in the tens, and the [result](Call) in the ones.
type Keyed<L> = PerKeyLayer<u32, fn(&Request) -> u32, L>;

#[derive(Clone, Copy, Debug)]
enum Call {
    Succeeds,
    Fails,
    Hangs,
}

fn request(key: u32, call: Call) -> Request {
    WithCall::new(key * 10 + call as u32)
}

fn key(request: &Request) -> u32 {
    request.get() / 10
}

async fn respond(request: Request) -> Result<u32, Fault> {
    match request.get() % 10 {
        0 => Ok(1),
        1 => Err(BROKEN),
        _ => pending().await,
    }
}

/// Creates a layer of a service that responds as the request says.
fn keyed<L>(config: PerKeyConfig, template: L) -> Keyed<L> {
    PerKeyLayer::new(config, template, key as fn(&Request) -> u32).unwrap()
}

fn max_keys(max: usize) -> PerKeyConfig {
    PerKeyConfig::new().max_keys(max)
}

/// Creates a breaker that opens for 5 s after 2 failures.
fn breaker() -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new()
        .consecutive_failures(2)
        .open_jitter(0.0);
    BreakerLayer::new("tenants", config, ClassifyResult).unwrap()
}

fn limit(max: u32) -> ConcurrencyLayer {
    ConcurrencyLayer::new(ConcurrencyConfig::new().max(max)).unwrap()
}

async fn send<L>(layer: &L, key: u32, call: Call) -> Result<u32, Fault>
where
    L: Layer<tower::util::ServiceFn<fn(Request) -> Responding>>,
    L::Service: Service<Request, Response = u32, Error = Fault>,
{
    let service: fn(Request) -> Responding = |request| respond(request).boxed();
    layer
        .layer(service_fn(service))
        .oneshot(request(key, call))
        .await
}

type Responding = futures_util::future::BoxFuture<'static, Result<u32, Fault>>;

fn state(layer: &Keyed<BreakerLayer<ClassifyResult>>, key: u32) -> Option<State> {
    layer.get(&key).map(|breaker| breaker.handle().state())
}

fn is_rejected(result: Result<u32, Fault>) -> bool {
    matches!(result, Err(Fault::Refused(_)))
}

/// Opens the breaker of `key`.
async fn open(layer: &Keyed<BreakerLayer<ClassifyResult>>, key: u32) {
    for _ in 0..2 {
        assert_eq!(send(layer, key, Call::Fails).await, Err(BROKEN));
    }
}

#[tokio::test(start_paused = true)]
async fn key_01_all_services_of_a_layer_share_the_state_of_a_key() {
    let layer = keyed(PerKeyConfig::new(), breaker());
    // `send` makes a service for each call.
    open(&layer, 7).await;
    assert!(is_rejected(send(&layer.clone(), 7, Call::Succeeds).await));
    assert_eq!((layer.keys(), layer.stats().keys), (vec![7], 1));
    assert_eq!(state(&layer, 8), None);
}

#[tokio::test(start_paused = true)]
async fn key_02_a_breaker_that_opens_rejects_only_the_calls_of_its_key() {
    let layer = keyed(PerKeyConfig::new(), breaker());
    open(&layer, 7).await;
    assert_eq!(send(&layer, 8, Call::Succeeds).await, Ok(1));
    assert!(is_rejected(send(&layer, 7, Call::Succeeds).await));
    assert_eq!(state(&layer, 7), Some(State::Open));
    assert_eq!(state(&layer, 8), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn key_02_a_full_limit_rejects_only_the_calls_of_its_key() {
    let layer = keyed(PerKeyConfig::new(), limit(1));
    let mut running = send(&layer, 7, Call::Hangs).boxed();
    assert!(poll!(&mut running).is_pending());
    let full = Err(Fault::Refused(Rejection::AtCapacity));
    assert_eq!(send(&layer, 7, Call::Succeeds).await, full);
    assert_eq!(send(&layer, 8, Call::Succeeds).await, Ok(1));
    drop(running);
    assert_eq!(send(&layer, 7, Call::Succeeds).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn key_03_an_open_breaker_is_never_evicted() {
    let layer = keyed(max_keys(3), breaker());
    open(&layer, 7).await;
    for key in 100..1_000 {
        send(&layer, key, Call::Succeeds).await.unwrap();
        assert!(layer.stats().keys <= 3);
    }
    assert!(is_rejected(send(&layer, 7, Call::Succeeds).await));
    assert_eq!(layer.stats().overflows, 0);
}

#[tokio::test(start_paused = true)]
async fn key_03_a_breaker_that_was_set_by_hand_is_never_evicted() {
    let layer = keyed(max_keys(4), breaker());
    for key in 1..=3 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    let handle = |key| layer.get(&key).unwrap().handle().clone();
    let guard = handle(1).force_open();
    handle(2).disable();
    handle(3).shadow_mode();
    for round in 0..10 {
        advance(Duration::from_secs(3600)).await;
        for key in 0..100 {
            let _ = send(&layer, 100 + 100 * round + key, Call::Succeeds).await;
        }
    }
    assert_eq!(state(&layer, 1), Some(State::ForcedOpen));
    assert_eq!(state(&layer, 2), Some(State::Disabled));
    assert_eq!(state(&layer, 3), Some(State::Shadow));
    drop(guard);
    assert_eq!(state(&layer, 1), Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn key_05_the_state_of_a_running_call_is_never_evicted() {
    let (breakers, limits) = (keyed(max_keys(2), breaker()), keyed(max_keys(2), limit(1)));
    let mut running = (
        send(&breakers, 7, Call::Hangs).boxed(),
        send(&limits, 7, Call::Hangs).boxed(),
    );
    assert!(poll!(&mut running.0).is_pending() && poll!(&mut running.1).is_pending());
    for key in 100..200 {
        advance(Duration::from_secs(3600)).await;
        send(&breakers, key, Call::Succeeds).await.unwrap();
        send(&limits, key, Call::Succeeds).await.unwrap();
    }
    assert!(breakers.get(&7).is_some() && limits.get(&7).unwrap().in_flight() == 1);
    drop(running);
    assert_eq!(limits.get(&7).unwrap().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn key_05_a_limit_that_was_set_by_hand_is_never_evicted() {
    let layer = keyed(max_keys(2), limit(1));
    send(&layer, 7, Call::Succeeds).await.unwrap();
    layer.get(&7).unwrap().set_limit(5);
    for key in 100..200 {
        advance(Duration::from_secs(3600)).await;
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    assert_eq!(layer.get(&7).unwrap().limit(), 5);
}

#[tokio::test(start_paused = true)]
async fn key_05_a_key_keeps_its_entry_while_a_handle_exists() {
    let layer = keyed(max_keys(2), breaker());
    send(&layer, 7, Call::Succeeds).await.unwrap();
    let handle = layer.get(&7).unwrap().handle().clone();
    for key in 100..200 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    let _guard = handle.force_open();
    assert!(is_rejected(send(&layer, 7, Call::Succeeds).await));
}

#[tokio::test(start_paused = true)]
async fn key_06_keys_that_come_once_leave_before_keys_that_come_again() {
    let layer = keyed(max_keys(8), breaker());
    for round in 0..100 {
        for key in [1, 2] {
            send(&layer, key, Call::Succeeds).await.unwrap();
        }
        send(&layer, 100 + round, Call::Succeeds).await.unwrap();
    }
    // The two keys lost nothing, although 100 other keys came between.
    for key in [1, 2] {
        assert_eq!(layer.get(&key).unwrap().handle().snapshot().calls, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn key_06_an_entry_without_counts_leaves_first() {
    let layer = keyed(max_keys(3), breaker());
    send(&layer, 1, Call::Succeeds).await.unwrap();
    advance(Duration::from_secs(60)).await;
    // The window of the first key is empty now.
    send(&layer, 2, Call::Fails).await.unwrap_err();
    send(&layer, 3, Call::Succeeds).await.unwrap();
    send(&layer, 4, Call::Succeeds).await.unwrap();
    let mut keys = layer.keys();
    keys.sort_unstable();
    assert_eq!(keys, [2, 3, 4]);
    assert_eq!((layer.stats().evicted, layer.stats().forgotten), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn key_07_counts_are_lost_before_a_key_has_no_state() {
    let layer = keyed(max_keys(2), breaker());
    for key in 1..=10 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    let stats = layer.stats();
    assert_eq!((stats.keys, stats.evicted, stats.forgotten), (2, 8, 8));
    assert_eq!(stats.overflows, 0);
    assert!(layer.get(&10).is_some());
}

#[tokio::test(start_paused = true)]
async fn key_08_calls_without_room_share_the_state_of_the_template() {
    let layer = keyed(max_keys(2), breaker());
    open(&layer, 1).await;
    open(&layer, 2).await;
    assert_eq!(send(&layer, 3, Call::Fails).await, Err(BROKEN));
    assert_eq!(send(&layer, 4, Call::Fails).await, Err(BROKEN));
    assert_eq!(layer.overflow().handle().state(), State::Open);
    assert!(is_rejected(send(&layer, 5, Call::Succeeds).await));
    assert_eq!((layer.stats().overflows, layer.stats().keys), (3, 2));
    // The keys with an entry are not affected, and the next probe of each is its own.
    advance(Duration::from_secs(5)).await;
    assert_eq!(send(&layer, 1, Call::Succeeds).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn key_08_calls_without_room_share_one_limit() {
    let layer = keyed(max_keys(1), limit(1));
    let mut first = send(&layer, 1, Call::Hangs).boxed();
    let mut second = send(&layer, 2, Call::Hangs).boxed();
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    assert_eq!(layer.overflow().in_flight(), 1);
    assert!(is_rejected(send(&layer, 3, Call::Succeeds).await));
    drop((first, second));
    assert_eq!(send(&layer, 3, Call::Succeeds).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn key_09_idle_entries_leave_when_new_keys_arrive() {
    let idle_after = Duration::from_secs(60);
    let layer = keyed(max_keys(127).idle_after(idle_after), breaker());
    for key in 1..=50 {
        send(&layer, key, Call::Fails).await.unwrap_err();
    }
    advance(idle_after - ms(1)).await;
    send(&layer, 50, Call::Succeeds).await.unwrap();
    for key in 100..130 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    assert_eq!(layer.stats().evicted, 0);
    advance(idle_after / 2).await;
    for key in 130..220 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    assert!((1..50).all(|key| layer.get(&key).is_none()));
    assert!(layer.get(&50).is_some() && layer.get(&100).is_some());
    assert_eq!((layer.stats().evicted, layer.stats().forgotten), (49, 0));
}

#[tokio::test(start_paused = true)]
async fn key_09_a_breaker_whose_open_time_is_over_stays_until_idle() {
    let layer = keyed(max_keys(2), breaker());
    open(&layer, 1).await;
    advance(Duration::from_secs(6)).await;
    let others = |from: u32| {
        let layer = &layer;
        async move {
            for key in from..from + 20 {
                send(layer, key, Call::Succeeds).await.unwrap();
            }
        }
    };
    others(100).await;
    assert_eq!(state(&layer, 1), Some(State::Open));
    // A probe that is dropped leaves the breaker half-open.
    let mut probe = send(&layer, 1, Call::Hangs).boxed();
    assert!(poll!(&mut probe).is_pending());
    drop(probe);
    others(200).await;
    assert_eq!(state(&layer, 1), Some(State::HalfOpen));
    advance(Duration::from_secs(600)).await;
    others(300).await;
    assert_eq!(state(&layer, 1), None);
}

#[tokio::test(start_paused = true)]
async fn key_09_a_breaker_is_not_idle_while_its_open_time_runs() {
    let layer = keyed(max_keys(10), breaker());
    send(&layer, 1, Call::Succeeds).await.unwrap();
    layer
        .get(&1)
        .unwrap()
        .handle()
        .open_for(Duration::from_secs(7200));
    advance(Duration::from_secs(7000)).await;
    for key in 100..200 {
        send(&layer, key, Call::Succeeds).await.unwrap();
    }
    assert!(is_rejected(send(&layer, 1, Call::Succeeds).await));
}

#[tokio::test(start_paused = true)]
async fn key_11_a_key_can_have_a_template_of_its_own() {
    let (small, large) = (limit(1), limit(3));
    let layer =
        keyed(PerKeyConfig::new(), small.clone()).template_for(move |tenant| match tenant {
            7 => large.clone(),
            _ => small.clone(),
        });
    for (key, limit) in [(7, 3), (8, 1), (9, 1)] {
        send(&layer, key, Call::Succeeds).await.unwrap();
        assert_eq!(layer.get(&key).unwrap().limit(), limit);
    }
    // Keys with the same template do not share its state.
    let mut running = send(&layer, 8, Call::Hangs).boxed();
    assert!(poll!(&mut running).is_pending());
    assert_eq!(send(&layer, 9, Call::Succeeds).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn key_11_limits_of_keys_check_the_breaker_of_their_template() {
    let shared = breaker();
    let layer = keyed(
        PerKeyConfig::new(),
        limit(5).breaker(shared.handle().clone()),
    );
    send(&layer, 1, Call::Succeeds).await.unwrap();
    let _guard = shared.handle().force_open();
    assert!(is_rejected(send(&layer, 1, Call::Succeeds).await));
}

#[test]
fn key_13_a_number_of_keys_out_of_range_is_an_error() {
    let config = PerKeyConfig::new().max_keys(0);
    let error = PerKeyLayer::new(config, limit(1), |_: &Request| 7).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PerKeyConfig.max_keys: must be within 1 to 10000000, got 0"
    );
}

#[tokio::test(start_paused = true)]
async fn key_04_a_template_function_that_panics_takes_no_place() {
    let template = breaker();
    let layer = keyed(max_keys(1), breaker()).template_for(move |tenant| match tenant {
        7 => panic!("tenant 7 has no configuration"),
        _ => template.clone(),
    });
    let call = AssertUnwindSafe(send(&layer, 7, Call::Succeeds)).catch_unwind();
    assert!(call.await.is_err());
    assert_eq!(layer.stats().keys, 0);
    send(&layer, 8, Call::Succeeds).await.unwrap();
    assert_eq!(layer.keys(), [8]);
}

#[test]
fn key_04_threads_never_exceed_the_number_of_keys() {
    let layer = keyed(max_keys(100), breaker());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .unwrap();
    let calls = |seed: u32| {
        let layer = layer.clone();
        async move {
            for number in 0..1_000_u32 {
                let key = number.wrapping_mul(7919).wrapping_add(seed) % 1_000;
                let call = if key < 20 {
                    Call::Fails
                } else {
                    Call::Succeeds
                };
                let _ = send(&layer, key, call).await;
                assert!(layer.stats().keys <= 100 && layer.keys().len() <= 100);
            }
        }
    };
    runtime.block_on(async {
        let running: Vec<_> = (0..4).map(|seed| tokio::spawn(calls(seed * 13))).collect();
        for calls in running {
            calls.await.unwrap();
        }
    });
    // All tasks have ended, so the numbers agree.
    assert_eq!(layer.stats().keys, layer.keys().len());
    let stats = layer.stats();
    assert!(stats.evicted > 0 && stats.forgotten <= stats.evicted);
}

#[tokio::test(start_paused = true)]
async fn key_14_the_memory_of_endless_keys_is_bounded() {
    const KEYS: u32 = 1_000;
    let pass = |layer: &Keyed<BreakerLayer<ClassifyResult>>, from, to| {
        let calls = || {
            for key in from..to {
                send(layer, key, Call::Succeeds)
                    .now_or_never()
                    .unwrap()
                    .unwrap();
            }
        };
        allocation_counter::measure(calls).bytes_current
    };
    let layer = keyed(max_keys(KEYS as usize), breaker());
    let full = pass(&layer, 0, KEYS);
    assert!(full / i64::from(KEYS) < 1_536, "{full} bytes");
    let more = pass(&layer, KEYS, 20 * KEYS);
    // The tables of the shards may still grow once.
    assert!(more < full / 5, "{more} bytes more than {full}");
    assert_eq!(layer.stats().keys, KEYS as usize);
}

// === random histories against one plain breaker per key ===

#[derive(Clone, Copy, Debug)]
enum Op {
    Call(u32, Call),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let call = prop_oneof![Just(Call::Succeeds), Just(Call::Fails)];
    prop_oneof![
        4 => (0_u32..8, call).prop_map(|(key, call)| Op::Call(key, call)),
        1 => (0_u64..8_000).prop_map(Op::Pass),
        1 => Just(Op::Pass(100_000)),
    ]
}

/// The breaker that a key must have, and the time of its last call.
struct Model {
    breaker: BreakerLayer<ClassifyResult>,
    last_call: Instant,
}

const IDLE_AFTER: Duration = Duration::from_secs(90);

impl Model {
    fn new() -> Self {
        Self {
            breaker: breaker(),
            last_call: Instant::now(),
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.breaker.handle().snapshot()
    }

    fn is_idle(&self) -> bool {
        self.last_call.elapsed() >= IDLE_AFTER
    }

    /// Returns `true` if the entry of this breaker must not be evicted.
    fn must_stay(&self) -> bool {
        let snapshot = self.snapshot();
        let is_open = snapshot.open_remaining.is_some_and(|left| !left.is_zero());
        is_open || snapshot.state != State::Closed && !self.is_idle()
    }
}

/// Sends the calls through the layer, and each also through the breaker of the model.
async fn agrees_with_the_model(max: usize, ops: Vec<Op>) {
    let layer = keyed(max_keys(max).idle_after(IDLE_AFTER), breaker());
    let (mut models, mut overflow) = (HashMap::<u32, Model>::new(), Model::new());
    for op in ops {
        let (key, call) = match op {
            Op::Pass(time) => {
                advance(ms(time)).await;
                continue;
            }
            Op::Call(key, call) => (key, call),
        };
        let was_full = models.len() == max;
        let result = send(&layer, key, call).await;
        let keys = layer.keys();
        assert!(keys.len() <= max && layer.stats().keys == keys.len());
        if keys.contains(&key) {
            let model = models.entry(key).or_insert_with(Model::new);
            assert_eq!(send(&model.breaker, key, call).await, result);
            model.last_call = Instant::now();
        } else {
            let is_closed = |model: &Model| model.snapshot().state == State::Closed;
            let may_stay = !models.values().any(is_closed);
            assert!(was_full && may_stay, "there was room for key {key}");
            assert_eq!(send(&overflow.breaker, key, call).await, result);
            overflow.last_call = Instant::now();
        }
        models.retain(|evicted, model| {
            let stays = keys.contains(evicted);
            assert!(stays || !model.must_stay(), "key {evicted} was evicted");
            assert!(stays || was_full || model.is_idle(), "there was room");
            stays
        });
        assert_eq!(models.len(), keys.len());
        for (key, model) in &models {
            let breaker = layer.get(key).unwrap();
            assert_eq!(breaker.handle().snapshot(), model.snapshot(), "key {key}");
        }
        let shared = layer.overflow().handle().snapshot();
        assert_eq!(shared.calls, overflow.snapshot().calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn key_10_each_key_behaves_as_a_breaker_of_its_own(
        max in 1_usize..6,
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(agrees_with_the_model(max, ops));
    }
}
