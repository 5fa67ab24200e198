//! Refuses comments of JavaScript in a JSON file. The parser would read them as texts without quotes.

use super::{Certainty, SyntaxError, repair};

/// Returns an error at the first comment of a JSON file.
pub(in super::super) fn check_comments(text: &str) -> Result<(), SyntaxError> {
    let Some((first, stripped)) = without_comments(text) else {
        return Ok(());
    };
    // In YAML, a text such as `//` needs no quotes. Such a file is not JSON up to that place.
    let is_json = match serde_json::from_str::<serde::de::IgnoredAny>(&stripped) {
        Ok(_) => true,
        Err(error) => {
            let place = repair::position(text, first);
            (error.line(), error.column()) > (place.line, place.column)
        }
    };
    if !is_json {
        return Ok(());
    }
    Err(SyntaxError {
        position: repair::position(text, first),
        message: "JSON has no comments".to_owned(),
        help: Some("remove it, or begin it with \"#\", as in YAML"),
        certainty: Certainty::Exact,
    })
}

/// Returns the offset of the first comment, and the text with spaces in place of the comments. Returns `None` if the text
/// does not begin as a JSON file with comments does.
fn without_comments(text: &str) -> Option<(usize, String)> {
    let mut stripped = String::with_capacity(text.len());
    let mut first = None;
    let mut rest = text.trim_start_matches('\u{feff}');
    let (mut has_content, mut is_text) = (false, false);
    while let Some(one) = rest.chars().next() {
        let comment = if is_text { 0 } else { comment(rest) };
        let is_content = comment == 0 && !one.is_whitespace();
        if is_content && !has_content && one != '{' {
            return None;
        }
        has_content |= is_content;
        if comment > 0 {
            first = first.or(Some(text.len() - rest.len()));
            let blank = |one: char| if one == '\n' { '\n' } else { ' ' };
            stripped.extend(rest[..comment].chars().map(blank));
            rest = &rest[comment..];
            continue;
        }
        let escape = rest.starts_with("\\\\") || rest.starts_with("\\\"");
        let length = if is_text && escape { 2 } else { one.len_utf8() };
        is_text ^= one == '"';
        stripped.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Some((first?, stripped))
}

/// Returns the length of the comment at the start of `text`, or 0 for other text.
fn comment(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    match text.strip_prefix("/*") {
        Some(inside) => inside.find("*/").map_or(text.len(), |end| end + 4),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::check_comments;

    #[test]
    fn fault_j57_reports_the_first_comment_of_a_json_file() {
        for (text, line, column) in [
            ("// x\n{ \"a\": 1 }", 1, 1),
            ("/* x\n */ { \"a\": 1 }", 1, 1),
            ("{\n  // x\n  \"a\": 1 // y\n}", 2, 3),
            ("{ \"a\": \"\u{e9}\\\"//\", /* x */ \"b\": 2 }", 1, 17),
            ("{ \"a\": 1, /* x", 1, 11),
            // The mistake after the comment is reported next.
            ("{ \"a\": 1, // x\n }", 1, 11),
            ("{ \"a\": 1 }\n// x", 2, 1),
        ] {
            let error = check_comments(text).unwrap_err();
            let place = (error.position.line, error.position.column);
            assert_eq!(place, (line, column), "{text}");
        }
    }

    #[test]
    fn fault_j57_slashes_in_texts_are_no_comments() {
        for text in [
            "{ \"a\": \"http://b\", \"c\": \"/* d */\" }",
            "{ \"a\": \"\\\\\", \"b\": \"//\" }",
            "{ a: http://b, c: /* }",
            "{ \"a\": http://b }",
            "a: // b",
            "\"a\": /* b",
            "{ \"a\": 1 } # // b",
            "",
        ] {
            assert!(check_comments(text).is_ok(), "{text}");
        }
    }
}
