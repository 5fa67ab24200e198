//! One request in, several services asked, one answer out.
//!
//! A [`Plan`] is a dependency graph of nodes, checked once, as plain data. A [`BoundPlan`] has a service
//! for each node. [`FanOut`] is a [`Service`] that runs it for each request: every node as soon as what it needs is there, required and important ones
//! first, no more than so many at once, all within the request's deadline. What failed, was skipped
//! or was answered by a fallback stands in the [`Report`].
//!
//! ```
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_fanout::{FanOut, Plan, Strategy};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let users = service_fn(|id: u64| async move { Ok::<_, BoxError>(format!("user {id}")) });
//! let orders = service_fn(|user: String| async move { Ok::<_, BoxError>(vec![format!("book of {user}")]) });
//! let prices = service_fn(|_: ()| async { Err::<u32, BoxError>("closed today".into()) });
//!
//! let mut plan = Plan::builder();
//! let user = plan.node("user", users, |id: &u64, _| Ok(*id)).key();
//! let orders = plan
//!     .node("orders", orders, move |_, out| Ok(out.get(user)?.clone()))
//!     .after(user)
//!     .key();
//! let price = plan.node("price", prices, |_, _| Ok(())).optional().key();
//!
//! let service = FanOut::new(plan.build().unwrap()).strategy(Strategy::Partial);
//! let answer = service.oneshot(7).await.unwrap();
//! assert_eq!(answer.get(orders).unwrap()[0], "book of user 7");
//! assert!(answer.get(price).is_none());
//! assert!(!answer.report().is_complete());
//! # }
//! ```
//!
//! A node's service may be any service that is `Clone`; [`stack`] puts the layers of
//! [`tower_fanout_layers`] around it in the order we advise.
//!
//! [`Service`]: tower::Service

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod bounds;
mod call;
mod completion;
mod error;
mod explain;
mod graph;
mod latency_estimate;
#[cfg(feature = "metrics")]
pub mod metrics;
mod node;
mod outcome;
mod plan;
mod policy;
mod report;
mod run;
mod select;
mod service;
mod simulate;
pub mod stack;
mod strategy;
mod suggest;
mod time_budget;

pub use tower_fanout_layers as layers;

pub use self::{
    answer::{Answer, Answers, Key},
    bounds::Bounds,
    error::FanOutError,
    explain::{Explained, Explanation},
    latency_estimate::LatencyEstimate,
    node::{BoundNode, BoundPlan, Node, PlanBuilder},
    outcome::{BranchError, ErrorKind, SkipReason, Status},
    plan::{
        NodeInfo, NodeSpec, Plan, PlanDiagnostic, PlanError, PlanLocation, PlanPart, Profile,
        Severity, WorstCase,
    },
    policy::Policy,
    report::{Branch, Report},
    run::{Run, RunObserver},
    select::{Brownout, Choice, SelectError, Selection},
    service::{FanOut, ResponseFuture},
    stack::Downstream,
    strategy::{ReturnWhen, Strategy, Verdict},
    suggest::nearest_name,
};

/// The code of the README runs as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
