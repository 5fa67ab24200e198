//! The response to one request, possibly broken.

mod framing;
mod responses;
mod transport;

use std::{future::pending, io, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::sleep,
};

/// A response as a list of bytes and pauses, and an end for the connection.
///
/// Constructors such as [`json`](Self::json) and [`reset_in_body`](Self::reset_in_body) create common
/// responses and failures. The methods with `self` add a part or set the end. By default the
/// connection stays open.
///
/// ```
/// use std::time::Duration;
/// use tower_fanout_testkit::fault_server::Fault;
///
/// let slow = Fault::json(r#"{"id":7}"#).after(Duration::from_millis(20));
/// let cut_head = Fault::new().send("HTTP/1.1 200 OK\r\ncontent-le").reset();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Fault {
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    SendForever(Vec<u8>),
    Pause(Duration),
}

/// The state of the connection after the response.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum End {
    #[default]
    KeepAlive,
    Close,
    CloseWithoutNotify,
    Reset,
    Stall,
}

// === parts and ends ===

impl Fault {
    /// Creates a fault that sends nothing and waits for the next request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes, which are sent unchanged.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.steps.push(Step::Send(bytes.into()));
        self
    }

    /// Adds bytes that are sent again and again until the peer closes the connection.
    ///
    /// # Panics
    ///
    /// Panics if `bytes` is empty.
    #[must_use]
    pub fn send_forever(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        assert!(!bytes.is_empty(), "`send_forever` needs at least one byte");
        self.steps.push(Step::SendForever(bytes));
        self
    }

    /// Adds a pause of `time`.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.steps.push(Step::Pause(time));
        self
    }

    /// Delays the whole response by `time`.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.steps.insert(0, Step::Pause(time));
        self
    }

    /// Closes the connection after the response.
    #[must_use]
    pub fn close(self) -> Self {
        self.end(End::Close)
    }

    /// Closes the connection after the response, without the `close_notify` alert of TLS.
    ///
    /// A client cannot distinguish such a response from one that an attacker truncated
    /// (RFC 8446 §6.1). Without TLS, this is the same as [`close`](Self::close).
    #[must_use]
    pub fn close_without_notify(self) -> Self {
        self.end(End::CloseWithoutNotify)
    }

    /// Resets the connection after the response (TCP RST).
    #[must_use]
    pub fn reset(self) -> Self {
        self.end(End::Reset)
    }

    /// Keeps the connection open and silent after the response, until the peer closes it.
    #[must_use]
    pub fn stall(self) -> Self {
        self.end(End::Stall)
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    fn then(mut self, next: Self) -> Self {
        self.steps.extend(next.steps);
        self.end(next.end)
    }

    pub(super) async fn play(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<End> {
        for step in &self.steps {
            match step {
                Step::Send(bytes) => send(writer, bytes).await?,
                Step::SendForever(bytes) => loop {
                    send(writer, bytes).await?;
                },
                Step::Pause(time) => sleep(*time).await,
            }
        }
        match self.end {
            End::Stall => pending().await, // the caller watches for the peer to close
            end => Ok(end),
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await // TLS buffers what it could not write yet
}

// === building blocks ===

/// The first part of a body that is never sent completely.
pub(super) const PARTIAL_BODY: &str = r#"{"id": 7, "na"#;

fn status_line(status: u16) -> String {
    format!("HTTP/1.1 {status} \r\n") // RFC 9112 §4 requires the space, but no reason phrase
}

fn json_head(length: usize) -> Fault {
    head(&format!("content-length: {length}"))
}

fn chunked_head() -> Fault {
    head("transfer-encoding: chunked")
}

fn head(framing: &str) -> Fault {
    let status = status_line(200);
    Fault::new().send(format!(
        "{status}content-type: application/json\r\n{framing}\r\n\r\n"
    ))
}
