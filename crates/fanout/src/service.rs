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
    answer::Answer,
    error::FanOutError,
    plan::Plan,
    run::{Rooms, Run, RunObserver},
    select::{Brownout, Choice, SelectError, Selection, Wish, choose},
    strategy::{ReturnWhen, Strategy},
};

/// Runs a [`Plan`] for each request; always ready.
///
/// It reads deadline, retries and fallbacks of the whole from the request's
/// [`Context`](tower_fanout_layers::Context). The deadline that branches are told is earlier by 5 %, but
/// by no more than 50 ms, so that there is time left to fall back and to merge. A service that heeds no
/// deadline is ended at that of the whole.
///
/// Cloning it, or setting one of its options, is cheap: options may well be set per request.
pub struct FanOut<Req> {
    plan: Plan<Req>,
    rooms: Arc<Rooms>,
    pub(crate) options: Options,
    selection: Selection,
    tier: Option<Box<str>>,
    brownout: Brownout,
    test: bool,
}

/// Takes branches that go on when the answer has left.
type Detach = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// What a run is told.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) strategy: Strategy,
    pub(crate) return_when: ReturnWhen,
    pub(crate) grace: Duration,
    pub(crate) max_concurrency: usize,
    pub(crate) detach: Option<Detach>,
}

impl<Req> FanOut<Req> {
    /// Runs all of `plan`, with [`Strategy::Partial`] and all at once.
    #[must_use]
    pub fn new(plan: Plan<Req>) -> Self {
        Self {
            rooms: Arc::new(Rooms::new(plan.shared_names(), None)),
            plan,
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
    /// # let mut plan = Plan::<()>::builder();
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
        self.rooms = Arc::new(Rooms::new(self.plan.shared_names(), Some(observer)));
        self
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan<Req> {
        &self.plan
    }
}

impl<Req> FanOut<Req> {
    /// What `request` does with each node of the plan.
    ///
    /// # Errors
    /// The selection leaves nothing to run or too little for the strategy, needs what the tier does
    /// not have, or a condition panics.
    pub fn choose(&self, request: &Req) -> Result<Vec<Choice>, SelectError> {
        self.choose_where(|node| self.plan.inner.holds(node, request))
    }

    /// What a request would do with each node if all conditions held.
    ///
    /// # Errors
    /// As [`choose`](Self::choose) has them.
    pub fn candidates(&self) -> Result<Vec<Choice>, SelectError> {
        self.choose_where(|_| Ok(true))
    }

    fn choose_where(
        &self,
        holds: impl Fn(usize) -> Result<bool, SelectError>,
    ) -> Result<Vec<Choice>, SelectError> {
        let plan = &*self.plan.inner;
        let quorum = self.options.strategy.quorum();
        let wish = Wish {
            selection: &self.selection,
            tier: self.tier.as_deref(),
            quorum,
            // Where every node counts as required there is nothing to go without.
            brownout: match self.options.strategy {
                Strategy::All => Brownout::default(),
                _ => self.brownout,
            },
            test: self.test,
        };
        let mut choices = choose(&plan.nodes, &plan.order, &wish, holds)?;
        if self.options.strategy == Strategy::All {
            for choice in &mut choices {
                if let Choice::Run { required } = choice {
                    *required = true;
                }
            }
        }
        if let Some(needed) = quorum {
            let runs = |node: &usize| matches!(choices[*node], Choice::Run { .. });
            let is_last = |node: &usize| !plan.dependents[*node].iter().any(runs);
            let of = (0..choices.len()).filter(runs).filter(is_last).count();
            if of < needed {
                return Err(SelectError::Quorum { needed, of });
            }
        }
        Ok(choices)
    }
}

impl<Req: tower_fanout_layers::Context> FanOut<Req> {
    /// Begins a run for `request`, as a stream of the nodes that end.
    ///
    /// # Errors
    /// As [`choose`](Self::choose) has them.
    pub fn run(&self, request: Req) -> Result<Run<Req>, SelectError> {
        let choices = self.choose(&request)?;
        Ok(self.run_chosen(request, &choices))
    }

    /// The same with what was [chosen](Self::choose) for `request` already.
    pub fn run_chosen(&self, request: Req, choices: &[Choice]) -> Run<Req> {
        Run::new(
            self.plan.clone(),
            request,
            choices,
            self.options.clone(),
            Arc::clone(&self.rooms),
        )
    }
}

impl<Req> Clone for FanOut<Req> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            rooms: Arc::clone(&self.rooms),
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
            .field("plan", &self.plan)
            .field("strategy", &self.options.strategy)
            .field("return_when", &self.options.return_when)
            .field("max_concurrency", &self.options.max_concurrency)
            .finish_non_exhaustive()
    }
}

impl<Req: tower_fanout_layers::Context + Unpin> Service<Req> for FanOut<Req> {
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
