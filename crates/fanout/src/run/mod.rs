//! One run of a plan: nodes start, end, and let others start.

mod detached;
mod ready;
mod recorder;
mod room;
mod seats;
mod time;

use std::{
    cmp::Reverse,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_fanout_layers::{Call, Deadline, Event, Observer, Reject};

pub(crate) use self::{
    room::Rooms,
    time::{makes_room, margin, share, shared_retries},
};
use self::{
    room::{Room, State},
    time::Times,
};
use crate::{
    answer::{Answer, Answers},
    ending::{Ended, Ending, Then},
    outcome::{BranchError, ErrorKind, SkipReason, Status},
    plan::{Forecast, Plan},
    report::{Branch, Report},
    select::Choice,
    service::Options,
    strategy::ReturnWhen,
};

/// Is told what happens in runs, with the name of the node. It runs on the path of the request: it
/// must be quick and must not block.
pub trait RunObserver: Send + Sync {
    /// Something happened to a branch.
    fn on_event(&self, node: &str, event: Event);

    /// A branch ended.
    fn on_end(&self, node: &str, branch: &Branch);
}

/// How a branch ended. Why it failed stands in the report already.
#[derive(Clone, Copy, Debug)]
enum End {
    Answered,
    Failed,
    Late,
    Skipped(SkipReason),
    Cancelled,
}

/// Why what has not ended is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nobody wants it.
    Unwanted,
    /// The grace is over.
    Late,
    /// The deadline passed.
    Deadline,
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
    plan: Plan<Req>,
    request: Req,
    answers: Answers,
    branches: Vec<Branch>,
    /// Always there until it is put back.
    room: Option<Room>,
    rooms: Arc<Rooms>,
    forecast: Arc<Forecast>,
    ending: Ending,
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
    times: Times,
    timer: Option<Pin<Box<Sleep>>>,
    timed_out: bool,
}

impl<Req: tower_fanout_layers::Context> Run<Req> {
    pub(crate) fn new(
        plan: Plan<Req>,
        request: Req,
        choices: &[Choice],
        options: Options,
        rooms: Arc<Rooms>,
    ) -> Self {
        let started = Instant::now();
        let chosen = choices.iter().filter(|choice| **choice != Choice::Out);
        let left = chosen.count();
        let call = time::branch_call(request.call(), started, left);
        let mut run = Self {
            answers: plan.answers(),
            branches: (0..choices.len()).map(Branch::new).collect(),
            room: Some(rooms.take()),
            rooms,
            forecast: plan.forecast(started),
            ending: Ending::new(options.strategy, options.return_when, 0, 0),
            chosen: left,
            left,
            last: None,
            running: 0,
            stopped: false,
            times: Times::new(started, request.call().deadline),
            call,
            options,
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
        let Self {
            plan,
            room,
            branches,
            forecast,
            ..
        } = self;
        let room = room_of(room);
        room.ready.reset(choices.len());
        let (mut required, mut last) = (0, 0);
        for &node in plan.inner.order.iter().rev() {
            let Choice::Run { required: needed } = choices[node] else {
                if let Choice::Skip(reason) = choices[node] {
                    room.slots[node].state = State::Waits;
                    room.ends.push_front((node, End::Skipped(reason)));
                }
                continue;
            };
            branches[node].required = needed;
            required += usize::from(needed);
            let is_chosen = |other: &&usize| matches!(choices[**other], Choice::Run { .. });
            let is_last = !plan.inner.dependents[node]
                .iter()
                .any(|other| is_chosen(&other));
            last += usize::from(is_last);
            branches[node].is_last = is_last;
            let dependencies = &plan.inner.nodes[node].dependencies;
            let slot = &mut room.slots[node];
            slot.state = State::Waits;
            slot.waits_for = dependencies
                .iter()
                .filter(|dependency| choices[dependency.node] != Choice::Out)
                .count() as u32;
            if slot.waits_for == 0 {
                room.ready.insert(needed, forecast.rank[node]);
            }
            if forecast.knows {
                let chain = forecast.expected[node].saturating_add(slot.after);
                for dependency in dependencies {
                    let is_required = choices[dependency.node] == Choice::Run { required: true };
                    if makes_room(is_required, needed) {
                        let before = &mut room.slots[dependency.node];
                        before.after = before.after.max(chain);
                    }
                }
            }
        }
        let (strategy, when) = (self.options.strategy, self.options.return_when);
        self.ending = Ending::new(strategy, when, required, last);
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan<Req> {
        &self.plan
    }

    /// The branch of the node at `node` of the plan.
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
        self.cut(Cut::Unwanted);
        self.settle();
    }

    /// What there is now.
    pub fn into_answer(mut self) -> Answer {
        self.cancel();
        let (elapsed, overhead) = self.times.total();
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
            if let Some(node) = room_of(&mut self.room).told.pop_front() {
                return Poll::Ready(Some(node));
            }
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.turn();
            let room = room_of(&mut self.room);
            if room.told.is_empty() && self.left > 0 && !self.poll_time(cx) {
                room_of(&mut self.room).seats.woken.sleep(cx);
                return Poll::Pending;
            }
        }
    }

    /// Polls everything that was woken once, and all that starts meanwhile.
    fn turn(&mut self) {
        self.times.forget();
        room_of(&mut self.room).seats.woken.awake();
        for word in 0..self.branches.len().div_ceil(64) {
            let mut bits = room_of(&mut self.room).seats.woken.take(word);
            while bits != 0 {
                let node = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                self.poll_branch(node);
            }
        }
        self.settle();
        while self.start_ready() {
            self.settle();
        }
    }

    /// Polls a branch that runs.
    fn poll_branch(&mut self, node: usize) {
        let room = room_of(&mut self.room);
        if room.slots[node].state != State::Runs {
            return;
        }
        let Some(cell) = &mut self.answers.cells[node] else {
            return;
        };
        let mut cx = Context::from_waker(room.seats.waker(node));
        self.times.poll();
        let polled = catch_unwind(AssertUnwindSafe(|| cell.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Ok(()))) => self.ends(node, End::Answered),
            Ok(Poll::Ready(Err(error))) => self.fail(node, error),
            Err(_) => self.fail(node, panicked()),
        }
    }

    fn fail(&mut self, node: usize, error: BranchError) {
        self.branches[node].error = Some(error);
        self.ends(node, End::Failed);
    }

    /// Starts what can start; whether anything did, or was skipped.
    fn start_ready(&mut self) -> bool {
        let mut any = false;
        while self.running < self.options.max_concurrency {
            let Some(rank) = room_of(&mut self.room).ready.pop() else {
                break;
            };
            any = true;
            let node = self.forecast.by_rank[rank as usize] as usize;
            match self.time_for(node) {
                Some(due) => self.start(node, due),
                None => {
                    let end = End::Skipped(SkipReason::NoTime);
                    room_of(&mut self.room).ends.push_back((node, end));
                }
            }
        }
        any
    }

    fn start(&mut self, node: usize, due: Option<Instant>) {
        let room = room_of(&mut self.room);
        let seat = room.seats.seat(node);
        seat.recorder.reset();
        let priority = self.plan.inner.nodes[node].priority;
        let call = || {
            let mut call = self.call.clone();
            call.observer = Observer::new(seat.clone());
            call.priority = priority;
            call.deadline = due.map(Deadline::at).or(call.deadline);
            call
        };
        room.slots[node].due = due;
        self.times.due(due);
        let ask = &self.plan.inner.asks[node];
        self.answers.reader = Some(node);
        let asked = catch_unwind(AssertUnwindSafe(|| {
            ask.ask(&self.request, &self.answers, &call)
        }));
        self.answers.reader = None;
        self.branches[node].started = Some(self.times.start(self.running == 0));
        room.slots[node].state = State::Runs;
        self.running += 1;
        match asked.unwrap_or_else(|_| Err(panicked())) {
            Ok(cell) => {
                self.answers.cells[node] = Some(cell);
                self.poll_branch(node);
            }
            Err(error) => self.fail(node, error),
        }
    }

    /// A node that ran has ended, of which note is taken at once if that may end others.
    fn ends(&mut self, node: usize, end: End) {
        let may_stop = self.ending.may_stop(matches!(end, End::Answered));
        room_of(&mut self.room).ends.push_back((node, end));
        if may_stop {
            self.settle();
        }
    }

    /// Takes note of all ends, and of what follows from them.
    fn settle(&mut self) {
        while let Some((node, end)) = room_of(&mut self.room).ends.pop_front() {
            if room_of(&mut self.room).slots[node].state == State::Over {
                continue;
            }
            self.end(node, end);
            match self.ending.ended(self.ended(node)) {
                Then::GoOn => {}
                Then::Grace => self.times.give(self.options.grace),
                Then::Stop => self.cut(Cut::Unwanted),
            }
            if !self.stopped {
                self.free_dependents(node);
            }
        }
        if !self.stopped && self.times.grace_is_over() {
            self.cut(Cut::Late);
            self.settle();
        }
    }

    /// A node that was skipped from the beginning counts for nothing.
    fn ended(&self, node: usize) -> Ended {
        let branch = &self.branches[node];
        Ended {
            required: branch.required,
            is_last: branch.is_last,
            answered: branch.status.is_answered(),
        }
    }

    fn end(&mut self, node: usize, end: End) {
        let room = room_of(&mut self.room);
        let was = mem::replace(&mut room.slots[node].state, State::Over);
        self.left -= 1;
        let branch = &mut self.branches[node];
        branch.chosen = true;
        if was == State::Runs {
            self.running -= 1;
            let ended = self.times.end(self.running == 0);
            branch.elapsed = branch.started.map(|started| ended.saturating_sub(started));
            self.last = self.last.max(Some((ended, Reverse(node))));
            room.seats.seat(node).recorder.write(branch);
        }
        branch.status = match end {
            End::Answered if branch.fallback.is_some() => Status::Fallback,
            End::Answered => Status::Success,
            End::Failed => Status::Failed,
            End::Late => {
                branch.error = Some(Reject::Deadline.into());
                Status::Failed
            }
            End::Skipped(reason) => {
                branch.skipped = Some(reason);
                Status::Skipped
            }
            End::Cancelled => Status::Cancelled,
        };
        if !branch.status.is_answered() {
            self.answers.drop_cell(node);
        }
        if let Some(profile) = &self.plan.inner.nodes[node].profile {
            branch.breaker = profile.breaker_state();
            if let (Status::Success, Some(elapsed)) = (branch.status, branch.elapsed) {
                profile.expected().record(elapsed, self.times.now());
            }
        }
        if let Some(observer) = self.rooms.observer() {
            let name = &self.plan.inner.names[node];
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_end(name, branch)));
        }
        room.told.push_back(node);
    }

    /// Looks at the nodes that waited for `node`.
    fn free_dependents(&mut self, node: usize) {
        let room = room_of(&mut self.room);
        let plan = &*self.plan.inner;
        for &dependent in &plan.dependents[node] {
            let slot = &mut room.slots[dependent];
            // One that was skipped from the beginning waits for nothing.
            if slot.state != State::Waits || slot.waits_for == 0 {
                continue;
            }
            slot.waits_for -= 1;
            if slot.waits_for > 0 {
                continue;
            }
            let mut hard = plan.nodes[dependent].dependencies.iter();
            let lacks = hard.any(|dependency| {
                dependency.hard && !self.branches[dependency.node].status.is_answered()
            });
            if lacks {
                let end = End::Skipped(SkipReason::Dependency);
                room.ends.push_back((dependent, end));
            } else {
                let required = self.branches[dependent].required;
                room.ready.insert(required, self.forecast.rank[dependent]);
            }
        }
    }

    /// Ends all that has not ended, and starts nothing any more.
    fn cut(&mut self, why: Cut) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        if why == Cut::Late {
            self.detach_late();
        }
        let spared = why != Cut::Deadline;
        let keeps_optional = self.options.return_when == ReturnWhen::Deadline;
        let room = room_of(&mut self.room);
        room.ready.clear();
        for &node in &self.plan.inner.order {
            let cancelled = spared || keeps_optional && !self.branches[node].required;
            let end = match room.slots[node].state {
                State::Over => continue,
                _ if cancelled => End::Cancelled,
                State::Waits => End::Skipped(SkipReason::NoTime),
                State::Runs => End::Late,
            };
            room.ends.push_back((node, end));
        }
    }

    /// Until when a node may run; none if there is no time for it. An inner none is the end of the run.
    fn time_for(&mut self, node: usize) -> Option<Option<Instant>> {
        let Some(end) = self.call.deadline else {
            return Some(None);
        };
        let now = self.times.now();
        let (required, left) = (self.branches[node].required, end.remaining(now));
        let after = room_of(&mut self.room).slots[node].after;
        let time = share(required, left, self.forecast.expected[node], after)?;
        Some((time < left).then(|| now + time))
    }

    /// Whether time has ended something. The timer is armed when something is pending for the first
    /// time.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.times.next() else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.times.forget();
        if self.times.deadline_passed() {
            self.timed_out = true;
            self.cut(Cut::Deadline);
        } else {
            self.end_due();
        }
        self.settle();
        true
    }

    /// Ends nodes whose own time is over.
    fn end_due(&mut self) {
        let now = self.times.now();
        let room = room_of(&mut self.room);
        let mut next = None;
        for (node, slot) in room.slots.iter().enumerate() {
            match slot.due {
                Some(due) if slot.state == State::Runs && due <= now => {
                    room.ends.push_back((node, End::Late));
                }
                Some(due) if slot.state == State::Runs => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                }
                _ => {}
            }
        }
        self.times.set_due(next);
    }

    /// The nodes that decided when the run ended, from the first to the last.
    fn critical_path(&self) -> Vec<usize> {
        let latest = |nodes: &mut dyn Iterator<Item = usize>| {
            let ended =
                nodes.filter_map(|node| Some((self.branches[node].ended()?, Reverse(node))));
            ended.max().map(|(_, Reverse(node))| node)
        };
        let mut path = Vec::new();
        let mut last = self.last.map(|(_, Reverse(node))| node);
        while let Some(node) = last {
            path.push(node);
            last = latest(&mut self.plan.inner.nodes[node].dependencies());
        }
        path.reverse();
        path
    }
}

impl<Req: Unpin> Stream for Run<Req> {
    /// The place of a node that ended.
    type Item = usize;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.get_mut().poll_next(cx)
    }
}

fn room_of(room: &mut Option<Room>) -> &mut Room {
    room.as_mut()
        .expect("the room is there until the run is dropped")
}

impl<Req> Drop for Run<Req> {
    fn drop(&mut self) {
        self.answers.drop_all();
        if let Some(room) = self.room.take() {
            self.rooms.put_back(room);
        }
    }
}

impl<Req> fmt::Debug for Run<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("plan", &self.plan)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

fn panicked() -> BranchError {
    BranchError::new(ErrorKind::Panic, "the service panicked")
}
