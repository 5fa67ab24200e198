//! The layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{
    budget::{Budget, BudgetPolicy},
    service::Retry,
    settings::RetryPolicy,
};
use crate::breaker;

/// Tries again; see the [module docs](super).
///
/// One layer has one budget: all services that it makes, and all their clones, share it.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BoxError, ClassifyResult, RetryLayer, RetryPolicy, With};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let service = RetryLayer::new(RetryPolicy::default(), ClassifyResult).layer(service_fn(
///     |_: With<()>| async {
///         match CALLS.fetch_add(1, Ordering::Relaxed) {
///             0 => Err::<_, BoxError>("a hiccup".into()),
///             _ => Ok("fine"),
///         }
///     },
/// ));
/// assert_eq!(service.oneshot(With::new(()).idempotent()).await.unwrap(), "fine");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<C> {
    pub(super) policy: Arc<RetryPolicy>,
    pub(super) budget: Budget,
    pub(super) classify: C,
    pub(super) breaker: Option<breaker::Handle>,
}

impl<C> RetryLayer<C> {
    /// Retries by `policy`, with a budget of its own, what `classify` says has failed.
    #[must_use]
    pub fn new(policy: RetryPolicy, classify: C) -> Self {
        let budget = BudgetPolicy::new(policy.budget.clone())
            .expect("a checked policy has a checked budget");
        Self {
            budget: Budget::new(&budget),
            policy: Arc::new(policy),
            classify,
            breaker: None,
        }
    }

    /// Shares `budget` with other layers.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Asks `breaker` before each further attempt: if it is open, the call ends with the failure
    /// it has, instead of the breaker's refusal.
    #[must_use]
    pub fn recheck(mut self, breaker: breaker::Handle) -> Self {
        self.breaker = Some(breaker);
        self
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Retry<S, C> {
        Retry {
            layer: self.clone(),
            inner,
        }
    }
}
