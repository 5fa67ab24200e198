//! Reads single values: durations, sizes, numbers within bounds, and names from a known set.

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use tower_fanout::nearest_name;

use super::{Bound, reader::ValueReader};

/// Reads a duration, which is written with its unit, such as `300ms`.
pub(super) fn duration(reader: &ValueReader<'_>) -> Option<Duration> {
    #[derive(Deserialize)]
    struct WithUnit(#[serde(with = "tower_fanout::layers::config::duration")] Duration);
    reader.get().map(|WithUnit(duration)| duration)
}

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

/// Reports a URL, and quotes it unless it may contain credentials.
pub(super) fn bad_url(reader: &ValueReader<'_>, message: &str) {
    let got = reader.tree.as_written();
    if got.contains('@') {
        reader.error("invalid", message);
    } else {
        reader.error("invalid", format!("{message}, got \"{got}\""));
    }
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

/// Reads a number from `low` to `high`, both included.
pub(super) fn within<T: DeserializeOwned + PartialOrd + Debug>(
    reader: &ValueReader<'_>,
    low: T,
    high: T,
) -> Option<T> {
    in_range(reader, reader.get()?, low, high)
}

/// Returns `value` if it is from `low` to `high`, both included. Reports it otherwise.
pub(super) fn in_range<T: PartialOrd + Debug>(
    reader: &ValueReader<'_>,
    value: T,
    low: T,
    high: T,
) -> Option<T> {
    if low <= value && value <= high {
        return Some(value);
    }
    reader.error(
        "range",
        format!(
            "must be within {low:?} to {high:?}, got {}",
            reader.tree.as_written()
        ),
    );
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

/// Reads a default and a maximum. A missing part is taken from `otherwise`, its default limited by
/// the maximum that is read.
pub(super) fn bound<T: Copy + Ord + Debug>(
    reader: &ValueReader<'_>,
    otherwise: Bound<T>,
    read: impl Fn(&ValueReader<'_>) -> Option<T>,
) -> Option<Bound<T>> {
    if reader.tree.members().is_none() {
        let message = format!("expected a map, got {}", reader.tree.as_written());
        let help = "write { default: …, max: … }".to_owned();
        reader.error_with_help("type", message, Some(help));
        return None;
    }
    let mut map = reader.as_map();
    let (written, written_max) = (map.take("default"), map.take("max"));
    let default = written.as_ref().and_then(&read);
    let max = written_max
        .as_ref()
        .and_then(&read)
        .unwrap_or(otherwise.max);
    map.finish();
    if let Some(written) = written
        && default.is_some_and(|default| default > max)
    {
        // The range of the default has the built-in maximum, so only a given maximum can be exceeded.
        let max = written_max.map_or_else(String::new, |max| max.tree.as_written());
        let got = written.tree.as_written();
        written.error("invalid", format!("must be <= max {max}, got {got}"));
    }
    Some(Bound {
        // A maximum below the built-in default lowers the default too.
        default: default.unwrap_or(otherwise.default.min(max)),
        max,
    })
}
