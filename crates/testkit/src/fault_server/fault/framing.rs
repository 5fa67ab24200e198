//! Bodies with a wrong length, invalid chunks or no end.

use super::{Fault, PARTIAL_BODY, chunked_head, json_head};

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

    /// Sends a complete second response after the requested one, and keeps the connection open.
    #[must_use]
    pub fn extra_response() -> Self {
        Self::json("{}").then(Self::json(r#"{"smuggled": true}"#))
    }

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

    /// Sends chunks without end, until the peer closes the connection.
    #[must_use]
    pub fn endless_body() -> Self {
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        chunked_head().send_forever(chunk)
    }
}
