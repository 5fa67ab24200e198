//! Laws that every tower layer should keep, scripted services and a fault server.
//!
//! | module | what is in it | ask it |
//! |---|---|---|
//! | [`laws`] | one call that tries a layer against the laws of tower | does my layer call an instance that was not ready, leak when dropped, spin, or lose a wake? |
//! | [`script`] | a service that answers, fails, waits, hangs or panics as it is told | what does my layer do when the second call hangs? |
//! | [`probe`] | a wrapper that catches broken readiness | does this stack keep the contract while my other tests run? |
//! | [`fault_server`] | a server of HTTP/1.1, HTTP/2 and TLS that breaks its answers on purpose | what does my client do when the connection is reset within the body? |
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, timeout::TimeoutLayer};
//! use tower_fanout_testkit::laws::{Laws, Numbers};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let layer = TimeoutLayer::new(Duration::from_secs(1));
//! Laws::new(Numbers, |inner| layer.layer(inner)).check().await;
//! # }
//! ```
//!
//! The feature `allocations` brings a law of the allocations per call, with an allocator that counts,
//! `http` the traffic to try layers for HTTP with, and `tls` and `h2` what the fault server speaks
//! besides HTTP/1.1.
//!
//! Everything here is made for tests: it panics where a program would return an error. Time is
//! tokio's, so `#[tokio::test(start_paused = true)]` makes a test exact and instant; the
//! [`fault_server`] alone talks through real sockets and wants a running clock.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod fault_server;
pub mod laws;
pub mod probe;
pub mod script;

/// The code of the README runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
