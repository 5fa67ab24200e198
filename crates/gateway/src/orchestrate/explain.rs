//! What a request would do, without doing it.

use std::{collections::BTreeMap, time::Duration};

use indexmap::IndexMap;
use serde::Serialize;
use tokio::time::Instant;
use tower_fanout::Choice;
use tower_fanout_http::{
    correlation::CorrelationId,
    problem::Problem,
    wire::{Millis, breaker_state},
};

use super::{Job, Reply};

/// A plan as one request would run it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained<'j> {
    route: &'j str,
    plan_id: &'j str,
    strategy: &'static str,
    deadline: u64,
    waves: Vec<Vec<&'j str>>,
    critical_path: Vec<&'j str>,
    expected: Option<Millis>,
    worst_case: Millis,
    services: IndexMap<&'j str, Service<'j>>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'j> {
    required: bool,
    selected: bool,
    skip_reason: Option<&'static str>,
    depends_on: Vec<&'j str>,
    circuit_breaker_state: &'static str,
    worst_case_attempts: u8,
}

impl Explained<'_> {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values are always JSON")
    }
}

/// Explains what `job` would do.
pub(super) fn explain<'j>(job: &'j Job<'_>) -> Result<Explained<'j>, Problem> {
    let choices = job.choose()?;
    let names = job.route.names();
    let nodes = job.route.fan_out.plan().nodes();
    let runs = |node: &usize| matches!(choices[*node], Choice::Run { .. });
    let running: Vec<usize> = (0..nodes.len()).filter(runs).collect();
    let deadline = Duration::from_millis(job.effective.timeout);
    let worst = |node: usize| {
        job.worst_case(node)
            .map_or(deadline, |worst| worst.min(deadline))
    };
    let now = Instant::now();
    let expected = |node: usize| nodes[node].profile()?.expected().at(now);
    let known = running.iter().all(|&node| expected(node).is_some());
    let (critical_path, worst_case) = longest(job, &running, worst);
    let (expected_path, expected) =
        longest(job, &running, |node| expected(node).unwrap_or_default());
    let critical_path = if known { expected_path } else { critical_path };
    Ok(Explained {
        route: &job.route.name,
        plan_id: &job.route.plan_id,
        strategy: job.strategy.as_str(),
        deadline: job.effective.timeout,
        waves: waves(job, &running),
        critical_path: critical_path
            .into_iter()
            .map(|node| &*names[node])
            .collect(),
        expected: known.then_some(Millis(expected)),
        worst_case: Millis(worst_case.min(deadline)),
        services: (0..nodes.len())
            .map(|node| (&*names[node], job.service(node, choices[node])))
            .collect(),
        warnings: job.warnings(worst_case, deadline),
    })
}

/// The names of `running`, by how many others come before them at most.
fn waves<'j>(job: &'j Job<'_>, running: &[usize]) -> Vec<Vec<&'j str>> {
    let nodes = job.route.fan_out.plan().nodes();
    let mut waves: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for &node in running {
        let wave = waves.entry(nodes[node].wave()).or_default();
        wave.push(&job.route.names()[node]);
    }
    waves.into_values().collect()
}

/// The path that takes longest among `running`, and how long it takes.
fn longest(
    job: &Job<'_>,
    running: &[usize],
    time: impl Fn(usize) -> Duration,
) -> (Vec<usize>, Duration) {
    let plan = job.route.fan_out.plan();
    let mut ends: Vec<(Duration, Option<usize>)> = vec![(Duration::ZERO, None); plan.nodes().len()];
    let mut ordered = running.to_vec();
    ordered.sort_by_key(|&node| plan.nodes()[node].wave());
    for &node in &ordered {
        let before = plan.nodes()[node]
            .dependencies()
            .filter(|other| running.contains(other));
        let last = before.max_by_key(|&other| ends[other].0);
        let start = last.map_or(Duration::ZERO, |last| ends[last].0);
        ends[node] = (start.saturating_add(time(node)), last);
    }
    let mut path = Vec::new();
    let mut node = ordered
        .into_iter()
        .max_by_key(|&node| (ends[node].0, std::cmp::Reverse(node)));
    let total = node.map_or(Duration::ZERO, |node| ends[node].0);
    while let Some(at) = node {
        path.push(at);
        node = ends[at].1;
    }
    path.reverse();
    (path, total)
}

impl Job<'_> {
    fn attempts(&self, node: usize) -> u8 {
        let policy = self.route.backends[node].downstream.policy();
        policy.max_attempts().min(self.effective.retry_attempts + 1)
    }

    fn worst_case(&self, node: usize) -> Option<Duration> {
        let policy = self.route.backends[node].downstream.policy();
        policy.worst_case_of(self.attempts(node))
    }

    fn service(&self, node: usize, choice: Choice) -> Service<'_> {
        let info = &self.route.fan_out.plan().nodes()[node];
        Service {
            required: choice == Choice::Run { required: true },
            selected: matches!(choice, Choice::Run { .. }),
            skip_reason: match choice {
                Choice::Skip(reason) => Some(reason.as_str()),
                _ => None,
            },
            depends_on: info
                .dependencies()
                .map(|other| &*self.route.names()[other])
                .collect(),
            circuit_breaker_state: breaker_state(self.route.backends[node].breaker_state()),
            worst_case_attempts: self.attempts(node),
        }
    }

    fn warnings(&self, worst_case: Duration, deadline: Duration) -> Vec<String> {
        if worst_case <= deadline {
            return Vec::new();
        }
        vec![format!(
            "the worst case of the critical path, {worst_case:?}, is more than the deadline, {deadline:?}"
        )]
    }
}

/// The explanation on the wire, with what a run came to if there was one.
pub(super) fn reply(
    explained: &str,
    result: Option<Result<Reply, Problem>>,
    id: &CorrelationId,
) -> Reply {
    let mut body = explained.to_owned();
    if let Some(result) = result {
        let result = match result {
            Ok(reply) => reply.body,
            Err(problem) => problem.to_json(Some(id)),
        };
        body.pop();
        body.push_str(",\"result\":");
        body.push_str(&result);
        body.push('}');
    }
    Reply {
        body,
        completed: true,
        timing: None,
    }
}
