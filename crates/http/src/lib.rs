//! The HTTP side of tower-fanout, as layers and services for `http::Request`: for any hyper or axum
//! server, one at a time or together.
//!
//! In front of a service, in the order that we advise, outermost first:
//!
//! | module | what it does |
//! |---|---|
//! | [`server`] | accepts connections, plain or TLS, and bounds each wait of a client |
//! | [`correlation`] | an id for every request, first, so that every answer and log line has it |
//! | [`proxies`] | who the client is, where proxies that are trusted say so |
//! | [`trace`] | the request's place in a trace, and baggage, by the rules of the W3C |
//! | [`log`] | a span per request, and values that are safe in a line |
//! | [`problem`] | what fails or panics below becomes problem+json |
//! | [`guard`] | a head that can be read in two ways goes no further |
//! | `cors` | what pages of other origins may ask (feature `cors`) |
//! | [`forward`] | what goes on to the next server, and a stop for circles |
//! | [`body`] | bodies within limits of size and time, decoded or refused |
//! | [`jwt`] | who asks: tokens, keys that are fetched, claims |
//! | [`deadline`] | how much time the caller gives |
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout_http::{
//!     body::BodyLimitLayer, correlation::CorrelationLayer, guard::GuardLayer, log::RequestSpanLayer,
//!     problem::ProblemLayer, trace::TraceLayer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let app = ServiceBuilder::new()
//!     .layer(CorrelationLayer::new())
//!     .layer(TraceLayer::new())
//!     .layer(RequestSpanLayer::new())
//!     .layer(ProblemLayer::new())
//!     .layer(GuardLayer::default())
//!     .layer(BodyLimitLayer::new(1 << 20, Duration::from_secs(10)))
//!     .service(service_fn(|_: Request<_>| async {
//!         Ok::<_, BoxError>(Response::new(Full::new(Bytes::from("hello"))))
//!     }));
//! let request = Request::get("/").body(Full::<Bytes>::default()).unwrap(); // it names no host
//! let response = app.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 400);
//! assert!(response.headers().contains_key("x-correlation-id"));
//! # }
//! ```
//!
//! Towards services: [`client`], one per downstream, and [`stamp`], which tells each attempt how much
//! time is left and where it stands in the trace. What is sent is made by [`template`], [`condition`]
//! says whether, and [`json`], [`merge`] and [`wire`] make one answer of all. [`media_type`] reads
//! types strictly.
//!
//! Features: `axum` (claims as an argument of handlers), `cors`, `decompression` (of requests), `tls`
//! (server and client), and `full` for all; none by default.

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
