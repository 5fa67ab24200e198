//! Injection tests for templates: no value can change the segments of a path, the keys of a query,
//! the number of headers or the structure of a JSON body.
//!
//! The rendered requests are parsed by parsers that know nothing of templates, and compared with
//! the expected parts.

use http::{Method, Request, Uri};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_fanout_json::{
    Json,
    template::{Found, Lookup, Reference, RenderError, RequestTemplate, TextTemplate},
};

/// Values known from attacks on other software.
const LISTED: [&str; 68] = [
    "../",
    "..",
    ".",
    "...",
    "..%2f",
    "..%2F",
    "%2e%2e%2f",
    "%2e%2e",
    "%2E",
    ".%2e",
    "%252e%252e",
    "%c0%ae%c0%ae/",
    "..\\",
    "\\..\\",
    "..;/",
    ";/..",
    "/",
    "//",
    "///",
    "",
    " ",
    "/./",
    "a/b",
    "a/../../admin?x=1",
    "//evil",
    "//evil.example/x",
    "http://evil.example/",
    "https:evil",
    "@evil.example",
    "user:pass@evil",
    ":8080",
    "#",
    "#fragment",
    "?",
    "?x=1",
    "&",
    "&y=2",
    "&since=2",
    "=",
    "a=b",
    ";c=d",
    "+",
    "%",
    "%%",
    "%0",
    "%zz",
    "%00",
    "\0",
    "\r",
    "\n",
    "a\r\nX-Injected: y",
    "%0d%0aX: y",
    "\t",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "é",
    "日本",
    "🦀",
    "{route.other}",
    "{{.x}}",
    "{",
    "}}",
    "${HOME}",
    "\"",
    "\",\"admin\":true,\"x\":\"",
    "\\\"",
];

/// A source that returns the same value for every placeholder, as one of the kinds of `Found`.
struct Same<'v> {
    text: &'v str,
    json: Json,
    tree: Value,
    kind: usize,
}

/// Number of kinds of `Found`.
const KINDS: usize = 3;

impl<'v> Same<'v> {
    fn new(text: &'v str, kind: usize) -> Self {
        let tree = Value::from(text);
        let json = Json::parse(tree.to_string().into()).unwrap();
        Self {
            text,
            json,
            tree,
            kind,
        }
    }
}

impl Lookup for Same<'_> {
    fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
        let whole: &[&str] = &[];
        match self.kind {
            0 => Some(Found::Text(self.text.into())),
            1 => self.json.get(whole).map(Found::Json),
            _ => Some(Found::Tree(&self.tree)),
        }
    }
}

/// A source that looks up all placeholders in one JSON document, whatever their root is.
struct Raw(Json);

impl Raw {
    fn new(text: &str) -> Self {
        Self(Json::parse(text.to_owned().into()).unwrap())
    }
}

impl Lookup for Raw {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        self.0.get(&reference.path).map(Found::Json)
    }
}

/// Returns the listed values, and several hundred that are combined from fragments.
fn corpus() -> Vec<String> {
    let before = ["", "a", "/", "../", "%2e", "\"", "{", "\\", "\r\n"];
    let within = [
        "..", "%2f", "?x=1", "&y=2", "#z", "@h", "{tier}", "\0", "\"}", "é", ";",
    ];
    let after = ["", "/", "/..", "%", "}", "\"", "\\"];
    let combine = |first: &str| {
        let first = first.to_owned();
        within.map(move |middle| format!("{first}{middle}"))
    };
    let made = (before.into_iter().flat_map(combine))
        .flat_map(|start| after.map(|end| format!("{start}{end}")));
    let long = ["x", "/", "..", "\"", "é", "{"].map(|piece| piece.repeat(10_000 / piece.len()));
    let listed = LISTED.into_iter().map(str::to_owned);
    listed.chain(made).chain(long).collect()
}

/// Calls `check` with all values, as each kind of `Found`.
fn for_each_value(check: impl Fn(&str, &Same<'_>)) {
    let corpus = corpus();
    assert!(corpus.len() > 700);
    for value in &corpus {
        (0..KINDS).for_each(|kind| check(value, &Same::new(value, kind)));
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// Returns the length of `value` with all but the unreserved characters percent-encoded.
fn encoded_len(value: &str) -> usize {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let bytes = value.as_bytes().iter();
    bytes.map(|byte| if plain(byte) { 1 } else { 3 }).sum()
}

/// Parses the target of the request from its text, as a server would.
fn target(request: &Request<bytes::Bytes>) -> Uri {
    let uri: Uri = request.uri().to_string().parse().unwrap();
    assert_eq!((uri.scheme(), uri.authority()), (None, None));
    uri
}

fn assert_path(value: &str, source: &Same<'_>) {
    let template =
        RequestTemplate::new(Method::GET, "/a/{body.x}/b.{body.x}/.{body.x}/c/").unwrap();
    let expected = [value, &format!("b.{value}"), &format!(".{value}")].map(str::to_owned);
    let changes_path = |segment: &String| ["", ".", ".."].contains(&segment.as_str());
    let result = template.render(source);
    if "/a//b./.".len() + "/c/".len() + 3 * encoded_len(value) > 8192 {
        assert!(
            matches!(result, Err(RenderError::TooLarge { max: 8192, .. })),
            "{value:?}"
        );
    } else if expected.iter().any(changes_path) {
        assert!(matches!(result, Err(RenderError::Unusable(_))), "{value:?}");
    } else {
        let uri = target(&result.unwrap());
        let segments: Vec<_> = uri.path().split('/').map(decoded).collect();
        let [first, second, third] = expected;
        let expected = ["", "a", &first, &second, &third, "c", ""];
        assert_eq!(segments, expected, "{value:?}");
        assert_eq!(uri.query(), None, "{value:?}");
    }
}

fn assert_query(value: &str, source: &Same<'_>) {
    let template = RequestTemplate::new(Method::GET, "/a")
        .and_then(|template| template.query("since", "{query.x}"))
        .and_then(|template| template.query("a&b=c", "<{query.x}+{jwt.x}>"))
        .and_then(|template| template.query("page", "1"))
        .unwrap();
    if 3 * encoded_len(value) > 65_000 {
        let error = template.render(source).unwrap_err();
        assert!(matches!(error, RenderError::TooLarge { .. }), "{value:?}");
        return;
    }
    let uri = target(&template.render(source).unwrap());
    assert_eq!(uri.path(), "/a", "{value:?}");
    let pairs: Vec<_> = form_urlencoded::parse(uri.query().unwrap().as_bytes())
        .into_owned()
        .collect();
    let expected = [
        ("since", value.to_owned()),
        ("a&b=c", format!("<{value}+{value}>")),
        ("page", "1".to_owned()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(pairs, expected, "{value:?}");
}

fn assert_header(value: &str, source: &Same<'_>) {
    let template = RequestTemplate::new(Method::GET, "/")
        .and_then(|template| template.header("x-subject", "sub={jwt.x}"))
        .unwrap();
    let visible = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match template.render(source) {
        Ok(request) => {
            assert!(visible, "{value:?}");
            assert_eq!(request.headers().len(), 1, "{value:?}");
            assert_eq!(request.headers()["x-subject"], format!("sub={value}"));
        }
        Err(RenderError::TooLarge { max, .. }) => assert!(value.len() + 4 > max, "{value:?}"),
        Err(error) => {
            assert!(
                matches!(error, RenderError::Unusable(_)) && !visible,
                "{value:?}"
            );
        }
    }
}

fn assert_body(value: &str, source: &Same<'_>) {
    let document = json!({
        "whole": "{user.x}",
        "within": "<{user.x}> {{{user.x}}}",
        "list": ["{user.x}", {"deep": ["a\"{user.x}\\"]}, []],
        "fixed": [1, 1.5, null, true, "a\"\u{1}b", {}],
        "na\"me{{}}": "{{user.x}}",
    });
    let template = RequestTemplate::new(Method::POST, "/")
        .and_then(|template| template.body(&document))
        .unwrap();
    let request = template.render(source).unwrap();
    let read: Value = serde_json::from_slice(request.body()).unwrap();
    let expected = json!({
        "whole": value,
        "within": format!("<{value}> {{{value}}}"),
        "list": [value, {"deep": [format!("a\"{value}\\")]}, []],
        "fixed": [1, 1.5, null, true, "a\"\u{1}b", {}],
        "na\"me{}": "{user.x}",
    });
    assert_eq!(read, expected, "{value:?}");
    assert_eq!(request.headers()["content-type"], "application/json");
}

#[test]
fn fault_i1_fault_i2_no_value_changes_the_path_segments() {
    for_each_value(assert_path);
}

#[test]
fn fault_i14_no_value_changes_the_query_keys() {
    for_each_value(assert_query);
}

#[test]
fn fault_i2_no_value_adds_a_header() {
    for_each_value(assert_header);
}

#[test]
fn fault_i13_no_value_changes_the_json_structure() {
    for_each_value(assert_body);
}

proptest! {
    #[test]
    fn fault_i1_fault_i13_fault_i14_random_values_change_no_structure(
        value in "(?s).{0,40}",
        kind in 0..KINDS,
    ) {
        let source = Same::new(&value, kind);
        assert_path(&value, &source);
        assert_query(&value, &source);
        assert_header(&value, &source);
        assert_body(&value, &source);
    }
}

#[test]
fn fault_i1_text_and_value_cannot_form_a_dot_segment() {
    let render = |path: &str, value: &str| {
        let template = RequestTemplate::new(Method::GET, path).unwrap();
        let request = template.render(&Same::new(value, 0));
        request.map(|request| request.uri().to_string())
    };
    for (path, value) in [
        ("/{body.x}{body.y}", "."),
        (".{body.x}", "."),
        ("{body.x}.", ""),
        ("%2e{body.x}", "."),
        ("%2E{body.x}", ""),
        ("{body.x}%2e", "."),
    ] {
        let path = format!("/a/{}/b", path.trim_start_matches('/'));
        let Err(RenderError::Unusable(values)) = render(&path, value) else {
            panic!("{path} is rendered");
        };
        assert_eq!(values[0].to_string(), "body.x", "{path}");
    }
    assert_eq!(render("/{body.x}.{body.y}", "x").unwrap(), "/x.x");
    for path in ["/a%2{body.x}", "/a%{body.x}", "/a%", "/%zz", "/%é"] {
        assert!(RequestTemplate::new(Method::GET, path).is_err(), "{path}");
    }
}

#[test]
fn fault_i1_rejects_an_empty_value_as_a_path_segment() {
    for path in [
        "/users/{route.id}/orders",
        "/users/{route.id}",
        "/{route.id}",
    ] {
        let template = RequestTemplate::new(Method::GET, path).unwrap();
        let result = template.render(&Same::new("", 0));
        assert!(matches!(result, Err(RenderError::Unusable(_))), "{path}");
    }
    let template = RequestTemplate::new(Method::GET, "/a/x{route.id}/").unwrap();
    assert_eq!(template.render(&Same::new("", 0)).unwrap().uri(), "/a/x/");
}

#[test]
fn fault_i3_never_interprets_placeholders_in_values() {
    let source = Raw::new(r#"{"a": "{body.b}", "b": "secret", "{body.b}": 1}"#);
    let template = RequestTemplate::new(Method::POST, "/{body.a}")
        .and_then(|template| template.query("q", "{body.a}"))
        .and_then(|template| template.header("x-a", "{body.a}"))
        .and_then(|template| template.body(&json!(["{body.a}", "{body.a} {{body.b}}"])))
        .unwrap();
    let request = template.render(&source).unwrap();
    assert_eq!(request.uri(), "/%7Bbody.b%7D?q=%7Bbody.b%7D");
    assert_eq!(request.headers()["x-a"], "{body.b}");
    assert_eq!(request.body(), r#"["{body.b}","{body.b} {body.b}"]"#);
}

#[test]
fn fault_i4_names_missing_values_in_all_positions() {
    let source = Raw::new(r#"{"null": null}"#);
    let get = || RequestTemplate::new(Method::POST, "/").unwrap();
    let assert_missing = |template: RequestTemplate, name: &str| {
        let error = template.render(&source).unwrap_err();
        assert_eq!(error.to_string(), format!("missing value for {{{name}}}"));
    };
    for name in ["jwt.none", "body.null"] {
        let placeholder = format!("{{{name}}}");
        let path = RequestTemplate::new(Method::GET, &format!("/{placeholder}"));
        assert_missing(path.unwrap(), name);
        assert_missing(get().query("q", &placeholder).unwrap(), name);
        assert_missing(get().header("x", &placeholder).unwrap(), name);
        assert_missing(
            get().body(&json!([format!("a{placeholder}")])).unwrap(),
            name,
        );
    }
    assert_missing(
        get().body(&json!({"a": ["{jwt.none}"]})).unwrap(),
        "jwt.none",
    );
}

#[test]
fn fault_i1_objects_arrays_and_surrogates_are_no_text() {
    let source = Raw::new(r#"{"object": {}, "list": [1], "surrogate": "a\ud800"}"#);
    for name in ["object", "list", "surrogate"] {
        // A default replaces only a missing value.
        for placeholder in [
            format!("{{body.{name}}}"),
            format!("{{user.{name}}}"),
            format!("{{body.{name}|1}}"),
        ] {
            let post = |path: &str| RequestTemplate::new(Method::POST, path);
            for template in [
                post(&format!("/{placeholder}")),
                post("/").and_then(|template| template.query("q", &placeholder)),
                post("/").and_then(|template| template.header("x", &placeholder)),
                post("/").and_then(|template| template.body(&json!(format!("a{placeholder}")))),
            ] {
                let Err(RenderError::Unusable(values)) = template.unwrap().render(&source) else {
                    panic!("{placeholder} is rendered");
                };
                let values: Vec<_> = values.iter().map(|value| value.path[0].as_str()).collect();
                assert_eq!(values, [name], "{placeholder}");
            }
            let whole = post("/").and_then(|template| template.body(&json!(placeholder)));
            assert!(whole.unwrap().render(&source).is_ok(), "{placeholder}");
        }
    }
}

#[test]
fn fault_i4_check_considers_only_values_from_the_caller() {
    let template = |path: &str| {
        let template = RequestTemplate::new(Method::POST, path);
        template.and_then(|template| template.body(&json!(["{user.list}", "{body.null}"])))
    };
    let source = Raw::new(r#"{"null": null, "id": "7", "dots": ".."}"#);
    let check = |path: &str| template(path).unwrap().prepare(&source).map(drop);
    assert_eq!(check("/{user.id}/{body.id}"), Ok(()));
    assert!(matches!(
        check("/{user.id}/{body.dots}"),
        Err(RenderError::Unusable(values)) if values.len() == 1 && values[0].to_string() == "body.dots"
    ));
    let prepared = |path: &str| {
        let template = RequestTemplate::new(Method::GET, path).unwrap();
        template.prepare(&source).unwrap()
    };
    assert!(prepared("/{user.id}/{body.id}").is_none());
    assert_eq!(prepared("/{body.id}").unwrap().uri(), "/7");
    let missing = check("/{user.id}/{body.none}").unwrap_err();
    assert_eq!(missing.to_string(), "missing value for {body.none}");
}

#[test]
fn fault_i5_rejects_templates_that_set_the_host() {
    for path in [
        "//{route.host}/x",
        "http://{route.host}/",
        "{route.host}/x",
        "{route.host}",
    ] {
        assert!(RequestTemplate::new(Method::GET, path).is_err(), "{path}");
    }
    let template = RequestTemplate::new(Method::GET, "/").unwrap();
    assert!(template.header("host", "{route.host}").is_err());
}

#[test]
fn fault_i13_a_whole_string_becomes_the_typed_value() {
    let values = [
        "7",
        "-0",
        "1E400",
        "123456789012345678901234567890",
        "1.10",
        "true",
        "null",
        "\"7\"",
        "\"\\u00e9\\/\"",
        "[ 1 , {\"a\": \"}\"} ]",
        "{\"dup\":1,\"dup\":2}",
    ];
    for value in values {
        let source = Raw::new(&format!("{{\"id\": {value}}}"));
        let template = RequestTemplate::new(Method::PUT, "/")
            .and_then(|template| template.body(&json!({"a": ["{user.id}"]})))
            .unwrap();
        let request = template.render(&source).unwrap();
        assert_eq!(request.body(), &format!("{{\"a\":[{value}]}}"));
    }
}

#[test]
fn fault_i13_inserts_scalars_as_text_in_text_positions() {
    struct Claim(Value);
    impl Lookup for Claim {
        fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
            Some(Found::Tree(&self.0))
        }
    }
    let template = RequestTemplate::new(Method::GET, "/a-{jwt.x}").unwrap();
    for value in ["7", "1.5", "true", "false"] {
        let expected = format!("/a-{value}");
        let raw = Raw::new(&format!("{{\"x\": {value}}}"));
        assert_eq!(template.render(&raw).unwrap().uri(), &*expected);
        let tree = Claim(value.parse().unwrap());
        assert_eq!(template.render(&tree).unwrap().uri(), &*expected);
    }
    let missing = template.render(&Claim(Value::Null)).unwrap_err();
    assert!(matches!(missing, RenderError::Missing(_)));
    for value in [json!([1]), json!({})] {
        let unusable = template.render(&Claim(value)).unwrap_err();
        assert!(matches!(unusable, RenderError::Unusable(_)));
    }
}

#[test]
fn fault_i13_a_default_is_text_unless_it_is_another_json_scalar() {
    let source = Raw::new(r#"{"null": null}"#);
    let document = json!([
        "{body.x|1.10}",
        "{body.x| true }",
        "{body.x|null}",
        "{body.x|Rome \"}",
        "{body.x|}",
        "{body.x|\"a\"}",
        "{body.x|[1]}",
        "page {body.x|1}",
        "{body.null|1}",
        "a{body.null|1}"
    ]);
    let template = RequestTemplate::new(Method::POST, "/")
        .and_then(|template| template.body(&document))
        .unwrap();
    let request = template.render(&source).unwrap();
    assert_eq!(
        request.body(),
        r#"[1.10,true,null,"Rome \"","","\"a\"","[1]","page 1",null,"a1"]"#
    );
}

#[test]
fn fault_i13_rejects_placeholders_in_names_and_bodies_of_get() {
    let post = || RequestTemplate::new(Method::POST, "/").unwrap();
    let error = post().body(&json!([{"{user.id}": 1}])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a member name must not have a placeholder, got \"{user.id}\""
    );
    assert!(post().body(&json!({"a": "{"})).is_err());
    for method in [Method::GET, Method::HEAD] {
        let template = RequestTemplate::new(method.clone(), "/").unwrap();
        let error = template.body(&json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a {method} request must not have a body; set another method, such as POST")
        );
    }
}

#[test]
fn a_header_can_set_the_content_type_of_the_body() {
    let template = RequestTemplate::new(Method::PATCH, "/")
        .and_then(|template| template.header("content-type", "application/merge-patch+json"))
        .and_then(|template| template.body(&json!({"a": "{body.x|1}"})))
        .unwrap();
    let request = template.render(&Raw::new("{}")).unwrap();
    let types: Vec<_> = request.headers().get_all("content-type").iter().collect();
    assert_eq!(types, ["application/merge-patch+json"]);
    assert_eq!(template.references().count(), 1);
}

#[test]
fn size_errors_name_the_part_and_its_limit() {
    let value = "x".repeat(600_000);
    let error_of = |template: RequestTemplate| {
        let error = template.render(&Same::new(&value, 0)).unwrap_err();
        error.to_string()
    };
    let post = || RequestTemplate::new(Method::POST, "/").unwrap();
    assert_eq!(
        error_of(RequestTemplate::new(Method::GET, "/{body.x}").unwrap()),
        "the path is larger than 8192 bytes"
    );
    let encoded = RequestTemplate::new(Method::GET, "/{body.x}").unwrap();
    assert_eq!(
        encoded.prepare(&Same::new(&"/".repeat(3_000), 0)).map(drop),
        Err(RenderError::TooLarge {
            what: "the path",
            max: 8192,
            value: encoded.references().next().cloned(),
        })
    );
    assert_eq!(
        error_of(post().query("q", "{body.x}").unwrap()),
        "the path with its query is larger than 65534 bytes"
    );
    assert_eq!(
        error_of(post().header("x", "{body.x}").unwrap()),
        "a header is larger than 8192 bytes"
    );
    assert_eq!(
        error_of(post().body(&json!(["{body.x}", "{body.x}"])).unwrap()),
        "the body is larger than 1048576 bytes"
    );
    let fits = post().body(&json!("{body.x}")).unwrap();
    assert!(fits.render(&Same::new(&value, 0)).is_ok());
}

#[test]
fn placeholders_have_columns_beside_mistakes() {
    let found = TextTemplate::placeholders("\u{e9}{{x}} {jwt.sub}/{tenant}/{query.a|b}}");
    let found: Vec<_> = found
        .iter()
        .map(|(column, reference)| (*column, reference.path.concat()))
        .collect();
    assert_eq!(found, [(8, "sub".to_owned()), (27, "a".to_owned())]);
}
