//! Masks the lines of a file that diagnostics show.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::diagnostic::{Diagnostic, Position},
    Redactor,
    class::Class,
};

/// The characters of a line of a file, with stars for those that may not be shown.
pub(in super::super) type Line = Vec<char>;

/// The lines of a file that are shown, by their numbers.
pub(in super::super) type Lines = BTreeMap<usize, Line>;

/// Characters after a value.
const MARKS: [char; 6] = ['{', '}', '[', ']', ',', ' '];

impl Redactor {
    /// Hides secrets in diagnostics. Returns the lines of each of `texts` that they show.
    pub(in super::super) fn excerpts<'d>(
        &self,
        texts: &[&str],
        diagnostics: impl Iterator<Item = &'d mut Diagnostic>,
    ) -> Vec<Lines> {
        let mut asked = BTreeSet::new();
        for one in diagnostics {
            let places = [Some(one.position), one.first].into_iter().flatten();
            asked.extend(places.map(|place| (place.source, place.line)));
            self.redact(one);
        }
        let lines = texts.iter().enumerate().map(|(source, text)| {
            let lines = (1..).zip(text.lines());
            let lines = lines.filter(|(line, _)| asked.contains(&(source, *line)));
            let lines = lines.map(|(line, text)| (line, self.line(text, source, line)));
            lines.collect()
        });
        lines.collect()
    }

    /// Returns a line of a file. Of a file that is not valid YAML, no value is known.
    fn line(&self, text: &str, source: usize, line: usize) -> Line {
        let at = |line, column| Position {
            source,
            line,
            column,
        };
        let before = self.classes.range(..at(line, 0)).next_back();
        // A text may be on several lines.
        let class = before.map_or(Class::Known, |(_, class)| *class);
        let mut parts = vec![(0, class)];
        let here = self.classes.range(at(line, 0)..at(line + 1, 0));
        parts.extend(here.map(|(place, class)| (place.column - 1, *class)));
        let characters: Vec<char> = text.chars().collect();
        let ends = parts.iter().skip(1).map(|(start, _)| *start);
        let ends = ends.chain([characters.len()]).collect::<Vec<_>>();
        let parts = parts.into_iter().zip(ends);
        let masked = parts.map(|((start, class), end)| {
            let part = characters.get(start..end).unwrap_or_default();
            let part: String = part.iter().collect();
            match self.classes.is_empty() {
                true => self.unknown(&part),
                false => self.part(&part, class),
            }
        });
        masked.collect::<String>().chars().collect()
    }

    /// Masks the part of a line from one value or key to the next.
    fn part(&self, part: &str, class: Class) -> String {
        let comment = match part.starts_with('#') {
            true => Some(0),
            false => part.find(" #").or_else(|| part.find("\t#")),
        };
        let (part, comment) = part.split_at(comment.unwrap_or(part.len()));
        let start = part.len() - part.trim_start().len();
        let quote = part[start..]
            .chars()
            .next()
            .filter(|one| "\"'".contains(*one));
        let (before, rest) = part.split_at(start + quote.map_or(0, char::len_utf8));
        let end = match quote.and_then(|quote| rest.rfind(quote)) {
            Some(end) => end,
            None => rest.trim_end_matches(MARKS).len(),
        };
        let (body, after) = rest.split_at(end);
        let comment = self.mask(comment, Class::Secret);
        let after = self.mask(after, Class::Known);
        [before, &self.mask(body, class), &after, &comment].concat()
    }

    /// Masks a line of a file that is not valid YAML. Only keys are shown.
    fn unknown(&self, line: &str) -> String {
        let (mut out, mut at) = (String::new(), 0);
        for part in line.split_inclusive(['{', '[', ',']) {
            let quotes = ['"', '\''].map(|quote| line[..at].matches(quote).count());
            let is_quoted = quotes.iter().any(|count| count % 2 == 1);
            at += part.len();
            let start = part.len() - part.trim_start_matches([' ', '\t', '-', '"', '\'']).len();
            let (before, rest) = part.split_at(start);
            let colon = rest.find(':').filter(|colon| {
                let after = &rest[colon + 1..];
                !is_quoted && (after.is_empty() || after.starts_with([' ', '{', '[']))
            });
            let (key, value) = rest.split_at(colon.map_or(0, |colon| colon + 1));
            out = out + before + &self.mask(key, Class::Text) + &self.part(value, Class::Secret);
        }
        out
    }
}
