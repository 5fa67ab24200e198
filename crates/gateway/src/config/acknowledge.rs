//! Hides the warnings that the file acknowledges.

use std::collections::HashMap;

use super::{
    diagnostic::{Acknowledged, Diagnostic, Severity},
    file::Acknowledgement,
    path::Paths,
    reader::ValueReader,
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
    let paths = Paths::new(reader.tree);
    let covering = Covering::new(all, &paths);
    diagnostics.retain(|diagnostic| {
        if all.is_empty() || diagnostic.severity != Severity::Warning {
            return true;
        }
        let found = covering.of(diagnostic, &paths, &names);
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
    let mut by_rule: HashMap<_, Vec<_>> = HashMap::new();
    for (rule, path) in warnings {
        by_rule.entry(*rule).or_default().push(path.as_str());
    }
    let items = reader.items("acknowledge").into_iter().zip(used);
    let unmatched = items.filter(|(_, used)| !**used).map(|(item, _)| {
        let (at_rule, at_path) = (item.at("rule"), item.at("at"));
        let rule = at_rule.shown();
        if !item.has("at") {
            let message = format!("no warning \"{rule}\" to acknowledge");
            return at_rule.to_warning("unused", message, "remove the item");
        }
        let at = at_path.shown();
        let of_rule = by_rule.get(&*rule).map_or(&[][..], Vec::as_slice);
        let near = reader.did_you_mean(&at, of_rule);
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
    /// `paths` are those of the file that has the acknowledgements `all`.
    fn new(all: &'a [Acknowledgement], paths: &Paths<'_>) -> Self {
        let mut covering: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, one) in all.iter().enumerate() {
            let at = one.at.as_deref().unwrap_or_default();
            let key = (&*one.rule.0.0, paths.steps(at));
            covering.entry(key).or_default().push(index);
        }
        Self(covering)
    }

    /// Returns the indices of the acknowledgements of a warning: those of its value, and of the values around it. `names`
    /// are those of the routes.
    fn of(&self, warning: &Diagnostic, paths: &Paths<'_>, names: &[Option<&str>]) -> Vec<usize> {
        let path = paths.steps(&warning.path);
        let route = (path.get(1)).filter(|_| path.first() == Some(&"routes"));
        let name = route.and_then(|step| route_name(step, names));
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

/// Returns a path such as `routes[0].plan` with the name of the route: `routes.page.plan`.
fn named(path: &str, names: &[Option<&str>]) -> Option<String> {
    let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
    let name = (*names.get(index.parse::<usize>().ok()?)?)?;
    Some(format!("routes.{name}{rest}"))
}
