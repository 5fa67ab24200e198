//! Binds a service to each node of a plan.

mod builder;
mod node_order_cache;

use std::{fmt, sync::Arc};

use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_fanout_layers::{Call, CallContext, oneshot::Oneshot, panic};

pub use self::builder::{Node, PlanBuilder};
use self::node_order_cache::NodeOrderCache;
use crate::{
    answer::Answers,
    call::{self, BoxErasedCall},
    outcome::{BranchError, Cut},
    plan::{NodeOrder, Plan, PlanGraph, Profile},
    select::SelectError,
};

/// Makes the request of a node and starts its call. The last argument returns the metadata of the
/// call and is called only if the request carries metadata.
type StartCall<Req> = Box<
    dyn Fn(&Req, &Answers, &dyn Fn() -> Call) -> Result<BoxErasedCall, BranchError> + Send + Sync,
>;

/// Returns `true` if the node is part of the request.
type Condition<Req> = Box<dyn Fn(&Req) -> Result<bool, BranchError> + Send + Sync>;

/// Returns the answer for a node that was cut, or `None` if it has none.
type CutFallback = Box<dyn Fn(Cut) -> Option<BoxErasedCall> + Send + Sync>;

/// The service, the condition and the live state of one node of a [`Plan`].
///
/// [`Plan::bind`] takes one for each node.
pub struct BoundNode<Req> {
    start: StartCall<Req>,
    when: Option<Condition<Req>>,
    cut_fallback: Option<CutFallback>,
    /// Boxed, so that a run of many nodes touches less memory.
    profile: Option<Box<Profile>>,
}

impl<Req> BoundNode<Req> {
    /// Binds `service`. `make` makes its request from the whole request and the answers of the
    /// nodes that the node depends on. An error of `make` is the error of the branch.
    ///
    /// See [`PlanBuilder::node`] for the requirements on the request `R` of the node.
    pub fn new<S, R, F>(service: S, make: F) -> Self
    where
        S: Service<R> + Clone + Send + Sync + 'static,
        S::Response: Send + Sync + 'static,
        S::Error: Into<BranchError>,
        S::Future: Send + 'static,
        F: Fn(&Req, &Answers) -> Result<R, BranchError> + Send + Sync + 'static,
        R: CallContext + Send + 'static,
    {
        let start = move |request: &Req, answers: &Answers, facts: &dyn Fn() -> Call| {
            let mut request = make(request, answers)?;
            if let Some(call) = request.call_mut() {
                let own = call.key.take();
                *call = facts();
                call.key = own.or_else(|| call.key.take());
            }
            // The future of a service that is not ready keeps its error, which need not be `Send` itself.
            let mut service = service.clone().map_err(Into::<BranchError>::into);
            Ok(call::start(Oneshot::start(&mut service, request)))
        };
        Self {
            start: Box::new(start),
            when: None,
            cut_fallback: None,
            profile: None,
        }
    }

    /// Sets the condition of the node. See [`Node::when`].
    ///
    /// Declare the condition with [`NodeSpec::conditional`](crate::NodeSpec::conditional) too. Without
    /// that, the condition is evaluated all the same, but [`Plan::check`] ignores the condition.
    #[must_use]
    pub fn when(
        mut self,
        when: impl Fn(&Req) -> Result<bool, BranchError> + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Box::new(when));
        self
    }

    /// Sets the answer for a branch that is cut. See [`Node::cut_fallback`].
    ///
    /// `T` must be the response of the service. An answer of another type does not reach readers that
    /// expect the response.
    #[must_use]
    pub fn cut_fallback<T: Send + Sync + 'static>(
        mut self,
        fallback: impl Fn(Cut) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.cut_fallback = Some(Box::new(move |cut| fallback(cut).map(call::answered)));
        self
    }

    /// Sets the downstream that the service calls. Its learnt latency and its breaker state are
    /// used.
    ///
    /// The worst case of the profile is not used here. To use it in [`Plan::check`], pass
    /// [`profile.worst_case()`](Profile::worst_case) to
    /// [`NodeSpec::worst_case`](crate::NodeSpec::worst_case) as well. [`Node::downstream`] does both.
    #[must_use]
    pub fn downstream(mut self, profile: Profile) -> Self {
        self.profile = Some(Box::new(profile));
        self
    }
}

impl Plan {
    /// Binds a service to each node. `bind` is called once per node, in order of declaration, with
    /// the index and the name of the node.
    ///
    /// ```
    /// # use tower::{BoxError, ServiceExt, service_fn};
    /// # use tower_fanout::{BoundNode, FanOut, NodeSpec, Plan};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let plan = Plan::new([NodeSpec::new("user"), NodeSpec::new("team")]).unwrap();
    /// let bound = plan.bind(|_, name| {
    ///     let name = name.to_owned();
    ///     let service = service_fn(|path: String| async move { Ok::<_, BoxError>(path) });
    ///     BoundNode::new(service, move |id: &u64, _| Ok(format!("/{name}/{id}")))
    /// });
    /// let answer = FanOut::new(bound).oneshot(7).await.unwrap();
    /// assert_eq!(answer.at::<String>(1).unwrap(), "/team/7");
    /// # }
    /// ```
    pub fn bind<Req>(&self, mut bind: impl FnMut(usize, &str) -> BoundNode<Req>) -> BoundPlan<Req> {
        let names = self.names().iter().enumerate();
        let nodes = names.map(|(node, name)| bind(node, name)).collect();
        BoundPlan::new(self.clone(), nodes)
    }
}

/// A [`Plan`] with a service bound to each node. Cheap to clone.
pub struct BoundPlan<Req> {
    inner: Arc<Inner<Req>>,
}

struct Inner<Req> {
    plan: Plan,
    /// One entry for each node of the plan.
    nodes: Vec<BoundNode<Req>>,
    order_cache: NodeOrderCache,
}

impl<Req> BoundPlan<Req> {
    /// Binds `nodes` to `plan`. Both have the same length.
    fn new(plan: Plan, nodes: Vec<BoundNode<Req>>) -> Self {
        let order_cache = NodeOrderCache::new(&plan.graph, &nodes);
        Self {
            inner: Arc::new(Inner {
                plan,
                nodes,
                order_cache,
            }),
        }
    }

    /// Returns the plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    pub(crate) fn graph(&self) -> &PlanGraph {
        &self.inner.plan.graph
    }

    /// Makes the request of `node` and starts its call. `facts` returns the metadata of the call.
    pub(crate) fn start(
        &self,
        node: usize,
        request: &Req,
        answers: &Answers,
        facts: &dyn Fn() -> Call,
    ) -> Result<BoxErasedCall, BranchError> {
        (self.inner.nodes[node].start)(request, answers, facts)
    }

    /// Returns the answer for `node`, which was cut, or `None` if it has no fallback for that or the
    /// fallback panics.
    pub(crate) fn cut_fallback(&self, node: usize, cut: Cut) -> Option<BoxErasedCall> {
        let fallback = self.inner.nodes[node].cut_fallback.as_ref()?;
        panic::catch(|| fallback(cut)).ok()?
    }

    /// Returns the downstream of `node`, if it was set.
    pub(crate) fn profile(&self, node: usize) -> Option<&Profile> {
        self.inner.nodes[node].profile.as_deref()
    }

    /// Returns the order in which ready nodes start, at most one second old at `now`.
    pub(crate) fn node_order(&self, now: Instant) -> Arc<NodeOrder> {
        let Inner {
            plan,
            nodes,
            order_cache,
        } = &*self.inner;
        order_cache.at(now, &plan.graph, nodes)
    }

    /// Evaluates the condition of `node` for `request`. A node without a condition is always part
    /// of the request.
    ///
    /// The inner error is the error of the condition. The outer error means that the condition
    /// panicked.
    pub(crate) fn holds(
        &self,
        node: usize,
        request: &Req,
    ) -> Result<Result<bool, BranchError>, SelectError> {
        let Some(when) = &self.inner.nodes[node].when else {
            return Ok(Ok(true));
        };
        panic::catch(|| when(request)).map_err(|_| SelectError::ConditionPanicked { node })
    }
}

impl<Req> Clone for BoundPlan<Req> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<Req> fmt::Debug for BoundPlan<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundPlan").field(self.plan()).finish()
    }
}
