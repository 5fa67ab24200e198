//! Checks the duration and the number of attempts of a request against bounds. Pure.

use std::{collections::BTreeMap, time::Duration};

use tower_fanout_layers::{config, config::duration::written};

use crate::{
    plan::{NodeInfo, NodeOrder, Plan, PlanDiagnostic, PlanLocation, Severity},
    select::Choice,
    simulate::SimulatedNodes,
    time_budget::shared_retries,
};

config! {
    /// Bounds of a request, for [`Plan::check`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Bounds {
        /// The deadline of the request. `None`, the default, means no bound on the time.
        pub deadline: Option<Duration> = None,
        /// Maximum number of attempts that a request may send to one downstream, from all nodes
        /// together, including retries and hedges. Defaults to 10.
        pub max_attempts_per_downstream: u32 = 10,
        /// Maximum number of nodes in flight. Defaults to `usize::MAX`, which means no limit. Unlike in
        /// [`FanOut::max_concurrency`](crate::FanOut::max_concurrency), 0 does not mean no limit.
        pub max_concurrency: usize = usize::MAX,
        /// Maximum number of retries of each call, where the policy allows more. This is
        /// [`Call::max_retries`](tower_fanout_layers::Call::max_retries) of the request. Defaults to
        /// `None`, no limit.
        ///
        /// If set, the retries of all calls of a request together are limited too: to this maximum, or
        /// to one per two nodes, rounded up, if that is more.
        pub max_retries: Option<u8> = None,
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
    /// assert_eq!(problem.to_string(), "\"user\" may take 3s, but the deadline is 2s");
    /// assert_eq!(problem.location.to_string(), "nodes.user");
    /// ```
    #[must_use]
    pub fn check(&self, bounds: &Bounds) -> Vec<PlanDiagnostic> {
        let plan = &*self.graph;
        let run = |node: &NodeInfo| Choice::Run {
            required: node.is_required(),
        };
        let choices: Vec<Choice> = plan.nodes.iter().map(run).collect();
        let simulated = SimulatedNodes {
            plan,
            node_order: &NodeOrder::declared(plan),
            choices: &choices,
        };
        let mut problems = plan.conditional_dependencies();
        problems.extend(simulated.diagnostics(bounds));
        problems
    }
}

impl<'w> SimulatedNodes<'w> {
    /// Returns the longest time of each node, or [`Duration::MAX`] if it is unbounded or unknown.
    pub(crate) fn longest(&self, max_retries: Option<u8>) -> Vec<Duration> {
        let longest = |node: &NodeInfo| node.longest(max_retries).unwrap_or(Duration::MAX);
        self.plan.nodes.iter().map(longest).collect()
    }

    /// Returns the ways in which the nodes exceed `bounds`.
    pub(crate) fn diagnostics(&self, bounds: &Bounds) -> Vec<PlanDiagnostic> {
        let mut problems = Vec::new();
        if let Some(deadline) = bounds.deadline {
            let longest = self.longest(bounds.max_retries);
            let worst = self.late(true, &longest, deadline);
            // A chain that is late without the limit is late with it too, and is reported once.
            if worst.is_empty() {
                problems.extend(self.crowded(&longest, bounds.max_concurrency, deadline));
            }
            problems.extend(self.late(false, &self.node_order.expected, deadline));
            problems.extend(worst);
        }
        problems.extend(self.amplified(bounds));
        problems
    }

    /// Returns a problem for each node that ends after the deadline although its dependencies end
    /// before it. `times` are the longest times of the nodes if `worst_case` is `true`, and their
    /// expected times otherwise.
    fn late(
        &self,
        worst_case: bool,
        times: &[Duration],
        deadline: Duration,
    ) -> Vec<PlanDiagnostic> {
        let schedule = self.schedule(times, usize::MAX);
        let is_late = |node: usize| schedule.end(node) > Some(deadline);
        let first = |node: &usize| is_late(*node) && !self.before(*node).any(is_late);
        let problem = |node: usize| {
            let path = self.path_to(Some(node), &schedule);
            let slowest = path.iter().max_by_key(|&&node| times[node]);
            let slowest = *slowest.unwrap_or(&node);
            let longest = &self.plan.names[slowest];
            let takes = schedule.end(node).unwrap_or_default();
            let (code, help) = if !worst_case {
                let help = format!("raise the deadline, or make \"{longest}\" faster");
                ("expected_time", help)
            } else if takes == Duration::MAX {
                let help =
                    format!("set attempt_timeout or total_timeout in the policy of \"{longest}\"");
                ("worst_case", help)
            } else {
                let policy = match self.plan.nodes[slowest].asked().count() {
                    0 | 1 => format!("the policy of \"{longest}\""),
                    _ => format!("the policies of \"{longest}\" and its fallbacks"),
                };
                let help = format!(
                    "lower the timeouts or the attempts in {policy}, or raise the deadline"
                );
                ("worst_case", help)
            };
            let takes_time = if worst_case {
                "may take"
            } else {
                "is expected to take"
            };
            let path = format!("\"{}\"", self.plan.joined(&path, "\" → \""));
            let message = exceeds(&path, takes_time, takes, deadline);
            let location = PlanLocation::of(&self.plan.names[node], None);
            PlanDiagnostic::new(Severity::Warning, code, location, message, help)
        };
        self.running().filter(first).map(problem).collect()
    }

    /// Returns a problem if the nodes meet the deadline only without the limit on concurrent nodes.
    fn crowded(
        &self,
        longest: &[Duration],
        max_concurrency: usize,
        deadline: Duration,
    ) -> Option<PlanDiagnostic> {
        let takes = self.schedule(longest, max_concurrency).total();
        let all = format!("all nodes, {max_concurrency} at a time,");
        (takes > deadline).then(|| {
            PlanDiagnostic::new(
                Severity::Warning,
                "max_concurrency",
                PlanLocation::default(),
                exceeds(&all, "may take", takes, deadline),
                "raise max_concurrency or the deadline, or lower the timeouts of the policies",
            )
        })
    }

    /// Returns the calls of a request per downstream. Fallbacks count, because every call may fail.
    fn calls_per_downstream(&self, max_retries: Option<u8>) -> BTreeMap<&'w str, DownstreamCalls> {
        let mut all: BTreeMap<&str, DownstreamCalls> = BTreeMap::new();
        for node in self.running() {
            for worst_case in self.plan.nodes[node].asked() {
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

    /// Returns a problem for each downstream to which one request may send too many attempts. Each
    /// call sends one, and its further attempts are limited by the policy and by the retries that
    /// the request shares.
    fn amplified(&self, bounds: &Bounds) -> Vec<PlanDiagnostic> {
        let branches = self.running().count();
        let shared = bounds
            .max_retries
            .map_or(u32::MAX, |retries| shared_retries(retries, branches));
        let bound = bounds.max_attempts_per_downstream;
        let mut problems = Vec::new();
        for (downstream, asked) in self.calls_per_downstream(bounds.max_retries) {
            let attempts = asked.further.min(shared).saturating_add(asked.calls);
            if attempts <= bound {
                continue;
            }
            let last = asked.nodes[asked.nodes.len() - 1];
            let nodes = self.plan.joined(&asked.nodes, ", ");
            problems.push(PlanDiagnostic::new(
                Severity::Warning,
                "amplification",
                PlanLocation::of(&self.plan.names[last], None),
                format!(
                    "one request may send {attempts} attempts to \"{downstream}\" (nodes {nodes}), but at most {bound} are allowed"
                ),
                match bound as usize / asked.nodes.len() {
                    0 => format!("call \"{downstream}\" from fewer nodes, with fewer attempts each"),
                    1 => format!("turn off retries and hedges for \"{downstream}\""),
                    each => format!("limit a call of \"{downstream}\" to {each} attempts"),
                },
            ));
        }
        problems
    }
}

/// The calls of a request to one downstream.
#[derive(Default)]
struct DownstreamCalls {
    /// The nodes that make the calls. Never empty.
    nodes: Vec<usize>,
    /// Number of calls.
    calls: u32,
    /// Number of attempts beyond the first of each call.
    further: u32,
}

/// Returns the message that `what` takes longer than the deadline.
fn exceeds(what: &str, takes_time: &str, takes: Duration, deadline: Duration) -> String {
    let takes = match takes {
        Duration::MAX => "any time".into(),
        takes => written(takes).to_string(),
    };
    let deadline = written(deadline);
    format!("{what} {takes_time} {takes}, but the deadline is {deadline}")
}
