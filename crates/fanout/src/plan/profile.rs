//! What a plan knows of the downstream that a node asks.

use std::{sync::Arc, time::Duration};

use tower_fanout_layers::breaker::{self, State};

use crate::expected::Expected;

/// What a plan knows of the downstream that a node asks: how long it takes, how often it is asked at
/// most, and how it is doing. [`Downstream::profile`](crate::Downstream::profile) makes it of a
/// policy.
#[derive(Clone, Debug)]
pub struct Profile {
    name: Arc<str>,
    expected: Expected,
    breaker: Option<breaker::Handle>,
    attempts: u32,
    worst_cases: Arc<[Duration]>,
    fallbacks: Vec<Self>,
}

impl Profile {
    /// A downstream that one call asks once, and that may take without end.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, expected: Expected) -> Self {
        Self {
            name: name.into(),
            expected,
            breaker: None,
            attempts: 1,
            worst_cases: Arc::default(),
            fallbacks: Vec::new(),
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
        self.attempts = attempts;
        self
    }

    /// Sets how long one call takes at most if it makes one attempt at most, two, and so on; with
    /// nothing, that has no end.
    #[must_use]
    pub fn worst_cases(mut self, worst_cases: impl IntoIterator<Item = Duration>) -> Self {
        self.worst_cases = worst_cases.into_iter().collect();
        self
    }

    /// Adds a downstream that is asked instead if this one, and what was added before, has failed. All
    /// else that this says of a downstream is said of this one alone; what a node takes at most is what
    /// all of them take. What `other` itself falls back to is not counted.
    #[must_use]
    pub fn fallback(mut self, other: Self) -> Self {
        self.fallbacks.push(other);
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it is expected to take.
    #[must_use]
    pub const fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The state of its breaker, if it has one.
    #[must_use]
    pub fn breaker_state(&self) -> Option<State> {
        self.breaker.as_ref().map(breaker::Handle::state)
    }

    /// How many attempts one call makes at most.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.attempts
    }

    /// How long one call takes at most; none if that has no end.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.longest_of(self.attempts)
    }

    /// The same for a call that makes `attempts` at most.
    #[must_use]
    pub fn longest_of(&self, attempts: u32) -> Option<Duration> {
        let cases = &self.worst_cases;
        let place = (attempts.min(self.attempts) as usize).clamp(1, cases.len().max(1));
        cases.get(place - 1).copied()
    }

    /// The downstreams that one call may ask, in this order: this one, and what is asked instead.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Self> {
        [self].into_iter().chain(&self.fallbacks)
    }

    /// How many attempts one call makes at most if it may make `max_retries` retries.
    pub(crate) fn attempts_within(&self, max_retries: Option<u8>) -> u32 {
        let allowed = max_retries.map_or(u32::MAX, |retries| u32::from(retries) + 1);
        self.attempts.min(allowed).max(1)
    }
}
