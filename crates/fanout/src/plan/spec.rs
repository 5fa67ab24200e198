//! The description of one node, before the plan is checked.

use std::time::Duration;

use tower_fanout_layers::Priority;

use super::{NodeInfo, WorstCase, resolve::Reference};

/// Describes one node of a [`Plan`](crate::Plan), apart from its service.
///
/// A node is required, of priority 0 and for all tiers, unless a setter says otherwise. Other nodes are
/// named, and may be described later.
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
    /// The dependencies in order of declaration, each with `true` if it is hard.
    pub(crate) after: Vec<(Reference, bool)>,
    pub(crate) reads: Vec<Reference>,
}

impl NodeSpec {
    /// Creates the description of a node called `name`.
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
                wave: 0,
                conditional: false,
                expected: None,
                worst_case: None,
            },
            after: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Lets the node start after `node` has ended. It is skipped if `node` has no answer.
    #[must_use]
    pub fn after(self, node: &str) -> Self {
        self.depends_on(Reference::Name(node.into()), true)
    }

    /// Lets the node start after `node` has ended, with or without an answer.
    #[must_use]
    pub fn after_optional(self, node: &str) -> Self {
        self.depends_on(Reference::Name(node.into()), false)
    }

    /// Declares that the node's request reads the answer of `node`, which must be one of its direct or
    /// indirect dependencies.
    #[must_use]
    pub fn reads(mut self, node: &str) -> Self {
        self.reads.push(Reference::Name(node.into()));
        self
    }

    /// Makes the node optional: the answer as a whole can do without it.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.info.required = false;
        self
    }

    /// Sets the priority. Among nodes that could start, those of a higher priority start first.
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

    /// Declares that the node has a condition. The condition itself is bound with the service, by
    /// [`BoundNode::when`](crate::BoundNode::when).
    #[must_use]
    pub fn conditional(mut self) -> Self {
        self.info.conditional = true;
        self
    }

    /// Sets the expected time, until more is learnt of the node's downstream. LatencyEstimate times decide
    /// which nodes start first and how much time is reserved for others.
    #[must_use]
    pub fn expected(mut self, expected: Duration) -> Self {
        self.info.expected = Some(expected);
        self
    }

    /// Sets the worst case of the node's call, by default unknown.
    #[must_use]
    pub fn worst_case(mut self, worst_case: WorstCase) -> Self {
        self.info.worst_case = Some(worst_case);
        self
    }

    /// Declares that the node may change something, so that a test run skips it.
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
