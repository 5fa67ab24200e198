//! What is expected of a plan: how long each node takes, and which should start first.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::NodeInfo;

/// A forecast is made anew after this long, so that no request sorts.
const FRESH: Duration = Duration::from_secs(1);

/// What is expected of the nodes of a plan at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forecast {
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

impl Forecast {
    /// The forecast of `nodes`, which stand in `order`.
    pub(crate) fn new(
        nodes: &[NodeInfo],
        order: &[usize],
        dependents: &[Vec<usize>],
        now: Instant,
    ) -> Self {
        let expected: Box<[Duration]> = nodes.iter().map(|node| node.expected_at(now)).collect();
        let mut paths = vec![(Duration::ZERO, 0u32); nodes.len()];
        for &node in order.iter().rev() {
            let after = dependents[node].iter().map(|&dependent| paths[dependent]);
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
}

/// Keeps the forecast of a plan fresh.
#[derive(Debug)]
pub(crate) struct Forecaster {
    latest: Mutex<(Instant, Arc<Forecast>)>,
    /// Whether it may change at all: something is learnt of a node.
    learns: bool,
}

impl Forecaster {
    pub(crate) fn new(nodes: &[NodeInfo], order: &[usize], dependents: &[Vec<usize>]) -> Self {
        let now = Instant::now();
        let forecast = Forecast::new(nodes, order, dependents, now);
        Self {
            latest: Mutex::new((now, Arc::new(forecast))),
            learns: nodes.iter().any(|node| node.profile.is_some()),
        }
    }

    /// The forecast at `now`, of the same graph that it was made for; a second old at most.
    pub(crate) fn at(
        &self,
        now: Instant,
        nodes: &[NodeInfo],
        order: &[usize],
        dependents: &[Vec<usize>],
    ) -> Arc<Forecast> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learns && now.saturating_duration_since(latest.0) >= FRESH {
            *latest = (now, Arc::new(Forecast::new(nodes, order, dependents, now)));
        }
        Arc::clone(&latest.1)
    }
}
