//! Repairs of what other languages write in another way: comments, separators and quotes.

use super::{
    Certainty, SyntaxError,
    repair::{Repair, lines, position},
};

/// A template that another program replaces.
pub(in super::super) struct Foreign {
    pub(in super::super) message: &'static str,
    pub(in super::super) help: &'static str,
}

/// The templates of Helm, in the language of Go.
pub(in super::super) const HELM: Foreign = Foreign {
    message: "expected a value, got a template of Helm",
    help: "check the file that \"helm template\" prints, or write a variable such as ${NAME}",
};

impl Foreign {
    /// Returns `true` if `text` has such a template.
    pub(in super::super) fn is_in(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// Returns the place of the first template in `text`.
    fn find(&self, text: &str) -> Option<usize> {
        let words = [
            "if", "else", "end", "range", "with", "include", "define", "template",
        ];
        let mut braces = text.match_indices("{{").map(|(at, _)| at);
        braces.find(|at| {
            let inside = text[at + 2..].trim_start_matches('-').trim_start();
            let word = inside.split([' ', '}']).next().unwrap_or_default();
            inside.starts_with(['.', '$']) || words.contains(&word)
        })
    }
}

/// Returns the error for a template of Helm without quotes, which YAML reads as a map, near the error at `offset`.
pub(super) fn helm(text: &str, offset: usize) -> Option<SyntaxError> {
    let found = lines(text, offset).filter_map(|(start, line)| {
        let at = HELM.find(line)?;
        let is_text = line[..at].trim_end().ends_with(['"', '\'']) || line[..at].contains('#');
        (!is_text).then_some(start + at)
    });
    Some(SyntaxError {
        position: position(text, found.last()?),
        message: HELM.message.to_owned(),
        help: Some(HELM.help),
        certainty: Certainty::Exact,
    })
}

/// Refuses a file that begins with a block or a statement of another language, such as that of nginx. YAML would read
/// it as one text.
///
/// # Errors
/// Returns an error if the first line with content is such a line.
pub(in super::super) fn check_language(text: &str) -> Result<(), SyntaxError> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') || content.starts_with("---") {
            start += line.len();
            continue;
        }
        let is_word = content.starts_with(|one: char| one.is_ascii_alphabetic());
        let is_foreign = content.ends_with(['{', ';']) && !content.contains(": ");
        if is_word && is_foreign && !content.contains(":{") {
            return Err(SyntaxError {
                position: position(text, start + line.len() - line.trim_start().len()),
                message: "expected a key, got a file of another language, such as that of nginx"
                    .into(),
                help: Some("write YAML or JSON; \"fanout init\" writes an example"),
                certainty: Certainty::Exact,
            });
        }
        break;
    }
    Ok(())
}

/// Maximum number of texts without quotes that are put into them.
const MOST_SIGNS: usize = 4;

/// Returns the repairs of marks that YAML does not have, in the lines up to that of `offset`.
pub(super) fn all(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    comments(text, offset)
        .chain(quotes(text, offset))
        .chain(semicolons(text, offset))
        .chain(trailing_comma(text, offset))
        .chain(signs(text, offset))
}

/// Returns the repairs of lines that are comments of another language.
fn comments(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    lines(text, offset).filter_map(|(start, line)| {
        let content = line.trim_start();
        let marks = ["//", "/*", "--", ";"];
        let is_comment = marks.iter().any(|mark| {
            let after = content.strip_prefix(mark);
            after.is_some_and(|after| !after.starts_with('-'))
        });
        let offset = start + line.len() - content.len();
        let message = "expected a key, got a comment of another language";
        is_comment.then(|| Repair::insert(offset, "# ", message, "begin a comment with \"#\""))
    })
}

/// Returns the repairs of texts in two pairs of quotes.
fn quotes(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    let of = move |quotes: &'static str| {
        lines(text, offset).filter_map(move |(start, line)| {
            let (before, after) = line.split_once(quotes)?;
            let inside = after.find(quotes)?;
            let is_text = after.starts_with(char::is_alphanumeric);
            let message = "expected one pair of quotes around the text, got two";
            let help = "remove one pair of quotes";
            let repair = Repair::insert(start + before.len(), "x", message, help);
            is_text.then(|| repair.removing(inside + 4))
        })
    };
    of("''").chain(of("\"\""))
}

/// Returns the repair of the last semicolon before `offset`.
fn semicolons(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    let end = offset + usize::from(text[offset..].starts_with(';'));
    let place = text[..end].rfind(';').into_iter();
    let message = "expected \",\", got \";\"";
    let help = "separate the members of a map and the items of a list by commas";
    place.map(|place| Repair::insert(place, ",", message, help).removing(1))
}

/// Returns the repair of a comma at `offset`, at the end of a line that is not within brackets.
fn trailing_comma(text: &str, offset: usize) -> Option<Repair> {
    let rest = text[offset..].strip_prefix(',')?;
    let is_last = rest
        .lines()
        .next()
        .is_none_or(|rest| rest.trim().is_empty());
    let message = "expected the end of the line after the value, got \",\"";
    is_last.then(|| Repair::insert(offset, "", message, "remove the comma").removing(1))
}

/// Returns the repairs of texts in brackets that begin with a sign of YAML, such as `*` in `{ a: * }`.
/// Of very many, only the first ones are tried, as each takes as long as parsing the file.
fn signs(text: &str, offset: usize) -> impl Iterator<Item = Repair> {
    let first = lines(text, offset).next().into_iter();
    let repairs = first.flat_map(|(start, line)| {
        let signs = line.match_indices(['*', '&', '@', '%', '`']);
        signs.filter_map(move |(at, _)| {
            // Otherwise it is an anchor or an alias.
            let is_text = !line[at + 1..].starts_with(char::is_alphanumeric)
                || !line[at..].starts_with(['*', '&']);
            let is_start = is_text && line[..at].trim_end().ends_with([':', '[', ',', '{']);
            let end = line[at..].find([',', ']', '}'])?;
            let message = "a text without quotes must not begin with a sign of YAML";
            let help = "put the text in quotes";
            is_start.then(|| Repair::insert(start + at, "x", message, help).removing(end))
        })
    });
    repairs.take(MOST_SIGNS)
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::Tree;

    #[test]
    fn fault_j57_shows_how_yaml_writes_what_other_languages_have() {
        for (text, line, column, message) in [
            ("// x\na: 1\n", 1, 1, "got a comment of another language"),
            ("/* x */\na: 1\n", 1, 1, "got a comment of another language"),
            (
                "a: 1\n-- x\nb: 1\n",
                2,
                1,
                "got a comment of another language",
            ),
            ("; x\na: 1\n", 1, 1, "got a comment of another language"),
            ("a: ''b''\n", 1, 4, "got two"),
            ("a: [''b'', c]\n", 1, 5, "got two"),
            ("a: { b: \"\"c d\"\" }\n", 1, 9, "got two"),
            ("{\"a\": 1; \"b\": 2}", 1, 8, "got \";\""),
            ("{\"a\": 1;\n \"b\": 2}", 1, 8, "got \";\""),
            ("{\"a\": [\"x\"; \"y\"]}", 1, 11, "got \";\""),
            ("{\"a\": {\"b\": 1};\n \"c\": 2}", 1, 15, "got \";\""),
            ("{a: 1; b: 2}", 1, 6, "got \";\""),
            (
                "a: \"b\",\nc: \"d\"\n",
                1,
                7,
                "expected the end of the line",
            ),
            ("a: {b: 1},\nc: 2\n", 1, 10, "expected the end of the line"),
            ("a: [, b]", 1, 5, "expected a value before the comma"),
            ("a: { b: { c: * } }", 1, 14, "a sign of YAML"),
            ("a: [b, @c]", 1, 8, "a sign of YAML"),
            ("a:\n  - b: 1\n   c: 2\n", 3, 4, "indented less than"),
        ] {
            let error = Tree::parse(text).unwrap_err();
            let place = (error.position.line, error.position.column);
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert_eq!(place, (line, column), "{text}: {}", error.message);
        }
    }

    #[test]
    fn fault_j57_accepts_texts_that_look_like_marks_of_other_languages() {
        for text in [
            "a: 'it''s ''b'' c'\n",
            "a: \"b; c\"\n",
            "a: b;c\n",
            "a: >-\n  // b\n  -- c\n",
            "a: ''\n",
        ] {
            assert!(Tree::parse(text).is_ok(), "{text}");
        }
    }
}
