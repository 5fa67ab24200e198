//! The response on one stream, possibly broken.

use std::{
    future::{pending, poll_fn},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::sleep;

/// A response on one stream as a list of frames and pauses, and an end.
///
/// Constructors such as [`json`](Self::json) and [`rst`](Self::rst) create common responses and
/// failures. The methods with `self` add a part or set the end. By default the stream ends after its
/// last part.
///
/// ```
/// use std::time::Duration;
/// use tower_fanout_testkit::fault_server::h2::{Reason, StreamFault};
///
/// let slow = StreamFault::json(r#"{"id":7}"#).after(Duration::from_millis(20));
/// let late_trailers = StreamFault::new()
///     .head(200, &[("content-type", "application/json")])
///     .data(r#"{"id":"#)
///     .pause(Duration::from_millis(20))
///     .data("7}")
///     .trailers(&[("x-sum", "1")]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct StreamFault {
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug)]
enum Step {
    Interim(StatusCode),
    Head(StatusCode, HeaderMap),
    Data(Bytes),
    Endless(Bytes),
    Pause(Duration),
}

#[derive(Clone, Debug, Default)]
enum End {
    #[default]
    Whole,
    Trailers(HeaderMap),
    Stall,
    Rst(Reason),
    Connection(ConnectionEnd),
}

/// The end of a connection that follows the end of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum ConnectionEnd {
    /// GOAWAY after the response. The other streams complete.
    Graceful,
    /// GOAWAY that counts this stream as processed, then the end of the connection.
    GoAway(Reason),
    /// GOAWAY that does not count this stream as processed, then the end of the connection.
    GoAwayUnprocessed(Reason),
    /// A TCP reset.
    Reset,
}

// === parts and ends ===

impl StreamFault {
    /// Creates a fault without parts.
    ///
    /// A stream that ends without a head is reset with INTERNAL_ERROR.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an interim response. The server ignores a `status` other than 1xx.
    ///
    /// # Panics
    ///
    /// Panics if `status` is not in 100..=999.
    #[must_use]
    pub fn interim(self, status: u16) -> Self {
        self.step(Step::Interim(self::status(status)))
    }

    /// Adds the head of the response.
    ///
    /// # Panics
    ///
    /// Panics if `status` is not in 100..=999, or a header name or value is invalid.
    #[must_use]
    pub fn head(self, status: u16, headers: &[(&str, &str)]) -> Self {
        self.step(Step::Head(self::status(status), header_map(headers)))
    }

    /// Adds a part of the body. Add a [`head`](Self::head) first, because no data is sent before it.
    ///
    /// The server sends the part as fast as the flow-control windows of the peer allow.
    #[must_use]
    pub fn data(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.step(Step::Data(bytes.into().into()))
    }

    /// Adds a pause of `time`.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Delays the whole response by `time`.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.steps.insert(0, Step::Pause(time));
        self
    }

    /// Ends the stream with trailers instead of the last data frame.
    ///
    /// # Panics
    ///
    /// Panics if a header name or value is invalid.
    #[must_use]
    pub fn trailers(self, headers: &[(&str, &str)]) -> Self {
        self.end(End::Trailers(header_map(headers)))
    }

    /// Keeps the stream open and silent after its parts, until the peer resets it.
    #[must_use]
    pub fn stall(self) -> Self {
        self.end(End::Stall)
    }

    /// Ends the stream with RST_STREAM and `reason`.
    #[must_use]
    pub fn then_rst(self, reason: Reason) -> Self {
        self.end(End::Rst(reason))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    fn end_connection(self, end: ConnectionEnd) -> Self {
        self.end(End::Connection(end))
    }
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status)
        .unwrap_or_else(|_| panic!("status must be in 100..=999, got {status}"))
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("the header name must be valid");
        let value = HeaderValue::from_str(value).expect("the header value must be valid");
        (name, value)
    };
    headers.iter().map(header).collect()
}

// === responses ===

impl StreamFault {
    /// Responds with `status`, `headers` and `body`. No `content-length` is added.
    #[must_use]
    pub fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new().head(status, headers).data(body)
    }

    /// Responds with 200, `content-type: application/json` and `body`, which is not validated.
    #[must_use]
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::response(200, &[JSON], body)
    }

    /// Sends `count` interim responses with status 103, then responds with `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        let storm = (0..count).fold(Self::new(), |storm, _| storm.interim(103));
        storm.head(200, &[JSON]).data("{}")
    }

    /// Sends the head and an endless body, as fast as the flow-control windows of the peer allow.
    #[must_use]
    pub fn endless_body() -> Self {
        let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
        Self::new().head(200, &[JSON]).step(Step::Endless(piece))
    }

    /// Responds like [`json`](Self::json), then sends GOAWAY and closes the connection when its other
    /// streams are complete.
    #[must_use]
    pub fn go_away(body: impl Into<Vec<u8>>) -> Self {
        Self::json(body).end_connection(ConnectionEnd::Graceful)
    }
}

// === broken streams ===

impl StreamFault {
    /// Reads the request and never responds.
    #[must_use]
    pub fn never_respond() -> Self {
        Self::new().stall()
    }

    /// Sends the head and part of the body and then stalls.
    #[must_use]
    pub fn stall_in_body() -> Self {
        part().stall()
    }

    /// Sends RST_STREAM with `reason` instead of a response.
    #[must_use]
    pub fn rst(reason: Reason) -> Self {
        Self::new().then_rst(reason)
    }

    /// Sends RST_STREAM with REFUSED_STREAM: the request was not processed, so a retry is safe
    /// (RFC 9113 §8.7).
    #[must_use]
    pub fn refused_stream() -> Self {
        Self::rst(Reason::REFUSED_STREAM)
    }

    /// Sends the head and part of the body, then RST_STREAM with `reason`.
    #[must_use]
    pub fn rst_in_body(reason: Reason) -> Self {
        part().then_rst(reason)
    }

    /// Sends GOAWAY with `reason` and this stream as the last one processed, and closes the connection
    /// without a response.
    ///
    /// The request may have been processed, so a retry is not safe in general.
    #[must_use]
    pub fn go_away_and_close(reason: Reason) -> Self {
        Self::new().end_connection(ConnectionEnd::GoAway(reason))
    }

    /// Sends GOAWAY with `reason` and the previous stream as the last one processed, and closes the
    /// connection.
    ///
    /// The request was not processed, so a retry is safe (RFC 9113 §6.8).
    #[must_use]
    pub fn go_away_unprocessed(reason: Reason) -> Self {
        Self::new().end_connection(ConnectionEnd::GoAwayUnprocessed(reason))
    }

    /// Resets the TCP connection with all its streams instead of responding.
    #[must_use]
    pub fn reset_connection() -> Self {
        Self::new().end_connection(ConnectionEnd::Reset)
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Returns a head and the first part of a body that is never sent completely.
fn part() -> StreamFault {
    StreamFault::new()
        .head(200, &[JSON])
        .data(super::super::fault::PARTIAL_BODY)
}

// === sending ===

/// The peer reset the stream or left before the response was complete.
pub(super) struct PeerLeft;

impl From<h2::Error> for PeerLeft {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

/// Both halves of a response. The body exists once the head is sent.
pub(super) struct Stream {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
}

impl Stream {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self {
            respond,
            body: None,
        }
    }

    /// Returns the stream id: 1, 3, 5 and so on.
    pub(super) fn id(&self) -> u32 {
        self.respond.stream_id().as_u32()
    }

    /// Sends `fault`. Returns how to end the connection, or `None` to keep it.
    pub(super) async fn play(
        &mut self,
        fault: StreamFault,
    ) -> Result<Option<ConnectionEnd>, PeerLeft> {
        for step in fault.steps {
            match step {
                Step::Interim(status) => self.respond.send_informational(response(status))?,
                Step::Head(status, headers) => {
                    let mut head = response(status);
                    *head.headers_mut() = headers;
                    self.body = Some(self.respond.send_response(head, false)?);
                }
                Step::Data(bytes) => self.data(bytes).await?,
                Step::Endless(bytes) => loop {
                    self.data(bytes.clone()).await?;
                },
                Step::Pause(time) => self.until_reset(sleep(time)).await?,
            }
        }
        self.finish(fault.end).await
    }

    async fn finish(&mut self, end: End) -> Result<Option<ConnectionEnd>, PeerLeft> {
        match (end, &mut self.body) {
            (End::Stall, _) => self.until_reset(pending()).await?,
            (End::Rst(reason), _) => self.respond.send_reset(reason),
            (End::Trailers(trailers), Some(body)) => body.send_trailers(trailers)?,
            (End::Connection(end), None) => return Ok(Some(end)),
            // The response must be complete before the connection ends.
            (End::Connection(end), Some(body)) => {
                body.send_data(Bytes::new(), true)?;
                return Ok(Some(end));
            }
            (_, Some(body)) => body.send_data(Bytes::new(), true)?,
            (_, None) => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
        Ok(None)
    }

    /// Sends `bytes` as the flow-control windows open.
    async fn data(&mut self, mut bytes: Bytes) -> Result<(), PeerLeft> {
        let body = self.body.as_mut().ok_or(PeerLeft)?;
        while !bytes.is_empty() {
            body.reserve_capacity(bytes.len());
            let window = poll_fn(|cx| body.poll_capacity(cx))
                .await
                .ok_or(PeerLeft)??;
            body.send_data(bytes.split_to(window.min(bytes.len())), false)?;
        }
        Ok(())
    }

    /// Waits for `event`, or returns an error if the peer resets the stream first.
    async fn until_reset(&mut self, event: impl Future<Output = ()>) -> Result<(), PeerLeft> {
        let reset = poll_fn(|cx| match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        tokio::select! {
            biased;
            () = event => Ok(()),
            _ = reset => Err(PeerLeft),
        }
    }
}

fn response(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}
