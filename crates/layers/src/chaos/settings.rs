//! What is injected, and how often.

use std::time::Duration;

use crate::{
    classify::Failure,
    policy::{InvalidPolicy, Problems, Settings, Valid},
};

/// What is injected, and how often.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChaosSettings {
    /// Whether anything is; not by default. A [handle](super::ChaosHandle) may change it.
    pub enabled: bool,
    /// The rules, each of which is drawn by itself.
    pub rules: Vec<Rule>,
    /// Makes runs repeatable; random by default.
    pub seed: Option<u64>,
}

/// One thing that is injected, into some of the attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The share of attempts, 0 to 1. What is below is 0, what is above 1, and what is no number 0.
    pub rate: f64,
    /// What is injected into them.
    pub inject: Injection,
}

/// What can be injected.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Injection {
    /// The attempt fails like this, at once, and the service is not called.
    Error(Failure),
    /// The attempt never ends, and the service is not called.
    Hang,
    /// The attempt begins this much later, spread evenly between the two.
    Latency {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// The attempt is answered with this status, and the service is not called.
    Status(u16),
}

impl Settings for ChaosSettings {
    fn problems(&self) -> Vec<InvalidPolicy> {
        let problems = Problems::default();
        let rules = self.rules.iter().map(|rule| rule.inject);
        let problems = rules.fold(problems, |problems, inject| match inject {
            Injection::Latency { min, max } => problems.at_least("rules", max, min),
            Injection::Status(status) => problems.within("rules", status, 100, 599),
            Injection::Error(_) | Injection::Hang => problems,
        });
        problems.into_vec()
    }
}

/// Checked [`ChaosSettings`].
pub type ChaosPolicy = Valid<ChaosSettings>;
