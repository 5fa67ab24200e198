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

impl<'t> Redactor<'t> {
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
        let mut values = BTreeMap::new();
        let lines = texts.iter().enumerate().map(|(source, text)| {
            let named = |line, column| Position {
                source,
                line,
                column,
            };
            let range = named(0, 0)..=named(usize::MAX, usize::MAX);
            let asked: Vec<_> = all.range(range).copied().collect();
            self.lines(text, &asked, &mut values)
        });
        let lines = lines.collect();
        for one in diagnostics {
            let value = values
                .get(&one.position)
                .or_else(|| self.values.get(&one.position));
            self.redact(one, value);
        }
        lines
    }

    /// Returns the lines at the positions `asked`, which are in ascending order. Adds the values at the positions to `values`.
    fn lines(
        &self,
        text: &str,
        asked: &[Position],
        values: &mut BTreeMap<Position, Value<'t>>,
    ) -> Lines {
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
            let line = self.line(
                text,
                range.start..range.end,
                &tokens[from..to],
                asked,
                values,
            );
            Some((asked[0].line, line))
        });
        lines.collect()
    }

    fn line(
        &self,
        text: &str,
        range: Range<usize>,
        tokens: &[Token],
        asked: &[Position],
        values: &mut BTreeMap<Position, Value<'t>>,
    ) -> Line {
        let line = text[range.clone()].trim_end_matches(['\n', '\r']);
        let length = line.len();
        let offsets: Vec<usize> = line
            .char_indices()
            .map(|(at, _)| range.start + at)
            .collect();
        let mut line: Line = line.chars().collect();
        let place = |at: usize| offsets.partition_point(|start| *start < at);
        let mut end = 0;
        for token in tokens {
            // The line before this token is a part of one text.
            if token.range.start < end {
                continue;
            }
            let written = &text[token.range.clone()];
            let mut token = Token {
                range: token.range.end - written.trim_start().len()..token.range.end,
                is_key: token.is_key,
            };
            let from = place(token.range.start);
            let column = |column| Position { column, ..asked[0] };
            let known = [from + 1, from].map(|one| self.values.get(&column(one)));
            let value = known.into_iter().flatten().next();
            if value.is_some_and(|value| value.is_line) {
                end = range.start + length;
                token.range.end = end;
                token.is_key = false;
            }
            // Columns are counted from 1. The quote before a text belongs to it.
            let first = asked.partition_point(|one| one.column < from);
            let last = place(token.range.end) + 1;
            let here = &asked[first..];
            let here = &here[..here.partition_point(|one| one.column <= last)];
            for position in here.iter().filter(|_| !token.is_key) {
                values.extend(value.map(|value| (*position, value.clone())));
            }
            let class = match value {
                Some(value) => value.class,
                None if token.is_key => Class::Text,
                None => Class::Secret,
            };
            let is_asked = token.is_key || !here.is_empty();
            let written = &text[token.range.clone()];
            for hidden in self.hidden(written, class, is_asked) {
                let start = token.range.start;
                let (from, to) = (place(start + hidden.start), place(start + hidden.end));
                line[from..to].fill('*');
            }
        }
        line
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
        let lines = Redactor::default().lines(text, &asked, &mut BTreeMap::new());
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
            ("- b: |\n    abc\n\n    def", "- b: *\n    ***\n\n    ***"),
            ("secret:\n  é1\nkid: a", "secret:\n  **\nkid: *"),
            ("{ a: ${NAME}, b: ${A:-b} }", "{ a: ${NAME}, b: ${A***} }"),
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
