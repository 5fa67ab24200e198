//! A gateway in this process, services for it to ask, and a client.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod frames;
pub(crate) mod front;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_fanout_gateway::{app::App, auth::Auth, config::Config, health::Readiness};
use tower_fanout_http::{
    jwt::{Algorithm, sign},
    server::Server,
};

pub(crate) const ORCHESTRATE: &str = "/api/v1/analysis/orchestrate";
pub(crate) const SECRET: &str = "a secret of the end-to-end tests, long enough";

/// Serves `router` on a free loopback port for the rest of the test.
pub(crate) async fn spawn(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(Server::default().serve(listener, router, std::future::pending()));
    addr
}

/// A service that counts its calls and notes their headers.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<SeenInner>);

#[derive(Default)]
struct SeenInner {
    calls: AtomicUsize,
    now: AtomicUsize,
    peak: AtomicUsize,
    cut: AtomicUsize,
    headers: std::sync::Mutex<Vec<(String, HeaderMap)>>,
    changed: tokio::sync::Notify,
}

struct Running(Seen, bool);

impl Running {
    /// It was not cut.
    fn finish(&mut self) {
        self.1 = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.0.cut.fetch_add(1, Ordering::SeqCst);
        }
        self.0.0.changed.notify_waiters();
    }
}

impl Seen {
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// The target and headers of each call, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<(String, HeaderMap)> {
        self.0.headers.lock().unwrap().clone()
    }

    /// Waits until `condition` holds of (calls, calls that were cut).
    pub(crate) async fn until(&self, condition: impl Fn(usize, usize) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if condition(self.calls(), self.0.cut.load(Ordering::SeqCst)) {
                return;
            }
            changed.await;
        }
    }

    fn enter(&self, request: &Request) -> (usize, Running) {
        let inner = &self.0;
        let call = inner.calls.fetch_add(1, Ordering::SeqCst);
        let now = inner.now.fetch_add(1, Ordering::SeqCst) + 1;
        inner.peak.fetch_max(now, Ordering::SeqCst);
        let target = request.uri().to_string();
        inner
            .headers
            .lock()
            .unwrap()
            .push((target, request.headers().clone()));
        inner.changed.notify_waiters();
        (call, Running(self.clone(), false))
    }
}

/// What a stub service does with its `n`th call, from 0: waits, then answers.
pub(crate) type Script = fn(usize) -> (Duration, StatusCode, Value);

/// A stub service with this script.
pub(crate) async fn stub(script: Script) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (call, mut running) = noted.enter(&request);
        async move {
            let (delay, status, body) = script(call);
            tokio::time::sleep(delay).await;
            running.finish();
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            response.body(Body::from(body.to_string())).unwrap()
        }
    });
    (spawn(router).await, seen)
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Answers at once.
pub(crate) fn quick(_: usize) -> (Duration, StatusCode, Value) {
    (ms(0), StatusCode::OK, json!({"ok": true}))
}

/// Never answers within a test.
pub(crate) fn hanging(_: usize) -> (Duration, StatusCode, Value) {
    (ms(600_000), StatusCode::OK, json!(null))
}

/// Fails at once.
pub(crate) fn broken(_: usize) -> (Duration, StatusCode, Value) {
    (
        ms(0),
        StatusCode::INTERNAL_SERVER_ERROR,
        json!({"error": "inside"}),
    )
}

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
}

/// What a client got.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The value at this JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> Value {
        self.json()
            .pointer(pointer)
            .cloned()
            .unwrap_or_else(|| panic!("no {pointer} in {}", self.text))
    }

    /// The value at this JSON pointer, below a service.
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
    /// A gateway with the built-in API over `plan`, whose nodes ask `downstreams`; `more` is added at
    /// the end of the file.
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

    /// A gateway with this configuration.
    pub(crate) async fn from_text(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, text).await
    }

    /// A gateway with this configuration, but for where it listens.
    pub(crate) async fn on(listener: TcpListener, text: &str) -> Self {
        let config = Config::parse("test.yaml", text, &|_| None);
        Self::serving(listener, config.unwrap_or_else(|report| panic!("{report}"))).await
    }

    /// A gateway of this configuration, but for where it listens.
    pub(crate) async fn serving(listener: TcpListener, config: Config) -> Self {
        let ready = Readiness::default();
        ready.set(true);
        let app = App::new(&config, ready).unwrap();
        let auth = Auth::start(&config).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server::new(config.server.settings).unwrap();
        tokio::spawn(server.serve(listener, app.service(&auth), std::future::pending()));
        Self { addr }
    }

    /// Asks the built-in API, as a caller of tier `pro`.
    pub(crate) async fn ask(&self, body: Value) -> Answer {
        self.post("", body).await
    }

    /// Asks a path below the built-in API.
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

/// Sends these bytes over a connection of their own, and reads until the server closes it.
pub(crate) async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// The value of an authorization header for a caller of this tier.
pub(crate) fn bearer(tier: &str) -> String {
    format!("Bearer {}", token(&json!({"tier": tier})))
}

/// A token that is good but for these claims; null takes one out.
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

/// The path of a program that a test needs. Without it the test says so and is skipped, unless all
/// programs are required.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("FANOUT_REQUIRE_ALL").is_none(),
            "{name} is not on PATH"
        );
        println!("skipped: {name} is not on PATH");
    }
    found
}
