//! JSON that is checked once and then only copied: numbers and text stay byte for byte what they were.
//!
//! ```
//! use tower_fanout_http::json::Json;
//!
//! let json = Json::parse("{\"id\": 7, \"big\": 1E400, \"tags\": [\"a\", \"b\"]}".into()).unwrap();
//! assert_eq!(json.get(&["big"]).unwrap().as_raw(), "1E400");
//! assert_eq!(json.get(&["tags", "1"]).unwrap().as_text().unwrap(), "b");
//! assert!(Json::parse("{\"id\": NaN}".into()).is_err());
//! ```

use std::{borrow::Cow, error::Error, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The deepest that values may nest: deep enough for people, and far from the end of the stack.
pub const MAX_DEPTH: usize = 64;

/// One JSON value ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259)), known to be valid; cheap to
/// clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

/// The text is no JSON value, or nests too deeply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadJson;

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a valid JSON value")
    }
}

impl Error for BadJson {}

impl Json {
    /// The value `null`.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Accepts `text` if it is one valid value in UTF-8, white space around it aside. Members that
    /// stand twice are left as they are.
    ///
    /// # Errors
    /// It is not, or nests deeper than [`MAX_DEPTH`].
    pub fn parse(text: Bytes) -> Result<Self, BadJson> {
        if depth(&text) > MAX_DEPTH {
            return Err(BadJson);
        }
        let raw: &RawValue = serde_json::from_slice(&text).map_err(|_| BadJson)?;
        Ok(Self(text.slice_ref(raw.get().as_bytes())))
    }

    /// The text of the value.
    #[must_use]
    pub fn as_raw(&self) -> &str {
        Value::new(&self.0).0
    }

    /// The value at `path`: names of members, and indexes of items. Of a member that stands twice,
    /// the last.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<Value<'_>> {
        path.iter()
            .try_fold(Value::new(&self.0), |value, step| value.get(step.as_ref()))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.len())
    }
}

/// A value within a [`Json`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'j>(&'j str);

impl<'j> Value<'j> {
    /// Only for text that was checked.
    fn new(text: &'j [u8]) -> Self {
        Self(std::str::from_utf8(text).unwrap_or("null"))
    }

    /// The text of the value.
    #[must_use]
    pub const fn as_raw(self) -> &'j str {
        self.0
    }

    /// A string without its quotes and escapes, a number or boolean as it is written; none for
    /// null, objects and arrays.
    #[must_use]
    pub fn as_text(self) -> Option<Cow<'j, str>> {
        match self.0.as_bytes().first()? {
            b'"' => serde_json::from_str(self.0).ok().map(Text::into_inner),
            b'{' | b'[' | b'n' => None,
            _ => Some(Cow::Borrowed(self.0)),
        }
    }

    /// A member by its name, or an item by its index.
    fn get(self, step: &str) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(self.0);
        let found = match self.0.as_bytes().first()? {
            b'{' => deserializer.deserialize_map(Find::new(step)),
            b'[' => deserializer.deserialize_seq(Find::new(step)),
            _ => return None,
        };
        found.ok().flatten().map(|raw: &RawValue| Self(raw.get()))
    }
}

/// A string that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'j>(#[serde(borrow)] Cow<'j, str>);

impl<'j> Text<'j> {
    fn into_inner(self) -> Cow<'j, str> {
        self.0
    }
}

/// Finds one member or item, and skips the others.
struct Find<'s, 'j> {
    step: &'s str,
    value: PhantomData<&'j RawValue>,
}

impl<'s> Find<'s, '_> {
    fn new(step: &'s str) -> Self {
        Self {
            step,
            value: PhantomData,
        }
    }
}

impl<'j> Visitor<'j> for Find<'_, 'j> {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            if name == self.step {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Ok(index) = self.step.parse::<usize>() else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        for _ in 0..index {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// How deep brackets nest outside of strings, found in one pass without a stack.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether `media_type` is JSON in UTF-8: `application/json`, or any type with the suffix `+json`
/// ([RFC 6839 §3.1](https://www.rfc-editor.org/rfc/rfc6839#section-3.1)).
#[must_use]
pub fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let known = essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json");
    known
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json, BadJson> {
        Json::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn fault_f11_what_is_not_json_is_refused() {
        let cases = [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":}",
            "NaN",
            "Infinity",
            "01",
            "+1",
            "1.",
            ".5",
            "'a'",
            "{a:1}",
            "nul",
            "[1] x",
            "{} {}",
            "\u{feff}{}",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"abc",
            "[\"a\nb\"]",
            "/**/1",
        ];
        for case in cases {
            assert!(parse(case).is_err(), "{case:?}");
        }
        assert!(Json::parse(Bytes::from_static(b"\"\xff\"")).is_err());
    }

    #[test]
    fn fault_e13_values_stay_as_they_were_written() {
        let cases = [
            "1E400",
            "-0",
            "123456789012345678901234567890",
            "1.10",
            "{\"a\":1,\"a\":2}",
            "\"\\u00e9\\/\"",
            "[ 1 , 2 ]",
        ];
        for case in cases {
            assert_eq!(parse(&format!(" \n{case}\t ")).unwrap().as_raw(), case);
        }
    }

    #[test]
    fn fault_f12_depth_is_bounded_without_recursion() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        for depth in [MAX_DEPTH + 1, 10_000, 100_000] {
            assert!(parse(&nested(depth)).is_err());
            assert!(parse(&"[".repeat(depth)).is_err());
        }
        assert!(
            parse(&format!("[\"{}\\\"[\"]", "[".repeat(200))).is_ok(),
            "brackets in a string do not nest"
        );
    }

    #[test]
    fn values_are_found_by_their_path() {
        let json =
            parse(r#"{"a": {"b": [10, {"c": "x\"y"}]}, "dup": 1, "dup": 2, "n": null, "t": true}"#)
                .unwrap();
        let text = |path: &[&str]| json.get(path).and_then(Value::as_text).map(Cow::into_owned);
        assert_eq!(text(&["a", "b", "0"]).as_deref(), Some("10"));
        assert_eq!(text(&["a", "b", "1", "c"]).as_deref(), Some("x\"y"));
        assert_eq!(text(&["dup"]).as_deref(), Some("2"));
        assert_eq!(text(&["t"]).as_deref(), Some("true"));
        for nothing in [
            &["n"][..],
            &["a"],
            &["z"],
            &["a", "b", "7"],
            &["a", "b", "x"],
            &["t", "u"],
        ] {
            assert_eq!(text(nothing), None, "{nothing:?}");
        }
        assert_eq!(json.get(&[] as &[&str]).unwrap().as_raw(), json.as_raw());
    }

    #[test]
    fn fault_d26_json_is_known_by_its_type() {
        for yes in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.x+json;charset=\"utf-8\"",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "text/plain",
            "application/json; charset=utf-16",
            "text/json",
            "application/jsonp",
            "json",
        ] {
            assert!(!is_json(no), "{no}");
        }
    }
}
