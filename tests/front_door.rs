//! Clients that hold what they can, against a server in another process.
#![allow(missing_docs)]

mod common;

use std::{process::Stdio, time::Duration};

use common::{front::*, *};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::{Instant, timeout},
};

#[tokio::test]
async fn serve_for_others() {
    serve_if_told().await;
}

/// Opens half-open connections: each sends the beginning of a head, and a byte a second. Says when
/// all are open, and how many were closed when none is left.
const SLOW: &str = r#"
import resource, select, socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 100, hard), hard))
poll, held, closed = select.epoll(), {}, 0
for _ in range(count):
    one = socket.create_connection((host, port))
    one.sendall(b"GET / HTTP/1.1\r\nhost: x\r\na: ")
    one.setblocking(False)
    held[one.fileno()] = one
    poll.register(one, select.EPOLLIN)
print("open", flush=True)
drip = time.monotonic() + 1
while held:
    for fd, _ in poll.poll(0.1):
        held.pop(fd).close()
        closed += 1
    if time.monotonic() > drip:
        drip += 1
        for one in held.values():
            try: one.send(b"b")
            except OSError: pass
print("closed", closed, flush=True)
"#;

/// Slow clients in a process of their own.
struct Slow {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Slow {
    /// Nothing without Python.
    async fn start(front: &Front, count: usize) -> Option<Self> {
        let mut child = Command::new(program("python3")?)
            .args(["-c", SLOW, &front.addr.ip().to_string()])
            .args([front.addr.port().to_string(), count.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut slow = Self {
            lines,
            _child: child,
        };
        assert_eq!(slow.line().await, "open");
        Some(slow)
    }

    async fn line(&mut self) -> String {
        let line = timeout(ms(30_000), self.lines.next_line()).await;
        line.expect("it takes too long").unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d1_ten_thousand_slow_clients_leave_room_for_a_good_one() {
    const SLOW_ONES: usize = 10_000;
    let front = Front::start(12_000, ms(8_000));
    let idle = front.p99(300).await;
    let Some(mut slow) = Slow::start(&front, SLOW_ONES).await else {
        return;
    };
    let counts = front.until(|counts| counts.open > SLOW_ONES as u64).await;
    let memory = front.memory();
    let busy = front.p99(300).await;
    println!(
        "p99 idle {idle:?}, beside {} connections {busy:?}, {memory:?} MB",
        counts.open
    );
    assert!(busy < ms(500), "{busy:?}");
    match memory {
        Some(memory) => assert!(memory < 300, "{memory} MB"),
        None => println!("skipped: no /proc to read the memory from"),
    }
    assert_eq!(slow.line().await, format!("closed {SLOW_ONES}"));
    front.until(|counts| counts.slow == SLOW_ONES as u64).await;
    front.until(|counts| counts.open == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d5_without_files_it_waits_and_goes_on() {
    let front = Front::start(256, ms(2_000));
    let Some(mut slow) = Slow::start(&front, 400).await else {
        return;
    };
    let before = front.processor();
    let (answer, waited) = front.ask("/").await.unwrap();
    let spent = front.processor().zip(before).map(|(now, then)| now - then);
    println!("answered after {waited:?}, for {spent:?} hundredths of a second of the processor");
    assert_eq!(answer, "hello");
    assert!(waited > ms(500), "there were files: {waited:?}");
    assert!(spent.is_none_or(|spent| spent < 50), "it spins: {spent:?}");
    assert_eq!(slow.line().await, "closed 400");
}

#[tokio::test]
async fn fault_d24_a_request_that_ends_early_is_not_fanned_out() {
    let (up, seen) = stub(quick).await;
    let plan = "    up: { downstream: up, request: { path: / } }\n";
    let gateway = Gateway::start(&[("up", up)], plan, "").await;
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    stream.write_all(post(100, "{}").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(seen.calls(), 0);
}

/// A request to the built-in API whose body is said to be of this length.
fn post(length: usize, body: &str) -> String {
    let authorization = bearer("pro");
    format!(
        "POST {ORCHESTRATE} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// Clients that go away, each with three calls.
const GONE: usize = 10;

/// Never answers those; then answers three calls, and no more.
fn left_alone(call: usize) -> (Duration, StatusCode, Value) {
    match call / 3 {
        0..GONE => hanging(call),
        GONE => quick(call),
        _ => broken(call),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d33_a_client_that_goes_away_takes_all_its_calls_along_at_once() {
    const PLAN: &str = "    a: { downstream: slow, request: { path: /a } }
    b: { downstream: slow, request: { path: /b } }
    c: { downstream: slow, request: { path: /c } }
";
    // One failure opens it, and one is tried again at once.
    const POLICIES: &str = "policies: { p: { attempt_timeout: 5s, retry: { base: 1ms }, circuit_breaker: { min_calls: 1, failure_rate: 0.01, consecutive_failures: 1 } } }\n";
    let (slow, seen) = stub(left_alone).await;
    let gateway = Gateway::start(&[("slow", slow)], PLAN, POLICIES).await;
    let mut times = Vec::new();
    for round in 1..=GONE {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        stream.write_all(post(2, "{}").as_bytes()).await.unwrap();
        seen.until(|calls, _| calls == 3 * round).await;
        let gone = Instant::now();
        drop(stream);
        seen.until(|_, cut| cut == 3 * round).await;
        times.push(gone.elapsed());
    }
    times.sort();
    println!("all three were cancelled after {times:?}");
    assert!(
        times[GONE / 2] < ms(10) && times[GONE - 1] < ms(200),
        "{times:?}"
    );
    let state = async || {
        let health = gateway.post("/health", json!({})).await;
        assert_eq!(health.at("/services/a/inFlight"), 0);
        health.at("/services/a/circuitBreakerState")
    };
    assert_eq!(state().await, "CLOSED");
    // The next is let through, and nothing of the others was tried again.
    assert_eq!(gateway.ask(json!({})).await.status, 200);
    assert_eq!(
        (seen.calls(), state().await),
        (3 * GONE + 3, json!("CLOSED"))
    );
    // It would have opened.
    gateway.ask(json!({})).await;
    assert_eq!(state().await, "OPEN");
}
