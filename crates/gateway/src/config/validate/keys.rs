//! Checks the keys of calls in the plans that make the calls.

use std::collections::HashMap;

use tower_fanout_json::template::{Reference, Root};

use super::super::{
    KeyTemplate, Node, RouteAuth, check::Nodes, plan::Names, reader::ValueReader,
    value::did_you_mean,
};

/// Reports path parameters that the keys of downstreams use and that the route does not have, and warns of keys that
/// all calls of the route share. `parameters` are the path parameters of the route, or `None` if its path is
/// invalid, and `auth` is that of the route.
pub(in crate::config) fn check_keys(
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[String]>,
    auth: Option<&RouteAuth>,
    names: &Names<'_>,
) {
    let unknown = |reference: &&Reference| {
        let known = |known: &[String]| known.contains(&reference.path[0]);
        reference.root == Root::Route && !parameters.is_none_or(known)
    };
    let needs_token = |reference: &&Reference| {
        auth.is_none() && reference.root == Root::Jwt && reference.default.is_none()
    };
    for (node, reader) in nodes.values() {
        let Some(node) = node else { continue };
        for (downstream, key, reader) in keys(node, reader, names) {
            let policy = names.downstreams[downstream].policy_name.as_deref();
            let policy = format!("policy \"{}\"", policy.unwrap_or_default());
            if let Some(reference) = key.references().find(unknown) {
                let message = format!(
                    "{policy} uses {{{reference}}} in per_key.key, but the path of the route has no such parameter"
                );
                let known = parameters.into_iter().flatten().map(String::as_str);
                let near = did_you_mean(&reference.path[0], known);
                let help = near.unwrap_or_else(|| {
                    "name the parameter in the path, or use another policy".into()
                });
                reader.error_with_help("reference", message, Some(help));
            } else if let Some(reference) = key.references().find(needs_token) {
                let message = format!(
                    "{policy} uses {{{reference}}} in per_key.key, but the route has no auth, so all its calls of \
                     \"{downstream}\" share one key"
                );
                let help = "add auth to the route, or use a policy without per_key";
                reader.warning("no_effect", message, help);
            }
        }
    }
}

/// Returns the downstreams that `node` calls with a key, and the positions of their names.
fn keys<'n, 'f>(
    node: &'n Node,
    reader: &ValueReader<'f>,
    names: &Names<'n>,
) -> Vec<(&'n str, &'n KeyTemplate, ValueReader<'f>)> {
    let own = (&*node.downstream, reader.at("downstream"));
    let mut steps = HashMap::new();
    for step in reader.items("fallback") {
        let service = step.at("service");
        if let Some(name) = service.tree.as_text() {
            steps.entry(name).or_insert(service);
        }
    }
    let fallbacks = node.fallback_services().map(move |name| {
        let step = steps.get(name).cloned();
        (name, step.unwrap_or_else(|| reader.at("fallback")))
    });
    let called = [own].into_iter().chain(fallbacks);
    called
        .filter_map(|(name, at)| Some((name, names.downstreams[name].key.as_ref()?, at)))
        .collect()
}
