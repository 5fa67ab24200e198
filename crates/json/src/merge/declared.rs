//! Conflicts that the field filters of nodes declare, known before any response exists.

use std::collections::HashMap;

use super::{Merge, MergeMode, OnConflict};
use crate::filter::FieldFilter;

/// A member name that several nodes declare, although the merged document can have it only once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredConflict {
    /// The member name.
    pub key: String,
    /// Names of the nodes that declare the member, at least two, in plan order.
    pub nodes: Vec<String>,
}

impl Merge {
    /// Returns the conflicts that make a merge fail in every run in which at least two of the nodes
    /// respond with an object that has the declared member.
    ///
    /// The list is not complete: nodes without declared members can conflict too.
    ///
    /// `nodes` are the names of nodes with their field filters, in plan order. A filter declares
    /// the members it allows, or else the new names it assigns.
    ///
    /// Returns an empty list except in mode `flat` with `on_conflict: error`. In mode `deep`,
    /// conflicts depend on the values.
    pub fn declared_conflicts<'n>(
        &self,
        nodes: impl IntoIterator<Item = (&'n str, &'n FieldFilter)>,
    ) -> Vec<DeclaredConflict> {
        if (self.0.mode, self.0.on_conflict) != (MergeMode::Flat, OnConflict::Error) {
            return Vec::new();
        }
        let mut names: Vec<DeclaredConflict> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (node, shape) in nodes {
            for key in shape.declared() {
                let place = *places.entry(key.clone()).or_insert(names.len());
                if place == names.len() {
                    names.push(DeclaredConflict {
                        key,
                        nodes: Vec::new(),
                    });
                }
                names[place].nodes.push(node.to_owned());
            }
        }
        names.retain(|name| name.nodes.len() > 1);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MergeConfig, *};

    fn shape(text: &str) -> FieldFilter {
        FieldFilter::new(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn fault_g7_finds_conflicts_that_field_filters_declare() {
        let shapes = [
            shape(r#"{"allow": ["id", "name"]}"#),
            shape(r#"{"allow": ["number"], "rename": {"number": "id"}}"#),
            shape(r#"{"rename": {"title": "name", "size": "length"}}"#),
            shape(r#"{"allow": ["length"]}"#),
            shape(r#"{"deny": ["id"]}"#),
            shape(r#"{"allow": ["id"], "rename": {"id": "other"}}"#),
            shape(r#"{"allow": ["id"]}"#),
        ];
        let nodes = || ["a", "b", "c", "d", "e", "f", "g"].into_iter().zip(&shapes);
        let merge = |config| Merge::new(config).unwrap();
        let flat = MergeConfig::new().mode(MergeMode::Flat);
        let conflict = |key: &str, nodes: &[&str]| DeclaredConflict {
            key: key.into(),
            nodes: nodes.iter().copied().map(String::from).collect(),
        };
        assert_eq!(
            merge(flat.clone()).declared_conflicts(nodes()),
            [
                conflict("id", &["a", "b", "g"]),
                conflict("name", &["a", "c"]),
                conflict("length", &["c", "d"]),
            ]
        );
        for other in [
            MergeConfig::new(),
            MergeConfig::new().mode(MergeMode::Deep),
            MergeConfig::new().mode(MergeMode::Concat),
            flat.on_conflict(OnConflict::Rename),
        ] {
            assert_eq!(merge(other).declared_conflicts(nodes()), []);
        }
    }
}
