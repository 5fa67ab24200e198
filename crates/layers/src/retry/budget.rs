//! A budget that bounds the extra load of retries.
//!
//! Each first attempt deposits a share of a retry, and each retry withdraws one. So when everything
//! fails, retries add at most that share to the load, and a trickle that keeps a quiet client able
//! to retry. What is deposited is forgotten after a while. A retry is reserved *before* its pause
//! and given back if it is never sent.
//!
//! Tokens are whole thousandths of a retry, so that a ratio of 0.6 is 0.6.
//!
//! [Others](super::budgets) do as Envoy, gRPC and the AWS SDKs do.

use std::{fmt, ops::Deref, sync::Arc as StdArc, time::Duration};

use tokio::time::Instant;

use super::settings::RetryOn;
use crate::{
    classify::Class,
    context::RetryAllowance,
    observe::StoppedBy,
    policy::{InvalidPolicy, Problems, Settings, Valid},
    sharded::{Sharded, TAG_BITS},
    stopwatch,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    window::{Ring, Stretches},
};

const RETRY: f64 = 1000.0;

/// How much extra load retries may make.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct BudgetSettings {
    /// Retries per first attempt, 0 to 10; 0.2 by default, as in Envoy and Finagle.
    pub ratio: f64,
    /// Retries per second that are always allowed, 0 to 1,000,000; 3 by default.
    pub min_per_sec: f64,
    /// How long a deposit counts, 1 s to 60 s; 10 s by default, as in Finagle.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub ttl: Duration,
    /// What the retry of an attempt that timed out costs, in retries, 0 to 100; 1 by default.
    pub timeout_cost: f64,
}

crate::setters! {
    BudgetSettings {
        ratio: f64,
        min_per_sec: f64,
        ttl: Duration,
        timeout_cost: f64,
    }
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_per_sec: 3.0,
            ttl: Duration::from_secs(10),
            timeout_cost: 1.0,
        }
    }
}

impl Settings for BudgetSettings {
    fn problems(&self) -> Vec<InvalidPolicy> {
        Problems::default()
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

/// Checked [`BudgetSettings`].
pub type BudgetPolicy = Valid<BudgetSettings>;

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
///     BoxError, ClassifyResult, RetryLayer, RetryPolicy, With,
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
/// let policy = RetryPolicy::build(|retry| retry.max_attempts = 2).unwrap();
/// let service = RetryLayer::new(policy, ClassifyResult)
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
    /// A [`TokenBudget`] of `policy`.
    #[must_use]
    pub fn new(policy: &BudgetPolicy) -> Self {
        Self::of(TokenBudget::new(policy))
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

/// Each call deposits a share of a retry, and each retry withdraws one: see the settings.
pub struct TokenBudget {
    deposit: Cost,
    timeout_cost: Cost,
    /// Calls that have deposited, by the ends of the numbers of their slots; each thread counts for
    /// itself, and who withdraws adds them up.
    deposits: Sharded,
    stretches: Stretches,
    tokens: Mutex<Tokens>,
}

impl TokenBudget {
    /// A budget of `policy`.
    #[must_use]
    pub fn new(policy: &BudgetPolicy) -> Self {
        let now = Instant::now();
        Self {
            deposit: (RETRY * policy.ratio).round() as Cost,
            timeout_cost: (RETRY * policy.timeout_cost).round() as Cost,
            deposits: Sharded::new(),
            stretches: Ring::<Cost>::stretches(policy.ttl, now),
            tokens: Mutex::new(Tokens::new(policy, now)),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, now: Instant, act: impl FnOnce(&mut Tokens) -> T) -> T {
        let mut tokens = self.tokens();
        tokens.expire(now);
        self.deposits.take(|slot, count| {
            tokens.add_late(self.deposit.saturating_mul(count.into()), slot);
        });
        act(&mut tokens)
    }
}

impl RetryBudget for TokenBudget {
    fn begin(&self, now: Instant) {
        if !self.deposits.add(self.stretches.number(now), u32::MAX) {
            self.change(now, |tokens| tokens.add(self.deposit));
        }
    }

    fn reserve(&self, after_timeout: bool, now: Instant) -> Option<Cost> {
        let cost = if after_timeout {
            self.timeout_cost
        } else {
            RETRY as Cost
        };
        self.change(now, |tokens| tokens.withdraw(cost))
            .then_some(cost)
    }

    fn refund(&self, cost: Cost, reserved: Instant) {
        let slot = self.stretches.number(reserved);
        self.tokens().add_late(cost, slot);
    }
}

impl fmt::Debug for TokenBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBudget")
            .field("deposit", &self.deposit)
            .finish_non_exhaustive()
    }
}

/// What was deposited and withdrawn within the time to live. Pure: the time is an argument.
struct Tokens {
    reserve: Cost,
    slots: Ring<Cost>,
}

impl Tokens {
    fn new(policy: &BudgetSettings, now: Instant) -> Self {
        Self {
            reserve: (RETRY * policy.min_per_sec * policy.ttl.as_secs_f64()).round() as Cost,
            slots: Ring::new(policy.ttl, now),
        }
    }

    fn add(&mut self, amount: Cost) {
        let slot = self.slots.newest();
        *slot = slot.saturating_add(amount);
    }

    /// Adds what belongs to the slot whose number ends in `low`, unless that is forgotten.
    fn add_late(&mut self, amount: Cost, low: u64) {
        if let Some(slot) = self.slots.ending_in(low, TAG_BITS) {
            *slot = slot.saturating_add(amount);
        }
    }

    fn withdraw(&mut self, cost: Cost) -> bool {
        let slots = self.slots.slots().iter();
        let balance = slots.fold(self.reserve, |sum, slot| sum.saturating_add(*slot));
        if balance < cost {
            return false;
        }
        *self.slots.newest() -= cost;
        true
    }

    /// Forgets what is older than the time to live.
    fn expire(&mut self, now: Instant) {
        self.slots.advance(now, |_| {});
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
        check_ranges::<BudgetSettings>(
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

    fn tokens(ratio: f64, min_per_sec: f64) -> (Tokens, i64, Instant) {
        let policy = BudgetPolicy::build(|budget| {
            budget.ratio = ratio;
            budget.min_per_sec = min_per_sec;
        });
        let now = Instant::now();
        (
            Tokens::new(&policy.unwrap(), now),
            (RETRY * ratio) as i64,
            now,
        )
    }

    fn withdrawals(tokens: &mut Tokens, now: Instant) -> usize {
        tokens.expire(now);
        std::iter::from_fn(|| tokens.withdraw(1000).then_some(())).count()
    }

    #[test]
    fn rt_10_a_ratio_of_six_tenths_allows_six_retries_per_ten_calls() {
        let (mut tokens, deposit, now) = tokens(0.6, 0.0);
        (0..10).for_each(|_| tokens.add(deposit));
        assert_eq!(withdrawals(&mut tokens, now), 6);
    }

    #[test]
    fn rt_12_thirty_idle_days_cost_nothing_and_leave_only_the_reserve() {
        let (mut tokens, deposit, now) = tokens(0.2, 3.0);
        (0..100).for_each(|_| tokens.add(deposit));
        assert_eq!(withdrawals(&mut tokens, now), 50);
        let later = now + Duration::from_secs(30 * 86_400);
        tokens.expire(later);
        assert!(tokens.slots.slots().iter().all(|slot| *slot == 0));
        assert_eq!(withdrawals(&mut tokens, later), 30);
    }

    #[test]
    fn deposits_and_withdrawals_are_forgotten_after_their_time() {
        let (mut tokens, deposit, now) = tokens(1.0, 0.0);
        let at = |seconds| now + Duration::from_secs(seconds);
        tokens.add(deposit);
        assert_eq!(withdrawals(&mut tokens, at(9)), 1);
        tokens.expire(at(20));
        tokens.add(deposit);
        assert_eq!(withdrawals(&mut tokens, at(20)), 1);
    }

    #[test]
    fn a_reserved_retry_comes_back_unless_it_is_spent() {
        let policy = BudgetPolicy::build(|budget| {
            budget.ratio = 1.0;
            budget.min_per_sec = 0.0;
        });
        let budget = Budget::new(&policy.unwrap());
        budget.begin(Instant::now());
        let reserve = || budget.reserve_now(false, None).ok();
        drop(reserve().expect("one was deposited"));
        let _ = reserve().expect("it came back").spend();
        assert!(reserve().is_none());
    }

    #[test]
    fn the_allowance_of_a_request_comes_back_with_the_token() {
        let policy = BudgetPolicy::build(|budget| {
            (budget.ratio, budget.min_per_sec) = (0.0, 0.2);
        });
        let budget = Budget::new(&policy.unwrap());
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

    #[test]
    fn a_refund_after_its_time_mints_nothing() {
        let policy = BudgetPolicy::build(|budget| {
            (budget.ratio, budget.min_per_sec) = (0.0, 0.2);
        });
        let budget = TokenBudget::new(&policy.unwrap());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let all = |now| -> Vec<_> { std::iter::from_fn(|| budget.reserve(false, now)).collect() };
        let paid = all(start);
        assert_eq!(paid.len(), 2);
        assert!(all(at(9)).is_empty());
        budget.refund(paid[0], start);
        assert_eq!(all(at(9)).len(), 1, "in time");
        assert_eq!(all(at(12)).len(), 1, "the other is forgotten");
        budget.refund(paid[1], start);
        assert!(all(at(12)).is_empty(), "it had come back already");
    }

    /// A budget by plain counting: what was given and taken, and in which tenth of its time.
    struct Model {
        reserve: Cost,
        moves: Vec<(u64, Cost)>,
    }

    impl Model {
        fn balance(&self, slot: u64) -> Cost {
            let young = self.moves.iter().filter(|(made, _)| made + 10 > slot);
            young.fold(self.reserve, |sum, (_, amount)| sum + amount)
        }
    }

    proptest! {
        #[test]
        fn a_budget_is_what_plain_counting_says(
            ratio in 0u32..3_000,
            per_sec in 0u32..3,
            steps in prop::collection::vec((0u64..2_000, 0u8..4), 1..120),
        ) {
            let policy = BudgetPolicy::build(|budget| {
                budget.ratio = f64::from(ratio) / 1000.0;
                budget.min_per_sec = f64::from(per_sec);
                budget.timeout_cost = 2.5;
            });
            let budget = TokenBudget::new(&policy.unwrap());
            let mut model = Model { reserve: Cost::from(per_sec) * 10_000, moves: Vec::new() };
            let start = Instant::now();
            let (mut now, mut paid) = (start, Vec::new());
            for (gap, act) in steps {
                now += Duration::from_millis(gap);
                // The budget was made a moment before: never on the edge of a tenth.
                let slot = (now - start).as_secs();
                match act {
                    0 | 1 => {
                        budget.begin(now);
                        model.moves.push((slot, ratio.into()));
                    }
                    2 => {
                        let (after_timeout, cost) = [(false, 1000), (true, 2500)][paid.len() % 2];
                        let enough = model.balance(slot) >= cost;
                        prop_assert_eq!(budget.reserve(after_timeout, now), enough.then_some(cost));
                        if enough {
                            paid.push((cost, now, slot));
                            model.moves.push((slot, -cost));
                        }
                    }
                    _ => if let Some((cost, reserved, then)) = paid.pop() {
                        budget.refund(cost, reserved);
                        model.moves.push((then, cost));
                    }
                }
            }
        }
    }
}

#[cfg(all(test, shuttle))]
mod schedules {
    use super::*;
    use crate::sync::{check, join, thread};

    #[test]
    fn a_budget_is_never_overdrawn() {
        check(|| {
            let policy = BudgetPolicy::build(|budget| {
                (budget.ratio, budget.min_per_sec) = (0.5, 0.0);
            });
            let budget = Budget::new(&policy.unwrap());
            let calls = || {
                let budget = budget.clone();
                thread::spawn(move || {
                    budget.begin(Instant::now());
                    budget.begin(Instant::now());
                    // The first is given back, and may be had again.
                    drop(budget.reserve_now(false, None));
                    let kept = budget.reserve_now(false, None).map(Reserved::spend);
                    u32::from(kept.is_ok())
                })
            };
            let spent: u32 = join([calls(), calls()]).into_iter().sum();
            let left = std::iter::from_fn(|| budget.reserve(false, Instant::now())).count();
            assert_eq!(spent as usize + left, 2);
        });
    }
}
