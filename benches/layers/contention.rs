//! Throughput of threads that share one breaker or one limit.

use std::{sync::Barrier, time::Duration};

use tokio::time::Instant;
use tower::{Layer, Service};
use tower_fanout_layers::{ConcurrencyConfig, ConcurrencyLayer, breaker::Window};
use tower_resilience::circuitbreaker::CircuitBreakerLayer;

use crate::{
    READY, breaker,
    harness::{Options, drive},
    per_key::{KEYS, keyed},
};

const CALLS: u32 = 200_000;

/// Returns how many million calls per second `threads` threads make together, each on a clone of `service`.
fn rate<S>(service: &S, threads: usize, calls: u32) -> f64
where
    S: Service<u64> + Clone + Send,
{
    let start_together = Barrier::new(threads);
    let longest = std::thread::scope(|scope| {
        let spawn = |_| {
            let mut service = service.clone();
            let start_together = &start_together;
            scope.spawn(move || {
                start_together.wait();
                let start = Instant::now();
                for number in 0..calls {
                    drive(&mut service, number.into());
                }
                start.elapsed()
            })
        };
        let running: Vec<_> = (0..threads).map(spawn).collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("no call panics"));
        times.max().unwrap_or_default()
    });
    f64::from(calls) * threads as f64 / longest.as_secs_f64() / 1e6
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Measures one and two threads in turns and prints both rates.
fn compare<S>(name: &str, service: &S, options: &Options)
where
    S: Service<u64> + Clone + Send,
{
    if options.test {
        rate(service, 2, 100);
        return;
    }
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        one.push(rate(service, 1, CALLS));
        two.push(rate(service, 2, CALLS));
    }
    let (one, two) = (median(one), median(two));
    println!("{name:<34} {one:>8.1} {two:>8.1} {:>8.2}", two / one);
}

/// Compares the throughput of two threads with that of one, per layer.
pub(crate) fn run(options: &Options) {
    if !options.test {
        println!(
            "{:<34} {:>8} {:>8} {:>8}",
            "M calls/s", "1 thread", "2", "ratio"
        );
    }
    let time = breaker(Window::Time(Duration::from_secs(10)));
    compare("bare", &READY, options);
    compare("breaker, time window", &time.layer(READY), options);
    compare(
        "breaker, window of 100",
        &breaker(Window::Count(100)).layer(READY),
        options,
    );
    let limit = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    compare("concurrency", &limit.layer(READY), options);
    let any = |_: &u64| fastrand::u64(..KEYS);
    compare("breaker per key, 100,000 keys", &keyed(any), options);
    compare("breaker per key, 1 key", &keyed(|_: &u64| 7), options);
    let peer = CircuitBreakerLayer::builder().build().unwrap();
    compare("tower-resilience breaker", &peer.layer(READY), options);
}
