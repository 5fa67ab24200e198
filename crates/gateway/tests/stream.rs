//! Streamed responses: order and format of records, and equality with responses that are not streamed.
#![allow(missing_docs)]

mod common;

use std::{net::SocketAddr, process::Stdio, sync::Arc};

use axum::{Router, extract::Request};
use common::*;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    sync::Semaphore,
};

const EVENTS: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";
const ONCE: &str = "policies: { p: { attempt_timeout: 5s, retry: off } }\n";
const TWO: &str = "    quick: { downstream: up, required: true, request: { path: /quick } }
    held: { downstream: up, request: { path: /held } }
";

/// Pretty-printed JSON with CRLF line breaks, and with text that must not change.
const PRETTY: &str =
    "{\r\n  \"text\" : \"é \u{2028} \\r\\n \\\" : data:  x\",\r\n\r\n\t\"n\" : [ 1.10 , -0 ]\r\n}";
const COMPACT: &str = "{\"text\":\"é \u{2028} \\r\\n \\\" : data:  x\",\"n\":[1.10,-0]}";

/// Starts a service that responds with [`PRETTY`]. It fails at `/broken`, and at `/held` it first waits
/// for a permit of the returned semaphore.
async fn service() -> (SocketAddr, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let router = Router::new().fallback(move |request: Request| {
        let held = Arc::clone(&held);
        async move {
            let status = match request.uri().path() {
                "/broken" => StatusCode::INTERNAL_SERVER_ERROR,
                "/held" => {
                    held.acquire().await.unwrap().forget();
                    StatusCode::OK
                }
                _ => StatusCode::OK,
            };
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(PRETTY.to_owned())
                .unwrap()
        }
    });
    (spawn(router).await, gate)
}

fn headers(tier: &str, accept: &str) -> Vec<(&'static str, String)> {
    vec![
        ("authorization", bearer(tier)),
        ("content-type", "application/json".to_owned()),
        ("accept", accept.to_owned()),
        ("x-correlation-id", "order-7".to_owned()),
    ]
}

/// Returns a raw request that accepts this media type.
fn raw(accept: &str) -> String {
    let mut request = format!("POST {ORCHESTRATE} HTTP/1.1\r\nhost: gateway\r\n");
    for (name, value) in headers("pro", accept) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request + "content-length: 2\r\n\r\n{}"
}

/// Reads until the text contains `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if text.contains(end) {
            return text.into_owned();
        }
        assert_ne!(
            stream.read_buf(&mut read).await.unwrap(),
            0,
            "the connection ended early"
        );
    }
}

/// Parses an event stream. Returns the type and the data of each event.
///
/// Follows <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.
fn event_source(stream: &str) -> Vec<(String, String)> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut kind, mut data) = (Vec::new(), String::new(), String::new());
    for line in lines.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        if line.is_empty() {
            let kind = std::mem::take(&mut kind);
            if let Some(data) = std::mem::take(&mut data).strip_suffix('\n') {
                let kind = if kind.is_empty() {
                    "message".into()
                } else {
                    kind
                };
                events.push((kind, data.to_owned()));
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut kind),
            "data" => data.extend([value, "\n"]),
            _ => {}
        }
    }
    events
}

/// Parses the records of a stream. Returns each with its type.
fn records(accept: &str, stream: &str) -> Vec<(String, Value)> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    if accept == EVENTS {
        let events = event_source(stream).into_iter();
        return events.map(|(kind, data)| (kind, parse(&data))).collect();
    }
    assert!(stream.ends_with('\n'));
    let lines = stream.lines().map(parse);
    lines
        .map(|mut line| {
            let kind = line.as_object_mut().unwrap().remove("type").unwrap();
            (kind.as_str().unwrap().to_owned(), line)
        })
        .collect()
}

/// Joins the records to the form of a response that is not streamed.
fn joined(records: Vec<(String, Value)>) -> Value {
    let mut services = Map::new();
    let mut whole = Value::Null;
    for (kind, mut record) in records {
        assert!(whole.is_null(), "the summary is the last record");
        if kind == "service" {
            let name = record.as_object_mut().unwrap().remove("name").unwrap();
            let before = services.insert(name.as_str().unwrap().to_owned(), record);
            assert!(before.is_none(), "duplicate record of {name}");
        } else {
            assert_eq!(kind, "summary");
            whole = record;
        }
    }
    whole["data"]["services"] = services.into();
    whole
}

/// Removes the durations, which differ between runs.
fn without_times(mut value: Value) -> Value {
    const TIMES: [&str; 6] = [
        "responseTime",
        "queueTime",
        "averageResponseTime",
        "maxResponseTime",
        "executionTime",
        "overhead",
    ];
    if let Value::Object(members) = &mut value {
        members.retain(|name, _| !TIMES.contains(&name.as_str()));
        for value in members.values_mut() {
            *value = without_times(value.take());
        }
    }
    value
}

#[test]
fn the_event_parser_follows_the_standard() {
    let stream = "\u{feff}: comment\r\ndata: a\rdata:  b\ndata\n\nevent: x\ndata:c:d\nid: 1\nretry: 2\nother\n\n\
                  event: no data\n\ndata\n\ndata: never dispatched\n";
    let events = [("message", "a\n b\n"), ("x", "c:d"), ("message", "")];
    let events = events.map(|(kind, data)| (kind.to_owned(), data.to_owned()));
    assert_eq!(event_source(stream), events);
}

#[tokio::test]
async fn curl_receives_the_first_record_before_the_last_call_ends() {
    let Some(curl) = program("curl") else { return };
    for accept in [LINES, EVENTS] {
        let (up, gate) = service().await;
        let gateway = Gateway::start(&[("up", up)], TWO, ONCE).await;
        let mut command = Command::new(&curl);
        command.args(["-N", "-s", "--fail", "--noproxy", "*", "-d", "{}"]);
        for (name, value) in headers("pro", accept) {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let mut child = command
            .arg(format!("http://{}{ORCHESTRATE}", gateway.addr))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains("\"name\"") {
            assert_ne!(out.read_line(&mut text).await.unwrap(), 0);
        }
        assert!(text.contains("\"name\":\"quick\""), "{text}");
        gate.add_permits(1);
        out.read_to_string(&mut text).await.unwrap();
        let records = records(accept, &text);
        let names = records.iter().map(|(_, record)| &record["name"]);
        assert_eq!(
            names.collect::<Vec<_>>(),
            [&json!("quick"), &json!("held"), &Value::Null]
        );
        assert_eq!(records[2].1["success"], true);
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn records_equal_the_response_that_is_not_streamed() {
    let (up, _) = service().await;
    let plan = "    broken: { downstream: up, request: { path: /broken } }
    pretty: { downstream: up, depends_on: [{ node: broken, optional: true }], request: { path: /pretty } }
    last: { downstream: up, required: true, depends_on: [pretty], request: { path: /last } }
    without: { downstream: up, depends_on: [broken], request: { path: /without } }
    team: { downstream: up, tiers: [pro], request: { path: /team } }
";
    let gateway = Gateway::start(&[("up", up)], plan, ONCE).await;
    let ask = |accept: &str, strategy: &str| {
        let headers = headers("free", accept);
        let body = json!({"aggregationStrategy": strategy}).to_string();
        let gateway = &gateway;
        async move {
            gateway
                .send(Method::POST, ORCHESTRATE, &headers, &body)
                .await
        }
    };
    for (strategy, status) in [("partial", 200), ("all", 502)] {
        let one = ask("application/json", strategy).await;
        assert_eq!(
            (one.status.as_u16(), one.header("vary")),
            (status, "accept")
        );
        let mut expected = one.json();
        if status != 200 {
            // In a stream, `type` is the type of the record, and `success` replaces the HTTP status.
            expected.as_object_mut().unwrap().remove("type");
            expected["success"] = false.into();
        }
        for accept in [LINES, EVENTS] {
            let answer = ask(accept, strategy).await;
            let names = ["content-type", "cache-control", "x-accel-buffering", "vary"];
            assert_eq!(
                names.map(|name| answer.header(name)),
                [accept, "no-store", "no", "accept"]
            );
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("x-correlation-id"), "order-7");
            let joined = joined(records(accept, &answer.text));
            assert_eq!(
                without_times(joined),
                without_times(expected.clone()),
                "{strategy}"
            );
            let data = format!("\"data\":{COMPACT}}}\n");
            assert_eq!(
                answer.text.contains(&data),
                status == 200,
                "{}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn a_rejection_before_the_run_is_an_ordinary_problem() {
    let (up, _) = service().await;
    let gateway = Gateway::start(&[("up", up)], TWO, ONCE).await;
    for (body, status) in [("{\"timeout\": 1}", 422), ("{", 400)] {
        let headers = headers("pro", EVENTS);
        let answer = gateway
            .send(Method::POST, ORCHESTRATE, &headers, body)
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (status, "application/problem+json")
        );
        assert_eq!(answer.header("vary"), "accept");
    }
}

#[tokio::test]
async fn fault_d33_a_disconnect_during_a_stream_cancels_the_calls() {
    let (quick, _) = stub(quick).await;
    let (slow, seen) = stub(hanging).await;
    let plan = "    quick: { downstream: quick, request: { path: / } }
    slow: { downstream: slow, request: { path: / } }
    after: { downstream: slow, depends_on: [slow], request: { path: / } }
";
    let gateway = Gateway::start(&[("quick", quick), ("slow", slow)], plan, ONCE).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(raw(LINES).as_bytes()).await.unwrap();
    read_until(&mut stream, "\"name\":\"quick\"").await;
    seen.until(|calls, _| calls == 1).await;
    drop(stream);
    seen.until(|_, cancelled| cancelled == 1).await;
    let health = gateway.idle_health("slow").await;
    assert_eq!(health.at("/services/slow/circuitBreakerState"), "CLOSED");
    assert_eq!(seen.calls(), 1);
}

#[tokio::test]
async fn a_connection_stays_usable_after_a_stream() {
    let (up, gate) = service().await;
    gate.add_permits(3);
    let gateway = Gateway::start(&[("up", up)], TWO, ONCE).await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    for accept in [LINES, EVENTS] {
        stream.write_all(raw(accept).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n0\r\n\r\n").await;
        assert!(answer.contains("\"success\":true"), "{answer}");
    }
    stream.write_all(raw("*/*").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\"planId\":").await;
    assert!(
        answer.contains("{\"success\":true,\"data\":{\"services\""),
        "{answer}"
    );
}

#[tokio::test]
async fn sends_server_timing_only_if_enabled() {
    let (up, gate) = service().await;
    gate.add_permits(9);
    let plan = format!("{TWO}    broken: {{ downstream: up, request: {{ path: /broken }} }}\n");
    let on = format!("{ONCE}telemetry: {{ server_timing: true }}\n");
    let timed = Gateway::start(&[("up", up)], &plan, &on).await;
    for strategy in ["partial", "all"] {
        let answer = timed
            .ask(json!({"aggregationStrategy": strategy, "parallelExecution": false}))
            .await;
        let timing = answer.header("server-timing");
        let names: Vec<_> = timing
            .split(", ")
            .map(|metric| metric.split(';').next())
            .collect();
        assert_eq!(
            names,
            ["quick", "held", "broken", "total"].map(Some),
            "{timing}"
        );
        assert!(timing.ends_with(";desc=\"last: broken\""), "{timing}");
    }
    let headers = headers("pro", LINES);
    let streamed = timed.send(Method::POST, ORCHESTRATE, &headers, "{}").await;
    assert_eq!(streamed.header("server-timing"), "");
    let plain = Gateway::start(&[("up", up)], &plan, ONCE).await;
    assert_eq!(plain.ask(json!({})).await.header("server-timing"), "");
}

#[tokio::test]
async fn the_openapi_schemas_cover_every_response_member() {
    let (up, gate) = service().await;
    gate.add_permits(9);
    let gateway = Gateway::start(&[("up", up)], TWO, ONCE).await;
    let document = gateway.send(Method::GET, "/openapi.json", &[], "").await;
    let answer = gateway.ask(json!({})).await;
    let check = |schema: &str, value: Value| {
        let schema = document.at(&format!("/components/schemas/{schema}"));
        for name in value.as_object().unwrap().keys() {
            assert!(schema["properties"].get(name).is_some(), "{name}");
        }
        for name in schema["required"].as_array().unwrap() {
            assert!(value.get(name.as_str().unwrap()).is_some(), "{name}");
        }
    };
    check("Answer", answer.json());
    check("Data", answer.at("/data"));
    check("Service", answer.service("quick", ""));
    check("Stats", answer.at("/data/parallelExecutionStats"));
    check("Meta", answer.at("/meta"));
    let headers = headers("pro", LINES);
    let streamed = gateway
        .send(Method::POST, ORCHESTRATE, &headers, "{}")
        .await;
    let records = records(LINES, &streamed.text);
    check("SummaryRecord", records[2].1.clone());
    check("Totals", records[2].1["data"].clone());
}

/// Returns the lines `request failed` of `log`, each as its code and its status.
fn failures(log: &str) -> Vec<(Value, Value)> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "request failed" && line["level"] == "WARN")
        .map(|line| (line["code"].clone(), line["status"].clone()))
        .collect()
}

#[tokio::test]
async fn fault_g28_a_stream_that_fails_is_logged_and_counted() {
    let (up, _) = service().await;
    let plan = "    broken: { downstream: up, required: true, request: { path: /broken } }";
    let more = format!(
        "{ONCE}server: {{ drain: {{ delay: 0s }} }}
routes: [{{ name: conflict, match: {{ path: /conflict }}, aggregate: {{ merge: flat }}, plan: {{ a: {{ downstream: up, request: {{ path: / }} }}, b: {{ downstream: up, request: {{ path: / }} }} }} }}]
"
    );
    for accept in [EVENTS, LINES, "application/json"] {
        let mut gateway = Gateway::start(&[("up", up)], plan, &more).await;
        let all = headers("pro", accept);
        gateway.send(Method::POST, ORCHESTRATE, &all, "{}").await;
        gateway.send(Method::GET, "/conflict", &all, "").await;
        let admin = Gateway::at(gateway.server.as_ref().unwrap().admin);
        let page = admin.send(Method::GET, "/metrics", &[], "").await.text;
        for code in ["upstream_failed", "merge_conflict"] {
            let series = format!("fanout_http_rejected_total{{code=\"{code}\"}} 1");
            assert!(page.contains(&series), "{accept}: {page}");
        }
        let log = gateway.server.take().unwrap().stop().await;
        let expected = ["upstream_failed", "merge_conflict"].map(|code| (json!(code), json!(502)));
        assert_eq!(failures(&log), expected, "{accept}: {log}");
    }
}

#[tokio::test]
async fn fault_g28_a_test_run_that_fails_is_logged() {
    let (up, _) = service().await;
    let plan = "    broken: { downstream: up, required: true, request: { path: /broken } }";
    let more = format!("{ONCE}server: {{ drain: {{ delay: 0s }} }}\n");
    let mut gateway = Gateway::start(&[("up", up)], plan, &more).await;
    let answer = gateway.post("/test?execute=true", json!({})).await;
    assert_eq!(answer.at("/result/code"), "upstream_failed");
    let log = gateway.server.take().unwrap().stop().await;
    assert_eq!(failures(&log), [(json!("upstream_failed"), json!(502))]);
}
