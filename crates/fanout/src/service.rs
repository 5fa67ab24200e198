//! The service that runs a plan for each request.

use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tower::Service;

use crate::{
    answer::FanOutResponse,
    error::FanOutError,
    node::BoundPlan,
    plan::Plan,
    run::{Options, Run, RunObserver, ScratchPool},
    select::{Brownout, Choice, SelectError, SelectOptions, Selection, choose},
    strategy::{ReturnWhen, Strategy},
};

/// A [`Service`] that runs a [`Plan`] for each request.
///
/// The request's [`CallContext`](tower_fanout_layers::CallContext) provides the deadline, the
/// maximum number of retries, and whether fallbacks may answer. Send an `http::Request` (feature
/// `http` of the layers) or a [`WithCall`](tower_fanout_layers::WithCall) to set them. Plain requests
/// such as `u64`, `String` and tuples implement the trait too, but carry no metadata: their runs have
/// no deadline.
///
/// The deadline of the branches is earlier by 5 % of the remaining time, but by at most 50 ms, so that
/// time is left to merge the answers. The deadline of a branch with dependents may be earlier still, to
/// [reserve time](crate::Node::expected) for them. A call that is pending at its reserved deadline, or
/// otherwise at the deadline of the request, is ended by the run.
///
/// `poll_ready` always returns `Ready`: the readiness of each node's service is awaited in its
/// branch.
///
/// Cloning a `FanOut` and setting its options is cheap, so options may be set per request.
pub struct FanOut<Req> {
    pub(crate) bound: BoundPlan<Req>,
    scratch_pool: Arc<ScratchPool>,
    pub(crate) options: Options,
    select: SelectOptions,
}

impl<Req> FanOut<Req> {
    /// Creates a service that runs all nodes of `plan`, with [`Strategy::Partial`] and without a
    /// limit on concurrent nodes.
    #[must_use]
    pub fn new(plan: BoundPlan<Req>) -> Self {
        Self {
            scratch_pool: Arc::new(ScratchPool::new(plan.graph().nodes.len(), None)),
            bound: plan,
            options: Options {
                strategy: Strategy::Partial,
                return_when: ReturnWhen::All,
                grace: Duration::ZERO,
                max_concurrency: usize::MAX,
                detach: None,
            },
            select: SelectOptions::default(),
        }
    }

    /// Sets the strategy, which decides when a run is a success. The default is
    /// [`Strategy::Partial`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// Sets when the response is returned. The default is [`ReturnWhen::All`].
    #[must_use]
    pub fn return_when(mut self, return_when: ReturnWhen) -> Self {
        self.options.return_when = return_when;
        self
    }

    /// Sets how long optional nodes may continue after the last required node has ended, under
    /// [`ReturnWhen::Required`]. The default is zero.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Lets optional nodes that are still running at the end of the grace period continue in the
    /// background, until they end or the deadline passes. Use it to let them fill a cache, for
    /// example.
    ///
    /// `spawn` receives a future that runs these nodes. They are `cancelled` in the report,
    /// or `fallback` if they have a [fallback](crate::Node::cut_fallback), and their answers are dropped. By default, their calls are dropped at the end of the grace
    /// period.
    ///
    /// The option has an effect only under [`ReturnWhen::Required`], which alone has a grace period.
    /// Nodes that are ended for another reason are not detached: their calls are dropped when the
    /// strategy is decided, at the deadline, or if the caller drops the response future. A "late" node
    /// of the tables of [`Strategy`], which has not ended at the deadline, is therefore not detached.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower::{BoxError, service_fn};
    /// # use tower_fanout::{FanOut, Plan, ReturnWhen};
    /// # let mut plan = Plan::builder::<()>();
    /// # plan.node("a", service_fn(|()| async { Ok::<_, BoxError>(()) }), |(), _| Ok(()));
    /// let service = FanOut::new(plan.build().unwrap())
    ///     .return_when(ReturnWhen::Required)
    ///     .grace(Duration::from_millis(50))
    ///     .detach_late(|late| drop(tokio::spawn(late)));
    /// ```
    #[must_use]
    pub fn detach_late(
        mut self,
        spawn: impl Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync + 'static,
    ) -> Self {
        self.options.detach = Some(Arc::new(spawn));
        self
    }

    /// Sets which nodes run. The default is [`Selection::Plan`].
    #[must_use]
    pub fn selection(mut self, selection: Selection) -> Self {
        self.select.selection = selection;
        self
    }

    /// Sets the caller's tier. By default, the caller has no tier, and nodes that are restricted to
    /// tiers are not available.
    #[must_use]
    pub fn tier(mut self, tier: impl Into<Arc<str>>) -> Self {
        self.select.tier = Some(tier.into());
        self
    }

    /// Sets the load, by which optional nodes are skipped. The default is no load.
    #[must_use]
    pub fn brownout(mut self, brownout: Brownout) -> Self {
        self.select.brownout = brownout;
        self
    }

    /// Sets the maximum number of nodes in flight per request. 0, like the default, means no limit.
    #[must_use]
    pub fn max_concurrency(mut self, max_concurrency: usize) -> Self {
        let max = NonZeroUsize::new(max_concurrency);
        self.options.max_concurrency = max.map_or(usize::MAX, NonZeroUsize::get);
        self
    }

    /// Marks requests as test runs if `test` is `true`. Test runs skip nodes that may change state.
    #[must_use]
    pub fn test(mut self, test: bool) -> Self {
        self.select.test = test;
        self
    }

    /// Sets the observer of all runs. Its panics are caught.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn RunObserver>) -> Self {
        let nodes = self.bound.graph().nodes.len();
        self.scratch_pool = Arc::new(ScratchPool::new(nodes, Some(observer)));
        self
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.bound.plan()
    }

    /// Decides for each node of the plan whether `request` runs it.
    ///
    /// The strategy and the options [`selection`](Self::selection), [`tier`](Self::tier),
    /// [`brownout`](Self::brownout) and [`test`](Self::test) decide. Nodes may be skipped for the
    /// reasons `tier`, `when`, `brownout` and `test`. A node that needs the answer of a skipped node is
    /// skipped for the same reason. An optional node whose condition returns an error fails. The conditions of
    /// nodes are evaluated here and nowhere else.
    ///
    /// # Errors
    /// Returns an error if
    ///
    /// - the selection names an unknown node,
    /// - no node is left to run, or fewer than the strategy needs,
    /// - a required node is not available to the caller's tier,
    /// - the condition of a required node returns an error, or those of optional nodes do and too few nodes are
    ///   left for the strategy, or
    /// - the condition of any node panics.
    pub fn choose(&self, request: &Req) -> Result<Vec<Choice>, SelectError> {
        let holds = |node| self.bound.holds(node, request);
        choose(
            self.bound.graph(),
            &self.select,
            self.options.strategy,
            holds,
        )
    }
}

impl<Req: tower_fanout_layers::CallContext> FanOut<Req> {
    /// Starts a run for `request`. The run is a stream of the nodes that end.
    ///
    /// # Errors
    /// Returns the errors of [`choose`](Self::choose).
    pub fn run(&self, request: Req) -> Result<Run<Req>, SelectError> {
        let choices = self.choose(&request)?;
        Ok(self.run_chosen(request, &choices))
    }

    /// Starts a run for `request` with the `choices` that [`choose`](Self::choose) returned for it.
    ///
    /// # Panics
    /// Panics if `choices` does not have one entry per node of the plan.
    pub fn run_chosen(&self, request: Req, choices: &[Choice]) -> Run<Req> {
        Run::new(
            self.bound.clone(),
            request,
            choices,
            self.options.clone(),
            Arc::clone(&self.scratch_pool),
        )
    }
}

impl<Req> Clone for FanOut<Req> {
    fn clone(&self) -> Self {
        Self {
            bound: self.bound.clone(),
            scratch_pool: Arc::clone(&self.scratch_pool),
            options: self.options.clone(),
            select: self.select.clone(),
        }
    }
}

impl<Req> fmt::Debug for FanOut<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut")
            .field("plan", self.plan())
            .field("strategy", &self.options.strategy)
            .field("return_when", &self.options.return_when)
            .field("max_concurrency", &self.options.max_concurrency)
            .finish_non_exhaustive()
    }
}

impl<Req: tower_fanout_layers::CallContext + Unpin> Service<Req> for FanOut<Req> {
    type Response = FanOutResponse;
    type Error = FanOutError;
    type Future = ResponseFuture<Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FanOutError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ResponseFuture<Req> {
        ResponseFuture {
            run: Some(self.run(request)),
            strategy: self.options.strategy,
        }
    }
}

/// The future of a [`FanOut`], which runs the plan and returns the [`FanOutResponse`].
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req> {
    run: Option<Result<Run<Req>, SelectError>>,
    strategy: Strategy,
}

impl<Req: Unpin> Future for ResponseFuture<Req> {
    type Output = Result<FanOutResponse, FanOutError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let strategy = self.strategy;
        if let Some(Ok(run)) = &mut self.run {
            while ready!(run.poll_next(cx)).is_some() {}
        }
        // Only polling after completion, which the contract of `Future` forbids, finds no run.
        let run = self.run.take().expect("polled after completion");
        Poll::Ready(match run {
            Ok(run) => strategy.judge(run.into_response()),
            Err(error) => Err(FanOutError::Select(error)),
        })
    }
}

impl<Req> fmt::Debug for ResponseFuture<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}
