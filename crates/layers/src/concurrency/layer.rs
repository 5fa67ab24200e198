//! The layer, and the look from outside on its state.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ConcurrencyPolicy, limiter::Limiter, service::Concurrency};
use crate::breaker;

/// Limits how many calls run at once; see the [module docs](super).
///
/// One layer is one limit: all services that it makes, and all their clones, share it.
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer {
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) max_wait: Duration,
    pub(super) breaker: Option<breaker::Handle>,
}

impl ConcurrencyLayer {
    /// A limit of `policy.max` calls at once.
    #[must_use]
    pub fn new(policy: ConcurrencyPolicy) -> Self {
        Self {
            limiter: Some(Arc::new(Limiter::new(policy.max, policy.queue))),
            max_wait: policy.max_wait,
            breaker: None,
        }
    }

    /// No limit.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            limiter: None,
            max_wait: Duration::ZERO,
            breaker: None,
        }
    }

    /// Asks `breaker` again when a call's turn has come: one that queued while the circuit opened
    /// is refused, not sent.
    #[must_use]
    pub fn recheck(mut self, breaker: breaker::Handle) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Calls that run now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.limiter
            .as_ref()
            .map_or(0, |limiter| limiter.in_flight())
    }

    /// Calls that wait now.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.limiter.as_ref().map_or(0, |limiter| limiter.queued())
    }

    /// The limit, if there is one.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limiter.as_ref().map(|limiter| limiter.max())
    }
}

impl<S> Layer<S> for ConcurrencyLayer {
    type Service = Concurrency<S>;

    fn layer(&self, inner: S) -> Concurrency<S> {
        Concurrency {
            layer: self.clone(),
            inner,
        }
    }
}
