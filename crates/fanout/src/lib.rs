//! A [`Service`] that answers one request by calling several services, as a graph of dependent
//! calls.
//!
//! - [`Plan`]: the dependency graph, as validated plain data. It holds names, dependencies,
//!   priorities and tiers, and can be checked and explained without services.
//! - [`BoundPlan`]: a plan with a service for each node. [`Plan::builder`] describes the nodes and
//!   binds their services in one step. [`Plan::bind`] binds services to an existing plan.
//! - [`FanOut`]: a [`Service`] that runs a bound plan for each request. [`Strategy`] decides when
//!   the request succeeds, and [`ReturnWhen`] when it responds.
//! - [`FanOutResponse`]: the response of a `FanOut`. It holds the typed answer of each node, by
//!   [`Key`], and the report.
//! - [`Report`]: one [`Branch`] per node, with its status, duration, attempts, and error or reason
//!   for being skipped.
//!
//! These words are used throughout:
//!
//! - *Plan*: the nodes of a request and their dependencies.
//! - *Node*: one step of a plan, which makes one request to one service.
//! - *Branch*: the execution of a node in one run, with all its attempts, and its entry in the report.
//! - *Downstream*: a service that nodes call, with the policy and the state that all its calls share,
//!   such as a circuit breaker. Several nodes may call the same downstream. Envoy calls this an
//!   upstream cluster.
//! - *Call*: one use of a node's service. A branch makes one call.
//! - *Attempt*: one request that is sent to the downstream for a call. A call makes several attempts
//!   if it is retried or hedged.
//! - *Selected node*: a node that the [`Selection`] of the request names, or a direct or indirect
//!   dependency of such a node. A dependency that only skipped nodes have is not selected. By default,
//!   all nodes are selected.
//! - *Required node*: a node that is not declared optional. The [`Strategy`] decides if the run can
//!   succeed without its answer: see the [table](Strategy#required-and-optional-nodes).
//! - *Expected time*: the duration that is assumed for a node: the [`LatencyEstimate`] (none with a policy per key) of its
//!   downstream, which is a 95th percentile and not a mean, or else [`Node::expected`].
//! - *Answer*: the response of a node, as a typed value. [`FanOutResponse`] holds those of all
//!   nodes, and [`Answers`] those that the request of a node may read.
//!
//! Each node starts as soon as the nodes it depends on have ended. Among ready nodes, required ones
//! start first, then those of higher priority, then those with the longest
//! [expected path](Node::expected). At most [`max_concurrency`](FanOut::max_concurrency)
//! nodes run at once. All of them share the deadline of the request, and dropping the response
//! future cancels every call.
//!
//! ```
//! use tower::{ServiceExt, service_fn};
//! use tower_fanout::{FanOut, Plan, Strategy, layers::LayerError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let users = service_fn(|id: u64| async move { Ok::<_, LayerError>(format!("user {id}")) });
//! let orders = service_fn(|user: String| async move { Ok::<_, LayerError>(vec![format!("book of {user}")]) });
//! let prices = service_fn(|_: ()| async { Err::<u32, LayerError>("closed today".into()) });
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
//! The service of a node may be any [`Service`] that is `Clone`. A [`Downstream`] wraps it in the layers
//! of [`tower_fanout_layers`], such as retries and circuit breakers, in the recommended order.
//!
//! [`Service`]: https://docs.rs/tower/latest/tower/trait.Service.html

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod bounds;
mod call;
mod completion;
mod downstream;
mod error;
mod explain;
mod graph;
mod latency_estimate;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "serde")]
mod millis;
mod node;
mod outcome;
mod plan;
mod policy;
mod report;
mod run;
mod select;
mod service;
mod simulate;
mod strategy;
mod suggest;
mod time_budget;

pub use tower_fanout_layers as layers;

pub use self::{
    answer::{Answers, FanOutResponse, Key},
    bounds::Bounds,
    downstream::{Downstream, DownstreamService, UnmetBound},
    error::FanOutError,
    explain::{Explanation, NodeExplanation},
    latency_estimate::LatencyEstimate,
    node::{BoundNode, BoundPlan, Node, PlanBuilder},
    outcome::{BranchError, Cut, ErrorKind, SkipReason, Status, breaker_state},
    plan::{
        NodeInfo, NodeSpec, Plan, PlanDiagnostic, PlanError, PlanLocation, PlanPart, Profile,
        Severity, WorstCase,
    },
    policy::{PerKeyPolicy, Policy},
    report::{Branch, Report},
    run::{Run, RunObserver},
    select::{Brownout, Choice, SelectError, Selection},
    service::{FanOut, ResponseFuture},
    strategy::{ReturnWhen, Strategy, Verdict},
    suggest::nearest_name,
};

#[cfg(feature = "serde")]
pub use self::millis::Millis;

/// Compiles and runs the code of the README as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
