//! Finds where a value of the file has a placeholder.

use tower_fanout_json::template::Reference;

use super::{reader::ValueReader, tree::Kind};

/// Returns a reader that reports mistakes at the first placeholder of `reference` inside the value at `reader`, or at
/// the value if it has none.
pub(super) fn placeholder<'t>(reader: &ValueReader<'t>, reference: &Reference) -> ValueReader<'t> {
    nth(reader, reference, 0)
}

/// Returns a reader that reports mistakes at the placeholder of `reference`, which is one of `all` those of the value at
/// `reader`. Of equal references, each has its own placeholder.
pub(super) fn own_placeholder<'t, 'r>(
    reader: &ValueReader<'t>,
    reference: &'r Reference,
    all: impl Iterator<Item = &'r Reference>,
) -> ValueReader<'t> {
    let written = reference.to_string();
    let before = all.take_while(|one| !std::ptr::eq(*one, reference));
    let index = before.filter(|one| one.to_string() == written).count();
    nth(reader, reference, index)
}

/// Returns a reader at the placeholder of `reference` with this index among equal ones, or at the value.
fn nth<'t>(reader: &ValueReader<'t>, reference: &Reference, index: usize) -> ValueReader<'t> {
    let mut found = Vec::new();
    find(reader, &format!("{{{reference}"), &mut found);
    let last = found.len().saturating_sub(1);
    found
        .into_iter()
        .nth(index.min(last))
        .unwrap_or_else(|| reader.clone())
}

/// Adds the readers at the placeholders that begin with `start`, of which a default may follow, to `found`.
fn find<'t>(reader: &ValueReader<'t>, start: &str, found: &mut Vec<ValueReader<'t>>) {
    match &reader.tree.kind {
        Kind::Scalar(_) => {
            let text = reader.tree.as_text().unwrap_or_default();
            let starts = text.match_indices(start).map(|(offset, _)| offset);
            let whole =
                starts.filter(|offset| text[offset + start.len()..].starts_with(['}', '|']));
            found.extend(
                whole.map(|offset| reader.at_character(text[..offset].chars().count() + 1)),
            );
        }
        Kind::List(_) => reader
            .list()
            .iter()
            .for_each(|item| find(item, start, found)),
        Kind::Map { .. } => {
            let members = reader.entries();
            members
                .iter()
                .for_each(|(_, value)| find(value, start, found));
        }
    }
}
