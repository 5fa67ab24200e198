//! Checks the duration and the number of attempts of a request against bounds. Pure.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    plan::{NodeInfo, NodeOrder, Plan, PlanDiagnostic},
    select::Choice,
    simulate::SimulatedNodes,
    time_budget::shared_retries,
};

/// Bounds of a request, for [`Plan::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The deadline of the request. `None`, the default, means no bound on the time.
    pub deadline: Option<Duration>,
    /// Maximum number of attempts that a request may send to one downstream, from all nodes
    /// together, including retries and hedges. Defaults to 10.
    pub max_attempts_per_downstream: u32,
    /// Maximum number of nodes in flight. Defaults to no limit.
    pub max_concurrency: usize,
    /// Maximum number of retries per call, where the policy allows more. This is
    /// [`Call::max_retries`](tower_fanout_layers::Call::max_retries) of the request. Defaults to
    /// `None`, no limit.
    ///
    /// If set, all calls of a request share a number of retries: this maximum, or one per two nodes,
    /// rounded up, if that is more.
    pub max_retries: Option<u8>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            deadline: None,
            max_attempts_per_downstream: 10,
            max_concurrency: usize::MAX,
            max_retries: None,
        }
    }
}

tower_fanout_layers::setters! {
    Bounds {
        deadline: Option<Duration>,
        max_attempts_per_downstream: u32,
        max_concurrency: usize,
        max_retries: Option<u8>,
    }
}

impl Plan {
    /// Returns the problems of requests that run the whole plan within `bounds`: the
    /// [`PlanDiagnostic`]s that are [warnings](crate::Severity::Warning).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_fanout::{Bounds, LatencyEstimate, NodeSpec, Plan, Profile};
    /// let seconds = (1..=3).map(Duration::from_secs);
    /// let users = Profile::new("users", LatencyEstimate::new()).attempts(3).worst_cases(seconds);
    /// let plan = Plan::new([NodeSpec::new("user").worst_case(users.worst_case().clone())]).unwrap();
    /// let bounds = Bounds::default().deadline(Duration::from_secs(2));
    /// let problem = &plan.check(&bounds)[0];
    /// assert_eq!(problem.to_string(), "the worst case of user is 3s, but the deadline is 2s");
    /// assert_eq!(problem.place().to_string(), "nodes.user");
    /// ```
    #[must_use]
    pub fn check(&self, bounds: &Bounds) -> Vec<PlanDiagnostic> {
        let graph = &*self.graph;
        let run = |node: &NodeInfo| Choice::Run {
            required: node.required,
        };
        let choices: Vec<Choice> = graph.nodes.iter().map(run).collect();
        let node_order = NodeOrder::declared(graph);
        let simulated = SimulatedNodes::new(graph, &node_order, &choices);
        let mut found = self.condition_problems();
        found.extend(problems(
            &simulated,
            &graph.names,
            &node_order.expected,
            bounds,
        ));
        found
    }
}

/// Returns the longest time of each node, or [`Duration::MAX`] if it is unbounded or unknown.
pub(crate) fn longest(nodes: &[NodeInfo], max_retries: Option<u8>) -> Vec<Duration> {
    let longest = |node: &NodeInfo| node.longest(max_retries).unwrap_or(Duration::MAX);
    nodes.iter().map(longest).collect()
}

/// Returns the ways in which the nodes exceed `bounds`. `expected` holds the expected time of each
/// node.
pub(crate) fn problems(
    simulated: &SimulatedNodes<'_>,
    names: &[Box<str>],
    expected: &[Duration],
    bounds: &Bounds,
) -> Vec<PlanDiagnostic> {
    let mut problems = Vec::new();
    if let Some(deadline) = bounds.deadline {
        let longest = longest(simulated.nodes, bounds.max_retries);
        let worst = late(simulated, names, true, &longest, deadline);
        // A chain that is late without the limit is late with it too, and is reported once.
        if worst.is_empty() {
            problems.extend(crowded(
                simulated,
                &longest,
                bounds.max_concurrency,
                deadline,
            ));
        }
        problems.extend(late(simulated, names, false, expected, deadline));
        problems.extend(worst);
    }
    problems.extend(amplified(simulated, names, bounds));
    problems
}

/// Returns a problem for each node that ends after the deadline although its dependencies end
/// before it.
fn late(
    simulated: &SimulatedNodes<'_>,
    names: &[Box<str>],
    worst_case: bool,
    times: &[Duration],
    deadline: Duration,
) -> Vec<PlanDiagnostic> {
    let schedule = simulated.schedule(times, usize::MAX);
    let is_late = |node: usize| schedule.end(node) > deadline;
    let first = |node: &usize| is_late(*node) && !simulated.before(*node).any(is_late);
    let problem = |node: usize| {
        let path = schedule.path_to(simulated, node);
        let longest = path.iter().max_by_key(|&&node| times[node]);
        PlanDiagnostic::Late {
            worst_case,
            longest: names[*longest.unwrap_or(&node)].to_string(),
            path: path.iter().map(|&node| names[node].to_string()).collect(),
            takes: Some(schedule.end(node)).filter(|takes| *takes < Duration::MAX),
            deadline,
        }
    };
    simulated.running().filter(first).map(problem).collect()
}

/// Returns a problem if the nodes meet the deadline only without the limit on concurrent nodes.
fn crowded(
    simulated: &SimulatedNodes<'_>,
    longest: &[Duration],
    max_concurrency: usize,
    deadline: Duration,
) -> Option<PlanDiagnostic> {
    let takes = simulated.schedule(longest, max_concurrency).total();
    (takes > deadline).then_some(PlanDiagnostic::Crowded {
        takes,
        deadline,
        max_concurrency,
    })
}

/// The calls of a request to one downstream.
#[derive(Default)]
struct DownstreamCalls {
    /// The nodes that make the calls.
    nodes: Vec<usize>,
    /// Number of calls.
    calls: u32,
    /// Number of attempts beyond the first of each call.
    further: u32,
}

/// Returns the calls of a request per downstream. Fallbacks count, because every call may fail.
fn calls_per_downstream<'w>(
    simulated: &SimulatedNodes<'w>,
    max_retries: Option<u8>,
) -> BTreeMap<&'w str, DownstreamCalls> {
    let mut all: BTreeMap<&str, DownstreamCalls> = BTreeMap::new();
    for node in simulated.running() {
        for worst_case in simulated.nodes[node].asked() {
            let asked = all.entry(worst_case.downstream()).or_default();
            if asked.nodes.last() != Some(&node) {
                asked.nodes.push(node);
            }
            let further = worst_case.attempts_within(max_retries) - 1;
            asked.calls += 1;
            asked.further = asked.further.saturating_add(further);
        }
    }
    all
}

/// Returns a problem for each downstream to which one request may send too many attempts. Each call
/// sends one, and its further attempts are limited by the policy and by the retries that the
/// request shares.
fn amplified(
    simulated: &SimulatedNodes<'_>,
    names: &[Box<str>],
    bounds: &Bounds,
) -> Vec<PlanDiagnostic> {
    let branches = simulated.running().count();
    let shared = bounds
        .max_retries
        .map(|retries| shared_retries(retries, branches));
    let bound = bounds.max_attempts_per_downstream;
    let too_many = calls_per_downstream(simulated, bounds.max_retries)
        .into_iter()
        .filter_map(|(downstream, asked)| {
            let further = asked.further.min(shared.unwrap_or(u32::MAX));
            let attempts = further.saturating_add(asked.calls);
            (attempts > bound).then(|| PlanDiagnostic::Amplification {
                downstream: downstream.to_owned(),
                nodes: (asked.nodes.iter())
                    .map(|&node| names[node].to_string())
                    .collect(),
                attempts,
                bound,
            })
        });
    too_many.collect()
}
