//! [`RetryLayer`], the state that its clones share, and its service.

use std::task::{self, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{budget::Budget, config::RetryConfig, future::ResponseFuture};
use crate::{
    breaker,
    call::CallContext,
    classify::Classify,
    clone::{CloneRequest, CloneService},
    config::{ConfigError, Validate},
    event::{Events, Sinks},
    rejection::{AsRejection, Rejection},
    shared_service::SharedService,
    sync::{Arc, Mutex, lock},
};

/// A layer that retries failed calls; see the [module docs](super).
///
/// Each layer has its own budget. All services that the layer wraps, and all their clones, share this
/// budget.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer, WithCall};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let layer = RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap();
/// let service = layer.layer(service_fn(|_: WithCall<()>| async {
///     match CALLS.fetch_add(1, Ordering::Relaxed) {
///         0 => Err::<_, LayerError>("a hiccup".into()),
///         _ => Ok("fine"),
///     }
/// }));
/// assert_eq!(service.oneshot(WithCall::new(()).idempotent()).await.unwrap(), "fine");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<C> {
    shared: Arc<Shared>,
    classify: C,
}

/// The state that all clones of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) config: RetryConfig,
    pub(super) budget: Budget,
    /// Other layers may have the same budget.
    pub(super) shares_budget: bool,
    pub(super) breaker: Option<breaker::Handle>,
    /// A response is dropped before the pause, instead of after the next attempt.
    pub(super) releases_responses: bool,
    pub(super) events: Sinks,
    /// Source of random numbers for the pauses. `None` stands for the generator of the thread.
    random: Option<Arc<Mutex<fastrand::Rng>>>,
}

impl Shared {
    /// Returns the next random number, within [0, 1).
    pub(super) fn random(&self) -> f64 {
        match &self.random {
            Some(random) => lock(random).f64(),
            None => fastrand::f64(),
        }
    }
}

impl<C> RetryLayer<C> {
    /// Creates a layer with its own budget. `classify` decides which results are failures.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: RetryConfig, classify: C) -> Result<Self, ConfigError> {
        config.validate()?;
        let shared = Shared {
            budget: Budget::new(&config.budget)?,
            shares_budget: false,
            config,
            breaker: None,
            releases_responses: false,
            events: Sinks::default(),
            random: None,
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

    /// Checks `breaker`, which must be below the retry, before each attempt after the first. A second call
    /// of this method replaces the handle.
    ///
    /// The check uses no probe slot. Do not use the handle of a breaker above the retry: while that
    /// breaker is half-open, the call itself holds the probe slot, so no further attempt would follow.
    ///
    /// If the breaker is open, the call ends with its last result at once, and no attempt is started.
    #[must_use]
    pub fn breaker(mut self, breaker: impl Into<Option<breaker::Handle>>) -> Self {
        Arc::make_mut(&mut self.shared).breaker = breaker.into();
        self
    }

    /// Drops each response that is retried before the pause, with everything that its body holds.
    ///
    /// By default, such a response is kept until the next attempt has ended, because it is the result of
    /// the call if a layer below rejects that attempt. Use this method if a limit or a breaker below the
    /// retry lasts until the end of the body (`ConcurrencyLayer::until_body_end`, feature `http`): a kept response
    /// holds its permit, which the next attempt may need. A call whose next attempt is rejected then ends
    /// with the rejection. Errors are kept in either case.
    #[must_use]
    pub fn release_responses(mut self) -> Self {
        Arc::make_mut(&mut self.shared).releases_responses = true;
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

    /// Draws the pauses from a sequence that starts with `seed`, so that a run is reproducible.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
        Arc::make_mut(&mut self.shared).random = Some(random);
        self
    }
}

impl<S: CloneService, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Retry<S, C> {
        Retry {
            core: SharedService::new(Arc::clone(&self.shared), &inner),
            classify: self.classify.clone(),
            inner,
        }
    }
}

/// A [`Service`] that retries failed calls, created by [`RetryLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Retry<S, C> {
    pub(super) core: Arc<SharedService<Shared, S>>,
    pub(super) classify: C,
    pub(super) inner: S,
}

impl<S, C, Req> Service<Req> for Retry<S, C>
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
