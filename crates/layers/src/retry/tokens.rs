//! A retry budget, counted in tokens.
//!
//! Each first attempt deposits a share of a retry, and each retry withdraws a whole one. So when every call
//! fails, retries add at most that share to the load. A small reserve per second lets a quiet client
//! retry too. Deposits and withdrawals expire after the time to live.
//!
//! A token is a thousandth of a retry. Integers keep ratios exact: 0.6 is 600 tokens.

use std::fmt;

use tokio::time::Instant;

use super::budget::BudgetConfig;
use crate::{
    sharded::{Sharded, TAG_BITS},
    sync::{Mutex, lock},
    window::{Ring, Stretches},
};

/// Tokens per retry.
const RETRY: f64 = 1000.0;

/// A number of tokens: thousandths of a retry.
pub(super) type Cost = i64;

/// The thread-safe budget. See [`BudgetConfig`] for the rules.
pub(super) struct TokenBudget {
    deposit: Cost,
    timeout_cost: Cost,
    /// Deposits that are not yet part of `tokens`, tagged with the low bits of their slot numbers. Each
    /// thread counts in its own shard, and a withdrawal adds up all shards.
    deposits: Sharded,
    stretches: Stretches,
    tokens: Mutex<Tokens>,
}

impl TokenBudget {
    pub(super) fn new(config: &BudgetConfig) -> Self {
        let now = Instant::now();
        Self {
            deposit: (RETRY * config.ratio).round() as Cost,
            timeout_cost: (RETRY * config.timeout_cost).round() as Cost,
            deposits: Sharded::new(),
            stretches: Ring::<Cost>::stretches(config.ttl, now),
            tokens: Mutex::new(Tokens::new(config, now)),
        }
    }

    /// Expires old slots, adds the deposits of all shards, and applies `act`.
    fn change<T>(&self, now: Instant, act: impl FnOnce(&mut Tokens) -> T) -> T {
        let mut tokens = lock(&self.tokens);
        tokens.expire(now);
        self.deposits.take(|slot, count| {
            tokens.add_late(self.deposit.saturating_mul(count.into()), slot);
        });
        act(&mut tokens)
    }

    /// Deposits the share of a call when its first attempt is sent.
    pub(super) fn deposit(&self, now: Instant) {
        // A shard that cannot count the deposit leaves it to the slow path.
        if !self.deposits.add(self.stretches.number(now), u32::MAX) {
            self.change(now, |tokens| tokens.add(self.deposit));
        }
    }

    /// Takes the cost of a retry after a timeout or after another failure. Returns `None` if the balance
    /// is too low.
    pub(super) fn reserve(&self, after_timeout: bool, now: Instant) -> Option<Cost> {
        let cost = if after_timeout {
            self.timeout_cost
        } else {
            RETRY as Cost
        };
        self.change(now, |tokens| tokens.withdraw(cost))
            .then_some(cost)
    }

    /// Returns the cost of a retry that was not sent to the slot of its reservation.
    pub(super) fn refund(&self, cost: Cost, reserved: Instant) {
        let slot = self.stretches.number(reserved);
        lock(&self.tokens).add_late(cost, slot);
    }
}

impl fmt::Debug for TokenBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBudget")
            .field("deposit", &self.deposit)
            .finish_non_exhaustive()
    }
}

/// The balance of deposits and withdrawals within the time to live. Pure: the time is an argument.
struct Tokens {
    /// Tokens that are always available: `min_per_sec` over the whole time to live.
    reserve: Cost,
    slots: Ring<Cost>,
}

impl Tokens {
    fn new(config: &BudgetConfig, now: Instant) -> Self {
        Self {
            reserve: (RETRY * config.min_per_sec * config.ttl.as_secs_f64()).round() as Cost,
            slots: Ring::new(config.ttl, now),
        }
    }

    /// Adds `amount` to the newest slot.
    fn add(&mut self, amount: Cost) {
        let slot = self.slots.newest();
        *slot = slot.saturating_add(amount);
    }

    /// Adds `amount` to the slot with the number that ends in `low`, unless the slot has expired.
    fn add_late(&mut self, amount: Cost, low: u64) {
        if let Some(slot) = self.slots.ending_in(low, TAG_BITS) {
            *slot = slot.saturating_add(amount);
        }
    }

    /// Withdraws `cost` and returns `true`, or changes nothing if the balance is too low.
    fn withdraw(&mut self, cost: Cost) -> bool {
        let slots = self.slots.slots().iter();
        let balance = slots.fold(self.reserve, |sum, slot| sum.saturating_add(*slot));
        if balance < cost {
            return false;
        }
        *self.slots.newest() -= cost;
        true
    }

    /// Removes the slots that are older than the time to live.
    fn expire(&mut self, now: Instant) {
        self.slots.advance(now, |_| {});
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::{super::budget::*, *};

    fn tokens(ratio: f64, min_per_sec: f64) -> (Tokens, i64, Instant) {
        let config = BudgetConfig::new().ratio(ratio).min_per_sec(min_per_sec);
        let now = Instant::now();
        (Tokens::new(&config, now), (RETRY * ratio) as i64, now)
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
    fn rt_12_thirty_idle_days_leave_only_the_reserve() {
        let (mut tokens, deposit, now) = tokens(0.2, 3.0);
        (0..100).for_each(|_| tokens.add(deposit));
        assert_eq!(withdrawals(&mut tokens, now), 50);
        let later = now + Duration::from_secs(30 * 86_400);
        tokens.expire(later);
        assert!(tokens.slots.slots().iter().all(|slot| *slot == 0));
        assert_eq!(withdrawals(&mut tokens, later), 30);
    }

    #[test]
    fn deposits_and_withdrawals_expire_after_the_time_to_live() {
        let (mut tokens, deposit, now) = tokens(1.0, 0.0);
        let at = |seconds| now + Duration::from_secs(seconds);
        tokens.add(deposit);
        assert_eq!(withdrawals(&mut tokens, at(9)), 1);
        tokens.expire(at(20));
        tokens.add(deposit);
        assert_eq!(withdrawals(&mut tokens, at(20)), 1);
    }

    #[test]
    fn a_reserved_retry_is_refunded_unless_it_is_spent() {
        let config = BudgetConfig::new().ratio(1.0).min_per_sec(0.0);
        let budget = Budget::new(&config).unwrap();
        budget.deposit(Instant::now());
        let reserve = || budget.reserve_now(false, None).ok();
        drop(reserve().expect("one retry was deposited"));
        let _ = reserve().expect("the dropped retry was refunded").spend();
        assert!(reserve().is_none());
    }

    #[test]
    fn a_refund_after_the_time_to_live_adds_nothing() {
        let config = BudgetConfig::new().ratio(0.0).min_per_sec(0.2);
        let budget = TokenBudget::new(&config);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let all = |now| -> Vec<_> { std::iter::from_fn(|| budget.reserve(false, now)).collect() };
        let paid = all(start);
        assert_eq!(paid.len(), 2);
        assert!(all(at(9)).is_empty());
        budget.refund(paid[0], start);
        assert_eq!(all(at(9)).len(), 1, "refunded in time");
        assert_eq!(all(at(12)).len(), 1, "the other withdrawal has expired");
        budget.refund(paid[1], start);
        assert!(all(at(12)).is_empty(), "the withdrawal had expired already");
    }

    /// A simple model of a budget: each change of the balance, and the tenth of the time to live in which
    /// it was made.
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
        fn a_budget_agrees_with_a_simple_model(
            ratio in 0u32..3_000,
            per_sec in 0u32..3,
            steps in prop::collection::vec((0u64..2_000, 0u8..4), 1..120),
        ) {
            let config = BudgetConfig::new().ratio(f64::from(ratio) / 1000.0).min_per_sec(f64::from(per_sec)).timeout_cost(2.5);
            let budget = TokenBudget::new(&config);
            let mut model = Model { reserve: Cost::from(per_sec) * 10_000, moves: Vec::new() };
            let start = Instant::now();
            let (mut now, mut paid) = (start, Vec::new());
            for (gap, act) in steps {
                now += Duration::from_millis(gap);
                // The budget was created a moment before `start`, so no step falls on the edge of a slot.
                let slot = (now - start).as_secs();
                match act {
                    0 | 1 => {
                        budget.deposit(now);
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
    use super::{super::budget::*, *};
    use crate::sync::{check, join, thread};

    #[test]
    fn a_budget_is_never_overdrawn() {
        check(|| {
            let config = BudgetConfig::new().ratio(0.5).min_per_sec(0.0);
            let budget = Budget::new(&config).unwrap();
            let calls = || {
                let budget = budget.clone();
                thread::spawn(move || {
                    budget.deposit(Instant::now());
                    budget.deposit(Instant::now());
                    // The dropped reservation is refunded and available again.
                    drop(budget.reserve_now(false, None));
                    let kept = budget.reserve_now(false, None).map(Reserved::spend);
                    u32::from(kept.is_ok())
                })
            };
            let spent: u32 = join([calls(), calls()]).into_iter().sum();
            let left = std::iter::from_fn(|| budget.0.reserve(false, Instant::now())).count();
            assert_eq!(spent as usize + left, 2);
        });
    }
}
