//! A budget that bounds the extra load of retries.
//!
//! Each first attempt deposits a share of a retry, and each retry withdraws one. So when everything
//! fails, retries add at most that share to the load, and a trickle that keeps a quiet client able
//! to retry. What is deposited is forgotten after a while. A retry is reserved *before* its pause
//! and given back if it is never sent.
//!
//! Tokens are whole thousandths of a retry, so that a ratio of 0.6 is 0.6.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::policy::{InvalidPolicy, Problems, Settings, Valid};

const SLOTS: usize = 10;
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
    /// Retries per first attempt, 0 to 10; 0.2 by default.
    pub ratio: f64,
    /// Retries per second that are always allowed; 3 by default.
    pub min_per_sec: f64,
    /// How long a deposit counts, 1 s to 60 s; 10 s by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub ttl: Duration,
    /// What the retry of an attempt that timed out costs, in retries, 0 to 100; 1 by default.
    pub timeout_cost: f64,
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

/// One budget, shared by its clones: one per downstream is right.
#[derive(Clone)]
pub struct Budget {
    deposit: i64,
    timeout_cost: i64,
    tokens: Arc<Mutex<Tokens>>,
}

impl Budget {
    /// A budget of `policy`.
    #[must_use]
    pub fn new(policy: &BudgetPolicy) -> Self {
        Self {
            deposit: (RETRY * policy.ratio).round() as i64,
            timeout_cost: (RETRY * policy.timeout_cost).round() as i64,
            tokens: Arc::new(Mutex::new(Tokens::new(policy, Instant::now()))),
        }
    }

    pub(crate) fn deposit(&self) {
        self.change(|tokens, now| tokens.add(self.deposit, now));
    }

    /// Reserves one retry; none if the budget is empty.
    pub(crate) fn reserve(&self, after_timeout: bool) -> Option<Reserved> {
        let cost = if after_timeout {
            self.timeout_cost
        } else {
            RETRY as i64
        };
        self.change(|tokens, now| tokens.withdraw(cost, now))
            .then(|| Reserved {
                budget: self.clone(),
                cost,
            })
    }

    pub(crate) fn refund(&self, Spent(cost): Spent) {
        self.change(|tokens, now| tokens.add(cost, now));
    }

    fn change<T>(&self, act: impl FnOnce(&mut Tokens, Instant) -> T) -> T {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut tokens, Instant::now())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
}

/// A retry that was paid for; refunded on drop, unless it was [spent](Self::spend).
pub(crate) struct Reserved {
    budget: Budget,
    cost: i64,
}

/// What a retry cost that was sent, to be refunded only if it turns out that it was not.
pub(crate) struct Spent(i64);

impl Reserved {
    pub(crate) fn spend(mut self) -> Spent {
        Spent(std::mem::take(&mut self.cost))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.cost != 0 {
            self.budget.change(|tokens, now| tokens.add(self.cost, now));
        }
    }
}

/// What was deposited and withdrawn within the time to live, in ten slots. Pure: the time is an
/// argument.
struct Tokens {
    reserve: i64,
    width: Duration,
    anchor: Instant,
    newest: usize,
    slots: [i64; SLOTS],
}

impl Tokens {
    fn new(policy: &BudgetSettings, now: Instant) -> Self {
        Self {
            reserve: (RETRY * policy.min_per_sec * policy.ttl.as_secs_f64()).round() as i64,
            width: policy.ttl / SLOTS as u32,
            anchor: now,
            newest: 0,
            slots: [0; SLOTS],
        }
    }

    fn add(&mut self, amount: i64, now: Instant) {
        self.expire(now);
        self.slots[self.newest] = self.slots[self.newest].saturating_add(amount);
    }

    fn withdraw(&mut self, cost: i64, now: Instant) -> bool {
        self.expire(now);
        let balance = self
            .slots
            .iter()
            .fold(self.reserve, |sum, slot| sum.saturating_add(*slot));
        if balance < cost {
            return false;
        }
        self.slots[self.newest] -= cost;
        true
    }

    /// Forgets what is older than the time to live, at the same cost after any gap.
    fn expire(&mut self, now: Instant) {
        let steps = now.saturating_duration_since(self.anchor).as_nanos() / self.width.as_nanos();
        if steps >= SLOTS as u128 {
            self.slots = [0; SLOTS];
            self.anchor = now;
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % SLOTS;
            self.slots[self.newest] = 0;
        }
        self.anchor += self.width * steps as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        std::iter::from_fn(|| tokens.withdraw(1000, now).then_some(())).count()
    }

    #[test]
    fn rt_10_a_ratio_of_six_tenths_allows_six_retries_per_ten_calls() {
        let (mut tokens, deposit, now) = tokens(0.6, 0.0);
        (0..10).for_each(|_| tokens.add(deposit, now));
        assert_eq!(withdrawals(&mut tokens, now), 6);
    }

    #[test]
    fn rt_12_thirty_idle_days_cost_nothing_and_leave_only_the_reserve() {
        let (mut tokens, deposit, now) = tokens(0.2, 3.0);
        (0..100).for_each(|_| tokens.add(deposit, now));
        assert_eq!(withdrawals(&mut tokens, now), 50);
        let later = now + Duration::from_secs(30 * 86_400);
        tokens.expire(later);
        assert_eq!((tokens.anchor, tokens.slots), (later, [0; SLOTS]));
        assert_eq!(withdrawals(&mut tokens, later), 30);
    }

    #[test]
    fn deposits_and_withdrawals_are_forgotten_after_their_time() {
        let (mut tokens, deposit, now) = tokens(1.0, 0.0);
        tokens.add(deposit, now);
        assert!(tokens.withdraw(1000, now + Duration::from_secs(9)));
        assert!(!tokens.withdraw(1000, now + Duration::from_secs(9)));
        tokens.add(deposit, now + Duration::from_secs(20));
        assert!(tokens.withdraw(1000, now + Duration::from_secs(20)));
    }

    #[test]
    fn a_reserved_retry_comes_back_unless_it_is_spent() {
        let policy = BudgetPolicy::build(|budget| {
            budget.ratio = 1.0;
            budget.min_per_sec = 0.0;
        });
        let budget = Budget::new(&policy.unwrap());
        budget.deposit();
        drop(budget.reserve(false).expect("one was deposited"));
        budget.reserve(false).expect("it came back").spend();
        assert!(budget.reserve(false).is_none());
    }
}
