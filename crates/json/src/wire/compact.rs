//! Removal of white space from JSON text.

use crate::check::string_end;

/// Appends the JSON text `json` without the white space
/// ([RFC 8259 §2](https://www.rfc-editor.org/rfc/rfc8259#section-2)) between its parts.
///
/// All other bytes are copied unchanged. JSON strings contain no line breaks, so the result is one
/// line.
pub(super) fn push_compact(out: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    while let Some(at) = rest.iter().copied().position(is_space_or_quote) {
        let (before, from) = rest.split_at(at);
        out.extend_from_slice(before);
        if from.starts_with(b"\"") {
            let (string, after) = from.split_at(string_end(from, 1));
            out.extend_from_slice(string);
            rest = after;
        } else {
            // Skips one character of white space.
            rest = &from[1..];
        }
    }
    out.extend_from_slice(rest);
}

const fn is_space_or_quote(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'"')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn compact(json: &str) -> String {
        let mut out = Vec::new();
        push_compact(&mut out, json.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn removes_white_space_and_keeps_all_other_bytes() {
        let cases = [
            (
                "{\r\n  \"a b\" :\t[ 1.10 , -0 , 1E400 ]\r\n}",
                "{\"a b\":[1.10,-0,1E400]}",
            ),
            (r#" "a \" b \\" "#, r#""a \" b \\""#),
            (
                "[ \"\u{2028} é\\n\\u00e9\" , { } , [ ] ]",
                "[\"\u{2028} é\\n\\u00e9\",{},[]]",
            ),
            (" \"\" ", "\"\""),
            ("true\n", "true"),
        ];
        for (json, expected) in cases {
            assert_eq!(compact(json), expected);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[ -~\\\\\"\n\r\té\u{2028}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[ \"\\\\a-c\n]{0,4}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compacts_pretty_json_to_the_text_of_serde_json(value in value()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap().replace('\n', "\r\n");
            prop_assert_eq!(compact(&pretty), serde_json::to_string(&value).unwrap());
        }
    }
}
