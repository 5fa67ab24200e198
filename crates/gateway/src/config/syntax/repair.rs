//! Finds the mistake that the parser notices only later in the file.
//!
//! A mistake is found by its repair: the first change with which the parser reads on beyond the place of the error.

use super::{
    super::{diagnostic::Position, tree::Tree},
    Certainty, SyntaxError, TAB, foreign,
};

/// Indentation that a line may lack, with one space more.
const SPACES: &str = "    ";

/// Number of lines before that of the error in which a mistake is searched.
const LINES: usize = 4;

/// Maximum size of the repaired texts that are parsed, in bytes. For a file that is much larger than others, only the first
/// repairs are tried.
const MOST_PARSED: usize = 16 << 20;

/// A change of the file, and the error at its place.
pub(super) struct Repair {
    /// Offset of the change in bytes.
    offset: usize,
    /// Offset of the mistake in bytes.
    mistake: usize,
    /// Number of bytes that are removed there.
    removed: usize,
    inserted: &'static str,
    message: &'static str,
    help: &'static str,
}

impl Repair {
    pub(super) const fn insert(
        offset: usize,
        inserted: &'static str,
        message: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            offset,
            mistake: offset,
            removed: 0,
            inserted,
            message,
            help,
        }
    }

    /// Adds the removal of `count` bytes.
    pub(super) const fn removing(mut self, count: usize) -> Self {
        self.removed = count;
        self
    }
}

/// Returns the error for the mistake in `text` that leads to `error`, or `error` itself if no repair is known.
pub(in super::super) fn locate(error: SyntaxError, text: &str) -> SyntaxError {
    let Some(offset) = offset(text, error.position) else {
        return error;
    };
    if let Some(helm) = foreign::helm(text, offset) {
        return helm;
    }
    if error.certainty == Certainty::Exact {
        return error;
    }
    // The parser takes text after a closing bracket for a key.
    let is_vague =
        error.certainty == Certainty::Vague || error.message.starts_with("expected a key with");
    let repairs = foreign::all(text, offset)
        .chain(first_line(text, offset))
        .chain(tabs(text, offset))
        .chain(spaces(text, offset))
        .chain(commas(text, offset))
        .chain(indentation(text, offset))
        .chain(signs(text, offset).filter(|_| is_vague));
    for repair in repairs.take(MOST_PARSED / text.len().max(1)) {
        if reads_on(&repair, text, offset) {
            return SyntaxError {
                position: position(text, repair.mistake),
                message: repair.message.to_owned(),
                help: Some(repair.help),
                certainty: Certainty::Exact,
            };
        }
    }
    error
}

/// Returns `true` if the parser finds no error up to the line of the error at `offset` in the repaired text.
fn reads_on(repair: &Repair, text: &str, offset: usize) -> bool {
    let (before, after) = text.split_at(repair.offset);
    let repaired = [before, repair.inserted, &after[repair.removed..]].concat();
    match Tree::parse_only(&repaired) {
        Ok(_) => true,
        Err(error) => {
            let changed = offset + repair.inserted.len();
            let next = self::offset(&repaired, error.position);
            next.is_some_and(|next| next + repair.removed > changed)
        }
    }
}

/// Returns the offset of a position in bytes.
pub(super) fn offset(text: &str, position: Position) -> Option<usize> {
    let lines = text.split_inclusive('\n').take(position.line - 1);
    let start: usize = lines.map(str::len).sum();
    let line = text[start..].split('\n').next()?;
    let column = line.char_indices().nth(position.column - 1);
    Some(start + column.map_or(line.len(), |(offset, _)| offset))
}

/// Returns the position of an offset in bytes.
pub(in super::super) fn position(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    Position {
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
        ..Position::START
    }
}

/// Returns the lines up to that of `offset`, the last one first, each with its offset. Leaves out lines without content.
pub(super) fn lines(text: &str, offset: usize) -> impl Iterator<Item = (usize, &str)> {
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |end| offset + end);
    let mut rest = Some(&text[..end]);
    let lines = std::iter::from_fn(move || {
        let before = rest?;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        rest = start.checked_sub(1).map(|end| &before[..end]);
        Some((start, &before[start..]))
    });
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .take(LINES)
}

/// Returns the repair of a first line that is indented.
fn first_line(text: &str, offset: usize) -> Option<Repair> {
    let mut start = 0;
    let mut lines = text[..offset].split_inclusive('\n');
    let line = lines.find(|line| {
        let has_content = !line.trim().is_empty() && !line.starts_with('#');
        start += if has_content { 0 } else { line.len() };
        has_content
    })?;
    let removed = line.len() - line.trim_start_matches(' ').len();
    let message = "the first line is indented, but the keys after it are not";
    let help = "remove the spaces at the start of the line";
    (removed > 0).then_some(Repair {
        removed,
        ..Repair::insert(start, "", message, help)
    })
}

/// Returns the repair of a line that is indented by a tab.
fn tabs(text: &str, offset: usize) -> Option<Repair> {
    let (start, line) = lines(text, offset).next()?;
    let indent = line.len() - line.trim_start().len();
    let tab = line[..indent].find('\t')?;
    Some(Repair {
        removed: indent - tab,
        ..Repair::insert(start + tab, "", TAB, "use spaces")
    })
}

/// Returns the repair of a key that is indented more than the key with a value in the line before it, or a little less.
fn indentation(text: &str, offset: usize) -> Option<Repair> {
    let mut lines = lines(text, offset);
    let ((start, line), (_, before)) = (lines.next()?, lines.next()?);
    let own = line.len() - line.trim_start_matches(' ').len();
    let column = before.len() - before.trim_start_matches([' ', '-']).len();
    let is_key = before.contains(": ") && line.contains(':');
    if is_key && own < column && column - own < SPACES.len() {
        let message = "a key is indented less than the key before it";
        let missing = &SPACES[..column - own];
        let help = "indent all keys of a map alike";
        return Some(Repair {
            mistake: start + own,
            ..Repair::insert(start, missing, message, help)
        });
    }
    let message = "a key is indented more than the key before it, which has a value";
    let help = "indent all keys of a map alike, or put a text with \":\" in quotes";
    (is_key && own > column).then(|| Repair {
        mistake: start + own,
        removed: own - column,
        ..Repair::insert(start, "", message, help)
    })
}

/// Returns the repair of a text that begins with a sign of YAML.
fn signs(text: &str, offset: usize) -> Option<Repair> {
    let (start, line) = lines(text, offset).next()?;
    let value = line.find(": ").map(|colon| colon + 2);
    let value =
        value.map(|value| value + line[value..].len() - line[value..].trim_start().len())?;
    // An error before the value has another reason.
    let (message, help) = match line[value..].chars().next()? {
        _ if offset < start + value => return None,
        '!' => ("expected a value, got a YAML tag", super::QUOTE_TAG),
        '|' | '>' | '@' | '`' | '%' | '&' | '*' | ',' => (
            "a text without quotes must not begin with a sign of YAML",
            "put the text in quotes, or on the line after \">-\"",
        ),
        '\'' | '"' | '[' | '{' => (
            "expected the end of the value, got more text",
            "put the whole text on the line after \">-\", or in quotes that it does not have",
        ),
        _ => return None,
    };
    let is_quoted = line[value..].starts_with(['\'', '"']);
    Some(Repair {
        mistake: if is_quoted { offset } else { start + value },
        removed: line[value..].trim_end().len(),
        ..Repair::insert(start + value, "x", message, help)
    })
}

/// Returns the repairs of a `:` or `-` without the space after it.
fn spaces(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    lines(text, offset).filter_map(|(start, line)| {
        let content = line.trim_start_matches([' ', '-']);
        let item = line.trim_start_matches(' ');
        let is_word = |one: char| one.is_ascii_alphanumeric() || "_-".contains(one);
        if let Some(after) = item.strip_prefix('-')
            && after.starts_with(|one: char| one.is_ascii_alphabetic() || one == '{')
        {
            let offset = start + line.len() - after.len();
            let message = "expected a space after \"-\"";
            return Some(Repair::insert(offset, " ", message, "write \"- item\""));
        }
        let colon = content.find(':')?;
        let after = &content[colon + 1..];
        let is_key = colon > 0 && content[..colon].chars().all(is_word);
        let lacks_space =
            !after.is_empty() && !after.starts_with([' ', ':']) && !after.starts_with("//");
        let offset = start + line.len() - after.len();
        (is_key && lacks_space).then(|| {
            let message = "expected a space after \":\"";
            Repair::insert(offset, " ", message, "write \"key: value\"")
        })
    })
}

/// Returns the repairs of a comma that is missing or left over before `offset`.
fn commas(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    let before = text[..offset].trim_end();
    let first = (before.ends_with(['[', '{']) && text[offset..].starts_with(',')).then(|| Repair {
        removed: 1,
        ..Repair::insert(
            offset,
            "",
            "expected a value before the comma",
            "remove the comma",
        )
    });
    let double = (before.ends_with(',') && text[offset..].starts_with(',')).then(|| Repair {
        removed: 1,
        ..Repair::insert(
            offset,
            "",
            "expected a value between two commas",
            "remove one of the commas",
        )
    });
    // The parser finds the error at a key, or at the colon after it.
    let key = match before.strip_suffix('"') {
        Some(open) => open.rfind('"'),
        None => Some(
            before
                .trim_end_matches(|one: char| one.is_alphanumeric() || one == '_')
                .len(),
        ),
    };
    let places = [Some(before), key.map(|start| before[..start].trim_end())];
    let missing = places.into_iter().flatten().filter(|before| {
        let is_value = |one: char| one.is_alphanumeric() || "\"'}]".contains(one);
        before.ends_with(is_value)
    });
    let missing = missing.map(|before| {
        Repair::insert(
            before.len(),
            ",",
            "expected \",\" after the value",
            "separate the members of a map and the items of a list by commas",
        )
    });
    first.into_iter().chain(double).chain(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_j1_points_at_the_mistake_and_not_at_the_place_where_it_is_noticed() {
        for (text, line, column, message) in [
            ("version:1\nserver: {}\n", 1, 9, "a space after \":\""),
            ("a: 1\nb:\n  c:2\n  d: 3\n", 3, 5, "a space after \":\""),
            ("a:\n  -name: x\n    b: c\n", 2, 4, "a space after \"-\""),
            (" a: 1\nb: 2\n", 1, 1, "the first line is indented"),
            ("# x\n\n  a: 1\nb: 2\n", 3, 1, "the first line is indented"),
            ("a: { b: 1 }\n\tc: 2\n", 2, 1, "a tab cannot indent"),
            ("- a: 1\n    b: 2\n    c: 3\n", 2, 5, "indented more than"),
            ("a: 1\n  b: 2\n", 2, 3, "indented more than"),
            ("a: !has(x) || y\nb: 1\n", 1, 4, "got a YAML tag"),
            ("a: 'x' in y\n", 1, 8, "expected the end of the value"),
            ("a: {b.c} == 'x'\n", 1, 4, "expected the end of the value"),
            ("a: `x`\n", 1, 4, "a sign of YAML"),
            ("a: @x == 1\n", 1, 4, "a sign of YAML"),
            ("{\n  \"a\": 1\n  \"b\": 2\n}", 2, 9, "expected \",\" after"),
            ("{ \"a\": true \"b\": 2 }", 1, 12, "expected \",\" after"),
            ("{ \"a\": [1] \"b\": 2 }", 1, 11, "expected \",\" after"),
            (
                "{ \"a\": { \"x\": 1 }\n \"b\": null }",
                1,
                18,
                "expected \",\" after",
            ),
            ("{ \"a\": 1,, \"b\": 2 }", 1, 10, "between two commas"),
            ("{ \"a\": 1,\n, \"b\": 2 }", 2, 1, "between two commas"),
            ("a: [1, 2,, 3]", 1, 10, "between two commas"),
        ] {
            let error = Tree::parse(text).unwrap_err();
            let place = (error.position.line, error.position.column);
            assert_eq!(place, (line, column), "{text}: {}", error.message);
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert!(error.help.is_some());
        }
    }

    #[test]
    fn fault_j1_keeps_the_place_of_other_errors() {
        for (text, line) in [
            ("a: \"x\nb: 1\n", 1),
            ("a: http://x\n  b: 1\n", 2),
            ("a: 1\n b: 2\n", 2),
            ("a: {\n", 1),
        ] {
            let error = Tree::parse(text).unwrap_err();
            assert_eq!(error.position.line, line, "{text}: {}", error.message);
        }
    }
}
