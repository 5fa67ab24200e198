//! Selection and renaming of the members of an answer, before it is merged.

mod layer;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use tower_fanout::{
    BranchError, ErrorKind,
    layers::{
        ConfigError,
        config::{Validate, Validated},
        setters,
    },
};

pub use self::layer::{ResponseFuture, ShapeLayer, Shaped};
use crate::check::{Json, Members, depth, quoted, unescaped};

/// What of an answer is merged: first `target` is taken out of it, then members are left out, then
/// renamed. An answer that is no object has no members, and stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ShapeSettings {
    /// The way to what is wanted: names of members and indexes of items, with dots between; the whole
    /// answer by default.
    pub target: Option<String>,
    /// The members that stay; all if there are none, as by default.
    pub allow: BTreeSet<String>,
    /// The members that are left out; none by default, and none where some are allowed.
    pub deny: BTreeSet<String>,
    /// New names of members, by the old ones; none by default. A member that has a new name by itself
    /// makes room: it is left out.
    pub rename: BTreeMap<String, String>,
}

setters! {
    ShapeSettings {
        target: Option<String>,
        allow: BTreeSet<String>,
        deny: BTreeSet<String>,
        rename: BTreeMap<String, String>,
    }
}

/// Checked [`ShapeSettings`].
pub type Shape = Validated<ShapeSettings>;

impl Validate for ShapeSettings {
    fn errors(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        let target = self.target.iter().flat_map(|path| path.split('.'));
        if target.into_iter().any(str::is_empty) {
            let message = "a path such as data.items has no empty step";
            problems.push(ConfigError::new("target", message));
        }
        if !self.allow.is_empty() && !self.deny.is_empty() {
            let message = "where some members are allowed, no others need to be denied";
            problems.push(ConfigError::new("deny", message));
        }
        let renamed = self.rename.iter().filter_map(|(old, new)| {
            let message = if !self.keeps(old) {
                format!("{old} is left out, so it has no new name")
            } else if self.rename.values().filter(|name| *name == new).count() > 1 {
                format!("{old} is not the only one that becomes {new}")
            } else if self.allow.contains(new) && !self.rename.contains_key(new) {
                format!("{old} becomes {new}, which is allowed too")
            } else {
                return None;
            };
            Some(ConfigError::new("rename", message))
        });
        problems.extend(renamed);
        problems
    }
}

impl ShapeSettings {
    /// What is wanted of `answer`. Where nothing is left out or renamed, the same memory.
    ///
    /// # Errors
    /// `target` is not in it. That is a mistake of the service's, like an answer that is no JSON, so it
    /// has the kind [`ErrorKind::BadJson`].
    pub fn apply(&self, answer: Json) -> Result<Json, BranchError> {
        let answer = match &self.target {
            None => answer,
            Some(path) => answer.cut(path.split('.')).ok_or_else(|| {
                BranchError::new(ErrorKind::BadJson, "the answer lacks what is wanted of it")
            })?,
        };
        let whole = self.allow.is_empty() && self.deny.is_empty() && self.rename.is_empty();
        if whole || !answer.value().is_object() {
            return Ok(answer);
        }
        Ok(self.select(&answer).unwrap_or(answer))
    }

    /// The members that stay, under their names; none if that is all of them as they are.
    fn select(&self, answer: &Json) -> Option<Json> {
        let mut out = Vec::with_capacity(answer.as_bytes().len());
        let mut changed = false;
        for (old, value) in Members::new(answer.value()) {
            let Some(key) = self.key(old) else {
                changed = true;
                continue;
            };
            changed |= matches!(key, Cow::Owned(_));
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend_from_slice(&key);
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        }
        if out.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
        let depth = depth(&out);
        changed.then(|| Json::new(out.into(), depth))
    }

    /// How a member is named, which the answer names `key`; none if it is left out.
    fn key<'j>(&self, key: &'j [u8]) -> Option<Cow<'j, [u8]>> {
        let name = unescaped(key);
        let Ok(name) = std::str::from_utf8(&name) else {
            return self.allow.is_empty().then_some(Cow::Borrowed(key));
        };
        if let Some(new) = self.rename.get(name) {
            return Some(quoted(new).into());
        }
        let taken = self.rename.values().any(|new| new == name);
        (self.keeps(name) && !taken).then_some(Cow::Borrowed(key))
    }

    fn keeps(&self, name: &str) -> bool {
        !self.deny.contains(name) && (self.allow.is_empty() || self.allow.contains(name))
    }

    /// The names that the answer is said to have: those that are allowed, or else renamed.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &str> {
        let rename = |name| self.rename.get(name).unwrap_or(name);
        let allowed = self.allow.iter().map(rename);
        let renamed = self.rename.values().filter(|_| self.allow.is_empty());
        allowed.chain(renamed).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn shape(text: &str) -> Result<Shape, serde_json::Error> {
        serde_json::from_str(text)
    }

    fn shaped(rules: &str, answer: &str) -> String {
        let shaped = shape(rules).unwrap().apply(json(answer)).unwrap();
        assert_eq!(Json::parse(shaped.as_bytes().clone()).as_ref(), Ok(&shaped));
        assert_eq!(depth(shaped.as_bytes()), shaped.depth());
        shaped.as_raw().to_owned()
    }

    #[test]
    fn members_are_taken_left_out_and_renamed() {
        let answer = r#"{"id": 1.0, "in": {"a": [1, 2], "b": {}}, "\u0061": "x", "id": 2}"#;
        for (rules, expected) in [
            (r#"{"target": "in"}"#, r#"{"a": [1, 2], "b": {}}"#),
            (r#"{"target": "in.a.1"}"#, "2"),
            (r#"{"target": "id"}"#, "2"),
            (r#"{"target": "in", "deny": ["b"]}"#, r#"{"a":[1, 2]}"#),
            (r#"{"target": "in.a", "deny": ["b"]}"#, "[1, 2]"),
            (r#"{"allow": ["a"]}"#, r#"{"\u0061":"x"}"#),
            (r#"{"allow": ["z"]}"#, "{}"),
            (r#"{"deny": ["in", "a"]}"#, r#"{"id":1.0,"id":2}"#),
            (
                r#"{"deny": ["in"], "rename": {"id": "user id", "a": "b"}}"#,
                r#"{"user id":1.0,"b":"x","user id":2}"#,
            ),
            (
                r#"{"allow": ["id", "a"], "rename": {"id": "a", "a": "id"}}"#,
                r#"{"a":1.0,"id":"x","a":2}"#,
            ),
            (
                r#"{"allow": ["id"], "rename": {"id": "in"}}"#,
                r#"{"in":1.0,"in":2}"#,
            ),
            (
                r#"{"rename": {"a": "id"}, "deny": ["in"]}"#,
                r#"{"id":"x"}"#,
            ),
        ] {
            assert_eq!(shaped(rules, answer), expected, "{rules}");
        }
        assert_eq!(
            shaped(r#"{"deny": ["x"]}"#, r#"{"\ud800": 1, "x": 2}"#),
            r#"{"\ud800":1}"#
        );
        assert_eq!(
            shaped(r#"{"allow": ["x"]}"#, r#"{"\ud800": 1, "x": 2}"#),
            r#"{"x":2}"#
        );
    }

    #[test]
    fn what_does_not_change_is_not_copied() {
        let answer = json(r#"{"x": {"y": [1]}}"#);
        let within = |shape: &str| {
            let shaped = self::shape(shape).unwrap().apply(answer.clone()).unwrap();
            answer
                .as_bytes()
                .as_ptr_range()
                .contains(&shaped.as_bytes().as_ptr())
        };
        for rules in [
            "{}",
            r#"{"target": "x.y"}"#,
            r#"{"allow": ["x"]}"#,
            r#"{"deny": ["y"]}"#,
        ] {
            assert!(within(rules), "{rules}");
        }
        assert!(!within(r#"{"deny": ["x"]}"#));
    }

    #[test]
    fn an_answer_without_its_target_is_a_mistake_of_the_service() {
        for answer in ["{}", "null", "[]", r#"{"x": 1}"#, r#"{"x": []}"#] {
            let error = shape(r#"{"target": "x.0"}"#).unwrap().apply(json(answer));
            assert_eq!(error.unwrap_err().kind(), ErrorKind::BadJson, "{answer}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_named() {
        for (rules, message) in [
            (r#"{"target": ""}"#, "target: a path such as"),
            (r#"{"target": "a..b"}"#, "target: a path such as"),
            (r#"{"allow": ["a"], "deny": ["b"]}"#, "deny: where some"),
            (
                r#"{"deny": ["a"], "rename": {"a": "b"}}"#,
                "rename: a is left out",
            ),
            (
                r#"{"allow": ["b"], "rename": {"a": "c"}}"#,
                "rename: a is left out",
            ),
            (
                r#"{"rename": {"a": "c", "b": "c"}}"#,
                "rename: a is not the only one that becomes c",
            ),
            (
                r#"{"allow": ["a", "b"], "rename": {"a": "b"}}"#,
                "rename: a becomes b, which",
            ),
            (r#"{"keep": ["a"]}"#, "unknown field `keep`"),
        ] {
            let error = shape(rules).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let rules = r#"{"target":null,"allow":["a","b"],"deny":[],"rename":{"a":"b","b":"a"}}"#;
        assert_eq!(
            serde_json::to_string(&shape(rules).unwrap()).unwrap(),
            rules
        );
    }
}
