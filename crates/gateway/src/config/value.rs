//! Reads single values: durations, sizes, numbers within bounds, and names from a known set.

use tower_fanout::nearest_name;

use super::{Bound, reader::ValueReader};

/// Returns a suggestion with the name in `known` that is most similar to `name`.
pub(super) fn did_you_mean<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    nearest_name(name, known).map(|known| format!("did you mean \"{known}\"?"))
}

/// Reads the name of a file and returns the content of the file.
pub(super) fn read_file(reader: &ValueReader<'_>) -> Option<Vec<u8>> {
    std::fs::read(reader.text()?)
        .map_err(|error| {
            let message = format!("cannot read the file: {error}");
            reader.error("unreadable", message);
        })
        .ok()
}

/// Reads a name that must be one of `names`. `kind` says what is named, such as `policy`.
pub(super) fn known<'n>(
    reader: &ValueReader<'_>,
    kind: &str,
    names: impl Iterator<Item = &'n String> + Clone,
) -> Option<String> {
    let name = reader.text()?;
    if names.clone().any(|known| *known == name) {
        return Some(name);
    }
    let help = did_you_mean(&name, names.map(String::as_str));
    reader.error_with_help("unknown_name", format!("unknown {kind} \"{name}\""), help);
    None
}

/// Reports a name that labels, logs and operation ids cannot show. Returns `true` for any other name.
pub(super) fn check_name(reader: &ValueReader<'_>, name: &str) -> bool {
    let shows = !name.trim().is_empty() && !name.contains(char::is_control);
    if !shows {
        let message =
            format!("a name must have visible characters and no control characters, got {name:?}");
        reader.error("invalid", message);
    }
    shows
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
        let (got, max) = (default.tree.as_written(), max.tree.as_written());
        default.error("invalid", format!("must be <= max {max}, got {got}"));
    }
    Bound {
        // A maximum below the built-in default lowers the default too.
        default: default.unwrap_or(otherwise.default.min(limit)),
        max: limit,
    }
}
