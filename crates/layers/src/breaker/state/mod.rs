//! The breaker's state machine. Pure: the time and the randomness are arguments.

mod manual;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::manual::Mode;
use super::config::{BreakerConfig, Window};
use crate::{
    classify::{Class, Failure},
    deadline::later,
    window::{Calls, Tally},
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
    /// Calls are refused, because somebody said so.
    ForcedOpen,
    /// Calls pass and are not counted, because somebody said so.
    Disabled,
    /// Calls pass and are counted, but it never opens, because somebody said so.
    ShadowMode,
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenReason {
    /// So many calls failed in a row, while there were few.
    Consecutive,
    /// Too large a share of the calls failed.
    FailureRate,
    /// Too large a share of the calls was slow.
    SlowRate,
    /// A probe failed, or did not end in time.
    Probe,
    /// The service said for how long it wants to be left alone.
    RetryAfter,
    /// Somebody said so.
    Manual,
}

/// What a call's end says of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Good,
    Bad,
    /// Nothing.
    Neutral,
    /// It wants fewer calls: bad for a probe only, unless the settings say otherwise.
    Throttled,
    /// It wants none for so long.
    LeaveAlone(Duration),
}

impl Effect {
    pub(super) fn of(class: Class, settings: &BreakerConfig) -> Self {
        if settings.open_on_retry_after
            && let Some(wait) = class.retry_after()
            && !wait.is_zero()
        {
            return Self::LeaveAlone(wait);
        }
        match class {
            Class::Success | Class::NonRetryable(_) => Self::Good,
            Class::Failure(Failure::NotProcessed) | Class::Transient(_) | Class::Rejected(_) => {
                Self::Neutral
            }
            Class::Failure(_) => Self::Bad,
            Class::Throttled { .. } => Self::Throttled,
            Class::Unanswered { elapsed, .. } => Self::unanswered(elapsed, settings),
        }
    }

    /// The effect on a call that ended before the service had answered.
    pub(super) fn unanswered(elapsed: Duration, settings: &BreakerConfig) -> Self {
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
    ForcedOpen,
    Disabled,
    ShadowMode {
        /// It would be open, and has said so.
        crossed: bool,
    },
    HalfOpen {
        /// The probes that run, with the end of their leases.
        running: Vec<(u64, Instant)>,
        started: u64,
        successes: u32,
        failures: u32,
    },
}

/// What became of the record of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Counted,
    /// It was admitted in an older generation, or is a probe whose lease had ended.
    Late,
    /// It was counted, and the breaker would open now if it were not for metrics only.
    WouldOpen,
}

pub(super) struct Machine {
    policy: BreakerConfig,
    phase: Phase,
    generation: u64,
    /// How often it opened since it was last closed for long, and why it did last.
    trips: u32,
    reason: Option<OpenReason>,
    window: Calls,
    consecutive: u32,
    since: Instant,
    last_failure: Option<Instant>,
    mode: Mode,
    /// How many hold it open.
    holds: u32,
}

impl Machine {
    pub(super) fn new(policy: BreakerConfig, now: Instant) -> Self {
        Self {
            window: Calls::new(policy.window, now),
            policy,
            phase: Phase::Closed { since: now },
            generation: 0,
            trips: 0,
            reason: None,
            consecutive: 0,
            since: now,
            last_failure: None,
            mode: Mode::Automatic,
            holds: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::Disabled => State::Disabled,
            Phase::ShadowMode { .. } => State::ShadowMode,
        }
    }

    /// When it entered its state.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn trips(&self) -> u32 {
        self.trips
    }

    /// Why it opened last.
    pub(super) fn reason(&self) -> Option<OpenReason> {
        self.reason
    }

    pub(super) fn last_failure(&self) -> Option<Instant> {
        self.last_failure
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.window.sum(now)
    }

    /// Whether nothing that a good call could do changes its state: it is closed, and no call in its
    /// window failed or was slow. Good calls may then be counted elsewhere, and be
    /// [added](Self::add_good) before anything else is asked.
    pub(super) fn is_calm(&mut self, now: Instant) -> bool {
        let closed = matches!(self.phase, Phase::Closed { .. } | Phase::ShadowMode { .. });
        closed && {
            let tally = self.window.sum(now);
            (tally.failed, tally.slow) == (0, 0)
        }
    }

    /// Adds good calls that were counted elsewhere: see [`Calls::add_good`].
    pub(super) fn add_good(&mut self, count: u64, low: u64, bits: u32, now: Instant) {
        self.consecutive = 0;
        self.window.add_good(count, low, bits, now);
    }

    /// PermitScope when the breaker is open, if it is.
    pub(super) fn opened_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }

    /// How long the breaker will stay open.
    pub(super) fn open_remaining(&self, now: Instant) -> Option<Duration> {
        self.opened_until()
            .map(|until| until.saturating_duration_since(now))
    }

    /// Whether a call that asks at `now` would be let through.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Closed { .. } | Phase::Disabled | Phase::ShadowMode { .. } => true,
            Phase::ForcedOpen => false,
            Phase::Open { until } => now >= *until,
            Phase::HalfOpen {
                running,
                successes,
                failures,
                ..
            } => {
                let overdue = running.iter().filter(|(_, lease)| now >= *lease).count() as u32;
                let running = running.len() as u32 - overdue;
                failures + overdue <= self.policy.half_open_max_failures
                    && running < self.policy.half_open_concurrency
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
            let probing = Phase::HalfOpen {
                running: Vec::new(),
                started: 0,
                successes: 0,
                failures: 0,
            };
            self.enter(probing, now);
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

    /// Takes note of how a call ended.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        effect: Effect,
        elapsed: Duration,
        now: Instant,
        random: impl Fn() -> f64,
    ) -> Recorded {
        if ticket.probe.is_some() {
            self.end_leases(now, &random);
        }
        if ticket.generation != self.generation {
            return Recorded::Late;
        }
        if matches!(effect, Effect::Bad | Effect::LeaveAlone(_)) {
            self.last_failure = Some(now);
        }
        match (ticket.probe, &self.phase) {
            (Some(probe), _) => self.record_probe(probe, effect, now, random),
            (None, Phase::Disabled) => Recorded::Counted,
            (None, _) => self.record_call(effect, elapsed, now, random),
        }
    }

    fn record_call(
        &mut self,
        effect: Effect,
        elapsed: Duration,
        now: Instant,
        random: impl FnOnce() -> f64,
    ) -> Recorded {
        let failed = match effect {
            Effect::Good => false,
            Effect::Bad | Effect::LeaveAlone(_) => true,
            Effect::Throttled if self.policy.throttled_is_failure => true,
            Effect::Throttled | Effect::Neutral => return Recorded::Counted,
        };
        let slow = self.policy.slow_call.is_some_and(|slow| elapsed >= slow);
        self.consecutive = if failed {
            self.consecutive.saturating_add(1)
        } else {
            0
        };
        self.window.add(Tally::one(failed, slow), now);
        let trip = match effect {
            Effect::LeaveAlone(_) => Some(OpenReason::RetryAfter),
            _ => self.must_open(now),
        };
        match (&mut self.phase, trip) {
            (Phase::ShadowMode { crossed }, trip) => {
                let crosses = trip.is_some() && !*crossed;
                *crossed = trip.is_some();
                if crosses {
                    return Recorded::WouldOpen;
                }
            }
            (_, Some(trip)) => match effect {
                Effect::LeaveAlone(wait) => self.leave_alone(wait, now),
                _ => self.open(trip, now, random),
            },
            (_, None) => {}
        }
        Recorded::Counted
    }

    /// Why it must open, if it must. Of two reasons at once it is the row of failures.
    fn must_open(&mut self, now: Instant) -> Option<OpenReason> {
        let settings = &self.policy;
        let tally = self.window.sum(now);
        let min_calls = match settings.window {
            Window::Count(size) => settings.min_calls.min(size as u32),
            Window::Time(_) => settings.min_calls,
        };
        // The call that makes them enough came while they were few.
        let min_calls = u64::from(min_calls);
        let were_few = tally.total <= min_calls;
        if were_few && (settings.consecutive_failures).is_some_and(|row| self.consecutive >= row) {
            return Some(OpenReason::Consecutive);
        }
        let reaches = |count: u64, share: f64| {
            tally.total >= min_calls && count as f64 >= share * tally.total as f64
        };
        if reaches(tally.failed, settings.failure_rate) {
            Some(OpenReason::FailureRate)
        } else if settings.slow_call.is_some() && reaches(tally.slow, settings.slow_rate) {
            Some(OpenReason::SlowRate)
        } else {
            None
        }
    }

    fn record_probe(
        &mut self,
        probe: u64,
        effect: Effect,
        now: Instant,
        random: impl FnOnce() -> f64,
    ) -> Recorded {
        let Phase::HalfOpen {
            running,
            successes,
            failures,
            ..
        } = &mut self.phase
        else {
            return Recorded::Late;
        };
        let Some(place) = running.iter().position(|(number, _)| *number == probe) else {
            return Recorded::Late;
        };
        running.swap_remove(place);
        match effect {
            Effect::Good => *successes += 1,
            Effect::Bad | Effect::Throttled => *failures += 1,
            Effect::Neutral => {}
            Effect::LeaveAlone(wait) => {
                self.leave_alone(wait, now);
                return Recorded::Counted;
            }
        }
        let (successes, failures) = (*successes, *failures);
        if failures > self.policy.half_open_max_failures {
            self.open(OpenReason::Probe, now, random);
        } else if successes >= self.policy.half_open_probes {
            self.enter_afresh(Phase::Closed { since: now }, now);
        }
        Recorded::Counted
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
            self.open(OpenReason::Probe, now, random);
        }
    }

    fn open(&mut self, trip: OpenReason, now: Instant, random: impl FnOnce() -> f64) {
        if let Phase::Closed { since } = self.phase
            && now.saturating_duration_since(since) >= self.policy.backoff_reset_after
        {
            self.trips = 0;
        }
        let open = open_time(&self.policy, self.trips, random());
        self.trips = self.trips.saturating_add(1);
        self.open_until(later(now, open), trip, now);
    }

    /// Opens it for as long as the service said, which is no failure more or less to its backoff.
    fn leave_alone(&mut self, wait: Duration, now: Instant) {
        let until = later(now, wait.min(self.policy.open_cap));
        self.open_until(until, OpenReason::RetryAfter, now);
    }

    fn open_until(&mut self, until: Instant, trip: OpenReason, now: Instant) {
        self.reason = Some(trip);
        self.enter(Phase::Open { until }, now);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
        self.generation += 1;
    }

    /// Enters a state with nothing counted.
    fn enter_afresh(&mut self, phase: Phase, now: Instant) {
        self.window.clear(now);
        self.consecutive = 0;
        self.enter(phase, now);
    }
}

/// How long the breaker stays open after it had opened `trips` times before:
/// `min(cap, open · multiplier^trips) · (1 + random · jitter)`.
fn open_time(settings: &BreakerConfig, trips: u32, random: f64) -> Duration {
    let growth = settings.open_multiplier.powf(f64::from(trips));
    let nanos = (settings.open.as_nanos() as f64 * growth).min(settings.open_cap.as_nanos() as f64);
    Duration::from_nanos((nanos * (1.0 + random * settings.open_jitter)) as u64)
}
