//! One run of a plan: nodes start, end, and let others start.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fmt,
    future::Future,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{CatchUnwind, Map},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::time::{Instant, Sleep, sleep_until};
use tower_fanout_layers::{
    Call, Deadline, Event, Observer, Reject, RetryAllowance, timeout::MIN_USEFUL,
};

use crate::{
    answer::{Answer, Answers, Value},
    call::BranchFuture,
    outcome::{BranchError, ErrorKind, SkipReason, Status},
    plan::Plan,
    report::{Branch, Forward, Recorder, Report},
    select::Choice,
};

/// Is told what happens in runs, with the name of the node. It runs on the path of the request: it
/// must be quick and must not block.
pub trait RunObserver: Send + Sync {
    /// Something happened to a branch.
    fn on_event(&self, node: &str, event: Event);

    /// A branch ended.
    fn on_end(&self, node: &str, branch: &Branch);
}

type Ended = (usize, Result<Value, BranchError>);
type Running = Map<CatchUnwind<AssertUnwindSafe<BranchFuture>>, TagEnd>;
type TagEnd = Box<dyn FnOnce(std::thread::Result<Result<Value, BranchError>>) -> Ended + Send>;

/// One run of a plan: a stream of the nodes that ended, in the order they did.
///
/// It decides when nodes start, never what their ends mean for the whole: that is a fold over the
/// stream, of which [`FanOut`](crate::FanOut) is one. Nothing is spawned: dropping the run drops
/// every branch.
#[must_use = "a run does nothing unless polled"]
pub struct Run<Req> {
    plan: Plan<Req>,
    request: Req,
    answers: Answers,
    slots: Vec<Slot>,
    /// Nodes that could start: required ones first, then by rank.
    ready: BinaryHeap<Reverse<(bool, usize, usize)>>,
    running: FuturesUnordered<Running>,
    /// Ends that were not told of yet.
    ended: VecDeque<usize>,
    max_concurrency: usize,
    call: Call,
    observer: Option<Arc<dyn RunObserver>>,
    started: Instant,
    deadline: Option<Deadline>,
    timer: Option<Pin<Box<Sleep>>>,
    timed_out: bool,
}

/// One node's place in a run.
struct Slot {
    branch: Branch,
    chosen: bool,
    /// Dependencies that have not ended.
    waits_for: usize,
    recorder: Option<Arc<Recorder>>,
    over: bool,
}

impl<Req: tower_fanout_layers::Context> Run<Req> {
    pub(crate) fn new(
        plan: Plan<Req>,
        request: Req,
        choices: &[Choice],
        max_concurrency: Option<NonZeroUsize>,
        observer: Option<Arc<dyn RunObserver>>,
    ) -> Self {
        let chosen = choices
            .iter()
            .filter(|choice| **choice != Choice::Out)
            .count();
        let started = Instant::now();
        let mut run = Self {
            answers: Answers::new(plan.inner.id, Arc::clone(&plan.inner.names)),
            slots: (0..choices.len()).map(Slot::new).collect(),
            ready: BinaryHeap::with_capacity(chosen),
            running: FuturesUnordered::new(),
            ended: VecDeque::with_capacity(chosen),
            max_concurrency: max_concurrency.map_or(usize::MAX, NonZeroUsize::get),
            call: branch_call(request.call(), started, chosen),
            observer,
            started,
            deadline: request.call().deadline,
            timer: None,
            timed_out: false,
            plan,
            request,
        };
        run.take_choices(choices);
        run
    }
}

impl<Req> Run<Req> {
    fn take_choices(&mut self, choices: &[Choice]) {
        let plan = self.plan.clone();
        let mut skipped = Vec::new();
        for &node in &plan.inner.order {
            let dependencies = plan.inner.nodes[node].dependencies();
            let slot = &mut self.slots[node];
            slot.waits_for = dependencies
                .filter(|&other| choices[other] != Choice::Out)
                .count();
            slot.chosen = choices[node] != Choice::Out;
            slot.over = !slot.chosen;
            match choices[node] {
                Choice::Run { required } => {
                    slot.branch.required = required;
                    if slot.waits_for == 0 {
                        self.make_ready(node);
                    }
                }
                Choice::Skip(reason) => skipped.push((node, reason)),
                Choice::Out => {}
            }
        }
        for (node, reason) in skipped {
            self.skip(node, reason);
        }
    }

    /// The branch of the node at `node` of the plan.
    #[must_use]
    pub fn branch(&self, node: usize) -> &Branch {
        &self.slots[node].branch
    }

    /// Whether the deadline has ended it.
    #[must_use]
    pub const fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Stops every branch that has not ended: it is `cancelled`.
    pub fn cancel(&mut self) {
        self.cut(false);
    }

    /// What there is now.
    pub fn into_answer(mut self) -> Answer {
        self.cancel();
        let elapsed = self.started.elapsed();
        let critical_path = self.critical_path();
        let failed = self
            .slots
            .iter()
            .filter_map(|slot| slot.branch.error.as_ref());
        let late = failed
            .into_iter()
            .any(|error| error.kind() == ErrorKind::Deadline);
        let chosen = self.slots.into_iter().filter(|slot| slot.chosen);
        Answer {
            answers: self.answers,
            report: Report {
                branches: chosen.map(|slot| slot.branch).collect(),
                elapsed,
                timed_out: self.timed_out || late,
                critical_path,
            },
        }
    }

    /// Polls for the next node that ended; none when all have.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        loop {
            if let Some(node) = self.ended.pop_front() {
                return Poll::Ready(Some(node));
            }
            self.start_ready();
            if !self.ended.is_empty() {
                continue;
            }
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some((node, result))) => self.end(node, result),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if self.poll_deadline(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The timer is armed when something is pending for the first time.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(deadline.instant())));
        let passed = timer.as_mut().poll(cx).is_ready();
        if passed {
            self.timed_out = true;
            self.cut(true);
        }
        passed
    }

    fn start_ready(&mut self) {
        while self.running.len() < self.max_concurrency {
            let Some(Reverse((_, _, node))) = self.ready.pop() else {
                return;
            };
            if self.has_time(node) {
                self.start(node);
            } else {
                self.skip(node, SkipReason::NoTime);
            }
        }
    }

    /// A required node is always started, an optional one only if it can still be of use.
    fn has_time(&self, node: usize) -> bool {
        self.slots[node].branch.required
            || (self.call.deadline)
                .is_none_or(|deadline| deadline.remaining(Instant::now()) >= MIN_USEFUL)
    }

    fn start(&mut self, node: usize) {
        let forward = self.observer.as_ref().map(|observer| Forward {
            observer: Arc::clone(observer),
            names: Arc::clone(&self.plan.inner.names),
            node,
        });
        let recorder = Arc::new(Recorder::new(forward));
        let mut call = self.call.clone();
        call.observer = Observer::new(recorder.clone());
        call.priority = self.plan.inner.nodes[node].priority;
        let slot = &mut self.slots[node];
        slot.branch.started = Some(self.started.elapsed());
        slot.recorder = Some(recorder);
        let ask = &self.plan.inner.asks[node];
        let asked = catch_unwind(AssertUnwindSafe(|| {
            ask.ask(&self.request, &self.answers, call)
        }));
        match asked.unwrap_or_else(|_| Err(panicked())) {
            Ok(future) => {
                let tag: TagEnd =
                    Box::new(move |end| (node, end.unwrap_or_else(|_| Err(panicked()))));
                self.running
                    .push(AssertUnwindSafe(future).catch_unwind().map(tag));
            }
            Err(error) => self.end(node, Err(error)),
        }
    }

    fn end(&mut self, node: usize, result: Result<Value, BranchError>) {
        let branch = &mut self.slots[node].branch;
        match result {
            Ok(value) => {
                self.answers.values[node] = Some(value);
                branch.status = Status::Success;
            }
            Err(error) => {
                branch.status = Status::Failed;
                branch.error = Some(error);
            }
        }
        self.over(node);
    }

    fn skip(&mut self, node: usize, reason: SkipReason) {
        let branch = &mut self.slots[node].branch;
        branch.status = Status::Skipped;
        branch.skipped = Some(reason);
        self.over(node);
    }

    /// Takes note that a node is over, and looks at those that waited for it.
    fn over(&mut self, node: usize) {
        let since = self.started;
        let slot = &mut self.slots[node];
        if std::mem::replace(&mut slot.over, true) {
            return;
        }
        if let Some(recorder) = slot.recorder.take() {
            recorder.write(&mut slot.branch);
            let branch = &mut slot.branch;
            branch.elapsed = branch
                .started
                .map(|started| since.elapsed().saturating_sub(started));
            if branch.status == Status::Success && branch.fallback.is_some() {
                branch.status = Status::Fallback;
            }
        }
        if let Some(observer) = &self.observer {
            observer.on_end(&self.plan.inner.names[node], &slot.branch);
        }
        self.ended.push_back(node);
        let plan = self.plan.clone();
        for &dependent in &plan.inner.dependents[node] {
            self.dependency_ended(dependent);
        }
    }

    fn dependency_ended(&mut self, node: usize) {
        let slot = &mut self.slots[node];
        slot.waits_for -= 1;
        if slot.waits_for > 0 || slot.over {
            return;
        }
        let mut hard = self.plan.inner.nodes[node]
            .dependencies
            .iter()
            .filter(|dependency| dependency.hard);
        if hard.all(|dependency| self.slots[dependency.node].branch.status.is_answered()) {
            self.make_ready(node);
        } else {
            self.skip(node, SkipReason::Dependency);
        }
    }

    fn make_ready(&mut self, node: usize) {
        let optional = !self.slots[node].branch.required;
        self.ready
            .push(Reverse((optional, self.plan.inner.rank[node], node)));
    }

    /// Ends all that has not ended, because the deadline passed or because nobody wants it.
    fn cut(&mut self, deadline: bool) {
        self.running.clear();
        self.ready.clear();
        let plan = self.plan.clone();
        for &node in &plan.inner.order {
            let slot = &mut self.slots[node];
            if slot.over {
                continue;
            }
            match (deadline, slot.branch.started) {
                (true, Some(_)) => self.end(node, Err(Reject::Deadline.into())),
                (true, None) => self.skip(node, SkipReason::NoTime),
                (false, _) => {
                    slot.branch.status = Status::Cancelled;
                    self.over(node);
                }
            }
        }
        self.ready.clear();
    }

    fn critical_path(&self) -> Vec<usize> {
        let latest = |nodes: &mut dyn Iterator<Item = usize>| {
            nodes
                .filter_map(|node| Some((self.slots[node].branch.ended()?, Reverse(node))))
                .max()
                .map(|(_, Reverse(node))| node)
        };
        let mut path = Vec::new();
        let mut last = latest(&mut (0..self.slots.len()));
        while let Some(node) = last {
            path.push(node);
            last = latest(&mut self.plan.inner.nodes[node].dependencies());
        }
        path.reverse();
        path
    }
}

impl Slot {
    fn new(node: usize) -> Self {
        Self {
            branch: Branch::new(node),
            chosen: false,
            waits_for: 0,
            recorder: None,
            over: false,
        }
    }
}

impl<Req> fmt::Debug for Run<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("plan", &self.plan)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

/// The facts that every branch gets: time for merging is kept back, and retries are shared.
fn branch_call(call: &Call, now: Instant, branches: usize) -> Call {
    let deadline = call.deadline.map(|deadline| {
        let margin = (deadline.remaining(now) / 20).min(Duration::from_millis(50));
        deadline.before(margin)
    });
    let allowance = call.max_retries.map(|retries| {
        let shared = u32::try_from(branches.div_ceil(2)).unwrap_or(u32::MAX);
        Arc::new(RetryAllowance::new(shared.max(retries.into())))
    });
    let mut call = call.clone();
    call.deadline = deadline;
    call.allowance = allowance;
    call
}

fn panicked() -> BranchError {
    BranchError::new(ErrorKind::Panic, "the service panicked")
}
