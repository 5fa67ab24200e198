//! When the nodes of a request start and end if each takes as long as it is said to. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

use crate::{
    graph,
    plan::{NodeInfo, NodeOrder, PlanGraph},
    select::Choice,
    time_budget::reserves_time_for,
};

/// What a request has to do.
pub(crate) struct SimulatedNodes<'w> {
    pub(crate) nodes: &'w [NodeInfo],
    order: &'w [usize],
    dependents: &'w [Vec<usize>],
    /// Per node, its place among all that could start.
    rank: &'w [u32],
    choices: &'w [Choice],
}

impl<'w> SimulatedNodes<'w> {
    pub(crate) fn new(
        plan: &'w PlanGraph,
        node_order: &'w NodeOrder,
        choices: &'w [Choice],
    ) -> Self {
        Self {
            nodes: &plan.nodes,
            order: &plan.order,
            dependents: &plan.dependents,
            rank: &node_order.rank,
            choices,
        }
    }

    pub(crate) fn runs(&self, node: usize) -> bool {
        matches!(self.choices[node], Choice::Run { .. })
    }

    pub(crate) fn is_required(&self, node: usize) -> bool {
        self.choices[node] == Choice::Run { required: true }
    }

    /// The nodes that run, in order of declaration.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&node| self.runs(node))
    }

    /// The nodes that run, each after what it waits for.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = usize> {
        self.order.iter().copied().filter(|&node| self.runs(node))
    }

    /// The nodes that run and that no other waits for.
    pub(crate) fn ends(&self) -> impl Iterator<Item = usize> {
        let waited_for = |node: usize| self.dependents[node].iter().any(|&next| self.runs(next));
        self.running().filter(move |&node| !waited_for(node))
    }

    /// What `node` waits for.
    pub(crate) fn before(&self, node: usize) -> impl Iterator<Item = usize> {
        let dependencies = self.nodes[node].dependencies();
        dependencies.filter(|&other| self.runs(other))
    }

    /// The nodes that would start together if all took equally long.
    pub(crate) fn waves(&self) -> Vec<Vec<usize>> {
        let before = |node: usize| match self.runs(node) {
            true => self.before(node).collect(),
            false => Vec::new(),
        };
        let edges: Vec<Vec<usize>> = (0..self.nodes.len()).map(before).collect();
        let wave = graph::waves(self.order, &edges);
        let count = self.running().map(|node| wave[node] + 1).max();
        let mut waves = vec![Vec::new(); count.unwrap_or(0)];
        self.running().for_each(|node| waves[wave[node]].push(node));
        waves
    }

    /// For each node, how long the longest chain of those takes that come after it and that it makes
    /// room for.
    pub(crate) fn chains(&self, times: &[Duration]) -> Vec<Duration> {
        let mut chains = vec![Duration::ZERO; self.nodes.len()];
        for &node in self.order.iter().rev().filter(|&&node| self.runs(node)) {
            let chain = times[node].saturating_add(chains[node]);
            for before in self.before(node) {
                if reserves_time_for(self.is_required(before), self.is_required(node)) {
                    chains[before] = chains[before].max(chain);
                }
            }
        }
        chains
    }

    /// When each node starts and ends if it takes as long as `times` say, all of them answer, and no
    /// more than `at_once` run at once.
    pub(crate) fn schedule(&self, times: &[Duration], at_once: usize) -> Schedule {
        let mut waits: Vec<usize> = (0..self.nodes.len())
            .map(|node| self.before(node).count())
            .collect();
        let turn = |node: usize| (!self.is_required(node), self.rank[node], node);
        let mut ready: BTreeSet<_> = self
            .running()
            .filter(|&node| waits[node] == 0)
            .map(turn)
            .collect();
        let mut running = BinaryHeap::new();
        let mut spans = vec![None; self.nodes.len()];
        let mut now = Duration::ZERO;
        loop {
            while running.len() < at_once
                && let Some((_, _, node)) = ready.pop_first()
            {
                let end = now.saturating_add(times[node]);
                spans[node] = Some((now, end));
                running.push(Reverse((end, node)));
            }
            let Some(&Reverse((end, _))) = running.peek() else {
                return Schedule { spans };
            };
            now = end;
            while let Some(&Reverse((end, node))) = running.peek()
                && end == now
            {
                running.pop();
                for &next in self.dependents[node]
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

/// When the nodes of a request start and end; what takes without end ends at [`Duration::MAX`].
pub(crate) struct Schedule {
    spans: Vec<Option<(Duration, Duration)>>,
}

impl Schedule {
    /// When `node` starts, if it runs.
    pub(crate) fn start(&self, node: usize) -> Option<Duration> {
        self.spans[node].map(|(start, _)| start)
    }

    /// When `node` ends; at once if it does not run.
    pub(crate) fn end(&self, node: usize) -> Duration {
        self.spans[node].map_or(Duration::ZERO, |(_, end)| end)
    }

    /// When all have ended.
    pub(crate) fn total(&self) -> Duration {
        let ends = self.spans.iter().flatten().map(|(_, end)| *end);
        ends.max().unwrap_or_default()
    }

    /// The nodes that decide when `node` has ended: itself, what it waits for longest, and so on, from
    /// the first to the last. Of equals, the first that was declared.
    pub(crate) fn path_to(&self, work: &SimulatedNodes<'_>, node: usize) -> Vec<usize> {
        let mut path = vec![node];
        let mut node = node;
        while let Some(before) = self.last(work.before(node)) {
            path.push(before);
            node = before;
        }
        path.reverse();
        path
    }

    /// The last to end of `nodes`; of equals, the first that was declared.
    pub(crate) fn last(&self, nodes: impl Iterator<Item = usize>) -> Option<usize> {
        nodes.max_by_key(|&node| (self.end(node), Reverse(node)))
    }
}
