//! An error with its sources on one line.

use std::{
    error::Error,
    fmt::{self, Write},
};

use super::OneLine;

/// An error and its [sources](Error::source), separated by `: `, on one line and without control characters.
///
/// A text that the text before it already contains is left out, because many errors repeat their source.
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
        let mut out = OneLine(f);
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
}
