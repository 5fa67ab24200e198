//! Finds where a value of the file has a placeholder.

use std::collections::{HashMap, VecDeque};

use tower_fanout_json::template::Reference;

use super::{reader::ValueReader, tree::Kind};

/// Returns a reader that reports mistakes at the first placeholder of `reference` inside the value at `reader`, or at
/// the value if it has none.
pub(super) fn placeholder<'t>(reader: &ValueReader<'t>, reference: &Reference) -> ValueReader<'t> {
    placeholders(reader, [reference]).remove(0)
}

/// Returns a reader at the placeholder of each of `references`, which are all those of the value at `reader`, in their
/// order. Of equal references, each has its own placeholder. One without a placeholder is reported at the value.
pub(super) fn placeholders<'t, 'r>(
    reader: &ValueReader<'t>,
    references: impl IntoIterator<Item = &'r Reference>,
) -> Vec<ValueReader<'t>> {
    let mut found = HashMap::new();
    find(reader, &mut found);
    let own = references.into_iter().map(|reference| {
        let all = found.get_mut(&*reference.to_string());
        let own = all.and_then(|all: &mut VecDeque<_>| match all.len() {
            0 | 1 => all.front().cloned(),
            _ => all.pop_front(),
        });
        own.unwrap_or_else(|| reader.clone())
    });
    own.collect()
}

/// Adds the readers at the placeholders in a value to `found`, by their references without defaults.
fn find<'t>(reader: &ValueReader<'t>, found: &mut HashMap<&'t str, VecDeque<ValueReader<'t>>>) {
    match &reader.tree.kind {
        Kind::Scalar(_) => {
            let text = reader.tree.as_text().unwrap_or_default();
            let (mut at, mut before) = (0, 0);
            for (start, _) in text.match_indices('{') {
                before += text[at..start].chars().count();
                at = start;
                let inside = &text[start + 1..];
                if let Some(end) = inside.find(['}', '|', '{']) {
                    let places = found.entry(&inside[..end]).or_default();
                    places.push_back(reader.at_character(before + 1));
                }
            }
        }
        Kind::List(_) => reader.list().iter().for_each(|item| find(item, found)),
        Kind::Map { .. } => {
            let members = reader.entries();
            members.iter().for_each(|(_, value)| find(value, found));
        }
    }
}
