//! The value at the target of a field filter.

use super::path::Path;
use crate::check::{Items, Json, Value, depth};

/// Returns the value at `path`, or `None` if the path leads to no value.
///
/// A name at an array selects from each item. Items without the value are left out, and an array of which
/// no item has the value has none either.
pub(super) fn at(answer: &Json, path: &Path) -> Option<Json> {
    if let Some(value) = answer.cut(path.steps()) {
        return Some(value);
    }
    let steps: Vec<&str> = path.steps().collect();
    let mut out = Vec::new();
    collect(answer.value(), &steps, &mut out).then(|| {
        let depth = depth(&out);
        Json::new(out.into(), depth)
    })
}

/// Writes the value at `steps` below `value` to `out`. Returns `false` if there is no such value, and then
/// leaves incomplete text behind.
fn collect(value: Value<'_>, steps: &[&str], out: &mut Vec<u8>) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        out.extend_from_slice(value.as_bytes());
        return true;
    };
    if !value.is_array() || step.parse::<usize>().is_ok() {
        let next = value.get(step);
        return next.is_some_and(|next| collect(next, rest, out));
    }
    out.push(b'[');
    let (mut found, mut items) = (0, 0);
    for item in Items::new(value) {
        items += 1;
        let before = out.len();
        if found > 0 {
            out.push(b',');
        }
        if collect(item, steps, out) {
            found += 1;
        } else {
            out.truncate(before);
        }
    }
    out.push(b']');
    found > 0 || items == 0
}
