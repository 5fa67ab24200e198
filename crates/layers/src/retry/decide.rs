//! The checks that decide whether another attempt follows a result, in order.

use std::time::Duration;

use super::{backoff, budget::Reserved, config::RetryConfig, layer::Shared};
use crate::{
    call::Call,
    classify::{Class, Failure},
    clock,
    event::RetryStopReason,
    rejection::Rejection,
};

/// The step that follows a result.
pub(super) enum Next {
    /// The result is final. If it could have been retried, the reason says which check stopped the call.
    Stop(Option<RetryStopReason>),
    /// Another attempt follows after a pause. `paid` is `None` if the attempt is free.
    Again {
        pause: Duration,
        paid: Option<Reserved>,
    },
}

/// State of a call that lasts across its attempts.
pub(super) struct Attempts {
    /// Number of the latest attempt, from 1.
    pub(super) number: u8,
    max: u8,
    idempotent: bool,
    /// The free retry after [`Failure::NotProcessed`] has been used.
    free_used: bool,
}

impl Attempts {
    pub(super) fn new(call: &Call, idempotent: bool, config: &RetryConfig) -> Self {
        let requested = call
            .max_retries
            .map_or(u8::MAX, |retries| retries.saturating_add(1));
        Self {
            number: 1,
            max: requested.min(config.max_attempts),
            idempotent: config.idempotent || idempotent,
            free_used: false,
        }
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.number >= self.max
    }

    /// Decides the step after a result of `class`. `answered` is `true` if the result is a response.
    ///
    /// `call` is `None` once no attempt can follow, because the request is no longer kept.
    #[inline(always)]
    pub(super) fn after(
        &mut self,
        class: Class,
        answered: bool,
        call: Option<&Call>,
        shared: &Shared,
    ) -> Next {
        if let Class::Success = class {
            return Next::Stop(None);
        }
        let config = &shared.config;
        if !config.retries(class, self.idempotent) {
            return Next::Stop(self.not_retried(class));
        }
        let Some(call) = call.filter(|_| !self.are_used_up()) else {
            return Next::Stop(Some(RetryStopReason::Attempts));
        };
        let upload = call.upload.as_ref();
        if !upload.is_none_or(|upload| upload.is_repeatable(answered)) {
            return Next::Stop(Some(RetryStopReason::Body));
        }
        // Budget and allowance bound the load that retries add. A request that was not processed
        // added none, so its first retry is free. Otherwise a service that closes its connections
        // gracefully would fail half of the branches.
        let is_free = class == Class::Failure(Failure::NotProcessed)
            && !std::mem::replace(&mut self.free_used, true);
        let planned = if is_free {
            in_time(Duration::ZERO, call, config).map(|pause| (pause, None))
        } else {
            self.pay(class, call, shared)
        };
        match planned {
            Ok((pause, paid)) => Next::Again { pause, paid },
            Err(by) => Next::Stop(Some(by)),
        }
    }

    /// Returns the reason why a result that is not retried ends the call. `None` for a result that is
    /// not a failure.
    fn not_retried(&self, class: Class) -> Option<RetryStopReason> {
        match class {
            Class::Success | Class::NonRetryable(_) => None,
            Class::Rejected(rejection) if self.number > 1 => Some(match rejection {
                Rejection::CircuitOpen { .. } => RetryStopReason::BreakerOpen,
                Rejection::DeadlineBeforeSend => RetryStopReason::Deadline,
                _ => RetryStopReason::Rejected,
            }),
            _ => Some(RetryStopReason::NotRetryable),
        }
    }

    /// Returns the value of [`Call::last_attempt`] for the latest attempt of `call`.
    ///
    /// Always `false` without a deadline. No layer reads the value then, so a request without a [`Call`]
    /// does not have to get one.
    #[inline]
    pub(super) fn is_last(&self, call: &Call) -> bool {
        self.are_used_up() && call.deadline.is_some()
    }

    /// Writes the number and the limits of the latest attempt into the request's `call`.
    pub(super) fn mark(&self, call: &mut Call, config: &RetryConfig) {
        call.attempt = self.number;
        call.last_attempt = self.is_last(call);
        call.wait_at_most(config.max_wait);
    }

    /// Reserves the retry and returns it with the pause before it. An error drops the reservation.
    fn pay(
        &self,
        class: Class,
        call: &Call,
        shared: &Shared,
    ) -> Result<(Duration, Option<Reserved>), RetryStopReason> {
        let after_timeout = class == Class::Failure(Failure::AttemptTimeout);
        let allowance = call.allowance.as_ref();
        let paid = shared.budget.reserve_now(after_timeout, allowance)?;
        let pause = self.pause(class, shared)?;
        in_time(pause, call, &shared.config).map(|pause| (pause, Some(paid)))
    }

    /// Returns the pause before the next attempt, or an error if the `Retry-After` of `class` is too long.
    fn pause(&self, class: Class, shared: &Shared) -> Result<Duration, RetryStopReason> {
        let config = &shared.config;
        let pause = backoff::pause(config, self.number.into(), shared.random());
        match class.retry_after() {
            Some(retry_after) if config.respect_retry_after => {
                if retry_after > config.max_retry_after {
                    return Err(RetryStopReason::RetryAfter);
                }
                let (base, random) = (config.base, shared.random());
                Ok(backoff::pause_at_least(retry_after, pause, base, random))
            }
            _ => Ok(pause),
        }
    }
}

/// Returns `pause` if an attempt after it can be useful before the deadline.
fn in_time(
    pause: Duration,
    call: &Call,
    config: &RetryConfig,
) -> Result<Duration, RetryStopReason> {
    let needed = pause.saturating_add(config.min_useful);
    match call.deadline {
        Some(deadline) if deadline.remaining(clock::now()) < needed => {
            Err(RetryStopReason::Deadline)
        }
        _ => Ok(pause),
    }
}
