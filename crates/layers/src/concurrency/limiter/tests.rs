//! Turns, one by one.

use super::*;

fn limiter(max: u32, queue: u32) -> Arc<Limiter> {
    let settings = ConcurrencyConfig {
        max,
        queue,
        ..ConcurrencyConfig::default()
    };
    Arc::new(Limiter::new(&settings))
}

fn try_wait(limiter: &Arc<Limiter>, level: u8, now: Instant) -> Result<Waiter, Rejection> {
    let priority = Priority::new(level).unwrap();
    match limiter.acquire(priority, None, Waker::noop(), now)? {
        Turn::Later(waiter) => Ok(waiter),
        Turn::Now(_) => panic!("a permit was free"),
    }
}

fn wait(limiter: &Arc<Limiter>, level: u8) -> Waiter {
    try_wait(limiter, level, Instant::now()).expect("the queue has room")
}

fn has_turn(waiter: &mut Waiter) -> Option<Permit> {
    match waiter.poll(Waker::noop()) {
        Poll::Ready(permit) => Some(permit.expect("it was not evicted")),
        Poll::Pending => None,
    }
}

#[test]
fn cl_03_a_dropped_waiter_frees_its_place_at_once() {
    let limiter = limiter(1, 1);
    let _running = limiter.try_acquire().unwrap();
    let waiter = wait(&limiter, 0);
    let refused = try_wait(&limiter, 0, Instant::now());
    assert_eq!(refused.err(), Some(Rejection::AtCapacity));
    drop(waiter);
    assert_eq!(limiter.queued(), 0);
    drop(wait(&limiter, 0));
}

#[test]
fn cl_04_a_permit_granted_to_a_dropped_waiter_goes_to_the_next() {
    let limiter = limiter(1, 2);
    let running = limiter.try_acquire().unwrap();
    let first = wait(&limiter, 0);
    let mut second = wait(&limiter, 0);
    drop(running);
    assert!(has_turn(&mut second).is_none());
    drop(first);
    let permit = has_turn(&mut second).expect("the permit is handed on");
    assert_eq!((limiter.in_flight(), limiter.queued()), (1, 0));
    drop(permit);
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn cl_09_higher_priority_first_and_equal_ones_in_order() {
    let limiter = limiter(1, 4);
    let mut permit = limiter.try_acquire();
    let mut waiters =
        [(1, "a"), (9, "b"), (5, "c"), (9, "d")].map(|(level, name)| (wait(&limiter, level), name));
    let mut order = String::new();
    while order.len() < 4 {
        permit.take();
        for (waiter, name) in &mut waiters {
            if !waiter.left && permit.is_none() {
                permit = has_turn(waiter);
                order.push_str(if permit.is_some() { name } else { "" });
            }
        }
    }
    assert_eq!(order, "bdca");
}

#[test]
fn cl_07_nobody_gets_a_turn_until_fewer_run_than_the_smaller_limit() {
    let limiter = limiter(10, 5);
    let mut running: Vec<_> = (0..8).filter_map(|_| limiter.try_acquire()).collect();
    limiter.set_max(2);
    let mut waiter = wait(&limiter, 0);
    while running.len() > 2 {
        running.pop();
        assert!(has_turn(&mut waiter).is_none(), "{} run", running.len());
    }
    running.pop();
    let _permit = has_turn(&mut waiter).expect("one of two runs");
    assert_eq!((limiter.in_flight(), limiter.queued()), (2, 0));
}

#[test]
fn cl_08_a_larger_limit_lets_just_the_difference_in_and_in_order() {
    let limiter = limiter(1, 9);
    let _running = limiter.try_acquire().unwrap();
    let mut waiters: Vec<_> = (0..5).map(|_| wait(&limiter, 0)).collect();
    limiter.set_max(4);
    let permits: Vec<_> = waiters.iter_mut().map(has_turn).collect();
    let granted: Vec<_> = permits.iter().map(Option::is_some).collect();
    assert_eq!(granted, [true, true, true, false, false]);
    assert_eq!((limiter.in_flight(), limiter.queued()), (4, 2));
}

#[test]
fn cl_09_aging_lets_the_least_important_through_in_bounded_time() {
    // Each level is worth a second by default, so the highest is ahead for nine.
    for (after, first) in [(8_900, 9), (9_100, 0)] {
        let limiter = limiter(1, 9);
        let running = limiter.try_acquire();
        let start = Instant::now();
        let mut low = try_wait(&limiter, 0, start).unwrap();
        let later = start + Duration::from_millis(after);
        let mut high = try_wait(&limiter, 9, later).unwrap();
        drop(running);
        let low_is_first = has_turn(&mut low).is_some();
        assert_eq!(low_is_first, first == 0);
        // It gave its permit back, or the other has it.
        assert!(has_turn(&mut high).is_some());
    }
}

#[test]
fn cl_10_in_a_full_queue_high_evicts_low_and_equal_does_not() {
    let limiter = limiter(1, 3);
    let _running = limiter.try_acquire().unwrap();
    let (mut old, mut young, mut high) = (wait(&limiter, 1), wait(&limiter, 1), wait(&limiter, 5));
    let equal = try_wait(&limiter, 1, Instant::now());
    assert_eq!(equal.err(), Some(Rejection::AtCapacity));
    let _higher = wait(&limiter, 3);
    let evicted = young.poll(Waker::noop());
    assert!(matches!(evicted, Poll::Ready(Err(Rejection::Evicted))));
    assert!(has_turn(&mut old).is_none() && has_turn(&mut high).is_none());
    assert_eq!(limiter.queued(), 3);
    drop(young);
    assert_eq!(limiter.queued(), 3, "its place was taken already");
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait() {
    let limiter = limiter(1, 1);
    let running = limiter.try_acquire().unwrap();
    let mut waiter = wait(&limiter, 0);
    drop(running);
    assert!(limiter.try_acquire().is_none());
    assert!(has_turn(&mut waiter).is_some());
}

#[test]
fn threads_never_exceed_the_limit_and_leave_nothing_behind() {
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
