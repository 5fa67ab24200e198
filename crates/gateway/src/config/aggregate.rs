//! Reads how the responses of a plan are combined into one.

use std::{collections::HashSet, time::Duration};

use tower_fanout::{ReturnWhen, Strategy};
use tower_fanout_json::merge::{Merge, MergeConfig};

use super::{check::Nodes, file, reader::ValueReader};

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

impl From<&file::Aggregate> for Aggregate {
    fn from(file: &file::Aggregate) -> Self {
        let merge = MergeConfig::default()
            .mode(file.merge)
            .on_conflict(file.on_conflict);
        Self {
            strategy: file.strategy,
            return_when: file.return_when,
            grace: file.grace.0,
            merge: Merge::new(merge).unwrap_or_default(),
        }
    }
}

/// Checks that enough nodes count towards the quorum. Only nodes without dependents do.
pub(super) fn check_quorum(reader: &ValueReader<'_>, strategy: Strategy, nodes: &Nodes<'_, '_>) {
    let Strategy::Quorum(needed) = strategy else {
        return;
    };
    let known = nodes.values().filter_map(|(node, _)| node.as_ref());
    let before: HashSet<&str> = known
        .flat_map(|node| node.depends_on.iter().map(|dependency| &*dependency.node))
        .collect();
    let eligible = nodes.keys().filter(|name| !before.contains(name.as_str()));
    let eligible = eligible.count();
    if eligible < needed.get() {
        let plural = if eligible == 1 { "node" } else { "nodes" };
        let reader = reader.at("strategy.quorum");
        let message = format!(
            "quorum is {}, but only {eligible} {plural} can count towards it",
            reader.shown()
        );
        let help = "only nodes without dependents count; lower the quorum".into();
        reader.error_with_help("invalid", message, Some(help));
    }
}
