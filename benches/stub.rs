//! The downstreams, in a process of their own, so that their processor time is not measured.

use std::{
    convert::Infallible,
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, time::sleep};

/// The argument that makes this program serve as downstreams. The number of downstreams follows.
pub(crate) const SERVE: &str = "--serve";

/// The path whose response takes [`DELAY`].
pub(crate) const SLOW: &str = "/slow";

/// Time until the response of a request for [`SLOW`].
const DELAY: Duration = Duration::from_secs(5);

/// Length of a response body in bytes.
const LENGTH: usize = 1024;

/// The running downstreams, which are killed on drop.
pub(crate) struct Stubs {
    process: Child,
    /// One address per downstream, such as `http://127.0.0.1:40001`.
    pub(crate) endpoints: Vec<Uri>,
}

impl Stubs {
    /// Starts this program again, as `downstreams` downstreams.
    pub(crate) fn start(downstreams: usize) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([SERVE, &downstreams.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(process.stdout.take().expect("the output is a pipe"));
        let endpoints = output.lines().take(downstreams);
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

/// Prints the addresses of `downstreams` downstreams, and serves until the input ends.
pub(crate) fn serve(downstreams: usize) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || runtime.block_on(join_all((0..downstreams).map(answer_all))));
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

async fn answer_all(downstream: usize) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    println!("http://{address}");
    let body = Bytes::from(body(downstream));
    while let Ok((stream, _)) = listener.accept().await {
        let body = body.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut response = Response::new(Full::new(body.clone()));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            let slow = request.uri().path() == SLOW;
            async move {
                if slow {
                    sleep(DELAY).await;
                }
                Ok::<_, Infallible>(response)
            }
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
