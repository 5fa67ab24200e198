//! YAML tags, which have no meaning in a configuration.

use std::collections::HashMap;

use serde_json::Value;

use super::{super::diagnostic::Position, Kind, Tree, lines::Lines};

/// The tags of the YAML core schema, which name the type that a value has anyway.
const CORE: [&str; 7] = [
    "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq",
];

/// The lines and columns of tags, by those of the values that they may belong to.
type Tags = HashMap<(usize, usize), (usize, usize)>;

impl Tree {
    /// Returns the position of the first tag before a value in this one. `lines` are those of the file.
    ///
    /// The parser drops tags. In `when: !has(body.a) && tier == 'pro'`, which lacks quotes, `!has(body.a)` is a tag and
    /// `&&` an anchor, so the condition would be the rest.
    pub(super) fn tag(&self, lines: &Lines<'_>) -> Option<Position> {
        let tags = tags(lines);
        if tags.is_empty() {
            return None;
        }
        self.first_of(&tags)
    }

    fn first_of(&self, tags: &Tags) -> Option<Position> {
        let own = tags.get(&(self.position.line, self.position.column));
        // A block of text may begin with the sign of a tag.
        let is_text =
            matches!(&self.kind, Kind::Scalar(Value::String(text)) if text.starts_with('!'));
        match (own, &self.kind) {
            (Some(&(line, column)), _) if !is_text => Some(Position {
                line,
                column,
                ..self.position
            }),
            (_, Kind::Scalar(_)) => None,
            (_, Kind::List(items)) => items.iter().find_map(|item| item.first_of(tags)),
            (_, Kind::Map { members, .. }) => {
                let mut values = members.values();
                values.find_map(|(_, value)| value.first_of(tags))
            }
        }
    }
}

/// Finds the words of the file that have the form of a tag. A tag is in place of a value, or before it, with anchors, ends
/// of lines and comments in between.
fn tags(lines: &Lines<'_>) -> Tags {
    let mut tags = Tags::new();
    // The tag that the next word belongs to.
    let mut open = None;
    for (index, line) in lines.texts().enumerate() {
        if open.is_none() && !line.contains('!') {
            continue;
        }
        for (column, word) in words(line) {
            // The rest of the line is a comment.
            if word.starts_with('#') {
                break;
            }
            if is_tag(word) {
                open = Some(open.unwrap_or((index + 1, column)));
            }
            if let Some(tag) = open {
                // Where nothing follows, the empty value is at the end of the word.
                let end = column + word.chars().count();
                tags.insert((index + 1, column), tag);
                tags.insert((index + 1, end), tag);
            }
            if !is_tag(word) && !word.starts_with('&') {
                open = None;
            }
        }
    }
    tags
}

/// Returns the words of a line, each with the column where it starts.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut rest, mut column) = (line, 1);
    std::iter::from_fn(move || {
        let blank = rest.len() - rest.trim_start().len();
        column += rest[..blank].chars().count();
        let word = rest[blank..].split_whitespace().next()?;
        rest = &rest[blank + word.len()..];
        let start = column;
        column += word.chars().count();
        Some((start, word))
    })
}

fn is_tag(word: &str) -> bool {
    // A word with these characters is a part of a list, a map or a text in quotes.
    word.starts_with('!')
        && !word.contains([',', '[', ']', '{', '}', '"', '\''])
        && !CORE.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns line and column of the tag in `text`.
    fn tag(text: &str) -> Option<(usize, usize)> {
        let error = Tree::parse(text).err()?;
        assert_eq!(error.message, "expected a value, got a YAML tag", "{text}");
        Some((error.position.line, error.position.column))
    }

    #[test]
    fn fault_j56_a_tag_is_an_error() {
        for (text, column) in [
            ("a: !has(body.x) && body.y == 'z'", 4),
            ("a: !body.x", 4),
            ("a: !(tier == 'free')", 4),
            ("a: !foo \"b\"", 4),
            ("a: !foo &b c", 4),
            ("a: !!set {b: 1}", 4),
            ("a: [b, !c d]", 8),
            ("- !c d", 3),
            ("a: {b: !c d}", 8),
        ] {
            assert_eq!(tag(text), Some((1, column)), "{text}");
        }
        assert_eq!(tag("a: b\nc:\n  - d: !e 1"), Some((3, 8)));
        for text in [
            "a: !b\n  c",
            "a: !b # why\n\n  # !x\n  c: d",
            "a: !b\n  \"c\"",
            "a: !b\n  - c",
        ] {
            assert_eq!(tag(text), Some((1, 4)), "{text}");
        }
    }

    #[test]
    fn fault_j56_texts_with_exclamation_marks_are_no_tags() {
        for text in [
            "a: \"!b\"",
            "a: '!b c'",
            "a: b !c d",
            "a: [\"b !c\", d]",
            "a: [b !c, d]",
            "a: {b: \"!c\", d: e}",
            "a: |\n  !b c",
            "a: !!str 1",
            "a: &b c",
            "a: # !b\n  c",
            "a: b # !c\nd: e",
            "a: b !c\nd: e",
            "a: |\n  b !c\n\n  d",
            "a: \u{e9} && !b",
        ] {
            assert_eq!(tag(text), None, "{text}");
        }
    }
}
