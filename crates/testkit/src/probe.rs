//! Wraps a service and catches callers that break the contract of readiness.
//!
//! An instance may be called once after its `poll_ready` returned `Ready(Ok)`; a clone starts
//! unready. Readiness that is obtained and not used may be a permit that others wait for, so it
//! is counted too.
//!
//! ```should_panic
//! use tower::{Service, service_fn};
//! use tower_fanout_testkit::probe::Strict;
//!
//! let mut service = Strict::new(service_fn(|request: u32| async move { Ok::<_, ()>(request) }));
//! let _ = service.call(1); // panics: nobody asked whether it is ready
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tower_service::Service;

/// Lets a call through only on an instance that is ready.
///
/// See the [module](self) for the contract.
#[derive(Debug)]
pub struct Strict<S> {
    inner: S,
    ready: Option<Held>,
    watch: Watch,
    panics: bool,
}

impl<S> Strict<S> {
    /// Wraps `inner`; an unready call panics.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            ready: None,
            watch: Watch::default(),
            panics: true,
        }
    }

    /// An unready call is counted by the [`watch`](Self::watch) and goes through.
    ///
    /// ```
    /// use tower::{Service, ServiceExt};
    /// use tower_fanout_testkit::{probe::Strict, script::Script};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut service = Strict::new(Script::<u32, u32, ()>::new().ok(7)).recording();
    /// let watch = service.watch();
    /// service.ready().await.unwrap();
    /// assert_eq!(service.clone().call(1).await, Ok(7)); // its clone is not ready
    /// assert_eq!((watch.violations(), watch.held(), watch.wasted()), (1, 1, 0));
    /// drop(service);
    /// assert_eq!((watch.held(), watch.wasted()), (0, 1));
    /// # }
    /// ```
    #[must_use]
    pub fn recording(self) -> Self {
        Self {
            panics: false,
            ..self
        }
    }

    /// What is counted, over all clones.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }
}

impl<S: Clone> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ready: None, // readiness belongs to the instance that obtained it
            watch: self.watch.clone(),
            panics: self.panics,
        }
    }
}

impl<S: Service<Req>, Req> Service<Req> for Strict<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.inner.poll_ready(cx))?;
        self.ready.get_or_insert_with(|| Held::new(&self.watch));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.ready.take() {
            Some(held) => held.spend(),
            None => {
                self.watch.0.violations.fetch_add(1, Relaxed);
                assert!(
                    !self.panics,
                    "an instance was called that had not returned Ready since its last call"
                );
            }
        }
        self.inner.call(request)
    }
}

/// The counts of a [`Strict`] service and its clones.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    violations: AtomicUsize,
    held: AtomicUsize,
    wasted: AtomicUsize,
}

impl Watch {
    /// Calls of instances that were not ready.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.0.violations.load(Relaxed)
    }

    /// Instances that are ready now and wait to be called.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Instances that were ready and dropped without a call.
    #[must_use]
    pub fn wasted(&self) -> usize {
        self.0.wasted.load(Relaxed)
    }
}

/// One instance's readiness; dropped unspent, it was wasted.
#[derive(Debug)]
struct Held {
    watch: Watch,
    spent: bool,
}

impl Held {
    fn new(watch: &Watch) -> Self {
        watch.0.held.fetch_add(1, Relaxed);
        Self {
            watch: watch.clone(),
            spent: false,
        }
    }

    fn spend(mut self) {
        self.spent = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.watch.0.held.fetch_sub(1, Relaxed);
        if !self.spent {
            self.watch.0.wasted.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::script::Script;

    fn subject() -> Strict<Script<u32, u32, ()>> {
        Strict::new(Script::new().ok(1))
    }

    fn make_ready(service: &mut Strict<Script<u32, u32, ()>>) {
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(service.poll_ready(&mut cx), Poll::Ready(Ok(())));
    }

    #[test]
    #[should_panic(expected = "had not returned Ready")]
    fn a_second_call_needs_a_second_readiness() {
        let mut service = subject();
        make_ready(&mut service);
        drop(service.call(1));
        drop(service.call(2));
    }

    #[test]
    fn a_clone_of_a_ready_instance_is_not_ready() {
        let mut service = subject().recording();
        make_ready(&mut service);
        drop(service.clone().call(1));
        drop(service.call(2));
        assert_eq!(service.watch().violations(), 1);
    }

    #[test]
    fn readiness_that_is_not_used_is_counted() {
        let mut service = subject();
        let watch = service.watch();
        make_ready(&mut service);
        make_ready(&mut service);
        assert_eq!((watch.held(), watch.wasted()), (1, 0));
        drop(service.call(1));
        assert_eq!((watch.held(), watch.wasted()), (0, 0));
        make_ready(&mut service);
        drop(service);
        assert_eq!((watch.held(), watch.wasted()), (0, 1));
    }
}
