//! The facts of a call beside any request.

use std::{sync::Arc, time::Duration};

use super::{Call, CallContext, Priority, RetryAllowance};
use crate::{deadline::Deadline, event::Events};

/// Any request, with the facts of its call.
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
/// ```
#[derive(Clone, Debug, Default)]
pub struct WithCall<T> {
    call: Call,
    idempotent: bool,
    request: T,
}

impl<T> WithCall<T> {
    /// `request` with no facts, not idempotent.
    #[must_use]
    pub const fn new(request: T) -> Self {
        Self {
            call: Call::NONE,
            idempotent: false,
            request,
        }
    }

    /// Says that the request may be sent twice without harm.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets when the call is over.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.call.deadline = Some(deadline);
        self
    }

    /// Sets how much the call matters.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.call.priority = priority;
        self
    }

    /// Sets who is told what happens to the call.
    #[must_use]
    pub fn events(mut self, events: Events) -> Self {
        self.call.events = events;
        self
    }

    /// Sets the number of the attempt, from 1, where you make attempts of your own.
    #[must_use]
    pub fn attempt(mut self, attempt: u8) -> Self {
        self.call.attempt = attempt;
        self
    }

    /// Says whether no attempt comes after this one, where you make attempts of your own.
    #[must_use]
    pub fn last_attempt(mut self, last: bool) -> Self {
        self.call.last_attempt = last;
        self
    }

    /// Sets the most retries the call may make; those of the policy by default.
    #[must_use]
    pub fn max_retries(mut self, retries: u8) -> Self {
        self.call.max_retries = Some(retries);
        self
    }

    /// Sets the retries that the call shares with others.
    #[must_use]
    pub fn allowance(mut self, allowance: Arc<RetryAllowance>) -> Self {
        self.call.allowance = Some(allowance);
        self
    }

    /// Sets how long the call may wait for its turn, where that is less than a limit allows; with zero
    /// it never waits.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.call.max_wait = Some(wait);
        self
    }

    /// Says whether a fallback may answer; by default it may.
    #[must_use]
    pub fn fallback(mut self, may_answer: bool) -> Self {
        self.call.fallback = may_answer;
        self
    }

    /// The request itself.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.request
    }

    /// The request itself, to write.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.request
    }

    /// The request itself, without the facts.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.request
    }
}

/// The facts that were in the request's extensions, and its idempotency. Beside the request they cost
/// no allocation, neither now nor when the request is cloned for another attempt.
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
    fn a_request_brings_its_facts_and_idempotency() {
        let mut request = http::Request::put("/").body(()).unwrap();
        request.call_mut().unwrap().attempt = 2;
        let mut request = WithCall::from(request);
        assert_eq!((request.call().attempt, request.is_idempotent()), (2, true));
        assert!(request.get().extensions().is_empty());
        *request.get_mut().method_mut() = http::Method::POST;
        assert!(!WithCall::from(request.into_inner()).is_idempotent());
    }

    #[test]
    fn each_setter_writes_its_fact() {
        let request = WithCall::new(7)
            .attempt(2)
            .last_attempt(true)
            .max_retries(1)
            .allowance(Arc::new(RetryAllowance::new(3)))
            .max_wait(Duration::ZERO)
            .fallback(false);
        let call = request.call();
        assert_eq!((call.attempt, call.last_attempt), (2, true));
        assert_eq!(
            (call.max_retries, call.max_wait),
            (Some(1), Some(Duration::ZERO))
        );
        assert!(call.allowance.as_ref().is_some_and(|left| left.take()));
        assert!(!call.fallback);
        assert_eq!(request.into_inner(), 7);
    }
}
