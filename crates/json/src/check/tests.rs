use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{scan::LONG, *};

fn parse(text: &str) -> Result<Json, BadJson> {
    Json::parse(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn fault_f11_rejects_text_that_is_not_json() {
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
fn fault_f11_rejects_incomplete_brackets_and_numbers() {
    let cases = [
        "{1}",
        "{1:2}",
        "{,}",
        "[,]",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{\"a\":1]",
        "[1}",
        "-",
        "-a",
        "1e",
        "1e+",
    ];
    for case in cases {
        assert!(parse(case).is_err(), "{case:?}");
        let within = format!("[{{\"a\":[{case},\"a\"]}},\"16 bytes and more\"]");
        assert!(parse(&within).is_err(), "{within}");
    }
}

/// The next object of an array has a path of its own.
#[test]
fn fault_f11_rejects_a_second_object_outside_of_an_array() {
    let long = "\"a\":\"16 bytes and more\"}";
    for start in ["", "{\"b\":", "[{\"b\":", "[[1],"] {
        let text = format!("{start}{{\"a\":1}},{{{long}");
        assert!(parse(&text).is_err(), "{text}");
        for end in ["}", "]", "}]", "]}", "}}"] {
            let text = format!("{text}{end}");
            let valid = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            assert_eq!(parse(&text).is_ok(), valid, "{text}");
        }
    }
}

#[test]
fn fault_e13_keeps_values_byte_for_byte() {
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
fn fault_f12_bounds_depth_without_recursion() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    for depth in [MAX_DEPTH + 1, 10_000, 100_000] {
        assert!(parse(&nested(depth)).is_err());
        assert!(parse(&"[".repeat(depth)).is_err());
    }
    assert!(
        parse(&format!("[\"{}\\\"[\"]", "[".repeat(200))).is_ok(),
        "brackets in a string must not count"
    );
}

#[test]
fn get_finds_values_by_path() {
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

/// Generates the text of valid values, with `gap` as the white space between their parts.
fn value(gap: &'static str) -> impl Strategy<Value = String> {
    let plain = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0.5e+7",
        "1E400",
        "12.75",
        "1234567",
        "12345678",
        "123.4567",
        "1234567.5",
        "\"\"",
        "\"a\"",
        "\"]}\\\"{[\"",
        "\"\\\\\"",
        "\"\\ud800\"",
        "\"é — long enough for words of eight\"",
        "[]",
        "{}",
    ]);
    let name = prop::sample::select(vec![
        "\"\"",
        "\"a\"",
        "\"\\u0061\"",
        "\"a rather long name\"",
        "\"é\"",
        "\"sevenof\"",
    ]);
    plain
        .prop_map(str::to_owned)
        .prop_recursive(5, 40, 5, move |inner| {
            let comma = format!("{gap},{gap}");
            let items = prop::collection::vec(inner.clone(), 0..5);
            let members = prop::collection::vec((name.clone(), inner), 0..5);
            let (joined, between) = (comma.clone(), comma);
            prop_oneof![
                items.prop_map(move |items| format!("[{gap}{}{gap}]", items.join(&joined))),
                members.prop_map(move |members| {
                    let member = |(name, value)| format!("{name}{gap}:{gap}{value}");
                    let members: Vec<_> = members.into_iter().map(member).collect();
                    format!("{{{gap}{}{gap}}}", members.join(&between))
                }),
            ]
        })
}

fn parse_by_serde(text: &[u8]) -> Option<String> {
    let raw: &RawValue = serde_json::from_slice(text).ok()?;
    Some(raw.get().to_owned())
}

fn parse_by_us(text: &[u8]) -> Option<String> {
    let json = Json::parse(Bytes::copy_from_slice(text)).ok()?;
    Some(json.as_raw().to_owned())
}

proptest! {
    #[test]
    fn accepts_the_same_text_as_serde_json(
        text in prop_oneof![value(""), value(" \n\t\r")],
        at in any::<prop::sample::Index>(),
        instead in prop::collection::vec(prop::sample::select(b"{}[],:\"\\/u0e+-.1nt \n\x01\xc3\xa9".to_vec()), 0..3),
        removed in 0..3usize,
    ) {
        prop_assert_eq!(parse_by_us(text.as_bytes()), Some(text.clone()));
        let mut bytes = text.into_bytes();
        let start = at.index(bytes.len());
        let end = bytes.len().min(start + removed);
        bytes.splice(start..end, instead);
        prop_assert_eq!(parse_by_us(&bytes), parse_by_serde(&bytes));
        // Near the end of the text, all tokens are read by the slower functions.
        bytes.extend(b",\"16 bytes and more\"]");
        bytes.insert(0, b'[');
        prop_assert_eq!(parse_by_us(&bytes), parse_by_serde(&bytes));
    }

    #[test]
    fn iterates_the_same_parts_as_serde_json(text in prop_oneof![value(""), value(" \n\t\r")]) {
        let raws = |raws: Vec<&RawValue>| raws.into_iter().map(|raw| raw.get().as_bytes().to_vec()).collect();
        let json = parse(&text).unwrap();
        let found: Vec<Vec<u8>> = match text.as_bytes()[0] {
            b'[' => Items::new(json.value()).map(|value| value.as_bytes().to_vec()).collect(),
            b'{' => members(json.value()).map(|(_, value)| value.as_bytes().to_vec()).collect(),
            _ => return Ok(()),
        };
        let expected: Vec<Vec<u8>> = match serde_json::from_str(&text) {
            Ok(items) => raws(items),
            Err(_) => {
                let Pairs(values) = serde_json::from_str(&text).unwrap();
                raws(values)
            }
        };
        prop_assert_eq!(found, expected);
        prop_assert_eq!(depth(text.as_bytes()), json.depth());
    }
}

/// The values of an object's members, as read by `serde_json`.
struct Pairs<'j>(Vec<&'j RawValue>);

impl<'j> Deserialize<'j> for Pairs<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'j> Visitor<'j> for All {
            type Value = Pairs<'j>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Pairs<'j>, A::Error> {
                let mut values = Vec::new();
                while let Some((IgnoredAny, value)) = map.next_entry()? {
                    values.push(value);
                }
                Ok(Pairs(values))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[test]
fn decodes_and_encodes_string_escapes() {
    for (string, plain) in [
        (r#""""#, &b""[..]),
        (r#""a""#, b"a"),
        (r#""\u0061\n""#, b"a\n"),
        (r#""\ud83d\ude00""#, "😀".as_bytes()),
        (r#""\ud800""#, b"\xed\xa0\x80"),
    ] {
        assert_eq!(*unescaped(string.as_bytes()), *plain, "{string}");
    }
    for text in ["", "plain", "a\"b\\c", "\u{1}", "é"] {
        assert_eq!(*unescaped(&quoted(text)), *text.as_bytes());
        assert!(parse(std::str::from_utf8(&quoted(text)).unwrap()).is_ok());
    }
    assert_eq!(
        parse(r#""\ud800""#)
            .unwrap()
            .get(&[] as &[&str])
            .unwrap()
            .as_text(),
        None
    );
}

/// Returns the value and all values in it that are contained in objects only.
fn reached(json: &Json) -> Vec<Value<'_>> {
    let mut reached = vec![json.value()];
    let mut at = 0;
    while let Some(value) = reached.get(at) {
        if value.is_object() {
            reached.extend(members(*value).map(|(_, value)| value));
        }
        at += 1;
    }
    reached
}

#[test]
fn skips_long_parts_at_their_recorded_end() {
    let filled = |length: usize| format!("[[{}]]", " ".repeat(length - 4));
    let members = |value: &str| {
        format!(r#"{{"a": {value}, "b": {{"c": {value}}}, "d": [{value}], "e": {{}}}}"#)
    };
    let mut value = filled(LONG);
    for _ in 0..5 {
        let json = parse(&format!(" \n{value} ")).unwrap();
        // Without recorded parts, iteration has to scan for each end.
        let scanned = Json::new(json.text.clone(), 0);
        assert_eq!(reached(&json), reached(&scanned));
        // The outermost value is not recorded.
        let mut long = reached(&json).split_off(1);
        long.retain(|value| value.text.len() >= LONG);
        long.sort_by_key(|value| value.at);
        let recorded: Vec<_> = json
            .long
            .iter()
            .map(|long| (long.start, long.end))
            .collect();
        let found: Vec<_> = long
            .iter()
            .map(|value| (value.at, value.at + value.text.len()))
            .collect();
        assert_eq!(recorded, found);
        assert!(long.iter().all(|value| value.long[0].start == value.at));
        value = members(&value);
    }
    let short = parse(&members(&filled(LONG / 4))).unwrap();
    assert!(short.long.is_empty());
}
