//! The limiter against a plain model of it.

use std::task::{Poll, Waker};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{ConcurrencyConfig, Limiter, Permit, Turn, Waiter};
use crate::{Priority, Rejection, sync::Arc};

/// A call, by its number and its level.
type Call = (u32, u8);

/// Who runs and who waits, by plain lists.
#[derive(Debug, Default)]
struct Model {
    max: usize,
    queue: usize,
    running: Vec<u32>,
    /// The next first.
    waiting: Vec<Call>,
    refused: Vec<u32>,
}

impl Model {
    fn come(&mut self, (number, level): Call) {
        if self.running.len() < self.max && self.waiting.is_empty() {
            return self.running.push(number);
        }
        if self.waiting.len() >= self.queue {
            match self.waiting.pop_if(|(_, last)| *last < level) {
                Some((evicted, _)) => self.refused.push(evicted),
                None => return self.refused.push(number),
            }
        }
        let place = self.waiting.partition_point(|(_, other)| *other >= level);
        self.waiting.insert(place, (number, level));
    }

    fn grant(&mut self) {
        while self.running.len() < self.max && !self.waiting.is_empty() {
            self.running.push(self.waiting.remove(0).0);
        }
    }
}

/// The limiter, with what it has given to whom.
struct Real {
    limiter: Arc<Limiter>,
    running: Vec<(u32, Permit)>,
    waiting: Vec<(u32, Waiter)>,
    refused: Vec<u32>,
}

impl Real {
    fn come(&mut self, (number, level): Call) {
        let priority = Priority::new(level).unwrap();
        match (self.limiter).acquire(priority, None, Waker::noop(), Instant::now()) {
            Ok(Turn::Now(permit)) => self.running.push((number, permit)),
            Ok(Turn::Later(waiter)) => self.waiting.push((number, waiter)),
            Err(rejection) => {
                assert_eq!(rejection, Rejection::AtCapacity);
                self.refused.push(number);
            }
        }
        self.look();
    }

    /// Asks all that wait.
    fn look(&mut self) {
        let mut place = 0;
        while let Some((number, waiter)) = self.waiting.get_mut(place) {
            let number = *number;
            match waiter.poll(Waker::noop()) {
                Poll::Pending => {
                    place += 1;
                    continue;
                }
                Poll::Ready(Ok(permit)) => self.running.push((number, permit)),
                Poll::Ready(Err(rejection)) => {
                    assert_eq!(rejection, Rejection::Evicted);
                    self.refused.push(number);
                }
            }
            drop(self.waiting.remove(place));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Come(u8),
    End(usize),
    Leave(usize),
    Resize(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..=9).prop_map(Step::Come),
        3 => (0usize..9).prop_map(Step::End),
        1 => (0usize..9).prop_map(Step::Leave),
        1 => (1u32..5).prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 1..100)
}

fn sorted(mut numbers: Vec<u32>) -> Vec<u32> {
    numbers.sort_unstable();
    numbers
}

proptest! {
    #[test]
    fn cl_15_a_limit_does_what_plain_lists_say(max in 1u32..4, queue in 0u32..5, steps in steps()) {
        let settings = ConcurrencyConfig { max, queue, aging: None, ..Default::default() };
        let mut model = Model { max: max as usize, queue: queue as usize, ..Model::default() };
        let limiter = Arc::new(Limiter::new(&settings));
        let mut real = Real { limiter, running: vec![], waiting: vec![], refused: vec![] };
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Come(level) => {
                    model.come((number, level));
                    real.come((number, level));
                }
                Step::End(place) if !model.running.is_empty() => {
                    let ended = model.running.remove(place % model.running.len());
                    model.grant();
                    real.running.retain(|(number, _)| *number != ended);
                }
                Step::Leave(place) if !model.waiting.is_empty() => {
                    let (left, _) = model.waiting.remove(place % model.waiting.len());
                    real.waiting.retain(|(number, _)| *number != left);
                }
                Step::Resize(max) => {
                    model.max = max as usize;
                    model.grant();
                    real.limiter.set_max(max);
                }
                Step::End(_) | Step::Leave(_) => {}
            }
            real.look();
            let running = real.running.iter().map(|(number, _)| *number).collect();
            let waiting = real.waiting.iter().map(|(number, _)| *number).collect();
            prop_assert_eq!(sorted(running), sorted(model.running.clone()));
            prop_assert_eq!(sorted(waiting), sorted(model.waiting.iter().map(|call| call.0).collect()));
            prop_assert_eq!(&real.refused, &model.refused);
            prop_assert_eq!(real.limiter.in_flight() as usize, model.running.len());
            prop_assert_eq!(real.limiter.queued() as usize, model.waiting.len());
        }
    }
}
