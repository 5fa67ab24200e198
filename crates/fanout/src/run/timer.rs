//! What time lets a run do, and ends in it.

use std::task::Context;

use tokio::time::{Instant, sleep_until};

use super::{
    Run,
    ends::{Cut, End},
    room::State,
    room_of,
    time::share,
};

impl<Req> Run<Req> {
    /// Until when a node may run; none if there is no time for it. An inner none is the end of the run.
    pub(super) fn time_for(&mut self, node: usize) -> Option<Option<Instant>> {
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
    pub(super) fn poll_time(&mut self, cx: &mut Context<'_>) -> bool {
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
}
