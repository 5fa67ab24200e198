//! What the server does with one request.

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
    Pause(Duration),
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum End {
    #[default]
    KeepAlive,
    Close,
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

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    pub(super) async fn play(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<End> {
        for act in &self.acts {
            match act {
                Act::Send(bytes) => {
                    writer.write_all(bytes).await?;
                    writer.flush().await?; // TLS keeps what it could not write yet
                }
                Act::Pause(time) => sleep(*time).await,
            }
        }
        match self.end {
            End::Stall => pending().await,
            end => Ok(end),
        }
    }
}

// === good answers ===

impl Fault {
    /// Answers with `status`, `headers`, and `body` with its length.
    ///
    /// A status that has no body (204, 304) gets no `content-length` if `body` is empty.
    #[must_use]
    pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut head = status_line(status);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || !matches!(status, 204 | 304) {
            head += &format!("content-length: {}\r\n", body.len());
        }
        Self::new().send([head.as_bytes(), b"\r\n", body].concat())
    }

    /// Answers 200 with a body that says it is JSON.
    #[must_use]
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::answer(200, &[("content-type", "application/json")], body)
    }

    /// Answers as [`json`](Self::json), but sends one byte of the body in each `every`.
    #[must_use]
    pub fn drip(body: impl AsRef<[u8]>, every: Duration) -> Self {
        let body = body.as_ref();
        body.iter().fold(json_head(body.len()), |drip, byte| {
            drip.pause(every).send([*byte])
        })
    }

    /// Answers 302 to `location`.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::answer(302, &[("location", location)], "")
    }

    /// Answers 200 with a page of HTML.
    #[must_use]
    pub fn html() -> Self {
        Self::answer(
            200,
            &[("content-type", "text/html")],
            "<!doctype html><title>Sorry</title>",
        )
    }

    /// Sends `count` interim answers with status 103, then answers `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        let mut answer = Self::new().send(format!("{}\r\n", status_line(103)).repeat(count));
        answer.acts.extend(Self::json("{}").acts);
        answer
    }

    /// Answers `{}` with `count` headers more, whose values are `size` bytes long.
    #[must_use]
    pub fn huge_headers(count: usize, size: usize) -> Self {
        let value = "x".repeat(size);
        let names: Vec<String> = (0..count).map(|n| format!("x-huge-{n}")).collect();
        let headers: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), value.as_str()))
            .collect();
        Self::answer(200, &headers, "{}")
    }

    /// Answers with arrays in arrays, `depth` levels deep.
    #[must_use]
    pub fn deep_json(depth: usize) -> Self {
        Self::json("[".repeat(depth) + &"]".repeat(depth))
    }

    /// Answers with something that says it is JSON and is not.
    #[must_use]
    pub fn invalid_json() -> Self {
        Self::json(r#"{"id": NaN,}"#)
    }
}

// === broken answers ===

impl Fault {
    /// Accepts the request and never answers.
    #[must_use]
    pub fn never_answer() -> Self {
        Self::new().stall()
    }

    /// Sends the head and a part of the body, and never the rest.
    #[must_use]
    pub fn stall_in_body() -> Self {
        json_head(100).send(PART).stall()
    }

    /// Resets the connection instead of answering.
    #[must_use]
    pub fn reset_before_head() -> Self {
        Self::new().reset()
    }

    /// Resets the connection within the body.
    #[must_use]
    pub fn reset_in_body() -> Self {
        json_head(100).send(PART).reset()
    }

    /// Closes the connection before as many bytes are sent as `content-length` says.
    #[must_use]
    pub fn length_too_long() -> Self {
        json_head(100).send(PART).close()
    }

    /// Sends more bytes than `content-length` says, and keeps the connection open.
    #[must_use]
    pub fn length_too_short() -> Self {
        json_head(2).send("{}{}")
    }

    /// Sends a whole second answer after the one that was asked for, and keeps the connection open.
    #[must_use]
    pub fn extra_answer() -> Self {
        let mut answer = Self::json("{}");
        answer.acts.extend(Self::json(r#"{"smuggled": true}"#).acts);
        answer
    }

    /// Sends a chunk whose size is no number.
    #[must_use]
    pub fn bad_chunk() -> Self {
        chunked_head()
            .send("5\r\n{\"id\"\r\nzz\r\n:7}\r\n0\r\n\r\n")
            .close()
    }

    /// Closes the connection within a chunk.
    #[must_use]
    pub fn cut_chunk() -> Self {
        chunked_head().send("64\r\n{\"id\"").close()
    }
}

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
