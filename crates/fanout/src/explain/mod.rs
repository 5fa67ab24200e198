//! Explains what a request would do, without running it.

mod mermaid;
mod text;
#[cfg(feature = "serde")]
mod wire;

use std::time::Duration;

use tokio::time::Instant;
use tower_fanout_layers::{CallContext, breaker::State};

use crate::{
    bounds::Bounds,
    outcome::SkipReason,
    plan::{NodeOrder, PlanDiagnostic, PlanGraph, Profile},
    run::Options,
    select::{Choice, SelectError},
    service::FanOut,
    simulate::{Schedule, SimulatedNodes},
    strategy::{ReturnWhen, Strategy},
    time_budget::{merge_margin, time_slice},
};

/// A forecast of one request: the nodes that would run, their start times, and the time that each may
/// use. [`FanOut::explain`] returns it.
///
/// Its [`Display`](std::fmt::Display) form is a table for people. With the feature `serde`, it is
/// serialized with names in camel case and times in milliseconds, in the format of the gateway's
/// responses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The condition under which the run is a success.
    pub strategy: Strategy,
    /// Time until the deadline. `None` without a deadline.
    pub deadline: Option<Duration>,
    /// The indices of the nodes that run, grouped into waves. The nodes of a wave would start
    /// together if all nodes took equally long.
    pub waves: Vec<Vec<usize>>,
    /// The indices of the nodes that determine the duration, from the first to the last. Based on
    /// expected times if all are known, otherwise on the longest times.
    pub critical_path: Vec<usize>,
    /// Expected time until the response, by strategy, `return_when` and grace period. `None` if the
    /// expected time of a node that runs is unknown.
    pub expected: Option<Duration>,
    /// Longest time until the response, at most the deadline. `None` if it is unbounded.
    pub worst_case: Option<Duration>,
    /// All nodes of the plan, in order of declaration.
    pub nodes: Vec<NodeExplanation>,
    /// Problems that may occur, with the deadline of the forecast, the maximum number of nodes in
    /// flight of the [`FanOut`], the maximum number of retries of the request, and the default of
    /// [`Bounds::max_attempts_per_downstream`](field@Bounds::max_attempts_per_downstream).
    ///
    /// Under [`Strategy::First`] and [`Strategy::Quorum`], the deadline is not checked.
    pub warnings: Vec<PlanDiagnostic>,
}

/// The forecast for one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeExplanation {
    /// The name of the node.
    pub name: Box<str>,
    /// `true` if the node runs and is [required](Strategy#required-and-optional-nodes).
    pub required: bool,
    /// `true` if the node runs. `false` for a selected node that is skipped.
    pub selected: bool,
    /// The reason, if the node is skipped. The reason `no_time` is a prediction from expected times.
    /// `None` for a node that runs, and for a node that the request does not select.
    pub skip_reason: Option<SkipReason>,
    /// The indices of the node's dependencies. The flag is `true` if the node is skipped without
    /// that dependency's answer.
    pub depends_on: Vec<(usize, bool)>,
    /// Start of the node if all nodes take their expected times, relative to the start of the run.
    /// Unknown times count as zero. `None` if the node does not run.
    pub start: Option<Duration>,
    /// Expected time of the node. `None` if it is unknown.
    pub expected: Option<Duration>,
    /// Time that the node may use if it starts at `start`. `None` if it does not run, without a
    /// deadline, or if no time would be left.
    pub budget: Option<Duration>,
    /// Maximum number of attempts, including hedges and fallbacks.
    pub worst_case_attempts: u32,
    /// Current state of the downstream's circuit breaker. `None` without a breaker.
    pub breaker: Option<State>,
}

impl<Req: CallContext> FanOut<Req> {
    /// Forecasts the run of `request`, if the deadline is `deadline` from now. `None` means no
    /// deadline.
    ///
    /// The deadline that `request` carries is ignored. Its maximum number of retries is used. The
    /// conditions of nodes are evaluated, but no service is called. Every node that runs is assumed to
    /// answer.
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
    /// Returns the errors of [`choose`](Self::choose).
    pub fn explain(
        &self,
        request: &Req,
        deadline: Option<Duration>,
    ) -> Result<Explanation, SelectError> {
        let choices = self.choose(request)?;
        Ok(self.explain_chosen(request, choices, deadline))
    }

    /// Forecasts the run of `request` like [`explain`](Self::explain), with the `choices` that
    /// [`choose`](Self::choose) returned for it.
    ///
    /// # Panics
    /// Panics if `choices` does not have one entry per node of the plan.
    #[must_use]
    pub fn explain_chosen(
        &self,
        request: &Req,
        mut choices: Vec<Choice>,
        deadline: Option<Duration>,
    ) -> Explanation {
        let node_order = self.bound.node_order(Instant::now());
        let plan = &*self.plan().graph;
        let bounds = Bounds {
            deadline,
            max_concurrency: self.options.max_concurrency,
            max_retries: request.call().max_retries,
            ..Bounds::default()
        };
        // Nodes without enough time are skipped first, because that lets other nodes start earlier.
        let options = &self.options;
        for (node, reason) in
            Outlook::new(plan, &node_order, &choices, &bounds, options).without_time()
        {
            choices[node] = Choice::Skip(reason);
        }
        let mut explanation = Outlook::new(plan, &node_order, &choices, &bounds, options).explain();
        for (node, explained) in explanation.nodes.iter_mut().enumerate() {
            explained.breaker = self.bound.profile(node).and_then(Profile::breaker_state);
        }
        explanation
    }
}

/// The inputs of an explanation.
struct Outlook<'o> {
    simulated: SimulatedNodes<'o>,
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
            simulated: SimulatedNodes {
                plan,
                node_order,
                choices,
            },
            bounds,
            options,
        }
    }

    /// Returns the expected time of each node. Zero if it is unknown.
    fn expected(&self) -> &[Duration] {
        &self.simulated.node_order.expected
    }

    /// Returns the optional nodes that cannot finish in time when their turn comes, and the nodes
    /// that need them.
    fn without_time(&self) -> Vec<(usize, SkipReason)> {
        let schedule = self
            .simulated
            .schedule(self.expected(), self.bounds.max_concurrency);
        let chains = self.simulated.chains(self.expected());
        let mut late: Vec<(usize, SkipReason)> = Vec::new();
        for node in self.simulated.in_order() {
            let hard = &mut self.simulated.plan.nodes[node].hard_dependencies();
            if hard.any(|before| late.iter().any(|(other, _)| *other == before)) {
                late.push((node, SkipReason::Dependency));
            } else if let (Some(start), Some(_)) = (schedule.start(node), self.bounds.deadline) {
                if self.budget(node, start, chains[node]).is_none() {
                    late.push((node, SkipReason::NoTime));
                }
            }
        }
        late
    }

    /// Returns the time that `node` may use if it starts at `start`, or `None` without a deadline
    /// or without enough time.
    fn budget(&self, node: usize, start: Duration, after: Duration) -> Option<Duration> {
        let deadline = self.bounds.deadline?;
        let end = deadline.saturating_sub(merge_margin(deadline));
        let left = end.saturating_sub(start);
        time_slice(
            self.simulated.is_required(node),
            left,
            self.expected()[node],
            after,
        )
    }

    /// Returns the time of the response if nodes take as long as in `schedule`, and the node that
    /// determines it.
    fn decided(&self, schedule: &Schedule) -> (Duration, Option<usize>) {
        let simulated = &self.simulated;
        let whole = (schedule.total(), schedule.last(simulated.running()));
        if let Some(needed) = self.options.strategy.quorum() {
            let mut sinks: Vec<usize> = simulated.sinks().collect();
            sinks.sort_by_key(|&node| (schedule.end(node), node));
            let enough = sinks.get(needed - 1).copied();
            let end = enough.and_then(|node| schedule.end(node));
            return (end.unwrap_or(whole.0), enough);
        }
        if self.options.return_when != ReturnWhen::Required {
            return whole;
        }
        let required = simulated
            .running()
            .filter(|&node| simulated.is_required(node));
        let last = schedule.last(required);
        match last.and_then(|last| schedule.end(last)) {
            // Optional nodes that end within the grace period delay the response.
            Some(end) if end.saturating_add(self.options.grace) < whole.0 => {
                (end.saturating_add(self.options.grace), last)
            }
            _ => whole,
        }
    }

    /// Builds the explanation, without the breaker states.
    fn explain(&self) -> Explanation {
        let Self {
            simulated, bounds, ..
        } = self;
        let schedule = |times: &[Duration]| simulated.schedule(times, bounds.max_concurrency);
        let expected = schedule(self.expected());
        let worst = schedule(&simulated.longest(bounds.max_retries));
        let known = !simulated
            .running()
            .any(|node| self.expected()[node].is_zero());
        let decides = if known { &expected } else { &worst };
        let (worst_case, _) = self.decided(&worst);
        let worst_case = worst_case.min(bounds.deadline.unwrap_or(Duration::MAX));
        let (_, decisive) = self.decided(decides);
        let chains = simulated.chains(self.expected());
        // A strategy that counts answers does not wait for slow nodes.
        let deadline = bounds
            .deadline
            .filter(|_| self.options.strategy.quorum().is_none());
        Explanation {
            strategy: self.options.strategy,
            deadline: bounds.deadline,
            waves: simulated.waves(),
            critical_path: simulated.path_to(decisive, decides),
            expected: known.then(|| self.decided(&expected).0),
            worst_case: Some(worst_case).filter(|time| *time < Duration::MAX),
            nodes: (0..simulated.choices.len())
                .map(|node| self.node(node, &expected, chains[node]))
                .collect(),
            warnings: simulated.diagnostics(&bounds.deadline(deadline)),
        }
    }

    fn node(&self, node: usize, schedule: &Schedule, after: Duration) -> NodeExplanation {
        let info = &self.simulated.plan.nodes[node];
        let (required, expected) = (self.simulated.is_required(node), self.expected()[node]);
        let start = schedule.start(node);
        let dependencies = info.dependencies.iter();
        NodeExplanation {
            name: self.simulated.plan.names[node].clone(),
            required,
            selected: self.simulated.runs(node),
            skip_reason: match &self.simulated.choices[node] {
                Choice::Skip(reason) => Some(*reason),
                // Nothing is called for the node.
                Choice::Fail(_) => Some(SkipReason::When),
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
    /// Returns the names of the nodes with these indices.
    fn names<'e>(&'e self, nodes: &'e [usize]) -> impl Iterator<Item = &'e str> {
        nodes.iter().map(|&node| &*self.nodes[node].name)
    }
}
