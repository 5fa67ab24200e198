//! Every file that the configuration check accepts starts, and serves each of its routes.

use std::convert::Infallible;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use tower::{Service, ServiceExt};

use super::*;

/// Characters that a strict client sends unencoded in a segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

fn segment() -> impl Strategy<Value = String> {
    let usual = [
        "a", "b", "{x}", "{y}", "{id}", "", "é", "a b", "~u", "%41", ":z", "..", ".", "docs",
        "livez", "a+b", "a;b=c", "@me", "a*", "*", "it's", "{x", "x}", "{{x}}", "{x}.json", "日本",
        "[0]", "a|b", "^", "`", "\\", "{*rest}", "100%", "?q", "#f", "a:b",
    ];
    prop_oneof![
        4 => prop::sample::select(usual.to_vec()).prop_map(str::to_owned),
        1 => "[^\\x00-\\x1f\"$]{1,4}",
    ]
}

fn route() -> impl Strategy<Value = (Method, String)> {
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let path = prop::collection::vec(segment(), 1..4);
    let path = path.prop_map(|segments| format!("/{}", segments.join("/")));
    (prop::sample::select(methods.to_vec()), path)
}

fn config(routes: &[(Method, String)]) -> String {
    let mut text = "version: 1
server: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }
policies: { once: { retry: off, circuit_breaker: off } }
downstreams: { down: { endpoints: [{ url: \"http://127.0.0.1:9\" }], policy: once } }
orchestrate: { plan: { a: { downstream: down, request: { path: / } } } }
routes:
"
    .to_owned();
    for (index, (method, path)) in routes.iter().enumerate() {
        let path = serde_json::to_string(path).unwrap();
        text += &format!(
            "  - {{ name: r{index}, match: {{ method: {method}, path: {path} }}, plan: {{ n{index}: {{ \
             downstream: down, request: {{ path: / }} }} }} }}\n"
        );
    }
    text
}

/// Returns the path that a client sends for the path of a route. Parameters get the value `v`.
fn sent(path: &str) -> String {
    let encode = |segment: &str| match segment.starts_with('{') {
        true => "v".to_owned(),
        false => utf8_percent_encode(segment, SEGMENT).to_string(),
    };
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Asserts that each route of an accepted configuration is served. Returns `false` if the check refuses the
/// configuration.
async fn serves_each_route(routes: &[(Method, String)]) -> bool {
    let Ok(config) = Config::parse("test.yaml", &config(routes), &Environment::default()) else {
        return false;
    };
    let app = App::new(&config, Readiness::default()).unwrap();
    let auth = Auth::start(&config).await.unwrap();
    let service = app.service::<Body>(&auth);
    for (index, (method, path)) in routes.iter().enumerate() {
        let request = Request::builder()
            .method(method)
            .uri(sent(path))
            .header(header::HOST, "localhost")
            .body(Body::empty());
        let Ok(response) = service.clone().oneshot(request.unwrap()).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        // The services are down, so a route fails, but its own node is in the report.
        assert!(
            body.contains(&format!("\"n{index}\"")) || *method == Method::HEAD,
            "{method} {path}: {status} {body}"
        );
        let is_routed = ![StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
        assert!(is_routed, "{method} {path}: {status}");
    }
    true
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn fault_j17_serves_each_route_of_an_accepted_file(routes in prop::collection::vec(route(), 1..5)) {
        block_on(serves_each_route(&routes));
    }
}

#[test]
fn fault_j17_accepts_and_serves_these_files() {
    let files: [&[(Method, &str)]; 5] = [
        &[(Method::GET, "/me/{id}"), (Method::POST, "/me/{user}")],
        &[
            (Method::GET, "/{a}"),
            (Method::GET, "/{a}/{b}"),
            (Method::GET, "/x/{c}"),
        ],
        &[(Method::GET, "/café/a b"), (Method::GET, "/日本/{x}")],
        &[
            (Method::GET, "/"),
            (Method::GET, "/a/"),
            (Method::GET, "/a"),
        ],
        &[
            (Method::GET, "/a:b/@me;v=1"),
            (Method::HEAD, "/a:b/@me;v=1"),
        ],
    ];
    for file in files {
        let routes = file
            .iter()
            .map(|(method, path)| (method.clone(), (*path).to_owned()));
        let routes: Vec<_> = routes.collect();
        assert!(block_on(serves_each_route(&routes)), "{routes:?}");
    }
}

/// Returns the status, the length and the body of the response to a request.
async fn response(
    service: &(impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone),
    method: Method,
    path: &str,
) -> (StatusCode, Option<HeaderValue>, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header(header::HOST, "localhost")
        .body(Body::empty());
    let Ok(response) = service.clone().oneshot(request.unwrap()).await;
    let (parts, body) = response.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status,
        length,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

#[test]
fn fault_j17_no_route_takes_an_endpoint_of_the_gateway_and_head_has_no_body() {
    let routes = [
        (Method::GET, "/{a}".into()),
        (Method::GET, "/{a}/{b}".into()),
    ];
    block_on(async {
        let config = Config::parse("test.yaml", &config(&routes), &Environment::default());
        let config = config.unwrap();
        let app = App::new(&config, Readiness::default()).unwrap();
        let auth = Auth::start(&config).await.unwrap();
        let service = app.service::<Body>(&auth);
        assert_eq!(response(&service, Method::GET, "/livez").await.2, "ok\n");
        for (path, node) in [("/livez/a", "\"n1\""), ("/livezz", "\"n0\"")] {
            let (status, _, body) = response(&service, Method::GET, path).await;
            assert!(body.contains(node), "{path}: {body}");
            let (of_head, length, body) = response(&service, Method::HEAD, path).await;
            assert_eq!((of_head, &*body), (status, ""), "{path}");
            assert!(length.is_some(), "{path}");
        }
    });
}
