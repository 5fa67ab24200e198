use bytes::Bytes;
use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_http::client::ClientErrorKind;

use super::*;
use crate::{check::depth, response::JsonLayer};

fn json(text: &str) -> Json {
    Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn shape(text: &str) -> Result<FieldFilter, Box<dyn std::error::Error>> {
    Ok(FieldFilter::new(serde_json::from_str(text)?)?)
}

/// Returns the error of rules, without the name of the config struct.
fn refusal(rules: &str) -> String {
    let error = shape(rules).unwrap_err().to_string();
    error.replacen("FieldFilterConfig.", "", 1)
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
    for answer in ["{}", "null", "[{}]", r#"{"x": 1}"#, r#"{"x": []}"#] {
        let filter = shape(r#"{"target": "x.0"}"#).unwrap();
        assert_eq!(filter.apply(json(answer)), None, "{answer}");
        let service = service_fn(|_: Request<Bytes>| async {
            let response = Response::builder().header("content-type", "application/json");
            Ok(response.body(Bytes::from(answer)).unwrap())
        });
        let filtered = JsonLayer::new().filter(filter, []).layer(service);
        let error = filtered.oneshot(Request::new(Bytes::new())).await;
        assert_eq!(
            error.unwrap_err(),
            ClientErrorKind::BadJson.into(),
            "{answer}"
        );
    }
}

#[test]
fn rejects_inconsistent_settings() {
    for (rules, message) in [
        (r#"{"target": ""}"#, "target: expected a path"),
        (r#"{"target": "a..b"}"#, "target: expected a path"),
        (r#"{"deny": [".a"]}"#, "deny: expected a path"),
        (r#"{"allow": ["a."]}"#, "allow: expected a path"),
        (r#"{"deny": ["a\\b"]}"#, "deny: expected a path"),
        (r#"{"rename": {"": "a"}}"#, "rename: expected a path"),
        (
            r#"{"rename": {"a.b": "c.d"}}"#,
            "rename: \"a.b\" is renamed to \"c.d\", which is a path",
        ),
        (
            r#"{"deny": ["a.b"], "rename": {"a.b.c": "d"}}"#,
            "rename: \"a.b.c\" is removed by",
        ),
        (
            r#"{"rename": {"a.b": "d", "a.c": "d"}}"#,
            "rename: \"a.b\" is not the only member renamed to \"d\"",
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
        let error = refusal(rules);
        assert!(error.starts_with(message), "{error}");
    }
    let rules = r#"{"target":null,"allow":["a","b"],"deny":[],"rename":{"a":"b","b":"a"}}"#;
    assert_eq!(
        serde_json::to_string(shape(rules).unwrap().config()).unwrap(),
        rules
    );
}

#[test]
fn fault_g25_paths_lead_into_objects_and_through_arrays() {
    let person = r#"{"person":{"name":"Ida","pin":"4711"},"pin":1}"#;
    let list = r#"[{"name":"Ida","pin":"4711"},[{"name":"Bo","pin":1}],"x",7,null,[]]"#;
    for (rules, answer, expected) in [
        (
            r#"{"deny": ["person.pin"]}"#,
            person,
            r#"{"person":{"name":"Ida"},"pin":1}"#,
        ),
        (
            r#"{"allow": ["person.name"]}"#,
            person,
            r#"{"person":{"name":"Ida"}}"#,
        ),
        (
            r#"{"rename": {"person.name": "first"}}"#,
            person,
            r#"{"person":{"first":"Ida","pin":"4711"},"pin":1}"#,
        ),
        (
            r#"{"allow": ["name"]}"#,
            list,
            r#"[{"name":"Ida"},[{"name":"Bo"}],[]]"#,
        ),
        (
            r#"{"deny": ["pin"], "rename": {"name": "n"}}"#,
            list,
            r#"[{"n":"Ida"},[{"n":"Bo"}],"x",7,null,[]]"#,
        ),
        // An index means the item, beside a member of that name.
        (
            r#"{"deny": ["0.pin"]}"#,
            r#"[{"pin":1},{"pin":2,"0":{"pin":3}}]"#,
            r#"[{},{"pin":2,"0":{}}]"#,
        ),
        (r#"{"deny": ["a.1"]}"#, r#"{"a":[1,2,3]}"#, r#"{"a":[1,3]}"#),
        (
            r#"{"allow": ["a.1"]}"#,
            r#"{"a":[1,2,3],"b":1}"#,
            r#"{"a":[2]}"#,
        ),
    ] {
        assert_eq!(shaped(rules, answer), expected, "{rules}");
    }
}

#[test]
fn fault_g25_deny_wins_over_allow_and_collisions_are_defined() {
    let answer = r#"{"a":{"x":1,"y":2},"b":3}"#;
    for (rules, expected) in [
        (r#"{"allow": ["a"], "deny": ["a.x"]}"#, r#"{"a":{"y":2}}"#),
        (r#"{"allow": ["a"], "deny": ["a"]}"#, "{}"),
        (r#"{"allow": ["a.x"], "deny": ["a"]}"#, "{}"),
        (r#"{"allow": ["a", "a.x"]}"#, r#"{"a":{"x":1,"y":2}}"#),
        (r#"{"deny": ["a", "a.x"]}"#, r#"{"b":3}"#),
        // The renamed member replaces the one that had the name.
        (r#"{"rename": {"a.x": "y"}}"#, r#"{"a":{"y":1},"b":3}"#),
        (
            r#"{"rename": {"a.x": "y", "a.y": "x", "a": "b", "b": "a"}}"#,
            r#"{"b":{"y":1,"x":2},"a":3}"#,
        ),
    ] {
        assert_eq!(shaped(rules, answer), expected, "{rules}");
    }
}

#[test]
fn fault_g25_an_unknown_form_of_a_response_does_not_leak() {
    for (rules, answer, expected) in [
        (r#"{"allow": ["a"]}"#, r#""secret""#, "null"),
        (r#"{"allow": ["a"]}"#, "7", "null"),
        (r#"{"allow": ["a"]}"#, "[[[7]]]", "[[[]]]"),
        (r#"{"allow": ["a.b"]}"#, r#"{"a":"secret"}"#, "{}"),
        (
            r#"{"allow": ["a.b"]}"#,
            r#"{"a":["secret",{"b":1,"c":2}]}"#,
            r#"{"a":[{"b":1}]}"#,
        ),
        (
            r#"{"deny": ["a.b"]}"#,
            r#"{"a":[[{"b":1,"c":[{"b":2}]}]]}"#,
            r#"{"a":[[{"c":[{"b":2}]}]]}"#,
        ),
        (
            r#"{"deny": ["a"]}"#,
            r#"{"\u0061":1,"a":2,"b":3}"#,
            r#"{"b":3}"#,
        ),
    ] {
        assert_eq!(shaped(rules, answer), expected, "{rules}");
    }
}

#[test]
fn fault_g25_a_dot_in_a_name_is_escaped() {
    let answer = r#"{"a.b":1,"a":{"b":2},"c\\d":3}"#;
    for (rules, expected) in [
        (r#"{"deny": ["a.b"]}"#, r#"{"a.b":1,"a":{},"c\\d":3}"#),
        (r#"{"deny": ["a\\.b"]}"#, r#"{"a":{"b":2},"c\\d":3}"#),
        (r#"{"allow": ["c\\\\d"]}"#, r#"{"c\\d":3}"#),
        (r#"{"target": "a\\.b"}"#, "1"),
        (
            r#"{"allow": ["a\\.b"], "rename": {"a\\.b": "x\\.y"}}"#,
            r#"{"x.y":1}"#,
        ),
    ] {
        assert_eq!(shaped(rules, answer), expected, "{rules}");
    }
}

/// Paths of indexes do not multiply the rules of nested arrays, and the depth of a response is limited.
#[test]
fn fault_g25_nested_arrays_cost_one_pass() {
    let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
    let path = vec!["0"; 60].join(".");
    let rules = format!(r#"{{"deny": ["{path}.x"]}}"#);
    let answer = nested(62, r#"{"x":1,"y":2}"#);
    assert_eq!(shaped(&rules, &answer), nested(62, r#"{"y":2}"#));
}

#[test]
fn fault_g25_a_target_selects_from_each_item_of_an_array() {
    for (target, answer, expected) in [
        ("a", r#"[{"a":1},{"a":[2]}]"#, Some("[1,[2]]")),
        (
            "a.b",
            r#"{"a":[{"b":1},{"c":2},[{"b":3}]]}"#,
            Some("[1,[3]]"),
        ),
        ("a.1.b", r#"{"a":[{"b":1},{"b":2}]}"#, Some("2")),
        ("a", "[]", Some("[]")),
        ("a", "[1,{}]", None),
        ("a.b", r#"[{"a":1}]"#, None),
        (
            "a",
            r#" [ [ {"a" : 1} , 7 ] , [] , {"b": [{"a": 2}]} ] "#,
            Some("[[1],[]]"),
        ),
        ("a.b", r#"[{"a":{"b":1},"a":{"b":"]"}}]"#, Some(r#"["]"]"#)),
    ] {
        let filter = shape(&format!(r#"{{"target": "{target}"}}"#)).unwrap();
        let found = filter.apply(json(answer));
        let found = found.as_ref().map(Json::as_raw);
        assert_eq!(found, expected, "{target} of {answer}");
    }
    let rules = r#"{"target": "data", "deny": ["pin"]}"#;
    assert_eq!(
        shaped(rules, r#"[{"data":{"pin":1,"x":2}}]"#),
        r#"[{"x":2}]"#
    );
}

/// A path that is meant in another language must not pass, as it would remove nothing.
#[test]
fn fault_g25_refuses_paths_of_other_languages() {
    for path in [
        "l.*.pin", "*", "pin*", "$", "$.l.pin", "l[*].pin", "l[].pin", "l[0].pin", "/l/pin",
        " pin", "pin ", "l. pin", "\tpin", "l.00", "l.+0", "-1.pin", "l.007",
    ] {
        for key in ["allow", "deny", "target", "rename"] {
            let config = match key {
                "target" => serde_json::json!({ key: path }),
                "rename" => serde_json::json!({ key: { path: "x" } }),
                _ => serde_json::json!({ key: [path] }),
            };
            let error = refusal(&config.to_string());
            let start = format!("{key}: expected a path such as data.items, got \"{path}\": ");
            assert!(error.starts_with(&start), "{error}");
        }
    }
    let error = refusal(r#"{"rename": {"a": "b[0]"}}"#);
    assert!(
        error.starts_with("rename: \"a\" is renamed to \"b[0]\": "),
        "{error}"
    );
}

#[test]
fn fault_g25_a_backslash_makes_any_name_possible() {
    for (path, name) in [
        (r"\*", "*"),
        (r"a\[0\]", "a[0]"),
        (r"\$", "$"),
        ("$ref", "$ref"),
        ("a/b", "a/b"),
        (r"\/a", "/a"),
        (r"\ a b\ ", " a b "),
        (r"\007", "007"),
        (r"\+0", "+0"),
        ("-", "-"),
        ("0a", "0a"),
        (r"\\", r"\"),
    ] {
        let rules = serde_json::json!({ "deny": [path] }).to_string();
        let answer = serde_json::json!({ name: 1, "x": 2 }).to_string();
        assert_eq!(shaped(&rules, &answer), r#"{"x":2}"#, "{path}");
    }
}
