//! Values of the file: with units, within bounds, or one of the names that are known.

use std::{fmt::Debug, net::SocketAddr, time::Duration};

use http::HeaderName;
use serde::{Deserialize, de::DeserializeOwned};
use tower_fanout::{layers::config::duration, nearest_name};

use super::{Bound, reader::ValueReader, tree::Kind};

/// A duration with its unit.
#[derive(Deserialize)]
pub(super) struct Span(#[serde(with = "duration")] pub(super) Duration);

pub(super) fn span(field: Option<ValueReader<'_>>, default: Duration) -> Duration {
    field
        .and_then(|field| field.get())
        .map_or(default, |Span(span)| span)
}

/// A size such as `"1MiB"`, in bytes.
pub(super) fn size(field: Option<ValueReader<'_>>, default: usize) -> usize {
    let Some(field) = field else { return default };
    let Some(text) = field.text() else {
        return default;
    };
    let units = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    let split = units
        .into_iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let bytes =
        split.and_then(|(number, bytes)| number.trim().parse::<usize>().ok()?.checked_mul(bytes));
    match bytes {
        Some(bytes @ 1..) => bytes,
        _ => {
            field.error("invalid", "this is no size such as \"64KiB\" or \"1MiB\"");
            default
        }
    }
}

/// A size of at least `low` bytes; the default if it is less.
pub(super) fn size_from(field: Option<ValueReader<'_>>, low: usize, default: usize) -> usize {
    let read = size(field.clone(), default);
    if let Some(field) = field.filter(|_| read < low) {
        field.error("range", format!("the least is {} KiB", low >> 10));
        return default;
    }
    read
}

/// Whether a switch is on that has to be turned off.
pub(super) fn is_on_unless_off(field: Option<ValueReader<'_>>) -> bool {
    field.and_then(|field| field.get()) != Some(false)
}

/// The name of a header.
pub(super) fn header_name(field: &ValueReader<'_>) -> Option<HeaderName> {
    let name = field.text()?.parse();
    name.map_err(|_| field.error("invalid", "this cannot be the name of a header"))
        .ok()
}

/// What one of these words stands for.
pub(super) fn word<T: Copy>(field: &ValueReader<'_>, words: &[(&'static str, T)]) -> Option<T> {
    let text = field.text()?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*meaning);
    }
    let known = || words.iter().map(|(word, _)| *word);
    let all: Vec<_> = known().map(|word| format!("\"{word}\"")).collect();
    let help = nearest_name(&text, known()).map(|known| format!("did you mean \"{known}\"?"));
    let message = format!("this is none of {}", all.join(", "));
    field.error_with_help("invalid", message, help);
    None
}

/// What is in the file of this name.
pub(super) fn file(field: &ValueReader<'_>) -> Option<Vec<u8>> {
    std::fs::read(field.text()?)
        .map_err(|error| {
            let message = format!("the file cannot be read: {error}");
            field.error("unreadable", message);
        })
        .ok()
}

pub(super) fn address(field: Option<ValueReader<'_>>, default: SocketAddr) -> SocketAddr {
    let Some(field) = field else { return default };
    match field.text().map(|text| text.parse()) {
        Some(Ok(address)) => address,
        Some(Err(_)) => {
            field.error("invalid", "this is no address such as \"0.0.0.0:8080\"");
            default
        }
        None => default,
    }
}

/// A name that must be one of `names`.
pub(super) fn known<'n>(
    field: &ValueReader<'_>,
    what: &str,
    names: impl Iterator<Item = &'n String> + Clone,
) -> Option<String> {
    let name = field.text()?;
    if names.clone().any(|known| *known == name) {
        return Some(name);
    }
    let help = nearest_name(&name, names.map(String::as_str))
        .map(|known| format!("did you mean \"{known}\"?"));
    field.error_with_help(
        "unknown_name",
        format!("there is no {what} \"{name}\""),
        help,
    );
    None
}

/// A number from `low` to `high`.
pub(super) fn within<T: DeserializeOwned + PartialOrd + Debug>(
    field: &ValueReader<'_>,
    low: T,
    high: T,
) -> Option<T> {
    in_range(field, field.get()?, low, high)
}

/// `value`, if it is from `low` to `high`.
pub(super) fn in_range<T: PartialOrd + Debug>(
    field: &ValueReader<'_>,
    value: T,
    low: T,
    high: T,
) -> Option<T> {
    if low <= value && value <= high {
        return Some(value);
    }
    field.error(
        "range",
        format!("{value:?} is not within {low:?} to {high:?}"),
    );
    None
}

/// A default and a maximum, each of which may be left out.
pub(super) fn bound<T: Copy + PartialOrd + Debug>(
    field: Option<ValueReader<'_>>,
    otherwise: Bound<T>,
    read: impl Fn(&ValueReader<'_>) -> Option<T>,
) -> Bound<T> {
    let Some(field) = field else { return otherwise };
    if !matches!(field.tree.kind, Kind::Map(_)) {
        let help = Some("write it as { default: …, max: … }".to_owned());
        field.error_with_help(
            "type",
            format!("this is {}, not a map", field.tree.is()),
            help,
        );
        return otherwise;
    }
    let mut section = field.section();
    let default = section.take("default").and_then(|field| read(&field));
    let max = section
        .take("max")
        .and_then(|field| read(&field))
        .unwrap_or(otherwise.max);
    section.finish();
    if let Some(default) = default
        && default > max
    {
        field.error(
            "invalid",
            format!("default {default:?} is more than max {max:?}"),
        );
    }
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
