//! Texts in quotes with escapes.

use super::{super::diagnostic::Position, lines::Lines};

/// Returns the quote at `position`, if there is one.
pub(super) fn quote(lines: &Lines<'_>, position: Position) -> Option<char> {
    let first = lines.rest(position).chars().next();
    first.filter(|one| "\"'".contains(*one))
}

/// Returns where the parts of `text` after each escape start, and the text itself: the number of characters of the text
/// before each, and its position. The text is in `quote`s at `position`. Returns nothing for a text on several lines.
pub(super) fn parts(
    text: &str,
    quote: char,
    lines: &Lines<'_>,
    position: Position,
) -> Vec<(usize, Position)> {
    let at = |place: usize| Position {
        column: position.column + place,
        ..position
    };
    let mut written = lines.rest(position).chars().skip(1).peekable();
    let (mut place, mut count) = (1, 0);
    let mut parts = vec![(0, at(1))];
    loop {
        let length = match (written.next(), written.peek()) {
            (None, _) => return Vec::new(),
            (Some('\''), Some('\'')) if quote == '\'' => 2,
            (Some(one), _) if one == quote => break,
            (Some('\\'), Some(escape)) if quote == '"' => match escape {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                _ => 2,
            },
            _ => 1,
        };
        for _ in 1..length {
            written.next();
        }
        (place, count) = (place + length, count + 1);
        if length > 1 {
            parts.push((count, at(place)));
        }
    }
    match count == text.chars().count() {
        true => parts,
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tree;

    #[test]
    fn fault_j1_finds_characters_of_a_quoted_text_with_escapes() {
        for (file, find) in [
            ("a: 'it''s \u{e9} ''x'' Z'", 'Z'),
            (r#"a: "tier == \"x\" \u00e9 \t Z""#, 'Z'),
            (r#"{ "a": "\x41 \\ Z \"" }"#, 'Z'),
            ("a: 'no escape Z'", 'Z'),
            ("a: 'on two''\n  lines Z'", '\''),
        ] {
            let tree = Tree::parse(file).unwrap();
            let (_, value) = &tree.members().unwrap()["a"];
            let text = value.as_text().unwrap();
            let character = text.chars().position(|one| one == find).unwrap() + 1;
            let expected = file.chars().position(|one| one == find).unwrap() + 1;
            assert_eq!(value.position_of(character).column, expected, "{file}");
        }
    }
}
