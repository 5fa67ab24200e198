//! Caches the start order of a plan's nodes, which depends on the learnt latencies of their
//! downstreams.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::BoundNode;
use crate::plan::{NodeOrder, PlanGraph};

/// Maximum age of a cached order. Sorting at most once per second keeps it off the path of most
/// requests.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A cache of the current [`NodeOrder`] of a plan.
#[derive(Debug)]
pub(crate) struct NodeOrderCache {
    latest: Mutex<(Instant, Arc<NodeOrder>)>,
    /// `true` if the order can change: at least one node has a downstream whose latency is learnt.
    learns: bool,
}

impl NodeOrderCache {
    pub(super) fn new<Req>(plan: &PlanGraph, nodes: &[BoundNode<Req>]) -> Self {
        let now = Instant::now();
        let order = current_order(plan, nodes, now);
        Self {
            latest: Mutex::new((now, Arc::new(order))),
            learns: nodes.iter().any(|node| {
                let profile = node.profile.as_deref();
                profile.is_some_and(|profile| profile.expected().learns())
            }),
        }
    }

    /// Returns the order as of `now`, at most one second old. `plan` and `nodes` must be those that
    /// the cache was created with.
    pub(super) fn at<Req>(
        &self,
        now: Instant,
        plan: &PlanGraph,
        nodes: &[BoundNode<Req>],
    ) -> Arc<NodeOrder> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learns && now.saturating_duration_since(latest.0) >= MAX_AGE {
            *latest = (now, Arc::new(current_order(plan, nodes, now)));
        }
        Arc::clone(&latest.1)
    }
}

/// Computes the order as of `now`. The expected time of a node is the learnt latency of its
/// downstream. If it is unknown, the declared time is used, or zero.
fn current_order<Req>(plan: &PlanGraph, nodes: &[BoundNode<Req>], now: Instant) -> NodeOrder {
    NodeOrder::new(plan, |node| {
        let profile = nodes[node].profile.as_deref();
        let learnt = profile.and_then(|profile| profile.expected().at(now));
        learnt.or(plan.nodes[node].expected).unwrap_or_default()
    })
}
