//! How branches end, by themselves or by time, and what the end of a branch changes.

use std::{
    cmp::Reverse,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Context,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Run,
    scratch::{End, State, scratch_of},
};
use crate::{
    completion::{Decision, NodeOutcome},
    outcome::{BranchError, SkipReason, Status},
    strategy::ReturnWhen,
};

/// Why what has not ended is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbortReason {
    /// Nobody wants it.
    Unwanted,
    /// The grace is over.
    Late,
    /// The deadline passed.
    Deadline,
}

impl<Req> Run<Req> {
    pub(super) fn fail(&mut self, node: usize, error: BranchError) {
        self.branches[node].error = Some(error);
        self.complete(node, End::Failed);
    }

    /// A node that ran has ended, of which note is taken at once if that may end others.
    pub(super) fn complete(&mut self, node: usize, end: End) {
        let may_stop = self.completion.may_stop(matches!(end, End::Answered));
        scratch_of(&mut self.scratch)
            .completions
            .push_back((node, end));
        if may_stop {
            self.drain_completions();
        }
    }

    /// Takes note of all ends, and of what follows from them.
    pub(super) fn drain_completions(&mut self) {
        while let Some((node, end)) = scratch_of(&mut self.scratch).completions.pop_front() {
            if scratch_of(&mut self.scratch).slots[node].state == State::Done {
                continue;
            }
            self.end(node, end);
            match self.completion.ended(self.ended(node)) {
                Decision::Continue => {}
                Decision::Grace => self.clock.give(self.options.grace),
                Decision::Stop => self.abort(AbortReason::Unwanted),
            }
            if !self.stopped {
                self.release_dependents(node);
            }
        }
        if !self.stopped && self.clock.grace_is_over() {
            self.abort(AbortReason::Late);
            self.drain_completions();
        }
    }

    /// A node that was skipped from the beginning counts for nothing.
    fn ended(&self, node: usize) -> NodeOutcome {
        let branch = &self.branches[node];
        NodeOutcome {
            required: branch.required,
            is_sink: branch.is_sink,
            answered: branch.status.is_answered(),
        }
    }

    fn end(&mut self, node: usize, end: End) {
        let scratch = scratch_of(&mut self.scratch);
        let was = mem::replace(&mut scratch.slots[node].state, State::Done);
        self.left -= 1;
        let branch = &mut self.branches[node];
        branch.chosen = true;
        if was == State::Running {
            self.running -= 1;
            let ended = self.clock.end(self.running == 0);
            branch.elapsed = branch.started.map(|started| ended.saturating_sub(started));
            if !matches!(end, End::Cancelled) {
                self.last = self.last.max(Some((ended, Reverse(node))));
            }
            scratch.wakers.node_waker(node).recorder.write(branch);
        }
        end.write(branch);
        if !branch.status.is_answered() {
            self.answers.drop_cell(node);
        }
        if let Some(profile) = self.bound.profile(node) {
            branch.breaker = profile.breaker_state();
            if let (Status::Success, Some(elapsed)) = (branch.status, branch.elapsed) {
                profile.expected().record(elapsed, self.clock.now());
            }
        }
        if let Some(observer) = self.scratch_pool.observer() {
            let name = &self.bound.graph().names[node];
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_end(name, branch)));
        }
        scratch.completed.push_back(node);
    }

    /// Looks at the nodes that waited for `node`.
    fn release_dependents(&mut self, node: usize) {
        let scratch = scratch_of(&mut self.scratch);
        let plan = self.bound.graph();
        for &dependent in &plan.dependents[node] {
            let slot = &mut scratch.slots[dependent];
            // One that was skipped from the beginning waits for nothing.
            if slot.state != State::Pending || slot.waits_for == 0 {
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
                scratch.completions.push_back((dependent, end));
            } else {
                let required = self.branches[dependent].required;
                scratch
                    .ready
                    .insert(required, self.node_order.rank[dependent]);
            }
        }
    }

    /// Ends all that has not ended, and starts nothing any more.
    pub(super) fn abort(&mut self, why: AbortReason) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        if why == AbortReason::Late {
            self.detach_late();
        }
        let spared = why != AbortReason::Deadline;
        let keeps_optional = self.options.return_when == ReturnWhen::Deadline;
        let scratch = scratch_of(&mut self.scratch);
        scratch.ready.clear();
        for &node in &self.bound.graph().order {
            let cancelled = spared || keeps_optional && !self.branches[node].required;
            let end = match scratch.slots[node].state {
                State::Done => continue,
                _ if cancelled => End::Cancelled,
                State::Pending => End::Skipped(SkipReason::NoTime),
                State::Running => End::Late,
            };
            scratch.completions.push_back((node, end));
        }
    }

    /// Whether time has ended something. The timer is armed when something is pending for the first
    /// time.
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.clock.next() else {
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
        self.clock.forget();
        if self.clock.deadline_passed() {
            self.timed_out = true;
            self.abort(AbortReason::Deadline);
        } else {
            self.end_due();
        }
        self.drain_completions();
        true
    }

    /// Ends nodes whose own time is over.
    fn end_due(&mut self) {
        let now = self.clock.now();
        let scratch = scratch_of(&mut self.scratch);
        let mut next = None;
        for (node, slot) in scratch.slots.iter().enumerate() {
            match slot.due {
                Some(due) if slot.state == State::Running && due <= now => {
                    scratch.completions.push_back((node, End::Late));
                }
                Some(due) if slot.state == State::Running => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                }
                _ => {}
            }
        }
        self.clock.set_due(next);
    }

    /// The nodes that decided when the run ended, from the first to the last.
    pub(super) fn critical_path(&self) -> Vec<usize> {
        let latest = |nodes: &mut dyn Iterator<Item = usize>| {
            let ended =
                nodes.filter_map(|node| Some((self.branches[node].ended()?, Reverse(node))));
            ended.max().map(|(_, Reverse(node))| node)
        };
        let mut path = Vec::new();
        let mut last = self.last.map(|(_, Reverse(node))| node);
        while let Some(node) = last {
            path.push(node);
            last = latest(&mut self.bound.graph().nodes[node].dependencies());
        }
        path.reverse();
        path
    }
}
