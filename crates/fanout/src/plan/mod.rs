//! The validated graph of nodes that a [`FanOut`](crate::FanOut) runs.

mod builder;
mod check;
mod forecast;
pub(crate) mod limits;
mod place;
mod problem;
mod profile;
mod resolve;
mod words;

use std::{
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tower_fanout_layers::Priority;

pub(crate) use self::forecast::Forecast;
use self::forecast::Forecaster;
pub use self::{
    builder::{Node, PlanBuilder},
    limits::Bounds,
    place::{PlanPart, PlanPlace, Severity},
    problem::{Pace, PlanError, PlanProblem},
    profile::Profile,
};
use crate::{
    answer::Answers,
    call::Ask,
    graph::Ancestors,
    schedule::Work,
    select::{Choice, SelectError},
};

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
    pub(crate) profile: Option<Profile>,
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

    /// The downstream that it asks, if that was said.
    #[must_use]
    pub const fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// How long it is expected to take: what its downstream took lately, or what was declared; zero
    /// if neither is known.
    #[must_use]
    pub fn expected_at(&self, now: Instant) -> Duration {
        let seen = (self.profile.as_ref()).and_then(|profile| profile.expected().at(now));
        seen.or(self.expected).unwrap_or_default()
    }

    /// The downstreams that it may ask, fallbacks last.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Profile> {
        self.profile.iter().flat_map(Profile::asked)
    }

    /// How many attempts it makes at most if each call may make `max_retries` retries, hedges among
    /// them and those of fallbacks; a service of which nothing is known makes one.
    pub(crate) fn attempts(&self, max_retries: Option<u8>) -> u32 {
        let attempts = self.asked().map(|one| one.attempts_within(max_retries));
        attempts.fold(0, u32::saturating_add).max(1)
    }

    /// How long it takes at most, the same given; none if that has no end, or nothing is known.
    pub(crate) fn longest(&self, max_retries: Option<u8>) -> Option<Duration> {
        self.profile.as_ref()?;
        let longest = |one: &Profile| one.longest_of(one.attempts_within(max_retries));
        let mut asked = self.asked().map(longest);
        asked.try_fold(Duration::ZERO, |sum, one| Some(sum.saturating_add(one?)))
    }

    pub(crate) fn admits(&self, tier: Option<&str>) -> bool {
        self.tiers.is_empty() || tier.is_some_and(|tier| self.tiers.iter().any(|own| own == tier))
    }
}

/// A validated dependency graph of services; cheap to clone.
pub struct Plan<Req> {
    pub(crate) inner: Arc<Inner<Req>>,
}

/// Whether a node is asked for a request.
pub(crate) type When<Req> = Box<dyn Fn(&Req) -> bool + Send + Sync>;

/// What answers are found by.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) id: u64,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) ancestors: Ancestors,
}

pub(crate) struct Inner<Req> {
    pub(crate) index: Arc<Index>,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) nodes: Vec<NodeInfo>,
    pub(crate) asks: Vec<Box<dyn Ask<Req>>>,
    /// Of the nodes that have one, by their index.
    conditions: Vec<(usize, When<Req>)>,
    pub(crate) dependents: Vec<Vec<usize>>,
    /// The nodes in topological order.
    pub(crate) order: Vec<usize>,
    forecaster: Forecaster,
}

impl<Req> Inner<Req> {
    /// Whether the condition of `node` holds for `request`.
    pub(crate) fn holds(&self, node: usize, request: &Req) -> Result<bool, SelectError> {
        if !self.nodes[node].conditional {
            return Ok(true);
        }
        let place = self
            .conditions
            .binary_search_by_key(&node, |(node, _)| *node);
        let Ok(place) = place else {
            return Ok(true);
        };
        catch_unwind(AssertUnwindSafe(|| (self.conditions[place].1)(request)))
            .map_err(|_| SelectError::Condition { node })
    }
}

impl<Req> Plan<Req> {
    /// A plan without nodes yet.
    #[must_use]
    pub fn builder() -> PlanBuilder<Req> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PlanBuilder::new(NEXT.fetch_add(1, Ordering::Relaxed))
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

    /// The bytes that a branch of the node at `node` takes while it runs: its request, its stack and
    /// their state.
    #[must_use]
    pub fn branch_size(&self, node: usize) -> usize {
        self.inner.asks[node].size()
    }

    /// What may go wrong with requests that run all of the plan within `bounds`: the
    /// [`PlanProblem`]s that are [warnings](Severity::Warning).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower::{BoxError, service_fn};
    /// # use tower_fanout::{Bounds, Expected, Plan, Profile};
    /// let mut plan = Plan::<()>::builder();
    /// let service = service_fn(|()| async { Ok::<_, BoxError>(()) });
    /// let seconds = (1..=3).map(Duration::from_secs);
    /// let users = Profile::new("users", Expected::new()).attempts(3).worst_cases(seconds);
    /// plan.node("user", service, |(), _| Ok(())).downstream(users);
    /// let bounds = Bounds::default().deadline(Duration::from_secs(2));
    /// let problem = &plan.build().unwrap().check(&bounds)[0];
    /// assert_eq!(problem.to_string(), "the worst case of user is 3s, and the deadline 2s");
    /// assert_eq!(problem.place().to_string(), "nodes.user");
    /// ```
    #[must_use]
    pub fn check(&self, bounds: &Bounds) -> Vec<PlanProblem> {
        let plan = &*self.inner;
        let run = |node: &NodeInfo| Choice::Run {
            required: node.required,
        };
        let choices: Vec<Choice> = plan.nodes.iter().map(run).collect();
        let forecast = self.forecast(Instant::now());
        let work = Work::new(plan, &forecast, &choices);
        let mut problems = check::conditions(&plan.names, &plan.nodes, &plan.order);
        problems.extend(limits::problems(
            &work,
            &plan.names,
            &forecast.expected,
            bounds,
        ));
        problems
    }

    pub(crate) fn shared_names(&self) -> Arc<[Box<str>]> {
        Arc::clone(&self.inner.names)
    }

    /// No answers yet.
    pub(crate) fn answers(&self) -> Answers {
        Answers::new(Arc::clone(&self.inner.index))
    }

    /// What is expected of the nodes at `now`.
    pub(crate) fn forecast(&self, now: Instant) -> Arc<Forecast> {
        let Inner {
            nodes,
            order,
            dependents,
            forecaster,
            ..
        } = &*self.inner;
        forecaster.at(now, nodes, order, dependents)
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
