//! Admission and recording of a breaker under many thread schedules. See [`crate::sync`].

use std::time::Duration;

use super::{BreakerConfig, Handle, State, Window};
use crate::{
    classify::{Class, Failure},
    event::Events,
    sync::{check, join, thread},
};

const FAILED: Class = Class::Failure(Failure::ConnectionReset);

fn breaker(edit: impl FnOnce(&mut BreakerConfig)) -> Handle {
    let mut config = BreakerConfig::new().window(Window::Count(100));
    edit(&mut config);
    Handle::new("team", config)
}

/// Makes a call that ends with `class`, if the breaker admits the call.
fn call(breaker: &Handle, class: Class) {
    if let Ok(mut permit) = breaker.admit(&Events::NONE) {
        permit.ended(|_| class);
    }
}

#[test]
fn counts_all_calls_with_and_without_the_lock() {
    check(|| {
        let breaker = breaker(|breaker| breaker.consecutive_failures = None);
        let calls = |classes: [Class; 3]| {
            let breaker = breaker.clone();
            thread::spawn(move || classes.into_iter().for_each(|class| call(&breaker, class)))
        };
        join([
            calls([Class::Success; 3]),
            calls([Class::Success, FAILED, Class::Success]),
        ]);
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.calls, snapshot.failed), (6, 1));
    });
}

#[test]
fn cb_14_admits_one_probe_of_concurrent_calls() {
    check(|| {
        let breaker = breaker(|_| {});
        breaker.open_for(Duration::from_secs(3600));
        breaker.probe_now();
        let probe = || {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.admit(&Events::NONE).ok())
        };
        let permits = join([probe(), probe(), probe()]);
        assert_eq!(permits.iter().flatten().count(), 1);
        drop(permits);
        assert_eq!(breaker.state(), State::HalfOpen);
        let next = breaker.admit(&Events::NONE);
        assert!(next.is_ok(), "the probe's slot is free again");
    });
}

#[test]
fn cb_21_never_counts_a_late_result_in_another_generation() {
    check(|| {
        let breaker = breaker(|breaker| breaker.consecutive_failures = Some(1));
        let late = breaker.admit(&Events::NONE).ok();
        let other = breaker.clone();
        let reset = thread::spawn(move || {
            call(&other, FAILED);
            other.reset();
        });
        if let Some(mut permit) = late {
            permit.ended(|_| Class::Success);
        }
        join([reset]);
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    });
}
