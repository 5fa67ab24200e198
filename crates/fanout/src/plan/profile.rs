//! The downstream of a node, as seen by a plan and by a run.

use std::{sync::Arc, time::Duration};

use tower_fanout_layers::breaker::{self, State};

use crate::latency_estimate::LatencyEstimate;

/// The worst case of one call to a downstream: the most attempts it makes, and the longest time it
/// takes.
///
/// This is the part of a [`Profile`] that a [`Plan`](crate::Plan) holds: plain numbers that are
/// derived from a policy.
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

    /// Returns the longest time of one call, or `None` if it is unbounded.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.longest_of(self.attempts)
    }

    /// Returns the longest time of a call that makes at most `attempts` attempts, or `None` if it
    /// is unbounded.
    ///
    /// `attempts` counts as at least 1 and at most [`max_attempts`](Self::max_attempts). If the list
    /// of [`Profile::worst_cases`] is shorter than that, its last entry is returned.
    #[must_use]
    pub fn longest_of(&self, attempts: u32) -> Option<Duration> {
        // `times` starts with the time of one attempt.
        let index = (attempts.min(self.attempts) as usize).clamp(1, self.times.len().max(1));
        self.times.get(index - 1).copied()
    }

    pub(crate) fn downstream(&self) -> &str {
        &self.downstream
    }

    /// Returns the worst cases of all downstreams that one call may reach, in order: the downstream
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

/// The downstream that a node calls: the worst case of a call, and the live state, which is the
/// learnt latency and the circuit breaker. [`Downstream::profile`](crate::Downstream::profile)
/// derives it from a policy.
#[derive(Clone, Debug)]
pub struct Profile {
    worst_case: WorstCase,
    expected: LatencyEstimate,
    breaker: Option<breaker::Handle>,
}

impl Profile {
    /// Creates a profile with one attempt per call, no bound on the time of a call, and no breaker.
    ///
    /// `name` identifies the downstream in [`Plan::check`](crate::Plan::check): the attempts of all
    /// nodes whose profiles have the same name are added up. Otherwise, profiles with the same name
    /// share nothing. Clones of one profile share the estimate and the breaker.
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

    /// Sets the circuit breaker whose state appears in the report.
    #[must_use]
    pub fn breaker(mut self, breaker: Option<breaker::Handle>) -> Self {
        self.breaker = breaker;
        self
    }

    /// Sets the maximum number of attempts of one call, including hedges.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.worst_case.attempts = attempts;
        self
    }

    /// Sets the longest times of a call: of a call with at most one attempt, with at most two, and
    /// so on. An empty list means that calls are unbounded.
    #[must_use]
    pub fn worst_cases(mut self, worst_cases: impl IntoIterator<Item = Duration>) -> Self {
        self.worst_case.times = worst_cases.into_iter().collect();
        self
    }

    /// Adds a downstream that is called if this one, and the fallbacks added before, have failed.
    ///
    /// Only the worst case of `other` is added, without its own fallbacks. The worst case of a node
    /// is the sum over the downstream and its fallbacks.
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

    /// Returns the estimate of the downstream's latency.
    #[must_use]
    pub const fn expected(&self) -> &LatencyEstimate {
        &self.expected
    }

    /// Returns the state of the circuit breaker, or `None` without a breaker.
    #[must_use]
    pub fn breaker_state(&self) -> Option<State> {
        self.breaker.as_ref().map(breaker::Handle::state)
    }
}
