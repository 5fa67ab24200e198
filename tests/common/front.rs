//! The server loop in a process of its own, for tests that attack it and measure the process.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::atomic::AtomicU64,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tower_fanout_http::server::{CloseReason, ServerConfig, bind};

use super::*;

/// Environment variable that makes this program a server. Its value is the header timeout in milliseconds.
const ROLE: &str = "FRONT_DOOR_HEADER_TIMEOUT";

/// Runs the server if the parent process has set [`ROLE`]; does nothing if a test runner called.
///
/// `/slow` never responds, `/stream` responds with a body that never ends. `/mebibyte` responds with 1 MiB,
/// `/parts` with two parts, of which the second has 300 KiB and waits in memory. `/counts` responds with five
/// numbers: calls of other paths, calls in flight, open connections, connections that were closed for being
/// slow, and response bytes that are not sent.
pub(crate) async fn serve_if_requested() {
    let Ok(header_timeout) = std::env::var(ROLE) else {
        return;
    };
    let config = ServerConfig::default().header_timeout(ms(header_timeout.parse().unwrap()));
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    println!("\nlistening {}", listener.local_addr().unwrap());
    let router = counting(config.connections.clone());
    let server = Server::new(config).unwrap();
    server.serve(listener, router, std::future::pending()).await;
}

/// Counts a call as in flight until it is dropped.
struct Live(Arc<AtomicU64>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn counting(connections: tower_fanout_http::server::Connections) -> Router {
    let (calls, live) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    Router::new().fallback(async move |request: Request| {
        if request.uri().path() == "/counts" {
            let (calls, live) = (calls.load(Ordering::SeqCst), live.load(Ordering::SeqCst));
            let (open, slow) = (connections.open(), connections.closed(CloseReason::Slow));
            let unsent = connections.unsent();
            return format!("{calls} {live} {open} {slow} {unsent}").into();
        }
        calls.fetch_add(1, Ordering::SeqCst);
        live.fetch_add(1, Ordering::SeqCst);
        let _live = Live(Arc::clone(&live));
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        if request.uri().path() == "/stream" {
            return Body::from_stream(futures_util::stream::pending::<Result<String, Infallible>>());
        }
        if request.uri().path() == "/parts" {
            let parts = ["first".to_owned(), "x".repeat(300 << 10)];
            let parts = parts.map(Ok::<_, Infallible>);
            return Body::from_stream(futures_util::stream::iter(parts));
        }
        if request.uri().path() == "/mebibyte" {
            return "x".repeat(1 << 20).into();
        }
        Body::from("hello")
    })
}

/// The numbers of `/counts`.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) live: u64,
    pub(crate) open: u64,
    pub(crate) slow: u64,
    pub(crate) unsent: u64,
}

/// A server in another process, which is killed on drop.
pub(crate) struct Front {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Front {
    /// Starts this test program again, as a server that may open `files` files. The program needs a test
    /// `serve_for_others` that calls [`serve_if_requested`].
    pub(crate) fn start(files: u32, header_timeout: Duration) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("ulimit -n {files} && exec \"$0\" \"$@\""))
            .arg(program)
            .args(["--exact", "serve_for_others", "--nocapture"])
            .env(ROLE, header_timeout.as_millis().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening ")?.parse().ok())
            .expect("the server did not print its address");
        Self { child, addr }
    }

    /// Returns the memory in use, in MiB; `None` without `/proc`.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes >> 10)
    }

    /// Returns the processor time used, in hundredths of a second; `None` without `/proc`.
    pub(crate) fn processor(&self) -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    }

    /// Sends a request on a new connection. Returns the body and the duration.
    pub(crate) async fn ask(&self, path: &str) -> std::io::Result<(String, Duration)> {
        let start = Instant::now();
        let mut stream = TcpStream::connect(self.addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        Ok((body.to_owned(), start.elapsed()))
    }

    pub(crate) async fn counts(&self) -> Counts {
        let (text, _) = self.ask("/counts").await.unwrap();
        let counts: Vec<u64> = text
            .split(' ')
            .map(|count| count.parse().unwrap())
            .collect();
        let [calls, live, open, slow, unsent] = counts[..] else {
            panic!("{text}");
        };
        Counts {
            calls,
            live,
            open,
            slow,
            unsent,
        }
    }

    /// Waits up to 30 s until the counts fulfil `condition`, and returns them.
    pub(crate) async fn until(&self, condition: impl Fn(&Counts) -> bool) -> Counts {
        let reached = async {
            loop {
                let counts = self.counts().await;
                if condition(&counts) {
                    return counts;
                }
                tokio::time::sleep(ms(5)).await;
            }
        };
        match tokio::time::timeout(ms(30_000), reached).await {
            Ok(counts) => counts,
            Err(_) => panic!("{:?}", self.counts().await),
        }
    }

    /// Returns the 99th percentile of the durations of `requests` requests, each on a new connection.
    pub(crate) async fn p99(&self, requests: usize) -> Duration {
        let mut took = Vec::with_capacity(requests);
        for _ in 0..requests {
            took.push(self.ask("/").await.unwrap().1);
        }
        took.sort();
        took[requests * 99 / 100]
    }
}
