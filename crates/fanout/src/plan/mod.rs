//! The validated graph of nodes, as plain data: no request type, no services, no live state.

mod build;
mod check;
mod diagnostic;
mod display;
mod location;
mod node_order;
mod profile;
mod resolve;
mod spec;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_fanout_layers::Priority;

pub(crate) use self::{build::build, node_order::NodeOrder, resolve::Reference};
pub use self::{
    diagnostic::{PlanDiagnostic, PlanError},
    location::{PlanLocation, PlanPart, Severity},
    profile::{Profile, WorstCase},
    spec::NodeSpec,
};
use crate::graph::Ancestors;

/// What a node depends on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) node: usize,
    /// Which of those that were declared it is, from 0.
    pub(crate) declared: u32,
    /// The node is skipped without an answer of it.
    pub(crate) hard: bool,
}

/// What is known of a node apart from its service.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub(crate) required: bool,
    pub(crate) priority: Priority,
    pub(crate) tiers: Vec<String>,
    pub(crate) safe: bool,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) wave: usize,
    pub(crate) conditional: bool,
    pub(crate) expected: Option<Duration>,
    pub(crate) worst_case: Option<WorstCase>,
}

impl NodeInfo {
    /// Whether the answer as a whole needs it.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// How early it starts among those that could.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.priority
    }

    /// The tiers that have it; empty for all.
    #[must_use]
    pub fn tiers(&self) -> &[String] {
        &self.tiers
    }

    /// Whether asking it changes nothing.
    #[must_use]
    pub const fn is_safe(&self) -> bool {
        self.safe
    }

    /// The nodes it comes after, by their index.
    pub fn dependencies(&self) -> impl Iterator<Item = usize> {
        self.dependencies.iter().map(|dependency| dependency.node)
    }

    /// The earliest wave it could start in if all nodes took equally long, from 0.
    #[must_use]
    pub const fn wave(&self) -> usize {
        self.wave
    }

    /// The nodes that it is skipped without, by their index.
    pub fn hard_dependencies(&self) -> impl Iterator<Item = usize> {
        let hard = self.dependencies.iter().filter(|one| one.hard);
        hard.map(|dependency| dependency.node)
    }

    /// Whether it has a condition.
    #[must_use]
    pub const fn is_conditional(&self) -> bool {
        self.conditional
    }

    /// Returns the worst cases of the downstreams that the node may ask, fallbacks last.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &WorstCase> {
        self.worst_case.iter().flat_map(WorstCase::asked)
    }

    /// Returns the maximum number of attempts of the node if each call may make `max_retries` retries,
    /// with hedges and fallbacks. A service of which nothing is known makes one attempt.
    pub(crate) fn attempts(&self, max_retries: Option<u8>) -> u32 {
        let attempts = self.asked().map(|one| one.attempts_within(max_retries));
        attempts.fold(0, u32::saturating_add).max(1)
    }

    /// Returns the longest time of the node under the same condition, or `None` if it is unbounded or
    /// unknown.
    pub(crate) fn longest(&self, max_retries: Option<u8>) -> Option<Duration> {
        self.worst_case.as_ref()?;
        let mut asked = self.asked().map(|one| one.longest_within(max_retries));
        asked.try_fold(Duration::ZERO, |sum, one| Some(sum.saturating_add(one?)))
    }

    pub(crate) fn admits(&self, tier: Option<&str>) -> bool {
        self.tiers.is_empty() || tier.is_some_and(|tier| self.tiers.iter().any(|own| own == tier))
    }
}

/// A validated dependency graph of nodes, as plain data. Cheap to clone.
///
/// [`Plan::new`] checks the descriptions of nodes; [`Plan::bind`] binds a service to each node.
/// [`Plan::builder`] does both at once.
#[derive(Clone)]
pub struct Plan {
    pub(crate) graph: Arc<PlanGraph>,
}

/// The contents of a plan. What is listed per node has one entry for each node, and nodes are named by
/// their index everywhere, so indexing by a node of the same plan cannot fail.
pub(crate) struct PlanGraph {
    /// Tells the plans of a process apart, so that a key is used with its own plan only.
    pub(crate) id: u64,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) dependents: Vec<Vec<usize>>,
    /// The nodes in topological order.
    pub(crate) order: Vec<usize>,
    pub(crate) ancestors: Ancestors,
}

impl Plan {
    /// Checks `nodes`.
    ///
    /// # Errors
    /// Returns everything that is wrong with the graph: the [`PlanDiagnostic`]s that are
    /// [errors](Severity::Error).
    pub fn new(nodes: impl IntoIterator<Item = NodeSpec>) -> Result<Self, PlanError> {
        build(Self::next_id(), nodes.into_iter().collect())
    }

    pub(crate) fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// The names of the nodes, in order of declaration.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.graph.names
    }

    /// The place of the node called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.graph.names.iter().position(|own| **own == *name)
    }

    /// What is known of the nodes, in order of declaration.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.graph.nodes
    }

    /// Returns the warnings about nodes whose conditions do not fit together.
    pub(crate) fn condition_problems(&self) -> Vec<PlanDiagnostic> {
        check::conditions(&self.graph.names, &self.graph.nodes, &self.graph.order)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.names().iter().zip(&self.graph.nodes))
            .finish()
    }
}
