//! The layer, its service, and the handle that turns it on and off.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    future::ResponseFuture,
    settings::{ChaosPolicy, Injection},
};
use crate::context::Context;

/// Breaks calls on purpose; see the [module docs](super).
///
/// `make` makes the error or the answer of an [`Injection::Error`] or [`Injection::Status`].
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     AsReject, BoxError, Failure,
///     chaos::{ChaosLayer, ChaosPolicy, Injection, Rule},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let policy = ChaosPolicy::build(|chaos| {
///     chaos.enabled = true;
///     chaos.rules = vec![Rule { rate: 1.0, inject: Injection::Error(Failure::Reset) }];
/// });
/// let layer = ChaosLayer::new(policy.unwrap(), |injected| match injected {
///     Injection::Error(failure) => Err(BoxError::from(failure)),
///     _ => Ok("made up"),
/// });
/// let service = layer.layer(service_fn(|()| async { Ok::<_, BoxError>("fine") }));
/// assert_eq!(service.oneshot(()).await.unwrap_err().failure(), Failure::Reset);
/// # }
/// ```
#[derive(Clone)]
pub struct ChaosLayer<M> {
    pub(super) shared: Arc<Shared>,
    pub(super) make: M,
}

impl<M> ChaosLayer<M> {
    /// Injects what `policy` says.
    #[must_use]
    pub fn new(policy: ChaosPolicy, make: M) -> Self {
        let random = policy
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let rules = policy.rules.iter().map(|rule| {
            let rate = AtomicU64::new(clamp(rule.rate).to_bits());
            (rate, rule.inject)
        });
        Self {
            shared: Arc::new(Shared {
                enabled: AtomicBool::new(policy.enabled),
                rules: rules.collect(),
                random: Mutex::new(random),
            }),
            make,
        }
    }

    /// Turns it on and off while it runs.
    #[must_use]
    pub fn handle(&self) -> ChaosHandle {
        ChaosHandle(Arc::clone(&self.shared))
    }
}

/// Turns chaos on and off while it runs.
#[derive(Clone, Debug)]
pub struct ChaosHandle(Arc<Shared>);

impl ChaosHandle {
    /// Whether anything is injected from now on.
    pub fn enable(&self, enabled: bool) {
        self.0.enabled.store(enabled, Ordering::Relaxed);
    }

    /// Changes the rate of the rule at `place` in the settings; without such a rule nothing.
    pub fn set_rate(&self, place: usize, rate: f64) {
        if let Some((known, _)) = self.0.rules.get(place) {
            known.store(clamp(rate).to_bits(), Ordering::Relaxed);
        }
    }
}

/// A rate from 0 to 1.
fn clamp(rate: f64) -> f64 {
    if rate.is_nan() {
        0.0
    } else {
        rate.clamp(0.0, 1.0)
    }
}

pub(super) struct Shared {
    enabled: AtomicBool,
    rules: Box<[(AtomicU64, Injection)]>,
    random: Mutex<fastrand::Rng>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// What one attempt has drawn.
#[derive(Default)]
pub(super) struct Drawn {
    /// Instead of calling the service, after the latency.
    pub(super) instead: Option<Injection>,
    pub(super) latency: Duration,
}

impl Shared {
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Draws once per rule, so that a seed gives the same draws whatever comes of them.
    pub(super) fn draw(&self) -> Drawn {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drawn = Drawn::default();
        for (rate, inject) in &self.rules {
            let rate = f64::from_bits(rate.load(Ordering::Relaxed));
            let (hit, spread) = (random.f64() < rate, random.f64());
            if hit {
                drawn.add(*inject, spread);
            }
        }
        drawn
    }
}

impl Drawn {
    fn add(&mut self, inject: Injection, spread: f64) {
        let rank = |inject: &Injection| match inject {
            Injection::Error(_) => 0,
            Injection::Hang => 1,
            Injection::Latency { .. } | Injection::Status(_) => 2,
        };
        match inject {
            Injection::Latency { min, max } => {
                let latency = min + (max - min).mul_f64(spread);
                self.latency = self.latency.saturating_add(latency);
            }
            other
                if self
                    .instead
                    .as_ref()
                    .is_none_or(|known| rank(&other) < rank(known)) =>
            {
                self.instead = Some(other);
            }
            _ => {}
        }
        // An error saves the wait.
        if let Some(Injection::Error(_)) = self.instead {
            self.latency = Duration::ZERO;
        }
    }
}

impl<M: Clone, S> Layer<S> for ChaosLayer<M> {
    type Service = Chaos<S, M>;

    fn layer(&self, inner: S) -> Chaos<S, M> {
        Chaos {
            layer: self.clone(),
            inner,
        }
    }
}

impl<M> fmt::Debug for ChaosLayer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shared, f)
    }
}

/// The service of [`ChaosLayer`].
#[derive(Clone, Debug)]
pub struct Chaos<S, M> {
    layer: ChaosLayer<M>,
    inner: S,
}

impl<S, M, Req> Service<Req> for Chaos<S, M>
where
    S: Service<Req> + Clone,
    M: Fn(Injection) -> Result<S::Response, S::Error> + Clone,
    Req: Context,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, M, Req>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self.layer.clone(), self.inner.clone(), request)
    }
}
