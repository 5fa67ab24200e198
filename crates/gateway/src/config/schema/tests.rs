//! The printed schema and the reader accept the same files.

use std::fs;

use jsonschema::{Validator, paths::LocationSegment, validator_for};
use serde_json::{Value, json};

use super::{
    super::{
        Config, Report,
        diagnostic::{Diagnostic, Severity},
        file::File,
        reader::{Diagnostics, ValueReader},
        tests, text,
        tree::{Kind, Tree},
    },
    *,
};

pub(super) const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/corpus");

/// Returns the names and the texts of all files that tests read.
fn files() -> Vec<(String, String)> {
    let folders = [tests::GOLDEN, CORPUS];
    let entries = folders.iter().flat_map(|path| fs::read_dir(path).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    yaml.map(|path| {
        (
            path.display().to_string(),
            fs::read_to_string(path).unwrap(),
        )
    })
    .collect()
}

/// Returns the paths of what the printed schema refuses, in the form that diagnostics have.
fn refused(schema: &Validator, file: &Value) -> Vec<String> {
    let errors = schema.iter_errors(file).map(|error| {
        let segments = error.instance_path().into_iter();
        segments.fold(String::new(), |path, segment| match segment {
            LocationSegment::Property(name) if path.is_empty() => name.into_owned(),
            LocationSegment::Property(name) => format!("{path}.{name}"),
            LocationSegment::Index(index) => format!("{path}[{index}]"),
        })
    });
    errors.collect()
}

/// Returns what the reader reports by the schema alone.
fn reported(tree: &Tree) -> Vec<Diagnostic> {
    let diagnostics = Diagnostics::default();
    let _ = ValueReader::root(tree, &diagnostics).read::<File>(of_file());
    diagnostics.into_inner()
}

/// Returns `true` if one of two paths leads to the other.
fn is_near(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Returns the value of a tree with the values of its variables, as a file without variables has it.
fn without_variables(tree: &Tree) -> Value {
    match &tree.kind {
        Kind::Scalar(Value::String(text)) if tree.unset().is_none() => {
            text.replace("${", "$${").into()
        }
        Kind::Scalar(value) => value.clone(),
        Kind::List(items) => items.iter().map(without_variables).collect(),
        Kind::Map { members, .. } => {
            let members = members.iter();
            let members =
                members.map(|(name, (_, value))| (name.clone(), without_variables(value)));
            members.collect()
        }
    }
}

/// Asserts that the printed schema and the reader refuse the same values of a file, of which `tree` has the values of
/// variables and `report` the diagnostics. Returns how many they are.
pub(super) fn assert_agreement(
    schema: &Validator,
    name: &str,
    tree: &Tree,
    report: &Report,
) -> usize {
    let refused = refused(schema, &without_variables(tree));
    let reported = reported(tree);
    let all = report.diagnostics().iter();
    let errors = all.filter(|one| one.severity == Severity::Error);
    for path in &refused {
        // The report has no credentials, which may be in a name.
        let mut errors = errors.clone().chain(&reported);
        let is_reported = errors.any(|one| is_near(&one.path, path));
        assert!(is_reported, "{name}: only the schema refuses {path}");
    }
    // A regular expression cannot compare durations and sizes.
    let can_say = |one: &&Diagnostic| one.code != "range";
    // Nor does it say that the gateway needs the key of a policy, which the library does not.
    let is_form = |one: &&Diagnostic| {
        ["missing", "type", "unknown_key", "not_built"].contains(&one.code)
            && !one.path.ends_with(".per_key")
            && !one.path.contains("**")
    };
    let both = reported.iter().chain(errors.filter(is_form));
    let both = both.filter(can_say).map(|one| {
        let is_refused = refused.iter().any(|path| is_near(&one.path, path));
        assert!(
            is_refused,
            "{name}: only the reader refuses {}: {}",
            one.path, one.message
        );
    });
    both.count()
}

#[test]
fn fault_j53_check_refuses_what_the_schema_refuses_and_the_reverse() {
    let schema = validator_for(&json_schema()).unwrap();
    let mut refusals = 0;
    for (name, text) in files() {
        let Ok(mut tree) = Tree::parse(&text) else {
            continue;
        };
        let report = Config::parse(&name, &text, &tests::env());
        let report = report.map_or_else(|report| report, |config| config.warnings);
        if !report.has_errors() {
            let refused = refused(&schema, &tree.to_json());
            assert_eq!(refused, [""; 0], "{name}: {report}");
        }
        tree.interpolate(&tests::env());
        if tree.is_known() {
            refusals += assert_agreement(&schema, &name, &tree, &report);
        }
    }
    assert!(refusals > 100, "{refusals} refusals");
}

/// A valid file with the keys of which libraries check the values.
const FILE: &str = r#"
version: 1
server: { cors: { origins: ["https://shop.example"] } }
auth:
  jwt:
    main:
      algorithms: [HS256]
      keys: [{ secret: a secret that is long enough for HS256 }]
      issuers: [me]
      audiences: [us]
      realm: api
    fetched:
      algorithms: [ES256]
      keys: [{ jwks: { url: "https://idp.example/keys" } }]
      issuers: [idp]
      audiences: [us]
tiers: { free: {}, pro: {} }
policies: { tenants: { circuit_breaker: off, per_key: { key: "{jwt.sub}", concurrency: { max: 1 } } } }
downstreams: { users: { endpoints: [{ url: "http://users:8080/v1" }], policy: tenants } }
routes:
  - name: page
    match: { path: "/pages/{id}" }
    auth: { jwt: [main] }
    plan:
      user:
        downstream: users
        tiers: [free]
        request: { path: "/users/{route.id}", headers: { x-a: b } }
        response: { target: data, allow: [a.b], deny: [a.c], rename: { a.b: c } }
acknowledge: [{ rule: no_auth, reason: it is public }]
"#;

#[test]
fn fault_j53_states_the_rules_of_libraries() {
    let schema = validator_for(&json_schema()).unwrap();
    let verdicts = |text: &str| {
        let file = Tree::parse(text).unwrap().to_json();
        let report = Config::parse("file.yaml", text, &tests::env());
        (schema.is_valid(&file), report.is_ok())
    };
    assert_eq!(verdicts(FILE), (true, true));
    for (valid, accepted) in [
        ("https://shop.example", "http://localhost:3000"),
        ("[\"https://shop.example\"]", "[\"*\"]"),
        ("https://idp.example/keys", "http://127.0.0.1:8080/keys?a=1"),
        ("http://users:8080/v1", "HTTPS://[::1]:8443"),
        ("/pages/{id}", "/{id}"),
        ("https://idp.example/keys", "http://LOCALHOST:80/keys"),
        ("http://users:8080/v1", "http://users:00065535/"),
        ("https://shop.example", "https://[::1]:8443"),
        ("[a.c]", r#"['a.\ b\ ', a.$ref, 'a.0.-']"#),
        ("{ x-a: b }", "{ x-a: \"{{a}} {route.id|b c}{tier}\" }"),
        ("/pages/{id}", "/a b//é/{x-y}/{id}/"),
        ("/users/{route.id}", "/{{x}}/a%20b{route.id|/}"),
        ("[a.b]", "[a.b, \"x\\\\.y.z\"]"),
        ("headers: { x-a: b }", "method: PUT, body: 1"),
        ("headers: { x-a: b }", "method: PUT, body: null"),
        ("{ x-a: b }", "{ x-host: b, authorization: c }"),
        (
            "{ jwt: [main] }",
            "{ jwt: [main], propagate_claims: [{ claim: sub, header: x-cookie }] }",
        ),
        (
            "policy: tenants }",
            "policy: tenants, forward_headers: [x-cookie] }",
        ),
        (
            "tenants: {",
            "tenants: { classify: { success: [404], failure: [418] },",
        ),
        (
            "[\"https://shop.example\"]",
            "[\"https://shop.example\"], credentials: true",
        ),
        (
            "policy: tenants }",
            "policy: tenants, forward_credentials: [Cookie, AUTHORIZATION] }",
        ),
    ] {
        let text = FILE.replacen(valid, accepted, 1);
        assert_eq!(verdicts(&text), (true, true), "{accepted}");
    }
    for (valid, refused) in [
        ("routes:", "orchestrate: { plan: {} }\nroutes:"),
        ("[HS256]", "[]"),
        ("[{ secret: a secret that is long enough for HS256 }]", "[]"),
        ("{ jwks: {", "{ kid: a, jwks: {"),
        (
            "[{ jwks:",
            "[{ secret: a secret that is long enough }, { jwks:",
        ),
        ("https://idp.example/keys", "http://idp.example/keys"),
        ("https://idp.example/keys", "https://me@idp.example/keys"),
        ("realm: api", "realm: a\"b"),
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example", "https://shop.example:443"),
        ("https://shop.example", "shop.example"),
        ("https://shop.example", "*\", \"https://shop.example"),
        ("http://users:8080/v1", "users:8080"),
        ("http://users:8080/v1", "ftp://users"),
        ("http://users:8080/v1", "http://users:0"),
        ("http://users:8080/v1", "http://users:65536"),
        ("http://users:8080/v1", "http://users:80a"),
        ("http://users:8080/v1", "http://users:8:0"),
        ("http://users:8080/v1", "http://a%20b"),
        ("https://idp.example/keys", "https://idp.example:65536/keys"),
        ("https://idp.example/keys", "http://127.evil/keys"),
        ("https://shop.example", "https://shop|example"),
        ("https://shop.example", "https://shop.example:0"),
        ("http://users:8080/v1", "http://me@users"),
        ("http://users:8080/v1", "http://users/?a=1"),
        ("http://users:8080/v1", "http://users/../a"),
        ("http://users:8080/v1", "http://a b"),
        ("http://users:8080/v1", "http://a\\t"),
        ("https://idp.example/keys", "https://a b/keys"),
        ("https://idp.example/keys", "https://a/keys?a b"),
        ("name: page", "name: \"a\\t\""),
        (
            "downstreams: { users:",
            "downstreams: { \"a\\t\": &u { endpoints: [] }, users:",
        ),
        ("key: \"{jwt.sub}\", ", ""),
        (", concurrency: { max: 1 }", ""),
        ("/pages/{id}", "pages"),
        ("/pages/{id}", "/pages?a=1"),
        ("/pages/{id}", "/pages/{id"),
        ("/pages/{id}", "/pages/x{id}"),
        ("/pages/{id}", "/pages/*"),
        ("/pages/{id}", "/pages/.."),
        ("/pages/{id}", "/%41"),
        ("/pages/{id}", "/:id"),
        ("/pages/{id}", "/livez/a"),
        ("/users/{route.id}", "users"),
        ("/users/{route.id}", "//users"),
        ("/users/{route.id}", "/users?a=1"),
        ("/users/{route.id}", "/100%"),
        ("/users/{route.id}", "/users/../a"),
        ("/users/{route.id}", "/users/{route.id"),
        ("{ x-a: b }", "{ \"x a\": b }"),
        ("name: page", "name: docs"),
        ("user:\n", "jwt:\n"),
        ("[main]", "[main, main]"),
        ("[main]", "[]"),
        ("[free]", "[free, free]"),
        ("target: data", "target: a..b"),
        ("[a.b]", "[a.b, a.b]"),
        ("[a.b]", "[\"a.*\"]"),
        ("target: data", "target: \"$\""),
        ("target: data", "target: \"a.$.b\""),
        ("[a.c]", "[a.c, a.c]"),
        ("[a.c]", "[\"a[0]\"]"),
        ("[a.c]", "[\" a\"]"),
        ("[a.c]", "[\"a \"]"),
        ("[a.c]", "[\"a.\u{a0}b\"]"),
        ("[a.c]", "[\"a.007\"]"),
        ("[a.c]", "[\"a.-1\"]"),
        ("target: data", "target: \"a \""),
        ("{ a.b: c }", "{ a.b: \" c\" }"),
        ("{ a.b: c }", "{ \"a. b\": c }"),
        ("/users/{route.id}", "/users/{id}"),
        ("/users/{route.id}", "/users/{route.id }"),
        ("/users/{route.id}", "/users/{route.id/}"),
        ("/users/{route.id}", "/users/{route.a.b}"),
        ("/users/{route.id}", "/users/{a{route.id}"),
        ("{ x-a: b }", "{ x-a: \"é\" }"),
        ("{ x-a: b }", "{ x-a: \"{route.id|é}\" }"),
        ("{ x-a: b }", "{ x-a: \"{id}\" }"),
        ("{ x-a: b }", "{ x-a: \"a{\" }"),
        ("headers: { x-a: b }", "query: { x-a: \"{id}\" }"),
        ("{ x-a: b }", "{ \"${PORT}\": b }"),
        ("{ x-a: b }", "{ x-a: \"${P ORT}\" }"),
        ("target: data", "target: \"${PORT:x}\""),
        ("{ a.b: c }", "{ \"a[0]\": c }"),
        ("{ a.b: c }", "{ a.b: \"\" }"),
        ("{ x-a: b }", "{ Host: b }"),
        (
            "{ jwt: [main] }",
            "{ jwt: [main], propagate_claims: [{ claim: sub, header: Cookie }] }",
        ),
        ("{ x-a: b }", "{ X-Fanout-Depth: b }"),
        (
            "policy: tenants }",
            "policy: tenants, forward_headers: [Cookie] }",
        ),
        (
            "policy: tenants }",
            "policy: tenants, forward_headers: [TraceParent] }",
        ),
        (
            "tenants: {",
            "tenants: { classify: { success: [404, 404] },",
        ),
        ("reason: it is public", "reason: \" \""),
        ("headers: { x-a: b }", "body: 1"),
        ("headers: { x-a: b }", "body: null"),
        ("headers: { x-a: b }", "method: GET, body: 1"),
        ("[\"https://shop.example\"]", "[\"*\"], credentials: true"),
        (
            "[\"https://shop.example\"]",
            "[\"https://shop.example\"], headers: [\"*\"], credentials: true",
        ),
        (
            "policy: tenants }",
            "policy: tenants, forward_credentials: [x-a] }",
        ),
    ] {
        assert!(FILE.contains(valid), "{valid}");
        let text = FILE.replacen(valid, refused, 1);
        assert_eq!(verdicts(&text), (false, false), "{valid} as {refused}");
    }
}

type Texts = &'static [&'static str];

#[test]
fn patterns_and_parsers_of_text_formats_agree() {
    // Texts that are valid, invalid, and invalid only for the parser.
    let table: [(&str, Texts, Texts, Texts); 13] = [
        (
            "duration",
            &[
                "0", "300ms", "1m 30s", "1.5s", " 2h", "1h5m", "3 days", "1 000ms", "5µs",
                "1\u{85}s",
            ],
            &[
                "", "300", "ms", "1x", "-1s", "1,5s", "0.5", "1s!", "s1", "1.s", "${", "1 0", "1M",
                "1y",
            ],
            &["99999999999999999999s", "0.5ns"],
        ),
        (
            "size",
            &["1B", "64KiB", "1 MiB", "+2GiB", "007B"],
            &["", "1", "1MB", "1kib", "-1B", "1.5MiB", "MiB"],
            &["99999999999999999999B"],
        ),
        (
            "address",
            &["0.0.0.0:8080", "[::1]:80", "[fe80::1%2]:9"],
            &[
                "",
                "localhost:80",
                "1.2.3.4",
                ":80",
                "1.2.3:80",
                "::1:80",
                "0.0.0.0:http",
            ],
            &["999.0.0.1:80", "0.0.0.0:99999", "[:::]:1"],
        ),
        (
            "network",
            &["10.0.0.0/8", "::1/128"],
            &["", "10.0.0.0", "10.0.0.0/", "home/8", "10.0.0.0/8 "],
            &["10.0.0.0/33", "300.0.0.0/8"],
        ),
        (
            "header-name",
            &["x-tenant", "Accept", "a_b!"],
            &["", "x tenant", "x:y", "é"],
            &[],
        ),
        (
            "log-filter",
            &[
                "info",
                "off",
                "info,tower_fanout=debug",
                "tower_fanout=trace",
                "a::b=warn,error",
            ],
            &["", "verbose", "info,", "a=loud", "info;debug", "INFO"],
            &["[=info"],
        ),
        (
            "url",
            &[
                "http://users:8080",
                "https://u/x?y=1",
                "http://u/%41",
                "http://[::1]/",
            ],
            &[
                "",
                "http://u/#top",
                "http://u/{id}",
                "http://u/100%",
                "http://u/a\\b",
                "http://a b",
                "http://u /",
                "http://u\t",
                "é:80",
                "http://u/?a b",
            ],
            &["http://"],
        ),
        ("token-type", &["at+jwt", "JWT"], &["", "a b", "é"], &[]),
        ("token", &["tenant", "a.b!"], &["", "a b", "a=b", "é"], &[]),
        (
            "key-template",
            &[
                "{jwt.sub}",
                "{header.a|none}/{tier}",
                "{{{query.a}}}",
                "a{body.b}{route.c|{}",
            ],
            &[
                "",
                "everyone",
                "{{jwt.sub}}",
                "}",
                "{jwt.sub",
                "{user.id}",
                "{headers.a}",
                "{jwt.*}",
                "{jwt.a }",
                "{jwt}",
                "{tier.a}",
                "{query.a.b}",
                "{header.a/b}",
            ],
            &[],
        ),
        (
            "claim-path",
            &["tier", "realm_access.roles", "https://idp.example/roles"],
            &[
                "", ".", "a..b", ".a", "a.", "a\n", "x://\t", " ", "a. ", "\u{a0}.a",
            ],
            &[],
        ),
        (
            "visible-text",
            &["a", " a b ", "é", "https://idp.example/"],
            &[
                "",
                " ",
                "a\tb",
                "a\n",
                "\u{1b}[31m",
                "\u{85}",
                "\u{a0}",
                "\u{2028}",
            ],
            &[],
        ),
        (
            "scope",
            &["read:users", "a"],
            &["", "a b", "a\"", "a\\", "é"],
            &[],
        ),
    ];
    for (name, valid, invalid, beyond) in table {
        let format = text::format(name).unwrap();
        let text::Shape::Pattern(pattern) = format.shape else {
            panic!("{name} has no pattern");
        };
        let pattern = validator_for(&json!({ "pattern": pattern })).unwrap();
        let parses = |text: &str| (format.check)(text, &Value::Null).is_ok();
        let matches = |text: &str| pattern.is_valid(&text.into());
        for text in valid {
            assert!(parses(text) && matches(text), "{name}: {text:?} is valid");
        }
        for text in invalid {
            assert!(
                !parses(text) && !matches(text),
                "{name}: {text:?} is invalid"
            );
        }
        for text in beyond {
            assert!(
                !parses(text) && matches(text),
                "{name}: {text:?} is invalid for the parser"
            );
        }
    }
}

#[test]
fn words_of_text_formats_are_those_that_parse() {
    for (name, count) in [("method", 7), ("jwt-algorithm", 13)] {
        let format = text::format(name).unwrap();
        let text::Shape::Words(words) = format.shape else {
            panic!("{name} has no words");
        };
        let words = words();
        assert_eq!(words.len(), count, "{words:?}");
        assert!(
            words
                .iter()
                .all(|word| (format.check)(word, &Value::Null).is_ok())
        );
    }
}

/// Calls `visit` with each schema inside `schema`, and its path.
fn visit<'s>(schema: &'s Value, path: &str, visitor: &mut dyn FnMut(&str, &'s Value)) {
    visitor(path, schema);
    match schema {
        Value::Object(members) => members
            .iter()
            .filter(|(key, _)| !["default", "examples"].contains(&&***key))
            .for_each(|(key, value)| visit(value, &format!("{path}/{key}"), visitor)),
        Value::Array(items) => items.iter().for_each(|item| visit(item, path, visitor)),
        _ => {}
    }
}

#[test]
fn defaults_and_examples_are_valid() {
    let root = json_schema();
    let mut checked = 0;
    visit(&root, "", &mut |path, schema| {
        let examples = schema.get("examples").and_then(Value::as_array);
        let values = examples.into_iter().flatten().chain(schema.get("default"));
        for value in values.filter(|_| !path.ends_with("/properties")) {
            let mut alone = schema.clone();
            alone["definitions"] = root["definitions"].clone();
            let errors: Vec<_> = validator_for(&alone)
                .unwrap()
                .iter_errors(value)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{path}: {value}: {errors:?}");
            checked += 1;
        }
    });
    assert!(checked > 100, "{checked} values");
}

#[test]
fn descriptions_speak_of_keys() {
    visit(&json_schema(), "", &mut |path, schema| {
        // The only key of an alternative is described by the alternative, and conditions name keys of the map around them.
        let is_alternative =
            path.ends_with("Of") || path.ends_with("/if") || path.ends_with("/then");
        if let Some(Value::Object(keys)) = schema.get("properties").filter(|_| !is_alternative) {
            for (key, schema) in keys {
                let text = schema.get("description");
                assert!(text.is_some(), "{path}/{key} has no description");
            }
        }
        let Some(text) = schema.get("description").and_then(Value::as_str) else {
            return;
        };
        for foreign in [
            "::",
            "](",
            "`None`",
            "`Some",
            "Config`",
            "Layer`",
            "feature `",
        ] {
            assert!(!text.contains(foreign), "{path}: {foreign} in {text}");
        }
    });
}

#[test]
fn words_may_be_variables_and_numbers_may_not() {
    let schema = validator_for(&json_schema()).unwrap();
    for (text, is_valid) in [
        ("telemetry: { logs: { format: \"${FORMAT}\" } }", true),
        ("telemetry: { logs: { format: \"${FORMAT:-json}\" } }", true),
        ("telemetry: { logs: { format: \"${FORMAT\" } }", false),
        ("telemetry: { logs: { format: \"$${FORMAT}\" } }", false),
        ("telemetry: { logs: { format: \"$$${FORMAT}\" } }", true),
        (
            "telemetry: { logs: { format: \"${FORMAT:-${A}}\" } }",
            false,
        ),
        (
            "telemetry: { logs: { format: \"${FORMAT} ${A B}\" } }",
            false,
        ),
        ("server: { listen: \"0.0.0.0:${PORT}\" }", true),
        ("server: { max_connections: \"${MAX}\" }", false),
        ("tiers: { \"${TIER}\": {} }", true),
        (
            "downstreams: { a: { endpoints: [{ url: \"http://a\" }], policy: \"${A B}\" } }",
            false,
        ),
        (
            "downstreams: { a: { endpoints: [{ url: \"http://a\" }], policy: \"a$ $${A B} ${A:?b ${}\" } }",
            true,
        ),
        (
            "policies: { a: { retry: \"${RETRY}\", hedge: { hedge_on: [\"${ON}\"] } } }",
            true,
        ),
        (
            "routes: [{ name: a, match: { path: /, method: \"${METHOD}\" }, plan: { a: { downstream: a, request: { path: / } } } }]",
            true,
        ),
        ("telemetry: { tracing: { otlp: x } }", false),
    ] {
        let plan = "orchestrate: { plan: { a: { downstream: a, request: { path: / } } } }";
        let file = Tree::parse(&format!("version: 1\n{plan}\n{text}\n"))
            .unwrap()
            .to_json();
        assert_eq!(schema.is_valid(&file), is_valid, "{text}");
    }
}

#[test]
fn fault_j53_states_that_a_file_serves_something() {
    let schema = validator_for(&json_schema()).unwrap();
    let route =
        "{ name: a, match: { path: / }, plan: { a: { downstream: a, request: { path: / } } } }";
    let api = "orchestrate: { plan: { a: { downstream: a, request: { path: / } } } }";
    for (text, is_valid) in [
        (String::new(), false),
        ("routes: []".to_owned(), false),
        (format!("routes: [{route}]"), true),
        (api.to_owned(), true),
        (format!("routes: []\n{api}"), true),
    ] {
        let file = Tree::parse(&format!("version: 1\n{text}\n")).unwrap();
        assert_eq!(schema.is_valid(&file.to_json()), is_valid, "{text}");
    }
}

#[test]
fn fault_j53_a_variable_may_name_a_header() {
    let schema = validator_for(&json_schema()).unwrap();
    let text = |name: &str| {
        format!(
            "version: 1
downstreams: {{ up: {{ endpoints: [{{ url: 'http://up:80' }}], forward_headers: ['{name}'] }} }}
orchestrate: {{ plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }} }}
"
        )
    };
    for (name, accepted) in [("${PORT}", true), ("x-${PORT}", true), ("Host", false)] {
        let tree = Tree::parse(&text(name)).unwrap();
        let refused = refused(&schema, &tree.to_json());
        assert_eq!(refused.is_empty(), accepted, "{name}: {refused:?}");
        let config = Config::parse("a.yaml", &text(name), &tests::env());
        assert_eq!(config.is_ok(), accepted, "{name}");
    }
}
