//! Describes the nodes of a plan and binds their services at once.

use std::time::Duration;

use tower::Service;
use tower_fanout_layers::{CallContext, Priority};

use super::{BoundNode, BoundPlan};
use crate::{
    answer::{Answers, Key},
    outcome::BranchError,
    plan::{self, NodeSpec, Plan, PlanError, Profile},
};

impl Plan {
    /// Creates a builder that describes nodes and binds their services at once.
    #[must_use]
    pub fn builder<Req>() -> PlanBuilder<Req> {
        PlanBuilder {
            id: Self::next_id(),
            specs: Vec::new(),
            nodes: Vec::new(),
        }
    }
}

/// Collects the nodes of a [`Plan`], with their services.
pub struct PlanBuilder<Req> {
    id: u64,
    specs: Vec<NodeSpec>,
    nodes: Vec<BoundNode<Req>>,
}

impl<Req> PlanBuilder<Req> {
    /// Adds a node: it asks `service` with the request that `make` makes from the whole request
    /// and the answers of the nodes it comes after. An error of `make` is the branch's error.
    ///
    /// It is required, of priority 0, and for all tiers, unless what is returned here says
    /// otherwise.
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

    /// Checks the graph.
    ///
    /// # Errors
    /// Everything that is wrong with it: the [`PlanDiagnostic`](crate::PlanDiagnostic)s that are
    /// [errors](crate::Severity::Error).
    pub fn build(self) -> Result<BoundPlan<Req>, PlanError> {
        let plan = plan::build(self.id, self.specs)?;
        Ok(BoundPlan::new(plan, self.nodes))
    }
}

/// A node that was just added, to say more about it.
pub struct Node<'p, Req, T> {
    plan: &'p mut PlanBuilder<Req>,
    key: Key<T>,
}

#[expect(
    clippy::must_use_candidate,
    reason = "the node is in the plan already; the key is for those who read it"
)]
impl<Req, T> Node<'_, Req, T> {
    /// It starts after `node` has ended, and is skipped if that has no answer.
    pub fn after<U>(self, node: Key<U>) -> Self {
        self.describe(|spec| spec.depends_on(node.into(), true))
    }

    /// It starts after `node` has ended, whether that has an answer or not.
    pub fn after_optional<U>(self, node: Key<U>) -> Self {
        self.describe(|spec| spec.depends_on(node.into(), false))
    }

    /// Like [`after`](Self::after), by the name of the node, which may be declared later.
    pub fn after_named(self, node: &str) -> Self {
        self.describe(|spec| spec.after(node))
    }

    /// Like [`after_optional`](Self::after_optional), by the name of the node.
    pub fn after_optional_named(self, node: &str) -> Self {
        self.describe(|spec| spec.after_optional(node))
    }

    /// The answer as a whole can do without it.
    pub fn optional(self) -> Self {
        self.describe(NodeSpec::optional)
    }

    /// Among nodes that could start, those of a higher priority do.
    pub fn priority(self, priority: Priority) -> Self {
        self.describe(|spec| spec.priority(priority))
    }

    /// Only these tiers have it.
    pub fn tiers(self, tiers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.describe(|spec| spec.tiers(tiers))
    }

    /// Sets the condition of the node, which is evaluated once per request, before anything is sent.
    ///
    /// If `when` returns `false`, the node is skipped, and so are the nodes that need its answer,
    /// required or not. If `when` returns an error, a required node fails the request, by
    /// [`SelectError::ConditionFailed`](crate::SelectError::ConditionFailed). An optional node is
    /// skipped.
    pub fn when(
        self,
        when: impl Fn(&Req) -> Result<bool, BranchError> + Send + Sync + 'static,
    ) -> Self {
        self.describe(NodeSpec::conditional)
            .bind(|node| node.when(when))
    }

    /// How long it is expected to take, until more is known of its [downstream](Self::downstream).
    /// What is expected decides which nodes start first and how much time is kept for others.
    pub fn expected(self, expected: Duration) -> Self {
        self.describe(|spec| spec.expected(expected))
    }

    /// The downstream that it asks: how long that takes is learnt from its answers.
    pub fn downstream(self, profile: Profile) -> Self {
        self.describe(|spec| spec.worst_case(profile.worst_case().clone()))
            .bind(|node| node.downstream(profile))
    }

    /// Its request reads the answer of the node called `node`: that must be one that it comes after.
    pub fn reads(self, node: &str) -> Self {
        self.describe(|spec| spec.reads(node))
    }

    /// Asking it may change something, so a test run skips it.
    pub fn changes_state(self) -> Self {
        self.describe(NodeSpec::changes_state)
    }

    /// The key to its answer.
    #[must_use]
    pub fn key(self) -> Key<T> {
        self.key
    }

    /// Changes the node's description. The node is the last one of the builder, which is borrowed
    /// since the node was added.
    fn describe(self, change: impl FnOnce(NodeSpec) -> NodeSpec) -> Self {
        let spec = self.plan.specs.pop().map(change);
        self.plan.specs.extend(spec);
        self
    }

    fn bind(self, change: impl FnOnce(BoundNode<Req>) -> BoundNode<Req>) -> Self {
        let node = self.plan.nodes.pop().map(change);
        self.plan.nodes.extend(node);
        self
    }
}
