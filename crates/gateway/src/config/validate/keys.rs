//! Checks the keys of calls in the plans that make the calls.

use tower_fanout_json::template::{Reference, Root};

use super::super::{KeyTemplate, Node, RouteAuth, check::Nodes, plan::Names, reader::ValueReader};

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
            if let Some(reference) = key.references().find(unknown) {
                let message = format!(
                    "unknown route parameter {{{reference}}} in the key of downstream \"{downstream}\""
                );
                let help = "name the parameter in the path of the route, or use another policy";
                reader.error_with_help("reference", message, Some(help.into()));
            } else if let Some(reference) = key.references().find(needs_token) {
                let message = format!(
                    "all calls of this route share one key of downstream \"{downstream}\": \
                     {{{reference}}} needs a token, but the route has no auth"
                );
                let help =
                    format!("add auth to the route, or a default such as {{{reference}|none}}");
                reader.warning("no_effect", message, &help);
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
    let fallbacks = node
        .fallback_services()
        .map(|name| (name, reader.at("fallback")));
    let called = [own].into_iter().chain(fallbacks);
    called
        .filter_map(|(name, at)| Some((name, names.downstreams[name].key.as_ref()?, at)))
        .collect()
}
