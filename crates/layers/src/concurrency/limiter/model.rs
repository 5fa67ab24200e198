//! The limiter compared with a simple model.

use std::task::{Poll, Waker};

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Admission, ConcurrencyConfig, Limiter, Permit, Waiter};
use crate::{Priority, Rejection, sync::Arc};

/// A call: its number and its level.
type Call = (u32, u8);

/// A model of the limiter that keeps running and waiting calls in lists.
#[derive(Debug, Default)]
struct Model {
    max: usize,
    queue: usize,
    running: Vec<u32>,
    /// Waiting calls, the next one first.
    waiting: Vec<Call>,
    rejected: Vec<u32>,
}

impl Model {
    fn arrive(&mut self, (number, level): Call) {
        if self.running.len() < self.max && self.waiting.is_empty() {
            return self.running.push(number);
        }
        if self.waiting.len() >= self.queue {
            match self.waiting.pop_if(|(_, last)| *last < level) {
                Some((evicted, _)) => self.rejected.push(evicted),
                None => return self.rejected.push(number),
            }
        }
        let index = self.waiting.partition_point(|(_, other)| *other >= level);
        self.waiting.insert(index, (number, level));
    }

    fn grant(&mut self) {
        while self.running.len() < self.max && !self.waiting.is_empty() {
            self.running.push(self.waiting.remove(0).0);
        }
    }
}

/// The real limiter, with the permits and waiters of the calls.
struct Real {
    limiter: Arc<Limiter>,
    running: Vec<(u32, Permit)>,
    waiting: Vec<(u32, Waiter)>,
    rejected: Vec<u32>,
}

impl Real {
    fn arrive(&mut self, (number, level): Call) {
        let priority = Priority::new(level).unwrap();
        match (self.limiter).acquire(priority, None, Waker::noop(), Instant::now()) {
            Ok(Admission::Granted(permit)) => self.running.push((number, permit)),
            Ok(Admission::Queued(waiter)) => self.waiting.push((number, waiter)),
            Err(rejection) => {
                assert_eq!(rejection, Rejection::AtCapacity);
                self.rejected.push(number);
            }
        }
        self.poll_waiters();
    }

    /// Polls all waiters.
    fn poll_waiters(&mut self) {
        let mut index = 0;
        while let Some((number, waiter)) = self.waiting.get_mut(index) {
            let number = *number;
            match waiter.poll(Waker::noop()) {
                Poll::Pending => {
                    index += 1;
                    continue;
                }
                Poll::Ready(Ok(permit)) => self.running.push((number, permit)),
                Poll::Ready(Err(rejection)) => {
                    assert_eq!(rejection, Rejection::Evicted);
                    self.rejected.push(number);
                }
            }
            drop(self.waiting.remove(index));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Arrive(u8),
    End(usize),
    Leave(usize),
    Resize(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..=9).prop_map(Step::Arrive),
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
    fn cl_15_the_limiter_agrees_with_a_simple_model(max in 1u32..4, queue in 0u32..5, steps in steps()) {
        let config = ConcurrencyConfig { max, queue, aging: None, ..Default::default() };
        let mut model = Model { max: max as usize, queue: queue as usize, ..Model::default() };
        let limiter = Arc::new(Limiter::new(&config));
        let mut real = Real { limiter, running: vec![], waiting: vec![], rejected: vec![] };
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Arrive(level) => {
                    model.arrive((number, level));
                    real.arrive((number, level));
                }
                Step::End(index) if !model.running.is_empty() => {
                    let ended = model.running.remove(index % model.running.len());
                    model.grant();
                    real.running.retain(|(number, _)| *number != ended);
                }
                Step::Leave(index) if !model.waiting.is_empty() => {
                    let (left, _) = model.waiting.remove(index % model.waiting.len());
                    real.waiting.retain(|(number, _)| *number != left);
                }
                Step::Resize(max) => {
                    model.max = max as usize;
                    model.grant();
                    real.limiter.set_max(max);
                }
                Step::End(_) | Step::Leave(_) => {}
            }
            real.poll_waiters();
            let running = real.running.iter().map(|(number, _)| *number).collect();
            let waiting = real.waiting.iter().map(|(number, _)| *number).collect();
            prop_assert_eq!(sorted(running), sorted(model.running.clone()));
            prop_assert_eq!(sorted(waiting), sorted(model.waiting.iter().map(|call| call.0).collect()));
            prop_assert_eq!(&real.rejected, &model.rejected);
            prop_assert_eq!(real.limiter.in_flight() as usize, model.running.len());
            prop_assert_eq!(real.limiter.queued() as usize, model.waiting.len());
        }
    }
}
