//! Names of reasons and states in metrics, logs and reports.

use crate::{
    breaker::{OpenReason, State},
    rejection::Rejection,
};

/// The names of all rejections, at the indices that [`Rejection::index`] returns.
pub(super) const REJECTIONS: [&str; 10] = [
    "timeout",
    "deadline",
    "breaker_open",
    "at_capacity",
    "evicted",
    "queue_timeout",
    "throttled",
    "rate_limited",
    "no_endpoint",
    "descriptor_limit",
];

impl Rejection {
    /// Returns the index of the name in [`REJECTIONS`].
    pub(super) const fn index(self) -> usize {
        match self {
            Self::AttemptTimeout => 0,
            Self::Deadline | Self::DeadlineBeforeSend => 1,
            Self::CircuitOpen { .. } => 2,
            Self::AtCapacity => 3,
            Self::Evicted => 4,
            Self::QueueTimeout => 5,
            Self::ClientThrottled => 6,
            Self::RateLimited { .. } => 7,
            Self::NoEndpoint => 8,
            Self::DescriptorLimit => 9,
        }
    }

    /// Returns the name for metrics and logs, such as the label `reason` of `fanout_rejected_total`.
    ///
    /// The names are part of the public API, as the variants are. `Deadline` and `DeadlineBeforeSend` have
    /// one name, because the deadline passed or was about to pass.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        REJECTIONS[self.index()]
    }
}

impl State {
    /// All states. The index of a state is its number as an integer.
    pub(crate) const ALL: [Self; 6] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::Shadow,
    ];

    /// Returns the name for metrics and logs, such as the label `to` of
    /// `fanout_breaker_transitions_total`.
    ///
    /// The names are part of the public API, as the variants are.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::Shadow => "shadow_mode",
        }
    }
}

impl OpenReason {
    /// Returns the name for logs.
    ///
    /// The names are part of the public API, as the variants are.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::Probe => "probe",
            Self::RetryAfter => "retry_after",
            Self::Manual => "manual",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_at_the_index_of_its_number() {
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, index);
        }
    }
}
