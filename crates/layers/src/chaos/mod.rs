//! A layer that injects faults, to test the layers above (feature `chaos`).
//!
//! A list of [`Rule`]s says which share of the attempts gets which fault, and for which requests. With the
//! feature `serde`, the rules can be read from a file:
//!
//! ```yaml
//! enabled: true
//! seed: 7
//! rules:
//!   - { rate: 0.05, inject: { error: reset } }
//!   - { rate: 0.1, inject: { latency: { min: 50ms, max: 200ms } } }
//!   - { rate: 1, inject: { status: 503 }, match: { tier: free } }
//! ```
//!
//! Each attempt draws its faults at its first poll. A call that is dropped before its first poll draws
//! nothing, and a retry draws again. The faults of one attempt apply in this order:
//!
//! 1. An error. It ends the attempt at once, without the latency.
//! 2. All latencies, added up.
//! 3. The first drawn of these: the attempt hangs, a status is returned, or the service is called and
//!    the body of its response breaks off.
//!
//! If two rules inject the same kind of fault into an attempt, the first rule applies.
//!
//! An attempt draws for all rules, even for rules that do not match its request. With the same
//! [`seed`](ChaosConfig::seed), the *n*th attempt therefore draws the same values, whatever the requests
//! and the rates are.
//!
//! Injected faults are classified like real ones. An attempt with a fault emits
//! [`Event::Chaos`](crate::Event::Chaos) once.
//!
//! Faults need the feature `chaos` *and* [`enabled`](ChaosConfig::enabled). A layer that is not enabled
//! costs one comparison: no clone, no lock and no allocation.

mod config;
mod draw;
mod future;
#[cfg(feature = "http")]
mod http;
mod inject;
mod layer;
mod matching;

#[cfg(feature = "http")]
pub use self::http::{ChaosBody, inject_http};
pub use self::{
    config::{ChaosConfig, Injection, Latency, Rule},
    future::ResponseFuture,
    inject::Injected,
    layer::{Chaos, ChaosHandle, ChaosLayer},
    matching::{HeaderMatch, Match},
};
