//! Hides the warnings that the file acknowledges.

use super::{
    diagnostic::{Acknowledged, Diagnostic, Severity},
    file::Acknowledgement,
    reader::ValueReader,
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
    diagnostics.retain(|diagnostic| {
        let mut reason = None;
        for (one, used) in all.iter().zip(&mut used) {
            if one.covers(diagnostic, &names) {
                *used = true;
                reason = reason.or(Some(&one.reason.0.0));
            }
        }
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
        let rule = at_rule.tree.as_written();
        if !item.has("at") {
            let message = format!("no warning \"{rule}\" to acknowledge");
            return at_rule.to_warning("unused", message, "remove the item");
        }
        let at = at_path.tree.as_written();
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

impl Acknowledgement {
    fn covers(&self, diagnostic: &Diagnostic, names: &[Option<&str>]) -> bool {
        let is_at = |path: &str| {
            let at = self.at.as_deref().unwrap_or_default();
            let rest = path.strip_prefix(at);
            at.is_empty()
                || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        diagnostic.severity == Severity::Warning
            && diagnostic.code == self.rule.0.0
            && (is_at(&diagnostic.path)
                || named(&diagnostic.path, names).is_some_and(|path| is_at(&path)))
    }
}

/// Returns a path such as `routes[0].plan` with the name of the route: `routes.page.plan`.
fn named(path: &str, names: &[Option<&str>]) -> Option<String> {
    let (index, rest) = path.strip_prefix("routes[")?.split_once(']')?;
    let name = (*names.get(index.parse::<usize>().ok()?)?)?;
    Some(format!("routes.{name}{rest}"))
}
