//! Heads that are too long or not of HTTP/1.1.

use super::{Fault, status_line};

// === too long ===

impl Fault {
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

    /// Answers `{}` with one header more, whose value is `size` bytes long.
    #[must_use]
    pub fn big_header(size: usize) -> Self {
        Self::huge_headers(1, size)
    }

    /// Answers `{}` and sets `count` cookies.
    #[must_use]
    pub fn set_cookie_flood(count: usize) -> Self {
        Self::answer(200, &vec![("set-cookie", "id=7; Path=/"); count], "{}")
    }

    /// Sends header after header and never the end of the head.
    #[must_use]
    pub fn endless_head() -> Self {
        let header = "x-more: and more\r\n".repeat(100);
        Self::new().send(status_line(200)).send_forever(header)
    }

    /// Sends `count` interim answers with status 103, then answers `{}`.
    #[must_use]
    pub fn informational(count: usize) -> Self {
        Self::interim(103, count)
    }

    /// Sends `count` interim answers with `status`, such as 100, then answers `{}`.
    #[must_use]
    pub fn interim(status: u16, count: usize) -> Self {
        let storm = format!("{}\r\n", status_line(status)).repeat(count);
        Self::new().send(storm).then(Self::json("{}"))
    }

    /// Sends interim answers with `status`, and never an answer.
    #[must_use]
    pub fn endless_interim(status: u16) -> Self {
        Self::new().send_forever(format!("{}\r\n", status_line(status)))
    }
}

// === not of HTTP/1.1 ===

impl Fault {
    /// Answers with a body and no head at all, as HTTP/0.9 did.
    #[must_use]
    pub fn http09() -> Self {
        Self::new().send("{}").close()
    }

    /// Answers with a status that is no number.
    #[must_use]
    pub fn bad_status_line() -> Self {
        Self::new()
            .send("HTTP/1.1 fine OK\r\ncontent-length: 2\r\n\r\n{}")
            .close()
    }

    /// Answers `{}` with lines that end in LF alone; a client may take them (RFC 9112 §2.2).
    #[must_use]
    pub fn bare_lf() -> Self {
        Self::new().send("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 2\n\n{}")
    }

    /// Answers `{}` with a header that goes on in a second line (`obs-fold`, RFC 9112 §5.2).
    #[must_use]
    pub fn obs_fold() -> Self {
        Self::answer(200, &[("x-folded", "one,\r\n two")], "{}")
    }
}
