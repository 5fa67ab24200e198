//! Tower layers for HTTP services, an HTTP server, and an HTTP client for downstream services.
//!
//! You can use each module by itself, in front of any hyper or axum service.
//!
//! # Terms
//!
//! - A *downstream* is a service that your service calls (in Envoy: an upstream cluster). The names of some
//!   problem codes say "upstream" for it.
//! - A *caller* is the client that sends a request to your service.
//! - *Call metadata* is the [`Call`](tower_fanout_layers::Call) of a request: its deadline, attempt number,
//!   priority and events. It is in the extensions of the request, or in a
//!   [`WithCall`](tower_fanout_layers::WithCall) around the request.
//!
//! # Modules
//!
//! These modules have layers, in the recommended order, outermost first:
//!
//! | module | feature | contents |
//! |---|---|---|
//! | [`correlation`] | | correlation ids for requests, responses and log lines |
//! | [`forwarded`] | | the client address, as trusted proxies report it |
//! | [`trace`] | | propagation of W3C trace context and baggage |
//! | [`log`] | | a tracing span per request, and log values without control characters |
//! | [`problem`] | | problem details (RFC 9457) for errors and panics, with a code each |
//! | [`guard`] | | rejection of requests whose head is ambiguous or not supported |
//! | `cors` | `cors` | cross-origin resource sharing |
//! | [`forward`] | | hop-by-hop headers, an allow list of forwarded headers, loop detection |
//! | [`body`] | | size and time limits for request bodies; decoding with `decompression` |
//! | [`deadline`] | | deadlines from request headers |
//! | `jwt` | `jwt` | verification of JSON Web Tokens, with keys from a JWKS URL (`JwtLayer`); claims in headers for inner services (`PropagateClaimsLayer`, inside `JwtLayer`); an extractor with `axum` |
//!
//! These modules have no layers:
//!
//! | module | feature | contents |
//! |---|---|---|
//! | `extract` | `axum` | call metadata and the remaining time as arguments of axum handlers |
//! | `server` | `server` | a server, plain or TLS, with timeouts for idle and slow clients; those for request bodies are in [`body`] |
//! | [`media_type`] | | a strict parser for media types |
//! | [`service`] | | the services that several of the layers share |
//!
//! For calls to downstream services, outermost first:
//!
//! | module | feature | contents |
//! |---|---|---|
//! | [`attempt_headers`] | | a layer for the headers of each attempt: number, remaining time, trace parent |
//! | `client` | `client` | a client for one downstream: pooled connections, plain or TLS, and limits; `client::failure` for the errors of other clients on hyper, such as reqwest |
//!
//! Your service adds the correlation id, the trace context, the hop count and the forwarded headers of
//! the caller to a downstream request itself. The docs of the module `client` have an example of such a
//! request and of the layers above the client.
//!
//! # Example
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout_http::{
//!     body::BodyLimitLayer, correlation::CorrelationLayer, guard::GuardLayer, log::RequestSpanLayer,
//!     problem::ProblemLayer, trace::TraceLayer,
//! };
//! use tower_fanout_layers::LayerError;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = ServiceBuilder::new()
//!     .layer(CorrelationLayer::default())
//!     .layer(TraceLayer::new())
//!     .layer(RequestSpanLayer::new())
//!     .layer(ProblemLayer::new())
//!     .layer(GuardLayer::default())
//!     .layer(BodyLimitLayer::default())
//!     .service(service_fn(|_: Request<_>| async {
//!         Ok::<_, LayerError>(Response::new(Full::new(Bytes::from("hello"))))
//!     }));
//! let request = Request::get("/").body(Full::<Bytes>::default()).unwrap(); // without a `Host` header
//! let response = app.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 400);
//! assert!(response.headers().contains_key("x-correlation-id"));
//! # }
//! ```
//!
//! # Features
//!
//! No feature is on by default. Each one adds dependencies:
//!
//! | feature | adds |
//! |---|---|
//! | `axum` | [`Problem`](problem::Problem) as a response of axum handlers, extractors of call metadata and, with `jwt`, of claims |
//! | `client` | the client for downstream services, on hyper |
//! | `cors` | `cors`, on tower-http |
//! | `decompression` | decoding of request bodies with gzip and Brotli |
//! | `jwt` | `jwt`, on aws-lc; enables `client` to fetch keys |
//! | `schemars` | JSON Schemas of the words that a file has for `client`, `jwt` and `forwarded`, and the limits of config structs; includes their reading with serde |
//! | `server` | `server`, on hyper |
//! | `tls` | TLS for `client` and `server`, on rustls and aws-lc |
//! | `full` | all of the above except `schemars` |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod attempt_headers;
pub mod body;
mod bounds;
#[cfg(feature = "client")]
pub mod client;
pub mod correlation;
#[cfg(feature = "cors")]
pub mod cors;
pub mod deadline;
#[cfg(feature = "axum")]
pub mod extract;
pub mod forward;
pub mod forwarded;
pub mod guard;
mod headers;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod log;
pub mod media_type;
#[cfg(all(feature = "tls", any(feature = "client", feature = "server")))]
mod pem;
pub mod problem;
#[cfg(feature = "server")]
pub mod server;
pub mod service;
#[cfg(any(feature = "client", all(feature = "server", feature = "tls")))]
mod tls_error;
pub mod trace;

/// Runs the code of the README as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
