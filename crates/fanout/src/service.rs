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

use tokio::time::Instant;
use tower::Service;
use tower_fanout_layers::breaker::State;

use crate::{
    answer::Answer,
    error::FanOutError,
    node::BoundPlan,
    plan::{NodeOrder, Plan},
    run::{Options, Run, RunObserver, ScratchPool},
    select::{Brownout, Choice, RunOptions, SelectError, Selection, choose},
    strategy::{ReturnWhen, Strategy},
};

/// Runs a [`Plan`] for each request; always ready.
///
/// It reads deadline, retries and fallbacks of the whole from the request's
/// [`CallContext`](tower_fanout_layers::CallContext). The deadline that branches are told is earlier by 5 %, but
/// by no more than 50 ms, so that there is time left to fall back and to merge. A service that heeds no
/// deadline is ended at that of the whole.
///
/// Cloning it, or setting one of its options, is cheap: options may well be set per request.
pub struct FanOut<Req> {
    bound: BoundPlan<Req>,
    scratch_pool: Arc<ScratchPool>,
    pub(crate) options: Options,
    selection: Selection,
    tier: Option<Box<str>>,
    brownout: Brownout,
    test: bool,
}

impl<Req> FanOut<Req> {
    /// Runs all nodes of `plan`, with [`Strategy::Partial`] and all at once.
    #[must_use]
    pub fn new(plan: BoundPlan<Req>) -> Self {
        Self {
            scratch_pool: Arc::new(ScratchPool::new(Arc::clone(&plan.graph().names), None)),
            bound: plan,
            options: Options {
                strategy: Strategy::Partial,
                return_when: ReturnWhen::All,
                grace: Duration::ZERO,
                max_concurrency: usize::MAX,
                detach: None,
            },
            selection: Selection::Plan,
            tier: None,
            brownout: Brownout::default(),
            test: false,
        }
    }

    /// Sets when a run is a success.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// Sets when the answer leaves.
    #[must_use]
    pub fn return_when(mut self, return_when: ReturnWhen) -> Self {
        self.options.return_when = return_when;
        self
    }

    /// Sets how long optional nodes may still take when the required ones have ended, under
    /// [`ReturnWhen::Required`]; none by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Lets optional nodes that still run when the grace is over go on without the answer, up to
    /// the deadline: to fill a cache, say. They are `cancelled` in the report, and `spawn` takes
    /// what is left of them. Without this they are dropped.
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

    /// Sets which nodes run.
    #[must_use]
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Sets the caller's tier.
    #[must_use]
    pub fn tier(mut self, tier: impl Into<Box<str>>) -> Self {
        self.tier = Some(tier.into());
        self
    }

    /// Sets what is left out because there is too much to do.
    #[must_use]
    pub fn brownout(mut self, brownout: Brownout) -> Self {
        self.brownout = brownout;
        self
    }

    /// Sets how many nodes run at once; 0 means all that can.
    #[must_use]
    pub fn max_concurrency(mut self, max_concurrency: usize) -> Self {
        let max = NonZeroUsize::new(max_concurrency);
        self.options.max_concurrency = max.map_or(usize::MAX, NonZeroUsize::get);
        self
    }

    /// Skips nodes that would change something.
    #[must_use]
    pub fn test(mut self, test: bool) -> Self {
        self.test = test;
        self
    }

    /// Sets who is told what happens. A panic of it stays with it.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn RunObserver>) -> Self {
        let names = Arc::clone(&self.bound.graph().names);
        self.scratch_pool = Arc::new(ScratchPool::new(names, Some(observer)));
        self
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.bound.plan()
    }

    /// Returns the size of the allocation that a branch of the node at `node` makes, in bytes: it holds
    /// the node's request, its stack and their state.
    ///
    /// # Panics
    /// If the plan has no such node.
    #[must_use]
    pub fn branch_size(&self, node: usize) -> usize {
        self.bound.branch_size(node)
    }

    /// Returns the state of the breaker of a node's downstream, if there is one.
    pub(crate) fn breaker_state(&self, node: usize) -> Option<State> {
        self.bound.profile(node)?.breaker_state()
    }

    pub(crate) fn node_order(&self, now: Instant) -> Arc<NodeOrder> {
        self.bound.node_order(now)
    }
}

impl<Req> FanOut<Req> {
    /// What `request` does with each node of the plan. Conditions are evaluated here, and only here.
    ///
    /// # Errors
    /// The selection leaves nothing to run or too little for the strategy, needs what the tier does
    /// not have, or the condition of a required node fails, or any condition panics.
    pub fn choose(&self, request: &Req) -> Result<Vec<Choice>, SelectError> {
        let plan = self.bound.graph();
        let strategy = self.options.strategy;
        let quorum = strategy.quorum();
        let wish = RunOptions {
            selection: &self.selection,
            tier: self.tier.as_deref(),
            quorum,
            all_required: strategy == Strategy::All,
            // Where every node counts as required there is nothing to go without.
            brownout: match strategy {
                Strategy::All => Brownout::default(),
                _ => self.brownout,
            },
            test: self.test,
        };
        let holds = |node| self.bound.holds(node, request);
        let choices = choose(&plan.nodes, &plan.order, &wish, holds)?;
        if let Some(needed) = quorum {
            let runs = |node: &usize| matches!(choices[*node], Choice::Run { .. });
            let is_sink = |node: &usize| !plan.dependents[*node].iter().any(runs);
            let of = (0..choices.len()).filter(runs).filter(is_sink).count();
            if of < needed {
                return Err(SelectError::Quorum { needed, of });
            }
        }
        Ok(choices)
    }
}

impl<Req: tower_fanout_layers::CallContext> FanOut<Req> {
    /// Begins a run for `request`, as a stream of the nodes that end.
    ///
    /// # Errors
    /// As [`choose`](Self::choose) has them.
    pub fn run(&self, request: Req) -> Result<Run<Req>, SelectError> {
        let choices = self.choose(&request)?;
        Ok(self.run_chosen(request, &choices))
    }

    /// The same with what was [chosen](Self::choose) for `request` already.
    ///
    /// # Panics
    /// If `choices` has not one choice for each node of the plan.
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
            selection: self.selection.clone(),
            tier: self.tier.clone(),
            brownout: self.brownout,
            test: self.test,
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
    type Response = Answer;
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

/// The future of [`FanOut`]: a run, folded.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req> {
    run: Option<Result<Run<Req>, SelectError>>,
    strategy: Strategy,
}

impl<Req: Unpin> Future for ResponseFuture<Req> {
    type Output = Result<Answer, FanOutError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let strategy = self.strategy;
        if let Some(Ok(run)) = &mut self.run {
            while ready!(run.poll_next(cx)).is_some() {}
        }
        // Only a poll after completion, which the contract of futures forbids, finds no run.
        let run = self.run.take().expect("polled after completion");
        Poll::Ready(match run {
            Ok(run) => strategy.judge(run.into_answer()),
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
