//! Collects the nodes of a plan, and checks them.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use tower::Service;
use tower_fanout_layers::{Context, Priority};

use super::{
    Dependency, Index, Inner, Key, NodeInfo, Plan, PlanError, PlanPart, Profile, When,
    check::{self, Read},
    forecast::Forecaster,
    resolve::{Reference, Resolver},
};
use crate::{
    answer::Answers,
    call::{Ask, Typed},
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
        S::Response: Send + Sync + 'static,
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
    /// Everything that is wrong with it: the [`PlanProblem`](crate::PlanProblem)s that are
    /// [errors](crate::Severity::Error).
    pub fn build(self) -> Result<Plan<Req>, PlanError> {
        let names: Arc<[Box<str>]> = self.nodes.iter().map(|node| node.name.clone()).collect();
        let mut resolver = Resolver::new(self.id, &names);
        let mut parts = Parts::default();
        for node in self.nodes {
            parts.add(node, &mut resolver);
        }
        let mut problems = resolver.problems;
        let graph = check::graph(
            &names,
            &parts.nodes,
            &parts.reads,
            &parts.loose,
            &mut problems,
        );
        if !problems.is_empty() {
            return Err(PlanError { problems });
        }
        for (node, wave) in parts.nodes.iter_mut().zip(&graph.waves) {
            node.wave = *wave;
        }
        let inner = Inner {
            index: Arc::new(Index {
                id: self.id,
                names: Arc::clone(&names),
                ancestors: graph.ancestors,
            }),
            names,
            forecaster: Forecaster::new(&parts.nodes, &graph.order, &graph.dependents),
            nodes: parts.nodes,
            asks: parts.asks,
            conditions: parts.conditions,
            dependents: graph.dependents,
            order: graph.order,
        };
        Ok(Plan {
            inner: Arc::new(inner),
        })
    }
}

/// The nodes of a plan, taken apart.
struct Parts<Req> {
    nodes: Vec<NodeInfo>,
    asks: Vec<Box<dyn Ask<Req>>>,
    conditions: Vec<(usize, When<Req>)>,
    reads: Vec<Read>,
    /// Nodes that come after something that is not known.
    loose: Vec<usize>,
}

impl<Req> Default for Parts<Req> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            asks: Vec::new(),
            conditions: Vec::new(),
            reads: Vec::new(),
            loose: Vec::new(),
        }
    }
}

impl<Req> Parts<Req> {
    fn add(&mut self, node: Declared<Req>, resolver: &mut Resolver<'_>) {
        let (index, mut info) = (self.nodes.len(), node.info);
        self.conditions.extend(node.when.map(|when| (index, when)));
        for (place, reference) in node.reads.into_iter().enumerate() {
            let on = resolver.resolve(index, PlanPart::Reads(place), reference);
            self.reads.extend(on.map(|on| Read {
                node: index,
                place,
                on,
            }));
        }
        for (place, (reference, hard)) in node.after.into_iter().enumerate() {
            let Some(on) = resolver.resolve(index, PlanPart::After(place), reference) else {
                self.loose.push(index);
                continue;
            };
            match info.dependencies.iter_mut().find(|known| known.node == on) {
                // Said twice, it is what asks for more.
                Some(known) => known.hard |= hard,
                None => info.dependencies.push(Dependency {
                    node: on,
                    declared: place as u32,
                    hard,
                }),
            }
        }
        self.nodes.push(info);
        self.asks.push(node.ask);
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
