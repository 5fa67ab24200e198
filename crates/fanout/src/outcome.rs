//! The outcome of a branch: its status, skip reason and error.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use tower_fanout_layers::{
    AsRejection, BoxError, CallError, Failure, LayerError, Rejection, breaker::State, labels,
};

/// Returns the name of a circuit breaker state in responses: `CLOSED`, `OPEN` or `HALF_OPEN`.
///
/// `None` means that the service has no breaker, which is written as `CLOSED`.
#[must_use]
pub const fn breaker_state(state: Option<State>) -> &'static str {
    match state {
        Some(State::Open | State::ForcedOpen) => "OPEN",
        Some(State::HalfOpen) => "HALF_OPEN",
        _ => "CLOSED",
    }
}

labels! {
    /// The final status of a branch.
    ///
    /// While a branch has not ended, its entry in a [`Run`](crate::Run) holds
    /// [`Skipped`](Self::Skipped) without a reason. See [`Run::branch`](crate::Run::branch).
    #[derive(Default)]
    pub enum Status {
        /// The node's service answered.
        Success = "success",
        /// A fallback answered, after the call failed or the branch was [cut](Cut).
        Fallback = "fallback",
        /// The call failed, or its request could not be made.
        Failed = "failed",
        /// The node was not started. [`SkipReason`] holds the reason. This is the default.
        #[default]
        Skipped = "skipped",
        /// The call was dropped, or not started, because its answer was no longer needed: the strategy
        /// was decided, the grace period was over, the run was [cancelled](crate::Run::cancel), or the
        /// node was optional at the deadline under
        /// [`ReturnWhen::Deadline`](crate::ReturnWhen::Deadline).
        Cancelled = "cancelled",
    }
}

impl Status {
    /// Returns `true` if the branch has an answer.
    #[must_use]
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Success | Self::Fallback)
    }
}

labels! {
    /// The reason why a node was not started.
    ///
    /// [`Tier`](Self::Tier), [`When`](Self::When), [`Brownout`](Self::Brownout) and
    /// [`Test`](Self::Test) are decided before the run starts. A node that needs the answer of a node
    /// with one of these reasons is skipped for the same reason. [`Dependency`](Self::Dependency) and
    /// [`NoTime`](Self::NoTime) are decided during the run.
    pub enum SkipReason {
        /// A node that this one needs has no answer, because it failed or was skipped during the run.
        Dependency = "dependency",
        /// The caller's tier does not include this node, or a node that it needs.
        Tier = "tier",
        /// The condition of this node, or of a node that it needs, is false for the request, or returned
        /// an error although the node is not required.
        When = "when",
        /// The node is optional and was shed under load. See [`Brownout`](crate::Brownout).
        Brownout = "brownout",
        /// Too little time was left before the deadline.
        ///
        /// An optional node starts only if the time left is at least its expected time, and at least
        /// 10 ms. A required node starts with any time left, and is skipped only if the deadline passes
        /// before the node could start.
        NoTime = "no_time",
        /// The node may change state, and this is a test run.
        Test = "test",
    }
}

/// The state of a node whose branch is cut, which decides whether its
/// [fallback](crate::Node::cut_fallback) applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// The call was in flight when the grace period, the deadline or its own time was over.
    Running,
    /// The node was not started, because a node that it needs has no answer, too little time was left,
    /// or the run ended before.
    NotStarted,
}

labels! {
    /// The kind of error that ended a branch.
    pub enum ErrorKind {
        /// The service refused the connection.
        ConnectRefused = "connect_refused",
        /// The host of the service is unreachable, or did not respond while the connection was opened.
        Unreachable = "unreachable",
        /// The connection could not be established for another reason.
        ConnectFailed = "connect_failed",
        /// The host name could not be resolved.
        DnsFailed = "dns_failed",
        /// The address of the service is not allowed.
        AddressBlocked = "address_blocked",
        /// The certificate of the service has no trusted issuer.
        TlsUntrustedIssuer = "tls_untrusted_issuer",
        /// The certificate of the service is for another name.
        TlsWrongName = "tls_wrong_name",
        /// The certificate of the service has expired or is not valid yet.
        TlsExpired = "tls_expired",
        /// The service supports no common TLS version or cipher suite.
        TlsProtocol = "tls_protocol",
        /// The service requires a client certificate, or another one.
        TlsClientCertRequired = "tls_client_cert_required",
        /// The service does not use TLS.
        TlsNotTls = "tls_not_tls",
        /// The TLS handshake failed for another reason.
        TlsFailed = "tls_failed",
        /// An attempt timed out, or a branch with a fallback was cut at the end of the grace period.
        Timeout = "timeout",
        /// The deadline passed.
        Deadline = "deadline",
        /// The connection was reset.
        Reset = "reset",
        /// The response head was not valid HTTP, or too large.
        BadHead = "bad_head",
        /// The response body was truncated, or has an encoding that was not requested.
        BadBody = "bad_body",
        /// The response body has a different content type from the one requested.
        BadContentType = "bad_content_type",
        /// The response body was not valid JSON, or did not contain the value that was wanted from it.
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
        ///
        /// Calls that the throttle rejected, and calls that lost their place in the queue to a call of
        /// higher priority, have this kind too. The message of the error and the `reason` label of the
        /// metrics distinguish them.
        AtCapacity = "at_capacity",
        /// The call waited too long for a permit of the concurrency limit.
        QueueTimeout = "queue_timeout",
        /// A rate limit was exceeded.
        RateLimited = "rate_limited",
        /// No endpoint was available.
        NoEndpoint = "no_endpoint",
        /// This process has no file descriptor left for a connection.
        DescriptorLimit = "descriptor_limit",
        /// The service panicked, or the function that makes its request did.
        Panic = "panic",
        /// Any other error.
        Internal = "internal",
    }
}

impl ErrorKind {
    /// Returns `true` for [`Timeout`](Self::Timeout) and [`Deadline`](Self::Deadline).
    #[must_use]
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::Deadline)
    }

    /// Returns `true` if a layer of this process rejected the call, so that the call, or its last
    /// attempt, was not sent.
    ///
    /// These kinds are [`BreakerOpen`](Self::BreakerOpen), [`AtCapacity`](Self::AtCapacity),
    /// [`QueueTimeout`](Self::QueueTimeout), [`RateLimited`](Self::RateLimited),
    /// [`NoEndpoint`](Self::NoEndpoint) and [`DescriptorLimit`](Self::DescriptorLimit).
    #[must_use]
    pub const fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::BreakerOpen
                | Self::AtCapacity
                | Self::QueueTimeout
                | Self::RateLimited
                | Self::NoEndpoint
                | Self::DescriptorLimit
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
/// The message may reach clients, so it must not contain internal details. Those belong in the
/// [source](Error::source), which is meant for logs. Two errors are equal if their kind, message
/// and wait are equal; the source is ignored.
///
/// The errors of services are converted as follows:
///
/// | from | kind and message | source |
/// |---|---|---|
/// | [`Rejection`] | those of the rejection, with its [`retry_after`](Rejection::retry_after) | none |
/// | [`Failure`] | those of the class of failure, for example `internal` and `the service failed` for [`Failure::Other`] | none |
/// | [`CallError`] | those of its rejection or failure | the inner error, if it is not a rejection |
/// | [`BoxError`] that is a `BranchError` | its own | its own |
/// | any other [`BoxError`] | those of the first rejection in its chain of sources, or else of the first failure, or else of [`Failure::Other`] | the boxed error |
///
/// A [`LayerError`] is converted like a [`BoxError`] with the same content. The text of either never becomes
/// the message and does not reach clients.
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

/// [`Rejection::ClientThrottled`] and [`Rejection::Evicted`] become
/// [`AtCapacity`](ErrorKind::AtCapacity), and both deadline rejections become
/// [`Deadline`](ErrorKind::Deadline). Every other rejection has a kind of its own.
impl From<Rejection> for ErrorKind {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::AttemptTimeout => Self::Timeout,
            Rejection::Deadline | Rejection::DeadlineBeforeSend => Self::Deadline,
            Rejection::CircuitOpen { .. } => Self::BreakerOpen,
            Rejection::AtCapacity | Rejection::Evicted | Rejection::ClientThrottled => {
                Self::AtCapacity
            }
            Rejection::QueueTimeout => Self::QueueTimeout,
            Rejection::RateLimited { .. } => Self::RateLimited,
            Rejection::NoEndpoint => Self::NoEndpoint,
            Rejection::DescriptorLimit => Self::DescriptorLimit,
            _ => Self::Internal,
        }
    }
}

/// The kind is that of `ErrorKind::from`. The message is the text of the rejection.
impl From<Rejection> for BranchError {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection.into(), rejection.to_string()).with_retry_after(rejection.retry_after())
    }
}

/// The kind is that of the class of failure, and [`Internal`](ErrorKind::Internal) for
/// [`Failure::Other`]. The message is the text of the failure, such as
/// `could not connect to the service`.
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

/// A boxed `BranchError` is returned as it is. Any other error is classified by [`AsRejection`],
/// which provides the kind and the message. The error itself becomes the source, so its text is
/// available for logs but does not reach clients.
impl From<BoxError> for BranchError {
    fn from(error: BoxError) -> Self {
        let (rejection, failure) = (error.as_rejection(), error.failure());
        Self::of_box(error, rejection, failure)
    }
}

/// The kind and the message are those of the rejection or of the class of failure. The inner error
/// becomes the source.
impl<E: Into<BoxError>> From<CallError<E>> for BranchError {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Rejected(rejection) => rejection.into(),
            CallError::Inner { error, failure } => Self::from(failure).with_source(error.into()),
        }
    }
}

/// The error is converted like a [`BoxError`] with the same content.
impl From<LayerError> for BranchError {
    fn from(error: LayerError) -> Self {
        // Reads the failure first, because the box does not contain one that a function found.
        let (rejection, failure) = (error.as_rejection(), error.failure());
        Self::of_box(error.into_inner(), rejection, failure)
    }
}

impl BranchError {
    /// Returns the error in the box, or one with the kind of `rejection` or else of `failure`.
    fn of_box(error: BoxError, rejection: Option<Rejection>, failure: Failure) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => rejection
                .map_or_else(|| failure.into(), Self::from)
                .with_source(error),
        }
    }
}

impl From<std::convert::Infallible> for BranchError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
