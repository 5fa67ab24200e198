//! The layer.

use tower_layer::Layer;

use super::{budget::Budget, config::RetryConfig, service::Retry};
use crate::{
    breaker,
    config::{ConfigError, Validate},
    sync::{Arc, Mutex, PoisonError},
};

/// Tries again; see the [module docs](super).
///
/// One layer has one budget: all services that it makes, and all their clones, share it.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BoxError, ClassifyResult, RetryConfig, RetryLayer, WithCall};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let layer = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
/// let service = layer.layer(service_fn(|_: WithCall<()>| async {
///     match CALLS.fetch_add(1, Ordering::Relaxed) {
///         0 => Err::<_, BoxError>("a hiccup".into()),
///         _ => Ok("fine"),
///     }
/// }));
/// assert_eq!(service.oneshot(WithCall::new(()).idempotent()).await.unwrap(), "fine");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<C> {
    pub(super) shared: Arc<Shared>,
    pub(super) classify: C,
}

/// What all clones of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) policy: RetryConfig,
    pub(super) budget: Budget,
    pub(super) breaker: Option<breaker::Handle>,
    /// Where pauses are drawn from, if not at random.
    random: Option<Arc<Mutex<fastrand::Rng>>>,
}

impl Shared {
    /// A number in [0, 1), another one each time.
    pub(super) fn random(&self) -> f64 {
        match &self.random {
            Some(random) => random.lock().unwrap_or_else(PoisonError::into_inner).f64(),
            None => fastrand::f64(),
        }
    }
}

impl<C> RetryLayer<C> {
    /// Creates a layer with its own budget. `classify` tells which results are failures.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: RetryConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let shared = Shared {
            budget: Budget::new(&config.budget)?,
            policy: config,
            breaker: None,
            random: None,
        };
        Ok(Self {
            shared: Arc::new(shared),
            classify,
        })
    }

    /// Shares `budget` with other layers.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        Arc::make_mut(&mut self.shared).budget = budget;
        self
    }

    /// Asks `breaker` before each further attempt: if it is open, the call ends with the failure
    /// it has, instead of the breaker's refusal. So a response is kept through the pause, with all that
    /// its body holds.
    #[must_use]
    pub fn breaker(mut self, breaker: breaker::Handle) -> Self {
        Arc::make_mut(&mut self.shared).breaker = Some(breaker);
        self
    }

    /// Draws pauses from a sequence that begins with `seed`, so that a run can be repeated.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Arc::make_mut(&mut self.shared).random = Some(random);
        self
    }
}

impl<S: Clone, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Retry<S, C> {
        Retry::new(self.clone(), inner)
    }
}
