//! JSON composition: one JSON document from the responses of several services.
//!
//! Values are checked once and then only copied: numbers and text stay byte for byte as the service
//! wrote them. White space is removed only between the members of an object that a [`filter`] or a
//! [`merge`] writes again, and everywhere between values in a [stream](wire::RunStream).
//!
//! The words of [`tower_fanout`] are used here too:
//!
//! - *Plan*: the nodes of a request and their dependencies.
//! - *Node*: one step of a plan, which makes one request to one service.
//! - *Branch*: the execution of a node in one run, with all its attempts, and its entry in the report.
//! - *Downstream*: a service that nodes call, with the policy and the state that all its calls share.
//!   Envoy calls this an upstream cluster.
//! - *Call*: one use of a node's service. A branch makes one call.
//! - *Attempt*: one request that is sent to the downstream for a call. A call makes several attempts
//!   if it is retried or hedged.
//! - *Answer*: the response of a node, here usually a [`Json`] value.
//! - *Template*: a request with placeholders, from which a node makes its request.
//!
//! | module | contents |
//! |---|---|
//! | crate root | [`Json`], a checked value; [`branch_error`] and [`problem`], which convert errors |
//! | [`response`] | layers that read responses as JSON and judge their status |
//! | [`filter`] | selection and renaming of the members of an answer |
//! | [`merge`] | one document of several answers, in the order of the plan |
//! | [`template`] | requests with placeholders, each value escaped for its position |
//! | [`condition`] | expressions that decide whether a node runs |
//! | [`wire`] | the response to the client, as one document or as a stream |
//!
//! # Example
//!
//! Two services are called at once, the second with a filter, and their answers become one object:
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout::{FanOut, Plan};
//! use tower_fanout_http::client::ClientError;
//! use tower_fanout_json::{
//!     Json,
//!     filter::{FieldFilter, FieldFilterConfig},
//!     merge::{Merge, MergeConfig, MergeMode},
//!     response::{AcceptLayer, JsonLayer},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! // In a program this is a `tower_fanout_http::client::Client`.
//! let downstream = |body: &'static str| {
//!     service_fn(move |_: Request<Bytes>| async move {
//!         let response = Response::builder().header("content-type", "application/json");
//!         Ok::<_, ClientError>(response.body(Bytes::from(body)).unwrap())
//!     })
//! };
//! let user = downstream(r#"{"id": 7, "name": "Ada"}"#);
//! let orders = downstream(r#"{"total": 1.10, "internal": true}"#);
//!
//! let public = FieldFilterConfig::new().deny(["internal".to_owned()].into());
//! let public = FieldFilter::new(public).unwrap();
//! let layers = |filter: FieldFilter| {
//!     ServiceBuilder::new()
//!         .layer(AcceptLayer::default())
//!         .layer(JsonLayer::new().filter(filter, []))
//! };
//!
//! let mut plan = Plan::builder();
//! let request = |(): &(), _: &_| Ok(Request::new(Bytes::new()));
//! plan.node("user", layers(FieldFilter::default()).service(user), request);
//! plan.node("orders", layers(public).service(orders), request);
//! let answer = FanOut::new(plan.build().unwrap()).oneshot(()).await.unwrap();
//!
//! let parts = ["user", "orders"].into_iter().enumerate();
//! let parts = parts.map(|(node, name)| (name, answer.at(node).unwrap()));
//! let merge = Merge::new(MergeConfig::new().mode(MergeMode::Flat)).unwrap();
//! let document: Json = merge.merge(parts).unwrap();
//! assert_eq!(document.as_raw(), r#"{"id":7,"name":"Ada","total":1.10}"#);
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod check;
pub mod condition;
mod error;
pub mod filter;
pub mod merge;
pub mod response;
pub mod template;
pub mod wire;

pub use self::{
    check::{BadJson, Json, MAX_DEPTH, Value},
    error::{branch_error, problem},
};

/// The code of the README runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
