//! The documented properties of configured routes, derived from the configuration.

use indexmap::IndexMap;
use tower_fanout_json::template::Root;

use crate::config::{Node, Route, RouteAuth};

/// The documented properties of a configured route.
#[derive(Clone, Debug)]
pub(crate) struct RouteDoc {
    /// Name of the route.
    pub(crate) name: String,
    /// Method in lower case.
    pub(crate) method: String,
    /// Path with parameters in braces.
    pub(crate) path: String,
    /// Query parameters that the route reads. `true` marks a parameter without which the request is
    /// rejected.
    pub(crate) query: IndexMap<String, bool>,
    /// `Some(true)` if a request without a body is rejected, `None` if the route does not read the body.
    pub(crate) body: Option<bool>,
    /// Authentication and authorization. `None` admits every caller.
    pub(crate) auth: Option<RouteAuth>,
}

impl From<&Route> for RouteDoc {
    fn from(route: &Route) -> Self {
        let mut doc = Self {
            name: route.name.clone(),
            method: route.method.as_str().to_ascii_lowercase(),
            path: route.path.clone(),
            query: IndexMap::new(),
            body: None,
            auth: route.plan.auth.clone(),
        };
        route.plan.nodes.values().for_each(|node| doc.reads(node));
        doc
    }
}

impl RouteDoc {
    /// Adds the inputs that `node` reads. An input without a default is required if the node is required
    /// and has no condition.
    fn reads(&mut self, node: &Node) {
        let is_required = node.required && node.when.is_none();
        for reference in node.request.references() {
            let is_required = is_required && reference.default.is_none();
            match (&reference.root, reference.path.first()) {
                (Root::Body, _) => *self.body.get_or_insert(false) |= is_required,
                (Root::Query, Some(name)) => {
                    *self.query.entry(name.clone()).or_default() |= is_required;
                }
                _ => {}
            }
        }
        if let Some(condition) = &node.when
            && condition.reads(&Root::Body)
        {
            self.body.get_or_insert(false);
        }
    }
}
