//! Resilience layers for [tower](tower_service), each usable alone and in any order.
//!
//! | layer | what it does | reads of the [`Call`] | writes |
//! |---|---|---|---|
//! | [`DeadlineLayer`] | gives the call one absolute deadline and ends it there | deadline | deadline |
//! | [`TimeoutLayer`] | bounds one attempt, queueing excluded | deadline, last attempt, upload | – |
//! | [`ConcurrencyLayer`] | at most *n* calls at once, with a short bounded queue | deadline, priority, longest wait | – |
//! | [`RetryLayer`] | tries again, with backoff, jitter and a budget | deadline, most retries, allowance, upload, idempotence | attempt, last attempt, longest wait |
//! | [`HedgeLayer`] | asks a second time when the first answer is late | deadline, most retries, allowance, upload, idempotence | attempt, longest wait |
//! | [`BreakerLayer`] | stops asking a service that keeps failing | – | – |
//! | [`ThrottleLayer`] | asks less of a service that refuses most | – | – |
//! | [`FallbackLayer`] | answers from somewhere else when the call failed | fallback switch, deadline | deadline, earlier by what is kept back |
//! | `ChaosLayer` (feature `chaos`) | breaks calls on purpose | – | – |
//! | `BodyTimeoutLayer` (feature `http`) | bounds the body of a streamed answer | deadline | – |
//! | `UploadLayer` (feature `http`) | lets the body of a request be sent again | – | upload |
//! | [`CallErrorLayer`] | gives a service an error type that can carry a [`Rejection`] | – | – |
//!
//! Most also tell the call's [`Events`] what they do.
//!
//! # One error type, one classifier
//!
//! A layer never changes the error type of the service it wraps. What it refuses by itself is a
//! [`Rejection`], and all it asks of the error is `From<Rejection> + AsRejection`. `BoxError`,
//! [`CallError`] and your own enum do, so layers stack in any order without nesting or boxing.
//!
//! Whether a result is a success, a failure of the service or only bad luck of ours is decided
//! once, by a [`Classify`], and every layer reads the same [`Class`].
//!
//! # The order we advise, outermost first
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout_layers::{
//!     BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer,
//!     DeadlineLayer, FallbackLayer, RetryConfig, RetryLayer, TimeoutLayer, WithCall,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult)?;
//! let limit = ConcurrencyLayer::new(ConcurrencyConfig::new())?
//!     .breaker(breaker.handle().clone()); // an open circuit must not queue
//! let stack = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(ClassifyResult).answer("a guest")) // sees every failure below
//!     .layer(DeadlineLayer::new(Duration::from_millis(800))?) // bounds all attempts and pauses
//!     .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult)?) // every attempt is counted
//!     .layer(limit) // a pause holds no permit
//!     .layer(breaker) // queueing is not the service's fault
//!     .layer(TimeoutLayer::new(Duration::from_millis(300))?) // nor does it use up the attempt's time
//!     .service(service_fn(|request: WithCall<u64>| async move {
//!         match request.get() {
//!             7 => Ok::<_, tower::BoxError>("Ada"),
//!             _ => Err("no such user".into()),
//!         }
//!     }));
//! assert_eq!(stack.clone().oneshot(WithCall::new(7)).await?, "Ada");
//! assert_eq!(stack.oneshot(WithCall::new(8)).await?, "a guest");
//! # Ok(())
//! # }
//! ```
//!
//! The others have their places too:
//!
//! | layer | where | because |
//! |---|---|---|
//! | `UploadLayer` | directly above the retries | an attempt needs a clone of the request |
//! | [`HedgeLayer`] | in the place of the retries | both around one service would multiply |
//! | [`ThrottleLayer`] | directly above the limit, with the breaker's handle | a call that it rejects needs no permit, and is no failure |
//! | `BodyTimeoutLayer` | directly below the timeout | a body that stalls frees its permit and counts as a failure, where breaker and limit last until its end |
//! | `ChaosLayer` | below all but lift | whatever it breaks, the others have to cope with |
//! | [`CallErrorLayer`] | innermost | the others need an error that can carry a refusal |
//!
//! # What a service must be
//!
//! Nearly every layer asks for `Clone`. Where the service is not ready when it is called, that
//! instance goes on waiting and a clone takes its place. [`RetryLayer`] and [`HedgeLayer`] keep a
//! spare clone, which they take when they are put around the service and never call: each attempt
//! after the first is made on a clone of it. So what attempts should share, a pool of connections
//! or a count, the clones of a service must share.
//!
//! # When it does not compile
//!
//! Of a stack that lacks something, `stack.oneshot(request)` only says that there is no `oneshot`;
//! `ServiceExt::<MyRequest>::oneshot(stack, request)` says what it lacks. That may be:
//!
//! - The service's error is not `From<Rejection>`, or not [`AsRejection`]: put [`CallErrorLayer`] innermost, map
//!   it to [`BoxError`], or implement both for it.
//! - The request is no [`CallContext`]: write `impl CallContext for MyRequest {}`, or send a [`WithCall`]. For an
//!   `http::Request` it takes the feature `http`, and so does `ClassifyHttp`.
//! - Something is not `Clone`. Every layer calls a clone of its service: put tower's `Buffer` around one
//!   that cannot be cloned. Who retries, hedges or falls back to a service sends a clone of the
//!   request: an `http::Request` is one if its body is, which `UploadLayer` (feature `http`) makes of
//!   any.
//! - A closure that classifies does not say for which types: write them out, as in
//!   `|result: Result<&MyResponse, &MyError>, elapsed: Duration| …`.
//!
//! # Features
//!
//! `http` implements [`CallContext`] for `http::Request` and brings `ClassifyHttp`; `serde` reads the
//! [config] structs from a file; `chaos` brings the layer that breaks calls on purpose.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod breaker;
mod call;
pub mod call_error;
#[cfg(feature = "chaos")]
pub mod chaos;
pub mod classify;
pub mod concurrency;
pub mod config;
mod deadline;
pub mod event;
pub mod fallback;
pub mod hedge;
mod histogram;
pub mod latencies;
mod oneshot;
#[cfg(feature = "serde")]
mod outcome_list;
pub mod permit_scope;
mod poll_clock;
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
pub use call::{Call, CallContext, Priority, RetryAllowance, WithCall};
pub use call_error::CallErrorLayer;
#[cfg(feature = "http")]
pub use classify::ClassifyHttp;
pub use classify::{Cause, Class, Classify, ClassifyResult, Failure};
pub use concurrency::{ConcurrencyConfig, ConcurrencyLayer};
pub use config::ConfigError;
pub use deadline::Deadline;
pub use event::{Event, EventSink, Events};
pub use fallback::FallbackLayer;
pub use hedge::{HedgeConfig, HedgeLayer};
pub use rejection::{AsRejection, BoxError, CallError, Rejection};
pub use retry::{RetryConfig, RetryLayer};
pub use throttle::{ThrottleConfig, ThrottleLayer};
#[cfg(feature = "http")]
pub use timeout::BodyTimeoutLayer;
pub use timeout::{DeadlineLayer, TimeoutLayer};
#[cfg(feature = "http")]
pub use upload::UploadLayer;

/// The code of the README runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
