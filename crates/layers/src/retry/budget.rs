//! The budget that bounds the extra load of retries, and the reservations of single retries.
//!
//! A retry is reserved *before* its pause and refunded if it is never sent.

use std::{sync::Arc as StdArc, time::Duration};

use tokio::time::Instant;

use super::tokens::{Payment, TokenBudget};
use crate::{
    call::{CallContext, RetryAllowance},
    config::{ConfigError, Validate},
    event::RetryStopReason,
    sync::Arc,
};

crate::config! {
    serde
    /// Configuration of a [retry budget](Budget).
    ///
    /// A [`HedgeConfig`](crate::HedgeConfig) uses the same fields for hedges. Its default differs in
    /// [`ratio`](field@Self::ratio) only, which is 0.05.
    pub struct BudgetConfig {
        /// Retries per first attempt, 0 to 10. Defaults to 0.2 for retries, as in Finagle, and to 0.05 for hedges.
        ///
        /// Envoy's retry budget has the same default for retries, but as a share of the active requests.
        pub ratio: f64 = 0.2,
        /// Floor: retries per second that need no deposits, 0 to 1,000,000. Defaults to 3.
        ///
        /// The floor refills at this rate, so as many retries are allowed in every second, also after a
        /// burst. Unused retries accumulate up to those of one [`ttl`](field@Self::ttl), by default 30,
        /// which may all be made at once. A retry is paid from the floor, or else from the deposits.
        pub min_per_sec: f64 = 3.0,
        /// Lifetime of a deposit and of a withdrawal, 1 s to 60 s. Defaults to 10 s, as in Finagle.
        ///
        /// A longer time also allows a larger burst, because the floor accumulates for as long.
        pub ttl: Duration = Duration::from_secs(10),
        /// Cost of a retry after an attempt timeout, in retries, 0 to 100. Defaults to 1.
        ///
        /// If the cost exceeds both the floor and the deposits, the retry is not made and nothing is
        /// withdrawn.
        pub timeout_cost: f64 = 1.0,
    }
    limits {
        ratio: within(0.0..=10.0),
        min_per_sec: within(0.0..=1_000_000.0),
        ttl: within(SECOND..=60 * SECOND),
        timeout_cost: within(0.0..=100.0),
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Validate for BudgetConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits().into_vec()
    }
}

/// A retry budget that is shared by all its clones. Use one per downstream.
///
/// Several layers of one stack may share a budget. A call then counts once, in the outermost of these layers,
/// however many attempts that layer makes.
///
/// The first attempt of each call deposits a share of a retry
/// ([`ratio`](field@BudgetConfig::ratio)), and each retry withdraws a whole one. Two kinds of retry have
/// a different cost:
///
/// - The retry of an attempt that timed out costs [`timeout_cost`](field@BudgetConfig::timeout_cost).
/// - The first retry of a call after [`Failure::NotProcessed`](crate::Failure::NotProcessed) is free.
///
/// A hedge costs a whole retry. A retry or hedge that is not sent, or that a layer below rejects, is
/// refunded to the budget and to the [`RetryAllowance`](crate::RetryAllowance) of its request. The exception
/// is a retry that is rejected with [`Rejection::NoEndpoint`](crate::Rejection::NoEndpoint): it is repeated,
/// so the budget must limit it. An allowance counts each retry as one, whatever its cost here.
#[derive(Clone, Debug)]
pub struct Budget(pub(super) Arc<TokenBudget>);

impl Budget {
    /// Creates a budget without deposits.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: &BudgetConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self(Arc::new(TokenBudget::new(config))))
    }

    /// Returns `true` if the layer has to deposit the share of the call, because no layer above with the
    /// same budget does. `is_shared`: layers below may have the same budget, so the call is marked.
    pub(crate) fn counts<Req: CallContext>(&self, request: &mut Req, is_shared: bool) -> bool {
        // Unique, because the layers of the call keep the budget alive.
        let id = Some(Arc::as_ptr(&self.0).addr());
        if request.call().counted_in == id {
            return false;
        }
        // Only for a shared budget, because writing may allocate the metadata of the call.
        if is_shared {
            if let Some(call) = request.call_mut() {
                call.counted_in = id;
            }
        }
        true
    }

    /// Deposits the share of a call when its first attempt is sent.
    pub(crate) fn deposit(&self, now: Instant) {
        self.0.deposit(now);
    }

    /// Reserves one retry from the budget, and from the `allowance` of its request if there is one.
    ///
    /// The error names the one that is used up.
    pub(crate) fn reserve_now(
        &self,
        after_timeout: bool,
        allowance: Option<&StdArc<RetryAllowance>>,
    ) -> Result<Reserved, RetryStopReason> {
        if !allowance.is_none_or(|allowance| allowance.take()) {
            return Err(RetryStopReason::RequestAllowance);
        }
        let at = Instant::now();
        let Some(payment) = self.0.reserve(after_timeout, at) else {
            if let Some(allowance) = allowance {
                allowance.put_back();
            }
            return Err(RetryStopReason::Budget);
        };
        Ok(Reserved(Some(Taken {
            budget: self.clone(),
            payment,
            at,
            allowance: allowance.cloned(),
        })))
    }
}

/// The cost of one retry, and the time of its reservation.
struct Taken {
    budget: Budget,
    payment: Payment,
    at: Instant,
    // The `Arc` of std, also in tests of thread interleavings: it is part of the public `Call`.
    allowance: Option<StdArc<RetryAllowance>>,
}

impl Taken {
    /// Refunds the whole cost of a retry that was not sent.
    fn put_back(self) {
        self.budget.0.refund(self.payment, self.at);
        if let Some(allowance) = self.allowance {
            allowance.put_back();
        }
    }
}

/// A reserved retry. Dropping it refunds the cost, unless the retry was [spent](Self::spend).
pub(crate) struct Reserved(Option<Taken>);

impl Reserved {
    /// Keeps the cost, because the retry is sent now.
    pub(crate) fn spend(mut self) -> Spent {
        Spent(self.0.take())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(taken) = self.0.take() {
            taken.put_back();
        }
    }
}

/// The cost of a retry that was sent.
pub(crate) struct Spent(Option<Taken>);

impl Spent {
    /// Refunds a retry that a layer below rejected before it reached the service.
    pub(crate) fn refund(mut self) {
        if let Some(taken) = self.0.take() {
            taken.put_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_has_its_range() {
        check_ranges::<BudgetConfig>(
            &[
                |budget| budget.ratio = 0.0,
                |budget| budget.ratio = 10.0,
                |budget| budget.min_per_sec = 0.0,
                |budget| budget.min_per_sec = 1_000_000.0,
                |budget| budget.ttl = Duration::from_secs(1),
                |budget| budget.ttl = Duration::from_secs(60),
                |budget| budget.timeout_cost = 0.0,
                |budget| budget.timeout_cost = 100.0,
            ],
            &[
                ("ratio", |budget| budget.ratio = -0.1),
                ("ratio", |budget| budget.ratio = 10.1),
                ("ratio", |budget| budget.ratio = f64::NAN),
                ("min_per_sec", |budget| budget.min_per_sec = -0.1),
                ("min_per_sec", |budget| budget.min_per_sec = 1_000_001.0),
                ("min_per_sec", |budget| budget.min_per_sec = f64::NAN),
                ("ttl", |budget| budget.ttl = Duration::ZERO),
                ("ttl", |budget| budget.ttl = Duration::from_millis(999)),
                ("ttl", |budget| budget.ttl = Duration::from_millis(60_001)),
                ("timeout_cost", |budget| budget.timeout_cost = -0.1),
                ("timeout_cost", |budget| budget.timeout_cost = 100.1),
                ("timeout_cost", |budget| budget.timeout_cost = f64::NAN),
            ],
        );
    }

    #[test]
    fn an_allowance_is_refunded_with_the_budget() {
        let config = BudgetConfig::new().ratio(0.0).min_per_sec(0.2);
        let budget = Budget::new(&config).unwrap();
        let allowance = StdArc::new(RetryAllowance::new(1));
        let reserve = || budget.reserve_now(false, Some(&allowance));
        let used_up = || reserve().err();
        drop(reserve().unwrap());
        reserve().unwrap().spend().refund();
        // The budget has tokens for two retries, but the request may make only one.
        let kept = reserve().unwrap();
        assert_eq!(used_up(), Some(RetryStopReason::RequestAllowance));
        drop(kept.spend());
        assert_eq!(used_up(), Some(RetryStopReason::RequestAllowance), "spent");
        allowance.put_back();
        drop(reserve().unwrap().spend());
        allowance.put_back();
        assert_eq!(used_up(), Some(RetryStopReason::Budget));
        assert!(
            allowance.take(),
            "a retry that the budget denies costs no allowance"
        );
    }
}
