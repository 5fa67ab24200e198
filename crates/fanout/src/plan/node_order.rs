//! The order in which ready nodes start, and the expected times it is derived from.

use std::{cmp::Reverse, time::Duration};

use super::PlanGraph;

/// The expected time and the rank of each node of a plan, as of one point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeOrder {
    /// Per node, its expected time. Zero if it is unknown.
    pub(crate) expected: Box<[Duration]>,
    /// Per node, its rank. Among ready nodes, those of lower rank start first. Ranks are ordered by
    /// priority (descending), then by the longest expected path to a sink (descending), then by the
    /// number of nodes on that path (descending), then by declaration.
    pub(crate) rank: Box<[u32]>,
    /// The nodes in order of their ranks.
    pub(crate) by_rank: Box<[u32]>,
    /// `true` if the expected time of at least one node is known.
    pub(crate) has_estimates: bool,
}

impl NodeOrder {
    /// Computes the order of `plan`. `expected` returns the expected time of a node, or zero if it
    /// is unknown.
    pub(crate) fn new(plan: &PlanGraph, expected: impl Fn(usize) -> Duration) -> Self {
        let nodes = &plan.nodes;
        let expected: Box<[Duration]> = (0..nodes.len()).map(expected).collect();
        let mut paths = vec![(Duration::ZERO, 0u32); nodes.len()];
        for &node in plan.order.iter().rev() {
            let after = plan.dependents[node]
                .iter()
                .map(|&dependent| paths[dependent]);
            let (time, hops) = after.max().unwrap_or_default();
            paths[node] = (time.saturating_add(expected[node]), hops + 1);
        }
        let mut by_rank: Box<[u32]> = (0..nodes.len() as u32).collect();
        // The sort is stable, so nodes that are equal stay in order of declaration.
        by_rank.sort_by_key(|&node| Reverse((nodes[node as usize].priority, paths[node as usize])));
        let mut rank = vec![0; nodes.len()].into_boxed_slice();
        for (position, &node) in (0..).zip(&by_rank) {
            rank[node as usize] = position;
        }
        Self {
            has_estimates: expected.iter().any(|time| !time.is_zero()),
            expected,
            rank,
            by_rank,
        }
    }

    /// Computes the order of `plan` from its declared expected times.
    pub(crate) fn declared(plan: &PlanGraph) -> Self {
        Self::new(plan, |node| plan.nodes[node].expected.unwrap_or_default())
    }
}
