//! [`EventsLayer`], which gives a sink to all layers below, and its service.

use std::{
    fmt,
    sync::Arc,
    task::{self, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    Events,
    sink::{AddedSinks, SinkList},
};
use crate::call::CallContext;

/// A layer that gives a sink to all layers below, for each call that passes.
///
/// The sink is added to the receivers in the [`Call`](crate::Call), so a receiver that the call already
/// has keeps its events. Layers above hear nothing of it.
///
/// A request without [`call_mut`](CallContext::call_mut) cannot carry the sink, and the layer has no effect
/// on its calls. These are the requests with an empty `impl CallContext for MyRequest {}` and the [standard
/// types](CallContext#types-without-metadata), such as `()` and `String`. For such requests, register the
/// sink with each layer instead: see [`RetryLayer::events`](crate::RetryLayer::events) and the method of the
/// same name of the other layers.
///
/// The layer allocates nothing for a call. Below another `EventsLayer`, the first call allocates a list of
/// sinks. The extensions of an `http::Request` without a `Call` are allocated, as by any layer that writes the
/// metadata of a call.
///
/// The branches of a fan-out have receivers of their own. Put the layer into the stack of each branch.
///
/// ```
/// use std::{sync::mpsc, time::Duration};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     ClassifyResult, Event, LayerError, RetryConfig, RetryLayer, TimeoutLayer, WithCall,
///     event::EventsLayer,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, events) = mpsc::channel();
/// let stack = ServiceBuilder::new()
///     .layer(EventsLayer::new(move |event| sender.send(event).unwrap()))
///     .layer(RetryLayer::new(RetryConfig::new().max_attempts(2), ClassifyResult)?)
///     .layer(TimeoutLayer::new(Duration::from_millis(300))?)
///     .service(service_fn(|_: WithCall<()>| std::future::pending::<Result<(), LayerError>>()));
/// stack.oneshot(WithCall::new(()).idempotent()).await.unwrap_err();
/// let rejected = events.try_iter().filter(|event| matches!(event, Event::Rejected(_)));
/// assert_eq!(rejected.count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct EventsLayer(Arc<AddedSinks>);

impl EventsLayer {
    /// Creates a layer that adds `sink` to the receivers of each call.
    #[must_use]
    pub fn new(sink: impl Into<Events>) -> Self {
        Self(Arc::new(AddedSinks::new(SinkList::new(sink.into()))))
    }
}

impl fmt::Debug for EventsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventsLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for EventsLayer {
    type Service = WithEvents<S>;

    fn layer(&self, inner: S) -> WithEvents<S> {
        WithEvents {
            layer: self.clone(),
            inner,
        }
    }
}

/// A [`Service`] that adds a sink to the receivers of each call, created by [`EventsLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Debug)]
pub struct WithEvents<S> {
    layer: EventsLayer,
    inner: S,
}

impl<S, Req> Service<Req> for WithEvents<S>
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
    fn call(&mut self, mut request: Req) -> S::Future {
        if let Some(call) = request.call_mut() {
            self.layer.0.add_to(&mut call.events);
        }
        self.inner.call(request)
    }
}
