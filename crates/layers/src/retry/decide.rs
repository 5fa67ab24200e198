//! Whether a result is followed by another attempt: the rules, in the order they are asked.

use std::time::Duration;

use tokio::time::Instant;

use super::{backoff, budget::Reserved, config::RetryConfig, layer::Shared};
use crate::{
    call::Call,
    classify::{Class, Failure},
    event::RetryStopReason,
    rejection::Rejection,
};

/// What follows a result.
pub(super) enum Next {
    /// Nothing; for a result that could have been retried, because of this rule.
    Stop(Option<RetryStopReason>),
    /// Another attempt, after a pause.
    Again {
        pause: Duration,
        paid: Option<Reserved>,
    },
}

/// What is remembered of a call from attempt to attempt.
pub(super) struct Attempts {
    /// The number of the latest, from 1.
    pub(super) number: u8,
    max: u8,
    idempotent: bool,
    /// A request that was certainly not taken is sent once more for free.
    free_used: bool,
}

impl Attempts {
    pub(super) fn new(call: &Call, idempotent: bool, settings: &RetryConfig) -> Self {
        let asked = call
            .max_retries
            .map_or(u8::MAX, |retries| retries.saturating_add(1));
        Self {
            number: 1,
            max: asked.min(settings.max_attempts),
            idempotent: settings.idempotent || idempotent,
            free_used: false,
        }
    }

    pub(super) fn are_used_up(&self) -> bool {
        self.number >= self.max
    }

    /// What follows a result of `class`, which is an answer or is not. `call` is known as long as
    /// there may be another attempt.
    #[inline]
    pub(super) fn after(
        &mut self,
        class: Class,
        answered: bool,
        call: Option<&Call>,
        shared: &Shared,
    ) -> Next {
        if class == Class::Success {
            return Next::Stop(None);
        }
        let settings = &shared.policy;
        if !settings.retries(class, self.idempotent) {
            return Next::Stop(self.not_retried(class));
        }
        let Some(call) = call.filter(|_| !self.are_used_up()) else {
            return Next::Stop(Some(RetryStopReason::Attempts));
        };
        let upload = call.upload.as_ref();
        if !upload.is_none_or(|upload| upload.is_repeatable(answered)) {
            return Next::Stop(Some(RetryStopReason::Body));
        }
        // The budget and the allowance of the request bound the load that retries add. A request
        // that was certainly not taken was none, and is sent again once at most: without this, a
        // service that closes its connections in good order would fail half of the branches.
        let is_free = class == Class::Failure(Failure::NotProcessed)
            && !std::mem::replace(&mut self.free_used, true);
        let planned = if is_free {
            in_time(Duration::ZERO, call, settings).map(|pause| (pause, None))
        } else {
            self.pay(class, call, shared)
        };
        match planned {
            Ok((pause, paid)) => Next::Again { pause, paid },
            Err(by) => Next::Stop(Some(by)),
        }
    }

    /// Which rule ends a call with a result that is not retried, if it is a failure.
    fn not_retried(&self, class: Class) -> Option<RetryStopReason> {
        match class {
            Class::Success | Class::NonRetryable(_) => None,
            Class::Rejected(rejection) if self.number > 1 => Some(match rejection {
                Rejection::CircuitOpen { .. } => RetryStopReason::BreakerOpen,
                Rejection::DeadlineBeforeSend => RetryStopReason::Deadline,
                _ => RetryStopReason::Refused,
            }),
            _ => Some(RetryStopReason::NotRetryable),
        }
    }

    /// Whether the attempt of `call` is told that it is the last. Without a deadline nobody asks, and
    /// a request without facts need not be given any.
    #[inline]
    pub(super) fn is_sink(&self, call: &Call) -> bool {
        self.are_used_up() && call.deadline.is_some()
    }

    /// Marks a request as the next attempt.
    pub(super) fn mark(&self, facts: &mut Call, settings: &RetryConfig) {
        facts.attempt = self.number;
        facts.last_attempt = self.is_sink(facts);
        facts.wait_at_most(settings.max_wait);
    }

    /// Reserves the retry, and says after which pause it comes.
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
        in_time(pause, call, &shared.policy).map(|pause| (pause, Some(paid)))
    }

    fn pause(&self, class: Class, shared: &Shared) -> Result<Duration, RetryStopReason> {
        let settings = &shared.policy;
        let pause = backoff::pause(settings, self.number.into(), shared.random());
        match class.retry_after() {
            Some(retry_after) if settings.respect_retry_after => {
                if retry_after > settings.max_retry_after {
                    return Err(RetryStopReason::RetryAfter);
                }
                let (base, random) = (settings.base, shared.random());
                Ok(backoff::pause_at_least(retry_after, pause, base, random))
            }
            _ => Ok(pause),
        }
    }
}

/// The pause, if an attempt after it could still be of use before the deadline.
fn in_time(
    pause: Duration,
    call: &Call,
    settings: &RetryConfig,
) -> Result<Duration, RetryStopReason> {
    let needed = pause.saturating_add(settings.min_useful);
    match call.deadline {
        Some(deadline) if deadline.remaining(Instant::now()) < needed => {
            Err(RetryStopReason::Deadline)
        }
        _ => Ok(pause),
    }
}
