//! Random plans, each with one request.

use std::num::NonZeroUsize;

use proptest::{collection::vec, option, prelude::*, sample::Index};
use tower_fanout::{ReturnWhen, Selection, Strategy as Aggregation};

/// The behaviour of a node's service, unless the run ends the call first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Answers,
    Fails,
    Panics,
    Never,
}

/// A node. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) latency: u64,
    pub(crate) ends: Ends,
    /// The dependencies. The flag is `true` for a hard one.
    pub(crate) dependencies: Vec<(usize, bool)>,
    pub(crate) required: bool,
    pub(crate) priority: u8,
    /// `true` if only callers of the better tier may use the node.
    pub(crate) tiered: bool,
    /// The value of the node's condition, if it has one.
    pub(crate) when: Option<bool>,
    pub(crate) expected: Option<u64>,
    /// `true` if the node has an answer for when it is cut.
    pub(crate) fallback: bool,
}

/// A plan and one request.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) nodes: Vec<Node>,
    pub(crate) selection: Selection,
    /// `true` if the caller has the better tier.
    pub(crate) tier: bool,
    pub(crate) strategy: Aggregation,
    pub(crate) return_when: ReturnWhen,
    pub(crate) grace: u64,
    pub(crate) max_concurrency: usize,
    /// A multiple of 20, so that a twentieth of it is a whole number too.
    pub(crate) deadline: Option<u64>,
}

impl Case {
    /// Changes the case so that every node runs and answers, without limits.
    pub(crate) fn unconstrain(&mut self) {
        (self.strategy, self.return_when) = (Aggregation::Partial, ReturnWhen::All);
        (self.selection, self.deadline) = (Selection::Plan, None);
        (self.tier, self.max_concurrency) = (true, self.nodes.len());
        for node in &mut self.nodes {
            (node.ends, node.when) = (Ends::Answers, None);
        }
    }
}

/// Few distinct values, so that many latencies are equal.
fn latency() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..=4,
        0u64..=1000,
        (0u64..=10).prop_map(|tenth| tenth * 100)
    ]
}

fn ends() -> impl Strategy<Value = Ends> {
    prop_oneof![
        12 => Just(Ends::Answers),
        2 => Just(Ends::Fails),
        1 => Just(Ends::Panics),
        1 => Just(Ends::Never),
    ]
}

/// A node that depends on some of the nodes before it.
fn node() -> impl Strategy<Value = (Node, Vec<(Index, bool)>)> {
    let dependencies = vec((any::<Index>(), prop::bool::weighted(0.6)), 0..4);
    let facts = (any::<bool>(), 0u8..10, prop::bool::weighted(0.1));
    let when = option::weighted(0.15, prop::bool::weighted(0.7));
    let expected = option::weighted(0.4, latency());
    let fallback = prop::bool::weighted(0.25);
    (
        latency(),
        ends(),
        facts,
        when,
        (expected, fallback),
        dependencies,
    )
        .prop_map(
            |(latency, ends, facts, when, (expected, fallback), before)| {
                let (required, priority, tiered) = facts;
                let node = Node {
                    latency,
                    ends,
                    dependencies: Vec::new(),
                    required,
                    priority,
                    tiered,
                    when,
                    expected,
                    fallback,
                };
                (node, before)
            },
        )
}

/// Nodes in a random order of declaration.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let nodes = prop_oneof![5 => vec(node(), 1..12), 1 => vec(node(), 12..=60)];
    let with_positions = nodes.prop_flat_map(|nodes| {
        let positions: Vec<usize> = (0..nodes.len()).collect();
        (Just(nodes), Just(positions).prop_shuffle())
    });
    with_positions.prop_map(|(nodes, positions)| {
        let mut declared = vec![None; nodes.len()];
        for (at, (mut node, before)) in nodes.into_iter().enumerate() {
            for (pick, hard) in before.into_iter().filter(|_| at > 0) {
                let dependency = positions[pick.index(at)];
                if node.dependencies.iter().all(|one| one.0 != dependency) {
                    node.dependencies.push((dependency, hard));
                }
            }
            declared[positions[at]] = Some(node);
        }
        declared.into_iter().flatten().collect()
    })
}

fn strategy() -> impl Strategy<Value = Aggregation> {
    prop_oneof![
        Just(Aggregation::All),
        Just(Aggregation::Partial),
        Just(Aggregation::BestEffort),
        Just(Aggregation::First),
        (1usize..4).prop_map(|n| Aggregation::Quorum(NonZeroUsize::new(n).unwrap())),
    ]
}

fn return_when() -> impl Strategy<Value = ReturnWhen> {
    prop_oneof![
        Just(ReturnWhen::All),
        Just(ReturnWhen::Required),
        Just(ReturnWhen::Deadline),
    ]
}

fn selection(of: usize) -> impl Strategy<Value = Selection> {
    let selections = vec(option::weighted(0.5, any::<bool>()), of).prop_map(|nodes| {
        let named = |wanted| {
            let chosen = nodes.iter().enumerate();
            let chosen = chosen.filter(move |(_, required)| **required == Some(wanted));
            chosen.map(|(node, _)| node).collect::<Vec<_>>()
        };
        Selection::named(&named(true), &named(false))
    });
    prop_oneof![3 => Just(Selection::Plan), 1 => selections]
}

/// Plans of up to 60 nodes. If the case has no deadline, every node ends.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let concurrency = prop_oneof![1usize..6, Just(usize::MAX)];
    let deadline = option::weighted(0.5, (1u64..150).prop_map(|twenties| twenties * 20));
    let asked = (
        any::<bool>(),
        strategy(),
        return_when(),
        0u64..200,
        concurrency,
        deadline,
    );
    let nodes = nodes().prop_flat_map(|nodes| {
        let count = nodes.len();
        (Just(nodes), selection(count))
    });
    (nodes, asked).prop_map(|((mut nodes, selection), asked)| {
        let (tier, strategy, return_when, grace, max_concurrency, deadline) = asked;
        if deadline.is_none() {
            let never = nodes.iter_mut().filter(|node| node.ends == Ends::Never);
            never.for_each(|node| node.ends = Ends::Fails);
        }
        Case {
            nodes,
            selection,
            tier,
            strategy,
            return_when,
            // Often zero, which ends the grace period at once.
            grace: grace.saturating_sub(100),
            max_concurrency,
            deadline,
        }
    })
}
