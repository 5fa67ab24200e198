//! The canaries: values that must not leak, and the requests and files that contain them.

use serde_json::{Value, json};
use tower_fanout_http::jwt::{Algorithm, sign};

use super::{ORCHESTRATE, scan::base64};

/// Secrets of the configuration. Their special characters are encoded differently in each format.
pub(crate) const HMAC: &str = "canary-hmac/+?&= of this many bytes or more";
pub(crate) const API_KEY: &str = "canary-api-key";
pub(crate) const PASSWORD: &str = "canary-password";
/// Canaries in requests of clients.
pub(crate) const SENT: [&str; 8] = [
    "canary-sub",
    "canary-role",
    "canary-private",
    "canary-kid",
    "canary-cookie",
    "canary-basic",
    "canary-query",
    "canary-body",
];
/// Canaries in the headers and failures of a downstream, and in its only successful response.
pub(crate) const RESPONSE: &str = "canary-response";
pub(crate) const DATA_OF_SERVICE: &str = "canary-data";

/// Returns all canaries except the tokens and the data of the successful response.
pub(crate) fn canaries<'c>() -> impl Iterator<Item = &'c str> + Clone {
    SENT.into_iter().chain([HMAC, API_KEY, PASSWORD, RESPONSE])
}

const NODES: [&str; 9] = [
    "good", "json", "html", "error", "moved", "cut", "head", "reset", "hang",
];

pub(crate) fn config(format: &str, up: std::net::SocketAddr) -> String {
    let node = |name: &&str| {
        format!(
            "    {name}: {{ downstream: up, request: {{ path: \"/{name}\", query: {{ q: \"{{body.input.a}}\" }}, headers: {{ x-api-key: \"${{API_KEY}}\", x-cookie: \"{{header.cookie}}\" }} }} }}\n"
        )
    };
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/../http/src/jwt/test_keys");
    let nodes: String = NODES.iter().map(node).collect();
    format!(
        "version: 1
server: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, timeouts: {{ body: 300ms }}, drain: {{ delay: 0s, timeout: 1s }} }}
telemetry: {{ logs: {{ format: {format}, level: \"trace,h2=trace,h2::server=trace\" }} }}
auth:
  jwt:
    main: {{ keys: [{{ secret: \"${{HMAC}}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256], roles: {{ claim: roles }} }}
    pem: {{ keys: [{{ pem_file: \"{keys}/ec.pub.pem\" }}], issuers: [tests], audiences: [fanout], algorithms: [ES256] }}
policies: {{ p: {{ attempt_timeout: 300ms, retry: off, circuit_breaker: off, throttle: off }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p }} }}
orchestrate:
  auth: {{ jwt: main }}
  plan:
{nodes}routes:
  - name: admins
    match: {{ path: /admins }}
    auth: {{ jwt: main, any_role: [admin] }}
    plan: {{ good: {{ downstream: up, request: {{ path: /good }} }} }}
  - name: pem
    match: {{ path: /pem }}
    auth: {{ jwt: pem }}
    plan: {{ good: {{ downstream: up, request: {{ path: /good }} }} }}
"
    )
}

/// A public key, and a token with the same canaries that is signed with its private key.
const PEM: &str = include_str!("../../../http/src/jwt/test_keys/ec.pub.pem");
const SIGNED_WITH_PEM: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ0ZXN0cyIsImF1ZCI6ImZhbm91dCIsImV4cCI6NDAwMDAwMDAwMCwic3ViIjoiY2FuYXJ5LXN1YiIsInJvbGVzIjpbImNhbmFyeS1yb2xlIl0sInByaXZhdGUiOiJjYW5hcnktcHJpdmF0ZSJ9.FPdvm6505lGeW36UWjAwBDaOVctIQXFJMLyIV4vX0lU2Mocce72xJ2I4b893Io7al5SIXW7UL16Ra_B5CYzr9Q";

/// Returns tokens with canaries. The first is valid, most others are not.
pub(crate) fn tokens() -> Vec<String> {
    let claims = json!({"iss": "tests", "aud": "fanout", "exp": 4_000_000_000_u64, "sub": SENT[0], "roles": [SENT[1]], "private": SENT[2]});
    let signed = |key: &str, changes: Value| {
        let mut claims = claims.clone();
        let changes = changes.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(changes);
        sign(Algorithm::HS256, key.as_bytes(), &claims).unwrap()
    };
    let header = |header: String| {
        let good = signed(HMAC, json!({}));
        let (_, rest) = good.split_once('.').unwrap();
        format!("{}.{rest}", base64(header.as_bytes(), b"-_"))
    };
    let mut tokens = vec![
        signed(HMAC, json!({})),
        signed("another secret, of thirty-two bytes", json!({})),
        header(format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", SENT[3])),
        header(format!("{{\"alg\":\"none\",\"kid\":\"{}\"}}", SENT[3])),
        header(format!("{{\"alg\":\"HS256\",\"crit\":[\"{}\"]}}", SENT[3])),
        header(format!("{{\"alg\":\"{}\"}}", SENT[3])),
        header(SENT[3].to_owned()),
        // Signed with a public key as if it were an HMAC secret.
        signed(PEM, json!({})),
        SIGNED_WITH_PEM.to_owned(),
        format!("{}AAAA", &SIGNED_WITH_PEM[..SIGNED_WITH_PEM.len() - 4]),
        SENT[3].repeat(900),
        format!("{}é", SENT[3]),
    ];
    for wrong in [
        json!({"exp": 1}),
        json!({"exp": SENT[2]}),
        json!({"nbf": 4_000_000_000_u64}),
        json!({"iss": SENT[2]}),
        json!({"aud": SENT[2]}),
        json!({"sub": {"a": SENT[0]}}),
    ] {
        tokens.push(signed(HMAC, wrong));
    }
    tokens
}

fn request(line: &str, headers: &str, body: &str) -> String {
    let (cookie, length) = (SENT[4], body.len());
    format!(
        "{line} HTTP/1.1\r\nhost: x\r\ncookie: a={cookie}\r\nx-api-key: {cookie}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// Returns the method and target of a request to the built-in API.
fn post() -> String {
    format!("POST {ORCHESTRATE}?q={}", SENT[6])
}

/// Returns headers with this token for a request with a JSON body.
fn typed(token: &str) -> String {
    format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n")
}

/// Returns bodies of requests to the built-in API. The first three are valid, and the third calls a
/// service that does not respond.
pub(crate) fn bodies() -> Vec<String> {
    let body = SENT[7];
    let input = format!("\"input\": {{\"a\": \"{body}\"}}}}");
    vec![
        format!("{{{input}"),
        format!("{{\"aggregationStrategy\": \"all\", {input}"),
        format!("{{\"requiredServices\": [\"hang\"], {input}"),
        format!("{{\"a\": {body}"),
        format!("\"{body}\""),
        // The response has a pointer to the key, but not the value.
        format!("{{\"unknown\": \"{body}\"}}"),
        format!("{{\"aggregationStrategy\": \"{body}\", \"timeout\": \"{body}\"}}"),
        format!("{{\"requiredServices\": [\"{body}\"]}}"),
        format!("{{\"input\": \"{}\"}}", body.repeat(100_000)),
    ]
}

/// Returns a request that calls a service which does not respond.
pub(crate) fn hanging(token: &str) -> String {
    request(&post(), &typed(token), &bodies()[2])
}

/// Returns invalid request headers.
fn heads(token: &str) -> Vec<String> {
    let body = SENT[7];
    let good = typed(token);
    vec![
        "content-type: application/json\r\n".to_owned(),
        format!("authorization: Basic {}\r\n", SENT[5]),
        format!("authorization: {token}\r\n"),
        format!("{good}authorization: Bearer {token}\r\n"),
        format!("authorization: Bearer {token}\r\ncontent-type: {body}\r\n"),
        format!("{good}expect: {body}\r\n"),
        format!("{good}host: {body}\r\n"),
        format!("{good}content-length: {body}\r\n"),
        format!("{good}transfer-encoding: {body}\r\n"),
        format!("{good}x-big: {}\r\n", body.repeat(40_000)),
        format!("{good}accept: {body}\r\n"),
        format!("{good}traceparent: {body}\r\nbaggage: a={body}\r\ntracestate: a={body}\r\n"),
    ]
}

/// Returns requests of every kind. The first is accepted, most others are rejected.
pub(crate) fn requests(tokens: &[String]) -> Vec<String> {
    let (query, good) = (SENT[6], typed(&tokens[0]));
    let bodies = bodies();
    let mut requests: Vec<_> = bodies
        .iter()
        .map(|body| request(&post(), &good, body))
        .collect();
    for headers in heads(&tokens[0]) {
        requests.push(request(&post(), &headers, &bodies[0]));
    }
    for token in tokens {
        for path in ["admins", "pem"] {
            let line = format!("GET /{path}?q={query}");
            requests.push(request(&line, &typed(token), ""));
        }
    }
    for line in ["PUT /admins", "GET /none", "FOO /", "GET http://y/"] {
        requests.push(request(&format!("{line}?q={query}"), &good, ""));
    }
    // The rest of this body is never sent.
    let whole = request(&post(), &good, &bodies[0]);
    requests.push(whole[..whole.len() - 5].to_owned());
    requests
}

/// Returns configuration files with secrets. The first two are valid, the others are not.
pub(crate) fn files() -> Vec<String> {
    let good = config("json", ([127, 0, 0, 1], 9).into());
    let written = good.replace("${HMAC}", HMAC).replace("${API_KEY}", API_KEY);
    let mut files = vec![good.clone(), written.clone()];
    for (part, wrong) in [
        ("[HS256]", "[HS257]"),
        ("secret:", "secert:"),
        ("http://", &format!("http://ada:{PASSWORD}@")),
        ("http://", &format!("ftp://ada:{PASSWORD}@")),
        ("x-api-key: \"", "x-api-key: \"{"),
        (HMAC, "canary-password"),
        ("issuers", "\"unclosed"),
        ("secret: \"", "secret: *\""),
        ("secret: \"", "secret: \"\\q"),
        // A private key in place of a public one.
        ("ec.pub.pem", "ec.pem"),
    ] {
        for text in [&good, &written] {
            files.extend(text.contains(part).then(|| text.replace(part, wrong)));
        }
    }
    files
}

/// Returns a line of the private key that one of the [`files`] refers to.
pub(crate) fn private_key() -> &'static str {
    let private = include_str!("../../../http/src/jwt/test_keys/ec.pem");
    private.lines().nth(1).unwrap()
}
