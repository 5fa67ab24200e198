//! End-to-end tests of what a caller gets if services or its own input fail: the status, the fallback
//! of a cut branch, and the problem with pointers.
#![allow(missing_docs)]

mod common;

use axum::{Router, extract::Request};
use common::*;
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Returns a file with the downstreams `up`, at the address, and `gone`, which refuses connections,
/// and these routes.
fn file(up: std::net::SocketAddr, routes: &str) -> String {
    // A service that no node uses would be a warning in the log.
    let gone = match routes.contains("gone") {
        true => "  gone: { endpoints: [{ url: \"http://127.0.0.1:9\" }], policy: p }\n",
        false => "",
    };
    format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: {{ delay: 0s }} }}
policies: {{ p: {{ attempt_timeout: 10s, retry: off, circuit_breaker: off }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p }}
{gone}routes:
{routes}"
    )
}

async fn get(gateway: &Gateway, path: &str) -> Answer {
    gateway.send(Method::GET, path, &[], "").await
}

/// Starts a service that echoes its path as JSON. `/slow` never answers, and `/busy` answers with 429.
async fn echo() -> std::net::SocketAddr {
    let answer = async |request: Request| {
        let path = request.uri().path().to_owned();
        match &*path {
            "/slow" => std::future::pending().await,
            "/busy" => (StatusCode::TOO_MANY_REQUESTS, axum::Json(json!(null))),
            _ => (StatusCode::OK, axum::Json(json!({ "path": path }))),
        }
    };
    spawn(Router::new().fallback(answer)).await
}

#[tokio::test]
async fn fault_g23_a_route_without_required_nodes_fails_by_its_causes() {
    let routes = "  - { name: gone, match: { path: /gone }, plan: { p: { downstream: gone, request: { path: / } } } }
  - { name: late, match: { path: /late }, deadline: { default: 150ms }, plan: { p: { downstream: up, request: { path: /slow } } } }
  - { name: cut, match: { path: /cut }, deadline: { default: 150ms }, plan: { p: { downstream: up, request: { path: /slow } } }, aggregate: { return_when: deadline } }
  - { name: some, match: { path: /some }, plan: { p: { downstream: gone, request: { path: / } }, q: { downstream: up, request: { path: /q } } } }
  - { name: none, match: { path: /none }, plan: { p: { downstream: gone, when: \"query.x == '1'\", request: { path: / } }, q: { downstream: up, request: { path: /q } } } }
";
    let gateway = Gateway::from_text(&file(echo().await, routes)).await;
    for (path, status, code) in [
        ("/gone", 502, json!("upstream_failed")),
        ("/late", 504, json!("upstream_timeout")),
        ("/cut", 504, json!("upstream_timeout")),
        ("/some", 200, json!(null)),
        ("/none", 200, json!(null)),
    ] {
        let answer = get(&gateway, path).await;
        let code_of = answer.json()["code"].clone();
        assert_eq!((answer.status.as_u16(), code_of), (status, code), "{path}");
        assert!(answer.json()["data"]["services"].is_object());
        // No service is required here.
        assert!(!answer.json()["title"].to_string().contains("equired"));
    }
    let streamed = gateway
        .send(
            Method::GET,
            "/gone",
            &[("accept", "application/x-ndjson".into())],
            "",
        )
        .await;
    assert_eq!(streamed.status, StatusCode::OK);
    assert!(
        streamed.text.contains("\"success\":false"),
        "{}",
        streamed.text
    );
}

#[tokio::test]
async fn fault_g24_a_cut_branch_answers_with_its_static_fallback() {
    let routes = "  - name: grace
    match: { path: /grace }
    plan:
      must: { downstream: up, required: true, request: { path: /ok } }
      late: { downstream: up, request: { path: /slow }, fallback: [{ service: gone }, { static: { items: [] } }] }
      after: { downstream: up, depends_on: [late], request: { path: /after }, fallback: [{ static: 1 }] }
      timeouts: { downstream: up, request: { path: /slow }, fallback: [{ on: [local], static: 2 }] }
    aggregate: { return_when: required, grace: 50ms }
  - name: dependency
    match: { path: /dependency }
    plan:
      fails: { downstream: up, request: { path: /busy } }
      needs: { downstream: up, depends_on: [fails], required: true, request: { path: /x }, fallback: [{ static: { items: [] } }] }
    aggregate: { strategy: best_effort }
";
    let gateway = Gateway::from_text(&file(echo().await, routes)).await;
    let answer = get(&gateway, "/grace").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.service("late", "/status"), "fallback");
    assert_eq!(answer.service("late", "/fallbackKind"), "static");
    assert_eq!(answer.service("late", "/data"), json!({"items": []}));
    assert_eq!(answer.service("late", "/error/kind"), "timeout");
    assert_eq!(answer.service("after", "/data"), 1);
    // This fallback is for calls that were not sent.
    assert_eq!(answer.service("timeouts", "/status"), "cancelled");
    assert_eq!(answer.at("/meta/timedOut"), false);
    let answer = get(&gateway, "/dependency").await;
    assert_eq!(answer.service("needs", "/status"), "fallback");
    assert_eq!(answer.service("needs", "/skipReason"), "dependency");
    assert_eq!(answer.service("needs", "/attempts"), 0);
}

#[tokio::test]
async fn fault_g24_a_request_may_turn_the_fallback_of_a_cut_branch_off() {
    let (up, _) = stub(quick).await;
    let plan = "    must: { downstream: up, required: true, request: { path: /ok } }
    fails: { downstream: up, request: { path: \"/{body.input.x}\" } }
    needs: { downstream: up, depends_on: [fails], request: { path: /x }, fallback: [{ static: 7 }] }
";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    let answer = gateway.ask(json!({})).await;
    assert_eq!(answer.service("needs", "/data"), 7);
    let answer = gateway.ask(json!({"enableFallbacks": false})).await;
    assert_eq!(answer.service("needs", "/status"), "skipped");
}

#[tokio::test]
async fn fault_g25_nested_members_and_items_are_filtered() {
    let people = async |request: Request| {
        axum::Json(match request.uri().path() {
            "/one" => json!({"person": {"name": "Ida", "pin": "4711"}}),
            _ => json!([{"name": "Ida", "pin": "4711"}, [{"name": "Bo", "pin": "1"}], "4711"]),
        })
    };
    let up = spawn(Router::new().fallback(people)).await;
    let mut routes = String::new();
    for (name, path, response) in [
        ("one", "/one", "deny: [person.pin]"),
        ("all", "/all", "allow: [name]"),
        (
            "both",
            "/one",
            "allow: [person], deny: [person.pin], rename: { person.name: n }",
        ),
    ] {
        routes += &format!(
            "  - {{ name: {name}, match: {{ path: /{name} }}, plan: {{ p: {{ downstream: up, request: {{ path: {path} }}, response: {{ {response} }} }} }} }}\n"
        );
    }
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    for (path, expected) in [
        ("/one", json!({"person": {"name": "Ida"}})),
        ("/all", json!([{"name": "Ida"}, [{"name": "Bo"}]])),
        ("/both", json!({"person": {"n": "Ida"}})),
    ] {
        let answer = get(&gateway, path).await;
        assert_eq!(answer.service("p", "/data"), expected, "{path}");
        assert!(!answer.text.contains("4711"), "{}", answer.text);
    }
}

#[tokio::test]
async fn fault_i18_a_callers_fault_on_optional_nodes_is_the_callers() {
    let node = |path: &str| format!("{{ downstream: up, request: {{ path: \"{path}\" }} }}");
    let routes = format!(
        "  - {{ name: best, match: {{ path: \"/best/{{id}}\" }}, plan: {{ a: {one} }}, aggregate: {{ strategy: best_effort }} }}
  - {{ name: some, match: {{ path: \"/some/{{id}}\" }}, plan: {{ a: {one}, b: {two} }} }}
  - {{ name: needs, match: {{ path: \"/needs/{{id}}\" }}, plan: {{ a: {one}, b: {{ downstream: up, depends_on: [a], request: {{ path: /b }} }} }} }}
  - {{ name: first, match: {{ path: \"/first/{{id}}\" }}, plan: {{ a: {three}, b: {one} }}, aggregate: {{ strategy: first }} }}
",
        one = node("/x/{route.id}"),
        two = node("/two"),
        three = node("/three/{query.q}"),
    );
    let gateway = Gateway::from_text(&file(echo().await, &routes)).await;
    for (path, status, code, pointers) in [
        ("/best/%2e%2e", 400, json!("bad_param"), vec!["/route/id"]),
        ("/needs/%2e%2e", 400, json!("bad_param"), vec!["/route/id"]),
        ("/some/%2e%2e", 200, json!(null), vec![]),
        (
            "/first/%2e%2e",
            422,
            json!("missing_param"),
            vec!["/query/q"],
        ),
        (
            "/first/%2e%2e?q=..",
            400,
            json!("bad_param"),
            vec!["/query/q", "/route/id"],
        ),
        ("/first/%2e%2e?q=1", 200, json!(null), vec![]),
        ("/best/1", 200, json!(null), vec![]),
    ] {
        let answer = get(&gateway, path).await;
        let json = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &json["code"]),
            (status, &code),
            "{path}"
        );
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        let found: Vec<_> = errors.iter().map(|error| &error["pointer"]).collect();
        assert_eq!(found, pointers, "{path}");
    }
    let log = gateway.server.unwrap().stop().await;
    assert!(!log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn fault_i18_too_few_sinks_for_the_strategy_are_the_callers_fault() {
    let (up, seen) = stub(quick).await;
    let node = |path: &str| format!("{{ downstream: up, request: {{ path: \"{path}\" }} }}");
    let routes = format!(
        "  - {{ name: two, match: {{ path: /two }}, plan: {{ a: {q}, b: {plain} }}, aggregate: {{ strategy: {{ quorum: 2 }} }} }}
  - {{ name: sink, match: {{ path: /sink }}, plan: {{ i: {plain}, s: {{ downstream: up, depends_on: [i], request: {{ path: \"/{{query.q}}\" }} }} }}, aggregate: {{ strategy: first }} }}
  - {{ name: needs, match: {{ path: /needs }}, plan: {{ a: {q}, s: {{ downstream: up, depends_on: [a], request: {{ path: /s }} }}, t: {plain} }}, aggregate: {{ strategy: {{ quorum: 2 }} }} }}
  - {{ name: three, match: {{ path: /three }}, plan: {{ a: {q}, b: {plain}, c: {plain} }}, aggregate: {{ strategy: {{ quorum: 2 }} }} }}
",
        q = node("/{query.q}"),
        plain = node("/plain"),
    );
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    for path in ["/two", "/sink", "/needs"] {
        for (query, status, code) in [("?q=..", 400, "bad_param"), ("", 422, "missing_param")] {
            let answer = get(&gateway, &format!("{path}{query}")).await;
            assert_eq!(answer.status.as_u16(), status, "{path}{query}");
            assert_eq!(answer.at("/code"), code);
            assert_eq!(answer.at("/errors/0/pointer"), "/query/q");
        }
    }
    assert_eq!(seen.calls(), 0);
    for path in ["/two?q=1", "/sink?q=1", "/needs?q=1", "/three?q=.."] {
        assert_eq!(get(&gateway, path).await.status, StatusCode::OK, "{path}");
    }
    let log = gateway.server.unwrap().stop().await;
    assert!(!log.contains("WARN"), "{log}");
}

#[tokio::test]
async fn fault_i1_fault_i4_a_value_that_is_no_text_is_not_missing() {
    let (up, seen) = stub(quick).await;
    // The node, the query of the request, and the pointers of the problem.
    let cases = [
        (
            "request: { path: '/{header.own}' }",
            "",
            &["/header/own"][..],
        ),
        (
            "request: { path: '/{header.own|none}' }",
            "",
            &["/header/own"],
        ),
        (
            "request: { path: /, headers: { x: '{header.own}' } }",
            "",
            &["/header/own"],
        ),
        (
            "request: { path: /, method: POST, body: { v: '{header.own|1}' } }",
            "",
            &["/header/own"],
        ),
        (
            "request: { path: /, query: { q: '{query.q}' } }",
            "?q=%ff",
            &["/query/q"],
        ),
        (
            "request: { path: /, query: { q: '{query.q|1}' } }",
            "?x&q=a%c3+b&q=1",
            &["/query/q"],
        ),
        (
            "when: \"header.own == '1'\", request: { path: / }",
            "",
            &["/header/own"],
        ),
        (
            "when: \"query.q == '1'\", request: { path: / }",
            "?q=%ff",
            &["/query/q"],
        ),
        (
            "when: \"query.p == '1' && int(query.q) > 1\", request: { path: / }",
            "?q=abc&p=1",
            &["/query/q"],
        ),
    ];
    let mut routes = String::new();
    for (index, (node, _, _)) in cases.iter().enumerate() {
        routes += &format!(
            "  - {{ name: r{index}, match: {{ path: /{index} }}, plan: {{ a: {{ downstream: up, required: true, {node} }} }} }}\n"
        );
    }
    routes += "  - { name: alone, match: { path: /alone }, plan: { a: { downstream: up, request: { path: '/{query.q|1}' } }, b: { downstream: up, request: { path: /b } } } }\n";
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    let own = [("own", "café".to_owned())];
    for (index, (node, query, pointers)) in cases.iter().enumerate() {
        let path = format!("/{index}{query}");
        let answer = gateway.send(Method::GET, &path, &own, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (400, json!("bad_param")),
            "{node}"
        );
        let errors = answer.json()["errors"].as_array().cloned();
        let errors = errors.unwrap_or_default();
        let found: Vec<_> = errors.iter().map(|error| &error["pointer"]).collect();
        assert_eq!(found, *pointers, "{node}");
    }
    assert_eq!(seen.calls(), 0);
    let answer = get(&gateway, "/alone?q=%ff").await;
    assert_eq!(answer.service("a", "/error/kind"), "template");
    // U+FFFD itself is text, and what no template reads may be anything.
    for (path, called) in [
        ("/4?q=%ef%bf%bd", "/?q=%EF%BF%BD"),
        ("/4?q=a+b&z=%ff", "/?q=a%20b"),
    ] {
        assert_eq!(get(&gateway, path).await.status, StatusCode::OK, "{path}");
        assert_eq!(seen.requests().last().unwrap().0, called);
    }
}

#[tokio::test]
async fn fault_i1_fault_i18_json_that_is_no_text_is_a_bad_param() {
    let (up, seen) = stub(quick).await;
    let node =
        |request: &str| format!("a: {{ downstream: up, request: {{ method: POST, {request} }} }}");
    let mut routes = String::new();
    let requests = [
        "path: '/{body.v}'",
        "path: '/{body.v|1}'",
        "path: /, query: { q: '{body.v}' }",
        "path: /, headers: { x: '{body.v}' }",
        "path: /, body: { v: 'a{body.v}' }",
    ];
    for (index, request) in requests.iter().enumerate() {
        let plan = node(request);
        routes += &format!(
            "  - {{ name: r{index}, match: {{ method: POST, path: /{index} }}, plan: {{ {plan} }} }}\n"
        );
    }
    let other = "b: { downstream: up, request: { path: /b } }";
    routes += &format!(
        "  - {{ name: alone, match: {{ method: POST, path: /alone }}, plan: {{ {}, {other} }} }}\n",
        node(requests[0])
    );
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    let send = async |path: &str, value: &str| {
        let headers = [("content-type", "application/json".to_owned())];
        let body = format!("{{\"v\": {value}}}");
        gateway.send(Method::POST, path, &headers, &body).await
    };
    for (index, request) in requests.iter().enumerate() {
        for value in ["{}", "[1]", r#""a\ud800""#] {
            let answer = send(&format!("/{index}"), value).await;
            assert_eq!(answer.status.as_u16(), 400, "{request} {value}");
            assert_eq!(answer.at("/code"), "bad_param");
            assert_eq!(answer.at("/errors/0/pointer"), "/v");
        }
    }
    assert_eq!(send("/0", "null").await.at("/code"), "missing_param");
    assert_eq!(seen.calls(), 0);
    assert_eq!(send("/1", "null").await.status, StatusCode::OK);
    // With a node that can be sent, the other fails alone.
    let answer = send("/alone", "{}").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.service("a", "/error/kind"), "template");
}

#[tokio::test]
async fn fault_j29_literal_text_of_paths_is_sent_percent_encoded() {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: {{ delay: 0s }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}/bäse%20a dir\" }}] }} }}
routes:
  - {{ name: r, match: {{ path: \"/r/{{id}}\" }}, plan: {{ a: {{ downstream: up, request: {{ path: '/café/{{route.id}} \"<{{{{x}}}}|/%C3%A9' }} }} }} }}
"
    );
    let gateway = Gateway::from_text(&text).await;
    assert_eq!(get(&gateway, "/r/a%20%2Fb").await.status, StatusCode::OK);
    assert_eq!(
        seen.requests()[0].0,
        "/b%C3%A4se%20a%20dir/caf%C3%A9/a%20%2Fb%20%22%3C%7Bx%7D%7C/%C3%A9"
    );
}

#[tokio::test]
async fn fault_j30_a_method_reaches_a_less_specific_path() {
    let (up, seen) = stub(quick).await;
    let mut routes = String::new();
    for (index, (method, path, sent)) in [
        ("GET", "/users/me", "/me"),
        ("POST", "/users/{id}", "/user/{route.id}"),
        ("POST", "/{kind}/{id}", "/any/{route.kind}/{route.id}"),
        ("PUT", "/{kind}/{id}", "/any/{route.kind}/{route.id}"),
        ("HEAD", "/users/{id}", "/head/{route.id}"),
        ("GET", "/{kind}/mé", "/kind/{route.kind}"),
        ("DELETE", "/{a}/{b}", "/gone/{route.b}/{route.a}"),
    ]
    .into_iter()
    .enumerate()
    {
        routes += &format!(
            "  - {{ name: r{index}, match: {{ method: {method}, path: '{path}' }}, plan: {{ a: {{ downstream: up, request: {{ path: '{sent}' }} }} }} }}\n"
        );
    }
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    for (method, path, sent) in [
        (Method::GET, "/users/me", "/me"),
        (Method::HEAD, "/users/me", "/me"),
        (Method::POST, "/users/me", "/user/me"),
        (Method::PUT, "/users/me", "/any/users/me"),
        (Method::DELETE, "/users/me", "/gone/me/users"),
        (Method::POST, "/users/7", "/user/7"),
        (Method::PUT, "/users/7", "/any/users/7"),
        (Method::HEAD, "/users/7", "/head/7"),
        (Method::POST, "/x/m%c3%a9", "/any/x/m%C3%A9"),
        (Method::GET, "/x/m%C3%A9", "/kind/x"),
    ] {
        let answer = gateway.send(method.clone(), path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
        assert_eq!(seen.requests().last().unwrap().0, sent, "{method} {path}");
    }
    for method in [Method::PATCH, Method::TRACE] {
        let answer = gateway.send(method, "/users/me", &[], "").await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(allowed(&answer), ["DELETE", "GET", "HEAD", "POST", "PUT"]);
    }
}

/// Returns the methods of the header `allow`, in alphabetical order.
fn allowed(answer: &Answer) -> Vec<&str> {
    let mut methods: Vec<_> = answer.header("allow").split(',').collect();
    methods.sort_unstable();
    methods
}

#[tokio::test]
async fn fault_j30_routes_of_other_methods_make_no_difference() {
    let (up, seen) = stub(quick).await;
    let guarded = "  - { name: guarded, match: { method: POST, path: '/{kind}/admin' }, auth: { jwt: main }, plan: { a: { downstream: up, request: { path: /guarded } } } }
  - { name: generic, match: { method: POST, path: '/{a}/{b}' }, plan: { a: { downstream: up, request: { path: /generic } } } }
  - { name: head, match: { method: HEAD, path: '/b/{y}' }, plan: { a: { downstream: up, request: { path: /head } } } }
  - { name: c, match: { path: '/{x}/c' }, plan: { a: { downstream: up, request: { path: /c } } } }
  - { name: any, match: { path: '/{x}/{y}' }, plan: { a: { downstream: up, request: { path: /any } } } }
";
    let unrelated = "  - { name: users, match: { path: '/users/{id}' }, plan: { a: { downstream: up, request: { path: /user } } } }
";
    let auth = "auth: { jwt: { main: { keys: [{ secret: 0123456789abcdef0123456789abcdef }], issuers: [me], audiences: [you], algorithms: [HS256] } } }
";
    for routes in [guarded.to_owned(), format!("{unrelated}{guarded}")] {
        let gateway = Gateway::from_text(&(file(up, &routes) + auth)).await;
        let answer = gateway.send(Method::POST, "/users/admin", &[], "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{routes}");
        for (method, path, sent) in [
            (Method::POST, "/users/other", "/generic"),
            (Method::GET, "/b/c", "/c"),
            (Method::HEAD, "/b/c", "/head"),
            (Method::HEAD, "/a/c", "/c"),
        ] {
            let answer = gateway.send(method.clone(), path, &[], "").await;
            assert_eq!(answer.status, StatusCode::OK, "{method} {path}");
            assert_eq!(seen.requests().last().unwrap().0, sent, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn fault_d19_responds_to_trace_with_the_methods_of_the_resource() {
    let (up, _) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let route = "  - { name: r, match: { method: PUT, path: '/r/{id}' }, plan: { a: { downstream: up, request: { path: / } } } }";
    let gateway = Gateway::start(&[("up", up)], plan, &format!("routes:\n{route}\n")).await;
    for (path, expected) in [
        ("/r/1", &["PUT"][..]),
        ("/livez", &["GET", "HEAD"]),
        ("/api/v1/analysis/orchestrate", &["POST"]),
    ] {
        let answer = gateway.send(Method::TRACE, path, &[], "").await;
        assert_eq!(answer.at("/code"), "method_not_allowed", "{path}");
        assert_eq!(allowed(&answer), expected, "{path}");
    }
    let answer = gateway.send(Method::TRACE, "/r", &[], "").await;
    assert_eq!(answer.at("/code"), "not_found");
}

#[tokio::test]
async fn fault_e16_execute_is_a_boolean() {
    let (up, seen) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    for value in ["1", "TRUE", "305", "", "yes", "true&execute=true"] {
        let answer = gateway
            .post(&format!("/test?execute={value}"), json!({}))
            .await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{value}");
        assert_eq!(answer.at("/errors/0/pointer"), "/query/execute");
    }
    let answer = gateway.post("/test?execute=false", json!({})).await;
    assert_eq!(answer.json()["result"], Value::Null);
    assert_eq!(seen.calls(), 0);
    let answer = gateway.post("/test?execute=true", json!({})).await;
    assert_eq!(answer.at("/result/success"), true);
    assert_eq!(seen.calls(), 1);
}

#[tokio::test]
async fn fault_e17_empty_lists_of_services_select_no_service() {
    let (up, seen) = stub(quick).await;
    let plan = "    a: { downstream: up, request: { path: / } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    for body in [
        json!({"requiredServices": []}),
        json!({"optionalServices": []}),
        json!({"requiredServices": [], "optionalServices": []}),
    ] {
        let answer = gateway.ask(body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (422, json!("no_services"))
        );
    }
    assert_eq!(seen.calls(), 0);
    let one = json!({"requiredServices": [], "optionalServices": ["a"]});
    assert_eq!(gateway.ask(one).await.status, StatusCode::OK);
}

#[tokio::test]
async fn fault_g26_an_answer_at_the_nesting_limit_fails_alone() {
    let nested = async |request: Request| {
        let depth: usize = request.uri().path()[1..].parse().unwrap();
        let body = "[".repeat(depth) + &"]".repeat(depth);
        ([("content-type", "application/json")], body)
    };
    let up = spawn(Router::new().fallback(nested)).await;
    let mut routes = String::new();
    for merge in ["group", "flat", "deep", "concat"] {
        for depth in [63, 64, 65] {
            routes += &format!(
                "  - {{ name: {merge}{depth}, match: {{ path: /{merge}/{depth} }}, plan: {{ a: {{ downstream: up, request: {{ path: /1 }} }}, b: {{ downstream: up, request: {{ path: /{depth} }} }} }}, aggregate: {{ merge: {merge} }} }}\n"
            );
        }
    }
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    for (merge, limit) in [("group", 64), ("flat", 63), ("deep", 63), ("concat", 64)] {
        for depth in [63, 64, 65] {
            let answer = get(&gateway, &format!("/{merge}/{depth}")).await;
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "{merge} {depth}: {}",
                answer.text
            );
            let kind = answer.json()["data"]["services"]["b"]["error"]["kind"].clone();
            let expected = json!((depth > limit).then_some("bad_json"));
            assert_eq!(kind, expected, "{merge} {depth}");
        }
    }
}

#[tokio::test]
async fn fault_g27_an_empty_json_answer_is_bad_json() {
    let empty = async |request: Request| {
        let path = request.uri().path();
        let status: u16 = path.get(1..4).unwrap().parse().unwrap();
        let mut response = http::Response::builder().status(status);
        if path.ends_with("json") {
            response = response.header("content-type", "application/json");
        }
        response.body(axum::body::Body::empty()).unwrap()
    };
    let up = spawn(Router::new().fallback(empty)).await;
    let mut routes = String::new();
    let nodes = [
        ("200json", "GET", Some("bad_json")),
        ("201json", "POST", Some("bad_json")),
        ("204json", "GET", None),
        ("205json", "GET", None),
        ("202", "POST", None),
        ("404json", "GET", None),
        ("200json", "HEAD", None),
    ];
    for (path, method, _) in nodes {
        // No content has no target.
        let target = if path == "202" { ", target: data" } else { "" };
        routes += &format!(
            "  - {{ name: {path}{method}, match: {{ path: /{path}/{method} }}, plan: {{ a: {{ downstream: up, request: {{ path: /{path}, method: {method} }}, response: {{ accept: [404]{target} }} }} }}, aggregate: {{ strategy: best_effort }} }}\n"
        );
    }
    let gateway = Gateway::from_text(&file(up, &routes)).await;
    for (path, method, kind) in nodes {
        let answer = get(&gateway, &format!("/{path}/{method}")).await;
        let found = answer.json()["data"]["services"]["a"]["error"]["kind"].clone();
        assert_eq!(found, json!(kind), "{path} {method}");
        assert_eq!(
            answer.status.is_success(),
            kind.is_none(),
            "{path} {method}"
        );
    }
}
