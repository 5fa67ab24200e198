//! Corrects misspelt keys.

use indexmap::IndexMap;
use serde_json::Value;

use super::{
    super::{
        diagnostic::{Diagnostic, Position},
        tree::{Kind, Tree},
        value::nearest,
    },
    Place,
};

/// Corrects the misspelt keys of the file `tree`, and returns an error for each.
///
/// The values of such a key are then checked too, and the names in it are known. Otherwise a misspelt key would look like
/// a missing one, and each reference to a name would be an error.
pub(in super::super) fn correct_keys(tree: &mut Tree) -> Vec<Diagnostic> {
    correct(tree, Place::root(super::of_file()), true)
}

/// Corrects the misspelt keys of one file `tree` of several, except those in items of lists, and returns an error for each.
/// Where an item is in the list is known only when all files are merged.
pub(in super::super) fn correct_keys_of_file(tree: &mut Tree) -> Vec<Diagnostic> {
    correct(tree, Place::root(super::of_file()), false)
}

/// Corrects the keys in the value at `place`, also those in items of lists if `in_lists`. The paths of the errors begin
/// there.
fn correct(tree: &mut Tree, place: Place<'_>, in_lists: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    match &mut tree.kind {
        Kind::List(items) if in_lists && items.iter().any(is_section) => {
            let Some(place) = place.item() else {
                return found;
            };
            for (index, item) in items.iter_mut().enumerate() {
                let inside = correct(item, place, in_lists).into_iter();
                found.extend(inside.map(|one| under(&format!("[{index}]"), one)));
            }
        }
        Kind::Map { members, .. } => {
            let inside = place.members();
            let is_misspelt = |name: &str| inside(name).is_none() && !place.is_planned(name);
            if members.keys().any(|name| is_misspelt(name)) {
                let keys = place.keys().into_iter().map(|(key, _)| key).collect();
                found = rename(members, keys, is_misspelt);
            }
            let sections = members
                .iter_mut()
                .filter(|(_, (_, value))| is_section(value));
            for (name, (_, value)) in sections {
                if let Some(place) = inside(name) {
                    let inside = correct(value, place, in_lists).into_iter();
                    found.extend(inside.map(|one| under(name, one)));
                }
            }
        }
        _ => {}
    }
    found
}

fn is_section(value: &Tree) -> bool {
    !matches!(value.kind, Kind::Scalar(_))
}

/// Gives the members that `is_misspelt` the nearest of `keys` that the map does not have.
fn rename(
    members: &mut IndexMap<String, (Position, Tree)>,
    keys: Vec<&str>,
    is_misspelt: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let mut missing = keys;
    missing.retain(|key| !members.contains_key(*key));
    let mut found = Vec::new();
    let renamed = std::mem::take(members).into_iter();
    let renamed = renamed.map(|(mut name, (position, mut value))| {
        if let Some((key, text)) = without_space(&name, &value, &missing) {
            missing.retain(|one| *one != key);
            let column = position.column + key.chars().count() + 1;
            value = value.with_scalar(text, Position { column, ..position });
            value.mark_suspects(&|_| true);
            found.push(lacks_space(key, position));
            return (key.to_owned(), (position, value));
        }
        let near = is_misspelt(&name).then(|| nearest(&name, missing.iter().copied()));
        if let Some(key) = near.flatten() {
            missing.retain(|one| *one != key);
            // The key may be meant to be another one.
            value.mark_suspects(&|_| true);
            let message = format!("unknown key \"{}\"", name);
            found.push(Diagnostic {
                help: Some(format!("did you mean \"{key}\"?")),
                path: std::mem::replace(&mut name, key.to_owned()),
                ..Diagnostic::error("unknown_key", position, message)
            });
        }
        (name, (position, value))
    });
    *members = renamed.collect();
    found
}

/// Returns key and value of a name such as `downstream:users`, which lacks the space after its colon.
fn without_space<'k>(name: &str, value: &Tree, keys: &[&'k str]) -> Option<(&'k str, Value)> {
    let (key, text) = name.split_once(':')?;
    let key = keys.iter().find(|one| **one == key)?;
    let has_value = !matches!(&value.kind, Kind::Scalar(value) if value.is_null());
    if has_value || text.is_empty() {
        return None;
    }
    let scalar = serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| !value.is_object() && !value.is_array());
    Some((key, scalar.unwrap_or_else(|| text.into())))
}

/// Returns the error for a key without a space after its colon.
fn lacks_space(key: &str, position: Position) -> Diagnostic {
    let message = format!("expected a space after the \":\" of \"{key}\"");
    Diagnostic {
        help: Some("add the space".to_owned()),
        path: key.to_owned(),
        ..Diagnostic::error("unknown_key", position, message)
    }
}

/// Adds a step to the start of the path of an error.
fn under(step: &str, error: Diagnostic) -> Diagnostic {
    let joint = if error.path.starts_with('[') { "" } else { "." };
    Diagnostic {
        path: format!("{step}{joint}{}", error.path),
        ..error
    }
}
