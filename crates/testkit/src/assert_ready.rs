//! Wraps a service and detects callers that violate the `poll_ready` contract of tower.
//!
//! tower requires that `call` follows a `poll_ready` that returned `Ready(Ok(()))` on the same
//! instance. Each `call` uses up that readiness, and a clone starts without any. [`AssertReady`]
//! panics when a caller violates this contract.
//!
//! Readiness that is never used can starve other callers, because `poll_ready` may have reserved a
//! permit. [`ReadinessCounts`] therefore also counts the instances that hold readiness and those that
//! were dropped with it.
//!
//! ```should_panic
//! use tower::{Service, service_fn};
//! use tower_fanout_testkit::assert_ready::AssertReady;
//!
//! let mut service = AssertReady::new(service_fn(|request: u32| async move { Ok::<_, ()>(request) }));
//! let _ = service.call(1); // panics: `poll_ready` was not called
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tower_service::Service;

/// A service that requires `poll_ready` to return `Ready(Ok(()))` before each `call`.
///
/// Every other part of a call is passed to the inner service unchanged. See the
/// [module documentation](self) for the contract.
#[derive(Debug)]
pub struct AssertReady<S> {
    inner: S,
    reservation: Option<Reservation>,
    counts: ReadinessCounts,
    panic_on_violation: bool,
}

impl<S> AssertReady<S> {
    /// Wraps `inner`. A call without readiness panics.
    ///
    /// # Panics
    ///
    /// The returned service panics in `call` if the contract is violated. Use
    /// [`count_only`](Self::count_only) to count violations instead.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            reservation: None,
            counts: ReadinessCounts::default(),
            panic_on_violation: true,
        }
    }

    /// Counts calls without readiness instead of panicking, and passes them to the inner service.
    ///
    /// Read the number with [`ReadinessCounts::violations`].
    ///
    /// ```
    /// use tower::{Service, ServiceExt};
    /// use tower_fanout_testkit::{assert_ready::AssertReady, script::ScriptedService};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let script = ScriptedService::<u32, u32, ()>::new().respond(7);
    /// let mut service = AssertReady::new(script).count_only();
    /// let counts = service.counts();
    /// service.ready().await.unwrap();
    /// assert_eq!(service.clone().call(1).await, Ok(7)); // the clone is not ready
    /// assert_eq!((counts.violations(), counts.reserved(), counts.discarded()), (1, 1, 0));
    /// drop(service);
    /// assert_eq!((counts.reserved(), counts.discarded()), (0, 1));
    /// # }
    /// ```
    #[must_use]
    pub fn count_only(self) -> Self {
        Self {
            panic_on_violation: false,
            ..self
        }
    }

    /// Returns a handle to the counters, which all clones of this service share.
    #[must_use]
    pub fn counts(&self) -> ReadinessCounts {
        self.counts.clone()
    }
}

impl<S: Clone> Clone for AssertReady<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            reservation: None, // tower: a clone has to be polled ready itself
            counts: self.counts.clone(),
            panic_on_violation: self.panic_on_violation,
        }
    }
}

impl<S: Service<Req>, Req> Service<Req> for AssertReady<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.inner.poll_ready(cx))?;
        // Another `poll_ready` of a ready instance does not reserve again.
        self.reservation
            .get_or_insert_with(|| Reservation::new(&self.counts));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.reservation.take() {
            Some(reservation) => reservation.consume(),
            None => {
                self.counts.0.violations.fetch_add(1, Relaxed);
                assert!(
                    !self.panic_on_violation,
                    "`call` without readiness: call `poll_ready` on this instance until it returns \
                     `Ready(Ok(()))` before each `call`"
                );
            }
        }
        self.inner.call(request)
    }
}

/// The readiness counters of an [`AssertReady`] service and its clones.
///
/// Clones of this handle share the counters.
#[derive(Clone, Debug, Default)]
pub struct ReadinessCounts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    violations: AtomicUsize,
    reserved: AtomicUsize,
    discarded: AtomicUsize,
}

impl ReadinessCounts {
    /// Returns the number of calls that were made without readiness.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.0.violations.load(Relaxed)
    }

    /// Returns the number of instances that are ready now and have not been called yet.
    #[must_use]
    pub fn reserved(&self) -> usize {
        self.0.reserved.load(Relaxed)
    }

    /// Returns the number of instances that were dropped while ready, without a call.
    #[must_use]
    pub fn discarded(&self) -> usize {
        self.0.discarded.load(Relaxed)
    }
}

/// The readiness of one instance. A reservation that is dropped before it is consumed counts as
/// discarded.
#[derive(Debug)]
struct Reservation {
    counts: ReadinessCounts,
    consumed: bool,
}

impl Reservation {
    fn new(counts: &ReadinessCounts) -> Self {
        counts.0.reserved.fetch_add(1, Relaxed);
        Self {
            counts: counts.clone(),
            consumed: false,
        }
    }

    fn consume(mut self) {
        self.consumed = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.counts.0.reserved.fetch_sub(1, Relaxed);
        if !self.consumed {
            self.counts.0.discarded.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::script::ScriptedService;

    fn ready_checked() -> AssertReady<ScriptedService<u32, u32, ()>> {
        AssertReady::new(ScriptedService::new().respond(1))
    }

    fn make_ready(service: &mut AssertReady<ScriptedService<u32, u32, ()>>) {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Ok(())));
    }

    #[test]
    #[should_panic(expected = "`call` without readiness")]
    fn second_call_without_poll_ready_panics() {
        let mut service = ready_checked();
        make_ready(&mut service);
        drop(service.call(1));
        drop(service.call(2));
    }

    #[test]
    fn clone_of_a_ready_instance_is_not_ready() {
        let mut service = ready_checked().count_only();
        make_ready(&mut service);
        drop(service.clone().call(1));
        drop(service.call(2));
        assert_eq!(service.counts().violations(), 1);
    }

    #[test]
    fn counts_reserved_and_discarded_readiness() {
        let mut service = ready_checked();
        let counts = service.counts();
        make_ready(&mut service);
        make_ready(&mut service);
        assert_eq!((counts.reserved(), counts.discarded()), (1, 0));
        drop(service.call(1));
        assert_eq!((counts.reserved(), counts.discarded()), (0, 0));
        make_ready(&mut service);
        drop(service);
        assert_eq!((counts.reserved(), counts.discarded()), (0, 1));
    }
}
