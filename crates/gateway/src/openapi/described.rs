//! What is described of a configured route, and how it is found in its configuration.

use indexmap::IndexMap;
use tower_fanout_json::template::Root;

use crate::config::{Node, Route, RouteAuth};

/// A configured route, as far as it is described.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    /// Its name.
    pub(crate) name: String,
    /// Its method, in lower case.
    pub(crate) method: String,
    /// Its path; parameters in braces.
    pub(crate) path: String,
    /// The parameters of the query that requests are made from, and whether a request without one is
    /// refused.
    pub(crate) query: IndexMap<String, bool>,
    /// Whether a request without a body is refused; none if no body is looked at.
    pub(crate) body: Option<bool>,
    /// Who may ask; anybody if none.
    pub(crate) auth: Option<RouteAuth>,
}

impl From<&Route> for Described {
    fn from(route: &Route) -> Self {
        let mut described = Self {
            name: route.name.clone(),
            method: route.method.as_str().to_ascii_lowercase(),
            path: route.path.clone(),
            query: IndexMap::new(),
            body: None,
            auth: route.plan.auth.clone(),
        };
        route
            .plan
            .nodes
            .values()
            .for_each(|node| described.reads(node));
        described
    }
}

impl Described {
    /// Adds what `node` reads. Only what it always needs, and cannot do without, must be there.
    fn reads(&mut self, node: &Node) {
        let is_needed = node.required && node.when.is_none();
        for reference in node.request.references() {
            let is_needed = is_needed && reference.default.is_none();
            match (&reference.root, reference.path.first()) {
                (Root::Body, _) => *self.body.get_or_insert(false) |= is_needed,
                (Root::Query, Some(name)) => {
                    *self.query.entry(name.clone()).or_default() |= is_needed;
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
