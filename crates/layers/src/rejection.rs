//! What a layer refuses by itself, and how it travels inside any error type.

use std::{error::Error, fmt, time::Duration};

use crate::classify::{Cause, Class, Failure};

/// The error type that most tower programs use.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A local refusal: the layer, not the service, ended the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// One attempt took longer than the attempt timeout.
    AttemptTimeout,
    /// The deadline of the whole call passed.
    Deadline,
    /// So little time was left that the call was not sent at all.
    DeadlineBeforeSend,
    /// The circuit breaker is open; `retry_after` tells when it will next let a call through,
    /// where that is known.
    CircuitOpen {
        /// Time until the next probe.
        retry_after: Option<Duration>,
    },
    /// The concurrency limit and its queue are full.
    AtCapacity,
    /// The call gave its place in the queue to a more important one.
    Evicted,
    /// The call waited for its turn as long as it may, or would have to.
    QueueTimeout,
    /// The service refuses most of what it is asked, so this was not even sent.
    Throttled,
    /// A quota is used up.
    RateLimited {
        /// Time until the quota admits this call.
        retry_after: Duration,
    },
    /// There is no endpoint that the call could be sent to.
    NoEndpoint,
}

impl Rejection {
    /// The class of a call that ended with this refusal after `elapsed`.
    ///
    /// Only an attempt's timeout counts against the service; see the [module of
    /// classes](crate::classify).
    #[must_use]
    pub const fn class(self, elapsed: Duration) -> Class {
        match self {
            Self::AttemptTimeout => Class::Failure(Failure::AttemptTimeout),
            Self::Deadline => Class::Unanswered {
                elapsed,
                cause: Cause::Deadline,
            },
            rejection => Class::Rejected(rejection),
        }
    }

    /// How long the caller should wait before asking again, where that is known.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after } => retry_after,
            Self::RateLimited { retry_after } => Some(retry_after),
            Self::AtCapacity | Self::Evicted | Self::QueueTimeout | Self::Throttled => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AttemptTimeout => "the attempt timed out",
            Self::Deadline => "the deadline passed",
            Self::DeadlineBeforeSend => "too little time was left to send the call",
            Self::CircuitOpen { .. } => "the circuit is open",
            Self::AtCapacity => "the concurrency limit is reached",
            Self::Evicted => "a more important call took its place",
            Self::QueueTimeout => "the call waited too long for its turn",
            Self::Throttled => "the service refuses most calls",
            Self::RateLimited { .. } => "the quota is used up",
            Self::NoEndpoint => "there is no endpoint to send to",
        })
    }
}

impl Error for Rejection {}

/// An error in which a [`Rejection`] can be found again.
///
/// Implement it for your own error type, together with `From<Rejection>`, and every layer of this
/// crate accepts it. If it may be boxed on its way, by tower's `Buffer` say, then its
/// [`source`](Error::source) must be the refusal, or a [`Failure`]: a [`BoxError`] finds them there,
/// and takes what has neither for [`Failure::Other`].
///
/// ```
/// use std::{error::Error, fmt};
/// use tower_fanout_layers::{AsRejection, BoxError, Failure, Rejection};
///
/// #[derive(Debug)]
/// enum MyError {
///     Refused(Rejection),
///     Io(std::io::Error),
/// }
/// impl From<Rejection> for MyError {
///     fn from(reject: Rejection) -> Self {
///         Self::Refused(reject)
///     }
/// }
/// impl AsRejection for MyError {
///     fn as_rejection(&self) -> Option<&Rejection> {
///         match self {
///             Self::Refused(reject) => Some(reject),
///             Self::Io(_) => None,
///         }
///     }
///     fn failure(&self) -> Failure {
///         Failure::ConnectionReset
///     }
/// }
/// impl Error for MyError {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         match self {
///             Self::Refused(reject) => Some(reject),
///             Self::Io(_) => Some(&Failure::ConnectionReset),
///         }
///     }
/// }
/// # impl fmt::Display for MyError {
/// #     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
/// #         f.write_str("my error")
/// #     }
/// # }
///
/// let boxed = BoxError::from(MyError::from(Rejection::Deadline));
/// assert_eq!(boxed.as_rejection(), Some(&Rejection::Deadline));
/// let boxed = BoxError::from(MyError::Io(std::io::ErrorKind::ConnectionReset.into()));
/// assert_eq!(boxed.failure(), Failure::ConnectionReset);
/// ```
#[diagnostic::on_unimplemented(
    message = "layers cannot find a `Rejection` in the error `{Self}`",
    label = "this error is no `AsRejection`",
    note = "put `CallErrorLayer` around a service whose error is not yours, and it becomes a `CallError`",
    note = "implement `AsRejection` and `From<Rejection>` for an error of your own"
)]
pub trait AsRejection {
    /// The refusal, if this error is one.
    fn as_rejection(&self) -> Option<&Rejection>;

    /// What kind of failure of the service this error is, if it is no refusal.
    fn failure(&self) -> Failure {
        Failure::Other
    }
}

impl AsRejection for Rejection {
    fn as_rejection(&self) -> Option<&Rejection> {
        Some(self)
    }
}

/// Finds a [`Rejection`] or a [`Failure`] anywhere in the chain of sources.
impl AsRejection for BoxError {
    fn as_rejection(&self) -> Option<&Rejection> {
        find(&**self)
    }

    fn failure(&self) -> Failure {
        find(&**self).copied().unwrap_or(Failure::Other)
    }
}

fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// A service's own error, or a refusal of a layer above it.
///
/// It reads as what it holds. Its source is the refusal, the kind of failure if that is known, and
/// else the service's error, so that what it says of itself is known of it when it is boxed too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// A layer refused the call.
    Rejected(Rejection),
    /// The service failed.
    Inner {
        /// Its error.
        error: E,
        /// What kind of failure that is, as [`CallErrorLayer`](crate::CallErrorLayer) was told.
        failure: Failure,
    },
}

impl<E> From<Rejection> for CallError<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> AsRejection for CallError<E> {
    fn as_rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner { .. } => None,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Rejected(_) => Failure::Other,
            Self::Inner { failure, .. } => *failure,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Inner { error, .. } => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner { error, failure } if *failure == Failure::Other => Some(error),
            Self::Inner { failure, .. } => Some(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(BoxError);
    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }
    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn a_reject_is_found_through_the_sources_of_a_box_error() {
        let error: BoxError = Box::new(Outer(Box::new(Rejection::AtCapacity)));
        assert_eq!(error.as_rejection(), Some(&Rejection::AtCapacity));
        let error: BoxError = Box::new(Outer(Box::new(Failure::Connect)));
        assert_eq!(error.as_rejection(), None);
        assert_eq!(error.failure(), Failure::Connect);
        let error: BoxError = "plain".into();
        assert_eq!(error.failure(), Failure::Other);
    }

    #[test]
    fn what_a_call_error_says_is_known_when_it_is_boxed() {
        type Error = CallError<std::io::Error>;
        let boxed = |error: Error| BoxError::from(error);
        let refused = boxed(Error::Rejected(Rejection::Deadline));
        assert_eq!(refused.as_rejection(), Some(&Rejection::Deadline));
        assert_eq!(refused.to_string(), Rejection::Deadline.to_string());
        let failed = |error: std::io::Error, failure| boxed(Error::Inner { error, failure });
        let reset = failed(std::io::Error::other("reset"), Failure::ConnectionReset);
        assert_eq!(
            (reset.as_rejection(), reset.failure()),
            (None, Failure::ConnectionReset)
        );
        assert_eq!(reset.to_string(), "reset");
        let unnamed = failed(
            std::io::Error::other(Failure::TruncatedBody),
            Failure::Other,
        );
        assert_eq!(
            unnamed.source().unwrap().to_string(),
            Failure::TruncatedBody.to_string()
        );
    }

    #[test]
    fn only_an_attempt_timeout_counts_against_the_service() {
        let all = [
            Rejection::AttemptTimeout,
            Rejection::Deadline,
            Rejection::DeadlineBeforeSend,
            Rejection::CircuitOpen { retry_after: None },
            Rejection::AtCapacity,
            Rejection::Evicted,
            Rejection::QueueTimeout,
            Rejection::Throttled,
            Rejection::RateLimited {
                retry_after: Duration::ZERO,
            },
            Rejection::NoEndpoint,
        ];
        let failures = all
            .iter()
            .filter(|rejection| matches!(rejection.class(Duration::ZERO), Class::Failure(_)));
        assert_eq!(failures.collect::<Vec<_>>(), [&Rejection::AttemptTimeout]);
    }
}
