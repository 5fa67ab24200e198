//! The response to the client of a fan-out: one JSON document with the results of all services, or
//! a stream of the same records, each sent when its service ends.
//!
//! Responses of services are copied without parsing them again. A document contains them byte for byte.
//! A stream contains them without the white space between their parts, so that each record is one
//! line. Numbers and strings are the same in both. A node whose response type is
//! [`Json`](crate::Json) has its response in `data`. Nodes with other types have only their
//! status and timings. The `accept` header of the request selects the [`ResponseFormat`] of the response.
//!
//! # Members
//!
//! A *service* in a response is a node, and its name is the name of the node. Times are numbers of
//! milliseconds with at most three decimals. Members are always present unless the table says
//! otherwise.
//!
//! | response | members |
//! |---|---|
//! | document of a success | `success` (`true`), `data`, `meta` |
//! | document of a failure | the members of the problem ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), `data`, `meta`; no `success` |
//! | record of a service in a stream | see `data.services` |
//! | summary of a stream | `type` (`"summary"`, NDJSON only), `success` (boolean), `data` without `services`, `meta`; for a failure also the members of the problem without `type` |
//!
//! `data`:
//!
//! | member | type | value |
//! |---|---|---|
//! | `services` | object | one record for each service in plan order, by name; not in a stream |
//! | `merged` | any | the merged document; only with one |
//! | `parallelExecutionStats` | object | see below |
//! | `executionTime` | time | duration of the run |
//! | `overhead` | time | the part of `executionTime` in which no node was in flight |
//! | `lastService` | string | the service that ended last; absent if none was started |
//! | `successRate` | number, 0 to 1 | services with an answer divided by services that were not skipped; 1 if all were skipped |
//!
//! `data.services.<name>`, and the record of a service in a stream:
//!
//! | member | type | value |
//! |---|---|---|
//! | `type` | string | `service`; only in NDJSON |
//! | `name` | string | name of the service; only in a stream |
//! | `status` | string | a [`Status`](tower_fanout::Status), such as `success` |
//! | `httpStatus` | integer | absent if unknown |
//! | `responseTime` | time | duration of the branch; 0 if it was not started |
//! | `queueTime` | time | total wait at concurrency limits; absent if 0 |
//! | `circuitBreakerState` | string | `CLOSED`, `OPEN` or `HALF_OPEN`; `CLOSED` without a breaker |
//! | `fallbackUsed` | boolean | `true` if a fallback answered |
//! | `fallbackKind` | string | `static`, `stale`, `function` or `service`; absent without a fallback |
//! | `attempts` | integer | number of attempts |
//! | `hedges` | integer | number of hedges among them; absent if 0 |
//! | `retryStoppedBy` | string | a [`RetryStopReason`](tower_fanout::layers::event::RetryStopReason); absent if no rule stopped the retries |
//! | `error` | object | `kind` (string, an [`ErrorKind`](tower_fanout::ErrorKind)) and `message` (string); only if the service failed |
//! | `skipReason` | string | a [`SkipReason`](tower_fanout::SkipReason); only if the service was skipped |
//! | `data` | any | the response of the service; absent without one, in a document with `merged`, and in a stream above [`MAX_ANSWER`] |
//!
//! `data.parallelExecutionStats`:
//!
//! | member | type | value |
//! |---|---|---|
//! | `totalServices` | integer | number of services |
//! | `successfulServices` | integer | services with an answer, fallbacks included |
//! | `failedServices`, `skippedServices`, `cancelledServices`, `fallbackServices` | integer | services with this status |
//! | `averageResponseTime`, `maxResponseTime` | time | of the services that were called; 0 if none was |
//! | `retries` | integer | attempts after the first of each service, hedges included |
//!
//! `meta`:
//!
//! | member | type | value |
//! |---|---|---|
//! | `executionMode` | string | `parallel` or `sequential`, from [`RunMeta::sequential`] |
//! | `aggregationStrategy` | string | name of the [`Strategy`](tower_fanout::Strategy::as_str) |
//! | `effective` | object | `maxConcurrency` (integer), `timeout` (integer, milliseconds), `retryAttempts` (integer): the [`EffectiveLimits`] |
//! | `correlationId`, `tier`, `planId` | string | from the [`RunMeta`] |
//! | `completed` | boolean | [`Report::is_complete`](tower_fanout::Report::is_complete) |
//! | `timedOut` | boolean | [`Report::timed_out`](field@tower_fanout::Report::timed_out) |
//! | `criticalPath` | array of strings | names of the services that determined the duration |
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{HeaderMap, Response};
//! use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
//! use std::convert::Infallible;
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_fanout::{FanOut, FanOutError, Plan, Strategy};
//! use tower_fanout_http::{correlation::CorrelationId, problem::{Code, Problem}};
//! use tower_fanout_json::{Json, problem, wire::{RunMeta, EffectiveLimits, Envelope, ResponseFormat, RunStream}};
//!
//! async fn page(fan_out: FanOut<()>, headers: &HeaderMap) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Problem> {
//!     let meta = RunMeta {
//!         sequential: false,
//!         strategy: Strategy::Partial,
//!         effective: EffectiveLimits { max_concurrency: 5, timeout: 30_000, retry_attempts: 2 },
//!         correlation_id: CorrelationId::generate(),
//!         tier: "pro".into(),
//!         plan_id: "page-1".into(),
//!     };
//!     if let ResponseFormat::Stream(framing) = ResponseFormat::of(headers) {
//!         let run = fan_out.run(()).map_err(|_| Problem::new(Code::NoServices))?;
//!         return Ok(RunStream::new(run, framing, meta).into_response().map(BodyExt::boxed_unsync));
//!     }
//!     let plan = fan_out.plan().clone();
//!     let (verdict, response) = match fan_out.oneshot(()).await {
//!         Ok(response) => (None, Box::new(response)),
//!         Err(FanOutError::Failed { verdict, response }) => (Some(verdict), response),
//!         Err(_) => return Err(Problem::new(Code::NoServices)),
//!     };
//!     let envelope = Envelope { meta: &meta, names: plan.names(), report: response.report() };
//!     let answer = |node| response.at(node);
//!     if let Some(verdict) = verdict {
//!         return Err(envelope.failure(problem(verdict), answer));
//!     }
//!     let body = envelope.success(answer, None).ok_or(Problem::new(Code::AggregateTooLarge))?;
//!     Ok(Response::new(Full::from(body).boxed_unsync()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let users = service_fn(|()| async { Ok::<_, BoxError>(Json::parse("{\"id\": 7}".into()).unwrap()) });
//! let mut plan = Plan::builder();
//! plan.node("user", users, |(), _| Ok(()));
//! let fan_out = FanOut::new(plan.build().unwrap());
//!
//! let mut headers = HeaderMap::new();
//! let whole = page(fan_out.clone(), &headers).await.unwrap().into_body().collect().await.unwrap();
//! assert!(whole.to_bytes().starts_with(b"{\"success\":true,\"data\":{\"services\":{\"user\":{"));
//!
//! headers.insert("accept", "application/x-ndjson".parse().unwrap());
//! let lines = page(fan_out, &headers).await.unwrap().into_body().collect().await.unwrap();
//! assert!(lines.to_bytes().starts_with(b"{\"type\":\"service\",\"name\":\"user\","));
//! # }
//! ```

mod accept;
mod compact;
mod envelope;
mod members;
mod service;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod timing;

pub use self::{
    accept::{ResponseFormat, StreamFormat},
    envelope::{EffectiveLimits, Envelope, RunMeta},
    stream::RunStream,
    timing::server_timing,
};

/// Maximum size of the results of all services together in a response: 8 MiB. The maximum size of the response of
/// one service is that of its client.
///
/// [`RunStream`] limits the records of all services to this size, without the summary. An [`Envelope`] limits
/// `data`.
pub const MAX_ANSWER: usize = 8 << 20;
