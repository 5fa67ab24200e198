//! Merging as one would write it down: trees, lists, and no hash.

use super::{MergeMode, OnConflict};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// What is no object, as it is written.
    Raw(&'static str),
    /// Names as they are written, without quotes, and values.
    Object(Vec<(String, Tree)>),
}

/// Names without their one escape that is used here.
fn plain(key: &str) -> String {
    key.replace("\\u0061", "a")
}

fn place(members: &[(String, Tree)], key: &str) -> Option<usize> {
    members.iter().position(|(own, _)| plain(own) == plain(key))
}

/// The first of `base`, `base_2` and so on that is no name yet.
fn free(members: &[(String, Tree)], base: &str) -> String {
    let numbered = (2..).map(|number| format!("{base}_{number}"));
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names
        .find(|key| place(members, key).is_none())
        .expect("some name is free")
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

    /// Its members, each name once, or itself under `name`.
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

/// The merged document; none if there is a conflict that fails.
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
                // The name that stays is written as the first has it.
                let base = format!("{name}_{}", merged[place_of].0);
                let free = free(merged, &base);
                merged.push((free, value));
            }
        }
    }
    Some(())
}
