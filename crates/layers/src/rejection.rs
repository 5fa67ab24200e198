//! Local rejections of layers, and how other error types carry them.

use std::{error::Error, fmt, time::Duration};

use crate::{
    classify::{Cause, Class, Failure},
    layer_error::LayerError,
};

/// The boxed error type of most tower programs.
///
/// A stack of layers with this error type does not compile in every async block. [`LayerError`] does: see
/// [When it does not compile](crate#when-it-does-not-compile).
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A local rejection: a layer ended the call, not the service.
///
/// `AttemptTimeout` and `Deadline` may end a call that was already sent, so the service may process the
/// request in spite of the rejection. All others end an attempt before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// An attempt exceeded the attempt timeout, or a response body its idle timeout.
    AttemptTimeout,
    /// The deadline of the whole call passed.
    Deadline,
    /// The remaining time was too short, so the call was not sent.
    DeadlineBeforeSend,
    /// The circuit breaker is open.
    CircuitOpen {
        /// Time until the next probe. `None` if the time is unknown, because the breaker is half-open
        /// or forced open.
        retry_after: Option<Duration>,
    },
    /// The concurrency limit is reached, and its queue is full or the call must not wait.
    AtCapacity,
    /// A call of a higher priority took the place of the call in the queue.
    Evicted,
    /// The call waited in a queue for the maximum time or until its deadline, or the estimated wait exceeds
    /// the deadline. See the [module docs of the limit](crate::concurrency).
    QueueTimeout,
    /// The client-side [throttle](crate::throttle) did not send the call, because the service rejects most
    /// calls. A response with a 429 is [`Class::Throttled`] instead.
    ClientThrottled,
    /// A quota is exhausted. No layer of this crate creates this rejection; your own rate limit can.
    RateLimited {
        /// Time until the quota admits the call.
        retry_after: Duration,
    },
    /// No endpoint is available for the call. No layer of this crate creates this rejection; your own load
    /// balancer can. Nothing was sent, so a retry repeats the call.
    NoEndpoint,
    /// This process, or its system, has no file descriptor left for a connection. No layer of this crate
    /// creates this rejection; a client can.
    DescriptorLimit,
}

impl Rejection {
    /// Returns the class of a call that ended with this rejection after `elapsed`.
    ///
    /// | rejection | class |
    /// |---|---|
    /// | `AttemptTimeout` | [`Class::Failure`] with [`Failure::AttemptTimeout`] |
    /// | `Deadline` | [`Class::Unanswered`] with `elapsed` and [`Cause::Deadline`] |
    /// | any other, `DeadlineBeforeSend` included | [`Class::Rejected`] with the rejection |
    ///
    /// So only `AttemptTimeout` is a failure of the service.
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

    /// Returns the time after which the caller may try again, or `None` if the time is unknown.
    ///
    /// `CircuitOpen` and `RateLimited` return their own value. `AtCapacity`, `Evicted`, `QueueTimeout`,
    /// `ClientThrottled` and `DescriptorLimit` return one second, the shortest `Retry-After` above zero, because
    /// they have no estimate of the time. All other rejections return `None`.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after } => retry_after,
            Self::RateLimited { retry_after } => Some(retry_after),
            Self::AtCapacity
            | Self::Evicted
            | Self::QueueTimeout
            | Self::ClientThrottled
            | Self::DescriptorLimit => Some(Duration::from_secs(1)),
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
            Self::Evicted => "a call of higher priority took its place in the queue",
            Self::QueueTimeout => "the call waited too long in the queue",
            Self::ClientThrottled => "the service rejects most calls",
            Self::RateLimited { .. } => "the quota is exhausted",
            Self::NoEndpoint => "no endpoint is available",
            Self::DescriptorLimit => "no file descriptor is left for a connection",
        })
    }
}

impl Error for Rejection {}

/// An error that can contain a [`Rejection`].
///
/// Implement this trait and `From<Rejection>` for your own error type, and every layer of this
/// crate accepts it. If the error may be boxed on its way, for example by tower's `Buffer`, its
/// [`source`](Error::source) must be the rejection or a [`Failure`]. The implementations for
/// [`LayerError`] and [`BoxError`] search the sources for both. An error without either is a
/// [`Failure::Other`].
///
/// For the error of reqwest or another client on hyper, return `tower_fanout_http::client::failure(error)` in
/// [`failure`](Self::failure): it finds the errors of requests that were not sent, which are safe to retry.
///
/// ```
/// use std::{error::Error, fmt};
/// use tower_fanout_layers::{AsRejection, BoxError, Failure, Rejection};
///
/// #[derive(Debug)]
/// enum MyError {
///     Rejected(Rejection),
///     Io(std::io::Error),
/// }
/// impl From<Rejection> for MyError {
///     fn from(rejection: Rejection) -> Self {
///         Self::Rejected(rejection)
///     }
/// }
/// impl AsRejection for MyError {
///     fn as_rejection(&self) -> Option<Rejection> {
///         match self {
///             Self::Rejected(rejection) => Some(*rejection),
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
///             Self::Rejected(rejection) => Some(rejection),
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
/// assert_eq!(boxed.as_rejection(), Some(Rejection::Deadline));
/// let boxed = BoxError::from(MyError::Io(std::io::ErrorKind::ConnectionReset.into()));
/// assert_eq!(boxed.failure(), Failure::ConnectionReset);
/// ```
#[diagnostic::on_unimplemented(
    message = "layers cannot find a `Rejection` in the error `{Self}`",
    label = "put `LayerErrorLayer` or `CallErrorLayer` innermost, below all other layers",
    note = "an error of your own can implement `AsRejection` and `From<Rejection>` instead"
)]
pub trait AsRejection {
    /// Returns the rejection, or `None` if the error has another cause.
    fn as_rejection(&self) -> Option<Rejection>;

    /// Returns the kind of failure of the service. Only meaningful if the error is not a rejection.
    ///
    /// Defaults to [`Failure::Other`], which is retried for idempotent requests only, because the request
    /// may have been processed.
    fn failure(&self) -> Failure {
        Failure::Other
    }
}

impl AsRejection for Rejection {
    fn as_rejection(&self) -> Option<Rejection> {
        Some(*self)
    }
}

/// Finds a [`Rejection`] or a [`Failure`] in the chain of sources.
///
/// With the feature `tower`, the errors of tower's own layers are rejections too, because not the service
/// ended the call:
///
/// | error | rejection |
/// |---|---|
/// | `tower::load_shed::error::Overloaded` | [`Rejection::AtCapacity`] |
/// | `tower::buffer::error::Closed` | [`Rejection::NoEndpoint`] |
/// | `tower::timeout::error::Elapsed` | [`Rejection::Deadline`] |
///
/// So a breaker counts an `Elapsed` only if the call ran for
/// [`unanswered`](field@crate::BreakerConfig::unanswered), like any call that ended before the service
/// responded. To limit an attempt whose timeout is a failure and is retried, use
/// [`TimeoutLayer`](crate::TimeoutLayer).
impl AsRejection for BoxError {
    fn as_rejection(&self) -> Option<Rejection> {
        find_rejection(&**self)
    }

    fn failure(&self) -> Failure {
        find_failure(&**self)
    }
}

/// Returns the first rejection in the chain of sources.
pub(crate) fn find_rejection(error: &(dyn Error + 'static)) -> Option<Rejection> {
    sources(error).find_map(|error| {
        #[cfg(feature = "tower")]
        if let Some(rejection) = of_tower(error) {
            return Some(rejection);
        }
        // A `LayerError` is not the source of itself, so the chain does not contain its rejection.
        let boxed = error.downcast_ref::<LayerError>();
        boxed.map_or_else(|| error.downcast_ref().copied(), LayerError::as_rejection)
    })
}

/// Returns the first failure in the chain of sources, or else [`Failure::Other`].
pub(crate) fn find_failure(error: &(dyn Error + 'static)) -> Failure {
    let failure = sources(error).find_map(|error| match error.downcast_ref::<LayerError>() {
        Some(boxed) => Some(boxed.failure()),
        None => error.downcast_ref().copied(),
    });
    failure.unwrap_or(Failure::Other)
}

fn sources<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns the rejection for an error of one of tower's own layers.
#[cfg(feature = "tower")]
fn of_tower(error: &(dyn Error + 'static)) -> Option<Rejection> {
    use tower::{buffer::error::Closed, load_shed::error::Overloaded, timeout::error::Elapsed};

    if error.is::<Overloaded>() {
        Some(Rejection::AtCapacity)
    } else if error.is::<Closed>() {
        Some(Rejection::NoEndpoint)
    } else if error.is::<Elapsed>() {
        // No `AttemptTimeout`, because tower's timeout of a whole stack has the same error.
        Some(Rejection::Deadline)
    } else {
        None
    }
}

/// An error of the service, or a rejection by a layer above it.
///
/// The `Display` text is that of the inner value. The [`source`](Error::source) depends on the value:
///
/// | value | source |
/// |---|---|
/// | `Rejected` | the [`Rejection`] |
/// | `Inner` with [`Failure::Other`] | the service's error |
/// | `Inner` with another [`Failure`] | the [`Failure`]; the service's error is in the field `error` only |
///
/// Therefore [`AsRejection`] gives the same result for the boxed error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// A layer rejected the call.
    Rejected(Rejection),
    /// The service failed.
    Inner {
        /// Error of the service.
        error: E,
        /// Kind of failure, as determined by [`CallErrorLayer`](crate::CallErrorLayer).
        failure: Failure,
    },
}

impl<E> From<Rejection> for CallError<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E> AsRejection for CallError<E> {
    fn as_rejection(&self) -> Option<Rejection> {
        match self {
            Self::Rejected(rejection) => Some(*rejection),
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
    fn a_boxed_error_finds_a_rejection_in_its_sources() {
        let error: BoxError = Box::new(Outer(Box::new(Rejection::AtCapacity)));
        assert_eq!(error.as_rejection(), Some(Rejection::AtCapacity));
        let error: BoxError = Box::new(Outer(Box::new(Failure::Connect)));
        assert_eq!(error.as_rejection(), None);
        assert_eq!(error.failure(), Failure::Connect);
        let error: BoxError = "plain".into();
        assert_eq!(error.failure(), Failure::Other);
    }

    #[test]
    fn a_boxed_call_error_keeps_its_rejection_and_failure() {
        type Error = CallError<std::io::Error>;
        let boxed = |error: Error| BoxError::from(error);
        let rejected = boxed(Error::Rejected(Rejection::Deadline));
        assert_eq!(rejected.as_rejection(), Some(Rejection::Deadline));
        assert_eq!(rejected.to_string(), Rejection::Deadline.to_string());
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
    fn only_an_attempt_timeout_is_a_failure_of_the_service() {
        let all = [
            Rejection::AttemptTimeout,
            Rejection::Deadline,
            Rejection::DeadlineBeforeSend,
            Rejection::CircuitOpen { retry_after: None },
            Rejection::AtCapacity,
            Rejection::Evicted,
            Rejection::QueueTimeout,
            Rejection::ClientThrottled,
            Rejection::RateLimited {
                retry_after: Duration::ZERO,
            },
            Rejection::NoEndpoint,
            Rejection::DescriptorLimit,
        ];
        let failures = all
            .iter()
            .filter(|rejection| matches!(rejection.class(Duration::ZERO), Class::Failure(_)));
        assert_eq!(failures.collect::<Vec<_>>(), [&Rejection::AttemptTimeout]);
    }
}
