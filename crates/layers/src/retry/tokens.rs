//! A retry budget: a floor of retries per second, and tokens.
//!
//! The floor refills steadily, so that a quiet client can retry, and a client whose calls all fail still
//! retries in each second. Beyond the floor, each first attempt deposits a share of a retry, and each retry
//! withdraws a whole one. So when every call fails, retries add at most that share to the load. Deposits and
//! withdrawals expire after the time to live.
//!
//! A token is a thousandth of a retry. Integers keep ratios exact: 0.6 is 600 tokens.

use std::{fmt, time::Duration};

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
type Cost = i64;

/// The payment for a retry, by its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payment {
    /// The time in which the floor refills by the cost.
    Floor(Duration),
    Deposits(Cost),
}

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

    /// Takes the cost of a retry after a timeout or after another failure. Returns `None` if neither the
    /// floor nor the deposits suffice.
    pub(super) fn reserve(&self, after_timeout: bool, now: Instant) -> Option<Payment> {
        let cost = if after_timeout {
            self.timeout_cost
        } else {
            RETRY as Cost
        };
        self.change(now, |tokens| tokens.withdraw(cost, now))
    }

    /// Returns the payment for a retry that was not sent to its source.
    pub(super) fn refund(&self, payment: Payment, reserved: Instant) {
        let slot = self.stretches.number(reserved);
        lock(&self.tokens).put_back(payment, slot);
    }
}

impl fmt::Debug for TokenBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBudget")
            .field("deposit", &self.deposit)
            .finish_non_exhaustive()
    }
}

/// Retries that need no deposits. The floor refills at a steady rate, up to a full time to live.
struct Floor {
    /// Retries per second, above 0.
    per_second: f64,
    /// Time in which an empty floor becomes full.
    span: Duration,
    /// Time at which the floor is full again.
    full_at: Instant,
}

impl Floor {
    fn new(config: &BudgetConfig, now: Instant) -> Option<Self> {
        (config.min_per_sec > 0.0).then_some(Self {
            per_second: config.min_per_sec,
            span: config.ttl,
            full_at: now,
        })
    }

    /// Takes `cost` and returns the time in which the floor refills by as much, or `None` if the floor has
    /// less.
    fn take(&mut self, cost: Cost, now: Instant) -> Option<Duration> {
        // Rounded down, so that the retries of one second never take longer than a second to refill.
        let nanos = cost as f64 * (1e9 / RETRY) / self.per_second;
        let refill = Duration::from_nanos(nanos as u64);
        let full_at = self.full_at.max(now).checked_add(refill)?;
        if full_at - now > self.span {
            return None;
        }
        self.full_at = full_at;
        Some(refill)
    }

    fn put_back(&mut self, refill: Duration) {
        // Before the start of the process, the floor was full.
        self.full_at = self.full_at.checked_sub(refill).unwrap_or(self.full_at);
    }
}

/// The floor, and the balance of deposits and withdrawals within the time to live. Pure: the time is an
/// argument.
struct Tokens {
    floor: Option<Floor>,
    slots: Ring<Cost>,
}

impl Tokens {
    fn new(config: &BudgetConfig, now: Instant) -> Self {
        Self {
            floor: Floor::new(config, now),
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

    /// Withdraws `cost` from the floor, or else from the deposits. Changes nothing if neither suffices.
    fn withdraw(&mut self, cost: Cost, now: Instant) -> Option<Payment> {
        if let Some(refill) = self.floor.as_mut().and_then(|floor| floor.take(cost, now)) {
            return Some(Payment::Floor(refill));
        }
        let slots = self.slots.slots().iter();
        let balance = slots.fold(0, |sum: Cost, slot| sum.saturating_add(*slot));
        if balance < cost {
            return None;
        }
        *self.slots.newest() -= cost;
        Some(Payment::Deposits(cost))
    }

    /// Returns a payment that was made in the slot with the number that ends in `low`.
    fn put_back(&mut self, payment: Payment, low: u64) {
        match (payment, &mut self.floor) {
            (Payment::Floor(refill), Some(floor)) => floor.put_back(refill),
            (Payment::Floor(_), None) => {}
            (Payment::Deposits(cost), _) => self.add_late(cost, low),
        }
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
        std::iter::from_fn(|| tokens.withdraw(1000, now)).count()
    }

    #[test]
    fn rt_10_a_ratio_of_six_tenths_allows_six_retries_per_ten_calls() {
        let (mut tokens, deposit, now) = tokens(0.6, 0.0);
        (0..10).for_each(|_| tokens.add(deposit));
        assert_eq!(withdrawals(&mut tokens, now), 6);
    }

    #[test]
    fn rt_12_thirty_idle_days_leave_only_the_floor() {
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
    fn rt_25_the_floor_holds_in_every_second_after_a_burst() {
        for per_second in [1, 3, 7, 1_000] {
            let (mut tokens, _, start) = tokens(0.0, f64::from(per_second));
            let at = |millis| start + Duration::from_millis(millis);
            assert_eq!(withdrawals(&mut tokens, at(0)), 10 * per_second as usize);
            assert_eq!(withdrawals(&mut tokens, at(0)), 0);
            for second in 1..=60 {
                let retries = withdrawals(&mut tokens, at(1_000 * second));
                assert_eq!(retries, per_second as usize, "in second {second}");
            }
        }
    }

    #[test]
    fn rt_25_the_floor_refills_within_a_second_and_up_to_its_span() {
        let (mut tokens, deposit, start) = tokens(1.0, 2.0);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(withdrawals(&mut tokens, at(0)), 20);
        assert_eq!(withdrawals(&mut tokens, at(499)), 0);
        assert_eq!(withdrawals(&mut tokens, at(500)), 1);
        assert_eq!(withdrawals(&mut tokens, at(999)), 0);
        assert_eq!(withdrawals(&mut tokens, at(1_000)), 1);
        // A deposit is beside the floor.
        tokens.add(deposit);
        assert_eq!(withdrawals(&mut tokens, at(1_500)), 2);
        assert_eq!(withdrawals(&mut tokens, at(11_500)), 20);
        assert_eq!(withdrawals(&mut tokens, at(60_000)), 20);
    }

    #[test]
    fn rt_25_a_floor_below_one_retry_per_second_still_adds_up() {
        let (mut tokens, _, start) = tokens(0.0, 0.2);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(withdrawals(&mut tokens, at(0)), 2);
        assert_eq!(withdrawals(&mut tokens, at(4)), 0);
        assert_eq!(withdrawals(&mut tokens, at(5)), 1);
        assert_eq!(withdrawals(&mut tokens, at(50)), 2);
    }

    #[test]
    fn a_refund_after_the_time_to_live_adds_nothing() {
        let config = BudgetConfig::new().ratio(0.5).min_per_sec(0.0);
        let budget = TokenBudget::new(&config);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let all = |now| -> Vec<_> { std::iter::from_fn(|| budget.reserve(false, now)).collect() };
        (0..4).for_each(|_| budget.deposit(start));
        let paid = all(start);
        assert_eq!(paid, [Payment::Deposits(1000); 2]);
        budget.refund(paid[0], start);
        assert_eq!(all(at(9)).len(), 1, "refunded in time");
        budget.refund(paid[1], start);
        assert!(all(at(12)).is_empty(), "the deposit had expired already");
    }

    #[test]
    fn a_refund_never_fills_the_floor_beyond_its_span() {
        let config = BudgetConfig::new().ratio(0.0).min_per_sec(0.2);
        let budget = TokenBudget::new(&config);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let all = |now| -> Vec<_> { std::iter::from_fn(|| budget.reserve(false, now)).collect() };
        let paid = all(start);
        assert_eq!(paid, [Payment::Floor(Duration::from_secs(5)); 2]);
        budget.refund(paid[0], start);
        assert_eq!(all(start).len(), 1);
        // The floor has refilled since, so this refund adds nothing.
        budget.refund(paid[1], start);
        assert_eq!(all(at(30)).len(), 2);
    }

    /// A simple model of a budget: the level of the floor as the time in which it refills, and each change of
    /// the deposits with the tenth of the time to live in which it was made.
    struct Model {
        per_second: u32,
        level: Duration,
        moves: Vec<(u64, Cost)>,
    }

    impl Model {
        const SPAN: Duration = Duration::from_secs(10);

        fn refill(&mut self, time: Duration) {
            self.level = (self.level + time).min(Self::SPAN);
        }

        fn withdraw(&mut self, cost: Cost, slot: u64) -> Option<Payment> {
            if self.per_second > 0 {
                let nanos = cost as u64 * 1_000_000 / u64::from(self.per_second);
                let refill = Duration::from_nanos(nanos);
                if let Some(left) = self.level.checked_sub(refill) {
                    self.level = left;
                    return Some(Payment::Floor(refill));
                }
            }
            let young = self.moves.iter().filter(|(made, _)| made + 10 > slot);
            let balance = young.map(|(_, amount)| amount).sum::<Cost>();
            (balance >= cost).then(|| {
                self.moves.push((slot, -cost));
                Payment::Deposits(cost)
            })
        }

        fn refund(&mut self, payment: Payment, slot: u64) {
            match payment {
                Payment::Floor(refill) => self.refill(refill),
                Payment::Deposits(cost) => self.moves.push((slot, cost)),
            }
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
            // With a paused clock, the budget begins exactly at `start`, however slow the machine is.
            let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _paused = clock.enter();
            let (start, budget) = clock.block_on(async { (Instant::now(), TokenBudget::new(&config)) });
            let mut model = Model { per_second: per_sec, level: Model::SPAN, moves: Vec::new() };
            let (mut now, mut paid) = (start, Vec::new());
            for (gap, act) in steps {
                let gap = Duration::from_millis(gap);
                now += gap;
                model.refill(gap);
                let slot = (now - start).as_secs();
                match act {
                    0 | 1 => {
                        budget.deposit(now);
                        model.moves.push((slot, ratio.into()));
                    }
                    2 => {
                        let (after_timeout, cost) = [(false, 1000), (true, 2500)][paid.len() % 2];
                        let payment = model.withdraw(cost, slot);
                        prop_assert_eq!(budget.reserve(after_timeout, now), payment);
                        paid.extend(payment.map(|payment| (payment, now, slot)));
                    }
                    _ => if let Some((payment, reserved, then)) = paid.pop() {
                        budget.refund(payment, reserved);
                        model.refund(payment, then);
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
