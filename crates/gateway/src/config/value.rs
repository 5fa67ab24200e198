//! Reads single values: durations, sizes, numbers within bounds, and names from a known set.

use std::{fmt::Debug, net::SocketAddr, time::Duration};

use http::{HeaderName, Uri};
use serde::{Deserialize, de::DeserializeOwned};
use tower_fanout::{layers::config::duration, nearest_name};

use super::{Bound, reader::ValueReader, tree::Kind};

/// A duration that is written with its unit, such as `300ms`.
#[derive(Deserialize)]
pub(super) struct Span(#[serde(with = "duration")] pub(super) Duration);

/// Reads a duration. Returns `default` if it is missing or invalid.
pub(super) fn span(reader: Option<ValueReader<'_>>, default: Duration) -> Duration {
    reader
        .and_then(|reader| reader.get())
        .map_or(default, |Span(span)| span)
}

/// Reads a size such as `"1MiB"`, in bytes. Returns `default` if it is missing or invalid.
pub(super) fn size(reader: Option<ValueReader<'_>>, default: usize) -> usize {
    // The longest suffix comes first, as every unit ends in `B`.
    const UNITS: [(&str, usize); 4] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    let parse = |text: &str| {
        let mut units = UNITS.into_iter();
        let (number, unit) =
            units.find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))?;
        let bytes = number.trim().parse::<usize>().ok()?.checked_mul(unit)?;
        (bytes > 0).then_some(bytes)
    };
    reader
        .and_then(|reader| reader.parse("a size such as \"64KiB\" or \"1MiB\"", parse))
        .unwrap_or(default)
}

/// Reads a size of at least `low` bytes. Returns `default` if it is missing, invalid or smaller.
pub(super) fn size_from(reader: Option<ValueReader<'_>>, low: usize, default: usize) -> usize {
    let read = size(reader.clone(), default);
    if let Some(reader) = reader.filter(|_| read < low) {
        let got = reader.tree.as_written();
        reader.error("range", format!("must be >= {}KiB, got {got}", low >> 10));
        return default;
    }
    read
}

/// Reads a boolean that is `true` by default.
pub(super) fn is_on_unless_off(reader: Option<ValueReader<'_>>) -> bool {
    reader.and_then(|reader| reader.get()) != Some(false)
}

/// Reads the name of a header.
pub(super) fn header_name(reader: &ValueReader<'_>) -> Option<HeaderName> {
    reader.parse("a header name", |name| name.parse().ok())
}

/// Reads one of the strings in `words` and returns the value beside it.
pub(super) fn word<T: Copy>(reader: &ValueReader<'_>, words: &[(&'static str, T)]) -> Option<T> {
    let text = reader.text()?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*meaning);
    }
    let known = words.iter().map(|(word, _)| *word);
    let all: Vec<_> = known.clone().map(|word| format!("\"{word}\"")).collect();
    let message = format!("expected one of {}, got \"{text}\"", all.join(", "));
    reader.error_with_help("invalid", message, did_you_mean(&text, known));
    None
}

/// Returns a suggestion with the name in `known` that is most similar to `name`.
pub(super) fn did_you_mean<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    nearest_name(name, known).map(|known| format!("did you mean \"{known}\"?"))
}

/// Reads the name of a file and returns the content of the file.
pub(super) fn file(reader: &ValueReader<'_>) -> Option<Vec<u8>> {
    std::fs::read(reader.text()?)
        .map_err(|error| {
            let message = format!("cannot read the file: {error}");
            reader.error("unreadable", message);
        })
        .ok()
}

/// Reads an IP address with a port. Returns `default` if it is missing or invalid.
pub(super) fn address(reader: Option<ValueReader<'_>>, default: SocketAddr) -> SocketAddr {
    let parse = |text: &str| text.parse().ok();
    reader
        .and_then(|reader| reader.parse("an address such as \"0.0.0.0:8080\"", parse))
        .unwrap_or(default)
}

/// Reads a URL. `example` is a valid one.
///
/// The diagnostic does not quote an invalid URL, as its credentials could not be told apart.
pub(super) fn url(reader: &ValueReader<'_>, example: &str) -> Option<Uri> {
    let url = reader.text()?.parse();
    url.map_err(|_| reader.error("invalid", format!("expected a URL such as \"{example}\"")))
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

/// Reads a default and a maximum. A missing part is taken from `otherwise`, its default limited by
/// the maximum that is read.
pub(super) fn bound<T: Copy + PartialOrd + Debug>(
    reader: Option<ValueReader<'_>>,
    otherwise: Bound<T>,
    read: impl Fn(&ValueReader<'_>) -> Option<T>,
) -> Bound<T> {
    let Some(reader) = reader else {
        return otherwise;
    };
    if !matches!(reader.tree.kind, Kind::Map(_)) {
        let help = Some("write { default: …, max: … }".to_owned());
        reader.error_with_help(
            "type",
            format!("expected a map, got {}", reader.tree.type_name()),
            help,
        );
        return otherwise;
    }
    let mut map = reader.as_map();
    let default = map.take("default").and_then(|reader| read(&reader));
    let max = map
        .take("max")
        .and_then(|reader| read(&reader))
        .unwrap_or(otherwise.max);
    map.finish();
    if let Some(default) = default
        && default > max
    {
        reader.error(
            "invalid",
            format!("default must be <= max {max:?}, got {default:?}"),
        );
    }
    // A maximum below the built-in default lowers the default too.
    let fallback = if otherwise.default > max {
        max
    } else {
        otherwise.default
    };
    Bound {
        default: default.unwrap_or(fallback),
        max,
    }
}
