//! A breaker or a limit of its own for each key of the requests, such as the tenant, the host or the route.
//!
//! One tenant whose service fails must not open the circuit of the others, and one tenant that sends too
//! much must not use up their limit. [`PerKeyLayer`] reads the key of each request, and passes the call
//! through the [`BreakerLayer`](crate::BreakerLayer) or [`ConcurrencyLayer`](crate::ConcurrencyLayer) of
//! that key. All calls of a key share one state, which is created with the first call.
//!
//! ```
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_layers::{
//!     BreakerConfig, BreakerLayer, ClassifyResult, LayerError, PerKeyConfig, PerKeyLayer, WithCall,
//!     breaker::State,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let breaker = BreakerLayer::new("tenants", BreakerConfig::new(), ClassifyResult).unwrap();
//! let tenant = |request: &WithCall<u64>| *request.get();
//! let layer = PerKeyLayer::new(PerKeyConfig::new(), breaker, tenant).unwrap();
//! let service = layer.layer(service_fn(|request: WithCall<u64>| async move {
//!     match request.get() {
//!         7 => Err(LayerError::from("the shard of tenant 7 is down")),
//!         _ => Ok("fine"),
//!     }
//! }));
//! for _ in 0..5 {
//!     service.clone().oneshot(WithCall::new(7)).await.unwrap_err();
//! }
//! assert_eq!(service.oneshot(WithCall::new(8)).await.unwrap(), "fine");
//!
//! let state = |tenant| layer.get(&tenant).map(|breaker| breaker.handle().state());
//! assert_eq!(state(7), Some(State::Open));
//! assert_eq!(state(8), Some(State::Closed));
//! assert_eq!(state(9), None);
//! # }
//! ```
//!
//! # Number of keys
//!
//! The map has at most [`max_keys`](field@PerKeyConfig::max_keys) entries, whatever keys the callers send.
//! A new key in a full map evicts the entry that is worth least among the next eight:
//!
//! | entry | evicted |
//! |---|---|
//! | not used for [`idle_after`](field@PerKeyConfig::idle_after), and not held | first, and also if the map is not full |
//! | a new entry would behave the same | second |
//! | closed breaker with counts, adaptive limit, limit with a queue | last, and the counts are lost |
//! | breaker whose open time is over, half-open breaker | only once not used for `idle_after` |
//! | held: a call runs or waits; the breaker is open, or was set by hand; the limit was set by hand; a layer of [`PerKeyLayer::get`] exists | never |
//!
//! Of entries that are worth the same, the least recently used goes, in the approximation of a clock with a
//! second chance. A new entry behaves like that of a closed breaker if the window is empty, and the breaker
//! neither failed nor opened within [`backoff_reset_after`](field@crate::BreakerConfig::backoff_reset_after).
//!
//! No task runs in the background: the entries of idle keys leave when new keys arrive.
//!
//! # A full map
//!
//! If the next eight entries are all held, the call passes through the template of
//! [`PerKeyLayer::new`], whose state all such calls share: [`PerKeyLayer::overflow`]. They are not
//! rejected because the map is full, and they are not without limit either. [`Stats::overflows`] counts
//! them. If enough of them fail, the breaker of the template opens, and rejects healthy keys too. Choose
//! `max_keys` well above the number of keys that have calls or open circuits at the same time: keys whose
//! circuits open one after another lie side by side.
//!
//! # Memory
//!
//! A breaker with its entry takes about 1.3 KB, apart from what the key itself takes: 10,000 keys take 13 MB. A [count
//! window](crate::breaker::Window::Count) takes more, reserved at once: about 3.4 KB per key for 100 calls, and
//! 241 KB for 10,000. The time of a call does not depend on the number of keys, except for the caches of the
//! processor.

mod keyed;
mod layer;
mod map;
mod request_key;
#[cfg(all(test, shuttle))]
mod schedules;
mod shard;

use std::time::Duration;

pub(crate) use self::keyed::{Keyed, Retention};
pub use self::{
    keyed::KeyedLayer,
    layer::{PerKey, PerKeyLayer},
    request_key::{ByCall, RequestKey},
};
use crate::config::{ConfigError, Validate};

crate::config! {
    serde
    /// Configuration of a [`PerKeyLayer`].
    pub struct PerKeyConfig {
        /// Maximum number of keys with a state of their own. Must be within 1 to 10,000,000; defaults to
        /// 10,000. A key with a breaker takes about 1.3 KB, or with a count window 24 bytes more per call of it.
        pub max_keys: usize = 10_000,
        /// Time after the start of its last call after which a key without a running call is idle and may be
        /// forgotten. Must be within 1 s to 24 h; defaults to 10 min. Use a longer time than a call takes.
        ///
        /// Use a time above the window of a breaker and its
        /// [`backoff_reset_after`](field@crate::BreakerConfig::backoff_reset_after).
        pub idle_after: Duration = Duration::from_secs(600),
    }
    limits {
        max_keys: within(1..=10_000_000),
        idle_after: within(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)),
    }
}

impl Validate for PerKeyConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits().into_vec()
    }
}

/// Numbers about the keys of a [`PerKeyLayer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of keys that have an entry.
    pub keys: usize,
    /// Number of entries that were evicted, because they were idle or another key needed the place.
    pub evicted: u64,
    /// Number of evicted entries whose counts were lost. If the number grows,
    /// [`max_keys`](field@PerKeyConfig::max_keys) is too small.
    pub forgotten: u64,
    /// Number of calls that used [`PerKeyLayer::overflow`], because the entries that were looked at for their
    /// key were all held.
    pub overflows: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_is_checked_against_its_range() {
        check_ranges::<PerKeyConfig>(
            &[
                |keys| keys.max_keys = 1,
                |keys| keys.max_keys = 10_000_000,
                |keys| keys.idle_after = Duration::from_secs(1),
                |keys| keys.idle_after = Duration::from_secs(24 * 3600),
            ],
            &[
                ("max_keys", |keys| keys.max_keys = 0),
                ("max_keys", |keys| keys.max_keys = 10_000_001),
                ("idle_after", |keys| {
                    keys.idle_after = Duration::from_millis(999)
                }),
                ("idle_after", |keys| {
                    keys.idle_after = Duration::from_secs(24 * 3600 + 1)
                }),
            ],
        );
    }
}
