//! The HTTP side of tower-fanout, as layers and services for `http::Request`.

pub mod body;
pub mod client;
pub mod condition;
pub mod correlation;
#[cfg(feature = "cors")]
pub mod cors;
pub mod deadline;
pub mod forward;
pub mod guard;
pub mod json;
pub mod jwt;
pub mod log;
pub mod media_type;
pub mod merge;
pub mod problem;
pub mod proxies;
pub mod server;
pub mod stamp;
pub mod template;
pub mod trace;
pub mod wire;
