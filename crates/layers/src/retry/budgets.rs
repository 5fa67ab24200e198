//! Budgets as others have them, for those who are used to them.

use tokio::time::Instant;

use super::{AttemptEnd, Cost, RetryBudget};
use crate::sync::{AtomicU64, Ordering};

/// Retries in flight are a share of the calls in flight, as in [Envoy's retry budget]. It asks for
/// no tuning of times, and does nothing for a quiet client beyond its minimum.
///
/// [Envoy's retry budget]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/circuit_breaker.proto
#[derive(Debug)]
pub struct InFlightBudget {
    share: f64,
    min: u32,
    /// Retries and calls in flight, in one word.
    counts: AtomicU64,
}

const CALL: u64 = 1;
const RETRY: u64 = 1 << 32;

impl InFlightBudget {
    /// Retries are `share` of the calls at most, or `min` if that is more.
    #[must_use]
    pub fn new(share: f64, min: u32) -> Self {
        Self {
            share: share.max(0.0),
            min,
            counts: AtomicU64::new(0),
        }
    }
}

/// A fifth, or three.
impl Default for InFlightBudget {
    fn default() -> Self {
        Self::new(0.2, 3)
    }
}

impl RetryBudget for InFlightBudget {
    fn begin(&self, _: Instant) {
        self.counts.fetch_add(CALL, Ordering::Relaxed);
    }

    fn reserve(&self, _: bool, _: Instant) -> Option<Cost> {
        let take = |counts: u64| {
            let (retries, calls) = (counts >> 32, counts as u32);
            let most = (self.share * f64::from(calls)).max(self.min.into());
            ((retries as f64) < most).then_some(counts + RETRY)
        };
        let taken = self
            .counts
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| 1000)
    }

    fn refund(&self, _: Cost, _: Instant) {
        self.counts.fetch_sub(RETRY, Ordering::Relaxed);
    }

    fn attempt_ended(&self, _: AttemptEnd, paid: Option<Cost>) {
        if paid.is_some() {
            self.counts.fetch_sub(RETRY, Ordering::Relaxed);
        }
    }

    fn end(&self) {
        self.counts.fetch_sub(CALL, Ordering::Relaxed);
    }
}

/// Retries as long as most attempts succeed, as in [gRPC's retry throttling]: a failure takes a
/// token, a success gives a part of one back, and no retry is made while half of the tokens or fewer
/// are left.
///
/// [gRPC's retry throttling]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs
#[derive(Debug)]
pub struct GrpcThrottle {
    max: u64,
    gain: u64,
    tokens: AtomicU64,
}

impl GrpcThrottle {
    /// `max` tokens, of which a success gives `ratio` back, to three decimal places.
    #[must_use]
    pub fn new(max: u32, ratio: f64) -> Self {
        let max = u64::from(max) * 1000;
        Self {
            max,
            gain: (ratio.max(0.0) * 1000.0) as u64,
            tokens: AtomicU64::new(max),
        }
    }

    fn change(&self, next: impl Fn(u64) -> u64) {
        let update = |tokens| Some(next(tokens));
        let _ = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}

/// Ten tokens, of which a success gives a tenth of one back.
impl Default for GrpcThrottle {
    fn default() -> Self {
        Self::new(10, 0.1)
    }
}

impl RetryBudget for GrpcThrottle {
    fn begin(&self, _: Instant) {}

    fn reserve(&self, _: bool, _: Instant) -> Option<Cost> {
        (self.tokens.load(Ordering::Relaxed) > self.max / 2).then_some(0)
    }

    fn refund(&self, _: Cost, _: Instant) {}

    fn attempt_ended(&self, how: AttemptEnd, _: Option<Cost>) {
        self.change(|tokens| match how {
            AttemptEnd::Failed => tokens.saturating_sub(1000),
            AttemptEnd::Succeeded => tokens.saturating_add(self.gain).min(self.max),
            AttemptEnd::Neither => tokens,
        });
    }
}

/// A quota that retries use up and successes fill, as in the [AWS SDKs]: a retry that succeeds gives
/// its cost back, and a call that needed none gives one.
///
/// [AWS SDKs]: https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
#[derive(Debug)]
pub struct AwsQuota {
    max: u64,
    cost: Cost,
    timeout_cost: Cost,
    left: AtomicU64,
}

impl AwsQuota {
    /// A quota of `max`, of which a retry costs `cost`, and one after a timeout `timeout_cost`.
    #[must_use]
    pub fn new(max: u32, cost: u32, timeout_cost: u32) -> Self {
        Self {
            max: max.into(),
            cost: cost.into(),
            timeout_cost: timeout_cost.into(),
            left: AtomicU64::new(max.into()),
        }
    }

    fn give(&self, amount: Cost) {
        let amount = u64::try_from(amount).unwrap_or_default();
        let fill = |left: u64| Some(left.saturating_add(amount).min(self.max));
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }
}

/// 500, of which a retry costs 5, and one after a timeout 10.
impl Default for AwsQuota {
    fn default() -> Self {
        Self::new(500, 5, 10)
    }
}

impl RetryBudget for AwsQuota {
    fn begin(&self, _: Instant) {}

    fn reserve(&self, after_timeout: bool, _: Instant) -> Option<Cost> {
        let cost = if after_timeout {
            self.timeout_cost
        } else {
            self.cost
        };
        let take = |left: u64| left.checked_sub(cost as u64);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| cost)
    }

    fn refund(&self, cost: Cost, _: Instant) {
        self.give(cost);
    }

    fn attempt_ended(&self, how: AttemptEnd, paid: Option<Cost>) {
        if how == AttemptEnd::Succeeded {
            self.give(paid.unwrap_or(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(budget: &impl RetryBudget, tries: usize) -> usize {
        let now = Instant::now();
        let reserve = |_: &usize| budget.reserve(false, now).is_some();
        (0..tries).filter(reserve).count()
    }

    fn end(budget: &impl RetryBudget, how: AttemptEnd, times: usize) {
        (0..times).for_each(|_| budget.attempt_ended(how, None));
    }

    #[test]
    fn retries_in_flight_are_a_share_of_the_calls_in_flight() {
        let budget = InFlightBudget::default();
        let now = Instant::now();
        assert_eq!(reserved(&budget, 9), 3, "the minimum");
        (0..50).for_each(|_| budget.begin(now));
        assert_eq!(reserved(&budget, 99), 7, "up to a fifth of fifty");
        budget.refund(1000, now);
        assert_eq!(reserved(&budget, 99), 1);
        budget.attempt_ended(AttemptEnd::Failed, Some(1000));
        assert_eq!(reserved(&budget, 99), 1);
        (0..50).for_each(|_| budget.end());
        assert_eq!(budget.counts.load(Ordering::Relaxed), 10 * RETRY);
    }

    #[test]
    fn grpc_stops_at_half_of_its_tokens() {
        let budget = GrpcThrottle::default();
        end(&budget, AttemptEnd::Failed, 4);
        assert_eq!(reserved(&budget, 9), 9, "six of ten are left");
        end(&budget, AttemptEnd::Failed, 1);
        assert_eq!(reserved(&budget, 9), 0, "five are not more than half");
        end(&budget, AttemptEnd::Succeeded, 1);
        assert_eq!(reserved(&budget, 1), 1);
        end(&budget, AttemptEnd::Succeeded, 1_000);
        assert_eq!(budget.tokens.load(Ordering::Relaxed), 10_000);
        end(&budget, AttemptEnd::Failed, 20);
        assert_eq!(budget.tokens.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_quota_of_aws_is_filled_by_successes() {
        let budget = AwsQuota::default();
        assert_eq!(reserved(&budget, 999), 100);
        assert_eq!(budget.reserve(true, Instant::now()), None);
        budget.attempt_ended(AttemptEnd::Succeeded, Some(5));
        assert_eq!(reserved(&budget, 9), 1);
        end(&budget, AttemptEnd::Succeeded, 4);
        assert_eq!(reserved(&budget, 9), 0, "four do not pay for a retry");
        end(&budget, AttemptEnd::Succeeded, 1);
        assert_eq!(reserved(&budget, 9), 1);
        end(&budget, AttemptEnd::Succeeded, 9_999);
        assert_eq!(budget.reserve(true, Instant::now()), Some(10));
        assert_eq!(reserved(&budget, 999), 98);
    }
}
