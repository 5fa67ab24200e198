//! Unit tests of the limiter.

use super::*;
use crate::concurrency::adaptive::AdaptiveConfig;

fn limiter(max: u32, queue: u32) -> Arc<Limiter> {
    let config = ConcurrencyConfig {
        max,
        queue,
        ..ConcurrencyConfig::default()
    };
    Arc::new(Limiter::new(&config))
}

fn try_enqueue(limiter: &Arc<Limiter>, level: u8, now: Instant) -> Result<Waiter, Rejection> {
    let priority = Priority::new(level).unwrap();
    match limiter.acquire(priority, None, Waker::noop(), now)? {
        Admission::Queued(waiter) => Ok(waiter),
        Admission::Granted(_) => panic!("the call should have queued, but a permit was free"),
    }
}

fn enqueue(limiter: &Arc<Limiter>, level: u8) -> Waiter {
    try_enqueue(limiter, level, Instant::now()).expect("the queue should have room")
}

fn poll_permit(waiter: &mut Waiter) -> Option<Permit> {
    match waiter.poll(Waker::noop()) {
        Poll::Ready(permit) => Some(permit.expect("the waiter should not be evicted")),
        Poll::Pending => None,
    }
}

#[test]
fn cl_03_a_dropped_waiter_frees_its_place_at_once() {
    let limiter = limiter(1, 1);
    let _running = limiter.try_acquire().unwrap();
    let waiter = enqueue(&limiter, 0);
    let rejected = try_enqueue(&limiter, 0, Instant::now());
    assert_eq!(rejected.err(), Some(Rejection::AtCapacity));
    drop(waiter);
    assert_eq!(limiter.queued(), 0);
    drop(enqueue(&limiter, 0));
}

#[test]
fn cl_04_a_permit_granted_to_a_dropped_waiter_goes_to_the_next() {
    let limiter = limiter(1, 2);
    let running = limiter.try_acquire().unwrap();
    let first = enqueue(&limiter, 0);
    let mut second = enqueue(&limiter, 0);
    drop(running);
    assert!(poll_permit(&mut second).is_none());
    drop(first);
    let permit = poll_permit(&mut second).expect("the permit should go to the next waiter");
    assert_eq!((limiter.in_flight(), limiter.queued()), (1, 0));
    drop(permit);
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn cl_09_grants_by_priority_and_then_by_arrival() {
    let limiter = limiter(1, 4);
    let mut permit = limiter.try_acquire();
    let mut waiters = [(1, "a"), (9, "b"), (5, "c"), (9, "d")]
        .map(|(level, name)| (enqueue(&limiter, level), name));
    let mut order = String::new();
    while order.len() < 4 {
        permit.take();
        for (waiter, name) in &mut waiters {
            if !waiter.is_done && permit.is_none() {
                permit = poll_permit(waiter);
                order.push_str(if permit.is_some() { name } else { "" });
            }
        }
    }
    assert_eq!(order, "bdca");
}

#[test]
fn cl_07_grants_nothing_until_fewer_calls_run_than_a_reduced_limit() {
    let limiter = limiter(10, 5);
    let mut running: Vec<_> = (0..8).filter_map(|_| limiter.try_acquire()).collect();
    limiter.set_max(2);
    let mut waiter = enqueue(&limiter, 0);
    while running.len() > 2 {
        running.pop();
        assert!(poll_permit(&mut waiter).is_none(), "{} run", running.len());
    }
    running.pop();
    let _permit = poll_permit(&mut waiter).expect("one of two permits should be free");
    assert_eq!((limiter.in_flight(), limiter.queued()), (2, 0));
}

#[test]
fn cl_08_a_larger_limit_grants_the_difference_in_order() {
    let limiter = limiter(1, 9);
    let _running = limiter.try_acquire().unwrap();
    let mut waiters: Vec<_> = (0..5).map(|_| enqueue(&limiter, 0)).collect();
    limiter.set_max(4);
    let permits: Vec<_> = waiters.iter_mut().map(poll_permit).collect();
    let granted: Vec<_> = permits.iter().map(Option::is_some).collect();
    assert_eq!(granted, [true, true, true, false, false]);
    assert_eq!((limiter.in_flight(), limiter.queued()), (4, 2));
}

#[test]
fn cl_09_aging_admits_the_lowest_level_in_bounded_time() {
    // One level is worth one second by default, so the highest level is ahead for nine seconds.
    for (after, first) in [(8_900, 9), (9_100, 0)] {
        let limiter = limiter(1, 9);
        let running = limiter.try_acquire();
        let start = Instant::now();
        let mut low = try_enqueue(&limiter, 0, start).unwrap();
        let later = start + Duration::from_millis(after);
        let mut high = try_enqueue(&limiter, 9, later).unwrap();
        drop(running);
        let low_is_first = poll_permit(&mut low).is_some();
        assert_eq!(low_is_first, first == 0);
        // `poll_permit` has dropped the permit, or the other waiter holds it.
        assert!(poll_permit(&mut high).is_some());
    }
}

#[test]
fn cl_10_an_aged_waiter_keeps_its_place_against_a_higher_level() {
    // One level is worth one second by default, so the highest level is ahead for nine seconds.
    for (after, evicted) in [(8_900, true), (9_100, false)] {
        let limiter = limiter(1, 1);
        let _running = limiter.try_acquire().unwrap();
        let start = Instant::now();
        let mut low = try_enqueue(&limiter, 0, start).unwrap();
        let high = try_enqueue(&limiter, 9, start + Duration::from_millis(after));
        let rejection = high.as_ref().err().copied();
        assert_eq!(rejection, (!evicted).then_some(Rejection::AtCapacity));
        assert_eq!(low.poll(Waker::noop()).is_ready(), evicted);
        assert_eq!(limiter.queued(), 1);
    }
}

#[test]
fn cl_10_a_higher_level_evicts_a_lower_one_but_not_an_equal_one() {
    let limiter = limiter(1, 3);
    let _running = limiter.try_acquire().unwrap();
    let (mut old, mut young, mut high) = (
        enqueue(&limiter, 1),
        enqueue(&limiter, 1),
        enqueue(&limiter, 5),
    );
    let equal = try_enqueue(&limiter, 1, Instant::now());
    assert_eq!(equal.err(), Some(Rejection::AtCapacity));
    let _higher = enqueue(&limiter, 3);
    let evicted = young.poll(Waker::noop());
    assert!(matches!(evicted, Poll::Ready(Err(Rejection::Evicted))));
    assert!(poll_permit(&mut old).is_none() && poll_permit(&mut high).is_none());
    assert_eq!(limiter.queued(), 3);
    drop(young);
    assert_eq!(
        limiter.queued(),
        3,
        "the evicting call should keep the place"
    );
}

#[test]
fn a_new_call_does_not_overtake_waiting_calls() {
    let limiter = limiter(1, 1);
    let running = limiter.try_acquire().unwrap();
    let mut waiter = enqueue(&limiter, 0);
    drop(running);
    assert!(limiter.try_acquire().is_none());
    assert!(poll_permit(&mut waiter).is_some());
}

#[test]
fn concurrent_threads_never_exceed_the_limit() {
    let limiter = limiter(3, 0);
    let peak = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let permit = limiter.try_acquire();
                    peak.fetch_max(u64::from(limiter.in_flight()), Ordering::Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert!(peak.into_inner() <= 3);
    assert_eq!(limiter.in_flight(), 0);
}

/// Returns `true` if a call that must start within `end` may wait behind `ahead` others.
fn may_wait(limiter: &Arc<Limiter>, ahead: usize, end: Duration) -> bool {
    let now = Instant::now();
    let _waiters: Vec<_> = (0..ahead).map(|_| enqueue(limiter, 9)).collect();
    limiter
        .acquire(Priority::MAX, Some(now + end), Waker::noop(), now)
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_estimated_wait_is_too_long_does_not_queue() {
    let limiter = limiter(2, 10);
    let running =
        [(); 2].map(|()| limiter.acquire(Priority::MAX, None, Waker::noop(), Instant::now()));
    // The first measured duration is the estimate, and each further one changes it by an eighth.
    let success = Class::Success;
    limiter.record(success, Duration::from_millis(80));
    // Two calls run at once, so the third in the queue waits for one and a half typical durations.
    assert!(may_wait(&limiter, 3, Duration::from_millis(120)));
    assert!(!may_wait(&limiter, 3, Duration::from_millis(119)));
    limiter.record(success, Duration::from_millis(160));
    assert!(may_wait(&limiter, 2, Duration::from_millis(90)));
    assert!(!may_wait(&limiter, 2, Duration::from_millis(89)));
    drop(running);
}

fn granted(limiter: &Arc<Limiter>) -> Permit {
    match limiter.acquire(Priority::MAX, None, Waker::noop(), Instant::now()) {
        Ok(Admission::Granted(permit)) => permit,
        _ => panic!("a permit should be free"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_measured_unless_it_was_not_sent() {
    let limiter = limiter(1, 2);
    let typical = || lock(&limiter.queue).typical_duration;
    let mut rejected = granted(&limiter);
    rejected.discard_measurement();
    drop(rejected);
    assert_eq!(typical(), None);
    let dropped = granted(&limiter);
    tokio::time::advance(Duration::from_millis(40)).await;
    drop(dropped);
    assert_eq!(typical(), Some(Duration::from_millis(40)));
}

#[tokio::test(start_paused = true)]
async fn panics_shrink_an_adaptive_limit() {
    let adaptive = AdaptiveConfig::default();
    let config = ConcurrencyConfig::default().adaptive(adaptive);
    let limiter = Arc::new(Limiter::new(&config));
    let before = limiter.max();
    for _ in 0..500 {
        let permit = granted(&limiter);
        tokio::time::advance(Duration::from_millis(10)).await;
        permit.panicked();
    }
    assert!(limiter.max() < before, "{} of {before}", limiter.max());
}
