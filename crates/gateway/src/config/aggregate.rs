//! Reads how the answers of a plan become one.

use std::time::Duration;

use serde_json::Value;
use tower_fanout::{ReturnWhen, Strategy};
use tower_fanout_json::merge::{Merge, MergeConfig};

use super::{check::Nodes, reader::ValueReader, value::span};

/// When an answer as a whole is a success, when it leaves, and how it is made of the services'.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aggregate {
    /// When it is a success.
    pub(crate) strategy: Strategy,
    /// When it leaves.
    pub(crate) return_when: ReturnWhen,
    /// How long optional services may still take when the required ones have ended.
    pub(crate) grace: Duration,
    /// How the services' answers are merged.
    pub(crate) merge: Merge,
}

pub(super) fn aggregate(field: &ValueReader<'_>) -> Aggregate {
    let mut section = field.section();
    let strategy = section.take("strategy").and_then(|field| strategy(&field));
    let return_when = section.take("return_when").and_then(|field| field.get());
    let grace = section.take("grace");
    let mut merge = MergeConfig::default();
    if let Some(mode) = section.take("merge").and_then(|field| field.get()) {
        merge.mode = mode;
    }
    if let Some(way) = section.take("on_conflict").and_then(|field| field.get()) {
        merge.on_conflict = way;
    }
    section.finish();
    Aggregate {
        strategy: strategy.unwrap_or_default(),
        return_when: return_when.unwrap_or_default(),
        grace: span(grace, Duration::ZERO),
        merge: Merge::new(merge).unwrap_or_default(),
    }
}

/// The name of a strategy, or `{quorum: n}`.
fn strategy(field: &ValueReader<'_>) -> Option<Strategy> {
    let needed = match field.tree.to_json() {
        Value::Object(mut members) => members.remove("quorum"),
        _ => None,
    };
    let is_none = |needed: Value| needed.as_u64().is_none_or(|needed| needed == 0);
    if field.is_word("quorum") || needed.is_some_and(is_none) {
        let message = "a quorum says how many services must have answered, 1 or more";
        let help = "write it as { quorum: 2 }".into();
        field.error_with_help("invalid", message, Some(help));
        return None;
    }
    field.get()
}

/// A quorum counts the nodes that no other depends on: there must be enough of them.
pub(super) fn check_quorum(field: &ValueReader<'_>, strategy: Strategy, nodes: &Nodes<'_, '_>) {
    let Strategy::Quorum(needed) = strategy else {
        return;
    };
    let known = nodes.values().filter_map(|(node, _)| node.as_ref());
    let before: Vec<&str> = known
        .flat_map(|node| node.depends_on.iter().map(|one| &*one.node))
        .collect();
    let of = nodes.keys().filter(|name| !before.contains(&name.as_str()));
    let of = of.count();
    if of < needed.get() {
        let message = format!("a quorum of {needed} of {of} services can never be had");
        let help = "only services that no other depends on are counted".into();
        field.error_with_help("invalid", message, Some(help));
    }
}
