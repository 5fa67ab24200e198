//! Checks how long a request takes, and how much it sends, against bounds. Pure.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    plan::{NodeInfo, NodeOrder, Plan, PlanDiagnostic},
    select::Choice,
    simulate::SimulatedNodes,
    time_budget::shared_retries,
};

/// What a request of a plan may take, for [`Plan::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The request's deadline; none by default, and then nothing takes too long.
    pub deadline: Option<Duration>,
    /// How many attempts a request sends to one downstream at most, all nodes together, retries and
    /// hedges included; 10 by default.
    pub max_attempts_per_downstream: u32,
    /// How many nodes run at once; all that can by default.
    pub max_concurrency: usize,
    /// How many retries a call makes at most, where its policy allows more: the request's
    /// [`Call::max_retries`](tower_fanout_layers::Call::max_retries). None by default. Where it is
    /// set, all calls of a request together make no more than it, or one for every second node.
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
    /// Returns what may go wrong with requests that run all of the plan within `bounds`: the
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
    /// assert_eq!(problem.to_string(), "the worst case of user is 3s, and the deadline 2s");
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
        let work = SimulatedNodes::new(graph, &node_order, &choices);
        let mut found = self.condition_problems();
        found.extend(problems(&work, &graph.names, &node_order.expected, bounds));
        found
    }
}

/// The longest that each node may take; [`Duration::MAX`] if that has no end, or nothing is known.
pub(crate) fn longest(nodes: &[NodeInfo], max_retries: Option<u8>) -> Vec<Duration> {
    let longest = |node: &NodeInfo| node.longest(max_retries).unwrap_or(Duration::MAX);
    nodes.iter().map(longest).collect()
}

/// In what `work` goes beyond `bounds`, if its nodes are expected to take as long as `expected` says.
pub(crate) fn problems(
    work: &SimulatedNodes<'_>,
    names: &[Box<str>],
    expected: &[Duration],
    bounds: &Bounds,
) -> Vec<PlanDiagnostic> {
    let mut problems = Vec::new();
    if let Some(deadline) = bounds.deadline {
        let longest = longest(work.nodes, bounds.max_retries);
        let worst = late(work, names, true, &longest, deadline);
        if worst.is_empty() {
            problems.extend(crowded(work, &longest, bounds.max_concurrency, deadline));
        }
        problems.extend(late(work, names, false, expected, deadline));
        problems.extend(worst);
    }
    problems.extend(amplified(work, names, bounds));
    problems
}

/// Each way to a node that ends too late, though nothing before it does.
fn late(
    work: &SimulatedNodes<'_>,
    names: &[Box<str>],
    worst_case: bool,
    times: &[Duration],
    deadline: Duration,
) -> Vec<PlanDiagnostic> {
    let schedule = work.schedule(times, usize::MAX);
    let is_late = |node: usize| schedule.end(node) > deadline;
    let first = |node: &usize| is_late(*node) && !work.before(*node).any(is_late);
    let problem = |node: usize| {
        let path = schedule.path_to(work, node);
        let longest = path.iter().max_by_key(|&&node| times[node]);
        PlanDiagnostic::Late {
            worst_case,
            longest: names[*longest.unwrap_or(&node)].to_string(),
            path: path.iter().map(|&node| names[node].to_string()).collect(),
            takes: Some(schedule.end(node)).filter(|takes| *takes < Duration::MAX),
            deadline,
        }
    };
    work.running().filter(first).map(problem).collect()
}

/// Nodes that wait for their turn, and are late for it.
fn crowded(
    work: &SimulatedNodes<'_>,
    longest: &[Duration],
    max_concurrency: usize,
    deadline: Duration,
) -> Option<PlanDiagnostic> {
    let takes = work.schedule(longest, max_concurrency).total();
    (takes > deadline).then_some(PlanDiagnostic::Crowded {
        takes,
        deadline,
        max_concurrency,
    })
}

/// How a request asks one downstream.
#[derive(Default)]
struct Asked {
    /// By which nodes, and how many calls they make.
    nodes: Vec<usize>,
    calls: u32,
    /// How many attempts beyond the first of each call.
    further: u32,
}

/// Per downstream, how a request asks it; fallbacks count, for every call may fail.
fn asked<'w>(work: &SimulatedNodes<'w>, max_retries: Option<u8>) -> BTreeMap<&'w str, Asked> {
    let mut all: BTreeMap<&str, Asked> = BTreeMap::new();
    for node in work.running() {
        for worst_case in work.nodes[node].asked() {
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

/// Downstreams that one request may ask too often: once per call, and as often again as the policy
/// and what the request shares allow.
fn amplified(
    work: &SimulatedNodes<'_>,
    names: &[Box<str>],
    bounds: &Bounds,
) -> Vec<PlanDiagnostic> {
    let branches = work.running().count();
    let shared = bounds
        .max_retries
        .map(|retries| shared_retries(retries, branches));
    let bound = bounds.max_attempts_per_downstream;
    let too_many = asked(work, bounds.max_retries)
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
