//! Request data in log lines.
//!
//! [`LogValue`] makes a value of a request safe to log. [`RequestSpanLayer`] adds the ids of a request
//! to all of its log lines. [`ErrorChain`] shows an error with its sources, and [`RateLimit`] limits repeated
//! lines.

mod error_chain;
mod rate_limit;
mod span;

use std::fmt::{self, Write};

pub use self::{
    error_chain::ErrorChain,
    rate_limit::RateLimit,
    span::{InstrumentedBody, RequestFields, RequestSpan, RequestSpanLayer},
};

/// Maximum number of characters that are shown.
const MAX_CHARS: usize = 256;

/// A request value in a form that is safe to log: on one line, without control characters, and cut
/// after 256 characters.
///
/// Control characters, invisible characters and characters that change the text direction are escaped
/// as in Rust (`\n`, `\u{1b}`). Invalid UTF-8 becomes `U+FFFD`. A cut is marked with `…`.
///
/// ```
/// use tower_fanout_http::log::LogValue;
///
/// assert_eq!(LogValue::new("/users/7").to_string(), "/users/7");
/// assert_eq!(LogValue::new(b"a\nb\x1b[31m\xff").to_string(), "a\\nb\\u{1b}[31m\u{fffd}");
/// assert_eq!(LogValue::new(&"x".repeat(300)).to_string(), "x".repeat(256) + "…");
/// ```
#[derive(Clone, Copy)]
pub struct LogValue<'a>(&'a [u8]);

impl<'a> LogValue<'a> {
    /// Wraps `value`, which can be a string, bytes or a header value.
    #[must_use]
    pub fn new<T: AsRef<[u8]> + ?Sized>(value: &'a T) -> Self {
        Self(value.as_ref())
    }
}

impl fmt::Display for LogValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain =
            self.0.len() <= MAX_CHARS && self.0.iter().all(|byte| is_plain((*byte).into()));
        if let (true, Ok(text)) = (is_plain, std::str::from_utf8(self.0)) {
            return f.write_str(text);
        }
        let mut left = MAX_CHARS;
        for chunk in self.0.utf8_chunks() {
            // One replacement character per invalid sequence, as in `String::from_utf8_lossy`.
            let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            for char in chunk.valid().chars().chain(invalid) {
                if left == 0 {
                    return f.write_char('…');
                }
                left -= 1;
                write_safe(f, char)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for LogValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A writer that keeps its output on one line and free of control characters.
///
/// Characters are escaped as in [`LogValue`], and nothing is cut.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|char| write_safe(&mut self.0, char))
    }
}

/// Returns `true` for the visible characters of ASCII and the space.
const fn is_plain(char: char) -> bool {
    matches!(char, ' '..='~')
}

/// Writes `char`, escaped if it is not visible. Uses the rules of `Debug`, but quotes and backslashes
/// stay as they are, since they are harmless in a log line.
fn write_safe(to: &mut impl Write, char: char) -> fmt::Result {
    if is_plain(char) {
        to.write_char(char)
    } else {
        write!(to, "{}", char.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fault_c13_cuts_a_value_after_256_characters() {
        let path = format!("/{}", "\u{e9}".repeat(10 << 10));
        let shown = LogValue::new(&path).to_string();
        assert_eq!(shown.chars().count(), 257);
        assert!(shown.ends_with("\u{e9}…"));
        assert_eq!(LogValue::new(&[b'x'; 256]).to_string(), "x".repeat(256));
        assert_eq!(
            LogValue::new(&[0xff; 300]).to_string(),
            "\u{fffd}".repeat(256) + "…"
        );
        assert_eq!(LogValue::new("").to_string(), "");
    }

    #[test]
    fn fault_c12_escapes_control_and_invisible_characters() {
        for (value, shown) in [
            (&b"a\r\nb\t\0"[..], "a\\r\\nb\\t\\0"),
            (b"\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            (
                "\u{202e}gnp\u{200b}\u{2028}\u{9b}31m".as_bytes(),
                "\\u{202e}gnp\\u{200b}\\u{2028}\\u{9b}31m",
            ),
            (b"\"quoted\" \\n", "\"quoted\" \\n"),
            (b"\xc3(\xff", "\u{fffd}(\u{fffd}"),
        ] {
            assert_eq!(LogValue::new(value).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn fault_c12_c13_writes_any_value_on_one_line(value in prop::collection::vec(any::<u8>(), 0..400)) {
            let shown = LogValue::new(&value).to_string();
            prop_assert!(!shown.contains(char::is_control), "{shown:?}");
            prop_assert_eq!(shown.lines().count(), usize::from(!value.is_empty()));
            let mut line = String::new();
            write!(OneLine(&mut line), "{}", String::from_utf8_lossy(&value)).unwrap();
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
