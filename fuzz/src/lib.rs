//! What must hold for any bytes, one function for each thing that reads what strangers send.
//!
//! The functions are called by the fuzz targets, and, over the committed corpus and what little changes
//! make of it, by a test that runs on a stable toolchain. Each panics where a rule is broken.

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

/// A target: what the folder of its corpus is called, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
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
