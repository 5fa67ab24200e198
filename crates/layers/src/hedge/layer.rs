//! The layer.

use std::{fmt, time::Duration};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    config::{HedgeConfig, HedgeDelay},
    service::Hedge,
};
use crate::{
    breaker,
    config::{ConfigError, Validate},
    latencies::Latencies,
    retry::Budget,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How long a latency is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Asks a second time when the first answer is late; see the [module docs](super).
///
/// One layer has one budget and one memory of latencies: all services that it makes, and all their
/// clones, share them. A layer is either for hedging or for [retrying](crate::RetryLayer); both
/// around one service would multiply.
///
/// ```
/// use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BoxError, ClassifyResult, HedgeConfig, HedgeLayer, WithCall, hedge::HedgeDelay,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let config = HedgeConfig::new().delay(HedgeDelay::Fixed(Duration::from_millis(50)));
/// let layer = HedgeLayer::new(config, ClassifyResult).unwrap();
/// let service = layer.layer(service_fn(|_: WithCall<()>| async {
///     if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
///         tokio::time::sleep(Duration::from_secs(5)).await;
///     }
///     Ok::<_, BoxError>("fine")
/// }));
/// let start = tokio::time::Instant::now();
/// assert_eq!(service.oneshot(WithCall::new(()).idempotent()).await.unwrap(), "fine");
/// assert_eq!(start.elapsed(), Duration::from_millis(50));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HedgeLayer<C> {
    pub(super) shared: Arc<Shared>,
    pub(super) classify: C,
}

/// What all clones of a layer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) policy: HedgeConfig,
    pub(super) budget: Budget,
    pub(super) breaker: Option<breaker::Handle>,
    /// There if the delay is learnt.
    latencies: Option<Arc<Mutex<Latencies>>>,
}

impl<C> HedgeLayer<C> {
    /// Creates a layer with its own budget. `classify` tells which results are failures.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: HedgeConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let learns = matches!(config.delay, HedgeDelay::Quantile(_));
        let latencies =
            learns.then(|| Arc::new(Mutex::new(Latencies::new(MEMORY, Instant::now()))));
        let shared = Shared {
            budget: Budget::new(&config.budget)?,
            policy: config,
            breaker: None,
            latencies,
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

    /// Asks `breaker` before each further attempt: if it is open, none is made.
    #[must_use]
    pub fn breaker(mut self, breaker: breaker::Handle) -> Self {
        Arc::make_mut(&mut self.shared).breaker = Some(breaker);
        self
    }
}

impl Shared {
    /// How long an answer is waited for now; none if for ever.
    pub(super) fn delay(&self) -> Option<Duration> {
        match &self.policy.delay {
            HedgeDelay::Fixed(delay) => Some(*delay),
            HedgeDelay::Never => None,
            HedgeDelay::Quantile(quantile) => {
                let now = Instant::now();
                let mut latencies = lock(self.latencies.as_ref()?);
                let learnt = latencies.quantile(quantile.quantile, quantile.min_samples, now)?;
                Some(quantile.delay(learnt))
            }
        }
    }

    /// Learns how long an answer took.
    pub(super) fn learn(&self, latency: Duration) {
        if let Some(latencies) = &self.latencies {
            lock(latencies).record(latency, Instant::now());
        }
    }
}

fn lock(latencies: &Mutex<Latencies>) -> MutexGuard<'_, Latencies> {
    latencies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<S: Clone, C: Clone> Layer<S> for HedgeLayer<C> {
    type Service = Hedge<S, C>;

    fn layer(&self, inner: S) -> Hedge<S, C> {
        Hedge::new(self.clone(), inner)
    }
}
