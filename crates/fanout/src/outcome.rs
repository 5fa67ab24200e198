//! What became of a branch.

use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use tower_fanout_layers::{AsRejection, BoxError, CallError, Failure, Rejection};

/// How a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Its service answered.
    Success,
    /// A fallback answered for it.
    Fallback,
    /// It failed.
    Failed,
    /// It was not started.
    Skipped,
    /// It was stopped, or not begun any more, because its answer was no longer of use.
    Cancelled,
}

impl Status {
    /// The name on the wire.
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

    /// Whether there is an answer.
    #[must_use]
    pub const fn is_answered(self) -> bool {
        matches!(self, Self::Success | Self::Fallback)
    }
}

/// Why a branch was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// Something it needs has no answer.
    Dependency,
    /// The caller's tier does not have it, or not what it needs.
    Tier,
    /// Its condition does not hold for this request, or that of something it needs.
    When,
    /// There was too much to do for what the answer can do without.
    Brownout,
    /// There was no time left for it.
    NoTime,
    /// It might have changed something, and this was a test.
    Test,
}

impl SkipReason {
    /// The name on the wire.
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
        /// What kind of failure ended a branch: a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// No connection could be made.
    ConnectFailed = "connect_failed",
    /// The service's name could not be resolved.
    DnsFailed = "dns_failed",
    /// The TLS handshake failed.
    TlsFailed = "tls_failed",
    /// An attempt timed out.
    Timeout = "timeout",
    /// The deadline passed.
    Deadline = "deadline",
    /// The connection broke.
    Reset = "reset",
    /// The head of the answer was not HTTP, or too large.
    BadHead = "bad_head",
    /// The body broke off.
    BadBody = "bad_body",
    /// The body was not of the type that was asked for.
    BadContentType = "bad_content_type",
    /// The body was not JSON.
    BadJson = "bad_json",
    /// The body was larger than allowed.
    TooLarge = "too_large",
    /// The service redirected, which is not followed.
    Redirect = "redirect",
    /// The service answered with a status that no answer can have.
    BadStatus = "bad_status",
    /// The service answered with the status of an error.
    Status = "status",
    /// The request could not be made from what it needs.
    Template = "template",
    /// The circuit is open.
    BreakerOpen = "breaker_open",
    /// The concurrency limit was reached.
    AtCapacity = "at_capacity",
    /// It waited too long for its turn.
    QueueTimeout = "queue_timeout",
    /// A quota was used up.
    RateLimited = "rate_limited",
    /// There was no endpoint to ask.
    NoEndpoint = "no_endpoint",
    /// The service or its request panicked.
    Panic = "panic",
    /// Anything else.
    Internal = "internal",
}

impl ErrorKind {
    /// Whether time ran out.
    #[must_use]
    pub const fn is_timeout(self) -> bool {
        matches!(self, Self::Timeout | Self::Deadline)
    }

    /// Whether we refused it ourselves.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
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

/// Why a branch has no answer.
///
/// The message is for people and may reach clients: it must say nothing of the inside. What it came of,
/// where that is known, is its [source](Error::source), for logs; two errors are equal whatever they
/// came of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchError {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    source: Source,
}

/// What an error came of.
#[derive(Clone, Debug, Default)]
struct Source(Option<Arc<dyn Error + Send + Sync>>);

impl PartialEq for Source {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Source {}

impl BranchError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
            source: Source::default(),
        }
    }

    /// Adds what it came of.
    #[must_use]
    pub fn because_of(mut self, source: BoxError) -> Self {
        self.source = Source(Some(source.into()));
        self
    }

    /// The request of a node could not be made.
    #[must_use]
    pub fn template(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Template, message)
    }

    /// Adds when it is worth asking again.
    #[must_use]
    pub fn retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When it is worth asking again, if that is known.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error of a service that can say what it is, but nothing more.
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

/// The kinds are a contract, so [`Rejection::Throttled`] is `at_capacity` too. The error's message and the
/// reason in the metrics tell it from a full limit.
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
        Self::new(rejection.into(), rejection.to_string()).retry_after(rejection.retry_after())
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
            Err(error) => Self::of(&error).because_of(error),
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
