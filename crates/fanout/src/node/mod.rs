//! Binds a service to each node of a plan.

mod builder;
mod node_orders;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::time::Instant;
use tower::{Service, ServiceExt, util::Oneshot};
use tower_fanout_layers::{Call, CallContext};

pub use self::builder::{Node, PlanBuilder};
use self::node_orders::NodeOrders;
use crate::{
    answer::Answers,
    call::{self, BoxErasedCall},
    outcome::BranchError,
    plan::{NodeOrder, Plan, PlanGraph, Profile},
    select::SelectError,
};

/// Makes a node's request and starts its call. The last argument makes the facts of the call, if the
/// request takes them.
type StartCall<Req> = Box<
    dyn Fn(&Req, &Answers, &dyn Fn() -> Call) -> Result<BoxErasedCall, BranchError> + Send + Sync,
>;

/// Decides whether a node is part of a request.
type Condition<Req> = Box<dyn Fn(&Req) -> Result<bool, BranchError> + Send + Sync>;

/// What is bound to one node of a [`Plan`]: its service, its condition and its live state.
pub struct BoundNode<Req> {
    start: StartCall<Req>,
    /// The size of a branch, in bytes.
    size: usize,
    when: Option<Condition<Req>>,
    /// In a box, so that a run of many nodes touches less memory.
    profile: Option<Box<Profile>>,
}

impl<Req> BoundNode<Req> {
    /// Binds `service`. The request is made by `make`, from the whole request and the answers of the
    /// nodes that the node depends on. An error of `make` is the branch's error.
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
                *call = facts();
            }
            Ok(call::start(service.clone().oneshot(request)))
        };
        Self {
            start: Box::new(start),
            size: call::size::<Oneshot<S, R>, S::Response>(),
            when: None,
            profile: None,
        }
    }

    /// Sets the condition of the node, as described at [`Node::when`].
    #[must_use]
    pub fn when(
        mut self,
        when: impl Fn(&Req) -> Result<bool, BranchError> + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Box::new(when));
        self
    }

    /// Sets the downstream whose expected time and breaker the node uses. The worst case of the
    /// profile is not used: it belongs to the [plan](crate::NodeSpec::worst_case).
    #[must_use]
    pub fn downstream(mut self, profile: Profile) -> Self {
        self.profile = Some(Box::new(profile));
        self
    }
}

impl Plan {
    /// Binds a service to each node: `bind` is called once per node, in order of declaration, with the
    /// node's index and name.
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
    node_orders: NodeOrders,
}

impl<Req> BoundPlan<Req> {
    /// Binds `nodes` to `plan`, which has as many.
    fn new(plan: Plan, nodes: Vec<BoundNode<Req>>) -> Self {
        let node_orders = NodeOrders::new(&plan.graph, &nodes);
        Self {
            inner: Arc::new(Inner {
                plan,
                nodes,
                node_orders,
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

    /// Makes the request of `node` and starts its call. `facts` makes the facts of the call.
    pub(crate) fn start(
        &self,
        node: usize,
        request: &Req,
        answers: &Answers,
        facts: &dyn Fn() -> Call,
    ) -> Result<BoxErasedCall, BranchError> {
        (self.inner.nodes[node].start)(request, answers, facts)
    }

    pub(crate) fn branch_size(&self, node: usize) -> usize {
        self.inner.nodes[node].size
    }

    pub(crate) fn profile(&self, node: usize) -> Option<&Profile> {
        self.inner.nodes[node].profile.as_deref()
    }

    /// Returns the node_order at `now`.
    pub(crate) fn node_order(&self, now: Instant) -> Arc<NodeOrder> {
        let Inner {
            plan,
            nodes,
            node_orders,
        } = &*self.inner;
        node_orders.at(now, &plan.graph, nodes)
    }

    /// Evaluates the condition of `node` for `request`. The inner error is that of the condition; the
    /// outer one is a panic.
    pub(crate) fn holds(
        &self,
        node: usize,
        request: &Req,
    ) -> Result<Result<bool, BranchError>, SelectError> {
        let Some(when) = &self.inner.nodes[node].when else {
            return Ok(Ok(true));
        };
        catch_unwind(AssertUnwindSafe(|| when(request)))
            .map_err(|_| SelectError::Condition { node })
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
