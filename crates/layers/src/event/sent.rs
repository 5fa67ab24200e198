//! [`SentLayer`], which reports each call that reaches the service, and its service.

use std::task::{self, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Event, Events, Sinks};
use crate::call::CallContext;

/// A layer that emits [`Event::Sent`] for each call that passes.
///
/// Put the layer innermost, directly around the service. An attempt that a layer above rejects, such as a full
/// concurrency limit or an open circuit breaker, does not reach it. The stack of `tower-fanout` has the layer.
///
/// ```
/// use std::sync::mpsc;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BreakerConfig, BreakerLayer, ClassifyResult, Event, LayerError, WithCall, event::SentLayer,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, sent) = mpsc::channel();
/// let breaker = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult)?;
/// let maintenance = breaker.handle().force_open();
/// let stack = ServiceBuilder::new()
///     .layer(breaker)
///     .layer(SentLayer::new().events(move |event: Event| sender.send(event).unwrap()))
///     .service(service_fn(|_: WithCall<()>| async { Ok::<_, LayerError>(()) }));
/// assert!(stack.clone().oneshot(WithCall::new(())).await.is_err());
/// drop(maintenance);
/// stack.oneshot(WithCall::new(())).await?;
/// assert_eq!(sent.try_iter().collect::<Vec<_>>(), [Event::Sent]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct SentLayer {
    sinks: Sinks,
}

impl SentLayer {
    /// Creates a layer that reports to the receivers of each call.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        self.sinks.add(sink.into());
        self
    }
}

impl<S> Layer<S> for SentLayer {
    type Service = Sent<S>;

    fn layer(&self, inner: S) -> Sent<S> {
        Sent {
            sinks: self.sinks.clone(),
            inner,
        }
    }
}

/// A [`Service`] that reports each call, created by [`SentLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct Sent<S> {
    sinks: Sinks,
    inner: S,
}

impl<S, Req> Service<Req> for Sent<S>
where
    S: Service<Req>,
    Req: CallContext,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> S::Future {
        self.sinks.emit(&request.call().events, Event::Sent);
        self.inner.call(request)
    }
}
