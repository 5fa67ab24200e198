//! Bounds the calls that the clients of one address cancel.
//!
//! A cancelled call costs more than an answered one: its call to an HTTP/1.1 service closes a connection.
//! Each address has a budget of calls that it may cancel. The budget bounds calls only while it is low, and
//! only those of connections that cancel many of their calls. So neither a proxy whose users cancel some
//! calls nor a client beside an attacker is affected.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tower_fanout_layers::clock;

use super::wait_queue::{First, WaitQueue};

/// Number of calls that an address may cancel at once. Below half of it the budget is low.
const BURST: f64 = 200.0;

/// Number of further calls that an address may cancel per second.
const PER_SECOND: f64 = 20.0;

/// Number of further calls that an address may cancel per answered call.
const PER_ANSWER: f64 = 0.1;

/// Number of addresses above which those with a full budget are removed.
const PRUNE: usize = 1_024;

/// The budgets of all addresses that have open connections or have cancelled calls.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    clients: HashMap<IpAddr, Arc<Client>>,
    /// Number of addresses after the last removal.
    kept: usize,
}

impl Clients {
    /// Returns the budget of the address `peer`. IPv6 addresses of one /64 network share a budget.
    pub(super) fn of(&self, peer: IpAddr) -> Arc<Client> {
        let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Addresses { clients, kept } = &mut *addresses;
        if clients.len() >= PRUNE.max(2 * *kept) {
            let now = Instant::now();
            clients.retain(|_, client| Arc::strong_count(client) > 1 || !client.is_full(now));
            *kept = clients.len();
        }
        Arc::clone(clients.entry(network(peer)).or_default())
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
    }
}

/// The budget of one address.
#[derive(Debug, Default)]
pub(super) struct Client {
    budget: Mutex<Budget>,
    /// Connections that wait until the budget allows a further call.
    waiting: WaitQueue,
}

#[derive(Debug)]
struct Budget {
    left: f64,
    updated: Instant,
    in_flight: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            left: BURST,
            updated: Instant::now(),
            in_flight: 0,
        }
    }
}

impl Budget {
    /// Returns the part of the budget that is missing to cancel a further call. Not above 0 if it may begin.
    fn missing(&self) -> f64 {
        (self.in_flight as f64 + 1.0).min(BURST / 2.0) - self.left
    }
}

impl Client {
    /// Counts a call as in flight, if the budget allows it to be cancelled. `trusted` is `true` for calls
    /// of connections that cancel few of their calls.
    pub(super) fn begin(&self, trusted: bool) -> bool {
        // The budget is as of its last use, which is enough if it does not decide.
        let mut budget = match trusted {
            true => self.lock(),
            false => self.budget(clock::now()),
        };
        let allowed = trusted || budget.missing() <= 0.0;
        budget.in_flight += usize::from(allowed);
        allowed
    }

    /// Counts the end of a call.
    pub(super) fn end(&self, answered: bool) {
        let mut budget = self.budget(clock::now());
        budget.in_flight = budget.in_flight.saturating_sub(1);
        let change = if answered { PER_ANSWER } else { -1.0 };
        budget.left = (budget.left + change).clamp(-BURST, BURST);
        let affordable = budget.missing() <= 0.0;
        drop(budget);
        if affordable {
            self.waiting.wake();
        }
    }

    /// Waits for the turn of the caller, and until the budget allows a further call. The caller keeps its turn
    /// until the returned value is dropped.
    ///
    /// Only the caller whose turn it is has a timer, which fires when the budget suffices.
    pub(super) async fn affordable(&self) -> First<'_> {
        let first = self.waiting.first().await;
        while let Some(refill) = self.refill() {
            // The budget grows without a timer too, when calls end.
            let _ = timeout_at(refill, first.changed()).await;
        }
        first
    }

    /// Returns the turn of the caller if no other connection waits for the budget.
    pub(super) fn try_affordable(&self) -> Option<First<'_>> {
        self.waiting.try_first()
    }

    /// Returns the time at which the budget allows a further call, or `None` if that is now.
    fn refill(&self) -> Option<Instant> {
        let now = Instant::now();
        let missing = self.budget(now).missing();
        let wait = Duration::from_secs_f64(missing.max(0.0) / PER_SECOND);
        // A timer has milliseconds, and a rounded budget may miss a tiny part.
        (missing > 0.0).then(|| now + wait.max(Duration::from_millis(1)))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.budget(now).left >= BURST
    }

    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the budget as of `now`.
    fn budget(&self, now: Instant) -> MutexGuard<'_, Budget> {
        let mut budget = self.lock();
        let elapsed = now.saturating_duration_since(budget.updated);
        budget.updated = now;
        budget.left = (budget.left + PER_SECOND * elapsed.as_secs_f64()).min(BURST);
        budget
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    /// Returns the number of calls out of `calls` that may begin, each cancelled at once.
    fn cancelled(client: &Client, calls: usize) -> usize {
        let begin = || client.begin(false);
        let begun = (0..calls).filter(|_| begin().then(|| client.end(false)).is_some());
        begun.count()
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d42_an_address_may_cancel_200_calls_and_20_per_second() {
        let client = Client::default();
        assert_eq!(cancelled(&client, 10_000), 200);
        advance(Duration::from_secs(1)).await;
        assert_eq!(cancelled(&client, 10_000), 20);
        advance(Duration::from_secs(60)).await;
        assert_eq!(cancelled(&client, 10_000), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d42_with_a_low_budget_each_call_in_flight_must_be_affordable() {
        let client = Client::default();
        assert_eq!(cancelled(&client, 110), 110);
        let begun = (0..1_000).filter(|_| client.begin(false)).count();
        assert_eq!(begun, 90);
        assert!(client.begin(true), "a trusted connection is not limited");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d42_answered_calls_allow_a_tenth_to_be_cancelled() {
        let client = Client::default();
        cancelled(&client, 10_000);
        for _ in 0..101 {
            assert!(client.begin(true));
            client.end(true);
        }
        assert_eq!(cancelled(&client, 10_000), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d42_addresses_without_use_are_forgotten() {
        let clients = Clients::default();
        let address = |n: u32| IpAddr::V4(n.into());
        let kept = clients.of(address(0));
        cancelled(&clients.of(address(1)), 10);
        for n in 2..10_000 {
            clients.of(address(n));
        }
        let known = |n| {
            let addresses = clients.0.lock().unwrap();
            addresses.clients.contains_key(&address(n))
        };
        assert!(known(0) && known(1) && !known(2));
        assert!(Arc::ptr_eq(&kept, &clients.of(address(0))));
        let [one, same, other] = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
            .map(|text| clients.of(text.parse().unwrap()));
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    }
}
