//! What can be seen of a plan as a graph. Pure.

use super::{
    NodeInfo,
    diagnostic::PlanDiagnostic,
    location::{PlanLocation, PlanPart},
};
use crate::graph::{self, Ancestors};

/// A node reads the answer of another.
pub(super) struct Read {
    pub(super) node: usize,
    /// Which of the node's reads it is, from 0.
    pub(super) place: usize,
    pub(super) on: usize,
}

/// How the nodes of a plan hang together; empty if they wait for each other.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) order: Vec<usize>,
    pub(super) dependents: Vec<Vec<usize>>,
    pub(super) waves: Vec<usize>,
    pub(super) ancestors: Ancestors,
}

/// The graph of `nodes`; what is wrong with it is added to `problems`. What `loose` nodes and those after
/// them come after is not known in full, so nothing is said of what they read.
pub(super) fn graph(
    names: &[Box<str>],
    nodes: &[NodeInfo],
    reads: &[Read],
    loose: &[usize],
    problems: &mut Vec<PlanDiagnostic>,
) -> Graph {
    if names.is_empty() {
        problems.push(PlanDiagnostic::Empty);
    }
    let edges: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| node.dependencies().collect())
        .collect();
    let order = match graph::sort(&edges) {
        Ok(order) => order,
        // Whether a node comes after another cannot be said before this is mended.
        Err(paths) => {
            problems.extend(paths.iter().map(|path| cycle(names, nodes, path)));
            return Graph::default();
        }
    };
    let ancestors = Ancestors::new(&order, &edges);
    let strange = reads
        .iter()
        .filter(|read| !ancestors.contains(read.node, read.on))
        .filter(|read| {
            let is_loose = |&other| other == read.node || ancestors.contains(read.node, other);
            !loose.iter().any(is_loose)
        });
    problems.extend(strange.map(|read| PlanDiagnostic::NotADependency {
        place: PlanLocation::part(&names[read.node], PlanPart::Reads(read.place)),
        on: names[read.on].to_string(),
        circular: read.node == read.on || ancestors.contains(read.on, read.node),
    }));
    problems.extend(unreachable(names, nodes, &order));
    Graph {
        dependents: graph::reverse(&edges),
        waves: graph::waves(&order, &edges),
        order,
        ancestors,
    }
}

/// Nodes are mostly declared after what they depend on, so the dependency that is most likely a
/// mistake is one on a later node; there is one on every cycle.
fn cycle(names: &[Box<str>], nodes: &[NodeInfo], path: &[usize]) -> PlanDiagnostic {
    let steps = path.iter().zip(path.iter().cycle().skip(1));
    let (&node, &on) = steps
        .max_by_key(|(node, on)| on >= node)
        .expect("a cycle has a step");
    PlanDiagnostic::Cycle {
        path: path.iter().map(|&node| names[node].to_string()).collect(),
        place: after(names, nodes, node, on),
        on: names[on].to_string(),
    }
}

/// Where it was declared that `node` comes after `on`.
fn after(names: &[Box<str>], nodes: &[NodeInfo], node: usize, on: usize) -> PlanLocation {
    let mut dependencies = nodes[node].dependencies.iter();
    let found = dependencies.find(|dependency| dependency.node == on);
    let place = found.map_or(0, |dependency| dependency.declared as usize);
    PlanLocation::part(&names[node], PlanPart::After(place))
}

/// The nodes that the answer as a whole needs: the required ones, and what they cannot do without.
fn needed(nodes: &[NodeInfo], order: &[usize]) -> Vec<bool> {
    let mut needed: Vec<bool> = nodes.iter().map(NodeInfo::is_required).collect();
    for &node in order.iter().rev() {
        if needed[node] {
            nodes[node]
                .hard_dependencies()
                .for_each(|on| needed[on] = true);
        }
    }
    needed
}

/// Nodes that are needed, and that no tier can have: it and what it needs have none in common.
fn unreachable(names: &[Box<str>], nodes: &[NodeInfo], order: &[usize]) -> Vec<PlanDiagnostic> {
    let needed = needed(nodes, order);
    let mut problems = Vec::new();
    // The tiers that can have each node; none for all.
    let mut common: Vec<Option<Vec<&str>>> = vec![None; nodes.len()];
    let is_empty = |tiers: &Option<Vec<&str>>| tiers.as_ref().is_some_and(Vec::is_empty);
    for &node in order {
        let own = (!nodes[node].tiers.is_empty())
            .then(|| nodes[node].tiers.iter().map(String::as_str).collect());
        let tiers = nodes[node]
            .hard_dependencies()
            .fold(own, |tiers, on| both(tiers, common[on].as_deref()));
        let mut before = nodes[node].hard_dependencies();
        let begins_here = is_empty(&tiers) && !before.any(|on| is_empty(&common[on]));
        if needed[node] && begins_here {
            problems.push(PlanDiagnostic::Unreachable {
                node: names[node].to_string(),
                needs: limited(names, nodes, node),
            });
        }
        common[node] = tiers;
    }
    problems
}

/// The tiers that are among both; none is all.
fn both<'t>(one: Option<Vec<&'t str>>, other: Option<&[&'t str]>) -> Option<Vec<&'t str>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.retain(|tier| other.contains(tier));
            Some(one)
        }
        (one, other) => one.or_else(|| other.map(<[_]>::to_vec)),
    }
}

/// The nodes that `node` needs and that only some tiers have, itself included, with their tiers.
fn limited(names: &[Box<str>], nodes: &[NodeInfo], node: usize) -> Vec<(String, Vec<String>)> {
    let mut needs = vec![node];
    let mut next = 0;
    while let Some(&node) = needs.get(next) {
        next += 1;
        for on in nodes[node].hard_dependencies() {
            if !needs.contains(&on) {
                needs.push(on);
            }
        }
    }
    needs.retain(|&node| !nodes[node].tiers.is_empty());
    let named = |node: usize| (names[node].to_string(), nodes[node].tiers.clone());
    needs.into_iter().map(named).collect()
}

/// Nodes that are needed by every request, but not there for those for which what they need is not.
pub(super) fn conditions(
    names: &[Box<str>],
    nodes: &[NodeInfo],
    order: &[usize],
) -> Vec<PlanDiagnostic> {
    let needed = needed(nodes, order);
    let mut problems = Vec::new();
    for node in (0..nodes.len()).filter(|&node| needed[node] && !nodes[node].conditional) {
        let on = nodes[node].hard_dependencies();
        problems.extend(on.filter(|&on| nodes[on].conditional).map(|on| {
            PlanDiagnostic::ConditionalDependency {
                place: after(names, nodes, node, on),
                on: names[on].to_string(),
            }
        }));
    }
    problems
}
