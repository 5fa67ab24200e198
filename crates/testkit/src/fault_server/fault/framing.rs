//! Bodies with a length that is wrong, ambiguous or missing, and invalid chunks.

use super::{Fault, PARTIAL_BODY, chunked_head, head, json_head};

// === content-length ===

impl Fault {
    /// Responds with fewer bytes than `content-length` declares, and closes the connection.
    #[must_use]
    pub fn length_too_long() -> Self {
        json_head(100).send(PARTIAL_BODY).close()
    }

    /// Responds with more bytes than `content-length` declares, and keeps the connection open.
    #[must_use]
    pub fn length_too_short() -> Self {
        json_head(2).send("{}{}")
    }

    /// Responds with two `content-length` headers. Only the second is right.
    #[must_use]
    pub fn duplicate_length() -> Self {
        head("content-length: 2\r\ncontent-length: 4").send("{}{}")
    }

    /// Responds with both `content-length` and `transfer-encoding: chunked`, and a chunked body.
    ///
    /// RFC 9112 §6.3 treats this combination as a sign of request smuggling.
    #[must_use]
    pub fn length_and_chunked() -> Self {
        head("content-length: 2\r\ntransfer-encoding: chunked").send("2\r\n{}\r\n0\r\n\r\n")
    }

    /// Responds with a negative `content-length`, and closes the connection.
    #[must_use]
    pub fn negative_length() -> Self {
        head("content-length: -1").send("{}").close()
    }

    /// Sends a complete second response after the requested one, and keeps the connection open.
    #[must_use]
    pub fn extra_response() -> Self {
        Self::json("{}").then(Self::json(r#"{"smuggled": true}"#))
    }

    /// Responds with 204 and a body, which this status does not allow.
    #[must_use]
    pub fn no_content_with_body() -> Self {
        Self::response(204, &[], "{}")
    }

    /// Responds with 205 and a body, which this status does not allow.
    #[must_use]
    pub fn reset_content_with_body() -> Self {
        Self::response(205, &[], "{}")
    }

    /// Responds with 304 and a body, which this status does not allow, even if the request was not
    /// conditional.
    #[must_use]
    pub fn not_modified_with_body() -> Self {
        Self::response(304, &[], "{}")
    }
}

// === chunks ===

impl Fault {
    /// Sends a chunk with a size that is not a number, and closes the connection.
    #[must_use]
    pub fn invalid_chunk_size() -> Self {
        chunked_head()
            .send("5\r\n{\"id\"\r\nzz\r\n:7}\r\n0\r\n\r\n")
            .close()
    }

    /// Closes the connection in the middle of a chunk.
    #[must_use]
    pub fn truncated_chunk() -> Self {
        chunked_head().send("64\r\n{\"id\"").close()
    }

    /// Responds with `{}` in two chunks, each with a chunk extension of `size` bytes.
    #[must_use]
    pub fn chunk_extension_flood(size: usize) -> Self {
        let extension = "x".repeat(size);
        chunked_head().send(format!(
            "1;{extension}\r\n{{\r\n1;{extension}\r\n}}\r\n0\r\n\r\n"
        ))
    }

    /// Responds with `{}` in one chunk, followed by `count` trailers.
    #[must_use]
    pub fn trailers_flood(count: usize) -> Self {
        let trailers: String = (0..count)
            .map(|n| format!("x-trailer-{n}: x\r\n"))
            .collect();
        chunked_head().send(format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n"))
    }

    /// Sends chunks without end, until the peer closes the connection.
    #[must_use]
    pub fn endless_body() -> Self {
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        chunked_head().send_forever(chunk)
    }
}
