//! The breaker's state machine. Pure: the time and the randomness are arguments.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    settings::{BreakerPolicy, BreakerSettings, Window},
    window::{Calls, Tally},
};
use crate::{
    classify::{Class, Failure},
    deadline::later,
};

/// Whether a breaker lets calls pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls pass, to see whether the service is back.
    HalfOpen,
}

/// What a call's end says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad,
    /// Nothing.
    Neutral,
    /// It wants fewer calls: bad for a probe only, unless the settings say otherwise.
    Throttled,
}

impl Verdict {
    pub(super) fn of(class: Class, settings: &BreakerSettings) -> Self {
        match class {
            Class::Success | Class::Answered(_) => Self::Good,
            Class::Failure(Failure::Refused) | Class::Transient(_) | Class::Local(_) => {
                Self::Neutral
            }
            Class::Failure(_) => Self::Bad,
            Class::Throttled { .. } => Self::Throttled,
            Class::Unanswered { elapsed, .. } => Self::unanswered(elapsed, settings),
        }
    }

    /// The verdict on a call that ended before the service had answered.
    pub(super) fn unanswered(elapsed: Duration, settings: &BreakerSettings) -> Self {
        match settings.unanswered_after() {
            Some(threshold) if elapsed >= threshold => Self::Bad,
            _ => Self::Neutral,
        }
    }
}

/// The right to call, which is good in one generation of the breaker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) generation: u64,
    /// Its number among the generation's probes, if it is one.
    pub(super) probe: Option<u64>,
}

#[derive(Debug)]
enum Phase {
    Closed {
        since: Instant,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        /// The probes that run, with the end of their leases.
        running: Vec<(u64, Instant)>,
        started: u64,
        successes: u32,
        failures: u32,
    },
}

pub(super) struct Machine {
    policy: BreakerPolicy,
    phase: Phase,
    generation: u64,
    /// How often it opened since it was last closed for long.
    trips: u32,
    window: Calls,
    consecutive: u32,
}

impl Machine {
    pub(super) fn new(policy: BreakerPolicy, now: Instant) -> Self {
        Self {
            window: Calls::new(policy.window, now),
            policy,
            phase: Phase::Closed { since: now },
            generation: 0,
            trips: 0,
            consecutive: 0,
        }
    }

    pub(super) fn settings(&self) -> &BreakerSettings {
        &self.policy
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.window.sum(now)
    }

    /// How long the breaker will stay open.
    pub(super) fn open_for(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    /// Whether a call that asks at `now` would be let through.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } => now >= *until,
            Phase::HalfOpen {
                running, successes, ..
            } => {
                let running = running.iter().filter(|(_, lease)| now < *lease).count() as u32;
                running < self.policy.half_open_concurrency
                    && successes + running < self.policy.half_open_probes
            }
        }
    }

    /// Lets a call through, or not.
    pub(super) fn admit(&mut self, now: Instant, random: impl FnOnce() -> f64) -> Option<Ticket> {
        self.end_leases(now, random);
        if !self.would_admit(now) {
            return None;
        }
        if let Phase::Open { .. } = self.phase {
            self.enter(Phase::HalfOpen {
                running: Vec::new(),
                started: 0,
                successes: 0,
                failures: 0,
            });
        }
        let lease = self.policy.probe_lease;
        let probe = match &mut self.phase {
            Phase::HalfOpen {
                running, started, ..
            } => {
                *started += 1;
                running.push((*started, later(now, lease)));
                Some(*started)
            }
            _ => None,
        };
        Some(Ticket {
            generation: self.generation,
            probe,
        })
    }

    /// Takes note of how a call ended; false if it was admitted in an older generation, or is a
    /// probe whose lease had ended, and so counts for nothing.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        elapsed: Duration,
        now: Instant,
        random: impl Fn() -> f64,
    ) -> bool {
        if ticket.probe.is_some() {
            self.end_leases(now, &random);
        }
        if ticket.generation != self.generation {
            return false;
        }
        match ticket.probe {
            None => self.record_closed(verdict, elapsed, now, random),
            Some(probe) => return self.record_probe(probe, verdict, now, random),
        }
        true
    }

    fn record_closed(
        &mut self,
        verdict: Verdict,
        elapsed: Duration,
        now: Instant,
        random: impl FnOnce() -> f64,
    ) {
        let failed = match verdict {
            Verdict::Good => false,
            Verdict::Bad => true,
            Verdict::Throttled if self.policy.throttled_is_failure => true,
            Verdict::Throttled | Verdict::Neutral => return,
        };
        let slow = self.policy.slow_call.is_some_and(|slow| elapsed >= slow);
        self.consecutive = if failed { self.consecutive + 1 } else { 0 };
        self.window.add(Tally::one(failed, slow), now);
        if self.must_open(now) {
            self.open(now, random);
        }
    }

    fn must_open(&mut self, now: Instant) -> bool {
        let settings = &self.policy;
        let tally = self.window.sum(now);
        let min_calls = match settings.window {
            Window::Count(size) => settings.min_calls.min(size as u32),
            Window::Time(_) => settings.min_calls,
        };
        if tally.total < min_calls {
            return (settings.consecutive_failures).is_some_and(|limit| self.consecutive >= limit);
        }
        let reaches = |count: u32, share: f64| f64::from(count) >= share * f64::from(tally.total);
        reaches(tally.failed, settings.failure_rate)
            || settings.slow_call.is_some() && reaches(tally.slow, settings.slow_rate)
    }

    fn record_probe(
        &mut self,
        probe: u64,
        verdict: Verdict,
        now: Instant,
        random: impl FnOnce() -> f64,
    ) -> bool {
        let Phase::HalfOpen {
            running,
            successes,
            failures,
            ..
        } = &mut self.phase
        else {
            return false;
        };
        let Some(place) = running.iter().position(|(number, _)| *number == probe) else {
            return false;
        };
        running.swap_remove(place);
        match verdict {
            Verdict::Good => *successes += 1,
            Verdict::Bad | Verdict::Throttled => *failures += 1,
            Verdict::Neutral => {}
        }
        let (successes, failures) = (*successes, *failures);
        if failures > self.policy.half_open_max_failures {
            self.open(now, random);
        } else if successes >= self.policy.half_open_probes {
            self.window.clear(now);
            self.consecutive = 0;
            self.enter(Phase::Closed { since: now });
        }
        true
    }

    /// A probe that outlived its lease has failed.
    fn end_leases(&mut self, now: Instant, random: impl FnOnce() -> f64) {
        let Phase::HalfOpen {
            running, failures, ..
        } = &mut self.phase
        else {
            return;
        };
        let before = running.len();
        running.retain(|(_, lease)| now < *lease);
        *failures += (before - running.len()) as u32;
        if *failures > self.policy.half_open_max_failures {
            self.open(now, random);
        }
    }

    fn open(&mut self, now: Instant, random: impl FnOnce() -> f64) {
        if let Phase::Closed { since } = self.phase
            && now.saturating_duration_since(since) >= self.policy.backoff_reset_after
        {
            self.trips = 0;
        }
        let open = open_time(&self.policy, self.trips, random());
        self.trips = self.trips.saturating_add(1);
        self.enter(Phase::Open {
            until: later(now, open),
        });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }
}

/// How long the breaker stays open after it had opened `trips` times before:
/// `min(cap, open · multiplier^trips) · (1 + random · jitter)`.
fn open_time(settings: &BreakerSettings, trips: u32, random: f64) -> Duration {
    let growth = settings.open_multiplier.powf(f64::from(trips));
    let nanos = (settings.open.as_nanos() as f64 * growth).min(settings.open_cap.as_nanos() as f64);
    Duration::from_nanos((nanos * (1.0 + random * settings.open_jitter)) as u64)
}
