//! Records the end of branches, and applies its effects on the other branches.

use std::{mem, task::Context};

use tokio::time::Instant;
use tower_fanout_layers::panic;

use super::{
    Run,
    scratch::{AbortReason, Completion, Phase, scratch_of},
};
use crate::{
    completion::Decision,
    graph,
    outcome::{BranchError, Cut, SkipReason, Status},
    strategy::ReturnWhen,
};

impl<Req> Run<Req> {
    /// Records that `node` failed with `error`.
    pub(super) fn fail(&mut self, node: usize, error: BranchError) {
        self.branches[node].error = Some(error);
        self.complete(node, Completion::Failed);
    }

    /// Records that `node`, which was in flight, has ended.
    ///
    /// The end is processed at once if it may stop the run. Otherwise it is processed with all
    /// other ends of this turn.
    pub(super) fn complete(&mut self, node: usize, completion: Completion) {
        let may_stop = self
            .completion_policy
            .may_stop(matches!(completion, Completion::Answered));
        scratch_of(&mut self.scratch)
            .completions
            .push_back((node, completion));
        // The branches that are polled next in this turn must see that the run has stopped: an
        // answer that comes after the decision is `cancelled`.
        if may_stop {
            self.drain_completions();
        }
    }

    /// Processes the queued completions in the order in which they were recorded, including those
    /// that processing adds to the queue.
    pub(super) fn drain_completions(&mut self) {
        while let Some((node, completion)) = scratch_of(&mut self.scratch).completions.pop_front() {
            // A node may be queued twice, by its own end and by `abort`. The first entry counts.
            if scratch_of(&mut self.scratch).nodes[node].phase == Phase::Done {
                continue;
            }
            self.finish(node, completion);
            match self.completion_policy.on_end(&self.branches[node]) {
                Decision::Continue => {}
                Decision::Grace => self.clock.start_grace(self.options.grace),
                Decision::Stop => self.abort(AbortReason::Unwanted),
            }
            if !self.stopped {
                self.release_dependents(node);
            }
        }
        // The grace period may be zero: then it ends in the turn in which it began.
        if !self.stopped && self.clock.grace_is_over() {
            self.abort(AbortReason::Late);
            self.drain_completions();
        }
    }

    /// Ends the branch of `node`: writes its report entry, frees what it no longer needs, and
    /// notifies the observer.
    fn finish(&mut self, node: usize, completion: Completion) {
        let scratch = scratch_of(&mut self.scratch);
        let was = mem::replace(&mut scratch.nodes[node].phase, Phase::Done);
        self.left -= 1;
        let branch = &mut self.branches[node];
        branch.chosen = true;
        if was == Phase::Running {
            self.running -= 1;
            let ended = self.clock.end(self.running == 0);
            branch.elapsed = branch.started.map(|started| ended.saturating_sub(started));
            scratch.wakers.node_waker(node).recorder.write(branch);
        }
        // Events are written before the status: a recorded fallback decides between `success` and
        // `fallback`.
        completion.write(branch);
        // A call that was cut releases its connection and its permits now, not when the run ends.
        if !branch.status.is_answered() {
            self.answers.drop_cell(node);
        }
        if completion.is_cut() && self.call.fallback {
            let cut = match was {
                Phase::Running => Cut::Running,
                _ => Cut::NotStarted,
            };
            if let Some(answer) = self.bound.cut_fallback(node, cut) {
                completion.write_fallback(branch);
                self.answers.cells[node] = Some(answer);
            }
        }
        if let Some(profile) = self.bound.profile(node) {
            branch.breaker = profile.breaker_state();
            // Answers of a fallback say nothing about how long the downstream takes.
            if let (Status::Success, Some(elapsed)) = (branch.status, branch.elapsed) {
                profile.expected().record(elapsed, self.clock.now());
            }
        }
        if let Some(observer) = self.scratch_pool.observer() {
            // A panic of the observer must not end the run.
            let _ = panic::catch(|| observer.on_end(node, branch));
        }
        scratch.completed.push_back(node);
    }

    /// Queues each dependent of `node` that waited only for it: as ready, or as skipped if a needed
    /// answer is missing.
    fn release_dependents(&mut self, node: usize) {
        let scratch = scratch_of(&mut self.scratch);
        let plan = self.bound.graph();
        for &dependent in &plan.dependents[node] {
            let state = &mut scratch.nodes[dependent];
            // A node that was skipped by selection is in the queue of completions and must not
            // become ready. It waits for no nodes.
            if state.phase != Phase::Pending || state.waits_for == 0 {
                continue;
            }
            state.waits_for -= 1;
            if state.waits_for > 0 {
                continue;
            }
            let mut hard = plan.nodes[dependent].hard_dependencies();
            let lacks = hard.any(|on| !self.branches[on].status.is_answered());
            if lacks {
                let completion = Completion::Skipped(SkipReason::Dependency);
                scratch.completions.push_back((dependent, completion));
            } else {
                let required = self.branches[dependent].required;
                scratch
                    .ready
                    .insert(required, self.node_order.rank[dependent]);
            }
        }
    }

    /// Ends every branch that has not ended, and starts no further node. Only the first call has an
    /// effect.
    ///
    /// The ends are queued. The caller drains the queue.
    pub(super) fn abort(&mut self, why: AbortReason) {
        if mem::replace(&mut self.stopped, true) {
            return;
        }
        // Must come before the branches are ended, because that drops their calls.
        if why == AbortReason::Late {
            self.detach_late();
        }
        let spared = why != AbortReason::Deadline;
        let keeps_optional = self.options.return_when == ReturnWhen::Deadline;
        let scratch = scratch_of(&mut self.scratch);
        scratch.ready.clear();
        // In topological order, so that the stream reports dependencies before their dependents.
        for &node in &self.bound.graph().order {
            let cancelled = spared || keeps_optional && !self.branches[node].required;
            let completion = match scratch.nodes[node].phase {
                Phase::Done => continue,
                _ if cancelled => Completion::Cancelled(why),
                Phase::Pending => Completion::Skipped(SkipReason::NoTime),
                Phase::Running => Completion::Late,
            };
            scratch.completions.push_back((node, completion));
        }
    }

    /// Polls the timer. Returns `true` if the deadline, the grace period or the due time of a node
    /// has passed and its effects were applied.
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
        let passed = self.clock.poll_next(cx);
        if passed {
            if self.clock.deadline_passed() {
                self.timed_out = true;
                self.abort(AbortReason::Deadline);
            } else {
                self.end_due();
            }
            self.drain_completions();
        }
        passed
    }

    /// Queues the end of the nodes whose own time is over, and sets the next due time.
    fn end_due(&mut self) {
        let now = self.clock.now();
        let scratch = scratch_of(&mut self.scratch);
        let mut next = None;
        for (node, state) in scratch.nodes.iter().enumerate() {
            match state.due {
                Some(due) if state.phase == Phase::Running && due <= now => {
                    scratch.completions.push_back((node, Completion::Late));
                }
                Some(due) if state.phase == Phase::Running => {
                    next = Some(next.map_or(due, |next: Instant| next.min(due)));
                }
                _ => {}
            }
        }
        self.clock.set_due(next);
    }

    /// Returns the nodes that determined the duration of the run, from the first to the last. Each
    /// one is the last to end among the dependencies of the next.
    pub(super) fn critical_path(&self) -> Vec<usize> {
        let end = |node: usize| self.branches[node].ended();
        // A cancelled branch did not delay the run, so it cannot be the last one.
        let counts = |node: &usize| self.branches[*node].status != Status::Cancelled;
        let last = graph::last_to_end((0..self.branches.len()).filter(counts), end);
        let nodes = &self.bound.graph().nodes;
        graph::critical_path(last, |node| nodes[node].dependencies(), end)
    }
}
