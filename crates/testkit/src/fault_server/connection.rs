//! Reads the requests of one connection and sends their responses.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::{
    Request, ServerStats,
    fault::{End, Fault},
};

/// A byte stream over TCP, with or without TLS.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns the TCP connection below.
    fn tcp(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// Serves one connection until the peer or a fault ends it.
pub(super) async fn serve(
    mut stream: impl Transport,
    mut route: impl FnMut(&Request) -> Fault,
    stats: watch::Sender<ServerStats>,
) {
    let mut buffer = Vec::new();
    while let Some((request, keep_alive)) = read_request(&mut stream, &mut buffer).await {
        let fault = route(&request);
        let guard = InFlightGuard::start(stats.clone(), request);
        let end = perform(&mut stream, &mut buffer, &fault).await;
        guard.end(end.is_none());
        match end {
            Some(End::KeepAlive) if keep_alive => {}
            end => return end_connection(stream, end).await,
        }
    }
}

/// Sends `fault` and returns how to end the connection. Returns `None` if the peer closed it first.
async fn perform(stream: &mut impl Transport, buffer: &mut Vec<u8>, fault: &Fault) -> Option<End> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        biased; // a peer that closes right after the last byte did not cancel
        end = fault.play(&mut writer) => end.ok(),
        () = until_peer_closes(&mut reader, buffer) => None,
    }
}

/// Ends the connection as `end` says. Dropping the stream closes the socket.
async fn end_connection(mut stream: impl Transport, end: Option<End>) {
    match end {
        Some(End::CloseWithoutNotify) => {} // TLS would send close_notify in `shutdown`
        Some(End::Reset) => {
            // Closing a socket with a linger time of zero sends RST instead of FIN.
            stream.tcp().set_zero_linger().ok();
        }
        _ => {
            stream.shutdown().await.ok();
        }
    }
}

/// Reads ahead until the peer closes its sending half or the connection breaks.
pub(super) async fn until_peer_closes(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) {
    while let Ok(1..) = reader.read_buf(buffer).await {}
}

/// Reads the next request. Returns it and whether to keep the connection, or `None` if the peer left or
/// sent an invalid request.
async fn read_request(
    stream: &mut impl Transport,
    buffer: &mut Vec<u8>,
) -> Option<(Request, bool)> {
    let head_end = loop {
        match buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None => read_more(stream, buffer).await?,
        }
    };
    let head: Vec<u8> = buffer.drain(..head_end).collect();
    let (mut request, http_1_1) = parse_head(&String::from_utf8_lossy(&head))?;
    let length = request
        .header("content-length")
        .map_or(Some(0), |length| length.parse().ok())?;
    // Bytes after the body stay in `buffer`: they are the next, pipelined request.
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    request.body = buffer.drain(..length).collect();
    let says_close = request
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let keep_alive = http_1_1 && !says_close && request.header("transfer-encoding").is_none();
    Some((request, keep_alive))
}

async fn read_more(stream: &mut impl Transport, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

/// Waits for the first bytes of the peer, sends `fault` and ends the connection, without reading a
/// request.
#[cfg(feature = "tls")]
pub(super) async fn serve_broken_handshake(mut stream: TcpStream, fault: &Fault) {
    let mut buffer = Vec::new();
    if read_more(&mut stream, &mut buffer).await.is_some() {
        let end = perform(&mut stream, &mut buffer, fault).await;
        end_connection(stream, end).await;
    }
}

/// Parses a request head. Returns the request without its body, and whether it is HTTP/1.1.
fn parse_head(head: &str) -> Option<(Request, bool)> {
    let mut lines = head.lines();
    let mut start = lines.next()?.split(' ');
    let (method, path, version) = (start.next()?, start.next()?, start.next()?);
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers,
        body: Vec::new(),
    };
    Some((request, version == "HTTP/1.1"))
}

/// Counts one response as in flight until it ends or the server is dropped.
pub(super) struct InFlightGuard {
    stats: watch::Sender<ServerStats>,
    cancelled: bool,
}

impl InFlightGuard {
    pub(super) fn start(stats: watch::Sender<ServerStats>, request: Request) -> Self {
        stats.send_modify(|stats| {
            stats.requests.push(request);
            stats.in_flight += 1;
            stats.peak_in_flight = stats.peak_in_flight.max(stats.in_flight);
        });
        Self {
            stats,
            cancelled: false,
        }
    }

    pub(super) fn end(mut self, cancelled: bool) {
        self.cancelled = cancelled;
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.stats.send_modify(|stats| {
            stats.in_flight -= 1;
            stats.cancelled += usize::from(self.cancelled);
        });
    }
}
