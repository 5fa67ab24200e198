//! Checks the graph of a plan. Pure.

use super::{
    NodeInfo,
    diagnostic::PlanDiagnostic,
    location::{PlanLocation, PlanPart},
};
use crate::graph::{self, Ancestors};

/// A read of another node's answer.
pub(super) struct Read {
    pub(super) node: usize,
    /// Position in the node's reads, from 0.
    pub(super) position: usize,
    pub(super) on: usize,
}

/// The structure of a plan's graph. Empty if the graph has a cycle.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) order: Vec<usize>,
    pub(super) dependents: Vec<Vec<usize>>,
    pub(super) waves: Vec<usize>,
    pub(super) ancestors: Ancestors,
}

/// Analyzes the graph of `nodes` and adds its problems to `problems`.
///
/// `loose` nodes have a dependency that could not be resolved. The ancestors of these nodes and
/// their dependents are incomplete, so their reads are not checked.
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
        // Ancestors are defined only without cycles, so reads are not checked.
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
        place: PlanLocation::part(&names[read.node], PlanPart::Reads(read.position)),
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

/// Returns the problem of a cycle. Nodes are mostly declared after their dependencies, so a
/// dependency on a later node is the most likely mistake. Each cycle has one.
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

/// Returns the location where the dependency of `node` on `on` was declared.
fn after(names: &[Box<str>], nodes: &[NodeInfo], node: usize, on: usize) -> PlanLocation {
    let mut dependencies = nodes[node].dependencies.iter();
    let found = dependencies.find(|dependency| dependency.node == on);
    let position = found.map_or(0, |dependency| dependency.declared as usize);
    PlanLocation::part(&names[node], PlanPart::After(position))
}

/// Returns, per node, whether every successful request needs it: required nodes, and the nodes that
/// they need.
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

/// Returns a problem for each needed node that no tier can use, because the node and the nodes it
/// needs have no tier in common.
fn unreachable(names: &[Box<str>], nodes: &[NodeInfo], order: &[usize]) -> Vec<PlanDiagnostic> {
    let needed = needed(nodes, order);
    let mut problems = Vec::new();
    // The tiers that can use each node. `None` means all.
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

/// Returns the tiers that are in both lists. `None` means all tiers.
fn both<'t>(one: Option<Vec<&'t str>>, other: Option<&[&'t str]>) -> Option<Vec<&'t str>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.retain(|tier| other.contains(tier));
            Some(one)
        }
        (one, other) => one.or_else(|| other.map(<[_]>::to_vec)),
    }
}

/// Returns the nodes restricted to tiers among `node` and the nodes it needs, with their tiers.
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

/// Returns a problem for each unconditional, needed node that needs a conditional one.
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
