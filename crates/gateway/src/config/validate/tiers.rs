//! Finds nodes that no caller can run, because of tiers, conditions and dependencies together.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use tower_fanout::Strategy;

use super::{
    super::{Jwt, Node, RouteAuth, Tier, check::Nodes, reader::ValueReader},
    conditions::Outcomes,
};

/// Reports nodes whose tiers no caller of the route can have. `auth` is that of the route, and `possible` are the
/// tiers of its callers.
pub(in crate::config) fn check_tiers(
    nodes: &Nodes<'_, '_>,
    auth: Option<&RouteAuth>,
    possible: &[&str],
) {
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        if node.tiers.is_empty() || possible.iter().any(|tier| admits(node, tier)) {
            continue;
        }
        let message = format!(
            "\"{name}\" never runs: every caller of this route is in tier {}",
            quoted(possible.to_vec(), " or ")
        );
        let help = match auth {
            None => "add auth to the route, or remove the tiers",
            Some(_) => "set tier.claim of the provider, or remove the tiers",
        };
        reader
            .at("tiers")
            .error_with_help("never_runs", message, Some(help.into()));
    }
}

/// Reports nodes that run in no tier together with the nodes that they depend on. `possible` are the tiers of the
/// callers. Returns `true` if each node runs in some tier.
pub(in crate::config) fn check_dependencies(
    nodes: &Nodes<'_, '_>,
    possible: &[&str],
    outcomes: &Outcomes,
) -> bool {
    let tiers = possible.iter();
    let runs: HashSet<&str> = tiers
        .flat_map(|tier| running(nodes, tier, outcomes))
        .collect();
    let runs = |name: &str| runs.contains(name);
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        let alone = possible.iter().any(|tier| runs_alone(node, tier, outcomes));
        // The other nodes that never run are reported at the first cause.
        if alone && !runs(name) && needed(node).all(runs) {
            let message = format!(
                "\"{name}\" never runs: it depends on {}, but no tier of the callers runs all of them",
                quoted(needed(node).collect(), " and ")
            );
            let help = "change the tiers or conditions, or make a dependency optional";
            let reader = reader.at("depends_on");
            reader.error_with_help("never_runs", message, Some(help.into()));
        }
    }
    nodes.keys().all(|name| runs(name))
}

/// Reports a `quorum` that no tier can reach at `reader`, the `aggregate` map.
pub(in crate::config) fn check_quorum_of_tiers(
    reader: &ValueReader<'_>,
    strategy: Strategy,
    nodes: &Nodes<'_, '_>,
    possible: &[&str],
    outcomes: &Outcomes,
) {
    let Strategy::Quorum(quorum) = strategy else {
        return;
    };
    let most = possible
        .iter()
        .map(|tier| running(nodes, tier, outcomes).len())
        .max();
    let most = most.unwrap_or_default();
    if most < quorum.get() {
        let reader = reader.at("strategy.quorum");
        let message = format!(
            "quorum is {}, but no caller's tier runs more than {most} of the nodes",
            reader.shown()
        );
        let help = "lower the quorum, or let more nodes run in one tier";
        reader.error_with_help("invalid", message, Some(help.into()));
    }
}

/// Returns the nodes that can run for callers in `tier`, whatever else the request has.
fn running<'n>(nodes: &'n Nodes<'_, '_>, tier: &str, outcomes: &Outcomes) -> HashSet<&'n str> {
    let known = || {
        nodes
            .iter()
            .filter_map(|(name, (node, _))| Some((name.as_str(), node.as_ref()?)))
    };
    let alone = known().filter(|(_, node)| runs_alone(node, tier, outcomes));
    let mut running: HashSet<&str> = alone.map(|(name, _)| name).collect();
    let mut dependents: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, node) in known() {
        needed(node).for_each(|other| dependents.entry(other).or_default().push(name));
    }
    // A node that does not run stops those that depend on it.
    let others = dependents.keys().copied();
    let mut stopped: Vec<&str> = others.filter(|name| !running.contains(name)).collect();
    while let Some(name) = stopped.pop() {
        let dependents = dependents.get(name).into_iter().flatten();
        stopped.extend(dependents.copied().filter(|name| running.remove(name)));
    }
    running
}

/// Returns the names of the nodes without which `node` does not run.
fn needed(node: &Node) -> impl Iterator<Item = &str> {
    let needed = node.depends_on.iter().filter(|one| !one.optional);
    needed.map(|dependency| dependency.node.as_str())
}

/// Returns `true` if callers in `tier` run the node, apart from the nodes that it depends on.
fn runs_alone(node: &Node, tier: &str, outcomes: &Outcomes) -> bool {
    let never = |condition| outcomes.never_holds(condition, &[tier]);
    admits(node, tier) && !node.when.as_ref().is_some_and(never)
}

/// Returns `true` if the tiers of the node include `tier`.
pub(super) fn admits(node: &Node, tier: &str) -> bool {
    node.tiers.is_empty() || node.tiers.iter().any(|own| own == tier)
}

/// Returns the tiers of the callers of a route with `auth`.
pub(in crate::config) fn possible_tiers<'c>(
    auth: Option<&RouteAuth>,
    jwt: &'c IndexMap<String, Jwt>,
    tiers: &'c IndexMap<String, Tier>,
) -> Vec<&'c str> {
    match auth {
        // Callers without a token are in the lowest tier.
        None => vec![tiers.first().map_or("default", |(name, _)| name)],
        Some(auth) => (auth.jwt.iter())
            .flat_map(|name| tiers_of(&jwt[name]))
            .collect(),
    }
}

/// Returns the tiers that tokens of a provider can give.
fn tiers_of(jwt: &Jwt) -> Vec<&str> {
    let rules = &jwt.verifier;
    match rules.tier_claim {
        Some(_) => rules.tiers.iter().map(String::as_str).collect(),
        None => vec![&rules.default_tier],
    }
}

/// Returns the sorted `names` in quotes, with `separator` between them.
pub(super) fn quoted(mut names: Vec<&str>, separator: &str) -> String {
    names.sort_unstable();
    names.dedup();
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(separator)
}
