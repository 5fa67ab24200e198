//! Test tools for [tower](https://docs.rs/tower) layers and HTTP clients.
//!
//! | module | purpose | example question |
//! |---|---|---|
//! | [`laws`] | Checks of the tower contract for your layer. | Does my layer call an instance that is not ready, leak a permit when a call is dropped, spin, or lose a wakeup? |
//! | [`script`] | A service that responds, fails, delays, hangs or panics as scripted. | Does my layer retry when the second call hangs? |
//! | [`assert_ready`] | A wrapper that detects calls without readiness. | Does this stack keep the `poll_ready` contract during my other tests? |
//! | [`fault_server`] | A server for HTTP/1.1, HTTP/2 and TLS that breaks its responses on purpose. | Does my client report an error when the connection is reset in the body? |
//!
//! # Checking a layer
//!
//! Add the crate, `tower` and tokio to the dev-dependencies, with the features `macros`, `rt` and
//! `test-util` of tokio. [`Laws::new`](laws::Laws::new) takes the requests to send and a closure that
//! puts your layer around an inner service:
//!
//! ```
//! use std::time::Duration;
//! use tower::{Layer, timeout::TimeoutLayer};
//! use tower_fanout_testkit::laws::{Laws, Numbers};
//!
//! #[tokio::test(start_paused = true)]
//! async fn timeout_layer_passes_the_laws() {
//!     let layer = TimeoutLayer::new(Duration::from_secs(1));
//!     Laws::new(Numbers, |inner| layer.layer(inner)).check().await;
//! }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! #     let layer = TimeoutLayer::new(Duration::from_secs(1));
//! #     Laws::new(Numbers, |inner| layer.layer(inner)).check().await;
//! # }
//! ```
//!
//! A violation fails the test with the name of the law, for example
//! `law: cancellation: the next call failed after a call was dropped at poll 3`. For HTTP layers,
//! enable the feature `http` and use `laws::Http` instead of [`Numbers`](laws::Numbers).
//!
//! # Testing a client against a fault
//!
//! A [`FaultServer`](fault_server::FaultServer) listens on a loopback port. Choose a fault from the
//! [list](fault_server#choosing-a-fault), send your client to [`url`](fault_server::FaultServer::url),
//! and check its error:
//!
//! ```
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//! use tower_fanout_testkit::fault_server::{Fault, FaultServer};
//!
//! /// Your client. This one just reads until the connection ends.
//! async fn get(server: &FaultServer) -> std::io::Result<String> {
//!     let mut stream = TcpStream::connect(server.addr()).await?;
//!     stream.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await?;
//!     let mut response = String::new();
//!     stream.read_to_string(&mut response).await?;
//!     Ok(response)
//! }
//!
//! #[tokio::test]
//! async fn reset_in_body_is_an_error() {
//!     let server = FaultServer::start(Fault::reset_in_body()).await;
//!     let error = get(&server).await.unwrap_err();
//!     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
//!     assert_eq!(server.stats().requests.len(), 1);
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! #     let server = FaultServer::start(Fault::reset_in_body()).await;
//! #     let error = get(&server).await.unwrap_err();
//! #     assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
//! #     assert_eq!(server.stats().requests.len(), 1);
//! # }
//! ```
//!
//! # Time
//!
//! All modules use tokio's clock. `#[tokio::test(start_paused = true)]` makes tests of layers exact
//! and instant. The [`fault_server`] uses real sockets, so its tests need a running clock.
//!
//! # Features
//!
//! All features are off by default.
//!
//! - `allocations`: the law of heap allocations per call. Installs a counting allocator for the whole
//!   test binary.
//! - `http`: `laws::Http`, the traffic for HTTP layers.
//! - `tls`: TLS and certificates for the [`fault_server`].
//! - `h2`: HTTP/2 for the [`fault_server`].
//!
//! # Panics
//!
//! This crate is made for tests, so it panics where a library would return an error.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod assert_ready;
pub mod fault_server;
pub mod laws;
pub mod script;

/// The code of the README runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
