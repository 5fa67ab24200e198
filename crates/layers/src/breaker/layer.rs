//! The layer.

use tower_layer::Layer;

use super::{handle::Handle, service::Breaker, settings::BreakerPolicy};

/// Stops asking a service that keeps failing; see the [module docs](super).
///
/// One layer is one breaker: all services that it makes, and all their clones, share it.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsReject, BoxError, BreakerLayer, BreakerPolicy, ClassifyResult, breaker::State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let policy = BreakerPolicy::build(|b| b.consecutive_failures = Some(2)).unwrap();
/// let layer = BreakerLayer::new("prices", policy, ClassifyResult);
/// let service = layer.layer(service_fn(|()| async { Err::<(), BoxError>("down".into()) }));
///
/// service.clone().oneshot(()).await.unwrap_err();
/// service.clone().oneshot(()).await.unwrap_err();
/// assert_eq!(layer.handle().unwrap().state(), State::Open);
/// assert!(service.oneshot(()).await.unwrap_err().as_reject().is_some());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer<C> {
    pub(super) handle: Option<Handle>,
    pub(super) classify: C,
}

impl<C> BreakerLayer<C> {
    /// A breaker for the service called `name`, which tells failures by `classify`.
    #[must_use]
    pub fn new(name: &str, policy: BreakerPolicy, classify: C) -> Self {
        Self {
            handle: Some(Handle::new(name, policy)),
            classify,
        }
    }

    /// A layer of a breaker that others share: one of a [`Registry`](super::Registry), say.
    #[must_use]
    pub const fn shared(handle: Handle, classify: C) -> Self {
        Self {
            handle: Some(handle),
            classify,
        }
    }

    /// A breaker that is never there.
    #[must_use]
    pub const fn off(classify: C) -> Self {
        Self {
            handle: None,
            classify,
        }
    }

    /// The breaker itself, unless it is off.
    #[must_use]
    pub const fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Breaker<S, C>;

    fn layer(&self, inner: S) -> Breaker<S, C> {
        Breaker {
            layer: self.clone(),
            inner,
        }
    }
}
