//! An error with its sources on one line.

use std::{
    error::Error,
    fmt::{self, Write},
};

use super::OneLine;

/// Maximum number of characters of a chain, escapes included.
const MAX_CHARS: usize = 1024;

/// A writer that writes the first characters, and `…` in place of the others.
struct Cut<'f, W> {
    to: &'f mut W,
    left: usize,
}

impl<W: Write> Write for Cut<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match self.left {
                0 => return Ok(()),
                1 => self.to.write_char('…')?,
                _ => self.to.write_char(char)?,
            }
            self.left -= 1;
        }
        Ok(())
    }
}

/// An error and its [sources](Error::source), separated by `: `, on one line and without control characters.
///
/// A text that the text before it already contains is left out, because many errors repeat their source.
/// The whole is cut after 1024 characters, because errors can contain data of the other side, such as the
/// names in a certificate. A cut is marked with `…`.
///
/// ```
/// use tower_fanout_http::log::ErrorChain;
///
/// let error = std::io::Error::other("reset by\npeer");
/// assert_eq!(ErrorChain(&error).to_string(), "reset by\\npeer");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'e>(pub &'e (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = MAX_CHARS + 1;
        let mut out = OneLine(Cut { to: f, left });
        let mut before = self.0.to_string();
        out.write_str(&before)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let text = error.to_string();
            if !before.contains(&text) {
                write!(out, ": {text}")?;
                before = text;
            }
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Level(&'static str, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|error| error as _)
        }
    }

    #[test]
    fn writes_each_source_once() {
        let inner = Level("refused (111)", None);
        let middle = Level("connect: refused (111)", Some(inner.into()));
        let outer = Level("client error", Some(middle.into()));
        let chain = ErrorChain(&outer).to_string();
        assert_eq!(chain, "client error: connect: refused (111)");
    }

    #[test]
    fn fault_f41_a_chain_is_cut_after_1024_characters() {
        let inner = Level("inner", None);
        let name: &'static str = "\u{e9}".repeat(1023).leak();
        let fits = Level(name, None);
        assert_eq!(ErrorChain(&fits).to_string(), name);
        let outer = Level(name, Some(inner.into()));
        assert_eq!(ErrorChain(&outer).to_string(), format!("{name}:…"));
    }
}
