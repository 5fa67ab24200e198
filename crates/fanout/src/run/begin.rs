//! How a run begins: with what was chosen.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Rooms, Run,
    ends::End,
    room::State,
    room_of,
    time::{self, Times, makes_room},
};
use crate::{ending::Ending, plan::Plan, report::Branch, select::Choice, service::Options};

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
}
