//! Costs of a breaker per key: time per call, memory, and threads that share the map.

use futures_util::FutureExt;
use tokio::time::Instant;
use tower::{Layer, Service};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, PerKeyConfig, PerKeyLayer, WithCall,
};

use crate::{
    Answer, Ask, READY, Refused, ask,
    harness::{Case, Options, drive},
};

/// Number of keys that the map has room for.
pub(crate) const KEYS: u64 = 100_000;

fn breaker() -> BreakerLayer<ClassifyResult> {
    BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap()
}

/// Returns a service with a breaker per key, which `key` computes from the request.
pub(crate) fn keyed<Req>(
    key: impl Fn(&Req) -> u64 + Clone,
) -> impl Service<Req, Response = u64, Error = Refused> + Clone
where
    Req: tower_fanout_layers::CallContext,
{
    let config = PerKeyConfig::new().max_keys(KEYS as usize);
    let layer = PerKeyLayer::new(config, breaker(), key).unwrap();
    layer.layer(READY)
}

fn number(request: &Ask) -> u64 {
    *request.get()
}

/// Returns requests with the keys below `keys`, each key once before the first comes again.
fn in_turn(keys: u64) -> impl FnMut() -> Ask {
    let mut key = 0;
    move || {
        // Coprime with the numbers of keys here. Far steps make each key a miss of the processor's cache.
        key = (key + 61_803) % keys;
        WithCall::new(key).idempotent()
    }
}

/// A service per key without a map.
struct Plain(Vec<tower_fanout_layers::breaker::Breaker<Answer, ClassifyResult>>);

impl Plain {
    fn call(&mut self, request: Ask) {
        drive(&mut self.0[*request.get() as usize], request);
    }
}

pub(crate) fn cases(cases: &mut Vec<Case>) {
    let base = cases.len();
    let mut few = in_turn(100);
    let mut few_plain = Plain((0..100).map(|_| breaker().layer(READY)).collect());
    let mut many = in_turn(KEYS);
    let mut many_plain = Plain((0..KEYS).map(|_| breaker().layer(READY)).collect());
    cases.extend([
        Case::new("breaker", breaker().layer(READY), ask),
        Case::new("breaker per key, 1 key", known(1), ask).over(base, 60.0),
        Case::of("100 breakers", move || few_plain.call(few())),
        Case::new("breaker per key, 100 keys", known(100), in_turn(100)).over(base + 2, 60.0),
        Case::of("100,000 breakers", move || many_plain.call(many())),
        Case::new("breaker per key, 100,000 keys", known(KEYS), in_turn(KEYS)).over(base + 4, 60.0),
    ]);
}

/// Returns a service that knows the keys below `keys`.
fn known(keys: u64) -> impl Service<Ask, Response = u64, Error = Refused> {
    let mut service = keyed(number);
    for key in 0..keys {
        // Not `drive`, which a profiler collects.
        let call = service.call(WithCall::new(key));
        call.now_or_never()
            .expect("the service is ready")
            .expect("no call fails");
    }
    service
}

/// Prints the memory and the time of new keys of a map for 100,000 keys, through which 1,000,000 keys pass.
pub(crate) fn memory(options: &Options) {
    let keys = if options.test { 1_000 } else { 10 * KEYS };
    let mut service = keyed(number);
    let mut pass = |from, to| {
        allocation_counter::measure(|| {
            (from..to).for_each(|key| drive(&mut service, WithCall::new(key)));
        })
    };
    let first = pass(0, keys / 10);
    let start = Instant::now();
    let rest = pass(keys / 10, keys);
    let time = start.elapsed() / (keys - keys / 10) as u32;
    if !options.test {
        println!(
            "{} MB for the first {KEYS} keys, {} MB more after {keys} keys, {time:?} per new key",
            first.bytes_current / 1_000_000,
            rest.bytes_current / 1_000_000,
        );
    }
}
