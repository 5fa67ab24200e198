//! One run of a plan: nodes start, end, and let others start.

mod clock;
mod completions;
mod detached;
mod ready;
mod recorder;
mod scratch;
mod wakers;

use std::{
    cmp::Reverse,
    fmt,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{Instant, Sleep};
use tower_fanout_layers::{Call, Deadline, Event, Events};

pub(crate) use self::scratch::ScratchPool;
use self::{
    clock::RunClock,
    completions::AbortReason,
    scratch::{End, Scratch, State, scratch_of},
};
use crate::{
    answer::{Answer, Answers},
    completion::CompletionPolicy,
    node::BoundPlan,
    outcome::{BranchError, ErrorKind, SkipReason},
    plan::{NodeOrder, Plan},
    report::{Branch, Report},
    select::Choice,
    strategy::{ReturnWhen, Strategy},
    time_budget::time_slice,
};

/// Takes branches that continue after the answer has left.
type Detach = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// How a run starts nodes, and when it ends.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) strategy: Strategy,
    pub(crate) return_when: ReturnWhen,
    pub(crate) grace: Duration,
    pub(crate) max_concurrency: usize,
    pub(crate) detach: Option<Detach>,
}

/// How long a node may use.
enum TimeSlice {
    /// No time is left for the node: it is skipped.
    Skip,
    /// The node must end by then, before the run does.
    Until(Instant),
    /// The node may run until the end of the run.
    Unbounded,
}

/// Is told what happens in runs, with the name of the node. It runs on the path of the request: it
/// must be quick and must not block.
pub trait RunObserver: Send + Sync {
    /// Something happened to a branch.
    fn on_event(&self, node: &str, event: Event);

    /// A branch ended.
    fn on_end(&self, node: &str, branch: &Branch);
}

/// One run of a plan: a stream of the nodes that ended, in the order they did.
///
/// It starts nodes, and ends itself as the [`Strategy`](crate::Strategy) and
/// [`ReturnWhen`](crate::ReturnWhen) of its [`FanOut`](crate::FanOut) say. What the ends amount to is
/// a fold over the stream: `FanOut`'s future is one, and an answer that is sent piece by piece is
/// another. Nothing is spawned: dropping the run drops every branch.
///
/// A run that is polled polls each branch that was woken once, and then takes note of all that ended:
/// they share one look at the clock.
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
/// assert!(run.into_answer().report().is_complete());
/// # }
/// ```
#[must_use = "a run does nothing unless polled"]
pub struct Run<Req> {
    bound: BoundPlan<Req>,
    request: Req,
    answers: Answers,
    /// The branches by node. This list, those of the room and those of the plan have one entry for each
    /// node of the plan, and nodes are only named by indices that come from the plan: indexing them
    /// cannot fail.
    branches: Vec<Branch>,
    /// Always there until it is put back.
    scratch: Option<Scratch>,
    scratch_pool: Arc<ScratchPool>,
    node_order: Arc<NodeOrder>,
    completion: CompletionPolicy,
    options: Options,
    /// Nodes that were chosen, and those of them that have not ended.
    chosen: usize,
    left: usize,
    /// The last node that ended of those that were started, and when it did.
    last: Option<(Duration, Reverse<usize>)>,
    /// Nodes that run.
    running: usize,
    /// Nothing is started any more.
    stopped: bool,
    call: Call,
    clock: RunClock,
    timer: Option<Pin<Box<Sleep>>>,
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
        let (required, last) =
            scratch.take_choices(bound.graph(), &node_order, choices, &mut branches);
        Self {
            answers: Answers::new(bound.plan().clone()),
            branches,
            scratch: Some(scratch),
            scratch_pool,
            node_order,
            completion: CompletionPolicy::new(
                options.strategy,
                options.return_when,
                required,
                last,
            ),
            chosen,
            left: chosen,
            last: None,
            running: 0,
            stopped: false,
            call: clock::branch_call(request.call(), started, chosen),
            clock: RunClock::new(started, request.call().deadline),
            options,
            timer: None,
            timed_out: false,
            bound,
            request,
        }
    }
}

impl<Req> Run<Req> {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        self.bound.plan()
    }

    /// The branch of the node at `node` of the plan.
    ///
    /// # Panics
    /// If the plan has no such node.
    #[must_use]
    pub fn branch(&self, node: usize) -> &Branch {
        &self.branches[node]
    }

    /// The answer of the node at `index` of the plan, if it is there and of type `T`.
    #[must_use]
    pub fn at<T: 'static>(&self, index: usize) -> Option<&T> {
        self.answers.at(index)
    }

    /// Whether the deadline has ended it.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Stops every branch that has not ended: it is `cancelled`.
    pub fn cancel(&mut self) {
        self.abort(AbortReason::Unwanted);
        self.drain_completions();
    }

    /// What there is now.
    pub fn into_answer(mut self) -> Answer {
        self.cancel();
        let (elapsed, overhead) = self.clock.total();
        let critical_path = self.critical_path();
        let mut branches = mem::take(&mut self.branches);
        if self.chosen < branches.len() {
            branches.retain(|branch| branch.chosen);
        }
        let is_late = |branch: &Branch| {
            let error = branch.error.as_ref();
            error.is_some_and(|error| error.kind() == ErrorKind::Deadline)
        };
        Answer {
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

    /// Polls for the next node that ended; none when all have.
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
                scratch_of(&mut self.scratch).wakers.woken.sleep(cx);
                return Poll::Pending;
            }
        }
    }

    /// Polls everything that was woken once, and all that starts meanwhile.
    fn turn(&mut self) {
        self.clock.forget();
        scratch_of(&mut self.scratch).wakers.woken.awake();
        for word in 0..self.branches.len().div_ceil(64) {
            let mut bits = scratch_of(&mut self.scratch).wakers.woken.take(word);
            while bits != 0 {
                let node = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.poll_branch(node);
            }
        }
        self.drain_completions();
        while self.start_ready() {
            self.drain_completions();
        }
    }

    /// Polls a branch that runs.
    fn poll_branch(&mut self, node: usize) {
        let scratch = scratch_of(&mut self.scratch);
        if scratch.slots[node].state != State::Running {
            return;
        }
        let Some(cell) = &mut self.answers.cells[node] else {
            return;
        };
        let mut cx = Context::from_waker(scratch.wakers.waker(node));
        self.clock.poll();
        let polled = catch_unwind(AssertUnwindSafe(|| cell.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Ok(()))) => self.complete(node, End::Answered),
            Ok(Poll::Ready(Err(error))) => self.fail(node, error),
            Err(_) => self.fail(node, panicked()),
        }
    }

    /// Starts what can start; whether anything did, or was skipped.
    fn start_ready(&mut self) -> bool {
        let mut any = false;
        while self.running < self.options.max_concurrency {
            let Some(rank) = scratch_of(&mut self.scratch).ready.pop() else {
                break;
            };
            any = true;
            let node = self.node_order.by_rank[rank as usize] as usize;
            match self.time_for(node) {
                TimeSlice::Unbounded => self.start(node, None),
                TimeSlice::Until(due) => self.start(node, Some(due)),
                TimeSlice::Skip => {
                    let end = End::Skipped(SkipReason::NoTime);
                    scratch_of(&mut self.scratch)
                        .completions
                        .push_back((node, end));
                }
            }
        }
        any
    }

    /// Returns how long `node` may use if it starts now.
    fn time_for(&mut self, node: usize) -> TimeSlice {
        let Some(end) = self.call.deadline else {
            return TimeSlice::Unbounded;
        };
        let now = self.clock.now();
        let (required, left) = (self.branches[node].required, end.remaining(now));
        let after = scratch_of(&mut self.scratch).slots[node].after;
        match time_slice(required, left, self.node_order.expected[node], after) {
            None => TimeSlice::Skip,
            Some(time) if time < left => TimeSlice::Until(now + time),
            Some(_) => TimeSlice::Unbounded,
        }
    }

    /// Starts `node`, which must end at `due` if that is earlier than the end of the run.
    fn start(&mut self, node: usize, due: Option<Instant>) {
        let scratch = scratch_of(&mut self.scratch);
        let node_waker = scratch.wakers.node_waker(node);
        node_waker.recorder.reset();
        let priority = self.bound.graph().nodes[node].priority;
        let call = || {
            let mut call = self.call.clone();
            call.events = Events::new(node_waker.clone());
            call.priority = priority;
            call.deadline = due.map(Deadline::at).or(call.deadline);
            call
        };
        scratch.slots[node].due = due;
        self.clock.due(due);
        self.answers.reader = Some(node);
        let asked = catch_unwind(AssertUnwindSafe(|| {
            self.bound.start(node, &self.request, &self.answers, &call)
        }));
        self.answers.reader = None;
        self.branches[node].started = Some(self.clock.start(self.running == 0));
        scratch.slots[node].state = State::Running;
        self.running += 1;
        match asked.unwrap_or_else(|_| Err(panicked())) {
            Ok(cell) => {
                self.answers.cells[node] = Some(cell);
                self.poll_branch(node);
            }
            Err(error) => self.fail(node, error),
        }
    }
}

impl<Req: Unpin> Stream for Run<Req> {
    /// The place of a node that ended.
    type Item = usize;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.get_mut().poll_next(cx)
    }
}

impl<Req> Drop for Run<Req> {
    fn drop(&mut self) {
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
