//! [`KeyedLayer`], a layer that can have one instance per key.

use tower_service::Service;

use crate::event::Events;

/// A layer that [`PerKeyLayer`](super::PerKeyLayer) can create once per key:
/// [`BreakerLayer`](crate::BreakerLayer) or [`ConcurrencyLayer`](crate::ConcurrencyLayer).
///
/// The trait is sealed.
// The types are stated here and not taken from the service of the layer, because each step from one type to another
// costs the compiler time, which multiplies with the number of layers in a stack.
pub trait KeyedLayer<S: Service<Req>, Req>: Keyed {
    /// The response of the layer's service.
    type Response;
    /// The future of the layer's service.
    type Future: Future<Output = Result<Self::Response, S::Error>>;

    /// Calls `inner` under the policy of this layer.
    ///
    /// Unlike the service of the layer, this method needs no service of its own per key.
    #[doc(hidden)]
    fn call(&self, inner: &mut S, request: Req) -> Self::Future;
}

/// The state of a [`KeyedLayer`]. The module of this trait is private, which seals both traits.
pub trait Keyed {
    /// Creates a layer with the same configuration and a new state.
    #[must_use]
    fn fresh(&self) -> Self;

    /// Adds a sink to the events of this layer and of those that [`fresh`](Self::fresh) creates from it.
    #[must_use]
    fn events(self, sink: Events) -> Self;

    /// Returns the importance of the state.
    fn retention(&self) -> Retention;
}

/// The importance of the state of a layer, from the first to be evicted to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retention {
    /// The state is the same as that of a new layer.
    Lossless,
    /// The state has counts, which are worth less than a free place for another key.
    Counts,
    /// The state is kept until the key was not used for a long time.
    UntilIdle,
    /// The state is kept in any case, for example because a call uses it.
    Held,
}
