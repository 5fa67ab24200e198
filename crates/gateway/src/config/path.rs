//! Finds values by the paths of diagnostics.

use std::collections::HashMap;

use super::tree::{Kind, Tree};

/// A step of a path with the value to which it leads, if the file has one.
type Step<'p, 't> = (&'p str, Option<&'t Tree>);

/// Finds the values of a file by their paths, such as `routes[0].plan` or `routes.page.plan`.
pub(super) struct Paths<'t> {
    file: &'t Tree,
    /// The list of routes.
    routes: Option<&'t Tree>,
    /// The first route with each name.
    by_name: HashMap<&'t str, &'t Tree>,
}

impl<'t> Paths<'t> {
    pub(super) fn new(file: &'t Tree) -> Self {
        let routes = file.members().and_then(|members| members.get("routes"));
        let routes = routes.map(|(_, routes)| routes);
        let mut by_name = HashMap::new();
        for route in routes.into_iter().flat_map(Tree::items) {
            let name = route.members().and_then(|members| members.get("name"));
            if let Some(name) = name.and_then(|(_, name)| name.as_text()) {
                by_name.entry(name).or_insert(route);
            }
        }
        Self {
            file,
            routes,
            by_name,
        }
    }

    /// Splits a path into its keys and items, such as `routes`, `[0]` and `plan`. A key of the file with a dot is one step.
    pub(super) fn steps<'p>(&self, path: &'p str) -> Vec<&'p str> {
        let values = self.values(path).into_iter();
        values.map(|(step, _)| step).collect()
    }

    /// Returns the steps of a path with their values.
    pub(super) fn values<'p>(&self, path: &'p str) -> Vec<Step<'p, 't>> {
        self.split(Some(self.file), path).1
    }

    /// Returns the steps of `path`, and how many bytes of them name values inside `tree`. Of several ways to split the
    /// path, the one with most of them counts.
    fn split<'p>(&self, tree: Option<&'t Tree>, path: &'p str) -> (usize, Vec<Step<'p, 't>>) {
        let path = path.strip_prefix('.').unwrap_or(path);
        if path.is_empty() {
            return (0, Vec::new());
        }
        let end = match path.strip_prefix('[') {
            Some(_) => path.find(']').map_or(path.len(), |end| end + 1),
            None => path.find(['.', '[']).unwrap_or(path.len()),
        };
        let known = tree.map(|tree| self.first_steps(tree, path));
        let ways = known.into_iter().flatten().map(|(end, inside)| {
            let (found, steps) = self.split(Some(inside), &path[end..]);
            (end + found, end, Some(inside), steps)
        });
        let best = ways.max_by_key(|(found, end, ..)| (*found, *end));
        let (found, end, value, rest) =
            best.unwrap_or_else(|| (0, end, None, self.split(None, &path[end..]).1));
        (found, [&[(&path[..end], value)], &rest[..]].concat())
    }

    /// Returns the values inside `tree` to which the first step of `path` may lead, each with the end of the step.
    fn first_steps(&self, tree: &'t Tree, path: &str) -> Vec<(usize, &'t Tree)> {
        match &tree.kind {
            Kind::Scalar(_) => Vec::new(),
            Kind::Map { members, .. } => {
                // A key may have more dots than the map has keys.
                if ends(path).nth(members.len()).is_some() {
                    let named = members.iter().filter(|(name, _)| begins_with(path, name));
                    return named.map(|(name, (_, one))| (name.len(), one)).collect();
                }
                let named = |end: usize| Some((end, &members.get(&path[..end])?.1));
                ends(path).filter_map(named).collect()
            }
            Kind::List(items) => {
                let index = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let item = index.and_then(|(index, _)| {
                    let item = items.get(index.parse::<usize>().ok()?)?;
                    Some((index.len() + 2, item))
                        .filter(|(end, _)| begins_with(path, &path[..*end]))
                });
                let is_routes = self.routes.is_some_and(|routes| std::ptr::eq(routes, tree));
                let named = |end: usize| Some((end, *self.by_name.get(&path[..end])?));
                let named = ends(path).filter(|_| is_routes).filter_map(named);
                item.into_iter().chain(named).collect()
            }
        }
    }
}

/// Returns the places of `path` where its first step may end.
fn ends(path: &str) -> impl Iterator<Item = usize> {
    let signs = path.match_indices(['.', '[']).map(|(at, _)| at);
    signs.chain([path.len()])
}

/// Returns `true` if the first step of `path` may be `step`.
fn begins_with(path: &str, step: &str) -> bool {
    let rest = path.strip_prefix(step);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_j46_a_name_with_a_dot_is_one_step_of_a_path() {
        let file = "downstreams: { x: { policy: p }, x.y: { policy: p }, x.y.z: {} }\n\
                    routes: [{ name: a.b, plan: { n: { request: {} } } }, { name: a }]";
        let tree = Tree::parse(file).unwrap();
        for (path, expected) in [
            ("downstreams.x.policy", "downstreams x policy"),
            ("downstreams.x.y", "downstreams x.y"),
            ("downstreams.x.y.policy", "downstreams x.y policy"),
            ("downstreams.x.y.missing", "downstreams x.y missing"),
            ("downstreams.x.y.z", "downstreams x.y.z"),
            ("downstreams.x.other", "downstreams x other"),
            (
                "routes[0].plan.n.request.path",
                "routes [0] plan n request path",
            ),
            ("routes.a.b.plan", "routes a.b plan"),
            ("routes.a.match", "routes a match"),
            ("none[2][3].x", "none [2] [3] x"),
        ] {
            assert_eq!(Paths::new(&tree).steps(path).join(" "), expected, "{path}");
        }
    }
}
