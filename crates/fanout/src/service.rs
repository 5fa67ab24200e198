//! The service that runs a plan for each request and says whether that was enough.

use std::{
    error::Error,
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
    outcome::{SkipReason, Status},
    plan::Plan,
    report::Report,
    run::{Run, RunObserver},
    select::{Choice, SelectError, Selection, choose},
};

/// When a run is a success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Strategy {
    /// Every node counts as required; the first failure cancels the rest.
    All,
    /// Every required node must have an answer.
    #[default]
    Partial,
    /// Any answer will do.
    BestEffort,
}

impl Strategy {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Partial => "partial",
            Self::BestEffort => "best_effort",
        }
    }
}

/// Runs a [`Plan`] for each request; always ready.
///
/// It reads deadline, retries and fallbacks of the whole from the request's
/// [`Context`](tower_fanout_layers::Context). Of the deadline, 5 % but no more than 50 ms are kept
/// back from the branches, so that there is time left to fall back and to merge.
///
/// Cloning it, or setting one of its options, is cheap: options may well be set per request.
pub struct FanOut<Req> {
    plan: Plan<Req>,
    strategy: Strategy,
    selection: Selection,
    tier: Option<Box<str>>,
    max_concurrency: Option<NonZeroUsize>,
    test: bool,
    observer: Option<Arc<dyn RunObserver>>,
}

impl<Req> FanOut<Req> {
    /// Runs all of `plan`, with [`Strategy::Partial`] and all at once.
    #[must_use]
    pub const fn new(plan: Plan<Req>) -> Self {
        Self {
            plan,
            strategy: Strategy::Partial,
            selection: Selection::Plan,
            tier: None,
            max_concurrency: None,
            test: false,
            observer: None,
        }
    }

    /// Sets when a run is a success.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
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

    /// Sets how many nodes run at once; 0 means all that can.
    #[must_use]
    pub fn max_concurrency(mut self, max_concurrency: usize) -> Self {
        self.max_concurrency = NonZeroUsize::new(max_concurrency);
        self
    }

    /// Skips nodes that would change something.
    #[must_use]
    pub fn test(mut self, test: bool) -> Self {
        self.test = test;
        self
    }

    /// Sets who is told what happens.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn RunObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan<Req> {
        &self.plan
    }
}

impl<Req> FanOut<Req> {
    /// What a request does with each node of the plan.
    ///
    /// # Errors
    /// The selection leaves nothing to run, or needs what the tier does not have.
    pub fn choose(&self) -> Result<Vec<Choice>, SelectError> {
        let plan = &*self.plan.inner;
        let mut choices = choose(
            &plan.nodes,
            &plan.order,
            &self.selection,
            self.tier.as_deref(),
        )?;
        for (choice, node) in choices.iter_mut().zip(&plan.nodes) {
            match choice {
                Choice::Run { .. } if self.test && !node.safe => {
                    *choice = Choice::Skip(SkipReason::Test)
                }
                Choice::Run { required } => *required |= self.strategy == Strategy::All,
                _ => {}
            }
        }
        Ok(choices)
    }
}

impl<Req: tower_fanout_layers::Context> FanOut<Req> {
    /// Begins a run for `request`, as a stream of the nodes that end.
    ///
    /// # Errors
    /// The selection leaves nothing to run, or needs what the tier does not have.
    pub fn run(&self, request: Req) -> Result<Run<Req>, SelectError> {
        let choices = self.choose()?;
        Ok(Run::new(
            self.plan.clone(),
            request,
            &choices,
            self.max_concurrency,
            self.observer.clone(),
        ))
    }
}

impl<Req> Clone for FanOut<Req> {
    fn clone(&self) -> Self {
        Self {
            plan: self.plan.clone(),
            strategy: self.strategy,
            selection: self.selection.clone(),
            tier: self.tier.clone(),
            max_concurrency: self.max_concurrency,
            test: self.test,
            observer: self.observer.clone(),
        }
    }
}

impl<Req> fmt::Debug for FanOut<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut")
            .field("plan", &self.plan)
            .field("strategy", &self.strategy)
            .field("max_concurrency", &self.max_concurrency)
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
            strategy: self.strategy,
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
            while let Some(node) = ready!(run.poll_next(cx)) {
                if strategy == Strategy::All && !run.branch(node).status.is_answered() {
                    run.cancel();
                    break;
                }
            }
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

impl Strategy {
    /// Whether `answer` is a success.
    ///
    /// # Errors
    /// It is not; the error carries the answer.
    pub fn judge(self, answer: Answer) -> Result<Answer, FanOutError> {
        match self.verdict(&answer.report) {
            None => Ok(answer),
            Some(verdict) => Err(FanOutError::Failed {
                verdict,
                answer: Box::new(answer),
            }),
        }
    }

    /// Why a run with this report is no success; none if it is one.
    #[must_use]
    pub fn verdict(self, report: &Report) -> Option<Verdict> {
        let branches = &report.branches;
        let counts = |branch: &&crate::Branch| branch.required || self == Self::BestEffort;
        let failed = match self {
            Self::BestEffort => branches.iter().all(|branch| !branch.status.is_answered()),
            Self::All | Self::Partial => branches
                .iter()
                .any(|branch| branch.required && !branch.status.is_answered()),
        };
        failed.then(|| Verdict::of(branches.iter().filter(counts)))
    }
}

/// What all causes of a failed run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Time ran out for all of them.
    Timeout,
    /// We refused all of them.
    Unavailable {
        /// When it is worth asking again: when the last of them is.
        retry_after: Option<Duration>,
    },
    /// Neither.
    Failed,
}

impl Verdict {
    /// The verdict on `branches`, of which those that failed or had no time are the causes.
    fn of<'b>(branches: impl Iterator<Item = &'b crate::Branch>) -> Self {
        let (mut timeouts, mut refusals, mut others) = (0, 0, 0);
        let mut retry_after = None;
        for branch in branches {
            match (&branch.error, branch.skipped) {
                (_, Some(SkipReason::NoTime)) => timeouts += 1,
                (Some(error), _) if error.kind().is_timeout() => timeouts += 1,
                (Some(error), _) if error.kind().is_refusal() => {
                    refusals += 1;
                    retry_after = retry_after.max(error.wait());
                }
                (Some(_), _) => others += 1,
                _ => {}
            }
        }
        match (timeouts, refusals, others) {
            (1.., 0, 0) => Self::Timeout,
            (0, 1.., 0) => Self::Unavailable { retry_after },
            _ => Self::Failed,
        }
    }
}

/// Why there is no answer as a whole.
#[non_exhaustive]
pub enum FanOutError {
    /// The run was not begun.
    Select(SelectError),
    /// The run was no success by its strategy.
    Failed {
        /// What its causes have in common.
        verdict: Verdict,
        /// What there is nevertheless, with the report.
        answer: Box<Answer>,
    },
}

impl fmt::Debug for FanOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(error) => f.debug_tuple("Select").field(error).finish(),
            Self::Failed { verdict, answer } => f
                .debug_struct("Failed")
                .field("verdict", verdict)
                .field("answer", answer)
                .finish(),
        }
    }
}

impl fmt::Display for FanOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Failed { verdict, answer } = self else {
            return f.write_str("nothing could be run");
        };
        let without = answer.report.branches.len()
            - answer.report.count(Status::Success)
            - answer.report.count(Status::Fallback);
        let cause = match verdict {
            Verdict::Timeout => "for want of time",
            Verdict::Unavailable { .. } => "refused on our side",
            Verdict::Failed => "failed",
        };
        write!(
            f,
            "{without} of {} branches have no answer: {cause}",
            answer.report.branches.len()
        )
    }
}

impl Error for FanOutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Select(error) => Some(error),
            Self::Failed { .. } => None,
        }
    }
}
