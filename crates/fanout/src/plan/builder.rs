//! Collects the nodes of a plan, and checks them.

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use tower::Service;
use tower_fanout_layers::{Context, Priority};

use super::{
    Dependency, Index, Inner, Key, NodeInfo, Plan, PlanError, PlanProblem, Profile, When,
    forecast::Forecaster,
};
use crate::{
    answer::Answers,
    call::{Ask, Typed},
    graph::{self, Ancestors},
    outcome::BranchError,
};

/// A node as it was declared.
struct Declared<Req> {
    name: Box<str>,
    ask: Box<dyn Ask<Req>>,
    info: NodeInfo,
    when: Option<When<Req>>,
    after: Vec<(Reference, bool)>,
    reads: Vec<Reference>,
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
    pub(super) const fn new(id: u64) -> Self {
        Self {
            id,
            nodes: Vec::new(),
        }
    }

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
                conditional: false,
                expected: None,
                profile: None,
            },
            when: None,
            after: Vec::new(),
            reads: Vec::new(),
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
        let mut conditions = Vec::new();
        let mut reads = Vec::new();
        for (index, node) in self.nodes.into_iter().enumerate() {
            let mut info = node.info;
            conditions.extend(node.when.map(|when| (index, when)));
            for reference in node.reads {
                match reference.resolve(self.id, &places) {
                    Ok(on) => reads.push((index, on)),
                    Err(on) => problems.push(PlanProblem::NotADependency {
                        node: node.name.to_string(),
                        on,
                    }),
                }
            }
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
        let ancestors = Ancestors::new(&order, &edges);
        let strange = reads
            .into_iter()
            .filter(|&(node, on)| !ancestors.contains(node, on));
        problems.extend(strange.map(|(node, on)| PlanProblem::NotADependency {
            node: names[node].to_string(),
            on: names[on].to_string(),
        }));
        if !problems.is_empty() {
            return Err(PlanError { problems });
        }
        for (node, wave) in nodes.iter_mut().zip(graph::waves(&order, &edges)) {
            node.wave = wave;
        }
        let dependents = graph::reverse(&edges);
        let inner = Inner {
            index: Arc::new(Index {
                id: self.id,
                names: Arc::clone(&names),
                ancestors,
            }),
            names,
            forecaster: Forecaster::new(&nodes, &order, &dependents),
            nodes,
            asks,
            conditions,
            dependents,
            order,
        };
        Ok(Plan {
            inner: Arc::new(inner),
        })
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

    /// It is asked only for requests for which `when` holds; else it is skipped, and so is what needs
    /// it, whether it is required or not.
    pub fn when(self, when: impl Fn(&Req) -> bool + Send + Sync + 'static) -> Self {
        self.plan.nodes[self.key.index].when = Some(Box::new(when));
        self.edit(|info| info.conditional = true)
    }

    /// How long it is expected to take, until more is known of its [downstream](Self::downstream).
    /// What is expected decides which nodes start first and how much time is kept for others.
    pub fn expected(self, expected: Duration) -> Self {
        self.edit(|info| info.expected = Some(expected))
    }

    /// The downstream that it asks: how long that takes is learnt from its answers.
    pub fn downstream(self, profile: Profile) -> Self {
        self.edit(|info| info.profile = Some(profile))
    }

    /// Its request reads the answer of the node called `node`: that must be one that it comes after.
    pub fn reads(self, node: &str) -> Self {
        let reads = &mut self.plan.nodes[self.key.index].reads;
        reads.push(Reference::Name(node.into()));
        self
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
