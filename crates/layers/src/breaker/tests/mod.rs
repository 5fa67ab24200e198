//! Tests of the state machine against the statements of `docs/semantics.md`.

mod half_open;
mod histories;
mod manual;
mod opening;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    config::BreakerConfig,
    state::{Effect, Machine, Recorded, State, Ticket},
};
use crate::config::Validate;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A state machine without jitter, with a clock that the test advances.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    /// Creates a machine with the default rates and without the rule for consecutive failures.
    fn new(edit: impl FnOnce(&mut BreakerConfig)) -> Self {
        let mut config = BreakerConfig::new()
            .consecutive_failures(None)
            .open_jitter(0.0);
        edit(&mut config);
        config.validate().unwrap();
        let now = Instant::now();
        let machine = Machine::new(config, now);
        Self { machine, now }
    }

    /// Creates a machine that opens after three consecutive failures.
    fn opens_after_three_failures() -> Self {
        Self::new(|config| config.consecutive_failures = Some(3))
    }

    fn advance(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn admit(&mut self) -> Option<Ticket> {
        self.machine.admit(self.now, || 0.0)
    }

    fn end(&mut self, ticket: Ticket, effect: Effect) -> bool {
        self.end_after(ticket, effect, ms(1))
    }

    fn end_after(&mut self, ticket: Ticket, effect: Effect, elapsed: Duration) -> bool {
        let now = self.now;
        self.record(ticket, effect, elapsed, now) != Recorded::Late
    }

    fn record(
        &mut self,
        ticket: Ticket,
        effect: Effect,
        elapsed: Duration,
        now: Instant,
    ) -> Recorded {
        self.machine.record(ticket, effect, elapsed, now, || 0.0)
    }

    fn call(&mut self, effect: Effect) -> &mut Self {
        let ticket = self.admit().expect("the call should be admitted");
        self.end(ticket, effect);
        self
    }

    fn calls(&mut self, effect: Effect, count: usize) -> &mut Self {
        (0..count).for_each(|_| {
            self.call(effect);
        });
        self
    }

    fn state(&self) -> State {
        self.machine.state()
    }

    fn open_remaining(&self) -> Option<Duration> {
        self.machine.open_remaining(self.now)
    }

    /// Opens the breaker, and advances the clock to the end of its open time.
    fn with_open_time_over(mut self) -> Self {
        self.calls(Effect::Bad, 3);
        let open = self.open_remaining().expect("the breaker should be open");
        self.advance(open);
        self
    }
}

use Effect::{Bad, Good, Neutral, RetryAfter, Throttled};
