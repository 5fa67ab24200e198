//! The messages of the parser in the words of this project.

use super::{Certainty, QUOTE_TAG, SyntaxError, TAB, TOO_MANY, repair};

/// Messages about escapes.
const ESCAPES: [&str; 2] = [
    "unknown escape in a quoted string",
    "expected the hexadecimal digits of a character after \"\\x\", \"\\u\" or \"\\U\"",
];

/// Messages of the parser, with a message and a help text for users of the file.
const SCANNER: [(&str, &str, &str); 26] = [
    (
        "while parsing a quoted scalar, found unknown escape character",
        ESCAPES[0],
        "write \\\\ for a backslash, or use single quotes",
    ),
    (
        "while parsing a block mapping, did not find expected key",
        "expected a key with the same indentation as the keys before it",
        "indent all keys of a map alike",
    ),
    (
        "while parsing a block collection, did not find expected '-' indicator",
        "expected an item that begins with \"-\", with the same indentation as those before it",
        "indent all items of a list alike",
    ),
    (
        "tabs disallowed within this context (block indentation)",
        TAB,
        "use spaces",
    ),
    (
        "while scanning a plain scalar, found a tab",
        TAB,
        "use spaces",
    ),
    ("tab cannot be used as indentation", TAB, "use spaces"),
    (
        "mapping values are not allowed in this context",
        "expected a value, got a key and a value",
        "begin a new line for a map, or put a text with \":\" in quotes",
    ),
    (
        "simple key expected ':'",
        "expected \":\" after the key",
        "write \"key: value\"",
    ),
    (
        "while parsing a flow mapping, did not find expected ',' or '}'",
        "expected \",\" or \"}\"",
        "close the map, separate its keys by commas, or put a text with { or } in quotes",
    ),
    (
        "while parsing a flow sequence, expected ',' or ']'",
        "expected \",\" or \"]\"",
        "close the list, or separate its items by commas",
    ),
    (
        "unclosed quote",
        "a quote is not closed",
        "add the closing quote",
    ),
    (
        "misplaced bracket",
        "a closing bracket without an opening one",
        "remove it, or add the opening bracket",
    ),
    (
        "recursion limit exceeded",
        "lists and maps are nested too deeply",
        "use fewer levels",
    ),
    (
        "did not find expected <document start>",
        "expected the end of the file, got more text",
        "remove it, or make it a part of the map before it",
    ),
    (
        "block sequence entries are not allowed in this context",
        "expected a value, got an item of a list",
        "begin a new line for a list, or write it in brackets",
    ),
    (
        "mapping keys are not allowed in this context",
        "expected a value, got \"?\"",
        "put a text that begins with \"?\" in quotes",
    ),
    (
        "comment intercepting the multiline text",
        "a text must not continue in the line after a comment",
        "indent all keys of a map alike, or put a text with \":\" in quotes",
    ),
    (
        "expected string scalar",
        "expected a key, got a list or a map",
        "put a key or a text with brackets or braces in quotes",
    ),
    (
        "a block scalar content cannot start with a tab",
        TAB,
        "use spaces",
    ),
    (
        "a BOM must not appear inside a document",
        "expected text, got a byte order mark (U+FEFF)",
        "remove it: only the start of a file may have one",
    ),
    (
        "comments must be separated from other tokens by whitespace",
        "expected a space before \"#\"",
        "write a space before a comment, or put a text with \"#\" in quotes",
    ),
    (
        "while scanning a quoted scalar, found unexpected document indicator",
        "a quote is not closed",
        "add the closing quote",
    ),
    (
        "while parsing a node, did not find expected node content",
        "expected a value",
        "add a value",
    ),
    (
        "invalid indentation in flow construct",
        "a line in brackets is indented less than the key before them",
        "indent it more than the key",
    ),
    (
        "invalid indentation in multiline quoted scalar",
        "a line of a quoted text is indented less than the key before it",
        "indent it more than the key",
    ),
    (
        "wrongly indented line in block scalar",
        "a line of a text is indented less than the line before it",
        "indent all lines of a text alike",
    ),
];

/// First words of messages of the parser that say the same in many ways, with a message and a help text for users of the file.
const FAMILIES: [(&str, &str, &str); 12] = [
    (
        "while parsing a tag",
        "expected a value, got a YAML tag",
        QUOTE_TAG,
    ),
    (
        "while scanning a tag",
        "expected a value, got a YAML tag",
        QUOTE_TAG,
    ),
    (
        "while scanning a verbatim tag",
        "expected a value, got a YAML tag",
        QUOTE_TAG,
    ),
    (
        "duplicate tag",
        "expected a value, got a YAML tag",
        QUOTE_TAG,
    ),
    (
        "while scanning an anchor",
        "expected a name after \"&\" or \"*\"",
        "put a text that begins with \"&\" or \"*\" in quotes",
    ),
    (
        "while scanning a block scalar",
        "expected the end of the line after \"|\" or \">\"",
        "put a text that begins with \"|\" or \">\" in quotes",
    ),
    (
        "invalid trailing content",
        "expected the end of the value, got more text",
        "put the whole text in quotes",
    ),
    (
        "unexpected EOF",
        "expected a value, got the end of the file",
        "add the value",
    ),
    (
        "while scanning a YAML directive",
        "expected a key, got a directive of YAML",
        "remove the line that begins with \"%\"",
    ),
    (
        "while scanning a directive",
        "expected a key, got a directive of YAML",
        "remove the line that begins with \"%\"",
    ),
    (
        "duplicate version directive",
        "expected a key, got a directive of YAML",
        "remove the line that begins with \"%\"",
    ),
    (
        "missing explicit document end",
        "expected a key, got a directive of YAML",
        "remove the line that begins with \"%\"",
    ),
];

impl SyntaxError {
    /// Moves the error of an escape from the start of its text to the escape.
    pub(in super::super) fn at_escape(mut self, text: &str) -> Self {
        let is_escape = ESCAPES.contains(&&*self.message);
        let start = repair::offset(text, self.position).filter(|_| is_escape);
        if let Some((start, length)) =
            start.and_then(|start| Some((start, escape(&text[start..])?)))
        {
            self.position = repair::position(text, start + length);
        }
        self
    }
}

/// Returns the offset of the first escape in `text` that is not valid.
fn escape(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text[at..].find('\\')?;
        let kind = text[at + 1..].chars().next()?;
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let start = at + 1 + kind.len_utf8();
        let written = text.get(start..start + digits);
        let code = written.and_then(|written| u32::from_str_radix(written, 16).ok());
        let is_valid = match digits {
            0 => "0abt\tnvfre \"/\\N_LP\r\n".contains(kind),
            // The two halves of a character are checked by the parser.
            _ => code.is_some_and(|code| code <= 0x0010_ffff),
        };
        if !is_valid {
            return Some(at);
        }
        at = start + digits;
    }
}

/// Returns the message and the help text for a message of the parser, and what is known about its place.
pub(super) fn of_scanner(message: &str) -> (String, Option<&'static str>, Certainty) {
    if let Some((message, help)) = known(message) {
        return (message, Some(help), Certainty::Likely);
    }
    if message.starts_with("while parsing a quoted scalar,") {
        let help = "write all digits, or \\\\ for a backslash";
        return (ESCAPES[1].to_owned(), Some(help), Certainty::Likely);
    }
    let family = FAMILIES
        .iter()
        .find(|(start, ..)| message.starts_with(start));
    match family {
        Some((_, message, help)) => ((*message).to_owned(), Some(*help), Certainty::Vague),
        None => (message.to_owned(), None, Certainty::Vague),
    }
}

fn known(message: &str) -> Option<(String, &'static str)> {
    if let Some((_, message, help)) = SCANNER.iter().find(|(theirs, ..)| *theirs == message) {
        return Some(((*message).to_owned(), help));
    }
    let bracket = message.strip_prefix("unclosed bracket '");
    if let Some(bracket) = bracket.and_then(|rest| rest.strip_suffix('\'')) {
        return Some((
            format!("\"{bracket}\" is not closed"),
            "add the closing bracket",
        ));
    }
    let mismatched = message.strip_prefix("mismatched bracket '");
    let mismatched =
        mismatched.and_then(|rest| rest.strip_suffix('\'')?.split_once("' closed by '"));
    if let Some((open, close)) = mismatched {
        let help = "close the brackets in the order in which they were opened";
        return Some((format!("\"{open}\" is closed by \"{close}\""), help));
    }
    if message.starts_with("YAML document too large") {
        return Some((TOO_MANY.0.to_owned(), TOO_MANY.1));
    }
    // A tag of the core schema before a value of another type.
    let number = ["invalid u64", "invalid i64", "invalid f64", "invalid bool"];
    let is_number = number.iter().any(|theirs| message.starts_with(theirs));
    is_number.then(|| {
        let message = "the value does not have the type that its YAML tag names";
        (message.to_owned(), "remove the tag, or correct the value")
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::Tree;

    /// Texts of which the parser has a message of its own, each with line and column of the mistake and with a part of the
    /// message.
    const TEXTS: [(&str, usize, usize, &str); 24] = [
        (r#"{"a": "b\x"}"#, 1, 9, "expected the hexadecimal digits"),
        (
            r#"{"a": "b\\\u12"}"#,
            1,
            11,
            "expected the hexadecimal digits",
        ),
        (
            r#"a: "\U00110000""#,
            1,
            5,
            "expected the hexadecimal digits",
        ),
        (r#"a: "\ud800""#, 1, 4, "expected the hexadecimal digits"),
        ("a: \"b\n  \\d\"\n", 2, 3, "unknown escape"),
        ("a: !x !y z\n", 1, 4, "got a YAML tag"),
        ("a: !!str !!str z\n", 1, 4, "got a YAML tag"),
        ("a: !<x\n", 1, 4, "got a YAML tag"),
        ("a: & b\n", 1, 4, "must not begin with a sign of YAML"),
        ("a: |x\n  b\n", 1, 4, "must not begin with a sign of YAML"),
        ("a: ,b\n", 1, 4, "must not begin with a sign of YAML"),
        ("%x\na: 1\n", 2, 1, "expected the end of the file"),
        ("%YAML 1\na: 1\n", 1, 1, "got a directive of YAML"),
        ("a: 1\n%x\n", 2, 1, "got a directive of YAML"),
        ("a: - b\n", 1, 4, "got an item of a list"),
        ("a: ? b\n", 1, 4, "got \"?\""),
        ("a: [b]#c\n", 1, 7, "expected a space before \"#\""),
        ("{a: 1}\n{b: 1}\n", 2, 1, "expected the end of the file"),
        ("[a, b]: c\n", 1, 1, "expected a key, got a list or a map"),
        ("a: {{ x }}\n", 1, 5, "expected a key, got a list or a map"),
        ("a: |\n\tb\n", 2, 1, "a tab cannot indent"),
        ("a: b\n\n\u{feff}c: d\n", 3, 1, "byte order mark"),
        ("a: b # c\n d: e\n", 1, 6, "after a comment"),
        ("a: \"b\n---\nc\"\n", 1, 4, "a quote is not closed"),
    ];

    #[test]
    fn fault_j57_messages_of_the_parser_are_in_the_words_of_this_project() {
        for (text, line, column, message) in TEXTS {
            let error = Tree::parse(text).unwrap_err();
            let place = (error.position.line, error.position.column);
            assert!(error.message.contains(message), "{text}: {}", error.message);
            assert_eq!(place, (line, column), "{text}: {}", error.message);
            assert!(error.help.is_some(), "{text}: {}", error.message);
        }
    }
}
