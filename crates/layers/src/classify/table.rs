//! The rows of the classification table, for tests of the policies that depend on it.

use std::{fmt, time::Duration};

use super::{Cause, Class, Failure};
use crate::rejection::Rejection;

/// The threshold `unanswered` of the tests.
pub(crate) const UNANSWERED: Duration = Duration::from_millis(100);

pub(crate) const fn status(code: u16) -> Class {
    Class::Failure(Failure::Status {
        code,
        retry_after: None,
    })
}

pub(crate) const THROTTLED: Class = Class::Throttled { retry_after: None };

pub(crate) const fn cut_off(cause: Cause, elapsed: Duration) -> Class {
    Class::Unanswered { elapsed, cause }
}

/// A duration just below the threshold.
pub(crate) const SHORT: Duration = Duration::from_millis(99);

pub(crate) const ROWS: [Class; 33] = [
    Class::Success,
    Class::NonRetryable(404),
    Class::NonRetryable(501),
    Class::NonRetryable(505),
    Class::Transient(408),
    Class::Transient(425),
    THROTTLED,
    status(500),
    status(502),
    status(504),
    status(503),
    Class::Failure(Failure::Connect),
    Class::Failure(Failure::NotProcessed),
    Class::Failure(Failure::ConnectionReset),
    Class::Failure(Failure::TruncatedBody),
    Class::Failure(Failure::Protocol),
    Class::Failure(Failure::TooLarge),
    Class::Failure(Failure::AttemptTimeout),
    Class::Failure(Failure::Panic),
    cut_off(Cause::Deadline, SHORT),
    cut_off(Cause::Deadline, UNANSWERED),
    cut_off(Cause::CallerGone, SHORT),
    cut_off(Cause::CallerGone, UNANSWERED),
    cut_off(Cause::SiblingFailed, UNANSWERED),
    cut_off(Cause::HedgeLost, UNANSWERED),
    Class::Rejected(Rejection::CircuitOpen { retry_after: None }),
    Class::Rejected(Rejection::AtCapacity),
    Class::Rejected(Rejection::ClientThrottled),
    Class::Rejected(Rejection::QueueTimeout),
    Class::Rejected(Rejection::RateLimited {
        retry_after: Duration::ZERO,
    }),
    Class::Rejected(Rejection::DeadlineBeforeSend),
    Class::Rejected(Rejection::NoEndpoint),
    Class::Rejected(Rejection::DescriptorLimit),
];

/// Checks an effect of all classes: it must be `usual`, except for the classes in `others`.
pub(crate) fn check<T: Clone + PartialEq + fmt::Debug>(
    effect_of: impl Fn(Class) -> T,
    usual: &T,
    others: &[(Class, T)],
) {
    for row in ROWS {
        let other = others.iter().find(|(class, _)| *class == row);
        let expected = other.map_or(usual, |(_, other)| other);
        assert_eq!(effect_of(row), *expected, "{row:?}");
    }
    for (class, _) in others {
        assert!(ROWS.contains(class), "the table has no row {class:?}");
    }
}
