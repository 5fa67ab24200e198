//! Canaries: what nobody may read is sent wherever it can be, and then looked for everywhere.
#![allow(missing_docs)]

#[path = "../../../tests/common/mod.rs"]
mod common;

use std::{path::PathBuf, process::Stdio};

use common::{frames::*, *};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tower_fanout_gateway::config::Config;

/// Secrets of the configuration; what is special in them is encoded differently everywhere.
const HMAC: &str = "canary-hmac/+?&= of this many bytes or more";
const API_KEY: &str = "canary-api-key";
const PASSWORD: &str = "canary-password";
/// What a client sends.
const SENT: [&str; 8] = [
    "canary-sub",
    "canary-role",
    "canary-private",
    "canary-kid",
    "canary-cookie",
    "canary-basic",
    "canary-query",
    "canary-body",
];
/// What a downstream says in its headers and failures, and in its one good answer.
const SAID: &str = "canary-said";
const DATA_OF_SERVICE: &str = "canary-data";

struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("tower-fanout-canary-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Base64 without padding, with these two for 62 and 63.
fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let digits: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .collect();
    let digit = |sextet: u32| [&digits[..], last].concat()[sextet as usize & 63] as char;
    let groups = bytes.chunks(3).flat_map(|chunk| {
        let all = (0..3).fold(0, |all, at| {
            all << 8 | u32::from(*chunk.get(at).unwrap_or(&0))
        });
        let sextets = (0..=chunk.len()).map(move |at| all >> (18 - 6 * at));
        sextets.collect::<Vec<_>>()
    });
    groups.map(digit).collect()
}

/// A text as it is, and as it may be encoded.
fn forms(text: &str) -> Vec<String> {
    let hex = |prefix: &str, plain: bool| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'-' if plain => (byte as char).to_string(),
            _ => format!("{prefix}{byte:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    let mut forms = vec![text.to_owned(), hex("%", true), hex("", false)];
    forms.push(hex("", false).to_lowercase());
    for last in [b"+/", b"-_"] {
        // A group may begin with any of three bytes.
        forms.extend((0..3).map(|skipped| base64(&text.as_bytes()[skipped..text.len() - 3], last)));
    }
    let decimal: Vec<_> = text.bytes().map(|byte| byte.to_string()).collect();
    forms.push(decimal.join(", "));
    forms
}

/// Fails if `text` has one of `canaries`, in any form.
fn scan<'c>(place: &str, text: &str, canaries: impl IntoIterator<Item = &'c str>) {
    for canary in canaries {
        for form in forms(canary) {
            let found = text.find(&form);
            let line = found.map(|at| &text[at.saturating_sub(200)..(at + form.len())]);
            assert_eq!(line, None, "{canary} is in {place}");
        }
    }
}

/// All that nobody reads, but for the tokens and the good answer.
fn canaries<'c>() -> impl Iterator<Item = &'c str> + Clone {
    SENT.into_iter().chain([HMAC, API_KEY, PASSWORD, SAID])
}

/// A service that fails as its path says, and in all its answers says what it should not.
async fn downstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    addr
}

async fn answer(mut stream: TcpStream) {
    let mut request = vec![0; 16 << 10];
    let read = stream.read(&mut request).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..read]);
    let path = text.split(['/', '?', ' ']).nth(2).unwrap_or_default();
    let (status, kind, body, length) = match path {
        "good" => (
            "200 OK",
            "application/json",
            format!("{{\"a\":\"{DATA_OF_SERVICE}\"}}"),
            0,
        ),
        "json" => ("200 OK", "application/json", format!("{{\"a\":\"{SAID}"), 0),
        "html" => ("200 OK", "text/html", format!("<p>{SAID}"), 0),
        "error" => (
            "500 Oh",
            "application/json",
            format!("{{\"a\":\"{SAID}\"}}"),
            0,
        ),
        "moved" => ("302 Found", "text/html", SAID.to_owned(), 0),
        "cut" => (
            "200 OK",
            "application/json",
            format!("{{\"a\":\"{SAID}"),
            99,
        ),
        "head" => (SAID, SAID, SAID.to_owned(), 0),
        _ => return std::future::pending().await,
    };
    let length = body.len() + length;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nset-cookie: a={SAID}\r\nlocation: http://{SAID}/\r\nx-a: {SAID}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}

const NODES: [&str; 8] = [
    "good", "json", "html", "error", "moved", "cut", "head", "hang",
];

fn config(format: &str, up: std::net::SocketAddr) -> String {
    let node = |name: &&str| {
        format!(
            "    {name}: {{ downstream: up, request: {{ path: \"/{name}\", query: {{ q: \"{{body.input.a}}\" }}, headers: {{ x-api-key: \"${{API_KEY}}\", x-cookie: \"{{header.cookie}}\" }} }} }}\n"
        )
    };
    let nodes: String = NODES.iter().map(node).collect();
    format!(
        "version: 1
server: {{ listen: 127.0.0.1:0, admin: 127.0.0.1:0, drain: {{ delay: 0s, timeout: 1s }} }}
telemetry: {{ logs: {{ format: {format}, level: \"trace,h2=trace,h2::server=trace\" }} }}
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"${{HMAC}}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256], roles: {{ claim: roles }} }} }} }}
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
"
    )
}

/// Tokens with canaries: a good one, and others with something wrong.
fn tokens() -> Vec<String> {
    let claims = json!({"iss": "tests", "aud": "fanout", "exp": 4_000_000_000_u64, "sub": SENT[0], "roles": [SENT[1]], "private": SENT[2]});
    let signed = |key: &str, changes: Value| {
        let mut claims = claims.clone();
        let changes = changes.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(changes);
        tower_fanout_http::jwt::sign(
            tower_fanout_http::jwt::Algorithm::HS256,
            key.as_bytes(),
            &claims,
        )
        .unwrap()
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

/// Requests of every kind, most of which are refused; the first is answered.
fn requests(tokens: &[String]) -> Vec<String> {
    let [.., query, body] = SENT;
    let json = "content-type: application/json\r\n";
    let input = format!("{{\"input\":{{\"a\":\"{body}\"}}}}");
    let post = format!("POST {ORCHESTRATE}?q={query}");
    let good = format!("authorization: Bearer {}\r\n{json}", tokens[0]);
    let all = format!("{{\"aggregationStrategy\":\"all\",{}", &input[1..]);
    let mut requests = vec![request(&post, &good, &input), request(&post, &good, &all)];
    for token in tokens {
        let headers = format!("authorization: Bearer {token}\r\n{json}");
        requests.push(request(&format!("GET /admins?q={query}"), &headers, ""));
    }
    for headers in [
        json.to_owned(),
        format!("authorization: Basic {}\r\n{json}", SENT[5]),
        format!("authorization: {}\r\n{json}", tokens[0]),
        format!("{good}authorization: Bearer {}\r\n", tokens[0]),
        format!(
            "authorization: Bearer {}\r\ncontent-type: {body}\r\n",
            tokens[0]
        ),
        format!("{good}expect: {body}\r\n"),
        format!("{good}host: {body}\r\n"),
        format!("{good}content-length: {body}\r\n"),
        format!("{good}transfer-encoding: {body}\r\n"),
        format!("{good}x-big: {}\r\n", body.repeat(40_000)),
        format!("{good}accept: {body}\r\n"),
        format!("{good}traceparent: {body}\r\nbaggage: a={body}\r\ntracestate: a={body}\r\n"),
    ] {
        requests.push(request(&post, &headers, &input));
    }
    for wrong in [
        format!("{{\"a\": {body}"),
        format!("\"{body}\""),
        // The name of a member is pointed at, its value is not told.
        format!("{{\"unknown\": \"{body}\"}}"),
        format!("{{\"aggregationStrategy\": \"{body}\", \"timeout\": \"{body}\"}}"),
        format!("{{\"services\": [\"{body}\"]}}"),
        format!("{{\"input\": \"{}\"}}", body.repeat(100_000)),
    ] {
        requests.push(request(&post, &good, &wrong));
    }
    for line in ["PUT /admins", "GET /none", "FOO /", "GET http://y/"] {
        requests.push(request(&format!("{line}?q={query}"), &good, ""));
    }
    requests
}

/// What the binary says to all of that, on its standard error, to its clients and to operators.
async fn provoke(format: &str) {
    let file = File::new(
        &format!("{format}.yaml"),
        &config(format, downstream().await),
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command.args(["run", "-c"]).arg(&file.0).kill_on_drop(true);
    command.env("HMAC", HMAC).env("API_KEY", API_KEY);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("serving") {
        assert!(log.read_line(&mut said).await.unwrap() > 0, "{said}");
    }
    let address = |name: &str| {
        let (_, rest) = said.split_once(name).unwrap();
        let rest = rest.trim_start_matches(['"', ':', '=']);
        rest.split(['"', ' ', '\n'])
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let (listen, admin) = (address("listen"), address("admin"));
    let reading = tokio::spawn(async move {
        log.read_to_string(&mut said).await.unwrap();
        said
    });

    let tokens = tokens();
    let mut parts: Vec<&str> = tokens.iter().flat_map(|token| token.split('.')).collect();
    // What stands in every token, and what is too short to be found by chance.
    parts.retain(|part| part.len() > 30 && !part.starts_with("eyJ0eXAi"));
    let mut statuses = Vec::new();
    for (at, request) in requests(&tokens).iter().enumerate() {
        let answer = raw(listen, request).await;
        statuses.push(answer.get(9..12).unwrap_or("cut").to_owned());
        let place = format!("the answer to request {at}");
        scan(&place, &answer, canaries().chain(parts.iter().copied()));
        let head = answer.split("\r\n\r\n").next().unwrap();
        scan(&place, head, [DATA_OF_SERVICE]);
    }
    println!("{statuses:?}");
    for status in [
        "200", "400", "401", "403", "404", "405", "413", "415", "417", "422", "431", "502",
    ] {
        assert!(statuses.iter().any(|one| one == status), "{status}");
    }
    abort(listen, &tokens[0]).await;
    // Not even a path that is none, which HTTP/2's library would tell.
    attack(listen, common::frames::request(1, "canary-query \u{7f}")).await;

    let metrics = raw(
        admin,
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(metrics.contains("fanout_call_total"), "{metrics}");
    let pid = child.id().unwrap().to_string();
    Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    child.wait().await.unwrap();
    let log = reading.await.unwrap();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it logs too little"
    );
    for (place, text) in [("the metrics", metrics), ("the log", log)] {
        let all = canaries().chain([DATA_OF_SERVICE]);
        scan(place, &text, all.chain(parts.iter().copied()));
    }
}

/// Goes away while a service is asked.
async fn abort(listen: std::net::SocketAddr, token: &str) {
    let headers = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let body = format!("{{\"input\":{{\"a\":\"{}\"}}}}", SENT[7]);
    let text = request(&format!("POST {ORCHESTRATE}"), &headers, &body);
    let mut stream = TcpStream::connect(listen).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_is_in_logs_for_programs_answers_or_metrics() {
    provoke("json").await;
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_is_in_logs_for_people_answers_or_metrics() {
    provoke("human").await;
}

#[tokio::test]
async fn fault_i17_l4_no_canary_is_in_what_is_said_about_a_file() {
    let good = config("json", "127.0.0.1:9".parse().unwrap());
    let written = good.replace("${HMAC}", HMAC).replace("${API_KEY}", API_KEY);
    let debug = format!(
        "{:?}",
        Config::parse("a.yaml", &written, &|_| None).unwrap()
    );
    scan("the Debug of a configuration", &debug, canaries());
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
    ] {
        files.push(written.replace(part, wrong));
        files.push(good.replace(part, wrong));
    }
    for (at, text) in files.iter().enumerate() {
        let file = File::new(&format!("check-{at}.yaml"), text);
        for arguments in [
            &["check"][..],
            &["check", "--format", "json"],
            &["run"],
            &["explain", "--route", "orchestrate"],
        ] {
            if at < 2 && arguments == ["run"] {
                continue;
            }
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
            command
                .args(arguments)
                .arg("-c")
                .arg(&file.0)
                .kill_on_drop(true);
            command.env("HMAC", HMAC).env("API_KEY", API_KEY);
            let output = tokio::time::timeout(ms(3_000), command.output()).await;
            let Ok(output) = output.map(Result::unwrap) else {
                continue; // It serves.
            };
            let said = [output.stdout, output.stderr].concat();
            let place = format!("what {arguments:?} says of file {at}");
            scan(&place, &String::from_utf8(said).unwrap(), canaries());
        }
    }
}
