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
    room::{End, State, room_of},
};
use crate::{
    ending::{Ended, Then},
    outcome::{BranchError, SkipReason, Status},
    strategy::ReturnWhen,
};

/// Why what has not ended is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
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
        self.ends(node, End::Failed);
    }

    /// A node that ran has ended, of which note is taken at once if that may end others.
    pub(super) fn ends(&mut self, node: usize, end: End) {
        let may_stop = self.ending.may_stop(matches!(end, End::Answered));
        room_of(&mut self.room).ends.push_back((node, end));
        if may_stop {
            self.settle();
        }
    }

    /// Takes note of all ends, and of what follows from them.
    pub(super) fn settle(&mut self) {
        while let Some((node, end)) = room_of(&mut self.room).ends.pop_front() {
            if room_of(&mut self.room).slots[node].state == State::Over {
                continue;
            }
            self.end(node, end);
            match self.ending.ended(self.ended(node)) {
                Then::GoOn => {}
                Then::Grace => self.clock.give(self.options.grace),
                Then::Stop => self.cut(Cut::Unwanted),
            }
            if !self.stopped {
                self.free_dependents(node);
            }
        }
        if !self.stopped && self.clock.grace_is_over() {
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
            let ended = self.clock.end(self.running == 0);
            branch.elapsed = branch.started.map(|started| ended.saturating_sub(started));
            if !matches!(end, End::Cancelled) {
                self.last = self.last.max(Some((ended, Reverse(node))));
            }
            room.seats.seat(node).recorder.write(branch);
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
        if let Some(observer) = self.rooms.observer() {
            let name = &self.bound.graph().names[node];
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_end(name, branch)));
        }
        room.told.push_back(node);
    }

    /// Looks at the nodes that waited for `node`.
    fn free_dependents(&mut self, node: usize) {
        let room = room_of(&mut self.room);
        let plan = self.bound.graph();
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
    pub(super) fn cut(&mut self, why: Cut) {
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
        for &node in &self.bound.graph().order {
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
            self.cut(Cut::Deadline);
        } else {
            self.end_due();
        }
        self.settle();
        true
    }

    /// Ends nodes whose own time is over.
    fn end_due(&mut self) {
        let now = self.clock.now();
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
