//! The value at the target of a field filter.

use super::path::Path;
use crate::check::{Json, Value, depth, is_white, value_end};

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
    collect(answer.as_bytes(), &mut 0, &steps, &mut out).then(|| {
        let depth = depth(&out);
        Json::new(out.into(), depth)
    })
}

/// Writes the value at `steps` below the value that begins at `at` of `text` to `out`, and moves `at` behind
/// that value. Returns `false` if there is no such value, and then leaves incomplete text in `out`.
fn collect(text: &[u8], at: &mut usize, steps: &[&str], out: &mut Vec<u8>) -> bool {
    let start = *at;
    let Some((step, rest)) = steps.split_first() else {
        *at = value_end(text, start);
        out.extend_from_slice(&text[start..*at]);
        return true;
    };
    if text.get(start) != Some(&b'[') || step.parse::<usize>().is_ok() {
        *at = value_end(text, start);
        let next = Value::of(&text[start..*at]).get(step);
        return next.is_some_and(|next| collect(next.as_bytes(), &mut 0, rest, out));
    }
    out.push(b'[');
    let (mut found, mut items) = (0, 0);
    *at += 1;
    loop {
        while text
            .get(*at)
            .is_some_and(|byte| *byte == b',' || is_white(*byte))
        {
            *at += 1;
        }
        if matches!(text.get(*at), None | Some(b']')) {
            break;
        }
        items += 1;
        let before = out.len();
        if found > 0 {
            out.push(b',');
        }
        if collect(text, at, steps, out) {
            found += 1;
        } else {
            out.truncate(before);
        }
    }
    *at += 1;
    out.push(b']');
    found > 0 || items == 0
}
