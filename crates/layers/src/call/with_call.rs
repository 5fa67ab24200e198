//! A wrapper that adds the metadata of a call to any request.

use std::{sync::Arc, time::Duration};

use super::{Call, CallContext, CallKey, Priority, RetryAllowance};
use crate::{deadline::Deadline, event::Events};

/// A request of any type, with the metadata of its call.
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tower_fanout_layers::{CallContext, Deadline, Priority, WithCall};
///
/// let deadline = Deadline::at(Instant::now() + Duration::from_secs(2));
/// let request = WithCall::new("Ada")
///     .idempotent()
///     .deadline(deadline)
///     .priority(Priority::new(7).unwrap());
///
/// assert!(request.is_idempotent());
/// assert_eq!(request.call().deadline, Some(deadline));
/// assert_eq!(*request.get(), "Ada");
///
/// // A call that is a part of the first one has its deadline.
/// let part = WithCall::new(7).deadline(request.call().deadline);
/// assert_eq!(part.call().deadline, Some(deadline));
/// ```
#[derive(Clone, Debug, Default)]
pub struct WithCall<T> {
    call: Call,
    idempotent: bool,
    request: T,
}

impl<T> WithCall<T> {
    /// Wraps `request`, with default metadata and not idempotent.
    #[must_use]
    pub const fn new(request: T) -> Self {
        Self {
            call: Call::NONE,
            idempotent: false,
            request,
        }
    }

    /// Marks the request as idempotent: it may be sent twice without harm.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets the time at which the call ends. `None` means no limit.
    ///
    /// Takes a [`Deadline`], or the [`deadline`](field@Call::deadline) of the call that this call is a part of.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Into<Option<Deadline>>) -> Self {
        self.call.deadline = deadline.into();
        self
    }

    /// Sets the priority of the call. Defaults to the lowest.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.call.priority = priority;
        self
    }

    /// Sets the receiver of the call's events.
    #[must_use]
    pub fn events(mut self, events: impl Into<Events>) -> Self {
        self.call.events = events.into();
        self
    }

    /// Sets the maximum number of attempts after the first, retries or hedges. By default, only the retry
    /// or hedge layer limits them.
    #[must_use]
    pub fn max_retries(mut self, retries: u8) -> Self {
        self.call.max_retries = Some(retries);
        self
    }

    /// Sets the retries that the call shares with other calls.
    #[must_use]
    pub fn allowance(mut self, allowance: Arc<RetryAllowance>) -> Self {
        self.call.allowance = Some(allowance);
        self
    }

    /// Sets the longest wait at a concurrency limit, if that is less than the limit allows. With zero, the
    /// call never waits.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.call.max_wait = Some(wait);
        self
    }

    /// Allows or forbids fallbacks. Allowed by default.
    #[must_use]
    pub fn fallback(mut self, may_answer: bool) -> Self {
        self.call.fallback = may_answer;
        self
    }

    /// Sets the [key](field@Call::key) of the call, such as the name of a tenant.
    #[must_use]
    pub fn key(mut self, key: impl Into<CallKey>) -> Self {
        self.call.key = Some(key.into());
        self
    }

    /// Returns the wrapped request.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.request
    }

    /// Returns the wrapped request for writing.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.request
    }

    /// Converts the wrapped request, and keeps the metadata and whether the request is idempotent.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> WithCall<U> {
        WithCall {
            call: self.call,
            idempotent: self.idempotent,
            request: convert(self.request),
        }
    }

    /// Unwraps the request and drops the metadata.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.request
    }
}

/// Moves the metadata out of the request's extensions and keeps the request's idempotence. Outside the
/// extensions, neither the metadata nor its clone for another attempt is allocated.
#[cfg(feature = "http")]
impl<B> From<http::Request<B>> for WithCall<http::Request<B>> {
    fn from(mut request: http::Request<B>) -> Self {
        Self {
            call: request.extensions_mut().remove().unwrap_or_default(),
            idempotent: request.is_idempotent(),
            request,
        }
    }
}

impl<T> CallContext for WithCall<T> {
    fn call(&self) -> &Call {
        &self.call
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        Some(&mut self.call)
    }

    fn is_idempotent(&self) -> bool {
        self.idempotent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "http")]
    #[test]
    fn a_request_keeps_its_metadata_and_idempotence() {
        let mut request = http::Request::put("/").body(()).unwrap();
        request.call_mut().unwrap().attempt = 2;
        let mut request = WithCall::from(request);
        assert_eq!((request.call().attempt, request.is_idempotent()), (2, true));
        assert!(request.get().extensions().is_empty());
        *request.get_mut().method_mut() = http::Method::POST;
        assert!(!WithCall::from(request.into_inner()).is_idempotent());
    }

    #[test]
    fn each_setter_writes_its_field() {
        let request = WithCall::new(7)
            .max_retries(1)
            .allowance(Arc::new(RetryAllowance::new(3)))
            .max_wait(Duration::ZERO)
            .deadline(Deadline::at(tokio::time::Instant::now()))
            .deadline(None)
            .key("acme")
            .fallback(false);
        let call = request.call();
        assert_eq!(call.deadline, None);
        assert_eq!(
            (call.max_retries, call.max_wait),
            (Some(1), Some(Duration::ZERO))
        );
        assert!(call.allowance.as_ref().is_some_and(|left| left.take()));
        assert_eq!(call.key.as_ref().map(CallKey::as_str), Some("acme"));
        assert_eq!(format!("{:?}", call.key), "Some(CallKey(…))");
        assert!(!call.fallback);
        assert_eq!(request.into_inner(), 7);
    }
}
