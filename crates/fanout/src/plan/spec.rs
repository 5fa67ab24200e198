//! The description of one node, before the plan is validated.

use std::time::Duration;

use tower_fanout_layers::Priority;

use super::{NodeInfo, Reference, WorstCase};

/// The description of one node of a [`Plan`](crate::Plan), without its service.
///
/// By default, a node is required, has priority 0, and runs for all tiers. References to other
/// nodes are by name, and those nodes may be described later.
///
/// ```
/// use tower_fanout::{NodeSpec, Plan};
///
/// let plan = Plan::new([
///     NodeSpec::new("user"),
///     NodeSpec::new("orders").after("user").optional(),
/// ])?;
/// assert_eq!(plan.index_of("orders"), Some(1));
/// # Ok::<(), tower_fanout::PlanError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(crate) name: Box<str>,
    pub(crate) info: NodeInfo,
    /// The dependencies in order of declaration. The flag is `true` for a hard dependency.
    pub(crate) after: Vec<(Reference, bool)>,
    pub(crate) reads: Vec<Reference>,
}

impl NodeSpec {
    /// Creates the description of a node named `name`.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self {
            name: name.into(),
            info: NodeInfo {
                required: true,
                priority: Priority::default(),
                tiers: Vec::new(),
                safe: true,
                dependencies: Vec::new(),
                conditional: false,
                expected: None,
                worst_case: None,
            },
            after: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Starts the node after `node` has ended. The node is skipped if `node` has no answer.
    #[must_use]
    pub fn after(self, node: &str) -> Self {
        self.depends_on(Reference::Name(node.into()), true)
    }

    /// Starts the node after `node` has ended, with or without an answer.
    #[must_use]
    pub fn after_optional(self, node: &str) -> Self {
        self.depends_on(Reference::Name(node.into()), false)
    }

    /// Declares that the request of the node reads the answer of `node`, which must be one of its
    /// direct or indirect dependencies.
    #[must_use]
    pub fn reads(mut self, node: &str) -> Self {
        self.reads.push(Reference::Name(node.into()));
        self
    }

    /// Makes the node optional: the request succeeds without its answer. The effect depends on the
    /// [`Strategy`](crate::Strategy#required-and-optional-nodes).
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.info.required = false;
        self
    }

    /// Sets the priority, from 0 (the lowest, and the default) to 9. Among ready nodes, required ones
    /// start first, then those of higher priority. See [`Node::priority`](crate::Node::priority).
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.info.priority = priority;
        self
    }

    /// Restricts the node to callers of these tiers.
    #[must_use]
    pub fn tiers(mut self, tiers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.info.tiers = tiers.into_iter().map(Into::into).collect();
        self
    }

    /// Declares that the node has a condition, so that [`Plan::check`](crate::Plan::check) warns
    /// about nodes that need its answer.
    ///
    /// The condition itself is bound with the service, by
    /// [`BoundNode::when`](crate::BoundNode::when). If none is bound, the node runs for every
    /// request, as if its condition were always true.
    #[must_use]
    pub fn conditional(mut self) -> Self {
        self.info.conditional = true;
        self
    }

    /// Sets the expected time, which is used until enough is learnt about the node's downstream.
    /// Expected times decide which ready nodes start first and how much time is reserved for later
    /// nodes: see [`Node::expected`](crate::Node::expected).
    #[must_use]
    pub fn expected(mut self, expected: Duration) -> Self {
        self.info.expected = Some(expected);
        self
    }

    /// Sets the worst case of the node's call, which [`Plan::check`](crate::Plan::check) uses. By
    /// default, it is unknown.
    ///
    /// The profile that it comes from also belongs to the bound node: pass it to
    /// [`BoundNode::downstream`](crate::BoundNode::downstream), which uses its latency and its
    /// breaker.
    #[must_use]
    pub fn worst_case(mut self, worst_case: WorstCase) -> Self {
        self.info.worst_case = Some(worst_case);
        self
    }

    /// Declares that calling the service may change state, so that test runs skip the node.
    #[must_use]
    pub fn changes_state(mut self) -> Self {
        self.info.safe = false;
        self
    }

    pub(crate) fn depends_on(mut self, reference: Reference, hard: bool) -> Self {
        self.after.push((reference, hard));
        self
    }
}
