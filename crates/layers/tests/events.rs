//! Tests of the places that hear events: sinks of layers, `EventsLayer`, and receivers of calls.
#![allow(missing_docs)]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use common::*;
use futures_util::{FutureExt, future::join_all, poll};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_fanout_layers::{
    BoxError, BreakerConfig, BreakerLayer, CallContext, Class, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, DeadlineLayer, Event, EventSink, EventsLayer, Failure, FallbackLayer,
    HedgeConfig, HedgeLayer, PerKeyConfig, PerKeyLayer, Rejection, RetryConfig, RetryLayer,
    ThrottleConfig, ThrottleLayer, TimeoutLayer, WithCall,
    breaker::{OpenReason, State},
    event::{FallbackKind, RetryStopReason},
    hedge::HedgeDelay,
};
use tower_fanout_testkit::script::ScriptedService;

/// A request that carries no metadata.
#[derive(Clone)]
struct Plain;
impl CallContext for Plain {}

const CALLS: usize = 3;

fn scripted<Req>() -> ScriptedService<Req, u32, Fault> {
    ScriptedService::new()
}

/// Makes three calls side by side.
async fn calls<Req: Clone>(
    service: impl Service<Req, Response = u32, Error = Fault> + Clone,
    request: Req,
) {
    let calls = (0..CALLS).map(|_| service.clone().oneshot(request.clone()));
    join_all(calls).await;
}

/// Makes calls with plain requests and with requests that have a receiver. Returns the events that the
/// sink of the layer heard, which must be the same in both cases, and those of the receiver.
macro_rules! heard {
    (|$sink:ident| $layer:expr, $inner:expr) => {{
        let $sink = EventRecorder::default();
        calls($layer.layer($inner), Plain).await;
        let plain = $sink.recorded();
        let ($sink, own) = (EventRecorder::default(), EventRecorder::default());
        let request = idempotent_request().events(own.events());
        calls($layer.layer($inner), request).await;
        assert_eq!($sink.recorded(), plain);
        assert_eq!(own.recorded(), plain);
        plain
    }};
}

fn breaker() -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new()
        .consecutive_failures(1)
        .half_open_probes(1)
        .open_jitter(0.0);
    BreakerLayer::new("users", config, ClassifyResult).unwrap()
}

fn changed(from: State, to: State, reason: Option<OpenReason>, by_hand: bool) -> Event {
    Event::BreakerChanged {
        from,
        to,
        reason,
        by_hand,
    }
}

#[tokio::test(start_paused = true)]
async fn ev_01_a_sink_hears_the_rejections_of_its_layer() {
    let deadline = heard!(
        |sink| DeadlineLayer::new(ms(50)).unwrap().events(sink.clone()),
        scripted().hang()
    );
    assert_eq!(deadline, [Event::Rejected(Rejection::Deadline); CALLS]);
    let timeout = heard!(
        |sink| TimeoutLayer::new(ms(50)).unwrap().events(sink.clone()),
        scripted().hang()
    );
    assert_eq!(timeout, [Event::Rejected(Rejection::AttemptTimeout); CALLS]);
    let limit = ConcurrencyConfig::new()
        .max(1_u32)
        .queue(1_u32)
        .max_wait(ms(30));
    let limit = heard!(
        |sink| ConcurrencyLayer::new(limit.clone())
            .unwrap()
            .classify(ClassifyResult)
            .events(sink.clone()),
        scripted().respond(1).after(ms(20))
    );
    let acquired = |waited| Event::PermitAcquired { waited: ms(waited) };
    let rejected = Event::Rejected(Rejection::AtCapacity);
    assert_eq!(limit, [acquired(0), Event::Queued, rejected, acquired(20)]);
    let throttled = |_: Result<&u32, &Fault>, _| Class::Throttled { retry_after: None };
    let certain = ThrottleConfig::new().max(1.0);
    let sink = EventRecorder::default();
    let layer = ThrottleLayer::new(certain, throttled).unwrap();
    let service = layer.events(sink.clone()).layer(scripted().respond(1));
    while sink.recorded().is_empty() {
        let _ = service.clone().oneshot(Plain).await;
    }
    assert_eq!(
        sink.recorded(),
        [Event::Rejected(Rejection::ClientThrottled)]
    );
}

#[tokio::test(start_paused = true)]
async fn ev_01_a_sink_hears_the_attempts_of_its_layer() {
    let config = RetryConfig::new().max_attempts(2).idempotent(true);
    let events = heard!(
        |sink| RetryLayer::new(config.clone(), ClassifyResult)
            .unwrap()
            .seed(7)
            .events(sink.clone()),
        scripted().fail(BROKEN)
    );
    let stopped = Event::RetryStopped {
        by: RetryStopReason::Attempts,
    };
    let count =
        |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(
        count(&|event| *event == Event::Attempt { number: 2 }),
        CALLS
    );
    assert_eq!(
        count(&|event| matches!(event, Event::Backoff { .. })),
        CALLS
    );
    assert_eq!(count(&|event| *event == stopped), CALLS);
    let config = HedgeConfig::new()
        .delay(HedgeDelay::Fixed(ms(10)))
        .idempotent(true);
    let events = heard!(
        |sink| HedgeLayer::new(config.clone(), ClassifyResult)
            .unwrap()
            .events(sink.clone()),
        scripted().respond(1).after(ms(50))
    );
    assert!(events.contains(&Event::Hedge { number: 2 }));
    let ended = events.iter();
    let ended = ended.filter(|event| matches!(event, Event::AttemptEnded { .. }));
    assert!(ended.count() > CALLS, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn ev_01_a_sink_hears_the_fallbacks_of_its_layer() {
    let events = heard!(
        |sink| FallbackLayer::new(ClassifyResult)
            .function(|_, _| async { Err(UNREACHED) })
            .response(7)
            .events(sink.clone()),
        scripted().fail(BROKEN)
    );
    let class = Class::Failure(Failure::Connect);
    let each = [
        Event::FallbackStarted {
            step: 0,
            kind: FallbackKind::Function,
        },
        Event::FallbackFailed { step: 0, class },
        Event::FallbackUsed {
            step: 1,
            kind: FallbackKind::Static,
        },
    ];
    assert_eq!(events, [each; CALLS].concat());
}

#[cfg(feature = "chaos")]
#[tokio::test(start_paused = true)]
async fn ev_01_a_sink_hears_the_faults_of_its_layer() {
    use tower_fanout_layers::chaos::{ChaosConfig, ChaosLayer, Injected, Injection, Rule};

    let rule = Rule::new(1.0, Injection::Error(Failure::ConnectionReset));
    let config = ChaosConfig::new().enabled(true).rules(vec![rule]);
    let events = heard!(
        |sink| ChaosLayer::new(config.clone(), |_: Injected<u32>| Err(BROKEN))
            .unwrap()
            .events(sink.clone()),
        scripted().respond(1)
    );
    assert_eq!(events, [Event::Chaos; CALLS]);
}

#[tokio::test(start_paused = true)]
async fn ev_02_a_sink_of_a_breaker_hears_changes_by_hand() {
    use State::{Closed, Disabled, ForcedOpen, Open, Shadow};

    let sink = EventRecorder::default();
    let layer = breaker().events(sink.clone());
    let handle = layer.handle();
    handle.reset(); // changes nothing
    drop(handle.force_open());
    handle.disable();
    handle.shadow_mode();
    handle.reset();
    handle.open_for(ms(1_000));
    handle.open_for(ms(2_000)); // open already
    let manual = Some(OpenReason::Manual);
    let expected = [
        changed(Closed, ForcedOpen, manual, true),
        changed(ForcedOpen, Closed, None, true),
        changed(Closed, Disabled, None, true),
        changed(Disabled, Shadow, None, true),
        changed(Shadow, Closed, None, true),
        changed(Closed, Open, manual, true),
    ];
    assert_eq!(sink.recorded(), expected);
}

#[tokio::test(start_paused = true)]
async fn ev_03_a_sink_of_a_breaker_hears_all_layers_that_share_it() {
    let (layer, sink, own) = (
        breaker(),
        EventRecorder::default(),
        EventRecorder::default(),
    );
    // The service exists before the sink.
    let service = layer.layer(script().fail(BROKEN).respond(1));
    let late = service.clone().oneshot(idempotent_request());
    let other = BreakerLayer::shared(layer.handle().clone(), ClassifyResult).events(sink.clone());
    late.await.unwrap_err();
    let request = idempotent_request().events(own.events());
    let rejection = Rejection::CircuitOpen {
        retry_after: Some(ms(5_000)),
    };
    let result = other.layer(script().respond(1)).oneshot(request).await;
    assert_eq!(result, Err(Fault::Refused(rejection)));
    let reason = Some(OpenReason::Consecutive);
    let opened = changed(State::Closed, State::Open, reason, false);
    assert_eq!(sink.recorded(), [opened, Event::Rejected(rejection)]);
    assert_eq!(own.recorded(), [Event::Rejected(rejection)]);
    tokio::time::sleep(ms(6_000)).await;
    assert_eq!(service.oneshot(idempotent_request()).await, Ok(1));
    let probe = changed(State::Open, State::HalfOpen, None, false);
    let closed = changed(State::HalfOpen, State::Closed, None, false);
    assert_eq!(sink.recorded()[2..], [probe, closed]);
}

#[tokio::test(start_paused = true)]
async fn ev_03_a_sink_of_a_breaker_hears_shadow_mode_and_late_results() {
    let sink = EventRecorder::default();
    let layer = breaker().events(sink.clone());
    layer.handle().shadow_mode();
    let service = layer.layer(script().fail(BROKEN).hang());
    service
        .clone()
        .oneshot(idempotent_request())
        .await
        .unwrap_err();
    let mut late = service.oneshot(idempotent_request()).boxed();
    assert!(poll!(&mut late).is_pending());
    layer.handle().reset();
    drop(late);
    let heard = sink.recorded();
    assert_eq!(heard[1], Event::BreakerWouldOpen);
    assert_eq!(heard[3..], [Event::LateResult]);
}

/// A stack with a retry above `sink` and a timeout below.
fn stack<Req>(
    sink: EventsLayer,
    inner: ScriptedService<Req, u32, Fault>,
) -> impl Service<Req, Response = u32, Error = Fault> + Clone
where
    Req: CallContext + Clone + Send + 'static,
{
    let config = RetryConfig::new().max_attempts(2).idempotent(true);
    ServiceBuilder::new()
        .layer(RetryLayer::new(config, ClassifyResult).unwrap())
        .layer(sink)
        .layer(breaker())
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .service(inner)
}

#[tokio::test(start_paused = true)]
async fn ev_04_an_events_layer_gives_its_sink_to_the_layers_below() {
    let sink = EventRecorder::default();
    let service = stack(EventsLayer::new(sink.clone()), script().hang());
    service.oneshot(idempotent_request()).await.unwrap_err();
    let reason = Some(OpenReason::Consecutive);
    let expected = [
        Event::Rejected(Rejection::AttemptTimeout),
        changed(State::Closed, State::Open, reason, false),
    ];
    // The retry is above. Its second attempt is the one that the breaker rejects.
    assert_eq!(sink.recorded()[..2], expected);
    assert_eq!(sink.recorded().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn ev_05_an_events_layer_keeps_the_receivers_of_the_call() {
    let [own, outer, middle, inner] = [(); 4].map(|()| EventRecorder::default());
    let service = ServiceBuilder::new()
        .layer(EventsLayer::new(outer.clone()))
        .layer(EventsLayer::new(middle.clone()))
        .layer(TimeoutLayer::new(ms(100)).unwrap())
        .layer(EventsLayer::new(inner.clone()))
        .layer(TimeoutLayer::new(ms(50)).unwrap())
        .service(script().hang());
    let request = idempotent_request().events(own.events());
    service.oneshot(request).await.unwrap_err();
    let expected = [Event::Rejected(Rejection::AttemptTimeout)];
    for sink in [own, outer, middle, inner] {
        assert_eq!(sink.recorded(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn ev_06_an_events_layer_has_no_effect_on_plain_requests() {
    let (sink, layer_sink) = (EventRecorder::default(), EventRecorder::default());
    let service = ServiceBuilder::new()
        .layer(EventsLayer::new(sink.clone()))
        .layer(
            TimeoutLayer::new(ms(50))
                .unwrap()
                .events(layer_sink.clone()),
        )
        .service(ScriptedService::<Plain, u32, Fault>::new().hang());
    service.oneshot(Plain).await.unwrap_err();
    let expected = [Event::Rejected(Rejection::AttemptTimeout)];
    assert_eq!(
        (sink.recorded(), layer_sink.recorded()),
        (vec![], expected.to_vec())
    );
}

#[tokio::test(start_paused = true)]
async fn ev_07_sinks_hear_events_in_the_order_of_registration() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = |name: &'static str| {
        let heard = heard.clone();
        move |_: Event| heard.lock().unwrap().push(name)
    };
    let layer = TimeoutLayer::new(ms(50)).unwrap();
    let service = layer
        .events(sink("first"))
        .events(sink("second"))
        .events(sink("third"))
        .layer(script().hang());
    let request = idempotent_request().events(sink("call"));
    service.oneshot(request).await.unwrap_err();
    assert_eq!(*heard.lock().unwrap(), ["first", "second", "third", "call"]);
    heard.lock().unwrap().clear();
    let layer = breaker().events(sink("first")).events(sink("second"));
    layer.handle().disable();
    assert_eq!(*heard.lock().unwrap(), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn ev_08_a_panic_of_a_sink_reaches_neither_the_call_nor_other_sinks() {
    let panics = |_: Event| panic!("on purpose");
    let (sink, own) = (EventRecorder::default(), EventRecorder::default());
    let layer = breaker().events(panics).events(sink.clone());
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let service = ServiceBuilder::new()
        .layer(EventsLayer::new(own.clone()))
        .layer(limit.events(panics).events(sink.clone()))
        .layer(layer.clone())
        .service(script().fail(BROKEN));
    let request = idempotent_request().events(panics);
    assert_eq!(service.oneshot(request).await, Err(BROKEN));
    layer.handle().reset();
    assert_eq!(own.recorded().len(), 2);
    assert_eq!(sink.recorded().len(), 3);
}

/// A sink that counts the errors that a fallback replaces.
#[derive(Default)]
struct Replaced(AtomicU32);

impl EventSink for Replaced {
    fn on(&self, _: Event) {}

    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        assert_eq!(error().to_string(), Failure::ConnectionReset.to_string());
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn ev_10_each_receiver_gets_the_error_that_a_fallback_replaces() {
    let sinks = [(); 4].map(|()| Arc::new(Replaced::default()));
    let [own, stack, first, second] = sinks.clone();
    let layer = FallbackLayer::new(ClassifyResult).response(7);
    let service = ServiceBuilder::new()
        .layer(EventsLayer::new(stack))
        .layer(layer.events(first).events(second))
        .service(script().fail(BROKEN));
    let request = idempotent_request().events(own);
    assert_eq!(service.oneshot(request).await, Ok(7));
    assert_eq!(sinks.map(|sink| sink.0.load(Ordering::Relaxed)), [1; 4]);
}

#[tokio::test(start_paused = true)]
async fn ev_14_the_states_of_all_keys_report_to_the_sinks_of_the_template() {
    let sink = EventRecorder::default();
    let key = |request: &Request| *request.get();
    let layer = PerKeyLayer::new(PerKeyConfig::new(), breaker().events(sink.clone()), key).unwrap();
    let service = layer.layer(script().fail(BROKEN));
    for tenant in [1, 2] {
        let request = WithCall::new(tenant);
        service.clone().oneshot(request).await.unwrap_err();
    }
    let reason = Some(OpenReason::Consecutive);
    let opened = changed(State::Closed, State::Open, reason, false);
    assert_eq!(sink.recorded(), [opened, opened]);
    layer.get(&1).unwrap().handle().reset();
    let closed = changed(State::Open, State::Closed, None, true);
    assert_eq!(sink.recorded()[2..], [closed]);

    let sink = EventRecorder::default();
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let limit = limit.events(sink.clone());
    let layer = PerKeyLayer::new(PerKeyConfig::new(), limit, key).unwrap();
    let service = layer.layer(script().respond(1));
    service.oneshot(idempotent_request()).await.unwrap();
    let waited = ms(0);
    assert_eq!(sink.recorded(), [Event::PermitAcquired { waited }]);
}
