//! Names that two services are said to have, where each may stand once.

use std::collections::BTreeSet;

use tower_fanout::Strategy;

use super::super::{Node, aggregate::Aggregate, check::Nodes};

/// Checks what the services of a plan are said to have; whether callers `choose` among them, so that
/// any two can be apart.
pub(in crate::config) fn check_conflicts(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    choose: bool,
) {
    let known = nodes
        .iter()
        .filter_map(|(name, (node, _))| Some((&**name, &node.as_ref()?.shape)));
    for conflict in aggregate.merge.declared_conflicts(known) {
        for (place, second) in conflict.nodes.iter().enumerate().skip(1) {
            let before = &conflict.nodes[..place];
            let always =
                |first: &&String| !choose && together(nodes, aggregate.strategy, first, second);
            let certain = before.iter().find(always);
            let first = certain.unwrap_or(&before[0]);
            report(nodes, &conflict.key, [first, second], certain.is_some());
        }
    }
}

/// Complains where the second of two nodes says that it has `key`.
fn report(nodes: &Nodes<'_, '_>, key: &str, [first, second]: [&str; 2], certain: bool) {
    let Some((Some(node), field)) = nodes.get(second) else {
        return;
    };
    let is_new = node.shape.config().rename.values().any(|new| new == key);
    let part = if is_new { "rename" } else { "allow" };
    let field = field.at("response").at(part);
    let message = format!("\"{first}\" and \"{second}\" both have a member \"{key}\"");
    let help = "rename it in one of them, or choose first, last or rename for on_conflict";
    if certain {
        field.error_with_help("conflict", message, Some(help.into()));
    } else {
        field.warning("conflict", message, help);
    }
}

/// Whether no request can do without either of two nodes and have the other.
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

/// Whether a node is required, or one is that needs it.
fn is_required(nodes: &Nodes<'_, '_>, name: &str) -> bool {
    let mut required = nodes
        .iter()
        .filter(|(_, (node, _))| node.as_ref().is_some_and(|node| node.required));
    required.any(|(by, _)| needs(nodes, by).any(|(needed, _)| needed == name))
}

/// The tiers that a node and all it needs are restricted to.
fn tiers<'n>(nodes: &'n Nodes<'_, '_>, name: &'n str) -> BTreeSet<BTreeSet<&'n str>> {
    let restricted = needs(nodes, name).filter(|(_, node)| !node.tiers.is_empty());
    restricted
        .map(|(_, node)| node.tiers.iter().map(String::as_str).collect())
        .collect()
}

/// A node and all that it cannot do without, as far as they could be read.
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
