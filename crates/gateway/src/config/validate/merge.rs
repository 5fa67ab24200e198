//! Detects merge conflicts: members that the configuration declares for more than one node.

use std::collections::BTreeSet;

use tower_fanout::Strategy;

use super::super::{Node, aggregate::Aggregate, check::Nodes};

/// Reports members that several nodes of a plan declare. `choose` is `true` if a request may select
/// nodes, so that no two of them always run together.
pub(in crate::config) fn check_conflicts(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    choose: bool,
) {
    let known = nodes
        .iter()
        .filter_map(|(name, (node, _))| Some((&**name, &node.as_ref()?.filter)));
    for conflict in aggregate.merge.declared_conflicts(known) {
        for (index, second) in conflict.nodes.iter().enumerate().skip(1) {
            let before = &conflict.nodes[..index];
            let always =
                |first: &&String| !choose && together(nodes, aggregate.strategy, first, second);
            // A pair that always runs together conflicts in every run, which is an error.
            // Otherwise the conflict is only possible, which is a warning.
            let certain = before.iter().find(always);
            let first = certain.unwrap_or(&before[0]);
            report(nodes, &conflict.key, [first, second], certain.is_some());
        }
    }
}

/// Reports a conflict where the second node declares `key`: an error if `certain`, else a warning.
fn report(nodes: &Nodes<'_, '_>, key: &str, [first, second]: [&str; 2], certain: bool) {
    let Some((Some(node), reader)) = nodes.get(second) else {
        return;
    };
    // The conflicting name comes either from `rename` or from `allow`.
    let is_new = node.filter.config().rename.values().any(|new| new == key);
    let part = if is_new { "rename" } else { "allow" };
    let reader = reader.at("response").at(part);
    let message = format!("duplicate member \"{key}\" in \"{first}\" and \"{second}\"");
    let help = "rename it in one of them, or set on_conflict to first, last or rename";
    if certain {
        reader.error_with_help("conflict", message, Some(help.into()));
    } else {
        reader.warning("conflict", message, help);
    }
}

/// Returns `true` if every successful run includes both nodes or neither.
fn together(nodes: &Nodes<'_, '_>, strategy: Strategy, first: &str, second: &str) -> bool {
    let always = |name| {
        let required = match strategy {
            Strategy::First | Strategy::Quorum(_) => false,
            Strategy::All => true,
            _ => is_required(nodes, name),
        };
        let mut needed = needs(nodes, name);
        required && needed.all(|(_, node)| node.when.is_none())
    };
    always(first) && always(second) && tiers(nodes, first) == tiers(nodes, second)
}

/// Returns `true` if the node or one of its transitive dependents is required.
pub(super) fn is_required(nodes: &Nodes<'_, '_>, name: &str) -> bool {
    let mut required = nodes
        .iter()
        .filter(|(_, (node, _))| node.as_ref().is_some_and(|node| node.required));
    required.any(|(dependent, _)| needs(nodes, dependent).any(|(needed, _)| needed == name))
}

/// Returns the tier restrictions of a node and of its transitive dependencies.
fn tiers<'n>(nodes: &'n Nodes<'_, '_>, name: &'n str) -> BTreeSet<BTreeSet<&'n str>> {
    let restricted = needs(nodes, name).filter(|(_, node)| !node.tiers.is_empty());
    restricted
        .map(|(_, node)| node.tiers.iter().map(String::as_str).collect())
        .collect()
}

/// Returns a node and its transitive required dependencies, without those that have errors.
fn needs<'n>(nodes: &'n Nodes<'_, '_>, name: &'n str) -> impl Iterator<Item = (&'n str, &'n Node)> {
    let mut found = vec![name];
    let mut next = 0;
    while let Some(name) = found.get(next) {
        next += 1;
        let node = nodes.get(*name).and_then(|(node, _)| node.as_ref());
        for dependency in node.iter().flat_map(|node| &node.depends_on) {
            if !dependency.optional && !found.contains(&&*dependency.node) {
                found.push(&dependency.node);
            }
        }
    }
    found
        .into_iter()
        .filter_map(|name| Some((name, nodes.get(name)?.0.as_ref()?)))
}
