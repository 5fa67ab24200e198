//! Detects merge conflicts: members that the configuration declares for more than one node.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use tower_fanout::Strategy;
use tower_fanout_json::{
    Json,
    filter::{FieldFilter, FieldFilterConfig},
    merge::DeclaredConflict,
};

use super::super::{FallbackTarget, Node, aggregate::Aggregate, check::Nodes, reader::ValueReader};

/// Reports members that several nodes of a plan declare. `choose` is `true` if a request may select
/// nodes, so that no two of them always run together.
pub(in crate::config) fn check_conflicts(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    choose: bool,
) {
    let known: Vec<(&str, &Node)> = nodes
        .iter()
        .filter_map(|(name, (node, _))| Some((&**name, node.as_ref()?)))
        .collect();
    let filters = known.iter().map(|(name, node)| (*name, &node.filter));
    let declared = aggregate.merge.declared_conflicts(filters.clone());
    check_fallbacks(aggregate, nodes, &known, &declared);
    for conflict in declared {
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

/// Warns about members of static fallbacks that other nodes have too. `declared` are the conflicts without fallbacks.
fn check_fallbacks(
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    known: &[(&str, &Node)],
    declared: &[DeclaredConflict],
) {
    let fixed = known.iter().flat_map(|(name, node)| {
        let steps = node.fallback.iter().enumerate();
        steps.filter_map(move |(index, step)| match &step.target {
            FallbackTarget::Static(answer) => Some((*name, index, members(answer)?)),
            FallbackTarget::Service(_) => None,
        })
    });
    let fixed: Vec<_> = fixed.collect();
    for (place, (name, index, own)) in fixed.iter().enumerate() {
        let others = known.iter().map(|(other, node)| (*other, &node.filter));
        let others = others.chain(
            fixed[..place]
                .iter()
                .map(|(other, _, filter)| (*other, filter)),
        );
        let others = others.filter(|(other, _)| other != name);
        let all = others.chain([(*name, own)]);
        for conflict in aggregate.merge.declared_conflicts(all) {
            let is_known = declared.iter().any(|other| other.key == conflict.key);
            let [other, .., last] = conflict.nodes.as_slice() else {
                continue;
            };
            if is_known || last != name {
                continue;
            }
            report_fallback(nodes, (name, *index), other, &conflict.key);
        }
    }
}

/// Warns about the member `key` of a fallback that another node has too.
fn report_fallback(nodes: &Nodes<'_, '_>, (name, index): (&str, usize), other: &str, key: &str) {
    let (_, reader) = &nodes[name];
    let reader = reader.item("fallback", index).at("static").at(key);
    let message = format!(
        "the static fallback of \"{name}\" and \"{other}\" may both set \"{key}\" in the merged response"
    );
    let help = "rename it in one of them, or set on_conflict to first, last or rename";
    reader.warning("conflict", reader.masked(&message), help);
}

/// Returns a filter that declares the members of an object, or `None` for another value.
fn members(answer: &Json) -> Option<FieldFilter> {
    let object: Map<String, Value> = serde_json::from_str(answer.as_raw()).ok()?;
    let escaped = |name: &String| name.replace('\\', "\\\\").replace('.', "\\.");
    let mut filter = FieldFilterConfig::default();
    filter.allow = object.keys().map(escaped).collect();
    FieldFilter::new(filter).ok()
}

/// Reports a conflict where the second node declares `key`: an error if `certain`, else a warning.
fn report(nodes: &Nodes<'_, '_>, key: &str, [first, second]: [&str; 2], certain: bool) {
    let Some((_, reader)) = nodes.get(second) else {
        return;
    };
    let response = reader.at("response");
    let is_new = |value: &ValueReader<'_>| value.tree.as_text() == Some(key);
    // The conflicting name comes either from `rename` or from `allow`.
    let renamed = response.members("rename").into_iter();
    let renamed = renamed.map(|(_, value)| value).find(is_new);
    let allowed = || response.items("allow").into_iter().find(is_new);
    let reader = renamed.or_else(allowed);
    let reader = reader.unwrap_or_else(|| response.at("allow"));
    let set = if certain { "both set" } else { "may both set" };
    let message = format!("\"{first}\" and \"{second}\" {set} \"{key}\" in the merged response");
    let message = reader.masked(&message);
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
