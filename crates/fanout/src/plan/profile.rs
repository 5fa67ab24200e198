//! What a plan and a run know about the downstream of a node.

use std::{sync::Arc, time::Duration};

use tower_fanout_layers::breaker::{self, State};

use crate::latency_estimate::LatencyEstimate;

/// The most that one call of a downstream sends, and the longest that the call takes.
///
/// This is the part of a [`Profile`] that a [`Plan`](crate::Plan) holds: plain numbers, derived from a
/// policy.
#[derive(Clone, Debug)]
pub struct WorstCase {
    downstream: Arc<str>,
    attempts: u32,
    times: Arc<[Duration]>,
    fallbacks: Vec<Self>,
}

impl WorstCase {
    /// Returns the maximum number of attempts of one call, hedges included.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the longest time of one call, or `None` if the call is unbounded.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.longest_of(self.attempts)
    }

    /// Returns the longest time of a call that makes at most `attempts`, or `None` if the call is
    /// unbounded.
    #[must_use]
    pub fn longest_of(&self, attempts: u32) -> Option<Duration> {
        let place = (attempts.min(self.attempts) as usize).clamp(1, self.times.len().max(1));
        self.times.get(place - 1).copied()
    }

    pub(crate) fn downstream(&self) -> &str {
        &self.downstream
    }

    /// Returns the worst cases of all downstreams that one call may ask, in order: the downstream
    /// itself, then its fallbacks.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Self> {
        [self].into_iter().chain(&self.fallbacks)
    }

    /// Returns the maximum number of attempts of one call that may make `max_retries` retries.
    pub(crate) fn attempts_within(&self, max_retries: Option<u8>) -> u32 {
        let allowed = max_retries.map_or(u32::MAX, |retries| u32::from(retries) + 1);
        self.attempts.min(allowed).max(1)
    }

    /// Returns the longest time of one call that may make `max_retries` retries, fallbacks not
    /// included, or `None` if the call is unbounded.
    pub(crate) fn longest_within(&self, max_retries: Option<u8>) -> Option<Duration> {
        self.longest_of(self.attempts_within(max_retries))
    }
}

/// The downstream that a node asks: the worst case of a call, and its live state, which is its expected
/// time and its breaker. [`Downstream::profile`](crate::Downstream::profile) makes it of a policy.
#[derive(Clone, Debug)]
pub struct Profile {
    worst_case: WorstCase,
    expected: LatencyEstimate,
    breaker: Option<breaker::Handle>,
}

impl Profile {
    /// Creates the profile of a downstream that one call asks once, and whose calls are unbounded.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, expected: LatencyEstimate) -> Self {
        Self {
            worst_case: WorstCase {
                downstream: name.into(),
                attempts: 1,
                times: Arc::default(),
                fallbacks: Vec::new(),
            },
            expected,
            breaker: None,
        }
    }

    /// Sets its breaker, for the report.
    #[must_use]
    pub fn breaker(mut self, breaker: Option<breaker::Handle>) -> Self {
        self.breaker = breaker;
        self
    }

    /// Sets how many attempts one call makes at most, hedges among them.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.worst_case.attempts = attempts;
        self
    }

    /// Sets how long one call takes at most if it makes one attempt at most, two, and so on; with
    /// nothing, that has no end.
    #[must_use]
    pub fn worst_cases(mut self, worst_cases: impl IntoIterator<Item = Duration>) -> Self {
        self.worst_case.times = worst_cases.into_iter().collect();
        self
    }

    /// Adds a downstream that is asked instead if this one, and what was added before, has failed.
    /// Only the worst case of `other` is added, without its own fallbacks: what a node takes at most is
    /// what all of them take.
    #[must_use]
    pub fn fallback(mut self, other: Self) -> Self {
        self.worst_case.fallbacks.push(other.worst_case);
        self
    }

    /// Returns the worst case of one call.
    #[must_use]
    pub const fn worst_case(&self) -> &WorstCase {
        &self.worst_case
    }

    /// How long it is expected to take.
    #[must_use]
    pub const fn expected(&self) -> &LatencyEstimate {
        &self.expected
    }

    /// The state of its breaker, if it has one.
    #[must_use]
    pub fn breaker_state(&self) -> Option<State> {
        self.breaker.as_ref().map(breaker::Handle::state)
    }
}
