//! One classifier that says what a result means, for every layer.
//!
//! | result | class |
//! |---|---|
//! | 1xx–3xx, `Ok` | [`Class::Success`] |
//! | 4xx, 501, 505: the service spoke | [`Class::NonRetryable`] |
//! | 408, 425 | [`Class::Transient`] |
//! | 429 | [`Class::Throttled`] |
//! | other 5xx, a broken call, an attempt's timeout | [`Class::Failure`] |
//! | the call was over before there was an answer | [`Class::Unanswered`] |
//! | a layer refused the call | [`Class::Rejected`] |
//!
//! A local refusal never counts against the service. A service that means something else by a status
//! is told so with [`ClassifyConfig`], which `ClassifyHttp` (feature `http`) reads.

mod config;
#[cfg(feature = "http")]
mod http;
#[cfg(test)]
pub(crate) mod table;

use std::{error::Error, fmt, time::Duration};

pub use self::config::ClassifyConfig;
#[cfg(feature = "http")]
pub use self::http::ClassifyHttp;

use crate::rejection::{AsRejection, Rejection};

/// What the result of one attempt means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The service did what it was asked.
    Success,
    /// The service gave an answer that another attempt would not change: its status.
    NonRetryable(u16),
    /// The service could not answer this time: its status.
    Transient(u16),
    /// The service asks for fewer calls.
    Throttled {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The service failed.
    Failure(Failure),
    /// The call ended before the service answered.
    Unanswered {
        /// How long the service had had.
        elapsed: Duration,
        /// Who ended it.
        cause: Cause,
    },
    /// A layer rejected the call before it was sent. An attempt's timeout and the deadline are not among
    /// these: see [`Rejection::class`].
    Rejected(Rejection),
}

impl Class {
    /// How long the service wants to be left alone, if it said so.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after }
            | Self::Failure(Failure::Status { retry_after, .. }) => retry_after,
            _ => None,
        }
    }
}

/// How a service failed.
///
/// It is an [`Error`], so that a service with a boxed error can put it among the sources, where
/// [`AsRejection::failure`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It answered with a server error.
    Status {
        /// The status.
        code: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No connection could be made: nothing was sent.
    Connect,
    /// The service certainly did not process the request (HTTP/2 `REFUSED_STREAM`, or a pooled
    /// connection that was closed before anything was sent).
    NotProcessed,
    /// The connection broke before there was an answer.
    ConnectionReset,
    /// The answer broke off.
    TruncatedBody,
    /// The answer could not be understood.
    Protocol,
    /// The answer was larger than allowed.
    TooLarge,
    /// The attempt timed out.
    AttemptTimeout,
    /// The service panicked.
    Panic,
    /// Any other error.
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "the service answered {code}"),
            Self::Connect => f.write_str("no connection could be made"),
            Self::NotProcessed => f.write_str("the service did not take the request"),
            Self::ConnectionReset => f.write_str("the connection broke"),
            Self::TruncatedBody => f.write_str("the answer broke off"),
            Self::Protocol => f.write_str("the answer could not be understood"),
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::AttemptTimeout => f.write_str("the attempt timed out"),
            Self::Panic => f.write_str("the service panicked"),
            Self::Other => f.write_str("the service failed"),
        }
    }
}

impl Error for Failure {}

/// Why a call ended before there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its deadline passed.
    Deadline,
    /// Nobody waits for it any more.
    CallerGone,
    /// Another call of the same request has failed, without which this one is of no use. No layer sees
    /// that; it is for whoever makes such calls beside each other and classifies their ends.
    SiblingFailed,
    /// Another attempt of the same call was answered first.
    HedgeLost,
}

/// Says what a result means. It is pure: the same result has the same class for every layer.
///
/// Any `Fn(Result<&Response, &Error>, Duration) -> Class` is a classifier. One may ask another for
/// what it has no opinion of:
///
/// ```
/// use std::time::Duration;
/// use tower_fanout_layers::{BoxError, Class, Classify, ClassifyResult, Failure};
///
/// /// This service answers with an empty text when it has failed.
/// #[derive(Clone)]
/// struct EmptyIsBroken;
///
/// impl Classify<String, BoxError> for EmptyIsBroken {
///     fn classify(&self, result: Result<&String, &BoxError>, elapsed: Duration) -> Class {
///         match result {
///             Ok(text) if text.is_empty() => Class::Failure(Failure::Protocol),
///             _ => ClassifyResult.classify(result, elapsed),
///         }
///     }
/// }
///
/// let class = |result: Result<String, BoxError>| {
///     EmptyIsBroken.classify(result.as_ref(), Duration::ZERO)
/// };
/// assert_eq!(class(Ok("Ada".into())), Class::Success);
/// assert_eq!(class(Ok("".into())), Class::Failure(Failure::Protocol));
/// assert_eq!(class(Err("torn".into())), Class::Failure(Failure::Other));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say what a `Result<{Response}, {E}>` means",
    label = "this is no `Classify` for what the service answers",
    note = "`ClassifyResult` asks `{E}: AsRejection`, and so does `ClassifyHttp` for an `http::Response`",
    note = "`ClassifyHttp` comes with the feature `http` of tower-fanout-layers",
    note = "a closure writes out both types: `|result: Result<&{Response}, &{E}>, elapsed: Duration| …`"
)]
pub trait Classify<Response, E> {
    /// The class of `result`, which came `elapsed` after the attempt was sent.
    fn classify(&self, result: Result<&Response, &E>, elapsed: Duration) -> Class;
}

impl<F, Response, E> Classify<Response, E> for F
where
    F: Fn(Result<&Response, &E>, Duration) -> Class,
{
    fn classify(&self, result: Result<&Response, &E>, elapsed: Duration) -> Class {
        self(result, elapsed)
    }
}

/// The class of an error: of the refusal in it, else of its kind of failure.
fn of_error<E: AsRejection>(error: &E, elapsed: Duration) -> Class {
    match error.as_rejection() {
        Some(rejection) => rejection.class(elapsed),
        None => Class::Failure(error.failure()),
    }
}

/// `Ok` is a success, an error what it says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyResult;

impl<Response, E: AsRejection> Classify<Response, E> for ClassifyResult {
    fn classify(&self, result: Result<&Response, &E>, elapsed: Duration) -> Class {
        match result {
            Ok(_) => Class::Success,
            Err(error) => of_error(error, elapsed),
        }
    }
}
