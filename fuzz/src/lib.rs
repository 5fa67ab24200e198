//! What must hold for any bytes, one function for each thing that reads what strangers send.
//!
//! The functions are called by the fuzz targets, and, over the committed corpus and what little changes
//! make of it, by a test that runs on a stable toolchain. Each panics where a rule is broken.

mod edge;
mod json;
mod template;
mod token;

pub use self::{
    edge::{correlation_id, retry_after},
    json::json_merge,
    template::template,
    token::token,
};

/// A target: what the folder of its corpus is called, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("correlation_id", correlation_id),
    ("json_merge", json_merge),
    ("retry_after", retry_after),
    ("template", template),
    ("token", token),
];
