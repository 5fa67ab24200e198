//! What bounds the extra load of retries, and what a call has taken of it.
//!
//! A retry is reserved *before* its pause and given back if it is never sent. The usual budget is one
//! of [tokens](super::tokens); [others](super::budgets) do as Envoy, gRPC and the AWS SDKs do.

use std::{fmt, ops::Deref, sync::Arc as StdArc, time::Duration};

use tokio::time::Instant;

use super::{config::RetryOn, tokens::TokenBudget};
use crate::{
    classify::Class,
    config::{ConfigError, Errors, Validate},
    context::RetryAllowance,
    observe::StoppedBy,
    stopwatch,
    sync::Arc,
};

/// Configuration of a retry [`Budget`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// Retries per first attempt, 0 to 10; 0.2 by default, as in Envoy and Finagle.
    pub ratio: f64,
    /// Retries per second that are always allowed, 0 to 1,000,000; 3 by default.
    pub min_per_sec: f64,
    /// How long a deposit counts, 1 s to 60 s; 10 s by default, as in Finagle.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub ttl: Duration,
    /// What the retry of an attempt that timed out costs, in retries, 0 to 100; 1 by default.
    pub timeout_cost: f64,
}

crate::setters! {
    BudgetConfig {
        ratio: f64,
        min_per_sec: f64,
        ttl: Duration,
        timeout_cost: f64,
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_sec: 3.0,
            ttl: Duration::from_secs(10),
            timeout_cost: 1.0,
        }
    }
}

impl Validate for BudgetConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Errors::default()
            .within("ratio", self.ratio, 0.0, 10.0)
            .within("min_per_sec", self.min_per_sec, 0.0, 1_000_000.0)
            .within(
                "ttl",
                self.ttl,
                Duration::from_secs(1),
                Duration::from_secs(60),
            )
            .within("timeout_cost", self.timeout_cost, 0.0, 100.0)
            .into_vec()
    }
}

/// Says whether a retry may be made. One budget is shared by all calls to a downstream.
///
/// The layer tells it of each call in this order: it [begins](Self::begin); before the pause of each
/// retry its cost is [reserved](Self::reserve), and [refunded](Self::refund) if it is never sent;
/// each attempt that was sent [ends](Self::attempt_ended); and so does [the call](Self::end), even if
/// nobody waits for it any more.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, AtomicU32, Ordering}};
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     BoxError, ClassifyResult, RetryConfig, RetryLayer, With,
///     retry::{Budget, Cost, RetryBudget},
/// };
///
/// /// Retries while somebody lets it.
/// #[derive(Clone, Debug, Default)]
/// struct Switch(Arc<AtomicBool>);
///
/// impl RetryBudget for Switch {
///     fn begin(&self, _: Instant) {}
///     fn reserve(&self, _: bool, _: Instant) -> Option<Cost> {
///         self.0.load(Ordering::Relaxed).then_some(1_000)
///     }
///     fn refund(&self, _: Cost, _: Instant) {}
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let switch = Switch::default();
/// let service = RetryLayer::new(RetryConfig::new().max_attempts(2), ClassifyResult)
///     .unwrap()
///     .budget(Budget::of(switch.clone()))
///     .layer(service_fn(|_: With<()>| async {
///         CALLS.fetch_add(1, Ordering::Relaxed);
///         Err::<(), BoxError>("down".into())
///     }));
/// for (on, calls) in [(false, 1), (true, 3)] {
///     switch.0.store(on, Ordering::Relaxed);
///     service.clone().oneshot(With::new(()).idempotent()).await.unwrap_err();
///     assert_eq!(CALLS.load(Ordering::Relaxed), calls);
/// }
/// # }
/// ```
pub trait RetryBudget: fmt::Debug + Send + Sync {
    /// A call is made for the first time.
    fn begin(&self, now: Instant);

    /// Takes the cost of a retry, after a timeout or another failure; none if that is too much.
    fn reserve(&self, after_timeout: bool, now: Instant) -> Option<Cost>;

    /// A retry was not sent that was reserved at the instant `reserved`. What is taken from a budget
    /// that forgets is forgotten with its time, so it can only be given back to that.
    fn refund(&self, cost: Cost, reserved: Instant);

    /// An attempt is over, for which so much was paid: nothing for the first of a call.
    fn attempt_ended(&self, how: AttemptEnd, paid: Option<Cost>) {
        let _ = (how, paid);
    }

    /// A call is over.
    fn end(&self) {}
}

/// How an attempt ended, to a [`RetryBudget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// The service did what it was asked.
    Succeeded,
    /// It failed in a way that is retried.
    Failed,
    /// It was cut off, or its result is none that is retried.
    Neither,
}

impl AttemptEnd {
    /// The end of an attempt whose result is of `class`, where `on` is retried.
    pub(crate) fn of(class: Class, on: &RetryOn) -> Self {
        match class {
            Class::Success => Self::Succeeded,
            class if on.matches(class, true) => Self::Failed,
            _ => Self::Neither,
        }
    }
}

/// What a retry costs, in thousandths of a retry.
pub type Cost = i64;

/// One budget, shared by its clones: one per downstream is right.
#[derive(Clone, Debug)]
pub struct Budget(Arc<dyn RetryBudget>);

impl Budget {
    /// Creates a [`TokenBudget`].
    ///
    /// # Errors
    /// Returns the first error of `config`.
    pub fn new(config: &BudgetConfig) -> Result<Self, ConfigError> {
        TokenBudget::new(config).map(Self::of)
    }

    /// Any other budget.
    #[must_use]
    pub fn of(budget: impl RetryBudget + 'static) -> Self {
        Self(Arc::new(budget))
    }

    /// Reserves one retry: of the `allowance` of its request, if there is one, and of the budget. The
    /// error says which is used up.
    pub(crate) fn reserve_now(
        &self,
        after_timeout: bool,
        allowance: Option<&StdArc<RetryAllowance>>,
    ) -> Result<Reserved, StoppedBy> {
        if !allowance.is_none_or(|allowance| allowance.take()) {
            return Err(StoppedBy::RequestCap);
        }
        let at = Instant::now();
        let Some(cost) = self.0.reserve(after_timeout, at) else {
            if let Some(allowance) = allowance {
                allowance.put_back();
            }
            return Err(StoppedBy::Budget);
        };
        Ok(Reserved(Some(Taken {
            budget: self.clone(),
            cost,
            at,
            allowance: allowance.cloned(),
        })))
    }
}

impl Deref for Budget {
    type Target = dyn RetryBudget;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Whoever may have a budget.
pub(crate) trait HasBudget {
    fn budget(&self) -> Option<&Budget>;
}

impl HasBudget for Budget {
    fn budget(&self) -> Option<&Budget> {
        Some(self)
    }
}

/// A call, as its budget sees it: it is over on drop, if it has begun.
pub(crate) struct Budgeted<B: HasBudget> {
    of: B,
    has_begun: bool,
}

impl<B: HasBudget> Budgeted<B> {
    /// A call that has not begun.
    #[inline(always)]
    pub(crate) fn new(of: B) -> Self {
        let has_begun = false;
        Self { of, has_begun }
    }

    /// It has begun by now, if it had not before. Asked on the way back from a poll.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        if !self.has_begun {
            self.has_begun = true;
            if let Some(budget) = self.of.budget() {
                budget.begin(stopwatch::now());
            }
        }
    }
}

impl<B: HasBudget> Deref for Budgeted<B> {
    type Target = B;

    #[inline(always)]
    fn deref(&self) -> &B {
        &self.of
    }
}

impl<B: HasBudget> Drop for Budgeted<B> {
    fn drop(&mut self) {
        if let Some(budget) = self.of.budget().filter(|_| self.has_begun) {
            budget.end();
        }
    }
}

/// What was taken for one retry, and when.
struct Taken {
    budget: Budget,
    cost: Cost,
    at: Instant,
    // Calls carry it, whoever made them.
    allowance: Option<StdArc<RetryAllowance>>,
}

impl Taken {
    /// The retry was not sent: all of it is given back.
    fn put_back(self) {
        self.budget.refund(self.cost, self.at);
        if let Some(allowance) = self.allowance {
            allowance.put_back();
        }
    }
}

/// A retry that was paid for; refunded on drop, unless it was [spent](Self::spend).
pub(crate) struct Reserved(Option<Taken>);

impl Reserved {
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

/// A retry that was sent; cut off on drop.
pub(crate) struct Spent(Option<Taken>);

impl Spent {
    pub(crate) fn ended(mut self, how: AttemptEnd) {
        if let Some(Taken { budget, cost, .. }) = self.0.take() {
            budget.attempt_ended(how, Some(cost));
        }
    }

    /// It turns out that it was not sent.
    pub(crate) fn refund(mut self) {
        if let Some(taken) = self.0.take() {
            taken.put_back();
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        if let Some(Taken { budget, cost, .. }) = self.0.take() {
            budget.attempt_ended(AttemptEnd::Neither, Some(cost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
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
    fn the_allowance_of_a_request_comes_back_with_the_token() {
        let policy = BudgetConfig::new().ratio(0.0).min_per_sec(0.2);
        let budget = Budget::new(&policy).unwrap();
        let allowance = StdArc::new(RetryAllowance::new(1));
        let reserve = || budget.reserve_now(false, Some(&allowance));
        let used_up = || reserve().err();
        drop(reserve().unwrap());
        reserve().unwrap().spend().refund();
        // Two tokens, and one retry that the request may make.
        let kept = reserve().unwrap();
        assert_eq!(used_up(), Some(StoppedBy::RequestCap));
        drop(kept.spend());
        assert_eq!(used_up(), Some(StoppedBy::RequestCap), "it was sent");
        allowance.put_back();
        reserve().unwrap().spend().ended(AttemptEnd::Failed);
        allowance.put_back();
        assert_eq!(used_up(), Some(StoppedBy::Budget));
        assert!(allowance.take(), "what the budget refuses is not taken");
    }
}
