//! What is expected of a plan: how long each node takes, and which should start first.

use std::{cmp::Reverse, time::Duration};

use super::PlanGraph;

/// What is expected of the nodes of a plan at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeOrder {
    /// Per node, how long it takes; zero if nothing is known.
    pub(crate) expected: Box<[Duration]>,
    /// Per node, its place among all that are ready: priority, then the longest expected path to the
    /// end, then the number of nodes on such a path, then declaration.
    pub(crate) rank: Box<[u32]>,
    /// The nodes by their rank.
    pub(crate) by_rank: Box<[u32]>,
    /// Whether anything is known of any node.
    pub(crate) knows: bool,
}

impl NodeOrder {
    /// Returns the node_order for `plan`, where `expected` returns the expected time of a node, or zero if
    /// nothing is known of it.
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
        by_rank.sort_by_key(|&node| Reverse((nodes[node as usize].priority, paths[node as usize])));
        let mut rank = vec![0; nodes.len()].into_boxed_slice();
        for (place, &node) in (0..).zip(&by_rank) {
            rank[node as usize] = place;
        }
        Self {
            knows: expected.iter().any(|time| !time.is_zero()),
            expected,
            rank,
            by_rank,
        }
    }
    /// Returns the node_order by the expected times that `plan` declares.
    pub(crate) fn declared(plan: &PlanGraph) -> Self {
        Self::new(plan, |node| plan.nodes[node].expected.unwrap_or_default())
    }
}
