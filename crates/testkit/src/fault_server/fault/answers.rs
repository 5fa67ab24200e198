//! Answers that are well formed, whatever a client thinks of them.

use std::time::Duration;

use super::{Fault, chunked_head, head, json_head, status_line};

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

    /// Answers as [`json`](Self::json), with no length and each of `pieces` as a chunk; an empty
    /// piece is left out.
    #[must_use]
    pub fn chunked(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        pieces
            .fold(chunked_head(), |body, piece| {
                body.send(format!("{:x}\r\n{piece}\r\n", piece.len()))
            })
            .send("0\r\n\r\n")
    }

    /// Answers as [`json`](Self::json), with no length: the body ends with the connection.
    #[must_use]
    pub fn until_close(body: impl AsRef<[u8]>) -> Self {
        head("connection: close").send(body.as_ref()).close()
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

    /// Answers 101 to a request that asked for no other protocol.
    #[must_use]
    pub fn switching_protocols() -> Self {
        let head = status_line(101) + "connection: upgrade\r\nupgrade: test\r\n\r\n";
        Self::new().send(head)
    }
}
