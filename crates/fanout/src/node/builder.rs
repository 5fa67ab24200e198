//! Describes the nodes of a plan and binds their services in one step.

use std::time::Duration;

use tower::Service;
use tower_fanout_layers::{CallContext, Priority};

use super::{BoundNode, BoundPlan};
use crate::{
    answer::{Answers, Key},
    outcome::{BranchError, Cut},
    plan::{self, NodeSpec, Plan, PlanError, Profile},
};

impl Plan {
    /// Creates a builder that describes nodes and binds their services in one step.
    #[must_use]
    pub fn builder<Req>() -> PlanBuilder<Req> {
        PlanBuilder {
            id: Self::next_id(),
            specs: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

/// Builder of a [`BoundPlan`], created by [`Plan::builder`].
pub struct PlanBuilder<Req> {
    id: u64,
    specs: Vec<NodeSpec>,
    nodes: Vec<BoundNode<Req>>,
}

impl<Req> PlanBuilder<Req> {
    /// Adds a node that calls `service`. `make` makes its request from the whole request and the
    /// answers of the nodes that the node depends on. An error of `make` is the error of the
    /// branch.
    ///
    /// By default, a node is required, has priority 0, depends on no other node, and runs for all
    /// tiers. The methods of the returned [`Node`] change that.
    ///
    /// The request `R` must implement [`CallContext`]. `()`, numbers, strings, tuples, and the
    /// containers of the standard library do, but carry no metadata. For such a request, the layers
    /// of the node apply neither the deadline nor the maximum number of retries of the fan-out, and
    /// only the run itself ends the call at the deadline. To pass the metadata on, make an
    /// `http::Request` (feature `http` of the layers) or a
    /// [`WithCall`](tower_fanout_layers::WithCall). For a type of your own without metadata, write
    /// `impl CallContext for MyRequest {}`.
    ///
    /// The error of the service must be `Into<BranchError>`. [`LayerError`], [`BoxError`], [`CallError`] and the
    /// errors of this crate are. For an error of another crate, put a [`LayerErrorLayer`] below the layers. For an
    /// error of yours, implement `From<MyError> for BranchError`.
    ///
    /// [`LayerError`]: tower_fanout_layers::LayerError
    /// [`BoxError`]: tower_fanout_layers::BoxError
    /// [`CallError`]: tower_fanout_layers::CallError
    /// [`LayerErrorLayer`]: tower_fanout_layers::LayerErrorLayer
    ///
    /// Of the metadata that `make` sets, the [key](field@tower_fanout_layers::Call::key) is kept. Without one, the
    /// node has the key of the whole request.
    pub fn node<S, R, F>(&mut self, name: &str, service: S, make: F) -> Node<'_, Req, S::Response>
    where
        S: Service<R> + Clone + Send + Sync + 'static,
        S::Response: Send + Sync + 'static,
        S::Error: Into<BranchError>,
        S::Future: Send + 'static,
        F: Fn(&Req, &Answers) -> Result<R, BranchError> + Send + Sync + 'static,
        R: CallContext + Send + 'static,
    {
        let key = Key::new(self.id, self.specs.len());
        self.specs.push(NodeSpec::new(name));
        self.nodes.push(BoundNode::new(service, make));
        Node { plan: self, key }
    }

    /// Checks the graph and returns the plan with its services.
    ///
    /// # Errors
    /// Returns all [`PlanDiagnostic`](crate::PlanDiagnostic)s that are
    /// [errors](crate::Severity::Error), such as duplicate names, unknown names and cycles.
    pub fn build(self) -> Result<BoundPlan<Req>, PlanError> {
        let plan = plan::build(self.id, self.specs)?;
        Ok(BoundPlan::new(plan, self.nodes))
    }
}

/// A node that was just added to a [`PlanBuilder`]. Its methods describe the node further.
pub struct Node<'p, Req, T> {
    plan: &'p mut PlanBuilder<Req>,
    key: Key<T>,
}

#[expect(
    clippy::must_use_candidate,
    reason = "the node is in the plan already; only readers of its answer need the key"
)]
impl<Req, T> Node<'_, Req, T> {
    /// Starts the node after `node` has ended. The node is skipped if `node` has no answer.
    pub fn after<U>(self, node: Key<U>) -> Self {
        self.describe(|spec| spec.depends_on(node.into(), true))
    }

    /// Starts the node after `node` has ended, with or without an answer.
    pub fn after_optional<U>(self, node: Key<U>) -> Self {
        self.describe(|spec| spec.depends_on(node.into(), false))
    }

    /// Like [`after`](Self::after), but with the name of the other node, which may be declared
    /// later.
    pub fn after_named(self, node: &str) -> Self {
        self.describe(|spec| spec.after(node))
    }

    /// Like [`after_optional`](Self::after_optional), but with the name of the other node, which
    /// may be declared later.
    pub fn after_optional_named(self, node: &str) -> Self {
        self.describe(|spec| spec.after_optional(node))
    }

    /// Makes the node optional: the request succeeds without its answer. The effect depends on the
    /// [`Strategy`](crate::Strategy#required-and-optional-nodes).
    pub fn optional(self) -> Self {
        self.describe(NodeSpec::optional)
    }

    /// Sets the priority of the node, from 0 (the lowest, and the default) to 9. Among nodes that
    /// are ready to start, required ones start first, then those of higher priority.
    ///
    /// If the request of the node carries metadata, the priority is also its
    /// [`Call::priority`](tower_fanout_layers::Call::priority), in place of that of the fan-out's
    /// request. It then orders the calls that wait in the queue of a concurrency limit, without regard
    /// to required and optional nodes.
    pub fn priority(self, priority: Priority) -> Self {
        self.describe(|spec| spec.priority(priority))
    }

    /// Restricts the node to callers of these tiers. By default, the node runs for all tiers.
    pub fn tiers(self, tiers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.describe(|spec| spec.tiers(tiers))
    }

    /// Sets the condition of the node, which is evaluated once per request, before anything is sent.
    ///
    /// If `when` returns `false`, the node is skipped, and so are the nodes that need its answer,
    /// required or not. If `when` returns an error, a required node fails the request, by
    /// [`SelectError::ConditionFailed`](crate::SelectError::ConditionFailed). An optional node fails
    /// with the error, without a call.
    pub fn when(
        self,
        when: impl Fn(&Req) -> Result<bool, BranchError> + Send + Sync + 'static,
    ) -> Self {
        self.describe(NodeSpec::conditional)
            .bind(|node| node.when(when))
    }

    /// Sets the time that the node is expected to take, until the [`LatencyEstimate`] of its
    /// [downstream](Self::downstream) exists.
    ///
    /// Expected times have these effects:
    ///
    /// - **Order.** Of ready nodes with the same priority that are all required or all optional, the
    ///   node with the longest expected path to a sink starts first. The path includes the node itself.
    ///   Of equal paths, the one with more nodes comes first, then the node that was declared first.
    /// - **Deadline.** The deadline of a branch is earlier than that of the run by the expected time of
    ///   its longest chain of dependents. A required node reserves no time for optional dependents. No
    ///   time is reserved if less than the node's own expected time, or less than 10 ms, would remain.
    /// - **Skips.** An optional node is [skipped](crate::SkipReason::NoTime) if the time left is less
    ///   than its expected time.
    ///
    /// An unknown expected time counts as zero.
    ///
    /// [`LatencyEstimate`]: crate::LatencyEstimate
    pub fn expected(self, expected: Duration) -> Self {
        self.describe(|spec| spec.expected(expected))
    }

    /// Sets the answer for a branch that is cut: ended without a call of its own that failed.
    ///
    /// A branch is cut if the grace period or the deadline ends it, if too little time is left to start
    /// it, or if a node that it needs has no answer. `fallback` then returns the answer at once, and the
    /// branch has the status [`Fallback`](crate::Status::Fallback). Its error or
    /// [`skipped`](crate::Branch::skipped) says what ended it. Nodes that need its answer run with the
    /// fallback. If `fallback` returns `None` or panics, the branch ends as without a fallback.
    ///
    /// `fallback` must not block. It is not called if [`Call::fallback`](field@tower_fanout_layers::Call::fallback)
    /// of the request is `false`, for a branch that is no longer needed, for a node that was skipped before
    /// the run, or for a call that has failed. The last is the task of a `FallbackLayer` in the service.
    ///
    /// ```
    /// # use tower::{BoxError, ServiceExt, service_fn};
    /// # use tower_fanout::{FanOut, Plan, ReturnWhen, Status};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let user = service_fn(|()| async { Ok::<_, BoxError>("Ada") });
    /// let slow = service_fn(|()| std::future::pending::<Result<Vec<u64>, BoxError>>());
    /// let mut plan = Plan::builder();
    /// plan.node("user", user, |(), _| Ok(()));
    /// let recs = plan.node("recs", slow, |(), _| Ok(())).optional();
    /// let recs = recs.cut_fallback(|_| Some(Vec::new())).key();
    ///
    /// let fan_out = FanOut::new(plan.build().unwrap()).return_when(ReturnWhen::Required);
    /// let answer = fan_out.oneshot(()).await.unwrap();
    /// assert_eq!(answer.get(recs), Some(&Vec::new()));
    /// assert_eq!(answer.report().branches[1].status, Status::Fallback);
    /// # }
    /// ```
    pub fn cut_fallback(self, fallback: impl Fn(Cut) -> Option<T> + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
    {
        self.bind(|node| node.cut_fallback(fallback))
    }

    /// Sets the downstream that the node calls. Its latency is learnt from the answers, unless it has a policy per key, and its
    /// worst case is used by [`Plan::check`].
    ///
    /// Without a downstream, the worst case of the node is one attempt of unbounded duration, the
    /// expected time is only the [declared](Self::expected) one, and the report contains no breaker
    /// state. Its attempts do not count towards
    /// [`Bounds::max_attempts_per_downstream`](field@crate::Bounds::max_attempts_per_downstream).
    pub fn downstream(self, profile: Profile) -> Self {
        self.describe(|spec| spec.worst_case(profile.worst_case().clone()))
            .bind(|node| node.downstream(profile))
    }

    /// Declares that the request of the node reads the answer of the node named `node`. The plan is
    /// valid only if this node depends on that one.
    pub fn reads(self, node: &str) -> Self {
        self.describe(|spec| spec.reads(node))
    }

    /// Declares that calling the service may change state. Test runs skip such nodes.
    pub fn changes_state(self) -> Self {
        self.describe(NodeSpec::changes_state)
    }

    /// Returns the key to the node's answer.
    #[must_use]
    pub fn key(self) -> Key<T> {
        self.key
    }

    /// Changes the description of the node. The node is the last one of the builder, because this
    /// `Node` has borrowed the builder since it was added.
    fn describe(self, change: impl FnOnce(NodeSpec) -> NodeSpec) -> Self {
        let spec = self.plan.specs.pop().map(change);
        self.plan.specs.extend(spec);
        self
    }

    /// Changes the bound service of the node.
    fn bind(self, change: impl FnOnce(BoundNode<Req>) -> BoundNode<Req>) -> Self {
        let node = self.plan.nodes.pop().map(change);
        self.plan.nodes.extend(node);
        self
    }
}
