//! Warns about `aggregate` keys and fallback steps that have no effect.

use std::time::Duration;

use tower_fanout::{ReturnWhen, Strategy, layers::fallback::OutcomeSet};
use tower_fanout_json::merge::MergeMode;

use super::super::{FallbackTarget, Node, aggregate::Aggregate, check::Nodes, reader::ValueReader};

/// Warns about keys of the `aggregate` map at `reader` that have no effect in a plan with this
/// `deadline`. `choose` is `true` if a request may select nodes and strategy. Does nothing if the map
/// has errors.
pub(in crate::config) fn check_effects(
    reader: &ValueReader<'_>,
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    deadline: Duration,
    choose: bool,
) {
    if !reader.is_sound() {
        return;
    }
    let at = |key: &str| reader.has(key).then(|| reader.at(key));
    if let Some(reader) = at("grace") {
        check_grace(&reader, aggregate, deadline);
    }
    if let Some(reader) = at("return_when").filter(|_| !choose) {
        check_return_when(&reader, aggregate, nodes);
    }
    let merges = matches!(
        aggregate.merge.config().mode,
        MergeMode::Flat | MergeMode::Deep
    );
    if let Some(reader) = at("on_conflict").filter(|_| !merges) {
        reader.warning(
            "no_effect",
            "on_conflict has an effect only with merge: flat or merge: deep",
            "set merge, or remove on_conflict",
        );
    }
}

fn check_grace(reader: &ValueReader<'_>, aggregate: &Aggregate, deadline: Duration) {
    if aggregate.return_when != ReturnWhen::Required {
        reader.warning(
            "no_effect",
            "grace has an effect only with return_when: required",
            "set return_when, or remove grace",
        );
    } else if aggregate.grace >= deadline {
        reader.warning(
            "no_effect",
            format!(
                "grace must be less than the deadline {deadline:?}, got {}",
                reader.tree.as_written()
            ),
            "shorten grace, or extend the deadline",
        );
    }
}

fn check_return_when(reader: &ValueReader<'_>, aggregate: &Aggregate, nodes: &Nodes<'_, '_>) {
    let is_optional = |node: &Option<Node>| node.as_ref().is_some_and(|node| !node.required);
    let message = match (aggregate.return_when, aggregate.strategy) {
        (ReturnWhen::All, _) => return,
        (_, Strategy::All) => "return_when has no effect: strategy: all waits for every node",
        (ReturnWhen::Required, Strategy::First | Strategy::Quorum(_)) => {
            "return_when: required has no effect: this strategy has no required nodes"
        }
        (ReturnWhen::Required, _) if nodes.values().all(|(node, _)| is_optional(node)) => {
            "return_when: required has no effect: no node is required, so the run waits for all"
        }
        _ => return,
    };
    let help = "remove it, or set strategy: partial and mark nodes as required";
    reader.warning("no_effect", message, help);
}

/// Warns about fallback steps whose outcomes static responses before them handle, so that they never answer.
pub(in crate::config) fn check_fallback_steps(nodes: &Nodes<'_, '_>) {
    for (node, reader) in nodes.values() {
        let mut handled = OutcomeSet::nothing();
        for (index, step) in node
            .iter()
            .flat_map(|node| node.fallback.iter().enumerate())
        {
            if includes(&handled, &step.on) {
                reader.item("fallback", index).warning(
                    "no_effect",
                    "this step never answers: static responses before it handle the same outcomes",
                    "move it before them, or limit them with on",
                );
            }
            if matches!(step.target, FallbackTarget::Static(_)) {
                handled.failure |= step.on.failure;
                handled.throttled |= step.on.throttled;
                handled.local |= step.on.local;
                handled.timeout |= step.on.timeout;
                handled.statuses.extend(&step.on.statuses);
            }
        }
    }
}

/// Returns `true` if `all` has every outcome of `some`.
fn includes(all: &OutcomeSet, some: &OutcomeSet) -> bool {
    (all.failure || !some.failure)
        && (all.throttled || !some.throttled)
        && (all.local || !some.local)
        && (all.timeout || !some.timeout)
        && some
            .statuses
            .iter()
            .all(|status| all.statuses.contains(status))
}
