//! Reads single values: durations, sizes, numbers within bounds, and names from a known set.

use std::io::{self, ErrorKind};

use indexmap::{IndexMap, IndexSet};
use tower_fanout::nearest_name;

use super::{Bound, reader::ValueReader, redact::PEM};

/// Returns a suggestion with the name in `known` that is most similar to `name`.
pub(super) fn did_you_mean<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    nearest(name, known).map(|known| format!("did you mean \"{}\"?", known))
}

/// Returns the name in `known` that is most similar to `name`, if one is similar.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let known: Vec<&str> = known.into_iter().collect();
    let same = known.iter().find(|known| known.eq_ignore_ascii_case(name));
    // A beginning is meant to be continued, even if another name is shorter.
    let mut continued = known
        .iter()
        .filter(|known| name.len() > 3 && known.starts_with(name));
    same.copied()
        .or_else(|| match (continued.next(), continued.next()) {
            (Some(only), None) => Some(*only),
            _ => nearest_name(name, known.iter().copied()),
        })
}

/// Maximum number of names that a message lists.
const MOST_NAMES: usize = 20;

/// Returns a suggestion for a name that is not in `known`: the most similar name, and the names that exist. Returns `None`
/// if none exist.
pub(crate) fn known_names<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    let known: IndexSet<&str> = known.into_iter().collect();
    let near = did_you_mean(name, known.iter().copied());
    let listed = known.iter().take(MOST_NAMES);
    let listed: Vec<_> = listed.map(|name| format!("\"{}\"", name)).collect();
    let more = match known.len().saturating_sub(MOST_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let all = listed.join(", ") + &more;
    match (near, known.len()) {
        (_, 0) => None,
        (Some(near), 1) => Some(near),
        (Some(near), _) => Some(format!("{near} Expected one of {all}")),
        (None, 1) => Some(format!("expected {all}")),
        (None, _) => Some(format!("expected one of {all}")),
    }
}

/// Returns the message for a file that cannot be read.
pub(super) fn cannot_read(name: &str, error: &io::Error) -> String {
    let reason = match error.kind() {
        // An error of this crate has a text of its own.
        _ if error.raw_os_error().is_none() => error.to_string(),
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot read \"{name}\": {reason}")
}

/// Reads the name of a file and returns the content of the file.
pub(super) fn read_file(reader: &ValueReader<'_>) -> Option<Vec<u8>> {
    let path = reader.file()?;
    let name = reader.tree.as_text().unwrap_or_default();
    if name.contains('\n') || name.contains(PEM) {
        let message = "expected the path of a file, got the content of a file";
        let help = Some("put the content into a file, and write its path here".to_owned());
        reader.error_with_help("invalid", message, help);
        return None;
    }
    std::fs::read(&path)
        .map_err(|error| {
            let (shown, written) = (reader.shown(), reader.tree.as_written());
            if shown != written && !path.is_file() {
                // The content itself may be written in place of the path.
                let message = "cannot read the file: no such file";
                let folder = path.to_str().and_then(|path| path.strip_suffix(name));
                let help = match folder.filter(|folder| !folder.is_empty()) {
                    Some(folder) => {
                        format!("write the path of the file, absolute or below {folder}")
                    }
                    None => "write the path of the file".to_owned(),
                };
                return reader.error_with_help("unreadable", message, Some(help));
            }
            let message = cannot_read(&shown, &error);
            // The path is longer than the file has it.
            let folder = path.to_str().and_then(|path| path.strip_suffix(name));
            let folder = folder.filter(|folder| !folder.is_empty());
            let help = folder.map(|folder| {
                format!("the path is relative to the configuration file: {folder}{shown}")
            });
            reader.error_with_help("unreadable", message, help);
        })
        .ok()
}

/// Reads a name that must be one of `names`, which are defined under `key`. `kind` says what is named, such as `policy`.
/// Returns `None` if it is not. A name whose definition has an error is not reported again.
pub(super) fn known<T>(
    reader: &ValueReader<'_>,
    (kind, key): (&str, &str),
    names: &IndexMap<String, T>,
) -> Option<String> {
    let name = reader.text()?;
    if names.contains_key(&name) {
        return Some(name);
    }
    if reader.may_define(key, &name) {
        return None;
    }
    let (shown, help) = (
        reader.shown(),
        reader.known_names(&name, names.len(), names.keys().map(String::as_str)),
    );
    let help = help.unwrap_or_else(|| match reader.tree.variables() {
        None => format!("nothing is defined under {key}; add \"{shown}\" there"),
        Some(_) => format!("nothing is defined under {key}; add the name there"),
    });
    let message = format!("unknown {kind} \"{shown}\"");
    reader.error_with_help("unknown_name", message, Some(help));
    None
}

/// Reads the values under the names of the map `key`. One with an error has defaults, so that references to it are valid.
pub(super) fn named<F: Default, T>(
    reader: &ValueReader<'_>,
    key: &str,
    mut files: IndexMap<String, F>,
    read: impl Fn(F, &ValueReader<'_>) -> T,
) -> IndexMap<String, T> {
    let named = reader.members(key).into_iter().map(|(name, reader)| {
        let file = files.swap_remove(&name).unwrap_or_default();
        (name, read(file, &reader))
    });
    named.collect()
}

/// Returns the bound with a default and a maximum of the file at `reader`. A missing part is taken from
/// `otherwise`, its default limited by the maximum of the file.
pub(super) fn bound<T: Copy + Ord>(
    reader: &ValueReader<'_>,
    default: Option<T>,
    max: Option<T>,
    otherwise: Bound<T>,
) -> Bound<T> {
    let limit = max.unwrap_or(otherwise.max);
    if default.is_some_and(|default| default > limit) {
        // The range of the default has the built-in maximum, so only a given maximum can be exceeded.
        let (default, max) = (reader.at("default"), reader.at("max"));
        let (got, max) = (default.shown(), max.shown());
        default.error("invalid", format!("must be <= max ({max}), got {got}"));
    }
    Bound {
        // A maximum below the built-in default lowers the default too.
        default: default.unwrap_or(otherwise.default.min(limit)),
        max: limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_j52_lists_at_most_twenty_names_and_each_once() {
        let help = |names: &[&str]| known_names("usr", names.iter().copied());
        assert_eq!(help(&[]), None);
        assert_eq!(help(&["orders"]).unwrap(), "expected \"orders\"");
        assert_eq!(help(&["user"]).unwrap(), "did you mean \"user\"?");
        assert_eq!(
            help(&["orders", "user", "orders"]).unwrap(),
            "did you mean \"user\"? Expected one of \"orders\", \"user\""
        );
        let many: Vec<_> = (100..123).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let help = help(&many).unwrap();
        assert!(help.ends_with("\"119\" and 3 more"), "{help}");
    }
}
