//! Warns about `aggregate` keys, fallback steps and hedges that have no effect.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use http::Method;
use tower_fanout::{
    ReturnWhen, Strategy,
    layers::{config::duration::written, fallback::OutcomeSet},
};
use tower_fanout_json::merge::MergeMode;

use super::{
    super::{
        Config, FallbackTarget, Node, aggregate::Aggregate, check::Nodes, reader::ValueReader,
    },
    tiers::quoted,
};

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
            "set merge: flat, or remove on_conflict",
        );
    }
}

fn check_grace(reader: &ValueReader<'_>, aggregate: &Aggregate, deadline: Duration) {
    if aggregate.return_when != ReturnWhen::Required {
        reader.warning(
            "no_effect",
            "grace has an effect only with return_when: required",
            "set return_when: required, or remove grace",
        );
    } else if aggregate.grace >= deadline {
        reader.warning(
            "no_effect",
            format!(
                "grace has no effect: it must be < deadline.default ({}), got {}",
                written(deadline),
                reader.shown()
            ),
            "shorten grace, or raise deadline.default",
        );
    }
}

fn check_return_when(reader: &ValueReader<'_>, aggregate: &Aggregate, nodes: &Nodes<'_, '_>) {
    let is_optional = |node: &Option<Node>| node.as_ref().is_some_and(|node| !node.required);
    let (why, help) = match (aggregate.return_when, aggregate.strategy) {
        (ReturnWhen::All, _) => return,
        (_, Strategy::All) => (
            "strategy: all waits for every node",
            "set strategy: partial",
        ),
        (ReturnWhen::Required, Strategy::First | Strategy::Quorum(_)) => (
            "this strategy has no required nodes",
            "set strategy: partial",
        ),
        (ReturnWhen::Required, _) if nodes.values().all(|(node, _)| is_optional(node)) => {
            ("no node is required", "set required: true for a node")
        }
        _ => return,
    };
    let value = reader.shown();
    let message = format!("return_when: {value} has no effect, because {why}");
    reader.warning("no_effect", message, &format!("remove it, or {help}"));
}

/// Warns about fallback steps whose outcomes static responses before them handle, so that they never answer.
pub(in crate::config) fn check_fallback_steps(nodes: &Nodes<'_, '_>) {
    for (node, reader) in nodes.values() {
        let (mut handled, mut statuses) = (OutcomeSet::nothing(), HashSet::new());
        for (index, step) in node
            .iter()
            .flat_map(|node| node.fallback.iter().enumerate())
        {
            if includes(&handled, &statuses, &step.on) {
                reader.item("fallback", index).warning(
                    "no_effect",
                    "this step never responds, because static responses before it handle the same outcomes",
                    "move it before them, or limit them with on",
                );
            }
            if matches!(step.target, FallbackTarget::Static(_)) {
                handled.failure |= step.on.failure;
                handled.throttled |= step.on.throttled;
                handled.local |= step.on.local;
                handled.timeout |= step.on.timeout;
                statuses.extend(&step.on.statuses);
            }
        }
    }
}

/// Warns about policies whose hedges no request can have, because none is idempotent. `reader` is the whole file, which
/// has no errors.
pub(in crate::config) fn check_hedges(reader: &ValueReader<'_>, config: &Config) {
    let nodes = config.plans().flat_map(|plan| plan.nodes.values());
    let mut hedged: HashMap<&str, HashSet<&Method>> = HashMap::new();
    for node in nodes {
        for service in node.fallback_services().chain([&*node.downstream]) {
            let downstream = &config.downstreams[service];
            let hedge = downstream.policy.hedge.as_ref();
            let policy = downstream.policy_name.as_deref();
            if let Some(policy) = policy.filter(|_| hedge.is_some_and(|hedge| !hedge.idempotent)) {
                let methods = hedged.entry(policy).or_default();
                methods.insert(node.request.method());
            }
        }
    }
    for (name, policy) in reader.members("policies") {
        let methods = hedged.remove(&*name).unwrap_or_default();
        if !methods.is_empty() && !methods.iter().any(|method| method.is_idempotent()) {
            let methods = quoted(
                methods.iter().map(|method| method.as_str()).collect(),
                " and ",
            );
            policy.at_key("hedge").warning(
                "no_effect",
                format!("hedge has no effect: requests with {methods} are not idempotent, and this policy has no others"),
                "set hedge.idempotent: true if they are safe to send twice, or remove hedge",
            );
        }
    }
}

/// Returns `true` if `all`, or one of `statuses`, has every outcome of `some`.
fn includes(all: &OutcomeSet, statuses: &HashSet<u16>, some: &OutcomeSet) -> bool {
    (all.failure || !some.failure)
        && (all.throttled || !some.throttled)
        && (all.local || !some.local)
        && (all.timeout || !some.timeout)
        && some.statuses.iter().all(|status| statuses.contains(status))
}
