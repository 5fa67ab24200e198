//! [`HedgeLayer`], the state that its clones share, and its service.

use std::{
    fmt,
    task::{self, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    config::{HedgeConfig, HedgeDelay},
    future::ResponseFuture,
};
use crate::{
    breaker,
    call::CallContext,
    classify::Classify,
    clock,
    clone::{CloneRequest, CloneService},
    config::{ConfigError, Validate},
    event::{Events, Sinks},
    latencies::Latencies,
    rejection::{AsRejection, Rejection},
    retry::Budget,
    shared_service::SharedService,
    sync::{Arc, Mutex, lock},
};

/// Lifetime of a latency in the history.
const HISTORY: Duration = Duration::from_secs(60);

/// A layer that sends further attempts while the response is late; see the [module docs](super).
///
/// Each layer has its own budget and its own history of latencies. All services that the layer wraps, and
/// all their clones, share both. Use either this layer or [`RetryLayer`](crate::RetryLayer) around a
/// service: both together would multiply the attempts.
///
/// ```
/// use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{ClassifyResult, HedgeConfig, HedgeLayer, LayerError, WithCall, hedge::HedgeDelay};
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
///     Ok::<_, LayerError>("fine")
/// }));
/// let start = tokio::time::Instant::now();
/// assert_eq!(service.oneshot(WithCall::new(()).idempotent()).await.unwrap(), "fine");
/// assert_eq!(start.elapsed(), Duration::from_millis(50));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HedgeLayer<C> {
    shared: Arc<Shared>,
    classify: C,
}

/// The state that all clones of a layer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: HedgeConfig,
    pub(super) budget: Budget,
    /// Other layers may have the same budget.
    pub(super) shares_budget: bool,
    pub(super) breaker: Option<breaker::Handle>,
    pub(super) events: Sinks,
    /// Recent latencies of successes. `None` if the delay is not learned.
    latencies: Option<Arc<Mutex<Latencies>>>,
}

impl<C> HedgeLayer<C> {
    /// Creates a layer with its own budget. `classify` decides which results are failures.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: HedgeConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let learns = matches!(config.delay, HedgeDelay::Quantile(_));
        let latencies =
            learns.then(|| Arc::new(Mutex::new(Latencies::new(HISTORY, Instant::now()))));
        let shared = Shared {
            budget: Budget::new(&config.budget)?,
            shares_budget: false,
            config,
            breaker: None,
            events: Sinks::default(),
            latencies,
        };
        Ok(Self {
            shared: Arc::new(shared),
            classify,
        })
    }

    /// Replaces the layer's own budget by `budget`, which other layers may share.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        (shared.budget, shared.shares_budget) = (budget, true);
        self
    }

    /// Checks `breaker`, which must be below the hedge layer, before each hedge. While the breaker is
    /// open, no hedge is sent. A second call of this method replaces the handle.
    ///
    /// The check uses no probe slot. Do not use the handle of a breaker above: while that breaker is
    /// half-open, the call itself holds the probe slot, so no hedge would be sent.
    #[must_use]
    pub fn breaker(mut self, breaker: impl Into<Option<breaker::Handle>>) -> Self {
        Arc::make_mut(&mut self.shared).breaker = breaker.into();
        self
    }

    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        Arc::make_mut(&mut self.shared).events.add(sink.into());
        self
    }
}

impl Shared {
    /// Returns the current delay. `None` means that no hedge is sent because of a delay.
    pub(super) fn delay(&self) -> Option<Duration> {
        match &self.config.delay {
            HedgeDelay::Fixed(delay) => Some(*delay),
            HedgeDelay::Never => None,
            HedgeDelay::Quantile(quantile) => {
                let now = clock::now();
                let mut latencies = lock(self.latencies.as_ref()?);
                let learned = latencies.quantile(quantile.quantile, quantile.min_samples, now)?;
                Some(quantile.delay(learned))
            }
        }
    }

    /// Records the latency of a success.
    pub(super) fn learn(&self, latency: Duration) {
        if let Some(latencies) = &self.latencies {
            lock(latencies).record(latency, clock::now());
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<S: CloneService, C: Clone> Layer<S> for HedgeLayer<C> {
    type Service = Hedge<S, C>;

    fn layer(&self, inner: S) -> Hedge<S, C> {
        Hedge {
            core: SharedService::new(Arc::clone(&self.shared), &inner),
            classify: self.classify.clone(),
            inner,
        }
    }
}

/// A [`Service`] that hedges slow calls, created by [`HedgeLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Hedge<S, C> {
    pub(super) core: Arc<SharedService<Shared, S>>,
    pub(super) classify: C,
    pub(super) inner: S,
}

impl<S, C, Req> Service<Req> for Hedge<S, C>
where
    S: Service<Req> + CloneService,
    S::Error: AsRejection + From<Rejection>,
    C: Classify<S::Response, S::Error> + Clone,
    Req: CallContext + CloneRequest,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self, request)
    }
}
