//! What a request would do, without doing it.

mod mermaid;
mod text;
#[cfg(feature = "serde")]
mod wire;

use std::time::Duration;

use tokio::time::Instant;
use tower_fanout_layers::{CallContext, breaker::State};

use crate::{
    bounds::{self, Bounds},
    outcome::SkipReason,
    plan::{NodeOrder, PlanDiagnostic, PlanGraph},
    run::Options,
    select::{Choice, SelectError},
    service::FanOut,
    simulate::{Schedule, SimulatedNodes},
    strategy::{ReturnWhen, Strategy},
    time_budget::{merge_margin, time_slice},
};

/// A plan as one request would run it: which of its nodes, when, and for how long.
///
/// As [`Display`](std::fmt::Display) it is a table for people. With the feature `serde` it is
/// serialized with names in camel case and times in milliseconds, as the gateway answers it; without
/// the states of breakers, whose names are HTTP's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// When the run is a success.
    pub strategy: Strategy,
    /// How much time there is for all of it.
    pub deadline: Option<Duration>,
    /// The nodes that run, by their index: those of one wave would start together if all took
    /// equally long.
    pub waves: Vec<Vec<usize>>,
    /// The nodes that decide how long it takes, by their index, from the first to the last: by the
    /// times that are expected if all are known, and by the longest that they may take otherwise.
    pub critical_path: Vec<usize>,
    /// How long it is expected to take until the answer leaves, by strategy, `return_when` and grace; none
    /// if that is not known of each node that runs.
    pub expected: Option<Duration>,
    /// How long it takes at most, which is never longer than the deadline; none if it has no end.
    pub worst_case: Option<Duration>,
    /// All nodes of the plan, in order of declaration.
    pub nodes: Vec<Explained>,
    /// What may go wrong.
    pub warnings: Vec<PlanDiagnostic>,
}

/// What a request would do with one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explained {
    /// Its name.
    pub name: Box<str>,
    /// Whether it runs, and the answer as a whole needs it.
    pub required: bool,
    /// Whether it runs.
    pub selected: bool,
    /// Why it is skipped, if it was asked for and is. `no_time` is by what is expected.
    pub skip_reason: Option<SkipReason>,
    /// The nodes that it comes after, by their index, and whether it is skipped without an answer of
    /// them.
    pub depends_on: Vec<(usize, bool)>,
    /// When it starts if all nodes take as long as is expected, unknown times counted as none,
    /// counted from the start of the run; none if it does not run.
    pub start: Option<Duration>,
    /// How long it is expected to take, if that is known.
    pub expected: Option<Duration>,
    /// How much time it would be given if it started then; none if it does not run, if there is no
    /// deadline, or if there would be no time for it.
    pub budget: Option<Duration>,
    /// How many attempts it makes at most, hedges among them.
    pub worst_case_attempts: u32,
    /// The state of its downstream's breaker, if it has one.
    pub breaker: Option<State>,
}

impl<Req: CallContext> FanOut<Req> {
    /// What `request` would do if it had `deadline` from now on. The deadline that it carries is not
    /// looked at; how many retries it allows is.
    ///
    /// Nobody is asked. Every node that runs is taken to answer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower::{BoxError, service_fn};
    /// # use tower_fanout::{FanOut, Plan};
    /// let service = service_fn(|()| async { Ok::<_, BoxError>(()) });
    /// let mut plan = Plan::builder::<()>();
    /// let user = plan.node("user", service, |(), _| Ok(())).key();
    /// plan.node("orders", service, |(), _| Ok(())).after(user);
    /// let fan_out = FanOut::new(plan.build().unwrap());
    /// let explanation = fan_out.explain(&(), Some(Duration::from_secs(1))).unwrap();
    /// assert_eq!(explanation.waves, [[0], [1]]);
    /// assert!(explanation.to_mermaid().contains("n0 --> n1"));
    /// ```
    ///
    /// # Errors
    /// As [`choose`](Self::choose) has them.
    pub fn explain(
        &self,
        request: &Req,
        deadline: Option<Duration>,
    ) -> Result<Explanation, SelectError> {
        let choices = self.choose(request)?;
        Ok(self.explain_chosen(request, choices, deadline))
    }

    /// The same with what was [chosen](Self::choose) for `request` already.
    ///
    /// # Panics
    /// If `choices` has not one choice for each node of the plan.
    #[must_use]
    pub fn explain_chosen(
        &self,
        request: &Req,
        mut choices: Vec<Choice>,
        deadline: Option<Duration>,
    ) -> Explanation {
        let node_order = self.node_order(Instant::now());
        let plan = &*self.plan().graph;
        let bounds = Bounds {
            deadline,
            max_concurrency: self.options.max_concurrency,
            max_retries: request.call().max_retries,
            ..Bounds::default()
        };
        let late = Outlook::new(plan, &node_order, &choices, &bounds, &self.options).without_time();
        for (node, reason) in late {
            choices[node] = Choice::Skip(reason);
        }
        let outlook = Outlook::new(plan, &node_order, &choices, &bounds, &self.options);
        let mut explanation = outlook.explain();
        for (node, explained) in explanation.nodes.iter_mut().enumerate() {
            explained.breaker = self.breaker_state(node);
        }
        explanation
    }
}

/// What is known of a request before it is run.
struct Outlook<'o> {
    work: SimulatedNodes<'o>,
    names: &'o [Box<str>],
    choices: &'o [Choice],
    /// Per node, how long it is expected to take; zero if nothing is known.
    expected: &'o [Duration],
    bounds: &'o Bounds,
    options: &'o Options,
}

impl<'o> Outlook<'o> {
    fn new(
        plan: &'o PlanGraph,
        node_order: &'o NodeOrder,
        choices: &'o [Choice],
        bounds: &'o Bounds,
        options: &'o Options,
    ) -> Self {
        Self {
            work: SimulatedNodes::new(plan, node_order, choices),
            names: &plan.names,
            choices,
            expected: &node_order.expected,
            bounds,
            options,
        }
    }

    /// The optional nodes that could not make it any more when their turn came, and what needs them.
    fn without_time(&self) -> Vec<(usize, SkipReason)> {
        let schedule = self
            .work
            .schedule(self.expected, self.bounds.max_concurrency);
        let chains = self.work.chains(self.expected);
        let mut late: Vec<(usize, SkipReason)> = Vec::new();
        for node in self.work.in_order() {
            let hard = &mut self.work.nodes[node].hard_dependencies();
            if hard.any(|before| late.iter().any(|(other, _)| *other == before)) {
                late.push((node, SkipReason::Dependency));
            } else if let (Some(start), Some(_)) = (schedule.start(node), self.bounds.deadline)
                && self.budget(node, start, chains[node]).is_none()
            {
                late.push((node, SkipReason::NoTime));
            }
        }
        late
    }

    /// How much time `node` is given if it starts at `start`; none if there is no deadline, or no time.
    fn budget(&self, node: usize, start: Duration, after: Duration) -> Option<Duration> {
        let deadline = self.bounds.deadline?;
        let end = deadline.saturating_sub(merge_margin(deadline));
        let left = end.saturating_sub(start);
        time_slice(
            self.work.is_required(node),
            left,
            self.expected[node],
            after,
        )
    }

    /// When the answer leaves if nodes take as long as `schedule` has it, and the node that decides.
    fn decided(&self, schedule: &Schedule) -> (Duration, Option<usize>) {
        let total = schedule.total();
        let last = schedule.last(self.work.running());
        if let Some(needed) = self.options.strategy.quorum() {
            let mut ends: Vec<usize> = self.work.ends().collect();
            ends.sort_by_key(|&node| (schedule.end(node), node));
            let enough = ends.get(needed - 1).copied();
            return (enough.map_or(total, |node| schedule.end(node)), enough);
        }
        if self.options.return_when == ReturnWhen::Required {
            let required = self
                .work
                .running()
                .filter(|&node| self.work.is_required(node));
            if let Some(required) = schedule.last(required) {
                let leaves = schedule.end(required).saturating_add(self.options.grace);
                return match total <= leaves {
                    true => (total, last),
                    false => (leaves, Some(required)),
                };
            }
        }
        (total, last)
    }

    fn explain(&self) -> Explanation {
        let Self { work, bounds, .. } = self;
        let schedule = |times: &[Duration]| work.schedule(times, bounds.max_concurrency);
        let expected = schedule(self.expected);
        let worst = schedule(&bounds::longest(work.nodes, bounds.max_retries));
        let known = !work.running().any(|node| self.expected[node].is_zero());
        let decides = if known { &expected } else { &worst };
        let (worst_case, _) = self.decided(&worst);
        let worst_case = worst_case.min(bounds.deadline.unwrap_or(Duration::MAX));
        let (_, decisive) = self.decided(decides);
        let chains = work.chains(self.expected);
        Explanation {
            strategy: self.options.strategy,
            deadline: bounds.deadline,
            waves: work.waves(),
            critical_path: decisive.map_or_else(Vec::new, |node| decides.path_to(work, node)),
            expected: known.then(|| self.decided(&expected).0),
            worst_case: Some(worst_case).filter(|time| *time < Duration::MAX),
            nodes: (0..work.nodes.len())
                .map(|node| self.node(node, &expected, chains[node]))
                .collect(),
            warnings: self.warnings(),
        }
    }

    /// Where enough answers are enough, nobody waits for the slow ones.
    fn warnings(&self) -> Vec<PlanDiagnostic> {
        let mut problems = bounds::problems(&self.work, self.names, self.expected, self.bounds);
        if self.options.strategy.quorum().is_some() {
            problems.retain(|problem| {
                !matches!(
                    problem,
                    PlanDiagnostic::Late { .. } | PlanDiagnostic::Crowded { .. }
                )
            });
        }
        problems
    }

    fn node(&self, node: usize, schedule: &Schedule, after: Duration) -> Explained {
        let info = &self.work.nodes[node];
        let (required, expected) = (self.work.is_required(node), self.expected[node]);
        let start = schedule.start(node);
        let dependencies = info.dependencies.iter();
        Explained {
            name: self.names[node].clone(),
            required,
            selected: self.work.runs(node),
            skip_reason: match self.choices[node] {
                Choice::Skip(reason) => Some(reason),
                _ => None,
            },
            depends_on: dependencies.map(|one| (one.node, one.hard)).collect(),
            start,
            expected: Some(expected).filter(|time| !time.is_zero()),
            budget: start.and_then(|start| self.budget(node, start, after)),
            worst_case_attempts: info.attempts(self.bounds.max_retries),
            breaker: None,
        }
    }
}

impl Explanation {
    /// The names of the nodes at these places.
    fn names<'e>(&'e self, nodes: &'e [usize]) -> impl Iterator<Item = &'e str> {
        nodes.iter().map(|&node| &*self.nodes[node].name)
    }
}
