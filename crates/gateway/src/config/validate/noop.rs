//! What is said of an answer to no effect.

use std::time::Duration;

use tower_fanout::{ReturnWhen, Strategy};
use tower_fanout_json::merge::MergeMode;

use super::super::{Node, aggregate::Aggregate, check::Nodes, reader::ValueReader};

/// Warns of what stands at `field` and has no effect in a plan with this `deadline`; whether callers
/// `choose` services and strategy. Nothing is said where something could not be read.
pub(in crate::config) fn check_effects(
    field: &ValueReader<'_>,
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    deadline: Duration,
    choose: bool,
) {
    if !field.is_sound() {
        return;
    }
    let mut section = field.section();
    if let Some(field) = section.take("grace") {
        check_grace(&field, aggregate, deadline);
    }
    if let Some(field) = section.take("return_when").filter(|_| !choose) {
        check_return_when(&field, aggregate, nodes);
    }
    let merges = matches!(
        aggregate.merge.config().mode,
        MergeMode::Flat | MergeMode::Deep
    );
    if let Some(field) = section.take("on_conflict").filter(|_| !merges) {
        field.warning(
            "no_effect",
            "names are in conflict only with merge: flat or merge: deep",
            "set merge, or leave out on_conflict",
        );
    }
}

fn check_grace(field: &ValueReader<'_>, aggregate: &Aggregate, deadline: Duration) {
    if aggregate.return_when != ReturnWhen::Required {
        field.warning(
            "no_effect",
            "a grace has an effect only with return_when: required",
            "set return_when, or leave out the grace",
        );
    } else if aggregate.grace >= deadline {
        field.warning(
            "no_effect",
            format!("the deadline of {deadline:?} is over before the grace is"),
            "make the grace shorter than the deadline",
        );
    }
}

fn check_return_when(field: &ValueReader<'_>, aggregate: &Aggregate, nodes: &Nodes<'_, '_>) {
    let is_optional = |node: &Option<Node>| node.as_ref().is_some_and(|node| !node.required);
    let message = match (aggregate.return_when, aggregate.strategy) {
        (ReturnWhen::All, _) => return,
        (_, Strategy::All) => "with strategy: all, every service is required and waited for",
        (ReturnWhen::Required, Strategy::First | Strategy::Quorum(_)) => {
            "with this strategy no service is required: enough answers are"
        }
        (ReturnWhen::Required, _) if nodes.values().all(|(node, _)| is_optional(node)) => {
            "no service is required, so all are waited for"
        }
        _ => return,
    };
    let help = "leave it out, or take strategy: partial and mark services as required";
    field.warning("no_effect", message, help);
}
