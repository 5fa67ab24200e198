//! Resilience layers for [tower](https://docs.rs/tower/0.5/tower/): deadline, timeout, concurrency
//! limit, retry, hedging, circuit breaker, client-side throttle, fallback and fault injection.
//!
//! Use one layer alone or several together, for any request type:
//!
//! - **One error type.** A layer does not change the error type of the service that it wraps. The only
//!   exceptions are [`LayerErrorLayer`] and [`CallErrorLayer`]. The error only has to be able to carry a
//!   [`Rejection`], as [`LayerError`], [`CallError`] or your own enum can.
//! - **One classifier.** A [`Classify`] decides whether a result is a success or a failure. Each layer
//!   calls the classifier that it was given. Give all layers of a stack the same one, so that retry,
//!   breaker, limit, throttle and fallback act on the same [`Class`].
//! - **One deadline per call.** Retries, pauses, queues and timeouts share the deadline of the
//!   [`Call`], and no attempt is sent if too little time is left.
//! - **No allocation on the fast path.** If the first attempt succeeds without queueing, the layers
//!   allocate nothing themselves. Clones of the request and of the response may allocate: retry, hedging
//!   and most fallback steps clone the request, and [`FallbackLayer::stale`] stores the response. The
//!   extensions of an `http::Request` and the body of `UploadLayer` are allocated too. A [`WithCall`]
//!   around the `http::Request` avoids the extensions.
//!
//! [Why these layers] compares them with those of tower and tower-resilience, each claim with its test, and
//! [Migrating] shows code before and after.
//!
//! [Why these layers]: https://github.com/tower-fanout/tower-fanout/blob/main/docs/why.md
//! [Migrating]: https://github.com/tower-fanout/tower-fanout/blob/main/docs/migrating.md
//!
//! # Layers
//!
//! The last two columns name the fields of the [`Call`] that a layer reads and writes. *Idempotence* is
//! [`CallContext::is_idempotent`].
//!
//! | layer | behaviour | reads | writes |
//! |---|---|---|---|
//! | [`DeadlineLayer`] | sets one absolute deadline for the call and ends the call there | deadline | deadline |
//! | [`TimeoutLayer`] | limits the time of one attempt, without the time in queues above | deadline, last attempt, upload | – |
//! | [`ConcurrencyLayer`] | runs at most *n* calls at once, with a short bounded queue | deadline, priority, `max_wait` | – |
//! | [`RetryLayer`] | retries failures, with backoff, jitter and a budget | deadline, `max_retries`, allowance, upload, idempotence | attempt, last attempt, `max_wait` |
//! | [`HedgeLayer`] | sends further attempts while the response is late | deadline, `max_retries`, allowance, upload, idempotence | attempt, `max_wait` |
//! | [`BreakerLayer`] | rejects calls to a service that keeps failing | – | – |
//! | [`PerKeyLayer`] | gives each key of the requests, such as the tenant, a breaker or a limit of its own | as its template | – |
//! | [`ThrottleLayer`] | rejects a share of the calls to a service that rejects most of them | – | – |
//! | [`FallbackLayer`] | responds from another source if the call failed | fallback, deadline | deadline, less the reserve for the fallback |
//! | `ChaosLayer` (feature `chaos`) | injects errors, latency and broken responses | – | – |
//! | `BodyTimeoutLayer` (feature `http`) | limits the time of a streamed response body | deadline | – |
//! | `UploadLayer` (feature `http`) | makes a request body repeatable | – | upload |
//! | [`LayerErrorLayer`], [`CallErrorLayer`] | give a service an error type that can carry a [`Rejection`] | – | – |
//! | [`EventsLayer`] | gives a sink to all layers below, for metrics and logs | – | events |
//!
//! Most layers also report [events](event), to sinks of their own and to the receivers of the call.
//!
//! # A complete stack
//!
//! The recommended order, outermost layer first:
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout_layers::{
//!     BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
//!     DeadlineLayer, FallbackLayer, LayerError, RetryConfig, RetryLayer, TimeoutLayer, WithCall,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult)?;
//! let limit = ConcurrencyLayer::new(ConcurrencyConfig::new())?
//!     .breaker(breaker.handle().clone()); // if the circuit is open, reject before queueing
//! let stack = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(ClassifyResult).response("a guest")) // sees every failure below
//!     .layer(DeadlineLayer::new(Duration::from_millis(800))?) // bounds all attempts and pauses
//!     .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult)?) // the breaker counts each attempt
//!     .layer(limit) // a call that pauses before a retry holds no permit
//!     .layer(breaker) // time in the queue is not latency of the service
//!     .layer(TimeoutLayer::new(Duration::from_millis(300))?) // nor part of the attempt's time
//!     .service(service_fn(|request: WithCall<u64>| async move {
//!         match request.get() {
//!             7 => Ok("Ada"),
//!             _ => Err(LayerError::from("no such user")),
//!         }
//!     }));
//! assert_eq!(stack.clone().oneshot(WithCall::new(7).idempotent()).await?, "Ada");
//! assert_eq!(stack.oneshot(WithCall::new(8).idempotent()).await?, "a guest");
//! # Ok(())
//! # }
//! ```
//!
//! Positions of the other layers:
//!
//! | layer | position | reason |
//! |---|---|---|
//! | [`EventsLayer`] | outermost | its sink hears the layers below only |
//! | `UploadLayer` | directly above the retry | each attempt needs a clone of the request |
//! | [`PerKeyLayer`] | at the position of its template | the state is per key, the rest is the same |
//! | [`HedgeLayer`] | instead of the retry | both around one service would multiply the attempts |
//! | [`ThrottleLayer`] | directly above the limit, with the breaker's handle | a call that the throttle rejects needs no permit and is not a failure |
//! | `BodyTimeoutLayer` | directly below the timeout | a stalled body frees its permit and counts as a failure, if breaker and limit are set to `until_body_end` |
//! | `ChaosLayer` | below all layers except those of the next line | every other layer has to handle the injected faults |
//! | [`LayerErrorLayer`] or [`CallErrorLayer`] | innermost | the layers above need an error that can carry a rejection |
//! | [`SentLayer`](event::SentLayer) | directly around the service | it reports only what no layer rejected |
//!
//! In this stack, [`DeadlineLayer`] does not limit the steps of the fallback, because it is below them.
//! A fixed response needs no time. A function or another service is limited by the deadline that the
//! request has when it reaches [`FallbackLayer`], set by the caller or by another [`DeadlineLayer`]
//! above. Without such a deadline, those steps have no time limit, and
//! [`FallbackLayer::reserve`] has no effect.
//!
//! # Rejections and errors
//!
//! A layer that ends a call itself, because a circuit is open or a deadline has passed, creates a
//! [`Rejection`]. Each layer requires `AsRejection + From<Rejection>` of the service's error.
//! Layers stack in any order, and no layer nests or boxes the error of another. These error types implement
//! both traits:
//!
//! | error type | for |
//! |---|---|
//! | [`LayerError`] | most programs: any error in a box, and rejections without a box |
//! | [`CallError<E>`] | a service with an error of its own type `E`, which stays visible in the type of the stack |
//! | your own enum | control over each conversion: see [`AsRejection`] |
//! | [`BoxError`] | services of tower and other crates; [not in every async block](#when-it-does-not-compile) |
//!
//! These layers differ:
//!
//! | layer | requirement and effect |
//! |---|---|
//! | [`LayerErrorLayer`] | accepts any error that is `Into<BoxError>`, and changes it to [`LayerError`], in a box. Take it if the error is a [`BoxError`], or if several stacks need one error type. |
//! | [`CallErrorLayer`] | accepts any error `E`, and changes it to [`CallError<E>`], without a box. Take it if the caller matches on `E`. |
//! | [`EventsLayer`] | accepts any error |
//! | `UploadLayer` | accepts any error, for an `http::Request<B>`; changes the request body to `ReplayBody<B>`, whose error is a [`BoxError`], so the error of `B` must be `Into<BoxError>` |
//! | `BodyTimeoutLayer` | accepts any error, for an `http::Request` and an `http::Response<B>`; changes the response body to `TimedBody<B>`, whose error is a [`BoxError`], so the error of `B` must be `Into<BoxError>` |
//! | `ChaosLayer` | accepts any error that its function `inject` can create |
//!
//! Around a client, create the error layer with a function that says [which errors are safe to
//! retry](CallErrorLayer::with). For reqwest and other clients on hyper, the function is
//! `tower_fanout_http::client::failure`.
//!
//! # Requirements on the service
//!
//! Every layer requires `Clone`, except [`FallbackLayer`], [`EventsLayer`], [`LayerErrorLayer`],
//! [`CallErrorLayer`], `UploadLayer` and `BodyTimeoutLayer`.
//!
//! | `poll_ready` | layers |
//! |---|---|
//! | waits for the inner service | [`RetryLayer`], [`HedgeLayer`], [`FallbackLayer`], [`EventsLayer`], [`LayerErrorLayer`], [`CallErrorLayer`], `UploadLayer`, `BodyTimeoutLayer` |
//! | is always ready | [`DeadlineLayer`], [`TimeoutLayer`], [`ConcurrencyLayer`], [`BreakerLayer`], [`PerKeyLayer`], [`ThrottleLayer`], `ChaosLayer` |
//!
//! A layer that is always ready waits for the inner service in the response future. If the inner service
//! is not ready, that instance moves into the future, and a clone replaces it in the layer. The wait is part
//! of the call: it counts towards the attempt timeout and the deadline, holds the permit of a limit and the
//! probe slot of a breaker, and is part of the latency that both measure. The wait of a retry before its
//! next attempt is not part of that attempt, but the wait of a hedge is.
//!
//! [`RetryLayer`] and [`HedgeLayer`] clone the service once more when they wrap it. They never call
//! this clone. Each attempt after the first runs on a clone of it. State that attempts should share,
//! such as a connection pool or a counter, must therefore be shared by the clones of the service.
//!
//! # When it does not compile
//!
//! If a stack lacks a trait, `stack.oneshot(request)` only reports that the bounds of `oneshot` are not satisfied.
//! Write `ServiceExt::oneshot(stack, request)` to see the missing bound and the cure. The usual causes:
//!
//! - **The error is not `From<Rejection>` or not [`AsRejection`].** Put [`LayerErrorLayer`] or
//!   [`CallErrorLayer`] innermost, or implement both traits for your error.
//! - **The request is not a [`CallContext`].** Write `impl CallContext for MyRequest {}` or send a
//!   [`WithCall`]. For an `http::Request`, turn on the feature `http`, which `ClassifyHttp` needs too. Wrap a type
//!   of another crate in a struct of yours or in `WithCall`, which the service must then take. For reqwest, send an
//!   `http::Request`.
//! - **The service is not `Clone`.** Put tower's `Buffer` around it.
//! - **The request is not `Clone`.** Retry, hedging and most fallback steps send a clone of the request. An
//!   `http::Request` is `Clone` if its body is. `UploadLayer` (feature `http`) makes any body `Clone`.
//! - **A fallback in front of a handler needs `Clone`.** Neither the request nor the response of axum is `Clone`.
//!   [`FallbackLayer::response_with`] needs no clone.
//! - **A closure classifies, and its types are unknown** ("implementation of `FnOnce` is not general enough" for
//!   a closure that returns a `Class`). Write [`classify_fn(|result, elapsed| …)`](classify::classify_fn), or write
//!   the types out: `|result: Result<&MyResponse, &MyError>, elapsed: Duration| …`.
//! - **`Infallible: From<CallError<Infallible>>` is not satisfied.** An axum `Router` needs responses instead of
//!   errors: put `ProblemLayer` of `tower-fanout-http`, or axum's `HandleErrorLayer`, outermost. The handler of
//!   `HandleErrorLayer` takes the error of the stack: a [`LayerError`] above `.layer_error()`, a
//!   `CallError<Infallible>` above `.call_error()`.
//! - **`?` cannot convert an error to [`LayerError`].** Write `.map_err(LayerError::new)?`.
//! - **A handler returns `Result<_, LayerError>`.** `LayerError` is no response: return a
//!   `Result<_, tower_fanout_http::problem::Problem>` (feature `axum`), to which `?` converts the error.
//! - **The error is a [`BoxError`], in an async block that must be `Send`.** So are the blocks in
//!   `tokio::spawn(async move { … })` and in a handler closure of axum. The compiler reports:
//!
//!   ```text
//!   error: implementation of `AsRejection` is not general enough
//!     = note: `Box<(dyn std::error::Error + Send + Sync + '0)>` must implement `AsRejection`, for any lifetime `'0`...
//!   ```
//!
//!   Use [`LayerError`] instead of [`BoxError`] in the services and closures of the stack. The compiler
//!   forgets the `'static` of the boxed error in such a block, and only a `'static` error can be searched for
//!   a rejection. `LayerError` has no lifetime. For the same reason, the cure depends on the service:
//!
//!   | service with a [`BoxError`] | cure |
//!   |---|---|
//!   | a closure, `service_fn(async move \|id: u32\| …)` | convert the error in the closure: `fetch(id).await.map_err(LayerError::new)` |
//!   | a named function, `service_fn(fetch)` | none is needed; [`LayerErrorLayer`] compiles too |
//!   | a service with a type, such as tower's `Buffer` | none is needed; [`LayerErrorLayer`] compiles too, tower's `.map_err(LayerError::new)` does not |
//! - **The same with `FnOnce` or `Into` instead of `AsRejection`.** With `Into`, a [`LayerErrorLayer`] is around a
//!   closure that returns a [`BoxError`]: see the table. With `FnOnce`, a `.map_err(…)` of the stack takes one. Or the
//!   closure of a `service_fn` takes a request with a lifetime, such as `&'static str`: take a `String`.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `http` | [`CallContext`] for `http::Request`, `ClassifyHttp`, `BodyTimeoutLayer` and `UploadLayer` |
//! | `serde` | [config] structs that can be read from a file |
//! | `schemars` | JSON Schemas of the config structs, with defaults and limits; includes `serde` |
//! | `chaos` | `ChaosLayer`, which injects faults |
//! | `tower` | `ServiceBuilderExt`, a method of tower's `ServiceBuilder` for each layer; the errors of tower's `LoadShed`, `Buffer` and `Timeout` in a [`LayerError`] or [`BoxError`] are [rejections](AsRejection) |
//! | `metrics` | `MetricsSink`, which counts the [events](event) of layers with the `metrics` facade |
//! | `tracing` | `TracingSink`, which writes the [events](event) of layers with `tracing` |

#![cfg_attr(docsrs, feature(doc_cfg))]

#[macro_use]
mod outcome_list;

pub mod breaker;
#[cfg(feature = "tower")]
mod builder;
mod call;
pub mod call_error;
#[cfg(feature = "chaos")]
pub mod chaos;
pub mod classify;
pub mod clock;
mod clone;
pub mod concurrency;
pub mod config;
mod deadline;
pub mod event;
pub mod fallback;
pub mod hedge;
mod histogram;
mod labels;
pub mod latencies;
pub mod layer_error;
pub mod oneshot;
pub mod panic;
pub mod per_key;
pub mod permit_scope;
mod rejection;
pub mod retry;
mod sharded;
mod shared_service;
mod sync;
pub mod throttle;
pub mod timeout;
mod timer;
pub mod upload;
mod window;

pub use breaker::{BreakerConfig, BreakerLayer};
#[cfg(feature = "tower")]
pub use builder::ServiceBuilderExt;
pub use call::{Call, CallContext, CallKey, Priority, RetryAllowance, WithCall};
pub use call_error::CallErrorLayer;
#[cfg(feature = "http")]
pub use classify::ClassifyHttp;
pub use classify::{Cause, Class, Classify, ClassifyResult, Failure};
pub use clone::{CloneRequest, CloneResponse, CloneService};
pub use concurrency::{ConcurrencyConfig, ConcurrencyLayer};
pub use config::ConfigError;
pub use deadline::Deadline;
pub use event::{Event, EventSink, Events, EventsLayer};
pub use fallback::FallbackLayer;
pub use hedge::{HedgeConfig, HedgeLayer};
pub use layer_error::{LayerError, LayerErrorLayer};
pub use per_key::{PerKeyConfig, PerKeyLayer};
pub use rejection::{AsRejection, BoxError, CallError, Rejection};
pub use retry::{RetryConfig, RetryLayer};
pub use throttle::{ThrottleConfig, ThrottleLayer};
#[cfg(feature = "http")]
pub use timeout::BodyTimeoutLayer;
pub use timeout::{DeadlineLayer, TimeoutLayer};
#[cfg(feature = "http")]
pub use upload::UploadLayer;

/// Runs the code of the README as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
