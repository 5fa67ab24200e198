//! Heads that are too long, preceded by interim responses, or not valid HTTP/1.1.

use super::{Fault, status_line};

// === long heads and interim responses ===

impl Fault {
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

    /// Responds with `{}` and one additional header with a value of `size` bytes.
    #[must_use]
    pub fn big_header(size: usize) -> Self {
        Self::huge_headers(1, size)
    }

    /// Responds with `{}` and `count` `set-cookie` headers.
    #[must_use]
    pub fn set_cookie_flood(count: usize) -> Self {
        Self::response(200, &vec![("set-cookie", "id=7; Path=/"); count], "{}")
    }

    /// Sends headers without end, until the peer closes the connection.
    #[must_use]
    pub fn endless_head() -> Self {
        let header = "x-more: and more\r\n".repeat(100);
        Self::new().send(status_line(200)).send_forever(header)
    }

    /// Sends `count` interim responses with status 103, then responds with `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        Self::interim(103, count)
    }

    /// Sends `count` interim responses with `status`, such as 100, then responds with `{}`.
    #[must_use]
    pub fn interim(status: u16, count: usize) -> Self {
        let storm = format!("{}\r\n", status_line(status)).repeat(count);
        Self::new().send(storm).then(Self::json("{}"))
    }

    /// Sends interim responses with `status` without end, until the peer closes the connection.
    #[must_use]
    pub fn endless_interim(status: u16) -> Self {
        Self::new().send_forever(format!("{}\r\n", status_line(status)))
    }
}

// === invalid HTTP/1.1 ===

impl Fault {
    /// Responds with a body and no head, as HTTP/0.9 did, and closes the connection.
    #[must_use]
    pub fn http09() -> Self {
        Self::new().send("{}").close()
    }

    /// Responds with a status code that is not a number, and closes the connection.
    #[must_use]
    pub fn bad_status_line() -> Self {
        Self::new()
            .send("HTTP/1.1 fine OK\r\ncontent-length: 2\r\n\r\n{}")
            .close()
    }

    /// Responds with `{}` and lines that end with a bare LF, which clients may accept (RFC 9112 §2.2).
    #[must_use]
    pub fn bare_lf() -> Self {
        Self::new().send("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 2\n\n{}")
    }

    /// Responds with `{}` and a header that is folded into two lines (`obs-fold`, RFC 9112 §5.2).
    #[must_use]
    pub fn obs_fold() -> Self {
        Self::response(200, &[("x-folded", "one,\r\n two")], "{}")
    }
}
