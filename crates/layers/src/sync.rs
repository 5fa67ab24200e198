//! The synchronisation types of this crate, in one place, so that tests can explore thread
//! schedules. Under `--cfg shuttle`, unit tests use the types of
//! [shuttle](https://docs.rs/shuttle).
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p tower-fanout-layers --lib schedules` runs these tests.
//! The closure of an atomic's `fetch_update` must not use another atomic, because shuttle would
//! switch threads inside of it.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(test, shuttle))]
pub(crate) use self::schedules::*;

/// Locks `mutex`, even if a thread has panicked with the lock: no change here can be left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

    /// Runs `test` under random schedules, and under schedules that are likely to find a race.
    pub(crate) fn check(test: impl Fn() + Clone + Send + Sync + 'static) {
        shuttle::check_random(test.clone(), 20_000);
        shuttle::check_pct(test, 20_000, 3);
    }

    /// Joins all threads, and returns their results.
    pub(crate) fn join<T, const N: usize>(threads: [thread::JoinHandle<T>; N]) -> [T; N] {
        threads.map(|thread| thread.join().expect("a thread panicked"))
    }
}
