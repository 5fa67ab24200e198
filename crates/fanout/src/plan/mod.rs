//! The validated graph of nodes that a [`FanOut`](crate::FanOut) runs.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tower::Service;
use tower_fanout_layers::{Context, Priority};

use crate::{
    answer::Answers,
    call::{Ask, Typed},
    graph,
    outcome::BranchError,
};

/// What a node depends on, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) node: usize,
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

    pub(crate) fn admits(&self, tier: Option<&str>) -> bool {
        self.tiers.is_empty() || tier.is_some_and(|tier| self.tiers.iter().any(|own| own == tier))
    }
}

/// A validated dependency graph of services; cheap to clone.
pub struct Plan<Req> {
    pub(crate) inner: Arc<Inner<Req>>,
}

pub(crate) struct Inner<Req> {
    pub(crate) id: u64,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) asks: Vec<Box<dyn Ask<Req>>>,
    pub(crate) dependents: Vec<Vec<usize>>,
    /// The nodes in topological order.
    pub(crate) order: Vec<usize>,
    /// The place of each node among all that are ready: priority, then the longest path to the
    /// end, then declaration.
    pub(crate) rank: Vec<usize>,
}

impl<Req> Plan<Req> {
    /// A plan without nodes yet.
    #[must_use]
    pub fn builder() -> PlanBuilder<Req> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PlanBuilder {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            nodes: Vec::new(),
        }
    }

    /// The names of the nodes, in order of declaration.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.inner.names
    }

    /// The place of the node called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.inner.names.iter().position(|own| **own == *name)
    }

    /// What is known of the nodes, in order of declaration.
    #[must_use]
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.inner.nodes
    }
}

impl<Req> Clone for Plan<Req> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<Req> fmt::Debug for Plan<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.names().iter().zip(&self.inner.nodes))
            .finish()
    }
}

/// Names a node and the type of its answer.
pub struct Key<T> {
    pub(crate) plan: u64,
    pub(crate) index: usize,
    answer: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The place of the node in its plan.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.index)
    }
}

/// A node as it was declared.
struct Declared<Req> {
    name: Box<str>,
    ask: Box<dyn Ask<Req>>,
    info: NodeInfo,
    after: Vec<(Reference, bool)>,
}

enum Reference {
    Key { plan: u64, index: usize },
    Name(Box<str>),
}

/// Collects the nodes of a [`Plan`].
pub struct PlanBuilder<Req> {
    id: u64,
    nodes: Vec<Declared<Req>>,
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
        S::Response: Send + 'static,
        S::Error: Into<BranchError>,
        S::Future: Send + 'static,
        F: Fn(&Req, &Answers) -> Result<R, BranchError> + Send + Sync + 'static,
        R: Context + Send + 'static,
    {
        self.nodes.push(Declared {
            name: name.into(),
            ask: Box::new(Typed {
                service,
                make,
                request: PhantomData,
            }),
            info: NodeInfo {
                required: true,
                priority: Priority::default(),
                tiers: Vec::new(),
                safe: true,
                dependencies: Vec::new(),
                wave: 0,
            },
            after: Vec::new(),
        });
        Node {
            key: Key {
                plan: self.id,
                index: self.nodes.len() - 1,
                answer: PhantomData,
            },
            plan: self,
        }
    }

    /// Checks the graph.
    ///
    /// # Errors
    /// Everything that is wrong with it: see [`PlanProblem`].
    pub fn build(self) -> Result<Plan<Req>, PlanError> {
        let names: Arc<[Box<str>]> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let mut problems = Vec::new();
        let places = places(&names, &mut problems);
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let mut asks = Vec::with_capacity(self.nodes.len());
        for node in self.nodes {
            let mut info = node.info;
            for (reference, hard) in node.after {
                match reference.resolve(self.id, &places) {
                    Ok(node) if info.dependencies.iter().any(|known| known.node == node) => {}
                    Ok(node) => info.dependencies.push(Dependency { node, hard }),
                    Err(on) => problems.push(PlanProblem::UnknownDependency {
                        node: node.name.to_string(),
                        on,
                    }),
                }
            }
            nodes.push(info);
            asks.push(node.ask);
        }
        if names.is_empty() {
            problems.push(PlanProblem::Empty);
        }
        let edges: Vec<Vec<usize>> = nodes
            .iter()
            .map(|node| node.dependencies().collect())
            .collect();
        let order = graph::sort(&edges).unwrap_or_else(|cycle| {
            let path = cycle.iter().map(|&node| names[node].to_string()).collect();
            problems.push(PlanProblem::Cycle { path });
            Vec::new()
        });
        if !problems.is_empty() {
            return Err(PlanError { problems });
        }
        let inner = Inner::new(self.id, names, nodes, asks, order, &edges);
        Ok(Plan {
            inner: Arc::new(inner),
        })
    }
}

impl<Req> Inner<Req> {
    fn new(
        id: u64,
        names: Arc<[Box<str>]>,
        mut nodes: Vec<NodeInfo>,
        asks: Vec<Box<dyn Ask<Req>>>,
        order: Vec<usize>,
        edges: &graph::Edges,
    ) -> Self {
        for (node, wave) in nodes.iter_mut().zip(graph::waves(&order, edges)) {
            node.wave = wave;
        }
        let dependents = graph::reverse(edges);
        let longest = graph::longest_paths(&order, &dependents);
        let mut by_rank: Vec<usize> = (0..nodes.len()).collect();
        by_rank.sort_by_key(|&node| std::cmp::Reverse((nodes[node].priority, longest[node])));
        let mut rank = vec![0; nodes.len()];
        for (place, node) in by_rank.into_iter().enumerate() {
            rank[node] = place;
        }
        Self {
            id,
            names,
            nodes,
            asks,
            dependents,
            order,
            rank,
        }
    }
}

/// The place of each name, and a problem for each that stands twice.
fn places<'n>(names: &'n [Box<str>], problems: &mut Vec<PlanProblem>) -> HashMap<&'n str, usize> {
    let mut places = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        if places.insert(&**name, index).is_some() {
            problems.push(PlanProblem::DuplicateName {
                name: name.to_string(),
            });
        }
    }
    places
}

impl Reference {
    fn resolve(self, plan: u64, places: &HashMap<&str, usize>) -> Result<usize, String> {
        match self {
            Self::Key { plan: own, index } if own == plan => Ok(index),
            Self::Key { .. } => Err("a key of another plan".into()),
            Self::Name(name) => places.get(&*name).copied().ok_or_else(|| name.into()),
        }
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
        self.reference(node.into(), true)
    }

    /// It starts after `node` has ended, whether that has an answer or not.
    pub fn after_optional<U>(self, node: Key<U>) -> Self {
        self.reference(node.into(), false)
    }

    /// Like [`after`](Self::after), by the name of the node, which may be declared later.
    pub fn after_named(self, node: &str) -> Self {
        self.reference(Reference::Name(node.into()), true)
    }

    /// Like [`after_optional`](Self::after_optional), by the name of the node.
    pub fn after_optional_named(self, node: &str) -> Self {
        self.reference(Reference::Name(node.into()), false)
    }

    /// The answer as a whole can do without it.
    pub fn optional(self) -> Self {
        self.edit(|info| info.required = false)
    }

    /// Among nodes that could start, those of a higher priority do.
    pub fn priority(self, priority: Priority) -> Self {
        self.edit(|info| info.priority = priority)
    }

    /// Only these tiers have it.
    pub fn tiers(self, tiers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.edit(|info| info.tiers = tiers.into_iter().map(Into::into).collect())
    }

    /// Asking it may change something, so a test run skips it.
    pub fn changes_state(self) -> Self {
        self.edit(|info| info.safe = false)
    }

    /// The key to its answer.
    #[must_use]
    pub fn key(self) -> Key<T> {
        self.key
    }

    fn reference(self, reference: Reference, hard: bool) -> Self {
        self.plan.nodes[self.key.index]
            .after
            .push((reference, hard));
        self
    }

    fn edit(self, edit: impl FnOnce(&mut NodeInfo)) -> Self {
        edit(&mut self.plan.nodes[self.key.index].info);
        self
    }
}

impl<T> From<Key<T>> for Reference {
    fn from(key: Key<T>) -> Self {
        Self::Key {
            plan: key.plan,
            index: key.index,
        }
    }
}

/// Something that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanProblem {
    /// It has no nodes.
    Empty,
    /// Two nodes have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node comes after one that is not there.
    UnknownDependency {
        /// The node.
        node: String,
        /// What it comes after.
        on: String,
    },
    /// Nodes wait for each other.
    Cycle {
        /// The nodes along the cycle; each depends on the next, and the last on the first.
        path: Vec<String>,
    },
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the plan has no nodes"),
            Self::DuplicateName { name } => write!(f, "two nodes are called \"{name}\""),
            Self::UnknownDependency { node, on } => {
                write!(
                    f,
                    "\"{node}\" depends on \"{on}\", which is not in the plan"
                )
            }
            Self::Cycle { path } => {
                f.write_str("these nodes wait for each other: ")?;
                for node in path {
                    write!(f, "{node} → ")?;
                }
                f.write_str(path.first().map_or("", String::as_str))
            }
        }
    }
}

/// Everything that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    problems: Vec<PlanProblem>,
}

impl PlanError {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[PlanProblem] {
        &self.problems
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Error for PlanError {}
