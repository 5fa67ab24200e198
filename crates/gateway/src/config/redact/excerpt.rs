//! Masks the lines of a file that diagnostics show.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    super::diagnostic::{Diagnostic, Position},
    Redactor, Value,
    class::Class,
    token::{Token, tokens},
};

/// The characters of a line of a file, with stars for those that may not be shown.
pub(in super::super) type Line = Vec<char>;

/// The lines of a file that are shown, by their numbers.
pub(in super::super) type Lines = BTreeMap<usize, Line>;

impl Redactor {
    /// Hides secrets in diagnostics. Returns the lines of each of `texts` that they show.
    ///
    /// Works on the text, not on parsed YAML, because excerpts of invalid files are shown too.
    pub(in super::super) fn excerpts<'d>(
        &self,
        texts: &[&str],
        diagnostics: impl Iterator<Item = &'d mut Diagnostic>,
    ) -> Vec<Lines> {
        let diagnostics: Vec<_> = diagnostics.collect();
        let all = diagnostics
            .iter()
            .flat_map(|one| [Some(one.position), one.first]);
        let all: BTreeSet<Position> = all.flatten().collect();
        let lines = texts.iter().enumerate().map(|(source, text)| {
            let named = |line, column| Position {
                source,
                line,
                column,
            };
            let range = named(0, 0)..=named(usize::MAX, usize::MAX);
            let asked: Vec<_> = all.range(range).copied().collect();
            self.lines(text, &asked)
        });
        let lines = lines.collect();
        diagnostics.into_iter().for_each(|one| self.redact(one));
        lines
    }

    /// Returns the lines at the positions `asked`, which are in ascending order.
    fn lines(&self, text: &str, asked: &[Position]) -> Lines {
        if asked.is_empty() {
            return Lines::new();
        }
        let tokens = tokens(text);
        let mut start = 0;
        let starts = text.split_inclusive('\n').map(|line| {
            start += line.len();
            start - line.len()..start
        });
        let starts: Vec<_> = starts.collect();
        let lines = asked.chunk_by(|one, next| one.line == next.line);
        let lines = lines.filter_map(|asked| {
            let range = starts.get(asked[0].line.checked_sub(1)?)?.clone();
            let from = tokens.partition_point(|token| token.range.start < range.start);
            let to = tokens.partition_point(|token| token.range.start < range.end);
            let line = self.line(text, range, &tokens[from..to], asked);
            Some((asked[0].line, line))
        });
        lines.collect()
    }

    /// Returns the line at `range` of `text`, which has the `tokens`. The positions `asked` are those of diagnostics in this
    /// line.
    fn line(&self, text: &str, range: Range<usize>, tokens: &[Token], asked: &[Position]) -> Line {
        let columns = Columns::new(text, &range);
        let mut line: Line = text[columns.range.clone()].chars().collect();
        let mut end = 0;
        for token in tokens {
            // The line before this token is a part of one text.
            if token.range.start < end {
                continue;
            }
            let (token, value) = self.value_of(token, text, &columns, asked[0]);
            if value.is_some_and(|value| value.is_line) {
                end = columns.range.end;
            }
            let here = columns.positions(&token.range, asked);
            let class = match value {
                Some(value) => value.class,
                None if token.is_key => Class::Text,
                None => Class::Secret,
            };
            let is_asked = token.is_key || !here.is_empty();
            let (start, written) = (token.range.start, &text[token.range.clone()]);
            for hidden in self.hidden(written, class, is_asked) {
                let from = columns.before(start + hidden.start);
                let to = columns.before(start + hidden.end);
                line[from..to].fill('*');
            }
        }
        line
    }

    /// Returns the value at a token of the line of `place`, if it is known, and the token without the spaces before it. The
    /// token of a text on several lines is the rest of the line.
    fn value_of(
        &self,
        token: &Token,
        text: &str,
        columns: &Columns,
        place: Position,
    ) -> (Token, Option<Value>) {
        let end = token.range.end;
        let start = end - text[token.range.clone()].trim_start().len();
        let before = columns.before(start);
        let at = |column| self.values.get(&Position { column, ..place }).copied();
        // Columns are counted from 1. The quote before a text belongs to it.
        let value = at(before + 1).or_else(|| at(before));
        let is_line = value.is_some_and(|value| value.is_line);
        let token = Token {
            range: start..if is_line { columns.range.end } else { end },
            is_key: token.is_key && !is_line,
        };
        (token, value)
    }
}

/// The columns of the characters of a line.
struct Columns {
    /// Range of the line in the text, without its end.
    range: Range<usize>,
    /// Where the characters start in the text.
    starts: Vec<usize>,
}

impl Columns {
    fn new(text: &str, range: &Range<usize>) -> Self {
        let line = text[range.clone()].trim_end_matches(['\n', '\r']);
        let starts = line.char_indices().map(|(at, _)| range.start + at);
        Self {
            range: range.start..range.start + line.len(),
            starts: starts.collect(),
        }
    }

    /// Returns the number of characters of the line before an offset in the text.
    fn before(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start < at)
    }

    /// Returns the positions in the line, of those in `asked`, that are at a token at `range`, or at the quotes around it.
    fn positions<'p>(&self, range: &Range<usize>, asked: &'p [Position]) -> &'p [Position] {
        let (from, last) = (self.before(range.start), self.before(range.end) + 1);
        let first = asked.partition_point(|one| one.column < from);
        let end = asked.partition_point(|one| one.column <= last);
        asked.get(first..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of a text that is not valid YAML, in which no value is known.
    fn masked(text: &str) -> String {
        let asked = (1..=text.lines().count()).map(|line| Position {
            line,
            ..Position::START
        });
        let asked: Vec<_> = asked.collect();
        let lines = Redactor::default().lines(text, &asked);
        let lines = lines.into_values().map(|line| line.into_iter().collect());
        lines.collect::<Vec<String>>().join("\n")
    }

    #[test]
    fn fault_i17_l4_masks_values_in_any_notation() {
        for (text, expected) in [
            ("secret: abc, def # ghi", "secret: ******** *****"),
            (
                "{ \"b\": \"a\\\", b\", kid: c }",
                "{ \"b\": \"******\", kid: * }",
            ),
            ("{ secret: 'it''s', a: 1 }", "{ secret: '*****', a: * }"),
            ("{ b: \"not closed\nkid: a", "{ b: \"**********\n******"),
            ("- b: |\n    abc\n\n    def", "- b: |\n    ***\n\n    ***"),
            ("secret:\n  é1\nkid: a", "secret:\n  **\nkid: *"),
            ("{ a: ${NAME}, b: ${A:-b} }", "{ a: ${NAME}, b: ${A:-*} }"),
            (
                "{ a: ${A:?b c}, b: ${A:?b1c2} }",
                "{ a: ${A:?b c}, b: ${A:?****} }",
            ),
            (
                "{ a: ${A-bc}, b: ${A:-b c} }",
                "{ a: ${A***}, b: ${A:-***} }",
            ),
            ("a: &b abc\nsecret: *b", "a: ** ***\nsecret: **"),
            ("{\"secret\":\"a\"}", "{\"secret\":\"*\"}"),
            ("- secret:hunter2", "- **************"),
            ("# secret: hunter2", "*****************"),
            ("a: \"ab\" hunter2", "a: \"**\" *******"),
            ("http://us:hunter2@up: {}", "http://**********@up: {}"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }
}
