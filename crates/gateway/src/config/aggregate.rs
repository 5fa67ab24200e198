//! Reads how the responses of a plan are combined into one.

use std::time::Duration;

use serde_json::Value;
use tower_fanout::{ReturnWhen, Strategy};
use tower_fanout_json::merge::{Merge, MergeConfig};

use super::{check::Nodes, reader::ValueReader, value::duration};

/// Success criterion of a run, time of the response, and merge rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aggregate {
    /// Success criterion.
    pub(crate) strategy: Strategy,
    /// Time at which the response is sent.
    pub(crate) return_when: ReturnWhen,
    /// Extra time for optional nodes after all required nodes have completed. Defaults to zero.
    pub(crate) grace: Duration,
    /// Merge rules for the responses of the nodes.
    pub(crate) merge: Merge,
}

pub(super) fn aggregate(reader: &ValueReader<'_>) -> Aggregate {
    let mut aggregate = Aggregate::default();
    let mut merge = MergeConfig::default();
    let mut map = reader.as_map();
    map.set("strategy", &mut aggregate.strategy, strategy);
    map.set("return_when", &mut aggregate.return_when, ValueReader::get);
    map.set("grace", &mut aggregate.grace, duration);
    map.set("merge", &mut merge.mode, ValueReader::get);
    map.set("on_conflict", &mut merge.on_conflict, ValueReader::get);
    map.finish();
    aggregate.merge = Merge::new(merge).unwrap_or_default();
    aggregate
}

/// Reads the name of a strategy, or `{quorum: n}`.
fn strategy(reader: &ValueReader<'_>) -> Option<Strategy> {
    let needed = match reader.tree.to_json() {
        Value::Object(mut members) => members.remove("quorum"),
        _ => None,
    };
    let is_invalid = |needed: Value| needed.as_u64().is_none_or(|needed| needed == 0);
    // serde would only report an unknown variant or an invalid number.
    if reader.is_word("quorum") || needed.is_some_and(is_invalid) {
        let message = "expected a quorum of 1 or more nodes";
        let help = "write { quorum: 2 }".into();
        reader.error_with_help("invalid", message, Some(help));
        return None;
    }
    reader.get()
}

/// Checks that enough nodes count towards the quorum. Only nodes without dependents do.
pub(super) fn check_quorum(reader: &ValueReader<'_>, strategy: Strategy, nodes: &Nodes<'_, '_>) {
    let Strategy::Quorum(needed) = strategy else {
        return;
    };
    let known = nodes.values().filter_map(|(node, _)| node.as_ref());
    let before: Vec<&str> = known
        .flat_map(|node| node.depends_on.iter().map(|dependency| &*dependency.node))
        .collect();
    let eligible = nodes.keys().filter(|name| !before.contains(&name.as_str()));
    let eligible = eligible.count();
    if eligible < needed.get() {
        let plural = if eligible == 1 { "node" } else { "nodes" };
        let message =
            format!("quorum is {needed}, but only {eligible} {plural} can count towards it");
        let help = "only nodes without dependents count; lower the quorum".into();
        reader.error_with_help("invalid", message, Some(help));
    }
}
