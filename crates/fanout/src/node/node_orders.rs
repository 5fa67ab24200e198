//! The node_order of a plan, from what was learnt of its downstreams.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::BoundNode;
use crate::plan::{NodeOrder, PlanGraph};

/// A node_order is replaced after this time, so that no request has to sort.
const FRESH: Duration = Duration::from_secs(1);

/// Keeps the node_order of a plan fresh.
#[derive(Debug)]
pub(crate) struct NodeOrders {
    latest: Mutex<(Instant, Arc<NodeOrder>)>,
    /// Whether the node_order can change at all: an expected time is learnt for some node.
    learns: bool,
}

impl NodeOrders {
    pub(super) fn new<Req>(plan: &PlanGraph, nodes: &[BoundNode<Req>]) -> Self {
        let now = Instant::now();
        let node_order = node_order(plan, nodes, now);
        Self {
            latest: Mutex::new((now, Arc::new(node_order))),
            learns: nodes.iter().any(|node| node.profile.is_some()),
        }
    }

    /// Returns the node_order at `now`, at most one second old, for the plan and the nodes that the
    /// node_orders was created with.
    pub(super) fn at<Req>(
        &self,
        now: Instant,
        plan: &PlanGraph,
        nodes: &[BoundNode<Req>],
    ) -> Arc<NodeOrder> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learns && now.saturating_duration_since(latest.0) >= FRESH {
            *latest = (now, Arc::new(node_order(plan, nodes, now)));
        }
        Arc::clone(&latest.1)
    }
}

/// Expects of each node what its downstream took lately, or else what was declared.
fn node_order<Req>(plan: &PlanGraph, nodes: &[BoundNode<Req>], now: Instant) -> NodeOrder {
    NodeOrder::new(plan, |node| {
        let profile = nodes[node].profile.as_deref();
        let learnt = profile.and_then(|profile| profile.expected().at(now));
        learnt.or(plan.nodes[node].expected).unwrap_or_default()
    })
}
