//! The configuration of the measured gateway, and the token that some of its routes require.

use std::fmt::Write;

use http::Uri;
use serde_json::json;
use tower_fanout_http::jwt::{Algorithm, sign};

use crate::route::Route;

const SECRET: &str = "a secret of this bench, which guards nothing";

/// Returns a configuration with all policies on, and the routes of [`Route::all`] and [`Route::SLOW`] over `endpoints`.
pub(crate) fn file(endpoints: &[Uri]) -> String {
    let mut file = format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}
telemetry: {{ logs: {{ format: json, level: info }} }}
auth:
  jwt:
    bench: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [bench], audiences: [fanout], algorithms: [HS256] }}
policies:
  all:
    total_timeout: 30s
    attempt_timeout: 10s
    retry: {{ max_attempts: 3, base: 50ms, cap: 1s, jitter: full, budget: {{ ratio: 0.2, min_per_sec: 3 }} }}
    circuit_breaker: {{ window: 20s, min_calls: 20, failure_rate: 0.5, slow_call: 8s, slow_rate: 0.8, open: 5s }}
    concurrency: {{ max: 1024, queue: 0 }}
downstreams:
"
    );
    for (node, endpoint) in endpoints.iter().enumerate() {
        let url = endpoint.to_string();
        let url = url.trim_end_matches('/');
        let _ = writeln!(
            file,
            "  d{node}: {{ endpoints: [{{ url: \"{url}\" }}], policy: all }}"
        );
    }
    file += "routes:\n";
    for route in Route::all().chain([Route::SLOW]) {
        file += &section(route);
    }
    file
}

/// Returns the section of a route.
fn section(route: Route) -> String {
    let path = route.path();
    let name = path.trim_matches('/').replace('/', "-");
    let mut section = format!(
        "  - name: r-{name}
    match: {{ method: GET, path: \"{path}\" }}
"
    );
    if route.token {
        section += "    auth: { jwt: bench }\n";
    }
    section += "    deadline: { default: 30s, max: 60s }
    aggregate: { strategy: partial, merge: group }
    plan:
";
    let called = route.called();
    for node in 0..route.nodes {
        let _ = writeln!(
            section,
            "      n{node}: {{ downstream: d{node}, request: {{ path: \"{called}\" }} }}"
        );
    }
    section
}

/// Returns a token that the routes accept.
pub(crate) fn token() -> String {
    let claims = json!({"iss": "bench", "aud": "fanout", "sub": "ada", "exp": 253_402_300_000_u64});
    sign(Algorithm::HS256, SECRET.as_bytes(), &claims).expect("the secret is long enough")
}
