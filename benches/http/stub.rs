//! The downstreams, in a process of their own, so that their processor time is not measured.

use std::{
    convert::Infallible,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
};

use bytes::Bytes;
use http::{Response, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The argument that makes this program serve as the downstreams.
pub(crate) const SERVE: &str = "--serve";

/// Number of downstreams.
pub(crate) const DOWNSTREAMS: usize = 4;

/// Length of a response body in bytes.
const LENGTH: usize = 1024;

/// The running downstreams, which are killed on drop.
pub(crate) struct Stubs {
    process: Child,
    /// One address per downstream, such as `http://127.0.0.1:40001`.
    pub(crate) endpoints: Vec<Uri>,
}

impl Stubs {
    /// Starts this program again, as the downstreams.
    pub(crate) fn start() -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().expect("the output is a pipe"));
        let endpoints = output.lines().take(DOWNSTREAMS);
        let endpoints = endpoints.map(|line| line?.parse().map_err(io::Error::other));
        Ok(Self {
            endpoints: endpoints.collect::<io::Result<_>>()?,
            process,
        })
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Prints the addresses of the downstreams, and serves until the input ends.
pub(crate) fn serve() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    thread::spawn(move || runtime.block_on(listen()));
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

async fn listen() {
    for downstream in 1..DOWNSTREAMS {
        tokio::spawn(answer_all(downstream));
    }
    answer_all(0).await;
}

async fn answer_all(downstream: usize) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    println!("http://{address}");
    let body = Bytes::from(body(downstream));
    while let Ok((stream, _)) = listener.accept().await {
        let body = body.clone();
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            async { Ok::<_, Infallible>(response) }
        });
        let _ = stream.set_nodelay(true);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Returns a body with a list of small objects, padded to [`LENGTH`].
fn body(downstream: usize) -> String {
    let mut body = format!("{{\"downstream\":{downstream},\"items\":[");
    for item in 0..14 {
        let _ = write!(
            body,
            "{{\"id\":{item},\"name\":\"item {item}\",\"price\":{item}.25,\"in_stock\":true}},"
        );
    }
    body.pop();
    body.push_str("],\"note\":\"");
    let rest = LENGTH - body.len() - "\"}".len();
    body.extend(std::iter::repeat_n('x', rest));
    body.push_str("\"}");
    body
}
