//! The breaker's state machine, without clock and random numbers: both are arguments.

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

/// The state of a breaker, which decides whether calls pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected until the open time is over.
    Open,
    /// A few calls pass as probes of the service.
    HalfOpen,
    /// Calls are rejected until a user releases the breaker: see
    /// [`Handle::force_open`](super::Handle::force_open).
    ForcedOpen,
    /// Calls pass and are not recorded: see [`Handle::disable`](super::Handle::disable).
    Disabled,
    /// Calls pass and are recorded, but the breaker never opens: see
    /// [`Handle::shadow_mode`](super::Handle::shadow_mode).
    Shadow,
}

/// The rule that opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenReason {
    /// Consecutive failures while the window held few calls.
    Consecutive,
    /// The share of failed calls reached the limit.
    FailureRate,
    /// The share of slow calls reached the limit.
    SlowRate,
    /// A probe failed, or did not end within its lease.
    Probe,
    /// The service sent a `Retry-After`.
    RetryAfter,
    /// Code opened the breaker through its [`Handle`](super::Handle), with
    /// [`force_open`](super::Handle::force_open) or [`open_for`](super::Handle::open_for).
    Manual,
}

/// The state of a breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Current state. A breaker whose open time is over stays [`State::Open`] until the next call.
    pub state: State,
    /// Time since the breaker entered the state.
    pub time_in_state: Duration,
    /// Number of trips in the current backoff, from which the next open time is computed.
    ///
    /// Counting starts again after control by hand, such as [`Handle::reset`](super::Handle::reset), and with the first
    /// trip after the breaker was closed for
    /// [`backoff_reset_after`](field@super::BreakerConfig::backoff_reset_after).
    pub trips: u32,
    /// Reason of the last opening. `None` if the breaker never opened.
    ///
    /// The reason is kept when the breaker closes, and also after [`Handle::reset`](super::Handle::reset). Read it together with
    /// [`state`](Self::state).
    pub reason: Option<OpenReason>,
    /// Remaining open time, zero if the next call is a probe. `None` unless the state is
    /// [`State::Open`].
    pub open_remaining: Option<Duration>,
    /// Number of calls in the window.
    pub calls: u64,
    /// Number of failed calls in the window.
    pub failed: u64,
    /// Number of slow calls in the window.
    pub slow: u64,
    /// Time since the last failed call. `None` if no call has failed.
    pub last_failure: Option<Duration>,
    /// Number of rejected calls since the breaker was created.
    ///
    /// Includes the calls that a limit or a throttle above rejected because of this breaker's handle. A
    /// retry or hedge that is not sent because of the handle is not counted, nor is
    /// [`Handle::rejection`](super::Handle::rejection).
    pub rejected: u64,
    /// Number of results that were not counted because they came too late, since the breaker was
    /// created.
    pub late: u64,
}

/// The effect of a call's result on the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Good,
    Bad,
    /// Not counted.
    Neutral,
    /// A 429: fails a probe, and is otherwise not counted unless `throttled_is_failure` is set.
    Throttled,
    /// The service sent `Retry-After`, and `open_on_retry_after` is set.
    RetryAfter(Duration),
}

impl Effect {
    pub(super) fn of(class: Class, config: &BreakerConfig) -> Self {
        if config.open_on_retry_after {
            if let Some(wait) = class.retry_after().filter(|wait| !wait.is_zero()) {
                return Self::RetryAfter(wait);
            }
        }
        match class {
            Class::Success | Class::NonRetryable(_) => Self::Good,
            Class::Failure(Failure::NotProcessed) | Class::Transient(_) | Class::Rejected(_) => {
                Self::Neutral
            }
            Class::Failure(_) => Self::Bad,
            Class::Throttled { .. } => Self::Throttled,
            Class::Unanswered { elapsed, .. } => Self::unanswered(elapsed, config),
        }
    }

    /// Returns the effect of a call that ended without a response.
    pub(super) fn unanswered(elapsed: Duration, config: &BreakerConfig) -> Self {
        match config.unanswered_after() {
            Some(threshold) if elapsed >= threshold => Self::Bad,
            _ => Self::Neutral,
        }
    }
}

/// The right to one call, valid in one generation of the breaker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) generation: u64,
    /// Number of the probe in its generation. `None` if the call is not a probe.
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
    Shadow {
        /// The breaker would be open now, and has reported this crossing.
        crossed: bool,
    },
    HalfOpen {
        /// Numbers of the running probes, with the ends of their leases.
        running: Vec<(u64, Instant)>,
        started: u64,
        successes: u32,
        failures: u32,
    },
}

/// The outcome of recording a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Counted,
    /// Not counted: the call is of an older generation, or a probe whose lease has ended.
    Late,
    /// Counted: the breaker would open now if it were not in shadow mode.
    WouldOpen,
}

pub(super) struct Machine {
    config: BreakerConfig,
    phase: Phase,
    generation: u64,
    /// Number of trips since the last reset of the backoff.
    trips: u32,
    reason: Option<OpenReason>,
    window: Calls,
    /// Number of consecutive failures.
    consecutive: u32,
    since: Instant,
    last_failure: Option<Instant>,
    mode: Mode,
    /// Number of guards that force the breaker open.
    holds: u32,
}

impl Machine {
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            window: Calls::new(config.window, now),
            config,
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
            Phase::Shadow { .. } => State::Shadow,
        }
    }

    /// Returns the reason of the last opening.
    pub(super) fn reason(&self) -> Option<OpenReason> {
        self.reason
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn tally(&mut self, now: Instant) -> Tally {
        self.window.sum(now)
    }

    /// Returns the state at `now`. The caller adds the numbers that are counted outside the machine.
    pub(super) fn snapshot(&mut self, now: Instant) -> Snapshot {
        let tally = self.tally(now);
        let age = |at| now.saturating_duration_since(at);
        Snapshot {
            state: self.state(),
            time_in_state: age(self.since),
            trips: self.trips,
            reason: self.reason,
            open_remaining: self.open_remaining(now),
            calls: tally.total,
            failed: tally.failed,
            slow: tally.slow,
            last_failure: self.last_failure.map(age),
            rejected: 0,
            late: 0,
        }
    }

    /// Returns `true` if a successful call cannot change the state: the breaker is closed, and no
    /// call in its window failed or was slow.
    ///
    /// Successes may then be counted outside the machine. They must be [added](Self::add_good)
    /// before any other use of the machine.
    pub(super) fn has_fast_path(&mut self, now: Instant) -> bool {
        matches!(self.phase, Phase::Closed { .. } | Phase::Shadow { .. })
            && self.window.sum(now).is_good()
    }

    /// Adds successes that were counted outside the machine. See [`Calls::add_good`].
    pub(super) fn add_good(&mut self, count: u64, low: u64, bits: u32, now: Instant) {
        self.consecutive = 0;
        self.window.add_good(count, low, bits, now);
    }

    /// Returns the end of the open time, or `None` if the breaker is not open.
    pub(super) fn opened_until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Returns the remaining open time, or `None` if the breaker is not open.
    pub(super) fn open_remaining(&self, now: Instant) -> Option<Duration> {
        self.opened_until()
            .map(|until| until.saturating_duration_since(now))
    }

    /// Returns `true` if a call at `now` would be admitted.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        match &self.phase {
            Phase::Closed { .. } | Phase::Disabled | Phase::Shadow { .. } => true,
            Phase::ForcedOpen => false,
            Phase::Open { until } => now >= *until,
            Phase::HalfOpen {
                running,
                successes,
                failures,
                ..
            } => {
                // Leases end lazily, so probes past their lease are counted as failed here without
                // a change of state.
                let overdue = running.iter().filter(|(_, lease)| now >= *lease).count() as u32;
                let running = running.len() as u32 - overdue;
                failures + overdue <= self.config.half_open_max_failures
                    && running < self.config.half_open_concurrency
                    // The successes and the running probes may suffice to close the breaker.
                    && successes + running < self.config.half_open_probes
            }
        }
    }

    /// Admits a call, or returns `None` to reject it. The first call after the open time becomes a
    /// probe.
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
        let lease = self.config.probe_lease;
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

    /// Records the result of a call.
    pub(super) fn record(
        &mut self,
        ticket: Ticket,
        effect: Effect,
        elapsed: Duration,
        now: Instant,
        random: impl Fn() -> f64,
    ) -> Recorded {
        // A lease that has ended must count before the late result of its probe.
        if ticket.probe.is_some() {
            self.end_leases(now, &random);
        }
        if ticket.generation != self.generation {
            return Recorded::Late;
        }
        if matches!(effect, Effect::Bad | Effect::RetryAfter(_)) {
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
            Effect::Bad | Effect::RetryAfter(_) => true,
            Effect::Throttled if self.config.throttled_is_failure => true,
            Effect::Throttled | Effect::Neutral => return Recorded::Counted,
        };
        let slow = self.config.slow_call.is_some_and(|slow| elapsed >= slow);
        self.consecutive = if failed {
            self.consecutive.saturating_add(1)
        } else {
            0
        };
        let before = self.window.sum(now);
        self.window.add(Tally::one(failed, slow), now);
        let reason = match effect {
            Effect::RetryAfter(_) => Some(OpenReason::RetryAfter),
            _ => self.must_open(before.total, now),
        };
        match (&mut self.phase, reason) {
            (Phase::Shadow { crossed }, reason) => {
                // A crossing ends with its last failure, also if only successes outside the machine
                // followed.
                let crosses = reason.is_some() && (!*crossed || before.is_good());
                *crossed = reason.is_some();
                if crosses {
                    return Recorded::WouldOpen;
                }
            }
            (_, Some(reason)) => match effect {
                Effect::RetryAfter(wait) => self.open_for_retry_after(wait, now),
                _ => self.open(reason, now, random),
            },
            (_, None) => {}
        }
        Recorded::Counted
    }

    /// Returns the reason to open, if any. Consecutive failures come first if several rules hold.
    /// `before` is the number of calls in the window before the current one.
    fn must_open(&mut self, before: u64, now: Instant) -> Option<OpenReason> {
        let config = &self.config;
        let tally = self.window.sum(now);
        let min_calls = match config.window {
            Window::Count(size) => config.min_calls.min(size as u32),
            Window::Time(_) => config.min_calls,
        };
        let min_calls = u64::from(min_calls);
        if before < min_calls
            && (config.consecutive_failures).is_some_and(|limit| self.consecutive >= limit)
        {
            return Some(OpenReason::Consecutive);
        }
        let reaches =
            |count, share| tally.total >= min_calls && is_share(count, tally.total, share);
        if reaches(tally.failed, config.failure_rate) {
            Some(OpenReason::FailureRate)
        } else if config.slow_call.is_some() && reaches(tally.slow, config.slow_rate) {
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
            // Unreachable as long as each half-open phase has its own generation.
            return Recorded::Late;
        };
        let Some(index) = running.iter().position(|(number, _)| *number == probe) else {
            return Recorded::Late;
        };
        running.swap_remove(index);
        match effect {
            Effect::Good => *successes += 1,
            Effect::Bad | Effect::Throttled => *failures += 1,
            Effect::Neutral => {}
            Effect::RetryAfter(wait) => {
                self.open_for_retry_after(wait, now);
                return Recorded::Counted;
            }
        }
        let (successes, failures) = (*successes, *failures);
        if failures > self.config.half_open_max_failures {
            self.open(OpenReason::Probe, now, random);
        } else if successes >= self.config.half_open_probes {
            self.enter_empty(Phase::Closed { since: now }, now);
        }
        Recorded::Counted
    }

    /// Counts probes as failed that have outlived their leases.
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
        if *failures > self.config.half_open_max_failures {
            self.open(OpenReason::Probe, now, random);
        }
    }

    fn open(&mut self, reason: OpenReason, now: Instant, random: impl FnOnce() -> f64) {
        // Flap damping: only a breaker that stayed closed for long starts again at the first open
        // time.
        if let Phase::Closed { since } = self.phase {
            if now.saturating_duration_since(since) >= self.config.backoff_reset_after {
                self.trips = 0;
            }
        }
        let open = open_time(&self.config, self.trips, random());
        self.trips = self.trips.saturating_add(1);
        self.open_until(later(now, open), reason, now);
    }

    /// Opens the breaker for the time of `Retry-After`. This is not a trip: the next open time
    /// stays as it is.
    fn open_for_retry_after(&mut self, wait: Duration, now: Instant) {
        let until = later(now, wait.min(self.config.open_cap));
        self.open_until(until, OpenReason::RetryAfter, now);
    }

    fn open_until(&mut self, until: Instant, reason: OpenReason, now: Instant) {
        self.reason = Some(reason);
        self.enter(Phase::Open { until }, now);
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
        self.generation += 1;
    }

    /// Enters a state with an empty window.
    fn enter_empty(&mut self, phase: Phase, now: Instant) {
        self.window.clear(now);
        self.consecutive = 0;
        self.enter(phase, now);
    }
}

/// Returns `true` if `count` of `total` calls are at least the share `share`.
pub(super) fn is_share(count: u64, total: u64, share: f64) -> bool {
    // The product of a share such as 0.55 and a total may be a little above the exact value.
    const ROUNDING: f64 = 1e-9;
    count as f64 >= share * total as f64 * (1.0 - ROUNDING)
}

/// Returns the open time after `trips` earlier trips: `min(cap, open · multiplier^trips) · (1 +
/// random · jitter)`.
fn open_time(config: &BreakerConfig, trips: u32, random: f64) -> Duration {
    let growth = config.open_multiplier.powf(f64::from(trips));
    let nanos = (config.open.as_nanos() as f64 * growth).min(config.open_cap.as_nanos() as f64);
    Duration::from_nanos((nanos * (1.0 + random * config.open_jitter)) as u64)
}
