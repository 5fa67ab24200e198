//! Checks the framing of HTTP/1 requests where hyper accepts more than RFC 9112 allows: chunk extensions
//! that are not well-formed, spaces after a chunk size, and line ends of trailers without CR.
//!
//! A proxy in front may read such a message in another way, and take a part of it for the next request. The
//! check only follows the messages that hyper reads; hyper refuses all else that is not valid.

use std::ops::ControlFlow;

use memchr::memchr;

/// Maximum length of a line of which the content matters. The check ignores the rest of longer field lines,
/// in which the padding before the value does not count, and refuses longer chunk lines.
const LINE: usize = 512;

/// The position within the requests of a connection.
#[derive(Debug)]
pub(super) struct Framing {
    part: Part,
    /// The begin of the current line.
    line: Vec<u8>,
    /// Framing of the current request's body, according to its head.
    body: Body,
    last: u8,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// Empty lines before a head.
    Before,
    Head,
    /// This number of bytes is left of a body or a chunk. After a chunk, a chunk line follows.
    Data {
        left: u64,
        chunk: bool,
    },
    /// The size of a chunk and its extensions.
    ChunkLine,
    /// The line end after the data of a chunk.
    ChunkEnd,
    Trailers,
    /// The end of a request that hyper refuses. No further byte is valid.
    Refused,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Length(u64),
    Chunked,
    /// A content length that hyper refuses.
    Invalid,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            part: Part::Before,
            line: Vec::new(),
            body: Body::Length(0),
            last: 0,
        }
    }
}

impl Framing {
    /// Follows `bytes`. Returns the number of bytes before the first violation, if there is one.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if let Part::Data { left, chunk } = self.part {
                let available = (bytes.len() - at) as u64;
                let taken = left.min(available);
                self.part = after_data(left - taken, chunk);
                // `taken` is at most the length of a slice.
                at += taken as usize;
                continue;
            }
            if matches!(self.part, Part::Before | Part::Head) {
                at += self.head_line(&bytes[at..]);
                continue;
            }
            if matches!(self.part, Part::Refused) || self.byte(bytes[at]).is_break() {
                self.part = Part::Refused;
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// Follows `bytes` to the end of a line of a head. Returns the number of bytes followed.
    fn head_line(&mut self, bytes: &[u8]) -> usize {
        let end = memchr(b'\n', bytes);
        if let (Some(end), true) = (end, self.line.is_empty()) {
            self.end_head_line(&bytes[..end]);
            return end + 1;
        }
        for &byte in &bytes[..end.unwrap_or(bytes.len())] {
            // Padding before a content length may be longer than a line.
            let padding = self.line.ends_with(b":") && is_padding(byte);
            if !padding && self.line.len() < LINE {
                self.line.push(byte);
            }
        }
        let Some(end) = end else { return bytes.len() };
        let line = std::mem::take(&mut self.line);
        self.end_head_line(&line);
        end + 1
    }

    fn end_head_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            self.field(line);
            self.part = Part::Head;
        } else if matches!(self.part, Part::Head) {
            self.part = match std::mem::replace(&mut self.body, Body::Length(0)) {
                Body::Chunked => Part::ChunkLine,
                Body::Length(left) => after_data(left, false),
                Body::Invalid => Part::Refused,
            };
        }
    }

    /// Follows one byte of a chunk line or of trailers, where a CR must end each line.
    fn byte(&mut self, byte: u8) -> ControlFlow<()> {
        let after_cr = std::mem::replace(&mut self.last, byte) == b'\r';
        if after_cr != (byte == b'\n') {
            return ControlFlow::Break(());
        }
        if byte != b'\n' {
            if byte != b'\r' && self.line.len() < LINE {
                self.line.push(byte);
            }
            return ControlFlow::Continue(());
        }
        let line = std::mem::take(&mut self.line);
        let flow = self.end_line(&line);
        if !matches!(self.part, Part::Before) {
            // An idle connection keeps no buffer.
            self.line = line;
            self.line.clear();
        }
        flow
    }

    fn end_line(&mut self, line: &[u8]) -> ControlFlow<()> {
        self.part = match self.part {
            Part::ChunkLine => match chunk_size(line) {
                Some(0) => Part::Trailers,
                Some(left) => Part::Data { left, chunk: true },
                None => return ControlFlow::Break(()),
            },
            Part::ChunkEnd if line.is_empty() => Part::ChunkLine,
            Part::Trailers if line.is_empty() => Part::Before,
            Part::Trailers => Part::Trailers,
            // The data is longer than its chunk.
            _ => return ControlFlow::Break(()),
        };
        ControlFlow::Continue(())
    }

    /// Reads a line of a head.
    fn field(&mut self, line: &[u8]) {
        let Some(colon) = memchr(b':', line) else {
            return;
        };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if matches!(self.body, Body::Invalid) {
            return;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // The guard refuses any other coding.
            self.body = Body::Chunked;
        } else if name.eq_ignore_ascii_case(b"content-length")
            && !matches!(self.body, Body::Chunked)
        {
            let padding = value.iter().take_while(|byte| is_padding(**byte)).count();
            let digits = value[padding..].trim_ascii_end();
            self.body = match std::str::from_utf8(digits).ok() {
                // Only padding, of which zeros are a part.
                Some("") => Body::Length(0),
                Some(digits) => digits.parse().map_or(Body::Invalid, Body::Length),
                None => Body::Invalid,
            };
        }
    }
}

/// Returns `true` for spaces and for zeros, which may stand before a content length.
const fn is_padding(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'0')
}

const fn after_data(left: u64, chunk: bool) -> Part {
    match (left, chunk) {
        (0, true) => Part::ChunkEnd,
        (0, false) => Part::Before,
        (left, chunk) => Part::Data { left, chunk },
    }
}

/// Returns the size in a chunk line, or `None` if the line is not well-formed
/// ([RFC 9112 §7.1](https://www.rfc-editor.org/rfc/rfc9112#section-7.1)).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (size, mut extensions) = line.split_at(digits.count());
    // A longer line was cut.
    if line.len() >= LINE {
        return None;
    }
    while !extensions.is_empty() {
        extensions = extension(extensions)?;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

/// Skips one extension: `;`, a name, and optionally `=` and a value.
fn extension(text: &[u8]) -> Option<&[u8]> {
    let name = spaces(spaces(text).strip_prefix(b";")?);
    let rest = token(name)?;
    let Some(value) = spaces(rest).strip_prefix(b"=") else {
        return Some(rest);
    };
    match spaces(value).strip_prefix(b"\"") {
        Some(quoted) => quoted_string(quoted),
        None => token(spaces(value)),
    }
}

fn spaces(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| b" \t".contains(byte)).count();
    &text[count..]
}

fn token(text: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let count = text.iter().take_while(|byte| is_token(byte)).count();
    (count > 0).then(|| &text[count..])
}

/// Skips the rest of a quoted string, after its first quote.
fn quoted_string(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = match text {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [b'\t' | b' '..=b'[' | b']'..=b'~' | 0x80.., rest @ ..] => rest,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Returns the bytes that pass the check, for any split of `text` into two reads.
    fn passed(text: &str) -> String {
        let checked = |split: usize| {
            let (mut framing, (first, second)) = (Framing::default(), text.split_at(split));
            match framing.check(first.as_bytes()) {
                Some(at) => at,
                None => match framing.check(second.as_bytes()) {
                    Some(at) => split + at,
                    None => text.len(),
                },
            }
        };
        let whole = checked(text.len());
        for split in 0..text.len() {
            assert_eq!(checked(split), whole, "{text:?} split at {split}");
        }
        text[..whole].to_owned()
    }

    #[test]
    fn fault_d44_accepts_requests_that_are_well_formed() {
        let next = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "005\r\n\n\n\n\n\n\r\n0\r\n\r\n",
            "5;a\r\nhello\r\n0;b=c\r\n\r\n",
            "5 ; a = b ;c=\"d; \\\"e\\\"\"\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nx-sum: 7\r\ny: z\r\n\r\n",
            "A\r\n0123456789\r\n0\r\n\r\n",
        ] {
            let text = format!("{HEAD}{body}{next}{HEAD}0\r\n\r\n");
            assert_eq!(passed(&text), text);
        }
        for text in [
            "\r\nGET / HTTP/1.1\nhost: x\n\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n5;\r\nhell\nPOST / HTTP/1.1\r\nContent-Length:2\r\n\r\n\n\n",
        ] {
            assert_eq!(passed(text), text);
        }
    }

    #[test]
    fn fault_d44_stops_at_the_first_violation() {
        for (good, bad) in [
            ("5;\r", "\nhello\r\n0\r\n\r\n"),
            ("5;bad[=x\r", "\nhello\r\n0\r\n\r\n"),
            ("5;a=\r", "\nhello\r\n0\r\n\r\n"),
            ("5;a=\"b\r", "\nhello\r\n0\r\n\r\n"),
            ("5;a=\"b\"c\r", "\nhello\r\n0\r\n\r\n"),
            ("5;;a\r", "\nhello\r\n0\r\n\r\n"),
            ("5 \r", "\nhello\r\n0\r\n\r\n"),
            ("5\t\r", "\nhello\r\n0\r\n\r\n"),
            ("5\r", "hello\r\n0\r\n\r\n"),
            ("5;a\r", "b\r\nhello\r\n0\r\n\r\n"),
            ("5;a", "\nhello\r\n0\r\n\r\n"),
            ("5", "\nhello\r\n0\r\n\r\n"),
            ("5\r\nhello", "\n0\r\n\r\n"),
            ("0\r\na: b", "\n\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"),
            ("0\r\na: b\r", "c: d\r\n\r\n"),
            ("0\r\n", "\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        ] {
            let text = format!("{HEAD}{good}{bad}");
            assert_eq!(passed(&text), format!("{HEAD}{good}"));
        }
        let long = format!("{HEAD}5;{}", "a".repeat(LINE));
        assert_eq!(passed(&format!("{long}\r\nhello")), format!("{long}\r"));
    }

    #[test]
    fn fault_d44_reads_padded_lengths_and_passes_nothing_after_invalid_ones() {
        let chunked = "Transfer-Encoding: chunked";
        for padding in [" ", "\t", "0"].map(|padding| padding.repeat(LINE + 88)) {
            let post = format!("POST / HTTP/1.1\r\nContent-Length:{padding}");
            for good in [
                format!("{post}0\r\n\r\n{HEAD}5"),
                format!("{post}41\r\n\r\n{}{HEAD}5", "\n".repeat(41)),
                format!(
                    "{post}41{}\r\n\r\n{}{HEAD}5",
                    " ".repeat(LINE),
                    "5;\r\n\r\n\n".repeat(6)[..41].to_owned()
                ),
                format!("{post}7\r\n{chunked}\r\n\r\n5"),
                format!("POST / HTTP/1.1\r\n{chunked}\r\nContent-Length:{padding}7\r\n\r\n5"),
                format!("POST / HTTP/1.1\r\nTransfer-Encoding:{padding}chunked\r\n\r\n5"),
            ] {
                let whole = passed(&format!("{good};\r\nhello\r\n0\r\n\r\n"));
                assert_eq!(whole, format!("{good};\r"));
            }
        }
        for length in ["x", "5, 5", "5 5", "18446744073709551616"] {
            let line = format!("content-length: {length}\r\ncontent-length: 1");
            let head = format!("POST / HTTP/1.1\r\n{line}\r\n{chunked}\r\n\r\n");
            assert_eq!(passed(&format!("{head}5")), head);
        }
    }

    #[test]
    fn an_idle_connection_keeps_no_buffer() {
        let mut framing = Framing::default();
        framing.check(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_eq!(framing.line.capacity(), 0);
    }
}
