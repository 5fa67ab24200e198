//! [`FallbackLayer`] and its service.

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
    chain::{Chain, ChainStep, Stale, Step},
    future::ResponseFuture,
    outcomes::OutcomeSet,
    stale::StaleStore,
};
use crate::{
    call::CallContext,
    classify::{Class, Classify},
    clone::{CloneRequest, CloneResponse},
    event::{Events, FallbackKind},
    oneshot::Oneshot,
    rejection::{AsRejection, BoxError, Rejection},
};

/// A layer that responds from another source if the call failed; see the [module docs](super).
///
/// A clone starts with the same steps. A step that is added to one of them later is not added to the
/// other. The request must be `Clone` only if a step needs the request. A [fixed](Self::response) and a
/// [created](Self::response_with) response do not.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{ClassifyResult, FallbackLayer, LayerError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = FallbackLayer::new(ClassifyResult)
///     .function(|name: &'static str, _| async move {
///         if name == "Ada" { Ok(1) } else { Err::<_, LayerError>("unknown".into()) }
///     })
///     .response(0)
///     .layer(service_fn(|_| async { Err::<u32, LayerError>("down".into()) }));
/// assert_eq!(service.clone().oneshot("Ada").await.unwrap(), 1);
/// assert_eq!(service.oneshot("Bob").await.unwrap(), 0);
/// # }
/// ```
pub struct FallbackLayer<C, Req, Res, E> {
    pub(super) classify: C,
    pub(super) chain: Arc<Chain<Req, Res, E>>,
    /// The results that the next step covers, if [`on`](Self::on) was called for that step.
    next: Option<OutcomeSet>,
}

impl<C, Req, Res, E> FallbackLayer<C, Req, Res, E> {
    /// Creates a layer without steps, which leaves every result as it is.
    ///
    /// `classify` decides which results are failures.
    #[must_use]
    pub fn new(classify: C) -> Self {
        Self {
            classify,
            chain: Arc::new(Chain::new()),
            next: None,
        }
    }

    /// Sets the results that the next step covers.
    ///
    /// A step without this setting covers [all failures](OutcomeSet::default). If `on` is called twice
    /// before a step, the last call counts. Without a step after it, `on` has no effect.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{ClassifyResult, FallbackLayer, Rejection, fallback::OutcomeSet};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let mut rejected = OutcomeSet::nothing();
    /// rejected.local = true;
    /// let layer = FallbackLayer::new(ClassifyResult).on(rejected).response(1).response(2);
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

    /// Adds a fixed response to the chain. An empty response, such as `()`, `None` or JSON's `null`, is
    /// valid too.
    ///
    /// For a response that is not `Clone`, use [`response_with`](Self::response_with).
    #[must_use]
    pub fn response(self, response: Res) -> Self
    where
        Res: CloneResponse + Send + Sync + 'static,
    {
        self.response_with(move |_| response.clone())
    }

    /// Adds a function that creates a response at once, from the [`Class`] of the call's result.
    ///
    /// Neither the request nor the response has to be `Clone`, so this step suits a handler of axum. The
    /// events report the step as [`FallbackKind::Static`].
    ///
    /// Like that of every step, the response must be a success for the classifier, or else the step has failed and
    /// the result of the call stays. With `ClassifyHttp`, a page with the status 503 is not a success. To change what a
    /// client sees of a failure, map the response or the error above the fallback instead.
    ///
    /// ```
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{Class, ClassifyResult, FallbackLayer, LayerError, Rejection, WithCall};
    ///
    /// struct Page(&'static str); // is not `Clone`
    /// struct Stream;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let service = FallbackLayer::new(ClassifyResult)
    ///     .response_with(|class| match class {
    ///         Class::Rejected(_) => Page("busy"),
    ///         _ => Page("down"),
    ///     })
    ///     .layer(service_fn(|_| async { Err(LayerError::from(Rejection::AtCapacity)) }));
    /// let page = service.oneshot(WithCall::new(Stream)).await.unwrap();
    /// assert_eq!(page.0, "busy");
    /// # }
    /// ```
    #[must_use]
    pub fn response_with<F>(self, response: F) -> Self
    where
        F: Fn(Class) -> Res + Send + Sync + 'static,
    {
        self.step(None, Step::Static(Box::new(response)))
    }

    /// Adds a function of the request and the [`Class`] of the call's result to the chain.
    #[must_use]
    pub fn function<F, Fut>(self, function: F) -> Self
    where
        F: Fn(Req, Class) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, E>> + Send + 'static,
        Req: CloneRequest,
    {
        let step = Step::Call {
            kind: FallbackKind::Function,
            call: Box::new(move |request: &Req, class| Box::pin(function(request.clone(), class))),
        };
        self.step(Some(Req::clone), step)
    }

    /// Adds another service, with layers of its own, to the chain.
    #[must_use]
    pub fn service<S>(self, service: S) -> Self
    where
        S: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
        Req: CloneRequest + Send + 'static,
        Res: 'static,
        E: Send + 'static,
    {
        let step = Step::Call {
            kind: FallbackKind::Service,
            call: Box::new(move |request: &Req, _| {
                Box::pin(Oneshot::new(service.clone(), request.clone()))
            }),
        };
        self.step(Some(Req::clone), step)
    }

    /// Adds the last good response to the same request to the chain, if it is at most `max_stale` old.
    ///
    /// A response is good if the classifier returns [`Class::Success`] for it. Responses of fallback steps
    /// are not stored.
    ///
    /// `key` identifies equal requests. If `key` returns `None`, no response is stored or found.
    ///
    /// ```
    /// use std::{num::NonZeroUsize, time::Duration};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_fanout_layers::{ClassifyResult, FallbackLayer, LayerError, fallback::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let store = MemoryStore::new(NonZeroUsize::new(1_000).unwrap());
    /// let layer = FallbackLayer::new(ClassifyResult)
    ///     .stale(store, |name: &&'static str| Some(*name), Duration::from_secs(60));
    /// let up = layer.layer(service_fn(|_| async { Ok::<_, LayerError>(7) }));
    /// let down = layer.layer(service_fn(|_| async { Err(LayerError::from("down")) }));
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
        Req: CloneRequest,
    {
        let step = Step::Stale(Box::new(Stale::new(store, key, max_stale)));
        self.step(Some(Req::clone), step)
    }

    /// Reserves time of the call's deadline for the steps, at most a third of the remaining time.
    ///
    /// The layers below see a deadline that is earlier by the reserved time. The steps keep the full
    /// deadline. Defaults to 0 s.
    ///
    /// The request must have a deadline when it reaches this layer, from the caller or from a
    /// [`DeadlineLayer`](crate::DeadlineLayer) *above*. Otherwise the reserve has no effect. A
    /// `DeadlineLayer` *below* ends the original call at the earlier of its own deadline and the
    /// shortened one.
    #[must_use]
    pub fn reserve(mut self, reserve: Duration) -> Self {
        self.chain_mut().reserve = reserve;
        self
    }

    /// Sets the function that describes a failed result if a step replaces it. Its error is passed to
    /// [`EventSink::on_replaced`](crate::EventSink::on_replaced), for reports and logs.
    ///
    /// Defaults to the [`Failure`](crate::Failure) or the [`Rejection`] of the result's class.
    #[must_use]
    pub fn describe_failure(
        mut self,
        describe: impl Fn(Result<&Res, &E>) -> BoxError + Send + Sync + 'static,
    ) -> Self {
        self.chain_mut().describe = Some(Arc::new(describe));
        self
    }

    /// Adds a sink that hears every event of this layer, for every call, besides the receivers of the call.
    ///
    /// Each call of this method adds a sink. Clones of the layer that were made before do not have it. See
    /// the [module docs of the events](crate::event).
    #[must_use]
    pub fn events(mut self, sink: impl Into<Events>) -> Self {
        self.chain_mut().events.add(sink.into());
        self
    }

    fn step(mut self, keep: Option<fn(&Req) -> Req>, step: Step<Req, Res, E>) -> Self {
        let outcomes = self.next.take().unwrap_or_default();
        let chain = self.chain_mut();
        chain.keep = chain.keep.or(keep);
        chain.steps.push(Arc::new(ChainStep { outcomes, step }));
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
            .field("steps", &self.chain.steps.len())
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

/// A [`Service`] that falls back to other sources, created by [`FallbackLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
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
    E: AsRejection + From<Rejection> + Send + 'static,
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
        if !request.call().fallback || chain.steps.is_empty() {
            return ResponseFuture::transparent(self.inner.call(request));
        }
        // The steps get the deadline without the reserve, so it is read before it is changed.
        let kept = chain.keep.map(|keep| keep(&request));
        let (deadline, events) = (request.call().deadline, request.call().events.clone());
        if let Some(deadline) = chain.deadline(deadline) {
            if let Some(call) = request.call_mut() {
                call.deadline = Some(deadline);
            }
        }
        let future = self.inner.call(request);
        ResponseFuture::new(future, &self.layer, kept, deadline, events)
    }
}
