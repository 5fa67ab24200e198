//! Reads requests off one connection and plays their answers.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use super::{
    Connection, Request, Seen,
    fault::{End, Fault},
};

/// A stream of bytes over TCP, with or without TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// Serves one connection until it ends, by the peer or by a fault.
pub(super) async fn serve(
    mut stream: impl Wire,
    mut route: impl FnMut(&Request) -> Fault,
    seen: watch::Sender<Seen>,
) {
    let mut buffer = Vec::new();
    while let Some((request, keep_alive)) = read_request(&mut stream, &mut buffer).await {
        let fault = route(&request);
        let flight = Flight::start(seen.clone(), request);
        let end = perform(&mut stream, &mut buffer, &fault).await;
        flight.end(end.is_none());
        match end {
            Some(End::KeepAlive) if keep_alive => {}
            end => return finish(stream, end).await,
        }
    }
}

/// Does with one connection what its `script` says.
pub(super) async fn serve_script(
    mut stream: impl Wire,
    script: Connection,
    seen: watch::Sender<Seen>,
) {
    match &script.first {
        Some(fault) => {
            let end = perform(&mut stream, &mut Vec::new(), fault).await;
            finish(stream, end).await;
        }
        None => serve(stream, script.into_route(), seen).await,
    }
}

/// Plays `fault`, and returns how it ends; `None` when the peer left before.
async fn perform(stream: &mut impl Wire, buffer: &mut Vec<u8>, fault: &Fault) -> Option<End> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::select! {
        biased; // who closes after the last byte did not cancel
        end = fault.play(&mut writer) => end.ok(),
        () = closed(&mut reader, buffer) => None,
    }
}

/// Ends the connection.
async fn finish(mut stream: impl Wire, end: Option<End>) {
    match end {
        Some(End::Cut) => {}
        Some(End::Reset) => {
            stream.tcp().set_zero_linger().ok();
        }
        _ => {
            stream.shutdown().await.ok();
        }
    } // and it is dropped
}

/// Reads ahead, and returns when the peer closed its side or the connection broke.
pub(super) async fn closed(reader: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) {
    while let Ok(1..) = reader.read_buf(buffer).await {}
}

/// The next request, and whether the connection lives on after it; `None` when the peer is gone.
async fn read_request(stream: &mut impl Wire, buffer: &mut Vec<u8>) -> Option<(Request, bool)> {
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

async fn read_more(stream: &mut impl Wire, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

/// Reads what the peer says first, plays `fault` and ends the connection, with no request at all.
#[cfg(feature = "tls")]
pub(super) async fn interrupt(mut stream: TcpStream, fault: &Fault) {
    let mut buffer = Vec::new();
    if read_more(&mut stream, &mut buffer).await.is_some() {
        let end = perform(&mut stream, &mut buffer, fault).await;
        finish(stream, end).await;
    }
}

/// The head without its body, and whether its version is HTTP/1.1.
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

/// One answer that is being sent; dropped with the server, it is no longer in flight either.
pub(super) struct Flight {
    seen: watch::Sender<Seen>,
    cancelled: bool,
}

impl Flight {
    pub(super) fn start(seen: watch::Sender<Seen>, request: Request) -> Self {
        seen.send_modify(|seen| {
            seen.requests.push(request);
            seen.in_flight += 1;
            seen.peak_in_flight = seen.peak_in_flight.max(seen.in_flight);
        });
        Self {
            seen,
            cancelled: false,
        }
    }

    pub(super) fn end(mut self, cancelled: bool) {
        self.cancelled = cancelled;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.seen.send_modify(|seen| {
            seen.in_flight -= 1;
            seen.cancelled += usize::from(self.cancelled);
        });
    }
}
