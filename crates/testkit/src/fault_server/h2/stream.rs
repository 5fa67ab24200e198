//! What the server does with one stream.

use std::{
    future::{pending, poll_fn},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::time::sleep;

/// An answer on one stream, as a chain of frames, pauses and an end.
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
    acts: Vec<Act>,
    end: End,
}

#[derive(Clone, Debug)]
enum Act {
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
    Connection(Farewell),
}

/// How a stream takes its connection with it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Farewell {
    /// GOAWAY once the answer is sent; the other streams end in peace.
    Graceful,
    /// GOAWAY that counts this stream in, and the end of the connection.
    AtOnce(Reason),
    /// GOAWAY that leaves this stream out, and the end of the connection.
    Before(Reason),
    /// RST of TCP.
    Reset,
}

// === the parts ===

impl StreamFault {
    /// Sends nothing; without a head, the end of it is RST_STREAM with INTERNAL_ERROR.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Then sends an interim answer.
    ///
    /// # Panics
    ///
    /// Panics if `status` is not in 100..=999; the server ignores what is not 1xx.
    #[must_use]
    pub fn interim(self, status: u16) -> Self {
        self.act(Act::Interim(self::status(status)))
    }

    /// Then sends the head of the answer.
    ///
    /// # Panics
    ///
    /// Panics if `status` is not in 100..=999, or `headers` have what no header can have.
    #[must_use]
    pub fn head(self, status: u16, headers: &[(&str, &str)]) -> Self {
        self.act(Act::Head(self::status(status), header_map(headers)))
    }

    /// Then sends a piece of the body, as fast as the peer's windows let it.
    #[must_use]
    pub fn data(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.act(Act::Data(bytes.into().into()))
    }

    /// Then waits.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.act(Act::Pause(time))
    }

    /// Waits before all the rest.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.acts.insert(0, Act::Pause(time));
        self
    }

    /// At last sends trailers; without them a stream ends with its data.
    ///
    /// # Panics
    ///
    /// Panics if `headers` have what no header can have.
    #[must_use]
    pub fn trailers(self, headers: &[(&str, &str)]) -> Self {
        self.end(End::Trailers(header_map(headers)))
    }

    /// At last keeps the stream open and silent until the peer resets it.
    #[must_use]
    pub fn stall(self) -> Self {
        self.end(End::Stall)
    }

    /// At last sends RST_STREAM with `reason`.
    #[must_use]
    pub fn then_rst(self, reason: Reason) -> Self {
        self.end(End::Rst(reason))
    }

    fn act(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    fn farewell(self, farewell: Farewell) -> Self {
        self.end(End::Connection(farewell))
    }
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status of three digits")
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a header name");
        (name, HeaderValue::from_str(value).expect("a header value"))
    };
    headers.iter().map(header).collect()
}

// === answers ===

impl StreamFault {
    /// Answers with `status`, `headers` and `body`; `content-length` is sent only if it is given.
    #[must_use]
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        Self::new().head(status, headers).data(body)
    }

    /// Answers 200 with a body that says it is JSON.
    #[must_use]
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::answer(200, &[JSON], body)
    }

    /// Sends `count` interim answers with status 103, then answers `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        let storm = (0..count).fold(Self::new(), |storm, _| storm.interim(103));
        storm.head(200, &[JSON]).data("{}")
    }

    /// Sends the head and a body that never ends, as fast as the peer's windows let it.
    #[must_use]
    pub fn endless() -> Self {
        let piece = Bytes::from_static(&[b'x'; 16 * 1024]);
        Self::new().head(200, &[JSON]).act(Act::Endless(piece))
    }

    /// Answers as [`json`](Self::json); then says GOAWAY for streams to come, and closes the
    /// connection when its other streams are over.
    #[must_use]
    pub fn go_away(body: impl Into<Vec<u8>>) -> Self {
        Self::json(body).farewell(Farewell::Graceful)
    }
}

// === broken streams ===

impl StreamFault {
    /// Accepts the request and never answers.
    #[must_use]
    pub fn never_answer() -> Self {
        Self::new().stall()
    }

    /// Sends the head and a part of the body, and never the rest.
    #[must_use]
    pub fn stall_in_body() -> Self {
        part().stall()
    }

    /// Sends RST_STREAM with `reason` instead of an answer.
    #[must_use]
    pub fn rst(reason: Reason) -> Self {
        Self::new().then_rst(reason)
    }

    /// Sends RST_STREAM with REFUSED_STREAM: nothing was done, try again (RFC 9113 §8.7).
    #[must_use]
    pub fn refused() -> Self {
        Self::rst(Reason::REFUSED_STREAM)
    }

    /// Sends the head, a part of the body, and RST_STREAM with `reason`.
    #[must_use]
    pub fn rst_in_body(reason: Reason) -> Self {
        part().then_rst(reason)
    }

    /// Says GOAWAY with `reason` and this stream as the last it saw, and closes the connection
    /// without an answer: this request may have been done.
    #[must_use]
    pub fn go_away_at_once(reason: Reason) -> Self {
        Self::new().farewell(Farewell::AtOnce(reason))
    }

    /// Says GOAWAY with `reason` and the stream before this as the last it saw, and closes the
    /// connection: this request was not done, try again (RFC 9113 §6.8).
    #[must_use]
    pub fn go_away_before(reason: Reason) -> Self {
        Self::new().farewell(Farewell::Before(reason))
    }

    /// Resets the TCP connection, with all its streams, instead of answering.
    #[must_use]
    pub fn reset() -> Self {
        Self::new().farewell(Farewell::Reset)
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// The begin of an answer that is never sent whole.
fn part() -> StreamFault {
    StreamFault::new()
        .head(200, &[JSON])
        .data(super::super::fault::PART)
}

// === playing it ===

/// The stream is over before the answer was: the peer reset it, or left.
pub(super) struct Left;

impl From<h2::Error> for Left {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

/// Both halves of an answer; the second is there once the head is sent.
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

    /// Its number on the connection: 1, 3, 5 and so on.
    pub(super) fn id(&self) -> u32 {
        self.respond.stream_id().as_u32()
    }

    /// Plays `fault`, and returns what is to become of the connection.
    pub(super) async fn play(&mut self, fault: StreamFault) -> Result<Option<Farewell>, Left> {
        for act in fault.acts {
            match act {
                Act::Interim(status) => self.respond.send_informational(response(status))?,
                Act::Head(status, headers) => {
                    let mut head = response(status);
                    *head.headers_mut() = headers;
                    self.body = Some(self.respond.send_response(head, false)?);
                }
                Act::Data(bytes) => self.data(bytes).await?,
                Act::Endless(bytes) => loop {
                    self.data(bytes.clone()).await?;
                },
                Act::Pause(time) => self.until_reset(sleep(time)).await?,
            }
        }
        self.finish(fault.end).await
    }

    async fn finish(&mut self, end: End) -> Result<Option<Farewell>, Left> {
        match (end, &mut self.body) {
            (End::Stall, _) => self.until_reset(pending()).await?,
            (End::Rst(reason), _) => self.respond.send_reset(reason),
            (End::Trailers(trailers), Some(body)) => body.send_trailers(trailers)?,
            (End::Connection(farewell), None) => return Ok(Some(farewell)),
            (End::Connection(farewell), Some(body)) => {
                body.send_data(Bytes::new(), true)?;
                return Ok(Some(farewell));
            }
            (_, Some(body)) => body.send_data(Bytes::new(), true)?,
            (_, None) => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
        Ok(None)
    }

    /// Sends `bytes` as the windows open; none are sent before the head.
    async fn data(&mut self, mut bytes: Bytes) -> Result<(), Left> {
        let body = self.body.as_mut().ok_or(Left)?;
        while !bytes.is_empty() {
            body.reserve_capacity(bytes.len());
            let window = poll_fn(|cx| body.poll_capacity(cx)).await.ok_or(Left)??;
            body.send_data(bytes.split_to(window.min(bytes.len())), false)?;
        }
        Ok(())
    }

    /// Waits for `event`, unless the peer resets the stream before.
    async fn until_reset(&mut self, event: impl Future<Output = ()>) -> Result<(), Left> {
        let reset = poll_fn(|cx| match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        });
        tokio::select! {
            biased;
            () = event => Ok(()),
            _ = reset => Err(Left),
        }
    }
}

fn response(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}
