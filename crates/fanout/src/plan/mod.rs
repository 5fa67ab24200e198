//! The validated graph of nodes, as plain data: no request type, no services, no live state.

mod build;
mod check;
mod diagnostic;
mod node_order;
mod profile;
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

pub(crate) use self::{build::build, node_order::NodeOrder};
pub use self::{
    diagnostic::{PlanDiagnostic, PlanError, PlanLocation, PlanPart, Severity},
    profile::{Profile, WorstCase},
    spec::NodeSpec,
};
use crate::graph::Ancestors;

/// A reference from one node to another.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Key { plan: u64, index: usize },
    Name(Box<str>),
}

/// A dependency of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Index of the node that is depended on.
    pub(crate) node: usize,
    /// Position in the node's declared dependencies, from 0.
    pub(crate) declared: u32,
    /// `true` if the dependent node is skipped when this one has no answer.
    pub(crate) hard: bool,
}

/// The description of a node in a validated [`Plan`], without its service.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub(crate) required: bool,
    pub(crate) priority: Priority,
    pub(crate) tiers: Vec<String>,
    pub(crate) safe: bool,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) conditional: bool,
    pub(crate) expected: Option<Duration>,
    pub(crate) worst_case: Option<WorstCase>,
}

impl NodeInfo {
    /// Returns `true` unless the node is declared optional. The
    /// [`Strategy`](crate::Strategy#required-and-optional-nodes) decides what that means.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.required
    }

    /// Returns the indices of the nodes that the node directly depends on, with or without needing
    /// their answers.
    pub fn dependencies(&self) -> impl Iterator<Item = usize> {
        self.dependencies.iter().map(|dependency| dependency.node)
    }

    /// Returns the indices of those direct dependencies without whose answers the node is skipped.
    pub fn hard_dependencies(&self) -> impl Iterator<Item = usize> {
        let hard = self.dependencies.iter().filter(|one| one.hard);
        hard.map(|dependency| dependency.node)
    }

    /// Returns the worst cases of the downstreams that the node may call, fallbacks last.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &WorstCase> {
        self.worst_case.iter().flat_map(WorstCase::asked)
    }

    /// Returns the maximum number of attempts of the node, with hedges and fallbacks, if each call
    /// may make `max_retries` retries. A node without a known worst case makes one attempt.
    pub(crate) fn attempts(&self, max_retries: Option<u8>) -> u32 {
        let attempts = self.asked().map(|one| one.attempts_within(max_retries));
        attempts.fold(0, u32::saturating_add).max(1)
    }

    /// Returns the longest time of the node if each call may make `max_retries` retries, or `None`
    /// if it is unbounded or unknown.
    pub(crate) fn longest(&self, max_retries: Option<u8>) -> Option<Duration> {
        self.worst_case.as_ref()?;
        let mut asked = self.asked().map(|one| one.longest_within(max_retries));
        asked.try_fold(Duration::ZERO, |sum, one| Some(sum.saturating_add(one?)))
    }

    /// Returns `true` if a caller of `tier` may use the node.
    pub(crate) fn admits(&self, tier: Option<&str>) -> bool {
        self.tiers.is_empty() || tier.is_some_and(|tier| self.tiers.iter().any(|own| own == tier))
    }
}

/// A validated dependency graph of nodes, as plain data. Cheap to clone.
///
/// [`Plan::new`] checks the descriptions of nodes, and [`Plan::bind`] binds a service to each node.
/// [`Plan::builder`] does both in one step.
#[derive(Clone)]
pub struct Plan {
    pub(crate) graph: Arc<PlanGraph>,
}

/// The contents of a plan. Each list has one entry per node, and nodes are always referred to by
/// index, so indexing by a node of the same plan cannot fail.
pub(crate) struct PlanGraph {
    /// Distinguishes the plans of a process, so that a key works only with its own plan.
    pub(crate) id: u64,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) dependents: Vec<Vec<usize>>,
    /// The nodes in topological order.
    pub(crate) order: Vec<usize>,
    pub(crate) ancestors: Ancestors,
}

impl Plan {
    /// Validates `nodes` and builds a plan.
    ///
    /// # Errors
    /// Returns all [`PlanDiagnostic`]s that are [errors](Severity::Error).
    pub fn new(nodes: impl IntoIterator<Item = NodeSpec>) -> Result<Self, PlanError> {
        build(Self::next_id(), nodes.into_iter().collect())
    }

    /// Returns an id that no other plan of this process has.
    pub(crate) fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the names of the nodes, in order of declaration.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.graph.names
    }

    /// Returns the index of the node named `name`, or `None` if the plan has no such node.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.graph.names.iter().position(|own| **own == *name)
    }

    /// Returns the descriptions of the nodes, in order of declaration.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.graph.nodes
    }

    /// Returns the indices of the nodes in topological order: each node after those that it depends on.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.graph.order
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.names().iter().zip(&self.graph.nodes))
            .finish()
    }
}
