//! Fuzz targets: one function per parser of untrusted input.
//!
//! Each function takes arbitrary bytes and panics if its invariant does not hold. cargo-fuzz calls it on
//! a nightly toolchain. The test `corpus` calls it on a stable toolchain, with the committed corpus
//! and random mutations of it.

mod condition;
mod edge;
mod guard;
mod json;
mod jwks;
mod media_type;
mod proxies;
mod template;
mod token;
mod trace;

pub use self::{
    condition::condition,
    edge::{correlation_id, retry_after},
    guard::guard,
    json::json_merge,
    jwks::jwks,
    media_type::media_type,
    proxies::proxies,
    template::template,
    token::token,
    trace::trace,
};

/// A fuzz target: the name of its folder in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("condition", condition),
    ("correlation_id", correlation_id),
    ("guard", guard),
    ("json_merge", json_merge),
    ("jwks", jwks),
    ("media_type", media_type),
    ("proxies", proxies),
    ("retry_after", retry_after),
    ("template", template),
    ("token", token),
    ("trace", trace),
];
