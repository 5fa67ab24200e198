//! The layer and its service.

use std::{
    fmt,
    future::Future,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    chain::{Chain, Link, Stale, Step},
    future::ResponseFuture,
    outcomes::OutcomeSet,
    stale::StaleStore,
};
use crate::{
    call::CallContext,
    classify::{Class, Classify},
    event::FallbackKind,
    oneshot::Oneshot,
    rejection::{AsRejection, Rejection},
};

/// Answers from somewhere else when the call failed; see the [module docs](super).
///
/// A clone has the same steps; what is added to one after that is not added to the other. The request
/// must be `Clone` only for a step that is asked with it: not for a [fixed answer](Self::answer).
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BoxError, ClassifyResult, FallbackLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = FallbackLayer::new(ClassifyResult)
///     .function(|name: &'static str, _| async move {
///         if name == "Ada" { Ok(1) } else { Err::<_, BoxError>("unknown".into()) }
///     })
///     .answer(0)
///     .layer(service_fn(|_| async { Err::<u32, BoxError>("down".into()) }));
/// assert_eq!(service.clone().oneshot("Ada").await.unwrap(), 1);
/// assert_eq!(service.oneshot("Bob").await.unwrap(), 0);
/// # }
/// ```
pub struct FallbackLayer<C, Req, Res, E> {
    pub(super) classify: C,
    pub(super) chain: Arc<Chain<Req, Res, E>>,
    /// What the next step is for.
    next: Option<OutcomeSet>,
}

impl<C, Req, Res, E> FallbackLayer<C, Req, Res, E> {
    /// No step yet: what `classify` says has failed stays failed.
    #[must_use]
    pub fn new(classify: C) -> Self {
        Self {
            classify,
            chain: Arc::new(Chain::new()),
            next: None,
        }
    }

    /// Says what the step that is added next is for; a step of which nothing is said is for
    /// [all failures](OutcomeSet::default). Said twice of one step, the last counts; said last of all,
    /// of no step, it counts for nothing.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{ClassifyResult, FallbackLayer, Rejection, fallback::OutcomeSet};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut refused = OutcomeSet::nothing();
    /// refused.local = true;
    /// let layer = FallbackLayer::new(ClassifyResult).on(refused).answer(1).answer(2);
    /// let answer = |reject| layer.layer(service_fn(move |()| async move { Err(reject) })).oneshot(());
    /// assert_eq!(answer(Rejection::AtCapacity).await, Ok(1));
    /// assert_eq!(answer(Rejection::AttemptTimeout).await, Ok(2));
    /// # }
    /// ```
    #[must_use]
    pub fn on(mut self, outcomes: OutcomeSet) -> Self {
        self.next = Some(outcomes);
        self
    }

    /// Adds a fixed answer to the chain. An empty one (`()`, `None`, JSON's `null`) is as good as any
    /// other.
    #[must_use]
    pub fn answer(self, answer: Res) -> Self
    where
        Res: Clone + Send + Sync + 'static,
    {
        self.step(None, Step::Answer(Box::new(move || answer.clone())))
    }

    /// Adds a function of the request and of what became of the call.
    #[must_use]
    pub fn function<F, Fut>(self, function: F) -> Self
    where
        F: Fn(Req, Class) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, E>> + Send + 'static,
        Req: Clone,
    {
        let step = Step::Ask {
            kind: FallbackKind::Function,
            ask: Box::new(move |request: &Req, class| Box::pin(function(request.clone(), class))),
        };
        self.step(Some(Req::clone), step)
    }

    /// Adds another service, with layers of its own.
    #[must_use]
    pub fn service<S>(self, service: S) -> Self
    where
        S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: Clone + Send + 'static,
        Res: 'static,
        E: Send + 'static,
    {
        let step = Step::Ask {
            kind: FallbackKind::Service,
            ask: Box::new(move |request: &Req, _| {
                Box::pin(Oneshot::new(service.clone(), request.clone()))
            }),
        };
        self.step(Some(Req::clone), step)
    }

    /// Adds the last good answer to the same question, if it is not older than `max_stale`. `key`
    /// says which questions are the same; a request without a key has none.
    ///
    /// ```
    /// use std::{num::NonZeroUsize, time::Duration};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{BoxError, ClassifyResult, FallbackLayer, fallback::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let store = MemoryStore::new(NonZeroUsize::new(1_000).unwrap());
    /// let layer = FallbackLayer::new(ClassifyResult)
    ///     .stale(store, |name: &&'static str| Some(*name), Duration::from_secs(60));
    /// let up = layer.layer(service_fn(|_| async { Ok::<_, BoxError>(7) }));
    /// let down = layer.layer(service_fn(|_| async { Err(BoxError::from("down")) }));
    /// assert_eq!(up.oneshot("Ada").await.unwrap(), 7);
    /// assert_eq!(down.clone().oneshot("Ada").await.unwrap(), 7);
    /// assert!(down.oneshot("Bob").await.is_err());
    /// # }
    /// ```
    #[must_use]
    pub fn stale<K, Store, Key>(self, store: Store, key: Key, max_stale: Duration) -> Self
    where
        K: 'static,
        Store: StaleStore<K, Res> + 'static,
        Key: Fn(&Req) -> Option<K> + Send + Sync + 'static,
        Req: Clone,
    {
        let step = Step::Stale(Box::new(Stale::new(store, key, max_stale)));
        self.step(Some(Req::clone), step)
    }

    /// Keeps this much of the call's deadline back for the steps, a third of what is left at most:
    /// the layers below see a deadline that is so much earlier. None by default.
    #[must_use]
    pub fn reserve(mut self, reserve: Duration) -> Self {
        self.chain_mut().reserve = reserve;
        self
    }

    /// Falls back for this status too, which the service answers rightly: 404, say. It holds for the
    /// steps that do not say [what they are for](Self::on).
    #[must_use]
    pub fn on_status(mut self, status: u16) -> Self {
        self.chain_mut().usual.statuses.push(status);
        self
    }

    fn step(mut self, keep: Option<fn(&Req) -> Req>, step: Step<Req, Res, E>) -> Self {
        let outcomes = self.next.take();
        let chain = self.chain_mut();
        chain.keep = chain.keep.or(keep);
        chain.links.push(Arc::new(Link { outcomes, step }));
        self
    }

    fn chain_mut(&mut self) -> &mut Chain<Req, Res, E> {
        Arc::make_mut(&mut self.chain)
    }
}

impl<C: Clone, Req, Res, E> Clone for FallbackLayer<C, Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            classify: self.classify.clone(),
            chain: Arc::clone(&self.chain),
            next: self.next.clone(),
        }
    }
}

impl<C, Req, Res, E> fmt::Debug for FallbackLayer<C, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLayer")
            .field("steps", &self.chain.links.len())
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone, Req, Res, E> Layer<S> for FallbackLayer<C, Req, Res, E> {
    type Service = Fallback<S, C, Req, Res, E>;

    fn layer(&self, inner: S) -> Self::Service {
        Fallback {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`FallbackLayer`].
pub struct Fallback<S, C, Req, Res, E> {
    layer: FallbackLayer<C, Req, Res, E>,
    inner: S,
}

impl<S: Clone, C: Clone, Req, Res, E> Clone for Fallback<S, C, Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            layer: self.layer.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S: fmt::Debug, C, Req, Res, E> fmt::Debug for Fallback<S, C, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("layer", &self.layer)
            .field("inner", &self.inner)
            .finish()
    }
}

impl<S, C, Req, Res, E> Service<Req> for Fallback<S, C, Req, Res, E>
where
    S: Service<Req, Response = Res, Error = E>,
    Res: Send + 'static,
    E: From<Rejection> + AsRejection + Send + 'static,
    C: Classify<Res, E> + Clone,
    Req: CallContext,
{
    type Response = Res;
    type Error = E;
    type Future = ResponseFuture<S::Future, C, Req, Res, E>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let chain = &self.layer.chain;
        if !request.call().fallback || chain.links.is_empty() {
            return ResponseFuture::transparent(self.inner.call(request));
        }
        let kept = chain.keep.map(|keep| keep(&request));
        let (deadline, events) = (request.call().deadline, request.call().events.clone());
        if let Some(deadline) = chain.deadline(deadline)
            && let Some(call) = request.call_mut()
        {
            call.deadline = Some(deadline);
        }
        let future = self.inner.call(request);
        ResponseFuture::new(future, &self.layer, kept, deadline, events)
    }
}
