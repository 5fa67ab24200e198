//! Classification of results, shared by all layers.
//!
//! | result | class |
//! |---|---|
//! | 1xx–3xx, `Ok` | [`Class::Success`] |
//! | 4xx, 501, 505: another attempt would get the same response | [`Class::NonRetryable`] |
//! | 408, 425 | [`Class::Transient`] |
//! | 429 | [`Class::Throttled`] |
//! | other 5xx, a broken call, an attempt timeout | [`Class::Failure`] |
//! | the call ended before the service responded | [`Class::Unanswered`] |
//! | a layer rejected the call | [`Class::Rejected`] |
//!
//! No local rejection counts as a failure of the service, except [`Rejection::AttemptTimeout`]. If a
//! service uses a status in another meaning, set its class with [`ClassifyConfig`] for `ClassifyHttp`
//! (feature `http`).

mod config;
#[cfg(feature = "http")]
mod http;
#[cfg(test)]
pub(crate) mod table;

use std::{error::Error, fmt, time::Duration};

pub use self::config::ClassifyConfig;
#[cfg(feature = "http")]
pub use self::http::{ClassifyHttp, ExpectedStatus};

use crate::rejection::{AsRejection, Rejection};

/// The meaning of the result of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The service did what was requested.
    Success,
    /// The service responded, and another attempt would get the same response. Contains the status.
    ///
    /// For a protocol without HTTP statuses, use the HTTP status with the same meaning, or 0. Retry, hedge
    /// and fallback compare the number with their lists of statuses. A fallback also treats 501 and 505 as
    /// failures: see [`OutcomeSet`](crate::fallback::OutcomeSet).
    NonRetryable(u16),
    /// The service could not respond this time. Contains the status.
    ///
    /// Retry and hedge repeat only listed statuses, by default 408 and 425 of this class. So with 0, the
    /// result is not retried.
    Transient(u16),
    /// The service requests fewer calls.
    Throttled {
        /// Time of `Retry-After`. `None` if the response has none.
        retry_after: Option<Duration>,
    },
    /// The service failed.
    Failure(Failure),
    /// The call ended before the service responded. A [`Rejection::Deadline`] has this class.
    Unanswered {
        /// Time from the start of the attempt to its end.
        elapsed: Duration,
        /// Reason of the end.
        cause: Cause,
    },
    /// A layer rejected the call before it was sent. An attempt timeout and the deadline have other
    /// classes: see [`Rejection::class`].
    Rejected(Rejection),
}

impl Class {
    /// Returns the time of the service's `Retry-After`, or `None` if the class has none.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after }
            | Self::Failure(Failure::Status { retry_after, .. }) => retry_after,
            _ => None,
        }
    }

    /// Returns `true` if the result says how the service is. `false` for [`Unanswered`](Self::Unanswered) and
    /// [`Rejected`](Self::Rejected): the caller or a layer of this process ended such a call.
    ///
    /// ```
    /// use tower_fanout_layers::{Class, Failure, Rejection};
    ///
    /// assert!(Class::Success.is_of_service());
    /// assert!(Class::Failure(Failure::AttemptTimeout).is_of_service());
    /// assert!(!Class::Rejected(Rejection::AtCapacity).is_of_service());
    /// ```
    #[must_use]
    pub const fn is_of_service(self) -> bool {
        !matches!(self, Self::Unanswered { .. } | Self::Rejected(_))
    }
}

/// The kind of failure of a service.
///
/// `Failure` implements [`Error`]. A service with a boxed error can put it among the sources, where
/// [`AsRejection::failure`] finds it.
///
/// The error of the service determines the kind: see [`AsRejection::failure`]. The layers of this crate
/// create only [`Status`](Self::Status) (`ClassifyHttp`), [`TruncatedBody`](Self::TruncatedBody) (an error
/// in a response body), [`AttemptTimeout`](Self::AttemptTimeout), [`Panic`](Self::Panic) and
/// [`Other`](Self::Other). The other kinds come from your client, such as the one of the crate
/// `tower-fanout-http`, or from `ChaosLayer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The service responded with a server error.
    Status {
        /// Status of the response.
        code: u16,
        /// Time of `Retry-After`. `None` if the response has none.
        ///
        /// For this kind of failure, `ClassifyHttp` reads the header of a 503 and of a 429 only. A 429 is a
        /// failure only if [`ClassifyConfig::failure`](field@ClassifyConfig::failure) lists the status. Statuses
        /// that are configured as `throttled` have the class [`Class::Throttled`], with their `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection could be made, so nothing was sent.
    Connect,
    /// The service did not process the request: HTTP/2 `REFUSED_STREAM`, or a pooled connection
    /// that was closed before anything was sent.
    NotProcessed,
    /// The connection broke before the response.
    ConnectionReset,
    /// The response body ended early.
    ///
    /// A layer such as retry gets this failure only if a service below it reads the whole body before it
    /// responds. Otherwise the error occurs in the body, after the layer has returned the response. A
    /// breaker with `until_body_end` counts that error.
    TruncatedBody,
    /// The response could not be decoded.
    Protocol,
    /// The response exceeds the size limit of the client. No layer of this crate limits the size of a
    /// response; the client of the crate `tower-fanout-http` does.
    TooLarge,
    /// The attempt exceeded the attempt timeout.
    AttemptTimeout,
    /// The service panicked.
    Panic,
    /// Any other error.
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "the service responded with status {code}"),
            Self::Connect => f.write_str("could not connect to the service"),
            Self::NotProcessed => f.write_str("the service did not process the request"),
            Self::ConnectionReset => f.write_str("the connection broke before the response"),
            Self::TruncatedBody => f.write_str("the response body ended early"),
            Self::Protocol => f.write_str("the response could not be decoded"),
            Self::TooLarge => f.write_str("the response is too large"),
            Self::AttemptTimeout => f.write_str("the attempt timed out"),
            Self::Panic => f.write_str("the service panicked"),
            Self::Other => f.write_str("the service failed"),
        }
    }
}

impl Error for Failure {}

/// The reason why a call ended before the service responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The deadline passed.
    Deadline,
    /// The caller dropped the call.
    ///
    /// An adaptive [`ConcurrencyLayer`](crate::ConcurrencyLayer) uses this cause internally for a dropped
    /// call. No layer reports it in an [`Event`](crate::Event), and no classifier of this crate returns it.
    CallerGone,
    /// Another call of the same request failed, so the result of this call is no longer needed. No
    /// layer of this crate uses this cause; the variant is for programs that run such calls and
    /// classify their results.
    SiblingFailed,
    /// Another attempt of the same call completed first. [`HedgeLayer`](crate::HedgeLayer) reports this
    /// cause in [`Event::AttemptEnded`](crate::Event::AttemptEnded).
    HedgeLost,
}

/// A classifier of results. A classifier must not have side effects, and must return the same class
/// whenever it gets the same result, because several layers classify each result.
///
/// Only a `Retry-After` with a date depends on the time: `ClassifyHttp` compares the date with its clock.
///
/// Any `Fn(Result<&Response, &Error>, Duration) -> Class` is a classifier. A classifier may
/// delegate to another one:
///
/// ```
/// use std::time::Duration;
/// use tower_fanout_layers::{Class, Classify, ClassifyResult, Failure, LayerError};
///
/// /// This service responds with an empty text if it has failed.
/// #[derive(Clone)]
/// struct EmptyIsFailure;
///
/// impl Classify<String, LayerError> for EmptyIsFailure {
///     fn classify(&self, result: Result<&String, &LayerError>, elapsed: Duration) -> Class {
///         match result {
///             Ok(text) if text.is_empty() => Class::Failure(Failure::Protocol),
///             _ => ClassifyResult.classify(result, elapsed),
///         }
///     }
/// }
///
/// let class = |result: Result<String, LayerError>| {
///     EmptyIsFailure.classify(result.as_ref(), Duration::ZERO)
/// };
/// assert_eq!(class(Ok("Ada".into())), Class::Success);
/// assert_eq!(class(Ok("".into())), Class::Failure(Failure::Protocol));
/// assert_eq!(class(Err("reset".into())), Class::Failure(Failure::Other));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot classify a `Result<{Response}, {E}>`",
    label = "not a `Classify<{Response}, {E}>`",
    note = "`ClassifyResult` requires `{E}: AsRejection`, and so does `ClassifyHttp` for an `http::Response`",
    note = "`ClassifyHttp` requires the feature `http` of tower-fanout-layers",
    note = "a reference to a classifier is no classifier: pass a clone",
    note = "write a closure as `classify_fn(|result, elapsed| …)`, or declare both types: `|result: Result<&{Response}, &{E}>, elapsed: Duration| …`"
)]
pub trait Classify<Response, E> {
    /// Returns the class of `result`. `elapsed` is the time since the attempt was sent.
    fn classify(&self, result: Result<&Response, &E>, elapsed: Duration) -> Class;
}

#[diagnostic::do_not_recommend] // or the message asks for a closure, whatever type is given
impl<F, Response, E> Classify<Response, E> for F
where
    F: Fn(Result<&Response, &E>, Duration) -> Class,
{
    fn classify(&self, result: Result<&Response, &E>, elapsed: Duration) -> Class {
        self(result, elapsed)
    }
}

/// Returns `classify` unchanged, and gives the compiler the types of a closure that does not declare them.
///
/// ```
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     Class, Failure, LayerError, RetryConfig, RetryLayer, WithCall, classify::classify_fn,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let classify = classify_fn(|result, _| match result {
///     Ok(_) => Class::Success,
///     Err(_) => Class::Failure(Failure::Other),
/// });
/// let users = ServiceBuilder::new()
///     .layer(RetryLayer::new(RetryConfig::new(), classify)?)
///     .service(service_fn(|id: WithCall<u32>| async move { Ok::<_, LayerError>(id.into_inner()) }));
/// assert_eq!(users.oneshot(WithCall::new(7)).await?, 7);
/// # Ok(())
/// # }
/// ```
pub const fn classify_fn<F, Response, E>(classify: F) -> F
where
    F: Fn(Result<&Response, &E>, Duration) -> Class,
{
    classify
}

/// Returns the class of an error: that of the rejection in it, or else its kind of failure.
fn of_error<E: AsRejection>(error: &E, elapsed: Duration) -> Class {
    match error.as_rejection() {
        Some(rejection) => rejection.class(elapsed),
        None => Class::Failure(error.failure()),
    }
}

/// A classifier that treats `Ok` as a success, and takes the class of an error from
/// [`AsRejection`].
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
