//! Hides the warnings that the file acknowledges.

use std::collections::HashMap;

use super::{
    diagnostic::{Acknowledged, Diagnostic, Severity},
    file::Acknowledgement,
    reader::ValueReader,
    tree::{Kind, Tree},
    value::did_you_mean,
};

/// Moves the warnings that `all` acknowledges out of `diagnostics`, and returns them. Adds a warning for each item of
/// `all` that acknowledges nothing, if all warnings are known.
pub(super) fn take_acknowledged(
    all: &[Acknowledgement],
    reader: &ValueReader<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Acknowledged> {
    let routes = reader.items("routes");
    let names = names(&routes);
    let warnings: Vec<_> = (diagnostics.iter())
        .filter(|one| one.severity == Severity::Warning)
        .map(|one| {
            (
                one.code,
                named(&one.path, &names).unwrap_or_else(|| one.path.clone()),
            )
        })
        .collect();
    let mut used = vec![false; all.len()];
    let mut acknowledged = Vec::new();
    let covering = Covering::new(all, reader.tree);
    diagnostics.retain(|diagnostic| {
        if all.is_empty() || diagnostic.severity != Severity::Warning {
            return true;
        }
        let found = covering.of(diagnostic, (reader.tree, &names));
        found.iter().for_each(|index| used[*index] = true);
        let reason = found.iter().min().map(|first| &all[*first].reason.0.0);
        acknowledged.extend(reason.map(|reason| Acknowledged {
            diagnostic: diagnostic.clone(),
            reason: reason.clone(),
        }));
        reason.is_none()
    });
    let is_error = |one: &Diagnostic| one.severity == Severity::Error;
    if !diagnostics.iter().any(is_error) && reader.tree.is_known() {
        diagnostics.extend(unmatched(reader, &used, &warnings));
    }
    acknowledged
}

/// Returns rule and path of the first warning that the file can acknowledge. An item that acknowledges nothing is to be
/// corrected instead.
pub(super) fn acknowledgeable(
    reader: &ValueReader<'_>,
    diagnostics: &[Diagnostic],
) -> Option<(&'static str, String)> {
    let routes = reader.items("routes");
    let names = names(&routes);
    let warnings = diagnostics
        .iter()
        .filter(|one| one.severity == Severity::Warning && !one.path.starts_with("acknowledge["));
    let first = warnings.min_by_key(|one| one.position)?;
    let path = named(&first.path, &names).unwrap_or_else(|| first.path.clone());
    Some((first.code, path))
}

/// Returns the names of routes.
fn names<'t>(routes: &[ValueReader<'t>]) -> Vec<Option<&'t str>> {
    let names = routes.iter().map(|route| route.at("name").tree.as_text());
    names.collect()
}

/// Returns a warning for each acknowledgement that is not `used`. `warnings` are all warnings, each with its rule and
/// its path.
fn unmatched(
    reader: &ValueReader<'_>,
    used: &[bool],
    warnings: &[(&str, String)],
) -> Vec<Diagnostic> {
    let items = reader.items("acknowledge").into_iter().zip(used);
    let unmatched = items.filter(|(_, used)| !**used).map(|(item, _)| {
        let (at_rule, at_path) = (item.at("rule"), item.at("at"));
        let rule = at_rule.shown();
        if !item.has("at") {
            let message = format!("no warning \"{rule}\" to acknowledge");
            return at_rule.to_warning("unused", message, "remove the item");
        }
        let at = at_path.shown();
        let of_rule = warnings.iter().filter(|(of, _)| *of == rule);
        let near = did_you_mean(&at, of_rule.map(|(_, path)| path.as_str()));
        let help = near.unwrap_or_else(|| "correct at, or remove the item".to_owned());
        at_path.to_warning(
            "unused",
            format!("no warning \"{rule}\" at \"{at}\""),
            &help,
        )
    });
    unmatched.collect()
}

/// The indices of acknowledgements, by their rules and the steps of their paths.
struct Covering<'a>(HashMap<(&'a str, Vec<&'a str>), Vec<usize>>);

impl<'a> Covering<'a> {
    /// `file` is the file that has the acknowledgements `all`.
    fn new(all: &'a [Acknowledgement], file: &Tree) -> Self {
        let mut covering: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, one) in all.iter().enumerate() {
            let at = one.at.as_deref().unwrap_or_default();
            let key = (&*one.rule.0.0, steps(file, at));
            covering.entry(key).or_default().push(index);
        }
        Self(covering)
    }

    /// Returns the indices of the acknowledgements of a warning: those of its value, and of the values around it. `file` is
    /// the file, with the names of its routes.
    fn of(&self, warning: &Diagnostic, file: (&Tree, &[Option<&str>])) -> Vec<usize> {
        let path = steps(file.0, &warning.path);
        let route = (path.get(1)).filter(|_| path.first() == Some(&"routes"));
        let name = route.and_then(|step| route_name(step, file.1));
        let mut paths = vec![path.clone()];
        paths.extend(name.map(|name| [&path[..1], &[name], &path[2..]].concat()));
        let mut found = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            // The paths differ in their second step.
            let least = if index == 0 { 0 } else { 2 };
            for count in least..=path.len() {
                let key = (warning.code, path[..count].to_vec());
                found.extend(self.0.get(&key).into_iter().flatten());
            }
        }
        found
    }
}

/// Returns the name of the route with a step such as `[0]`.
fn route_name<'n>(step: &str, names: &[Option<&'n str>]) -> Option<&'n str> {
    let index = step.strip_prefix('[')?.strip_suffix(']')?;
    *names.get(index.parse::<usize>().ok()?)?
}

/// Splits a path into its keys and items, such as `routes`, `[0]` and `plan`. A key of the file with a dot is one step.
pub(super) fn steps<'p>(tree: &Tree, path: &'p str) -> Vec<&'p str> {
    split(Some(tree), path).1
}

/// Returns the steps of `path`, and how many bytes of them name values inside `tree`. Of several ways to split the path,
/// the one with most of them counts.
fn split<'p>(tree: Option<&Tree>, path: &'p str) -> (usize, Vec<&'p str>) {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return (0, Vec::new());
    }
    let end = match path.strip_prefix('[') {
        Some(_) => path.find(']').map_or(path.len(), |end| end + 1),
        None => path.find(['.', '[']).unwrap_or(path.len()),
    };
    let known = tree.map(|tree| first_steps(tree, path)).unwrap_or_default();
    let ways = known.into_iter().map(|(end, inside)| {
        let (found, steps) = split(Some(inside), &path[end..]);
        (end + found, end, steps)
    });
    let best = ways.max_by_key(|(found, end, _)| (*found, *end));
    let (found, end, rest) = best.unwrap_or_else(|| (0, end, split(None, &path[end..]).1));
    (found, [&[&path[..end]], &rest[..]].concat())
}

/// Returns the values inside `tree` to which the first step of `path` may lead, each with the end of the step.
fn first_steps<'t>(tree: &'t Tree, path: &str) -> Vec<(usize, &'t Tree)> {
    let names = |name: &str| {
        let rest = path.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    match &tree.kind {
        Kind::Scalar(_) => Vec::new(),
        Kind::Map { members, .. } => {
            let named = members.iter().filter(|(name, _)| names(name));
            named
                .map(|(name, (_, value))| (name.len(), value))
                .collect()
        }
        Kind::List(items) => {
            let index = path
                .strip_prefix('[')
                .and_then(|rest| Some(rest.split_once(']')?.0));
            let item = index.and_then(|index| {
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((index.len() + 2, item)).filter(|(end, _)| names(&path[..*end]))
            });
            let named = items.iter().filter_map(|item| {
                let (_, name) = item.members()?.get("name")?;
                Some((name.as_text()?, item))
            });
            let named = named.filter(|(name, _)| names(name));
            let named = named.map(|(name, item)| (name.len(), item));
            item.into_iter().chain(named).collect()
        }
    }
}

/// Returns a path such as `routes[0].plan` with the name of the route: `routes.page.plan`.
fn named(path: &str, names: &[Option<&str>]) -> Option<String> {
    let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
    let name = (*names.get(index.parse::<usize>().ok()?)?)?;
    Some(format!("routes.{name}{rest}"))
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
            assert_eq!(steps(&tree, path).join(" "), expected, "{path}");
        }
    }
}
