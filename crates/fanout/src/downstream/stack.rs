//! The services that a [`Downstream`] puts around its client.

use std::{
    future::Pending,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder, util::Either};
use tower_fanout_layers::{
    AsRejection, BreakerLayer, CallContext, CallKey, Classify, CloneRequest, CloneService,
    ConcurrencyLayer, Rejection,
    breaker::Breaker,
    concurrency::Concurrency,
    event::Sent,
    hedge::Hedge,
    per_key::{ByCall, PerKey},
    retry::Retry,
    throttle::Throttle,
    timeout::{Timeout, WithDeadline},
};

use super::Downstream;

impl<S: CloneService, C: Clone, B> Layer<S> for Downstream<C, B> {
    type Service = DownstreamService<S, C>;

    fn layer(&self, client: S) -> DownstreamService<S, C> {
        // What all keys share.
        let shared = ServiceBuilder::new()
            // Above the limit, because a call that is not sent needs no permit. Checks the breaker
            // first, so that calls that an open circuit rejects are not counted.
            .option_layer(self.throttle.clone())
            // Per attempt, so that a pausing call holds no permit. Checks the breaker first, so that no
            // call queues for an open circuit, and again after the queue.
            .option_layer(self.concurrency.clone())
            // Below the queue, so that the breaker measures only the service, and a probe already has
            // its permit.
            .option_layer(self.breaker.clone())
            // Below the limit, so that the time of an attempt starts when its permit is granted.
            .option_layer(self.timeout.clone())
            // Innermost, so that it reports only attempts that no layer rejected.
            .layer(self.sent.clone())
            .service(client);
        // Above what the keys share, so that a key is rejected before it takes a permit from the others.
        let attempt = ServiceBuilder::new()
            // Per attempt, so that a pausing call holds no permit of its key.
            .option_layer(self.concurrency_per_key.clone())
            // Per attempt, so that it counts every attempt. Below the queue of the key, so that a probe already
            // has its permit.
            .option_layer(self.breaker_per_key.clone())
            .service(Shared { inner: shared });
        let layers = ServiceBuilder::new()
            // Outermost: bounds all attempts and the pauses between them. Always present: without a total
            // timeout, it enforces the deadline of the call.
            .layer(self.deadline.clone())
            // Retries or hedges. Above the breaker, so that the breaker counts every attempt and can
            // reject each.
            .layer(self.attempts.clone());
        let inner = layers.service(Attempt { inner: attempt });
        DownstreamService { inner }
    }
}

/// A client in the layers of a [`Downstream`], which created it.
#[derive(Clone, Debug)]
pub struct DownstreamService<S, C> {
    inner: Stack<S, C>,
}

// The type of what `Downstream::layer` builds, from the innermost layer to the outermost.
type Timed<S> = Either<Timeout<Sent<S>>, Sent<S>>;
type Guarded<S, C> = Either<Breaker<S, C>, S>;
type Limited<S, C> = Either<Concurrency<S, C>, S>;
type Throttled<S, C> = Either<Throttle<S, C>, S>;
type SharedStack<S, C> = Throttled<Limited<Guarded<Timed<S>, C>, C>, C>;
type Keyed<S, L> = Either<PerKey<S, Option<CallKey>, ByCall, L>, S>;
type BreakerPerKey<S, C> = Keyed<Shared<S, C>, BreakerLayer<C>>;
type AttemptStack<S, C> = Keyed<BreakerPerKey<S, C>, ConcurrencyLayer<C>>;
type Attempts<S, C> = Either<Retry<S, C>, Hedge<S, C>>;
type Stack<S, C> = WithDeadline<Attempts<Attempt<S, C>, C>>;

/// The layers that all keys share.
#[derive(Clone, Debug)]
pub struct Shared<S, C> {
    inner: SharedStack<S, C>,
}

/// The layers that each attempt passes.
#[derive(Clone, Debug)]
pub struct Attempt<S, C> {
    inner: AttemptStack<S, C>,
}

/// Implements `Service` for a part of the stack. The stack has parts, because a part states its response and its
/// error: without them, the compiler finds these types through all layers, again for each layer, and the time for
/// that multiplies with every layer.
macro_rules! part {
    ($part:ident: $inner:ty) => {
        impl<S, C, Req> Service<Req> for $part<S, C>
        where
            S: Service<Req> + CloneService,
            S::Error: AsRejection + From<Rejection>,
            C: Classify<S::Response, S::Error> + Clone,
            Req: CallContext + CloneRequest,
        {
            type Response = S::Response;
            type Error = S::Error;
            type Future = <$inner as Service<Req>>::Future;

            #[inline]
            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
                self.inner.poll_ready(cx)
            }

            #[inline]
            fn call(&mut self, request: Req) -> Self::Future {
                self.inner.call(request)
            }
        }
    };
}

part!(Shared: SharedStack<S, C>);
part!(Attempt: AttemptStack<S, C>);
part!(DownstreamService: Stack<S, C>);

/// The type that the compiler names if a bound of a [`DownstreamService`] is not met: "expected `UnmetBound`, found
/// `Request<Bytes>`", or "the trait `CallContext` is not implemented for `UnmetBound`".
///
/// No value of this type exists. A `DownstreamService` also implements `Service<UnmetBound>`, so that the compiler
/// waits for the type of the request before it tries the bounds of all layers. If the bounds for that type are not
/// met, only this implementation is left. The usual causes:
///
/// - **The error of the client** is not `From<Rejection>` or not [`AsRejection`]. Put
///   [`LayerErrorLayer`](tower_fanout_layers::LayerErrorLayer) or
///   [`CallErrorLayer`](tower_fanout_layers::CallErrorLayer) below the downstream.
/// - **The request** is not a [`CallContext`]: send a [`WithCall`](tower_fanout_layers::WithCall), or turn on the
///   feature `http` for an `http::Request`. Or the request is not `Clone`.
/// - **The classifier** does not fit the response: [`ClassifyHttp`](tower_fanout_layers::ClassifyHttp) needs an
///   `http::Response`.
/// - **A layer below** takes another request or response, such as `AcceptLayer` of `tower-fanout-json`, which
///   belongs above the downstream.
///
/// To see the bound itself, put the client into a single layer in place of the downstream, such as
/// [`TimeoutLayer`](tower_fanout_layers::TimeoutLayer), and call it with `ServiceExt::oneshot(service, request)`.
#[derive(Debug)]
pub enum UnmetBound {}

/// Keeps the compiler from choosing the other implementation before it knows the type of the request. For an unknown
/// type it would try the bounds of all layers, each several times, where a function infers the request and needs a
/// `Send` future, as [`PlanBuilder::node`](crate::PlanBuilder::node) does: the code of the README takes a minute to
/// compile in place of 4 s.
#[doc(hidden)]
impl<S, C> Service<UnmetBound> for DownstreamService<S, C> {
    type Response = UnmetBound;
    type Error = UnmetBound;
    type Future = Pending<Result<UnmetBound, UnmetBound>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UnmetBound>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: UnmetBound) -> Self::Future {
        match request {}
    }
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::ClassifyResult;

    use super::*;

    /// `Downstream::layer` builds these types, with the layers in the order of their names.
    #[test]
    fn the_order_is_the_documented_one() {
        fn check<T>(order: &[&str]) {
            let name = std::any::type_name::<T>();
            let places = order.iter().map(|layer| name.find(&format!("::{layer}")));
            let places: Vec<_> = places.collect();
            assert!(places.iter().all(Option::is_some), "{name}");
            assert!(places.is_sorted(), "{name}");
        }
        check::<Stack<(), ClassifyResult>>(&["WithDeadline<", "Either<", "Retry<", "Attempt<"]);
        // The layer of a key follows the service in its type, so that of the inner `PerKey` comes first.
        let attempt = ["PerKey<", "Shared<", "BreakerLayer", "ConcurrencyLayer"];
        check::<AttemptStack<(), ClassifyResult>>(&attempt);
        let shared = ["Throttle<", "Concurrency<", "Breaker<", "Timeout<", "Sent<"];
        check::<SharedStack<(), ClassifyResult>>(&shared);
    }
}
