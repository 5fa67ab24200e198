//! A simple reference implementation of merging, with trees and lists in place of spliced text and
//! a hash table.

use super::{MergeMode, OnConflict};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// A value that is not an object, as written.
    Raw(&'static str),
    /// Names as written, without quotes, and values.
    Object(Vec<(String, Tree)>),
}

/// Decodes the only escape that the generated names contain.
fn plain(key: &str) -> String {
    key.replace("\\u0061", "a")
}

fn place(members: &[(String, Tree)], key: &str) -> Option<usize> {
    members.iter().position(|(own, _)| plain(own) == plain(key))
}

/// Returns the first of `base`, `base_2` and so on that no member has.
fn free(members: &[(String, Tree)], base: &str) -> String {
    let numbered = (2..).map(|number| format!("{base}_{number}"));
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names
        .find(|key| place(members, key).is_none())
        .expect("the numbers never run out")
}

impl Tree {
    pub(super) fn write(&self) -> String {
        match self {
            Self::Raw(raw) => (*raw).to_owned(),
            Self::Object(members) => {
                let member = |(key, value): &(String, Self)| format!("\"{key}\":{}", value.write());
                let members: Vec<_> = members.iter().map(member).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    /// Returns the members, each name once, or the value itself as the member `name` if it is not
    /// an object.
    fn members(&self, name: &str) -> Vec<(String, Self)> {
        let mut once: Vec<(String, Self)> = Vec::new();
        match self {
            Self::Raw(_) => once.push((name.to_owned(), self.clone())),
            Self::Object(members) => {
                for (key, value) in members {
                    match place(&once, key) {
                        Some(place) => once[place].1 = value.clone(),
                        None => once.push((key.clone(), value.clone())),
                    }
                }
            }
        }
        once
    }
}

/// Returns the merged document, or `None` for a conflict under [`OnConflict::Error`].
pub(super) fn merge(
    mode: MergeMode,
    on_conflict: OnConflict,
    parts: &[(&str, Tree)],
) -> Option<Tree> {
    let mut merged = Vec::new();
    for (name, tree) in parts {
        add(&mut merged, name, tree, mode, on_conflict)?;
    }
    Some(Tree::Object(merged))
}

fn add(
    merged: &mut Vec<(String, Tree)>,
    name: &str,
    tree: &Tree,
    mode: MergeMode,
    on_conflict: OnConflict,
) -> Option<()> {
    let members = tree.members(name);
    let (met, new): (Vec<_>, Vec<_>) = members
        .into_iter()
        .partition(|(key, _)| place(merged, key).is_some());
    merged.extend(new);
    for (key, value) in met {
        let place_of = place(merged, &key)?;
        let own = &mut merged[place_of].1;
        if mode == MergeMode::Deep {
            if let (Tree::Object(_), Tree::Object(_)) = (&*own, &value) {
                let mut inner = own.members(name);
                add(&mut inner, name, &value, mode, on_conflict)?;
                *own = Tree::Object(inner);
                continue;
            }
            if *own == value && on_conflict != OnConflict::Rename {
                continue;
            }
        }
        match on_conflict {
            OnConflict::Error => return None,
            OnConflict::First => {}
            OnConflict::Last => *own = value,
            OnConflict::Rename => {
                // The escapes of the new name are those of the first member, not of the later one.
                let base = format!("{name}_{}", merged[place_of].0);
                let free = free(merged, &base);
                merged.push((free, value));
            }
        }
    }
    Some(())
}
