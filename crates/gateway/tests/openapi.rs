//! The OpenAPI document and the responses of the gateway agree.
#![allow(missing_docs)]

mod common;

use common::*;
use http::Method;
use serde_json::{Map, Value, json};

/// The document of a gateway.
struct Document(Value);

impl Document {
    async fn of(gateway: &Gateway) -> Self {
        Self(
            gateway
                .send(Method::GET, "/openapi.json", &[], "")
                .await
                .json(),
        )
    }

    /// Returns `value`, or what it refers to.
    fn resolve<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(target) => self.0.pointer(&target[1..]).unwrap(),
            None => value,
        }
    }

    fn operation(&self, method: &Method, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method.as_str().to_ascii_lowercase()];
        assert!(operation.is_object(), "{method} {path}");
        operation
    }

    /// Returns the errors of `value` by `schema`. Members that the schema does not name are errors.
    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut components = self.0["components"].clone();
        close(&mut components);
        let whole = json!({"components": components, "allOf": [schema]});
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        validator
            .iter_errors(value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect()
    }

    /// Checks status, headers, media type and body of an answer.
    fn check(&self, method: &Method, path: &str, answer: &Answer) {
        let name = format!("{method} {path} {} {}", answer.status, answer.text);
        let status = answer.status.as_str();
        let response = self.resolve(&self.operation(method, path)["responses"][status]);
        assert!(response.is_object(), "not described: {name}");
        let described = response["headers"].as_object().cloned().unwrap_or_default();
        for (header, description) in &described {
            if let Some(value) = answer.headers.get(header) {
                let value = value.to_str().unwrap();
                let schema = &self.resolve(description)["schema"];
                let typed = match schema["type"].as_str() {
                    Some("integer") => json!(value.parse::<i64>().unwrap()),
                    _ => json!(value),
                };
                assert_eq!(
                    self.errors(schema, &typed),
                    Vec::<String>::new(),
                    "{header}: {name}"
                );
            }
        }
        let own = [
            "x-correlation-id",
            "x-fanout-completed",
            "retry-after",
            "www-authenticate",
            "server-timing",
        ];
        for header in own
            .into_iter()
            .filter(|header| answer.headers.contains_key(*header))
        {
            assert!(
                described.contains_key(header),
                "{header} is not described: {name}"
            );
        }
        let media_type = answer.header("content-type").split(';').next().unwrap();
        let content = response["content"].as_object();
        let content = content.unwrap_or_else(|| panic!("no content is described: {name}"));
        let schema = &content
            .get(media_type)
            .unwrap_or_else(|| panic!("{media_type}: {name}"))["schema"];
        let values: Vec<Value> = match media_type {
            "application/x-ndjson" => answer
                .text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect(),
            "text/event-stream" => return self.check_events(&answer.text),
            "text/plain" => vec![json!(answer.text)],
            _ => vec![answer.json()],
        };
        for value in values {
            assert_eq!(self.errors(schema, &value), Vec::<String>::new(), "{name}");
        }
    }

    fn check_events(&self, text: &str) {
        for event in text.split("\n\n").filter(|event| !event.is_empty()) {
            let field = |name: &str| {
                event
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap()
                    .trim()
            };
            let record = match field("event:") {
                "service" => "ServiceRecord",
                "summary" => "SummaryRecord",
                other => panic!("{other}"),
            };
            let schema = json!({"$ref": format!("#/components/schemas/{record}")});
            let data = serde_json::from_str(field("data:")).unwrap();
            assert_eq!(self.errors(&schema, &data), Vec::<String>::new(), "{event}");
        }
    }
}

/// Forbids members that are not named, in all objects below `schema` that name some.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // The members of a composed schema are those of all its parts, so the parts stay open.
            let composed = members.contains_key("allOf");
            let others = members
                .iter_mut()
                .filter(|(name, _)| *name != "allOf" && *name != OPEN);
            others.for_each(|(_, value)| close(value));
            let object = members.get("type") == Some(&json!("object"));
            if composed || object && members.contains_key("properties") {
                members
                    .entry("unevaluatedProperties")
                    .or_insert(false.into());
            }
            if members.get("$ref") == Some(&json!(format!("#/components/schemas/{OPEN}"))) {
                members.insert("unevaluatedProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The schema that is part of a composed one. It is closed where it is referred to.
const OPEN: &str = "Service";

/// Starts a gateway whose services respond, fail, hang, or are down.
async fn gateway() -> Gateway {
    let (up, _) = stub(quick).await;
    let (failing, _) = stub(broken).await;
    let (slow, _) = stub(hanging).await;
    let downstreams = [("up", up), ("failing", failing), ("slow", slow)];
    let plan = "    up: { downstream: up, required: true, request: { path: \"/{body.input.symbol}\", query: { n: \"{body.input.n|7}\" } } }
    failing: { downstream: failing, request: { path: / } }
    kept: { downstream: failing, request: { path: / }, fallback: [{ static: { a: 1 } }] }
    slow: { downstream: slow, depends_on: [failing], request: { path: / } }
    pro: { downstream: up, tiers: [pro], request: { path: / }, when: \"bool(query.pro)\" }
";
    let more = "policies: { p: { attempt_timeout: 100ms, retry: { base: 1ms }, circuit_breaker: off } }
telemetry: { server_timing: true }
routes:
  - name: page
    match: { method: POST, path: \"/pages/{id}\" }
    plan:
      user:
        downstream: up
        required: true
        request:
          method: POST
          path: \"/users/{route.id}/{body.kind}\"
          query: { page: \"{query.page}\", size: \"{query.size|10}\" }
          headers: { x-client: \"{header.x-client}\" }
          body: { name: \"{body.person.name}\", note: \"for {body.person.note}\", extra: \"{body.extra|none}\" }
      more: { downstream: failing, depends_on: [user], request: { path: \"/{body.more}\" } }
  - name: fails
    match: { path: /fails }
    plan: { failing: { downstream: failing, required: true, request: { path: / } } }
  - name: hangs
    match: { path: /hangs }
    plan: { slow: { downstream: slow, required: true, request: { path: / } } }
  - name: optional
    match: { path: /optional }
    plan:
      a: { downstream: up, request: { path: \"/{query.id}/{query.page|1}\" } }
      b: { downstream: up, request: { path: /, query: { q: \"{query.id}\", own: \"{query.own}\" } } }
      c: { downstream: up, depends_on: [a], request: { path: \"/{query.more}\" } }
  - name: locked
    match: { path: /locked }
    auth: { jwt: main, all_scopes: [admin] }
    plan: { up: { downstream: up, required: true, request: { path: / } } }
  - name: merged
    match: { path: /merged }
    aggregate: { merge: flat }
    plan: { up: { downstream: up, required: true, request: { path: / } } }
";
    Gateway::start(&downstreams, plan, more).await
}

/// Method, path in the document, target, headers and body of a request, and the status of its answer.
type Case<'c> = (
    &'c str,
    &'c str,
    String,
    Vec<(&'c str, &'c str)>,
    &'c str,
    u16,
);

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn fault_e15_answers_and_problems_match_their_description() {
    let gateway = gateway().await;
    let document = Document::of(&gateway).await;
    let pro = bearer("pro");
    let token = ("authorization", pro.as_str());
    let test = format!("{ORCHESTRATE}/test");
    let health = format!("{ORCHESTRATE}/health");
    let body = r#"{"input": {"symbol": "BTC"}}"#;
    let page = r#"{"kind": "a", "person": {"name": null, "note": 7}}"#;
    let stream = ("accept", "application/x-ndjson");
    let events = ("accept", "text/event-stream");
    let cases: Vec<Case<'_>> = vec![
        ("GET", "/livez", "/livez".into(), vec![], "", 200),
        ("GET", "/readyz", "/readyz".into(), vec![], "", 200),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON],
            body,
            200,
        ),
        (
            "POST",
            ORCHESTRATE,
            format!("{ORCHESTRATE}?pro=1"),
            vec![token, JSON],
            body,
            200,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON, stream],
            body,
            200,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON, events],
            body,
            200,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON],
            r#"{"requiredServices": ["failing", "slow"]}"#,
            502,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON, stream],
            r#"{"requiredServices": ["failing"]}"#,
            200,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON],
            "{}",
            422,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON],
            r#"{"timeout": 1}"#,
            422,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON],
            "{",
            400,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![JSON],
            body,
            401,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![("authorization", "Bearer"), JSON],
            body,
            400,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token],
            body,
            415,
        ),
        (
            "POST",
            ORCHESTRATE,
            ORCHESTRATE.into(),
            vec![token, JSON, ("content-encoding", "gzip")],
            body,
            415,
        ),
        ("POST", &test, test.clone(), vec![token, JSON], body, 200),
        (
            "POST",
            &test,
            test.clone(),
            vec![token, JSON],
            r#"{"optionalServices": ["slow"], "timeout": 1000}"#,
            200,
        ),
        (
            "POST",
            &test,
            format!("{test}?execute=true"),
            vec![token, JSON],
            body,
            200,
        ),
        (
            "POST",
            &test,
            format!("{test}?execute=true"),
            vec![token, JSON],
            r#"{"requiredServices": ["failing"]}"#,
            200,
        ),
        ("POST", &test, test.clone(), vec![JSON], body, 401),
        ("GET", &health, health.clone(), vec![token], "", 200),
        ("POST", &health, health.clone(), vec![token], "", 200),
        ("GET", &health, health.clone(), vec![], "", 401),
        (
            "POST",
            "/pages/{id}",
            "/pages/1?page=2".into(),
            vec![JSON, ("x-client", "a")],
            page,
            200,
        ),
        (
            "POST",
            "/pages/{id}",
            "/pages/1?page=2".into(),
            vec![JSON],
            page,
            422,
        ),
        (
            "POST",
            "/pages/{id}",
            "/pages/1?page=2".into(),
            vec![("x-client", "a")],
            "",
            422,
        ),
        (
            "POST",
            "/pages/{id}",
            "/pages/1?page=2".into(),
            vec![("x-client", "a")],
            page,
            415,
        ),
        (
            "POST",
            "/pages/{id}",
            "/pages/1?page=2".into(),
            vec![JSON, ("x-client", "a")],
            "[",
            400,
        ),
        ("GET", "/fails", "/fails".into(), vec![], "", 502),
        ("GET", "/fails", "/fails".into(), vec![events], "", 200),
        ("GET", "/hangs", "/hangs".into(), vec![], "", 504),
        ("GET", "/locked", "/locked".into(), vec![], "", 401),
        ("GET", "/locked", "/locked".into(), vec![token], "", 403),
        ("GET", "/merged", "/merged".into(), vec![], "", 200),
        ("GET", "/merged", "/merged".into(), vec![stream], "", 200),
    ];
    for (method, template, path, headers, body, status) in cases {
        let method: Method = method.parse().unwrap();
        let headers: Vec<_> = headers
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let answer = gateway.send(method.clone(), &path, &headers, body).await;
        assert_eq!(
            answer.status, status,
            "{method} {path} {body}: {}",
            answer.text
        );
        document.check(&method, template, &answer);
    }
}

#[tokio::test]
async fn fault_e15_what_all_operations_answer_is_described() {
    let gateway = gateway().await;
    let document = Document::of(&gateway).await;
    let large = "x".repeat((1 << 20) + 1);
    let (route, probe) = ("/merged", "/readyz");
    let long = |path: &str| format!("{path}?{}", "x".repeat(8 << 10));
    let cases: Vec<Case<'_>> = vec![
        ("GET", route, route.into(), vec![], "{", 200),
        ("GET", route, route.into(), vec![], &large, 413),
        (
            "GET",
            route,
            route.into(),
            vec![("content-encoding", "gzip")],
            "x",
            415,
        ),
        ("GET", route, route.into(), vec![("expect", "tea")], "", 417),
        ("GET", route, long(route), vec![], "", 414),
        (
            "GET",
            route,
            route.into(),
            vec![("x-fanout-depth", "9")],
            "",
            508,
        ),
        ("GET", probe, probe.into(), vec![], &large, 200),
        ("GET", probe, probe.into(), vec![("expect", "tea")], "", 417),
        ("GET", probe, long(probe), vec![], "", 414),
        (
            "GET",
            "/livez",
            "/livez".into(),
            vec![("host", "a b")],
            "",
            400,
        ),
    ];
    for (method, template, path, headers, body, status) in cases {
        let method: Method = method.parse().unwrap();
        let headers: Vec<_> = headers
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect();
        let answer = gateway.send(method.clone(), &path, &headers, body).await;
        assert_eq!(
            answer.status, status,
            "{path:.40} {headers:?}: {}",
            answer.text
        );
        document.check(&method, template, &answer);
    }
    for path in [route, probe] {
        let head = format!("GET https://h{path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let text = raw(gateway.addr, &head).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let answer = Answer {
            status: head[9..12].parse().unwrap(),
            headers: headers.collect(),
            text: body.to_owned(),
        };
        assert_eq!(answer.status, 421, "{text}");
        document.check(&Method::GET, path, &answer);
    }
}

/// Builds the request that the documentation page sends if nothing is changed in it.
fn first_request(path: &str, operation: &Value) -> (String, Vec<(String, String)>, String) {
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let (mut path, mut query, mut headers) = (path.to_owned(), Vec::new(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let value = [&parameter["example"], &parameter["schema"]["default"]]
            .into_iter()
            .find(|value| !value.is_null());
        match (parameter["in"].as_str().unwrap(), value) {
            ("path", value) => path = path.replace(&format!("{{{name}}}"), &text(value.unwrap())),
            ("query", Some(value)) => query.push(format!("{name}={}", text(value))),
            ("header", Some(value)) => headers.push((name.to_owned(), text(value))),
            (_, value) => assert!(
                value.is_some() || parameter["required"] == false,
                "{parameter}"
            ),
        }
    }
    let content = &operation["requestBody"]["content"]["application/json"];
    let body = if content.is_object() {
        content["example"].to_string()
    } else {
        String::new()
    };
    if content.is_object() {
        headers.push((JSON.0.to_owned(), JSON.1.to_owned()));
    }
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{}", query.join("&"))
    };
    (path + &query, headers, body)
}

#[tokio::test]
async fn fault_e20_the_example_of_each_operation_succeeds() {
    let gateway = gateway().await;
    let document = Document::of(&gateway).await;
    assert_eq!(document.0["servers"], json!([{"url": "/"}]));
    let mut tried = 0;
    let none = Map::new();
    for (path, methods) in document.0["paths"].as_object().unwrap_or(&none) {
        for (method, operation) in methods.as_object().unwrap() {
            let expected = match operation["operationId"].as_str().unwrap() {
                "fails" => 502,
                "hangs" => 504,
                "locked" => 403,
                _ => 200,
            };
            let (target, mut headers, body) = first_request(path, operation);
            if operation["security"]
                .as_array()
                .is_some_and(|required| !required.is_empty())
            {
                headers.push(("authorization".into(), bearer("pro")));
            }
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (&**name, value.clone()))
                .collect();
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let answer = gateway.send(method.clone(), &target, &headers, &body).await;
            assert_eq!(
                answer.status, expected,
                "{method} {target} {body}: {}",
                answer.text
            );
            document.check(&method, path, &answer);
            tried += 1;
        }
    }
    assert_eq!(tried, 12);
}

#[tokio::test]
async fn fault_e20_e21_the_example_has_a_value_for_each_optional_node() {
    let (up, _) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: \"/{body.input.id}\" } }
    b: { downstream: up, request: { path: \"/{body.input.more}\" } }
    c: { downstream: up, depends_on: [a], request: { path: \"/{body.input.late}\" } }
";
    let more = "routes:
  - name: read
    match: { path: /read }
    plan:
      a: { downstream: up, request: { path: /, query: { z: \"{query.z}\" } } }
      b: { downstream: up, request: { path: /, headers: { x-y: \"{header.x-y}\" } } }
  - name: write
    match: { method: POST, path: /write }
    plan:
      a: { downstream: up, request: { path: \"/{body.one.id}\" } }
      b: { downstream: up, request: { path: \"/{body.two}\" } }
";
    let gateway = Gateway::start(&[("up", up)], plan, more).await;
    let document = Document::of(&gateway).await;
    let built_in = "/api/v1/analysis/orchestrate";
    let explain = format!("{built_in}/test");
    for (method, path) in [
        (Method::GET, "/read"),
        (Method::POST, "/write"),
        (Method::POST, built_in),
        (Method::POST, &explain),
    ] {
        let operation = document.operation(&method, path);
        let (target, mut headers, body) = first_request(path, operation);
        headers.push(("authorization".into(), bearer("pro")));
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (&**name, value.clone()))
            .collect();
        let answer = gateway.send(method, &target, &headers, &body).await;
        assert_eq!(answer.status, 200, "{target} {body}: {}", answer.text);
    }
    let example = |path| {
        let operation = document.operation(&Method::POST, path);
        operation["requestBody"]["content"]["application/json"]["example"].clone()
    };
    assert_eq!(example("/write"), json!({"one": {"id": "1"}, "two": "1"}));
    let input = json!({"input": {"id": "1", "more": "1"}});
    assert_eq!(
        [example(built_in), example(&explain)],
        [input.clone(), input]
    );
    // An example of a value does not make it required.
    for one in document.operation(&Method::GET, "/read")["parameters"]
        .as_array()
        .unwrap()
    {
        assert_eq!(
            (&one["required"], &one["example"]),
            (&json!(false), &json!("1"))
        );
    }
}

#[tokio::test]
async fn fault_e21_a_value_that_must_be_text_has_no_members() {
    let (up, _) = stub(quick).await;
    let mut more = "routes:\n".to_owned();
    let required = "required: true, ";
    for (index, (a, b, more_of_both)) in [
        (
            "query: { v: \"{body.v}\" }",
            "path: \"/{body.v.z|q}\"",
            required,
        ),
        (
            "query: { v: \"{body.v|x}\" }",
            "path: \"/{body.v.0|q}\"",
            required,
        ),
        (
            "method: POST, body: { v: \"{body.v}\" }",
            "path: \"/{body.v.0|q}\"",
            required,
        ),
        (
            "method: POST, body: { v: \"{body.v}\" }",
            "path: \"/{body.v.0|q}/{body.v.z}\"",
            required,
        ),
        // A node that takes any value can be sent alone.
        (
            "method: POST, body: { v: \"{body.v}\" }",
            "path: \"/{body.v}\"",
            "",
        ),
        ("query: { v: \"{body.v}\" }", "path: \"/{body.v}\"", ""),
    ]
    .iter()
    .enumerate()
    {
        more += &format!(
            "  - {{ name: r{index}, match: {{ method: POST, path: /{index} }}, plan: {{ a: {{ downstream: up, {more_of_both}request: {{ path: /, {a} }} }}, b: {{ downstream: up, {more_of_both}request: {{ {b} }} }} }} }}\n"
        );
    }
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, &more).await;
    let document = Document::of(&gateway).await;
    let values = [
        json!({"v": "a"}),
        json!({"v": 1}),
        json!({"v": ".."}),
        json!({"v": null}),
        json!({"v": ["a"]}),
        json!({"v": {"z": "a"}}),
        json!({"v": {"z": "a", "0": "b"}}),
        json!({}),
    ];
    let mut examples = Vec::new();
    for index in 0..6 {
        let path = format!("/{index}");
        let content =
            &document.operation(&Method::POST, &path)["requestBody"]["content"]["application/json"];
        let (example, schema) = (&content["example"], &content["schema"]);
        assert_eq!(
            document.errors(schema, example),
            Vec::<String>::new(),
            "{schema}"
        );
        let mut accepted = 0;
        for value in values.iter().chain([example]) {
            let headers = [("content-type", "application/json".to_owned())];
            let answer = gateway
                .send(Method::POST, &path, &headers, &value.to_string())
                .await;
            let is_described = jsonschema::draft202012::new(schema)
                .unwrap()
                .is_valid(value);
            assert_eq!(
                answer.status == 200,
                is_described,
                "{path} {value} {schema} {}",
                answer.text
            );
            accepted += usize::from(is_described);
        }
        assert!(accepted > 0, "{path}");
        examples.push(example["v"].clone());
    }
    assert_eq!(
        examples,
        [
            json!("1"),
            json!("x"),
            json!(["q"]),
            json!({"0": "q", "z": "1"}),
            json!("1"),
            json!("1")
        ]
    );
}

#[tokio::test]
async fn fault_e21_a_number_in_a_placeholder_is_an_index_or_a_name() {
    let (up, _) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let route = |name: &str, path: &str, rest: &str| {
        format!(
            "  - name: {name}
    match: {{ method: POST, path: /{name} }}
    plan: {{ a: {{ downstream: up, required: true, request: {{ path: \"{path}\" }} }}{rest} }}\n"
        )
    };
    let late = ", b: { downstream: up, depends_on: [a], request: { path: \"/{body.items.0}\" } }";
    let more = String::from("routes:\n")
        + &route("items", "/{body.items.0.id}/{body.items.2}", "")
        + &route("root", "/{body.0.id}", "")
        + &route("mixed", "/{body.0}/{body.name}", "")
        + &route("far", "/{body.5000}", "")
        + &route("late", "/", late);
    let gateway = Gateway::start(&[("up", up)], plan, &more).await;
    let document = Document::of(&gateway).await;
    for (name, example) in [
        ("items", json!({"items": {"0": {"id": "1"}, "2": "1"}})),
        ("root", json!([{"id": "1"}])),
        ("mixed", json!({"0": "1", "name": "1"})),
        ("far", json!({"5000": "1"})),
        ("late", Value::Null),
    ] {
        let operation = document.operation(&Method::POST, &format!("/{name}"));
        let content = &operation["requestBody"]["content"]["application/json"];
        assert_eq!(content["example"], example, "{name}");
    }
    let many: Vec<_> = (0..=5000).collect();
    for (name, body, accepted) in [
        ("items", json!({"items": [{"id": 1}, null, "x"]}), true),
        ("items", json!({"items": {"0": {"id": 1}, "2": "x"}}), true),
        ("items", json!({"items": [{"id": 1}, null]}), false),
        ("items", json!({"items": [{}, null, "x"]}), false),
        ("items", json!({"items": [{"id": ""}, null, "x"]}), false),
        ("items", json!({"items": [{"id": 1}, null, []]}), false),
        ("items", json!({"items": {"0": {"id": 1}}}), false),
        ("items", json!({"items": "x"}), false),
        ("items", json!({}), false),
        ("root", json!([{"id": "x"}]), true),
        ("root", json!({"0": {"id": "x"}}), true),
        ("root", json!([]), false),
        ("root", json!([[]]), false),
        ("mixed", json!({"0": "x", "name": "x"}), true),
        ("mixed", json!(["x"]), false),
        ("far", json!(many), true),
        ("far", json!(many[1..]), false),
        ("late", json!({"items": "x"}), true),
    ] {
        let path = format!("/{name}");
        let operation = document.operation(&Method::POST, &path);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let headers = [(JSON.0, JSON.1.to_owned())];
        let answer = gateway
            .send(Method::POST, &path, &headers, &body.to_string())
            .await;
        assert_eq!(
            answer.status == 200,
            accepted,
            "{name} {body}: {}",
            answer.text
        );
        assert_eq!(
            document.errors(schema, &body).is_empty(),
            accepted,
            "{name} {body}"
        );
    }
}

#[tokio::test]
async fn fault_e21_a_default_replaces_only_a_missing_value() {
    let (up, _) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let route = |name: &str, nodes: &str| {
        format!(
            "  - {{ name: {name}, match: {{ method: POST, path: /{name} }}, plan: {{ {nodes} }} }}\n"
        )
    };
    let request = "request: { path: '/{body.n|1}' }";
    let more = String::from("routes:\n")
        + &route(
            "one",
            &format!("a: {{ downstream: up, required: true, {request} }}"),
        )
        + &route("all", &format!("a: {{ downstream: up, {request} }}"))
        + &route(
            "some",
            &format!(
                "a: {{ downstream: up, {request} }}, b: {{ downstream: up, request: {{ path: / }} }}"
            ),
        );
    let gateway = Gateway::start(&[("up", up)], plan, &more).await;
    let document = Document::of(&gateway).await;
    for (name, value, accepted) in [
        ("one", json!(7), true),
        ("one", json!(null), true),
        ("one", json!({}), false),
        ("one", json!(".."), false),
        ("all", json!(null), true),
        ("all", json!([]), false),
        ("some", json!([]), true),
    ] {
        let path = format!("/{name}");
        let operation = document.operation(&Method::POST, &path);
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let headers = [(JSON.0, JSON.1.to_owned())];
        let body = json!({"n": value});
        let answer = gateway
            .send(Method::POST, &path, &headers, &body.to_string())
            .await;
        let expected = if accepted { 200 } else { 400 };
        assert_eq!(answer.status, expected, "{name} {body}: {}", answer.text);
        assert_eq!(
            document.errors(schema, &body).is_empty(),
            accepted,
            "{name} {body}"
        );
    }
}

#[tokio::test]
async fn fault_e21_the_operation_names_each_input_that_a_route_requires() {
    let gateway = gateway().await;
    let document = Document::of(&gateway).await;
    let operation = document.operation(&Method::POST, "/pages/{id}");
    let parameters: Vec<_> = operation["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["in"], one["name"], one["required"]]))
        .collect();
    assert_eq!(
        parameters,
        [
            json!(["path", "id", true]),
            json!(["query", "page", true]),
            json!(["query", "size", false]),
            json!(["header", "x-client", true]),
        ]
    );
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    // For each body, the document says whether the service accepts it.
    for (body, accepted) in [
        (
            json!({"kind": "a", "person": {"name": 1, "note": "x"}}),
            true,
        ),
        (
            json!({"kind": "a", "person": {"name": [], "note": false}, "extra": {}, "more": null}),
            true,
        ),
        (
            json!({"kind": 7, "person": {"name": null, "note": "x"}}),
            true,
        ),
        (
            json!({"kind": "", "person": {"name": "", "note": ""}}),
            false,
        ),
        (
            json!({"kind": "..", "person": {"name": "", "note": ""}}),
            false,
        ),
        (
            json!({"kind": null, "person": {"name": "", "note": ""}}),
            false,
        ),
        (
            json!({"kind": "a", "person": {"name": "", "note": []}}),
            false,
        ),
        (json!({"kind": "a", "person": {"name": ""}}), false),
        (json!({"kind": "a", "person": "ada"}), false),
        (json!({"kind": "a"}), false),
        (json!([]), false),
    ] {
        let headers = [JSON, ("x-client", "a")].map(|(name, value)| (name, value.to_owned()));
        let answer = gateway
            .send(Method::POST, "/pages/1?page=2", &headers, &body.to_string())
            .await;
        assert_eq!(answer.status == 200, accepted, "{body}: {}", answer.text);
        assert_eq!(
            document.errors(schema, &body).is_empty(),
            accepted,
            "{body}"
        );
    }
    let required: Vec<_> = document.operation(&Method::GET, "/optional")["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["required"] == true))
        .collect();
    // Without the others, at least one node can be sent.
    let expected = [
        ("id", true),
        ("page", false),
        ("own", false),
        ("more", false),
    ];
    assert_eq!(required, expected);
    for (query, status) in [("", 422), ("?own=1&more=1", 422), ("?id=1", 200)] {
        let answer = gateway
            .send(Method::GET, &format!("/optional{query}"), &[], "")
            .await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
    }
    let input = &document.0["components"]["schemas"]["OrchestrateRequest"];
    for (body, accepted) in [
        (json!({"input": {"symbol": "BTC"}}), true),
        (json!({"optionalServices": ["kept"]}), true),
        (json!({"input": {}}), false),
        (json!({"input": {"symbol": null}}), false),
        (json!({}), false),
        (json!({"timeout": 5}), false),
    ] {
        let answer = gateway.post("", body.clone()).await;
        assert_eq!(answer.status == 200, accepted, "{body}: {}", answer.text);
        assert_eq!(document.errors(input, &body).is_empty(), accepted, "{body}");
    }
}
