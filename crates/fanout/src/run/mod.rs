//! Executes one run of a plan: starts nodes, polls their calls, and ends the run.

mod clock;
mod completions;
mod detached;
mod ready;
mod recorder;
mod scratch;
mod wakers;

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::Instant;
use tower_fanout_layers::{Call, Deadline, panic};

pub use self::recorder::RunObserver;
pub(crate) use self::scratch::ScratchPool;
use self::{
    clock::RunClock,
    detached::Detach,
    scratch::{AbortReason, Completion, Phase, Scratch, scratch_of},
};
use crate::{
    answer::{Answers, FanOutResponse},
    completion::CompletionPolicy,
    node::BoundPlan,
    outcome::{BranchError, ErrorKind, SkipReason},
    plan::{NodeOrder, Plan},
    report::{Branch, Report},
    select::Choice,
    strategy::{ReturnWhen, Strategy},
    time_budget::time_slice,
};

/// Options of a run: when it succeeds, when it ends, and what it may do at once.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) strategy: Strategy,
    pub(crate) return_when: ReturnWhen,
    pub(crate) grace: Duration,
    pub(crate) max_concurrency: usize,
    pub(crate) detach: Option<Detach>,
}

/// One run of a plan: a stream of the indices of the nodes that ended, in the order in which they
/// ended.
///
/// The run starts nodes and ends as the [`Strategy`](crate::Strategy) and the
/// [`ReturnWhen`](crate::ReturnWhen) of its [`FanOut`](crate::FanOut) specify. The future of
/// `FanOut` reads the stream to its end and returns a [`FanOutResponse`]. A response that is sent piece by
/// piece reads the same stream.
///
/// A run spawns no tasks. Dropping it drops the calls of all branches. The exception is
/// [`FanOut::detach_late`](crate::FanOut::detach_late), which hands calls to a spawn function.
///
/// Each poll of the run polls every woken branch once and then processes all nodes that ended.
/// Nodes that end in the same poll may share one reading of the clock.
///
/// ```
/// use futures_util::StreamExt;
/// use tower::{BoxError, service_fn};
/// use tower_fanout::{FanOut, Plan};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hello = service_fn(|()| async { Ok::<_, BoxError>("hello") });
/// let mut plan = Plan::builder();
/// plan.node("one", hello, |(), _| Ok(()));
/// plan.node("two", hello, |(), _| Ok(())).after_named("one");
///
/// let mut run = FanOut::new(plan.build().unwrap()).run(()).unwrap();
/// let mut ended = Vec::new();
/// while let Some(node) = run.next().await {
///     ended.push((node, run.branch(node).status.as_str(), *run.at::<&str>(node).unwrap()));
/// }
/// assert_eq!(ended, [(0, "success", "hello"), (1, "success", "hello")]);
/// assert!(run.into_response().report().is_complete());
/// # }
/// ```
#[must_use = "a run does nothing unless polled"]
pub struct Run<Req> {
    bound: BoundPlan<Req>,
    request: Req,
    answers: Answers,
    /// The branches, by node index. This list, the lists of the scratch and those of the plan have
    /// one entry per node of the plan. All node indices come from the plan, so indexing cannot
    /// fail.
    branches: Vec<Branch>,
    /// `Some` until the run is dropped.
    scratch: Option<Scratch>,
    scratch_pool: Arc<ScratchPool>,
    node_order: Arc<NodeOrder>,
    completion_policy: CompletionPolicy,
    options: Options,
    /// Number of selected nodes, including skipped ones, that have not ended.
    left: usize,
    /// Number of nodes in flight.
    running: usize,
    /// `true` once no further node may start.
    stopped: bool,
    call: Call,
    clock: RunClock,
    timed_out: bool,
}

impl<Req: tower_fanout_layers::CallContext> Run<Req> {
    pub(crate) fn new(
        bound: BoundPlan<Req>,
        request: Req,
        choices: &[Choice],
        options: Options,
        scratch_pool: Arc<ScratchPool>,
    ) -> Self {
        let started = Instant::now();
        let chosen = choices.iter().filter(|choice| **choice != Choice::Out);
        let chosen = chosen.count();
        let node_order = bound.node_order(started);
        let mut branches: Vec<_> = (0..choices.len()).map(Branch::new).collect();
        let mut scratch = scratch_pool.take();
        let (required, sinks) =
            scratch.take_choices(bound.graph(), &node_order, choices, &mut branches);
        Self {
            answers: Answers::new(bound.plan().clone()),
            branches,
            scratch: Some(scratch),
            scratch_pool,
            node_order,
            completion_policy: CompletionPolicy::new(
                options.strategy,
                options.return_when,
                required,
                sinks,
            ),
            left: chosen,
            running: 0,
            stopped: false,
            call: clock::branch_call(request.call(), started, chosen),
            clock: RunClock::new(started, request.call().deadline),
            options,
            timed_out: false,
            bound,
            request,
        }
    }
}

impl<Req> Run<Req> {
    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.bound.plan()
    }

    /// Returns the report entry of the node with the index `node`.
    ///
    /// The entry is final once the run has yielded the node. Until then, its status is
    /// [`Status::Skipped`](crate::Status::Skipped) without a reason in
    /// [`skipped`](Branch::skipped), and [`started`](Branch::started) is `Some` while the node is in
    /// flight. A node that is not selected is never yielded and keeps such an entry.
    ///
    /// # Panics
    /// Panics if the plan has no such node.
    #[must_use]
    pub fn branch(&self, node: usize) -> &Branch {
        &self.branches[node]
    }

    /// Returns the answer of the node with the index `index`, or `None` if the node has no answer
    /// or its answer is not a `T`.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        self.answers.at(index)
    }

    /// Returns `true` if the deadline of the request has ended the run. Branches that ended at their
    /// own deadline do not count: see [`Report::timed_out`].
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Ends the run. Each branch that has not ended gets the status `cancelled`, and its call is
    /// dropped.
    pub fn cancel(&mut self) {
        self.abort(AbortReason::Unwanted);
        self.drain_completions();
    }

    /// Ends the run and returns the answers and the report of all nodes that have ended.
    ///
    /// Branches that have not ended are [cancelled](Self::cancel).
    pub fn into_response(mut self) -> FanOutResponse {
        self.cancel();
        let (elapsed, overhead) = self.clock.totals();
        let critical_path = self.critical_path();
        let mut branches = mem::take(&mut self.branches);
        // Nodes that are not selected have no entry in the report.
        branches.retain(|branch| branch.chosen);
        let is_late = |branch: &Branch| {
            let error = branch.error.as_ref();
            error.is_some_and(|error| error.kind() == ErrorKind::Deadline)
        };
        FanOutResponse {
            report: Report {
                elapsed,
                overhead,
                timed_out: self.timed_out || branches.iter().any(is_late),
                last: critical_path.last().copied(),
                critical_path,
                branches,
            },
            answers: self.answers.take(),
        }
    }

    /// Polls for the index of the next node that ended. Returns `Ready(None)` when the run has ended:
    /// every selected node has an answer, has failed, or was skipped or cancelled, and was yielded.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            if let Some(node) = scratch_of(&mut self.scratch).completed.pop_front() {
                return Poll::Ready(Some(node));
            }
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.turn();
            let scratch = scratch_of(&mut self.scratch);
            if scratch.completed.is_empty() && self.left > 0 && !self.poll_time(cx) {
                // Must be the last step before `Pending`: a wake from now on wakes the task again.
                scratch_of(&mut self.scratch)
                    .wakers
                    .wake_set
                    .prepare_to_sleep(cx);
                return Poll::Pending;
            }
        }
    }

    /// Polls every woken branch once, then starts the nodes that became ready, until no more can
    /// start.
    fn turn(&mut self) {
        self.clock.invalidate();
        // From here until `prepare_to_sleep`, wakes only set bits: the task reads them before it
        // sleeps, so it need not be woken.
        scratch_of(&mut self.scratch).wakers.wake_set.mark_running();
        for word in 0..self.branches.len().div_ceil(64) {
            let mut bits = scratch_of(&mut self.scratch).wakers.wake_set.take(word);
            // The bits are a copy. A branch that wakes itself while it is polled is polled in the
            // next turn, so it cannot starve the others.
            while bits != 0 {
                let node = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.poll_branch(node);
            }
        }
        // Ready nodes start only after all branches were polled: a higher priority wins over an
        // earlier end.
        self.drain_completions();
        while self.start_ready() {
            self.drain_completions();
        }
    }

    /// Polls the call of `node`, unless the branch has ended since it was woken.
    fn poll_branch(&mut self, node: usize) {
        let scratch = scratch_of(&mut self.scratch);
        if scratch.nodes[node].phase != Phase::Running {
            return;
        }
        // A detached call is gone, although its branch was running.
        let Some(cell) = &mut self.answers.cells[node] else {
            return;
        };
        let waker = scratch.wakers.waker(node);
        let mut cx = Context::from_waker(&waker);
        self.clock.mark_polled();
        let polled = panic::catch(|| cell.as_mut().poll(&mut cx));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Ok(()))) => self.complete(node, Completion::Answered),
            Ok(Poll::Ready(Err(error))) => self.fail(node, error),
            Err(_) => self.fail(node, panicked()),
        }
    }

    /// Starts ready nodes while fewer than `max_concurrency` are in flight. Returns `true` if a
    /// node was started or skipped.
    fn start_ready(&mut self) -> bool {
        let mut any = false;
        while self.running < self.options.max_concurrency {
            let Some(rank) = scratch_of(&mut self.scratch).ready.pop() else {
                break;
            };
            any = true;
            let node = self.node_order.by_rank[rank as usize] as usize;
            match self.due_of(node) {
                Ok(due) => self.start(node, due),
                Err(reason) => {
                    let completion = Completion::Skipped(reason);
                    let completions = &mut scratch_of(&mut self.scratch).completions;
                    completions.push_back((node, completion));
                }
            }
        }
        any
    }

    /// Returns the time at which `node` must end if it starts now, or `None` if it may run until the
    /// run ends. Returns an error if too little time is left for the node.
    fn due_of(&mut self, node: usize) -> Result<Option<Instant>, SkipReason> {
        let Some(end) = self.call.deadline else {
            return Ok(None);
        };
        let now = self.clock.now();
        let (required, left) = (self.branches[node].required, end.remaining(now));
        let after = scratch_of(&mut self.scratch).nodes[node].after;
        let time = time_slice(required, left, self.node_order.expected[node], after)
            .ok_or(SkipReason::NoTime)?;
        Ok((time < left).then(|| now + time))
    }

    /// Starts `node`. `due` is the time at which the node must end, or `None` if it may run until
    /// the run ends.
    fn start(&mut self, node: usize, due: Option<Instant>) {
        let scratch = scratch_of(&mut self.scratch);
        let node_waker = scratch.wakers.node_waker(node);
        node_waker.recorder.reset();
        let events = scratch.wakers.events(node);
        let priority = self.bound.graph().nodes[node].priority;
        let call = || {
            let mut call = self.call.clone();
            call.events = events.clone();
            call.priority = priority;
            call.deadline = due.map(Deadline::at).or(call.deadline);
            call
        };
        scratch.nodes[node].due = due;
        self.clock.add_due(due);
        // Restricts `Answers` to the nodes that `node` depends on while its request is made.
        self.answers.reader = Some(node);
        let started = panic::catch(|| self.bound.start(node, &self.request, &self.answers, &call));
        self.answers.reader = None;
        // Making the request is not the service's time, so the clock is read after it.
        self.branches[node].started = Some(self.clock.start(self.running == 0));
        scratch.nodes[node].phase = Phase::Running;
        self.running += 1;
        match started.unwrap_or_else(|_| Err(panicked())) {
            Ok(cell) => {
                self.answers.cells[node] = Some(cell);
                // The first poll sends the request, and the branch has no waker registered before
                // it.
                self.poll_branch(node);
            }
            Err(error) => self.fail(node, error),
        }
    }
}

impl<Req: Unpin> Stream for Run<Req> {
    /// The index of a node that ended.
    type Item = usize;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.get_mut().poll_next(cx)
    }
}

impl<Req> Drop for Run<Req> {
    fn drop(&mut self) {
        // A dropped run records no completions: its calls are dropped, and the observer is not called.
        // The calls hold clones of the scratch's wakers, so they must go before it is reused.
        self.answers.drop_all();
        if let Some(scratch) = self.scratch.take() {
            self.scratch_pool.put_back(scratch);
        }
    }
}

impl<Req> fmt::Debug for Run<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("plan", self.plan())
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

fn panicked() -> BranchError {
    BranchError::new(ErrorKind::Panic, "the service panicked")
}
