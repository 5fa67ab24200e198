//! The outcome of a branch: its status, skip reason and error.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use tower_fanout_layers::{AsRejection, BoxError, CallError, Failure, Rejection};

/// The final status of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The node's service answered.
    Success,
    /// A fallback answered.
    Fallback,
    /// The call failed, or its request could not be made.
    Failed,
    /// The node was not started. [`SkipReason`] holds the reason.
    Skipped,
    /// The call was dropped, or not started, because its answer was no longer needed.
    Cancelled,
}

impl Status {
    /// Returns the name that is used in responses and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Fallback => "fallback",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns `true` if the branch has an answer.
    #[must_use]
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Success | Self::Fallback)
    }
}

/// The reason why a node was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A node that this one needs has no answer.
    Dependency,
    /// The caller's tier does not include this node, or a node that it needs.
    Tier,
    /// The condition of this node, or of a node that it needs, is false for the request.
    When,
    /// The node is optional and was shed under load. See [`Brownout`](crate::Brownout).
    Brownout,
    /// Too little time was left before the deadline.
    NoTime,
    /// The node may change state, and this is a test run.
    Test,
}

impl SkipReason {
    /// Returns the name that is used in responses and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dependency => "dependency",
            Self::Tier => "tier",
            Self::When => "when",
            Self::Brownout => "brownout",
            Self::NoTime => "no_time",
            Self::Test => "test",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The kind of error that ended a branch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// Returns the name that is used in responses and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// The connection could not be established.
    ConnectFailed = "connect_failed",
    /// The host name could not be resolved.
    DnsFailed = "dns_failed",
    /// The TLS handshake failed.
    TlsFailed = "tls_failed",
    /// An attempt timed out.
    Timeout = "timeout",
    /// The deadline passed.
    Deadline = "deadline",
    /// The connection was reset.
    Reset = "reset",
    /// The response head was not valid HTTP, or too large.
    BadHead = "bad_head",
    /// The response body was truncated.
    BadBody = "bad_body",
    /// The response body has another content type than the one requested.
    BadContentType = "bad_content_type",
    /// The response body was not valid JSON.
    BadJson = "bad_json",
    /// The response was larger than allowed.
    TooLarge = "too_large",
    /// The service answered with a redirect, which is not followed.
    Redirect = "redirect",
    /// The service answered with a status that is not a final response status.
    BadStatus = "bad_status",
    /// The service answered with an error status.
    Status = "status",
    /// The request could not be made from the answers it reads.
    Template = "template",
    /// The circuit breaker is open.
    BreakerOpen = "breaker_open",
    /// The concurrency limit was reached.
    AtCapacity = "at_capacity",
    /// The call waited too long for a permit of the concurrency limit.
    QueueTimeout = "queue_timeout",
    /// A rate limit was exceeded.
    RateLimited = "rate_limited",
    /// No endpoint was available.
    NoEndpoint = "no_endpoint",
    /// The service panicked, or the code that makes its request.
    Panic = "panic",
    /// Any other error.
    Internal = "internal",
}

impl ErrorKind {
    /// Returns `true` for [`Timeout`](Self::Timeout) and [`Deadline`](Self::Deadline).
    #[must_use]
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::Deadline)
    }

    /// Returns `true` if the call was rejected locally, so that nothing was sent.
    #[must_use]
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::BreakerOpen
                | Self::AtCapacity
                | Self::QueueTimeout
                | Self::RateLimited
                | Self::NoEndpoint
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of a branch.
///
/// The message may reach clients, so it must not contain internal details. Those belong into the
/// [source](Error::source), which is meant for logs. Two errors are equal if their kind, message
/// and wait are equal; the source is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchError {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Source,
}

/// The source of an error. All sources are equal, so that errors compare without them.
#[derive(Clone, Debug, Default)]
struct Source(Option<Arc<dyn Error + Send + Sync>>);

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Source {}

impl BranchError {
    /// Creates an error of kind `kind`.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            source: Source::default(),
        }
    }

    /// Sets the source of the error.
    #[must_use]
    pub fn with_source(mut self, source: BoxError) -> Self {
        self.source = Source(Some(source.into()));
        self
    }

    /// Creates an error of kind [`Template`](ErrorKind::Template): the request of a node could not
    /// be made.
    #[must_use]
    pub fn template(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Template, message)
    }

    /// Sets the time after which a retry is worthwhile.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the message, without the kind.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the time after which a retry is worthwhile, or `None` if it is unknown.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Creates an error from the classification of a service's error, without its message.
    fn of(error: &impl AsRejection) -> Self {
        match error.as_rejection() {
            Some(rejection) => (*rejection).into(),
            None => error.failure().into(),
        }
    }
}

impl fmt::Display for BranchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl Error for BranchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        (self.source.0.as_deref()).map(|source| source as &(dyn Error + 'static))
    }
}

/// Kinds are a public contract, so [`Rejection::Throttled`] and [`Rejection::Evicted`] are
/// `at_capacity` too. The message of the error and the `reason` label of the metrics distinguish
/// them.
impl From<Rejection> for ErrorKind {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::AttemptTimeout => Self::Timeout,
            Rejection::Deadline | Rejection::DeadlineBeforeSend => Self::Deadline,
            Rejection::CircuitOpen { .. } => Self::BreakerOpen,
            Rejection::AtCapacity | Rejection::Evicted | Rejection::Throttled => Self::AtCapacity,
            Rejection::QueueTimeout => Self::QueueTimeout,
            Rejection::RateLimited { .. } => Self::RateLimited,
            Rejection::NoEndpoint => Self::NoEndpoint,
            _ => Self::Internal,
        }
    }
}

impl From<Rejection> for BranchError {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.into(), rejection.to_string()).with_retry_after(rejection.retry_after())
    }
}

impl From<Failure> for BranchError {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Status { .. } => ErrorKind::Status,
            Failure::Connect => ErrorKind::ConnectFailed,
            Failure::NotProcessed | Failure::ConnectionReset => ErrorKind::Reset,
            Failure::TruncatedBody => ErrorKind::BadBody,
            Failure::Protocol => ErrorKind::BadHead,
            Failure::TooLarge => ErrorKind::TooLarge,
            Failure::AttemptTimeout => ErrorKind::Timeout,
            Failure::Panic => ErrorKind::Panic,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, failure.to_string())
    }
}

impl From<BoxError> for BranchError {
    fn from(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self::of(&error).with_source(error),
        }
    }
}

impl<E> From<CallError<E>> for BranchError {
    fn from(error: CallError<E>) -> Self {
        Self::of(&error)
    }
}

impl From<std::convert::Infallible> for BranchError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
