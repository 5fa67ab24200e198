//! What a layer may know of a call, whatever the type of its request.

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

pub use self::with_call::WithCall;
use crate::{deadline::Deadline, event::Events, upload::Upload};

/// How much a call matters beside others, from 0 (least) to 9 (most).
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

    /// The priority `level`, or none above 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX.0 {
            Some(Self(level))
        } else {
            None
        }
    }

    /// The level, 0 to 9.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Priority {
    type Error = crate::ConfigError;

    fn try_from(level: u8) -> Result<Self, Self::Error> {
        Self::new(level).ok_or_else(|| {
            crate::ConfigError::new("priority", format!("{level} is not within 0 to 9"))
        })
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many retries all branches of one inbound request may make together.
///
/// It keeps a request with many branches from multiplying itself when everything fails at once. What
/// is not sent is not counted, nor is what is sent once more for free because it was [certainly not
/// taken](crate::Failure::NotProcessed).
#[derive(Debug)]
pub struct RetryAllowance(AtomicU32);

impl RetryAllowance {
    /// An allowance of `retries`.
    #[must_use]
    pub const fn new(retries: u32) -> Self {
        Self(AtomicU32::new(retries))
    }

    /// Takes one retry, if any is left.
    pub(crate) fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// Puts back a retry that was not made.
    pub(crate) fn put_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The facts of one call that layers read and write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call {
    /// When the call is over.
    pub deadline: Option<Deadline>,
    /// The number of the attempt, from 1.
    pub attempt: u8,
    /// How much the call matters where calls must wait.
    pub priority: Priority,
    /// The most retries this call may make, where that is fewer than the policy allows.
    pub max_retries: Option<u8>,
    /// Retries shared with the other branches of the same request.
    pub allowance: Option<Arc<RetryAllowance>>,
    /// How long the call may wait for its turn at a concurrency limit, where that is less than the
    /// limit allows; with zero it is refused at once. The layers that try again set it.
    pub max_wait: Option<Duration>,
    /// Whether no attempt comes after this one. A layer that retries sets it, where the call has a
    /// deadline.
    pub last_attempt: bool,
    /// How far the body of the request has been sent, if it is sent while it is read.
    pub upload: Option<Upload>,
    /// Whether a fallback may answer.
    pub fallback: bool,
    /// Who is told what happens to the call.
    pub events: Events,
}

impl Call {
    /// What is known of a call that carries no facts.
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
        events: Events::NONE,
    };
}

impl Call {
    /// The call waits no longer than `wait` for its turn.
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

/// A request that may carry the facts of its call.
///
/// Every method has a default, so any type becomes a request with `impl CallContext for T {}`; layers
/// then work with their own settings alone. [`WithCall`] adds the facts to any type, and with feature
/// `http` an `http::Request` keeps them in its extensions.
///
/// Strings, numbers, tuples and the containers of the standard library are requests that carry no
/// facts, whatever they contain. A `Box` is the request that it contains.
#[diagnostic::on_unimplemented(
    message = "layers cannot ask `{Self}` for the facts of its call",
    label = "this request is no `CallContext`",
    note = "write `impl CallContext for {Self} {{}}` if it carries none, or send `WithCall<{Self}>`",
    note = "`http::Request` is one with the feature `http` of tower-fanout-layers"
)]
pub trait CallContext {
    /// The facts of this call.
    fn call(&self) -> &Call {
        &NONE
    }

    /// The facts of this call, to write; none if the request cannot carry any.
    fn call_mut(&mut self) -> Option<&mut Call> {
        None
    }

    /// Whether the request may be sent twice without harm.
    ///
    /// A request that may not is only sent again when it is certain that it was never received.
    fn is_idempotent(&self) -> bool {
        false
    }
}

/// The facts live in the request's extensions. A request is idempotent by its method ([RFC 9110
/// §9.2.2](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.2)) or when it bears an
/// `Idempotency-Key`.
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
