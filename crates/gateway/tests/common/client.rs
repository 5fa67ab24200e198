//! An HTTP client for a gateway, and the configuration that most tests use.

use std::{net::SocketAddr, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tower_fanout_http::jwt::{Algorithm, sign};

// Integration tests start the binary, unit tests run the gateway in their own process.
use super::{Server, start_server};

pub(crate) const ORCHESTRATE: &str = "/api/v1/analysis/orchestrate";
pub(crate) const SECRET: &str = "a secret of the end-to-end tests, long enough";

/// A running gateway. A gateway process is stopped when this is dropped.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    pub(crate) server: Option<Server>,
}

/// Adds free ports to a configuration, unless it has a `listen` key.
fn with_free_ports(text: &str) -> String {
    const FREE: &str = "listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\"";
    if text.contains("listen:") {
        text.to_owned()
    } else if text.contains("server: {") {
        text.replacen("server: {", &format!("server: {{ {FREE},"), 1)
    } else {
        format!("{text}server: {{ {FREE} }}\n")
    }
}

/// A response with its body as text.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Returns the value at a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> Value {
        self.json()
            .pointer(pointer)
            .cloned()
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.text))
    }

    /// Returns the value at a JSON pointer below the record of a service.
    pub(crate) fn service(&self, name: &str, pointer: &str) -> Value {
        self.at(&format!("/data/services/{name}{pointer}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Gateway {
    /// Starts a gateway with the built-in API. The nodes of `plan` call `downstreams`. `more` is appended
    /// to the configuration.
    pub(crate) async fn start(downstreams: &[(&str, SocketAddr)], plan: &str, more: &str) -> Self {
        let list: String = downstreams
            .iter()
            .map(|(name, addr)| {
                format!("  {name}: {{ endpoints: [{{ url: \"http://{addr}\" }}], policy: p }}\n")
            })
            .collect();
        let policies = if more.contains("policies:") {
            ""
        } else {
            "policies: { p: { attempt_timeout: 2s, retry: { base: 1ms } } }\n"
        };
        let auth = "auth: { jwt: main }";
        let text = format!(
            "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256], tier: {{ claim: tier, default: free }} }} }} }}
tiers: {{ free: {{}}, pro: {{}} }}
downstreams:
{list}orchestrate:
  {auth}
  plan:
{plan}
{policies}{more}"
        );
        Self::from_text(&text).await
    }

    /// Starts a gateway with this configuration.
    pub(crate) async fn from_text(text: &str) -> Self {
        let (addr, server) = start_server(&with_free_ports(text)).await;
        Self {
            addr,
            server: Some(server),
        }
    }

    /// Returns a client for a server that the test has started itself.
    pub(crate) const fn at(addr: SocketAddr) -> Self {
        Self { addr, server: None }
    }

    /// Posts `body` to the built-in API as a caller of tier `pro`.
    pub(crate) async fn ask(&self, body: Value) -> Answer {
        self.post("", body).await
    }

    /// Returns the health when no call of `service` is in flight. A call that is cut ends on its own thread, after the
    /// service has seen the end of its connection.
    pub(crate) async fn idle_health(&self, service: &str) -> Answer {
        loop {
            let health = self.post("/health", json!({})).await;
            if health.at(&format!("/services/{service}/inFlight")) == 0 {
                return health;
            }
        }
    }

    /// Posts `body` to a path below the built-in API.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        let headers = [
            ("authorization", bearer("pro")),
            ("content-type", "application/json".into()),
        ];
        self.send(
            Method::POST,
            &format!("{ORCHESTRATE}{path}"),
            &headers,
            &body.to_string(),
        )
        .await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

/// Returns an `authorization` header value for a caller of this tier.
pub(crate) fn bearer(tier: &str) -> String {
    format!("Bearer {}", token(&json!({"tier": tier})))
}

/// Returns a valid token with changed claims. A `null` removes a claim.
pub(crate) fn token(changes: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let mut claims = json!({"iss": "tests", "aud": "fanout", "sub": "ada", "exp": now + 600});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    sign(Algorithm::HS256, SECRET.as_bytes(), &claims).unwrap()
}
