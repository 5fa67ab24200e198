//! The lines of a file, in which characters are found by their columns.

use super::super::diagnostic::Position;

/// The lines of a file. A file may be one long line, so that a character is found without a look at those before it.
pub(in super::super) struct Lines<'t>(Vec<Line<'t>>);

struct Line<'t> {
    text: &'t str,
    /// Where each character starts, in bytes. Empty for a line of ASCII characters, each of which is one byte.
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let lines = text.lines().map(|text| Line {
            text,
            starts: match text.is_ascii() {
                true => Vec::new(),
                false => text.char_indices().map(|(start, _)| start).collect(),
            },
        });
        Self(lines.collect())
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &'t str> {
        self.0.iter().map(|line| line.text)
    }

    /// Returns the rest of the line from `position` on, or an empty text after its end.
    pub(in super::super) fn rest(&self, position: Position) -> &'t str {
        let line = self.0.get(position.line - 1);
        line.map_or("", |line| line.rest(position.column - 1))
    }

    /// Returns the lines from that of `position` on, each with its index. The first one begins at `position`.
    pub(super) fn from(&self, position: Position) -> impl Iterator<Item = (usize, &'t str)> {
        let lines = self.0.iter().enumerate().skip(position.line - 1);
        lines.map(move |(index, line)| match index + 1 == position.line {
            true => (index, line.rest(position.column - 1)),
            false => (index, line.text),
        })
    }
}

impl<'t> Line<'t> {
    /// Returns the text after this number of characters.
    fn rest(&self, characters: usize) -> &'t str {
        let start = match self.starts.is_empty() {
            true => Some(characters),
            false => self.starts.get(characters).copied(),
        };
        start.and_then(|start| self.text.get(start..)).unwrap_or("")
    }
}
