//! Strict reading of objects, compared with a tree that keeps duplicate names.

use std::{borrow::Cow, collections::HashSet, fmt};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::jwt::object::{Member, Paths, object};

const DEPTH: usize = 4;
const PATHS: [&[&str]; 6] = [
    &["a"],
    &["b"],
    &["a rather long name"],
    &["a", "b"],
    &["b", "a", "b"],
    &[],
];

#[derive(Debug)]
enum Tree {
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
    Other,
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Trees)
    }
}

struct Trees;

impl<'de> Visitor<'de> for Trees {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Number(number as f64))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Tree::Object(object))
    }
}

impl Tree {
    /// Returns `true` if the tree nests at most `depth` levels and has no duplicate name.
    fn is_strict(&self, depth: usize) -> bool {
        match self {
            Self::List(items) => depth > 0 && items.iter().all(|item| item.is_strict(depth - 1)),
            Self::Object(members) => {
                let names: HashSet<_> = members.iter().map(|(name, _)| name).collect();
                let inner = members.iter();
                depth > 0
                    && names.len() == members.len()
                    && inner
                        .map(|(_, value)| value)
                        .all(|value| value.is_strict(depth - 1))
            }
            _ => true,
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else {
            return Some(self);
        };
        match self {
            Self::Object(members) => {
                let (_, value) = members.iter().find(|(name, _)| name == first)?;
                value.at(rest)
            }
            _ => None,
        }
    }

    fn member(&self) -> Member<'_> {
        let text = |item: &Self| match item {
            Self::Text(text) => Some(Cow::Owned(text.clone())),
            _ => None,
        };
        match self {
            Self::Number(number) => Member::Number(*number),
            Self::Text(text) => Member::Text(Cow::Borrowed(text)),
            Self::List(items) => {
                let texts: Option<_> = items.iter().map(text).collect();
                texts.map_or(Member::Other, Member::Texts)
            }
            _ => Member::Other,
        }
    }
}

/// Generates texts of values, some with duplicate names.
fn value() -> impl Strategy<Value = String> {
    let scalars = [
        "1",
        "-7",
        "0.5",
        "1e300",
        "1e400",
        "\"x\"",
        "\"\\u0061\"",
        "\"\"",
        "null",
        "true",
    ];
    let names = [
        "\"a\"",
        "\"\\u0062\"",
        "\"b\"",
        "\"a\\u0000\"",
        "\"a rather long name\"",
        "\"a rather\"",
        "\"a rather odd name\"",
    ];
    let name = prop::sample::select(names.to_vec());
    let scalar = prop::sample::select(scalars.to_vec()).prop_map(str::to_owned);
    scalar.prop_recursive(5, 30, 4, move |inner| {
        let items = prop::collection::vec(inner.clone(), 0..4);
        let members = prop::collection::vec((name.clone(), inner), 0..5);
        prop_oneof![
            items.prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let member = |(name, value)| format!("{name}: {value}");
                let members: Vec<_> = members.into_iter().map(member).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn reads_what_a_tree_with_all_names_has(
        text in value(),
        at in any::<prop::sample::Index>(),
        instead in prop::option::weighted(0.3, any::<u8>()),
    ) {
        let mut text = text.into_bytes();
        if let Some(byte) = instead {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let tree = serde_json::from_slice::<Tree>(&text).ok();
        let tree = tree.filter(|tree| tree.is_strict(DEPTH));
        let tree = tree.filter(|tree| matches!(tree, Tree::Object(_)));
        let paths = Paths::new(PATHS.map(|path| path.iter().map(|step| (*step).to_owned()).collect()));
        let mut found = [const { None }; PATHS.len()];
        let len = object(&text, DEPTH, &paths, &mut found);
        let expected = tree.as_ref().map(|tree| match tree {
            Tree::Object(members) => members.len(),
            _ => 0,
        });
        prop_assert_eq!(len, expected);
        if let Some(tree) = &tree {
            let at = |path: &[&str]| match path {
                [] => None,
                path => tree.at(path).map(Tree::member),
            };
            prop_assert_eq!(found, PATHS.map(at));
        }
    }
}
