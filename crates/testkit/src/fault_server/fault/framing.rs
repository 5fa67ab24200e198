//! Bodies whose length is wrong, ambiguous or without an end.

use super::{Fault, PART, chunked_head, head, json_head};

// === the length ===

impl Fault {
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

    /// Says two lengths of which one is right.
    #[must_use]
    pub fn duplicate_length() -> Self {
        head("content-length: 2\r\ncontent-length: 4").send("{}{}")
    }

    /// Says a length and chunks, and sends chunks (RFC 9112 §6.3: a sign of smuggling).
    #[must_use]
    pub fn length_and_chunked() -> Self {
        head("content-length: 2\r\ntransfer-encoding: chunked").send("2\r\n{}\r\n0\r\n\r\n")
    }

    /// Says a length below zero.
    #[must_use]
    pub fn negative_length() -> Self {
        head("content-length: -1").send("{}").close()
    }

    /// Sends a whole second answer after the one that was asked for, and keeps the connection open.
    #[must_use]
    pub fn extra_answer() -> Self {
        Self::json("{}").then(Self::json(r#"{"smuggled": true}"#))
    }

    /// Answers 204 with a body, which it must not have.
    #[must_use]
    pub fn no_content() -> Self {
        Self::answer(204, &[], "{}")
    }

    /// Answers 205 with a body, which it must not have.
    #[must_use]
    pub fn reset_content() -> Self {
        Self::answer(205, &[], "{}")
    }

    /// Answers 304 with a body, which it must not have, though nothing was asked `if-` anything.
    #[must_use]
    pub fn not_modified() -> Self {
        Self::answer(304, &[], "{}")
    }
}

// === chunks ===

impl Fault {
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

    /// Answers `{}` in two chunks, each with an extension of `size` bytes.
    #[must_use]
    pub fn chunk_extension_flood(size: usize) -> Self {
        let extension = "x".repeat(size);
        chunked_head().send(format!(
            "1;{extension}\r\n{{\r\n1;{extension}\r\n}}\r\n0\r\n\r\n"
        ))
    }

    /// Answers `{}` in a chunk with `count` trailers after it.
    #[must_use]
    pub fn trailers_flood(count: usize) -> Self {
        let trailers: String = (0..count)
            .map(|n| format!("x-trailer-{n}: x\r\n"))
            .collect();
        chunked_head().send(format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n"))
    }

    /// Sends chunk after chunk, and never the last.
    #[must_use]
    pub fn endless_body() -> Self {
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        chunked_head().send_forever(chunk)
    }
}
