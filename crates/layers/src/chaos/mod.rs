//! Break calls on purpose, innermost of all, to see what the layers above make of it.
//!
//! What is broken is data, a list of [`Rule`]s: into which share of the attempts, of which requests,
//! and what is injected. With feature `serde` it is read from a file:
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
//! Every attempt draws by itself, at its first poll: a call that is dropped before it has drawn
//! nothing, and a retry draws anew. Of what it has drawn, an error comes first, which saves the wait;
//! then the latencies, added up; then a hang, a made-up answer, or the call of the service, the body
//! of whose answer breaks off. Where two rules want the same of one attempt, the first has its way.
//!
//! An attempt draws for all rules, also for those that are not for its request. So one
//! [`seed`](ChaosConfig::seed) deals the same to the *n*th attempt whatever the requests are like
//! and however the rates are changed.
//!
//! What is injected is classified as if it were real. An attempt that has drawn anything tells
//! [`Event::Chaos`](crate::Event::Chaos), once.
//!
//! It needs the feature `chaos` *and* [`enabled`](ChaosConfig::enabled). A layer that is not
//! enabled costs a branch: it clones, locks and allocates nothing.

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
