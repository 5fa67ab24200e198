//! Well-formed responses, some of them large, slow or unexpected.

use std::time::Duration;

use super::{Fault, chunked_head, head, json_head, status_line};

impl Fault {
    /// Responds with `status`, `headers`, `body` and a `content-length` header.
    ///
    /// With an empty `body`, the statuses 204 and 304 get no `content-length`.
    #[must_use]
    pub fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
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

    /// Responds with 200, `content-type: application/json` and `body`, which is not validated.
    #[must_use]
    pub fn json(body: impl AsRef<[u8]>) -> Self {
        Self::response(200, &[("content-type", "application/json")], body)
    }

    /// Responds like [`json`](Self::json), with chunked transfer encoding and one chunk per piece.
    ///
    /// Empty pieces are skipped, because an empty chunk would end the body.
    #[must_use]
    pub fn chunked(pieces: &[&str]) -> Self {
        let pieces = pieces.iter().filter(|piece| !piece.is_empty());
        pieces
            .fold(chunked_head(), |body, piece| {
                body.send(format!("{:x}\r\n{piece}\r\n", piece.len()))
            })
            .send("0\r\n\r\n")
    }

    /// Responds like [`json`](Self::json), but without a length: the end of the connection ends the
    /// body.
    #[must_use]
    pub fn until_close(body: impl AsRef<[u8]>) -> Self {
        head("connection: close").send(body.as_ref()).close()
    }

    /// Responds like [`json`](Self::json), but pauses for `every` before each byte of the body.
    #[must_use]
    pub fn drip(body: impl AsRef<[u8]>, every: Duration) -> Self {
        let body = body.as_ref();
        body.iter().fold(json_head(body.len()), |drip, byte| {
            drip.pause(every).send([*byte])
        })
    }

    /// Redirects to `location` with status 302.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::response(302, &[("location", location)], "")
    }

    /// Responds with 200 and an HTML page.
    #[must_use]
    pub fn html() -> Self {
        Self::response(
            200,
            &[("content-type", "text/html")],
            "<!doctype html><title>Sorry</title>",
        )
    }

    /// Responds with JSON arrays nested `depth` levels deep.
    #[must_use]
    pub fn deep_json(depth: usize) -> Self {
        Self::json("[".repeat(depth) + &"]".repeat(depth))
    }

    /// Responds with `content-type: application/json` and a body that is not valid JSON.
    #[must_use]
    pub fn invalid_json() -> Self {
        Self::json(r#"{"id": NaN,}"#)
    }

    /// Responds with `{}` and `count` additional headers, each with a value of `size` bytes.
    #[must_use]
    pub fn huge_headers(count: usize, size: usize) -> Self {
        let value = "x".repeat(size);
        let names: Vec<String> = (0..count).map(|n| format!("x-huge-{n}")).collect();
        let headers: Vec<(&str, &str)> = names
            .iter()
            .map(|name| (name.as_str(), value.as_str()))
            .collect();
        Self::response(200, &headers, "{}")
    }

    /// Sends `count` interim responses with status 103, then responds with `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        let storm = format!("{}\r\n", status_line(103)).repeat(count);
        Self::new().send(storm).then(Self::json("{}"))
    }
}
