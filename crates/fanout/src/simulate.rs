//! Simulates the schedule of a request's nodes, given how long each takes. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

use crate::{
    graph,
    plan::{NodeOrder, PlanGraph},
    select::Choice,
    time_budget::reserves_time_for,
};

/// The nodes of a request, as input of a simulation.
pub(crate) struct SimulatedNodes<'w> {
    pub(crate) plan: &'w PlanGraph,
    /// The order in which ready nodes start, and their expected times.
    pub(crate) node_order: &'w NodeOrder,
    pub(crate) choices: &'w [Choice],
}

impl SimulatedNodes<'_> {
    /// Returns `true` if the request runs `node`.
    pub(crate) fn runs(&self, node: usize) -> bool {
        self.choices[node].runs()
    }

    /// Returns `true` if the request runs `node` and requires its answer.
    pub(crate) fn is_required(&self, node: usize) -> bool {
        self.choices[node].is_required()
    }

    /// Returns the nodes that run, in order of declaration.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.choices.len()).filter(|&node| self.runs(node))
    }

    /// Returns the nodes that run, in topological order.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = usize> {
        self.plan
            .order
            .iter()
            .copied()
            .filter(|&node| self.runs(node))
    }

    /// Returns the nodes that run and on which no other running node depends.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = usize> {
        self.running()
            .filter(|&node| self.plan.is_sink(node, self.choices))
    }

    /// Returns the running nodes that `node` depends on.
    pub(crate) fn before(&self, node: usize) -> impl Iterator<Item = usize> {
        let dependencies = self.plan.nodes[node].dependencies();
        dependencies.filter(|&other| self.runs(other))
    }

    /// Returns the nodes that run, grouped into waves. The nodes of a wave would start together if
    /// all nodes took equally long.
    pub(crate) fn waves(&self) -> Vec<Vec<usize>> {
        let before = |node: usize| match self.runs(node) {
            true => self.before(node).collect(),
            false => Vec::new(),
        };
        let edges: Vec<Vec<usize>> = (0..self.choices.len()).map(before).collect();
        let wave = graph::waves(&self.plan.order, &edges);
        let count = self.running().map(|node| wave[node] + 1).max();
        let mut waves = vec![Vec::new(); count.unwrap_or(0)];
        self.running().for_each(|node| waves[wave[node]].push(node));
        waves
    }

    /// Returns, for each node, the length of the longest chain of dependents that the node reserves
    /// time for. `times` holds the duration of each node.
    pub(crate) fn chains(&self, times: &[Duration]) -> Vec<Duration> {
        let mut chains = vec![Duration::ZERO; self.choices.len()];
        for &node in self
            .plan
            .order
            .iter()
            .rev()
            .filter(|&&node| self.runs(node))
        {
            let chain = times[node].saturating_add(chains[node]);
            for before in self.before(node) {
                if reserves_time_for(self.is_required(before), self.is_required(node)) {
                    chains[before] = chains[before].max(chain);
                }
            }
        }
        chains
    }

    /// Returns the nodes that determine the end of `last` in `schedule`, from the first to `last`
    /// itself.
    pub(crate) fn path_to(&self, last: Option<usize>, schedule: &Schedule) -> Vec<usize> {
        graph::critical_path(last, |node| self.before(node), |node| schedule.end(node))
    }

    /// Simulates a run in which each node takes as long as `times` says and answers. At most
    /// `at_once` nodes run at a time.
    pub(crate) fn schedule(&self, times: &[Duration], at_once: usize) -> Schedule {
        let mut waits: Vec<usize> = (0..self.choices.len())
            .map(|node| self.before(node).count())
            .collect();
        let turn = |node: usize| (!self.is_required(node), self.node_order.rank[node], node);
        let mut ready: BTreeSet<_> = self
            .running()
            .filter(|&node| waits[node] == 0)
            .map(turn)
            .collect();
        let mut running = BinaryHeap::new();
        let mut spans = vec![None; self.choices.len()];
        let mut now = Duration::ZERO;
        loop {
            while running.len() < at_once {
                let Some((_, _, node)) = ready.pop_first() else {
                    break;
                };
                let end = now.saturating_add(times[node]);
                spans[node] = Some((now, end));
                running.push(Reverse((end, node)));
            }
            let Some(&Reverse((end, _))) = running.peek() else {
                return Schedule { spans };
            };
            // All nodes that end at this time are released before the next node starts.
            now = end;
            while let Some(&Reverse((end, node))) = running.peek() {
                if end != now {
                    break;
                }
                running.pop();
                for &next in self.plan.dependents[node]
                    .iter()
                    .filter(|&&next| self.runs(next))
                {
                    waits[next] -= 1;
                    if waits[next] == 0 {
                        ready.insert(turn(next));
                    }
                }
            }
        }
    }
}

/// The start and end of each node in a simulated run. A node of unbounded duration ends at
/// [`Duration::MAX`].
pub(crate) struct Schedule {
    spans: Vec<Option<(Duration, Duration)>>,
}

impl Schedule {
    /// Returns the start of `node`, or `None` if it does not run.
    pub(crate) fn start(&self, node: usize) -> Option<Duration> {
        self.spans[node].map(|(start, _)| start)
    }

    /// Returns the end of `node`, or `None` if it does not run.
    pub(crate) fn end(&self, node: usize) -> Option<Duration> {
        self.spans[node].map(|(_, end)| end)
    }

    /// Returns the end of the last node.
    pub(crate) fn total(&self) -> Duration {
        let ends = self.spans.iter().flatten().map(|(_, end)| *end);
        ends.max().unwrap_or_default()
    }

    /// Returns the last of `nodes` to end.
    pub(crate) fn last(&self, nodes: impl Iterator<Item = usize>) -> Option<usize> {
        graph::last_to_end(nodes, |node| self.end(node))
    }
}
