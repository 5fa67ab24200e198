//! Conflicts that can be known before there is an answer.

use std::collections::HashMap;

use super::{MergeMode, MergeSettings, OnConflict, Shape};

/// A name that two nodes are said to have, where it may stand once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredConflict {
    /// The name.
    pub key: String,
    /// The first node that is said to have it.
    pub first: String,
    /// The later node that is said to have it too.
    pub second: String,
    /// Whether both nodes are required. If not, some requests can do.
    pub certain: bool,
}

impl MergeSettings {
    /// The conflicts that will make merging fail, as far as the shapes of nodes name members. `nodes`
    /// are in the order of the plan, each with its name, its shape, and whether it is required.
    ///
    /// There are some in mode `flat` with `on_conflict: error` only: in mode `deep` it takes the values
    /// to know.
    pub fn declared_conflicts<'n>(
        &self,
        nodes: impl IntoIterator<Item = (&'n str, &'n Shape, bool)>,
    ) -> Vec<DeclaredConflict> {
        if (self.mode, self.on_conflict) != (MergeMode::Flat, OnConflict::Error) {
            return Vec::new();
        }
        let mut conflicts = Vec::new();
        let mut known = HashMap::new();
        for (node, shape, required) in nodes {
            for key in shape.declared() {
                let (first, first_required) = *known.entry(key).or_insert((node, required));
                if first != node {
                    conflicts.push(DeclaredConflict {
                        key: key.to_owned(),
                        first: first.to_owned(),
                        second: node.to_owned(),
                        certain: first_required && required,
                    });
                }
            }
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn fault_g7_conflicts_are_known_where_shapes_are_declared() {
        let shapes = [
            shape(r#"{"allow": ["id", "name"]}"#),
            shape(r#"{"allow": ["number"], "rename": {"number": "id"}}"#),
            shape(r#"{"rename": {"title": "name", "size": "length"}}"#),
            shape(r#"{"allow": ["length"]}"#),
            shape(r#"{"deny": ["id"]}"#),
            shape(r#"{"allow": ["id"], "rename": {"id": "other"}}"#),
        ];
        let nodes = || {
            let names = ["a", "b", "c", "d", "e", "f"].into_iter().zip(&shapes);
            names.map(|(name, shape)| (name, shape, name != "c"))
        };
        let flat = MergeSettings::default().mode(MergeMode::Flat);
        let conflict = |key: &str, first: &str, second: &str, certain| DeclaredConflict {
            key: key.into(),
            first: first.into(),
            second: second.into(),
            certain,
        };
        assert_eq!(
            flat.declared_conflicts(nodes()),
            [
                conflict("id", "a", "b", true),
                conflict("name", "a", "c", false),
                conflict("length", "c", "d", false),
            ]
        );
        for other in [
            MergeSettings::default(),
            MergeSettings::default().mode(MergeMode::Deep),
            MergeSettings::default().mode(MergeMode::Concat),
            flat.on_conflict(OnConflict::Rename),
        ] {
            assert_eq!(other.declared_conflicts(nodes()), []);
        }
    }
}
