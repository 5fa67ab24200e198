//! What the server does with one request.

mod answers;
mod bomb;
mod framing;
mod heads;
mod transport;

use std::{future::pending, io, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::sleep,
};

/// An answer, as a chain of bytes, pauses and an end.
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
    acts: Vec<Act>,
    end: End,
}

#[derive(Clone, Debug)]
enum Act {
    Send(Vec<u8>),
    SendForever(Vec<u8>),
    Pause(Duration),
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum End {
    #[default]
    KeepAlive,
    Close,
    Cut,
    Reset,
    Stall,
}

// === the parts ===

impl Fault {
    /// Sends nothing and waits for the next request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Then sends exactly these bytes.
    #[must_use]
    pub fn send(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.acts.push(Act::Send(bytes.into()));
        self
    }

    /// Then sends these bytes again and again, until the peer leaves.
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    #[must_use]
    pub fn send_forever(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        assert!(!bytes.is_empty(), "nothing cannot be sent forever");
        self.acts.push(Act::SendForever(bytes));
        self
    }

    /// Then waits.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.acts.push(Act::Pause(time));
        self
    }

    /// Waits before all the rest.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.acts.insert(0, Act::Pause(time));
        self
    }

    /// At last closes the connection.
    #[must_use]
    pub fn close(self) -> Self {
        self.end(End::Close)
    }

    /// At last closes the connection and, within TLS, does not say so before: a client cannot tell a
    /// whole answer from one that somebody cut (RFC 8446 §6.1).
    #[must_use]
    pub fn cut(self) -> Self {
        self.end(End::Cut)
    }

    /// At last resets the connection (RST, by a linger of zero).
    #[must_use]
    pub fn reset(self) -> Self {
        self.end(End::Reset)
    }

    /// At last keeps the connection open and silent until the peer closes it.
    #[must_use]
    pub fn stall(self) -> Self {
        self.end(End::Stall)
    }

    /// Closes the connection at last, if nothing else was to happen to it.
    pub(super) fn or_close(self) -> Self {
        match self.end {
            End::KeepAlive => self.close(),
            _ => self,
        }
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    fn then(mut self, next: Self) -> Self {
        self.acts.extend(next.acts);
        self.end(next.end)
    }

    pub(super) async fn play(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<End> {
        for act in &self.acts {
            match act {
                Act::Send(bytes) => send(writer, bytes).await?,
                Act::SendForever(bytes) => loop {
                    send(writer, bytes).await?;
                },
                Act::Pause(time) => sleep(*time).await,
            }
        }
        match self.end {
            End::Stall => pending().await,
            end => Ok(end),
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await // TLS keeps what it could not write yet
}

// === what the answers are made of ===

/// The begin of a body that is never sent whole.
pub(super) const PART: &str = r#"{"id": 7, "na"#;

fn status_line(status: u16) -> String {
    format!("HTTP/1.1 {status} \r\n") // RFC 9112 §4: the reason may be empty, the space may not
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
