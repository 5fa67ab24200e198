//! Field filters: the selection and renaming of response members before a merge.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use tower_fanout::layers::{
    ConfigError, config,
    config::{ConfigErrors, Validate},
};

use crate::check::{Json, depth, members, quoted, unescaped};

config! {
    /// Configuration of a [`FieldFilter`].
    ///
    /// The filter first takes the value at `target`, then removes members, then renames members.
    ///
    /// Only the direct members of the object at `target` are removed or renamed. Objects within its
    /// members are not changed, and neither is a value that is not an object. An array is such a value:
    /// the filter is not applied to its items.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct FieldFilterConfig {
        /// Path to the wanted value: member names and item indexes from 0, separated by dots, such as
        /// `data.items.0`. A member whose name contains a dot cannot be named, because dots cannot be
        /// escaped. Defaults to `None`, which selects the whole response.
        pub target: Option<String> = None,
        /// Members to keep. Defaults to an empty set, which keeps all members.
        pub allow: BTreeSet<String> = BTreeSet::new(),
        /// Members to remove. Defaults to an empty set. Must be empty if `allow` is not.
        pub deny: BTreeSet<String> = BTreeSet::new(),
        /// New member names by old names. Defaults to an empty map. A member of the response that
        /// already has one of the new names is removed, unless it is renamed too.
        ///
        /// [`allow`](Self::allow) and [`deny`](Self::deny) contain old names. An old name must be one that
        /// they keep. A new name must be unique, and may be in `allow` only if the member with that name is
        /// renamed too.
        pub rename: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// A field filter, which selects a part of a JSON response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldFilter(FieldFilterConfig);

impl Validate for FieldFilterConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut steps = self.target.iter().flat_map(|path| path.split('.'));
        let path = "expected a path without empty steps, such as data.items";
        let one = "cannot be combined with \"allow\"; remove one of them";
        let errors = ConfigErrors::default()
            .unless(!steps.any(str::is_empty), "target", path)
            .unless(self.allow.is_empty() || self.deny.is_empty(), "deny", one);
        let renames = self.rename.iter().filter_map(|(old, new)| {
            if !self.keeps(old) {
                Some(format!(
                    "\"{old}\" is removed by \"allow\" or \"deny\"; keep it or do not rename it"
                ))
            } else if self.rename.values().filter(|name| *name == new).count() > 1 {
                Some(format!(
                    "\"{old}\" is not the only member renamed to \"{new}\"; use unique names"
                ))
            } else if self.allow.contains(new) && !self.rename.contains_key(new) {
                Some(format!(
                    "\"{old}\" is renamed to \"{new}\", which is also in \"allow\"; remove one"
                ))
            } else {
                None
            }
        });
        renames
            .fold(errors, |errors, message| {
                errors.unless(false, "rename", message)
            })
            .into_vec()
    }
}

impl FieldFilterConfig {
    /// Returns `true` if `allow` and `deny` keep the member `name`.
    fn keeps(&self, name: &str) -> bool {
        !self.deny.contains(name) && (self.allow.is_empty() || self.allow.contains(name))
    }
}

impl FieldFilter {
    /// Creates a filter.
    ///
    /// # Errors
    /// Returns an error if
    ///
    /// - `target` has an empty step,
    /// - both `allow` and `deny` have entries,
    /// - `rename` has an old name that `allow` or `deny` removes,
    /// - two old names have the same new name, or
    /// - a new name is in `allow` and is not renamed itself.
    pub fn new(config: FieldFilterConfig) -> Result<Self, ConfigError> {
        config.validated().map(Self)
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &FieldFilterConfig {
        &self.0
    }

    /// Applies the filter to `answer`.
    ///
    /// The result shares the memory of `answer` if no member is removed or renamed.
    ///
    /// Returns `None` if `answer` has no value at `target`.
    #[must_use]
    pub fn apply(&self, answer: Json) -> Option<Json> {
        let answer = match &self.0.target {
            None => answer,
            Some(path) => answer.cut(path.split('.'))?,
        };
        let whole = self.0.allow.is_empty() && self.0.deny.is_empty() && self.0.rename.is_empty();
        if whole || !answer.value().is_object() {
            return Some(answer);
        }
        Some(self.select(&answer).unwrap_or(answer))
    }

    /// Returns an object with the remaining members under their new names, or `None` if nothing
    /// changes.
    fn select(&self, answer: &Json) -> Option<Json> {
        let mut out = Vec::with_capacity(answer.as_bytes().len());
        let mut changed = false;
        for (old, value) in members(answer.value()) {
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

    /// Returns the new name of the member that the response names `key`, or `None` if the member is
    /// removed. Both names have quotes and escapes.
    fn key<'j>(&self, key: &'j [u8]) -> Option<Cow<'j, [u8]>> {
        let name = unescaped(key);
        // Settings cannot express a name with a lone surrogate, so only `allow` can affect it.
        let Ok(name) = std::str::from_utf8(&name) else {
            return self.0.allow.is_empty().then_some(Cow::Borrowed(key));
        };
        if let Some(new) = self.0.rename.get(name) {
            return Some(quoted(new).into());
        }
        let taken = self.0.rename.values().any(|new| new == name);
        (self.0.keeps(name) && !taken).then_some(Cow::Borrowed(key))
    }

    /// Returns the member names that the settings declare: the allowed ones under their new names,
    /// or all new names if `allow` is empty.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &str> {
        let rename = |name| self.0.rename.get(name).unwrap_or(name);
        let allowed = self.0.allow.iter().map(rename);
        let renamed = self.0.rename.values().filter(|_| self.0.allow.is_empty());
        allowed.chain(renamed).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Response};
    use tower::{Layer, ServiceExt, service_fn};
    use tower_fanout_http::client::ClientError;

    use super::*;
    use crate::response::JsonLayer;

    fn json(text: &str) -> Json {
        Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn shape(text: &str) -> Result<FieldFilter, Box<dyn std::error::Error>> {
        Ok(FieldFilter::new(serde_json::from_str(text)?)?)
    }

    fn shaped(rules: &str, answer: &str) -> String {
        let shaped = shape(rules).unwrap().apply(json(answer)).unwrap();
        assert_eq!(Json::parse(shaped.as_bytes().clone()).as_ref(), Ok(&shaped));
        assert_eq!(depth(shaped.as_bytes()), shaped.depth());
        shaped.as_raw().to_owned()
    }

    #[test]
    fn selects_removes_and_renames_members() {
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
    fn shares_memory_if_no_member_changes() {
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

    #[tokio::test]
    async fn a_missing_target_is_a_bad_json_failure() {
        for answer in ["{}", "null", "[]", r#"{"x": 1}"#, r#"{"x": []}"#] {
            let filter = shape(r#"{"target": "x.0"}"#).unwrap();
            assert_eq!(filter.apply(json(answer)), None, "{answer}");
            let service = service_fn(|_: Request<Bytes>| async {
                let response = Response::builder().header("content-type", "application/json");
                Ok(response.body(Bytes::from(answer)).unwrap())
            });
            let filtered = JsonLayer::new().filter(filter, []).layer(service);
            let error = filtered.oneshot(Request::new(Bytes::new())).await;
            assert_eq!(error.unwrap_err(), ClientError::BadJson, "{answer}");
        }
    }

    #[test]
    fn rejects_inconsistent_settings() {
        for (rules, message) in [
            (r#"{"target": ""}"#, "target: expected a path"),
            (r#"{"target": "a..b"}"#, "target: expected a path"),
            (
                r#"{"allow": ["a"], "deny": ["b"]}"#,
                "deny: cannot be combined",
            ),
            (
                r#"{"deny": ["a"], "rename": {"a": "b"}}"#,
                "rename: \"a\" is removed by",
            ),
            (
                r#"{"allow": ["b"], "rename": {"a": "c"}}"#,
                "rename: \"a\" is removed by",
            ),
            (
                r#"{"rename": {"a": "c", "b": "c"}}"#,
                "rename: \"a\" is not the only member renamed to \"c\"",
            ),
            (
                r#"{"allow": ["a", "b"], "rename": {"a": "b"}}"#,
                "rename: \"a\" is renamed to \"b\", which is also in \"allow\"",
            ),
            (r#"{"keep": ["a"]}"#, "unknown field `keep`"),
        ] {
            let error = shape(rules).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let rules = r#"{"target":null,"allow":["a","b"],"deny":[],"rename":{"a":"b","b":"a"}}"#;
        assert_eq!(
            serde_json::to_string(shape(rules).unwrap().config()).unwrap(),
            rules
        );
    }
}
