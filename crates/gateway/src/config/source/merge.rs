//! Merges the files of a folder into one configuration.

use indexmap::map::Entry;
use serde_json::Value;

use super::super::{
    diagnostic::Diagnostic,
    schema::{self, Place},
    tree::{Kind, Tree},
};

/// Merges the files, of which there is at least one. Returns errors about files that are not maps too.
///
/// Maps are merged by key, and lists are joined, in the order of the files. A key that two files set is repeated, as a
/// key that one file sets twice. So is a name that two files define. Only `version`
/// and `$schema` may be in several files.
pub(super) fn merge(trees: Vec<Tree>) -> (Tree, Vec<Diagnostic>) {
    let mut errors = Vec::new();
    let schema = schema::of_file();
    // A file may have only comments.
    let is_empty = |tree: &Tree| matches!(&tree.kind, Kind::Scalar(value) if value.is_null());
    let first = trees.iter().position(|tree| !is_empty(tree));
    let mut trees = trees.into_iter().skip(first.unwrap_or_default());
    let mut all = trees.next().expect("there is at least one file");
    if trees.len() > 0 {
        check_map(&all, &mut errors);
    }
    for mut tree in trees.filter(|tree| !is_empty(tree)) {
        check_map(&tree, &mut errors);
        errors.extend(remove_shared(&mut tree, &all));
        add(&mut all, tree, Some(Place::root(schema)), "", &mut errors);
    }
    (all, errors)
}

fn check_map(tree: &Tree, errors: &mut Vec<Diagnostic>) {
    if tree.members().is_none() {
        let message = format!("expected a map, got {}", tree.type_name());
        errors.push(Diagnostic::error("type", tree.position, message));
    }
}

/// Removes the keys that each file may have: the version, and the address of the schema for editors. Returns an error if
/// an earlier file has another version.
fn remove_shared(tree: &mut Tree, earlier: &Tree) -> Option<Diagnostic> {
    let first = earlier
        .members()?
        .get("version")
        .map(|(_, version)| version);
    let has_schema = earlier.members()?.contains_key("$schema");
    let Kind::Map { members, .. } = &mut tree.kind else {
        return None;
    };
    if has_schema {
        members.shift_remove("$schema");
    }
    let first = first?;
    let (key, version) = members.shift_remove("version")?;
    if version.to_json() == first.to_json() {
        return None;
    }
    let shown = |version: &Tree| match &version.kind {
        Kind::Scalar(Value::Number(number)) => number.to_string(),
        _ => version.type_name().to_owned(),
    };
    let message = format!(
        "all files must have the same version, got {} and {}",
        shown(first),
        shown(&version)
    );
    Some(Diagnostic {
        path: "version".to_owned(),
        first: Some(first.position),
        ..Diagnostic::error("invalid", key, message)
    })
}

/// Adds a value to `all`, both of which are maps or lists at `place` and `path`. Other values are not added.
fn add(
    all: &mut Tree,
    new: Tree,
    place: Option<Place<'_>>,
    path: &str,
    errors: &mut Vec<Diagnostic>,
) {
    match (&mut all.kind, new.kind) {
        (Kind::List(items), Kind::List(new)) => items.extend(new),
        (
            Kind::Map { members, repeated },
            Kind::Map {
                members: new,
                repeated: new_repeated,
            },
        ) => {
            repeated.extend(new_repeated);
            let has_names = place.is_some_and(Place::has_names);
            for (name, (key, value)) in new {
                let inside = place.and_then(|place| place.member(&name));
                let path = format!("{path}.{name}");
                match members.entry(name) {
                    Entry::Vacant(free) => drop(free.insert((key, value))),
                    Entry::Occupied(mut first) if !has_names => {
                        let (_, all) = first.get_mut();
                        if can_add(all, &value) {
                            add(all, value, inside, &path, errors);
                        } else if let Some(wrong) = wrong_type(all, value, inside, &path) {
                            errors.push(wrong);
                        } else {
                            repeated.push((first.key().clone(), key));
                        }
                    }
                    Entry::Occupied(first) => repeated.push((first.key().clone(), key)),
                }
            }
        }
        _ => {}
    }
}

/// Returns the error of one of two values at `place` that is not a list or a map, although the other one is and only that
/// is valid. Keeps the valid one in `all`.
fn wrong_type(
    all: &mut Tree,
    mut new: Tree,
    place: Option<Place<'_>>,
    path: &str,
) -> Option<Diagnostic> {
    let place = place?;
    let fits = |tree: &Tree| match &tree.kind {
        Kind::Scalar(_) => place.accepts_scalars(),
        Kind::List(_) => place.item().is_some(),
        Kind::Map { .. } => place.has_names() || !place.keys().is_empty(),
    };
    match (fits(all), fits(&new)) {
        (true, false) => {}
        (false, true) => std::mem::swap(all, &mut new),
        _ => return None,
    }
    let message = format!("expected {}, got {}", all.type_name(), new.type_name());
    Some(Diagnostic {
        path: path.trim_start_matches('.').to_owned(),
        ..Diagnostic::error("type", new.position, message)
    })
}

fn can_add(all: &Tree, new: &Tree) -> bool {
    matches!(
        (&all.kind, &new.kind),
        (Kind::List(_), Kind::List(_)) | (Kind::Map { .. }, Kind::Map { .. })
    )
}
