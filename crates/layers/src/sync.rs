//! What threads share, in one place, so that a test can try their schedules: under `--cfg shuttle`
//! the types of the unit tests are those of [shuttle](https://docs.rs/shuttle).
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p tower-fanout-layers --lib schedules` runs them. What
//! is given to an atomic's `fetch_update` must not touch another atomic there: shuttle would switch
//! threads in the midst of it.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(test, shuttle))]
pub(crate) use self::schedules::*;

#[cfg(all(test, shuttle))]
mod schedules {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::{
        sync::{
            Arc, Mutex, MutexGuard,
            atomic::{AtomicU32, AtomicU64, Ordering},
        },
        thread,
    };

    /// Tries random schedules, and such as are likely to find a race.
    pub(crate) fn check(test: impl Fn() + Clone + Send + Sync + 'static) {
        shuttle::check_random(test.clone(), 20_000);
        shuttle::check_pct(test, 20_000, 3);
    }

    /// What all threads return.
    pub(crate) fn join<T, const N: usize>(threads: [thread::JoinHandle<T>; N]) -> [T; N] {
        threads.map(|thread| thread.join().expect("no thread panics"))
    }
}
