//! Per-call metadata that layers share, independent of the request type.

mod key;
mod plain;
mod with_call;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

pub use self::{key::CallKey, with_call::WithCall};
use crate::{deadline::Deadline, event::Events, upload::Upload};

/// Importance of a call compared to other calls, from 0 (lowest, the default) to 9 (highest).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "u8")
)]
pub struct Priority(u8);

impl Priority {
    /// The highest priority.
    pub const MAX: Self = Self(9);

    /// Creates a priority. Returns `None` if `level` is above 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX.0 {
            Some(Self(level))
        } else {
            None
        }
    }

    /// Returns the level, 0 to 9.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = crate::ConfigError;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        Self::new(level).ok_or_else(|| {
            crate::ConfigError::new("priority", format!("must be within 0 to 9, got {level}"))
        })
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of retries that all branches of one inbound request may make together.
///
/// A branch is one of the calls that the inbound request causes, such as one call per service. The
/// allowance keeps a request with many branches from multiplying its load when every branch fails at
/// once. A hedge counts as a retry. These retries are not counted:
///
/// - a retry that is never sent, or that a layer below rejects, except after
///   [`Rejection::NoEndpoint`](crate::Rejection::NoEndpoint)
/// - the free retry of a request that was [not processed](crate::Failure::NotProcessed)
///
/// No layer creates an allowance. The crate `tower-fanout` creates one per request; without it, your code
/// creates one and passes it to the calls, for example with [`WithCall::allowance`].
#[derive(Debug)]
pub struct RetryAllowance(AtomicU32);

impl RetryAllowance {
    /// Creates an allowance of `retries` retries.
    #[must_use]
    pub const fn new(retries: u32) -> Self {
        Self(AtomicU32::new(retries))
    }

    /// Takes one retry. Returns `false` if none is left.
    pub(crate) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// Returns a retry that was not sent.
    pub(crate) fn put_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Metadata of one call, which layers read and write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// Time at which the call ends. `None` means no limit.
    pub deadline: Option<Deadline>,
    /// Number of the attempt, from 1. Defaults to 1. Retry and hedge layers set the value for attempts
    /// after the first.
    pub attempt: u8,
    /// Priority in the queue of a concurrency limit.
    pub priority: Priority,
    /// Maximum number of attempts after the first. `None` leaves the number to the layer.
    ///
    /// The lower limit applies: a retry layer makes at most `max_attempts - 1` retries
    /// ([`RetryConfig`](crate::RetryConfig)), and a hedge layer sends at most `max_hedges` hedges
    /// ([`HedgeConfig`](crate::HedgeConfig)). 0 turns both off for this call.
    pub max_retries: Option<u8>,
    /// Retries that the call shares with the other branches of the same request.
    pub allowance: Option<Arc<RetryAllowance>>,
    /// Longest wait at a concurrency limit. `None` leaves the wait to the limit, which may also allow less.
    ///
    /// With zero, the limit rejects the call unless it has a free permit. For attempts after the first,
    /// retry and hedge layers lower the value to their own `max_wait`. So the shortest of the three
    /// applies: that of the call, that of the retry or hedge, and that of the limit.
    pub max_wait: Option<Duration>,
    /// `true` if no attempt follows this one and the call has a deadline. Always `false` without a
    /// deadline.
    ///
    /// Set by [`RetryLayer`](crate::RetryLayer) only. Read by [`TimeoutLayer`](crate::TimeoutLayer) only, for
    /// [`last_attempt_uses_deadline`](field@crate::timeout::TimeoutConfig::last_attempt_uses_deadline).
    pub last_attempt: bool,
    /// Progress of a request body that is sent while it is read. `None` for any other body.
    pub upload: Option<Upload>,
    /// Allows fallbacks. Defaults to `true`.
    pub fallback: bool,
    /// Key of the call, such as the name of a tenant. A [`PerKeyLayer`](crate::PerKeyLayer) that is created
    /// [by call](crate::PerKeyLayer::by_call) keeps one state per key. All calls without a key share one.
    pub key: Option<CallKey>,
    /// Receivers of the events of this call: they hear all layers that the call passes. An
    /// [`EventsLayer`](crate::EventsLayer) adds its sink. See the [module docs of the events](crate::event).
    pub events: Events,
    /// Identity of the shared [`Budget`](crate::retry::Budget) in which a layer above counts the call.
    pub(crate) counted_in: Option<usize>,
}

impl Call {
    /// The defaults, and the metadata of a request that carries none.
    pub const NONE: Self = Self {
        deadline: None,
        attempt: 1,
        priority: Priority(0),
        max_retries: None,
        allowance: None,
        max_wait: None,
        last_attempt: false,
        upload: None,
        fallback: true,
        key: None,
        events: Events::NONE,
        counted_in: None,
    };

    /// Lowers the longest wait to `wait`, unless it is shorter already.
    pub(crate) fn wait_at_most(&mut self, wait: Duration) {
        self.max_wait = Some(self.max_wait.map_or(wait, |own| own.min(wait)));
    }
}

impl Default for Call {
    fn default() -> Self {
        Self::NONE
    }
}

static NONE: Call = Call::NONE;

/// A request that may carry the metadata of its call.
///
/// Every method has a default, so `impl CallContext for T {}` makes a request of any type. Layers then use
/// their own configuration only. [`WithCall`] adds metadata to any type. With the feature `http`, an
/// `http::Request` keeps the metadata in its extensions.
///
/// # Types without metadata
///
/// These types implement the trait with the defaults, whatever they contain: `()`, `bool`, `char`, all
/// integers and floats, `String`, `str`, `&'static str`, `[T]`, `&'static [T]`, `[T; N]`, `Vec<T>`,
/// `Option<T>`, `Arc<T>`, tuples of one to four elements, and `bytes::Bytes` with the feature `http`. A
/// `Box<T>` has the metadata of its content. Other containers, such as `HashMap` and `Rc`, do not
/// implement the trait.
///
/// # Without `call_mut`
///
/// If [`call_mut`](Self::call_mut) returns `None`, every layer still works with its own configuration,
/// but cannot pass values to the layers below:
///
/// | layer | effect |
/// |---|---|
/// | [`DeadlineLayer`](crate::DeadlineLayer) | ends the call at the deadline, but the layers below cannot read the deadline |
/// | [`RetryLayer`](crate::RetryLayer), [`HedgeLayer`](crate::HedgeLayer) | send attempts, but each has the number that the request had before, retries and hedges may queue at a limit, no attempt is marked as the last, and two layers with one budget each count the call |
/// | [`FallbackLayer`](crate::FallbackLayer) | runs its steps, but reserves no time |
/// | [`EventsLayer`](crate::EventsLayer) | no effect: its sink hears nothing of the call. Use the method `events` of each layer |
/// | all others | no effect |
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `CallContext`, which layers need to read the metadata of a call",
    label = "send a `WithCall<{Self}>`, or write `impl CallContext for {Self} {{}}`",
    note = "for `http::Request`, turn on the feature `http` of tower-fanout-layers; wrap any other type of another crate, in a struct of yours or in `WithCall`, which the service must then take; for reqwest, send an `http::Request`",
    note = "an `impl CallContext` without methods is enough for a type that carries no metadata"
)]
pub trait CallContext {
    /// Returns the metadata of this call. Defaults to [`Call::NONE`]: no deadline, the lowest priority,
    /// fallbacks allowed, no receiver of events.
    fn call(&self) -> &Call {
        &NONE
    }

    /// Returns the metadata of this call for writing. `None`, the default, if the request cannot carry
    /// any. See [Without `call_mut`](CallContext#without-call_mut).
    fn call_mut(&mut self) -> Option<&mut Call> {
        None
    }

    /// Returns `true` if the request may be sent twice without harm. Defaults to `false`.
    ///
    /// A retry sends any other request again only if the service certainly has not processed it: no
    /// connection was made, no endpoint was available, or the service refused the request unprocessed
    /// (HTTP/2 `REFUSED_STREAM`). The configuration can extend this rule to a 503
    /// ([`retry_503_unsafe`](field@crate::RetryConfig::retry_503_unsafe)), to a 429
    /// ([`retry_429_unsafe`](field@crate::RetryConfig::retry_429_unsafe)), and to all results
    /// ([`idempotent`](field@crate::RetryConfig::idempotent)). A hedge is sent only for idempotent
    /// requests, or with [`HedgeConfig::idempotent`](field@crate::HedgeConfig::idempotent).
    fn is_idempotent(&self) -> bool {
        false
    }
}

/// The metadata is in the request's extensions. A request is idempotent if its method is ([RFC 9110
/// §9.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2)), or if it has an `Idempotency-Key`
/// header.
///
/// [`call_mut`](CallContext::call_mut) never returns `None`. If the extensions contain no [`Call`], it
/// inserts the default:
///
/// ```
/// use tower_fanout_layers::{CallContext, Priority};
///
/// let mut request = http::Request::new(());
/// request.call_mut().unwrap().priority = Priority::MAX;
/// assert_eq!(request.call().priority, Priority::MAX);
/// ```
#[cfg(feature = "http")]
impl<B> CallContext for http::Request<B> {
    fn call(&self) -> &Call {
        self.extensions().get().unwrap_or(&NONE)
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        Some(self.extensions_mut().get_or_insert_default())
    }

    fn is_idempotent(&self) -> bool {
        self.method().is_idempotent() || self.headers().contains_key("idempotency-key")
    }
}
