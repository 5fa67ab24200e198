//! Finds nodes that need what no request has, routes that never fail, and definitions that nothing uses.

use std::collections::HashSet;

use http::Method;
use indexmap::IndexMap;
use tower_fanout::Strategy;
use tower_fanout_json::template::{Reference, Root};

use super::super::{
    Config, FallbackTarget, Node, PlanConfig, RouteAuth, aggregate::Aggregate, check::Nodes,
    locate::placeholder, reader::ValueReader,
};
use super::{conditions::Outcomes, merge::required, tiers::admits};

/// Reports nodes that need a claim on a route without tokens. `auth` is that of the route.
pub(in crate::config) fn check_claims(nodes: &Nodes<'_, '_>, auth: Option<&RouteAuth>) {
    if auth.is_some() {
        return;
    }
    for (name, (node, reader)) in nodes {
        let mut references = node.iter().flat_map(|node| node.request.references());
        let needs =
            |reference: &&Reference| reference.root == Root::Jwt && reference.default.is_none();
        if let Some(reference) = references.find(needs) {
            let message = format!(
                "\"{name}\" never runs: {{{reference}}} needs a token, but the route has no auth"
            );
            let help = format!("add auth to the route, or a default such as {{{reference}|none}}");
            let reader = placeholder(&reader.at("request"), reference);
            let help = Some(reader.masked(&help));
            reader.error_with_help("never_runs", reader.masked(&message), help);
        }
    }
}

/// Warns if the plan of the route at `reader` reads a body that many clients do not send.
pub(in crate::config) fn check_body(reader: &ValueReader<'_>, method: &Method, plan: &PlanConfig) {
    let mut nodes = plan.nodes.iter();
    let reads = nodes.find(|(_, node)| node.reads(&Root::Body));
    if let Some((name, node)) = reads.filter(|_| matches!(*method, Method::GET | Method::HEAD)) {
        let is_body = |reference: &&Reference| reference.root == Root::Body;
        let at = reader.at("plan").at(name);
        let by_condition = node
            .when
            .as_ref()
            .is_some_and(|when| when.reads(&Root::Body));
        let (at, reads) = match node.request.references().find(is_body) {
            Some(reference) => (placeholder(&at.at("request"), reference), "reads the body"),
            None if by_condition => (at.at("when"), "reads the body"),
            None => (
                at.at("downstream"),
                "has a key (per_key.key) that reads the body",
            ),
        };
        at.warning(
            "body",
            format!(
                "\"{name}\" {reads}, which browsers and many proxies do not send with {method}"
            ),
            "set match.method to POST, or read the values from the path or the query",
        );
    }
}

/// Warns if the plan at `reader` succeeds even if every call fails. `possible` are the tiers of the callers.
pub(in crate::config) fn check_failures(
    reader: &ValueReader<'_>,
    aggregate: &Aggregate,
    nodes: &Nodes<'_, '_>,
    possible: &[&str],
    outcomes: &Outcomes,
) {
    let known = nodes
        .iter()
        .filter_map(|(name, (node, _))| Some((&**name, node.as_ref()?)));
    let known: Vec<(&str, &Node)> = known.collect();
    let dependencies = known.iter().flat_map(|(_, node)| &node.depends_on);
    let dependencies: HashSet<_> = dependencies.map(|one| one.node.as_str()).collect();
    let is_sink = |name: &str| !dependencies.contains(name);
    let answering = |counts: &dyn Fn(&str) -> bool| {
        let counted = known.iter().filter(|(name, _)| counts(name));
        counted
            .filter(|(_, node)| always_answers(node, possible, outcomes))
            .count()
    };
    let required = required(nodes);
    let required = |name: &str| required.contains(name);
    let needed = known.iter().filter(|(name, _)| required(name)).count();
    let never_fails = match aggregate.strategy {
        Strategy::All => answering(&|_| true) == nodes.len(),
        Strategy::Partial if needed > 0 => answering(&required) == needed,
        Strategy::First => answering(&is_sink) >= 1,
        Strategy::Quorum(needed) => answering(&is_sink) >= needed.get(),
        _ => answering(&|_| true) >= 1,
    };
    // Nothing is known of the fallbacks of a node with errors.
    if never_fails && known.len() == nodes.len() {
        reader.warning(
            "never_fails",
            "this plan succeeds even if all of its services are down, because static fallbacks respond",
            "if a failure must be visible, limit the static fallbacks with on, or require a node without one",
        );
    }
}

/// Returns `true` if static fallbacks together answer for every failure of the node. A node that some of the
/// callers, whose tiers are `possible`, leave out does not always answer.
fn always_answers(node: &Node, possible: &[&str], outcomes: &Outcomes) -> bool {
    let fixed = || {
        let steps = node.fallback.iter();
        let fixed = steps.filter(|step| matches!(step.target, FallbackTarget::Static(_)));
        fixed.map(|step| &step.on)
    };
    let holds = |condition| outcomes.always_holds(condition, possible);
    node.when.as_ref().is_none_or(holds)
        && possible.iter().all(|tier| admits(node, tier))
        && fixed().any(|on| on.failure)
        && fixed().any(|on| on.throttled)
        && fixed().any(|on| on.local)
        && fixed().any(|on| on.timeout)
}

/// Warns about downstreams, policies and JWT providers that nothing uses. `reader` is the whole file, which
/// has no errors.
pub(in crate::config) fn check_unused(reader: &ValueReader<'_>, config: &Config) {
    let plans: Vec<&PlanConfig> = config.plans().collect();
    let nodes = || plans.iter().flat_map(|plan| plan.nodes.values());
    let downstreams: HashSet<&str> = nodes()
        .flat_map(|node| node.fallback_services().chain([&*node.downstream]))
        .collect();
    let providers: HashSet<&str> = (plans.iter().filter_map(|plan| plan.auth.as_ref()))
        .flat_map(|auth| auth.jwt.iter().map(String::as_str))
        .collect();
    let downstream_keys = keys(reader, "downstreams");
    let policies = downstream_keys.iter().filter_map(|(_, downstream)| {
        let (_, policy) = downstream.tree.members()?.get("policy")?;
        policy.as_text()
    });
    let policies: HashSet<&str> = policies.collect();
    for (key, used, what) in [
        ("downstreams", downstreams, "no node calls the downstream"),
        ("policies", policies, "no downstream has the policy"),
        (
            "auth.jwt",
            providers,
            "no route asks for tokens of the provider",
        ),
    ] {
        for (name, reader) in keys(reader, key) {
            if !used.contains(name.as_str()) {
                reader.warning(
                    "unused",
                    format!("{what} \"{name}\""),
                    "use it, or remove it",
                );
            }
        }
    }
}

/// Returns readers of the keys in the map at a dotted path, or nothing if the file has no such map.
fn keys<'t>(reader: &ValueReader<'t>, path: &str) -> Vec<(String, ValueReader<'t>)> {
    let mut reader = reader.clone();
    for step in path.split('.') {
        let has_step = |members: &IndexMap<_, _>| members.contains_key(step);
        if !reader.tree.members().is_some_and(has_step) {
            return Vec::new();
        }
        reader = reader.at(step);
    }
    let members = reader.tree.members().into_iter().flatten();
    members
        .map(|(name, (position, value))| (name.clone(), reader.key(name, *position, value)))
        .collect()
}
