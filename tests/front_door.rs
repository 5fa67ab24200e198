//! Slow clients against a server in another process, and the inbound layers around an axum router.
#![allow(missing_docs)]

mod common;

use std::process::Stdio;

use axum::{Extension, Router, routing::post};
use common::{front::*, *};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tower_fanout_http::{
    body::{BodyLimitConfig, BodyLimitLayer},
    forwarded::{ClientAddr, ForwardedLayer},
    guard::GuardLayer,
};

#[tokio::test]
async fn serve_for_others() {
    serve_if_requested().await;
}

/// Python program that opens connections which send a part of a head, then one byte per second. It prints
/// `open` when all are open, and `closed` with their number when the server has closed all.
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

/// Slow clients in a process of their own, which is killed on drop.
struct Slow {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Slow {
    /// Starts `count` clients and waits until all are connected; `None` without Python.
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
        line.expect("no line within 30 s").unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d1_serves_a_client_beside_ten_thousand_slow_ones() {
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
        Some(memory) => assert!(memory < 220, "{memory} MB"),
        None => println!("skipped the memory limit: no /proc"),
    }
    assert_eq!(slow.line().await, format!("closed {SLOW_ONES}"));
    front.until(|counts| counts.slow == SLOW_ONES as u64).await;
    front.until(|counts| counts.open == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d5_waits_for_file_descriptors_and_continues() {
    let front = Front::start(256, ms(2_000));
    let Some(mut slow) = Slow::start(&front, 400).await else {
        return;
    };
    let before = front.processor();
    let (answer, waited) = front.ask("/").await.unwrap();
    let spent = front.processor().zip(before).map(|(now, then)| now - then);
    println!("responded after {waited:?}, used {spent:?} hundredths of a second of the processor");
    assert_eq!(answer, "hello");
    assert!(
        waited > ms(500),
        "the server did not run out of files: {waited:?}"
    );
    assert!(
        spent.is_none_or(|spent| spent < 50),
        "the accept loop spins: {spent:?}"
    );
    assert_eq!(slow.line().await, "closed 400");
}

#[tokio::test]
async fn fault_d7_d23_d37_the_layers_work_around_any_router() {
    let handler = |Extension(client): Extension<ClientAddr>, body: String| async move {
        format!("{} {body}", client.0)
    };
    let proxies = ForwardedLayer::new(["127.0.0.0/8".parse().unwrap()]);
    let limit = BodyLimitConfig::new().max(4).timeout(ms(60_000));
    let router = Router::new().route("/", post(handler)).layer((
        GuardLayer::default(),
        proxies,
        BodyLimitLayer::new(limit).unwrap(),
    ));
    let addr = spawn(router).await;
    for (body, status, wanted) in [
        ("4\r\n1234\r\n0\r\n\r\n", 200, "203.0.113.7 1234"),
        ("5\r\n12345\r\n", 413, "payload_too_large"),
    ] {
        let head = "POST / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 6.6.6.6, 203.0.113.7\r\n\
                    connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = raw(addr, &format!("{head}{body}")).await;
        assert_eq!(status_and_code(&answer).0, status, "{answer}");
        assert!(answer.contains(wanted), "{answer}");
    }
    let answer = raw(addr, "POST / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status_and_code(&answer), (400, "bad_host"), "{answer}");
}
