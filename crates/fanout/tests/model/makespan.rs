//! Compares the duration of runs of bounded concurrency with a lower bound.

use std::collections::BTreeSet;

use fastrand::Rng;
use tower_fanout::{ReturnWhen, Selection, Strategy};

use crate::{
    case::{Case, Ends, Node},
    real, reference,
};

/// Number of random plans of each kind.
const PLANS: u64 = 25;

/// A node whose latency is its expected time.
fn node(rng: &mut Rng, dependencies: Vec<(usize, bool)>) -> Node {
    let latency = rng.u64(1..=200);
    Node {
        latency,
        ends: Ends::Answers,
        dependencies,
        required: true,
        priority: 0,
        tiered: false,
        when: None,
        expected: Some(latency),
        fallback: false,
    }
}

/// Returns up to three of the nodes in `from`, as dependencies.
fn some(rng: &mut Rng, from: std::ops::Range<usize>) -> Vec<(usize, bool)> {
    let picks = rng.usize(1..=3);
    let mut some: Vec<_> = (0..picks)
        .map(|_| (rng.usize(from.clone()), true))
        .collect();
    some.sort_unstable();
    some.dedup();
    some
}

/// Layers of twelve nodes. Each node depends on some nodes of the layer before.
fn layered(rng: &mut Rng) -> Vec<Node> {
    let mut nodes = Vec::new();
    for place in 0..12 * rng.usize(9..=20) {
        let layer = place / 12 * 12;
        let before = if layer == 0 {
            Vec::new()
        } else {
            some(rng, layer - 12..layer)
        };
        nodes.push(node(rng, before));
    }
    nodes
}

/// A third of the nodes depend on some of the thirty nodes declared before them.
fn sparse(rng: &mut Rng) -> Vec<Node> {
    let mut nodes = Vec::new();
    for place in 0..rng.usize(100..=240) {
        let depends = place > 0 && rng.u8(0..3) == 0;
        let before = if depends {
            some(rng, place.saturating_sub(30)..place)
        } else {
            Vec::new()
        };
        nodes.push(node(rng, before));
    }
    nodes
}

/// Returns the duration if ready nodes start in order of declaration.
fn in_declaration_order(case: &Case) -> u64 {
    let (mut now, mut over) = (0, BTreeSet::new());
    let (mut running, mut started) = (BTreeSet::new(), BTreeSet::new());
    while over.len() < case.nodes.len() {
        for (place, node) in case.nodes.iter().enumerate() {
            let is_ready = node.dependencies.iter().all(|one| over.contains(&one.0));
            if is_ready && running.len() < case.max_concurrency && started.insert(place) {
                running.insert((now + node.latency, place));
            }
        }
        let (end, node) = running.pop_first().expect("a node is running");
        now = end;
        over.insert(node);
    }
    now
}

/// Returns a lower bound for the duration: the longest path, or an even share of all latencies if
/// that is longer.
fn lower_bound(case: &Case) -> u64 {
    let work: u64 = case.nodes.iter().map(|node| node.latency).sum();
    let shared = work.div_ceil(u64::try_from(case.max_concurrency).unwrap());
    reference::critical_path(case).max(shared)
}

fn case(nodes: Vec<Node>, max_concurrency: usize) -> Case {
    Case {
        nodes,
        selection: Selection::Plan,
        tier: true,
        strategy: Strategy::Partial,
        return_when: ReturnWhen::All,
        grace: 0,
        max_concurrency,
        deadline: None,
    }
}

fn elapsed(case: &Case) -> u64 {
    real::run(case).outcome.unwrap().elapsed
}

#[test]
fn bounded_runs_are_on_average_within_1_percent_of_the_lower_bound() {
    let mut rng = Rng::with_seed(7);
    let (mut ratios, mut fifo) = (0.0, 0.0);
    let plans = 2 * PLANS * 4;
    for place in 0..PLANS * 2 {
        let nodes = match place % 2 {
            0 => layered(&mut rng),
            _ => sparse(&mut rng),
        };
        for max_concurrency in [2, 3, 5, 8] {
            let case = case(nodes.clone(), max_concurrency);
            let bound = lower_bound(&case) as f64;
            ratios += elapsed(&case) as f64 / bound;
            fifo += in_declaration_order(&case) as f64 / bound;
        }
    }
    let (ratio, fifo) = (ratios / plans as f64, fifo / plans as f64);
    println!("{ratio:.4} times the lower bound, and {fifo:.4} in order of declaration");
    assert!(ratio <= 1.01, "{ratio}");
    assert!(ratio < fifo, "{ratio} is not better than {fifo}");
}

/// A node may wait for every other node of its run, but a run gets no new nodes, so none can
/// starve.
#[test]
fn fault_g15_the_least_important_node_waits_at_most_for_all_others() {
    let mut rng = Rng::with_seed(15);
    for max_concurrency in 1..=4 {
        let mut case = case(sparse(&mut rng), max_concurrency);
        case.nodes.iter_mut().for_each(|node| node.priority = 9);
        let mut last = node(&mut rng, Vec::new());
        last.required = false;
        case.nodes.insert(0, last);
        for node in &mut case.nodes[1..] {
            node.dependencies.iter_mut().for_each(|one| one.0 += 1);
        }
        let outcome = real::run(&case).outcome.unwrap();
        let fate = &outcome.fates[&0];
        let others: u64 = case.nodes[1..].iter().map(|node| node.latency).sum();
        assert_eq!(fate.status, "success");
        assert!(fate.started.unwrap() <= others);
        let starts = outcome.fates.values().filter_map(|fate| fate.started);
        assert!(
            max_concurrency > 1 || starts.max() == fate.started,
            "the least important node starts last"
        );
    }
}
