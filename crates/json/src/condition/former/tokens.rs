//! The tokens of conditions in other languages than CEL.

/// Operators that CEL does not have, or that it writes in another way.
pub(super) const FORMER_OPERATORS: [&str; 12] = [
    "&", "//", "<>", "=", "===", "!==", "and", "if", "not", "or", "|", "~",
];

/// The word of JavaScript for a missing value.
pub(in super::super) const UNDEFINED: &str = "undefined";

/// Returns the constant of CEL that `name` is in other languages.
pub(in super::super) fn constant(name: &str) -> Option<&'static str> {
    match name {
        "True" | "TRUE" => Some("true"),
        "False" | "FALSE" => Some("false"),
        "None" | "none" | "nil" | "Null" | "NULL" => Some("null"),
        _ => None,
    }
}

/// Returns a word as the former language has it: `and` for `AND`.
pub(super) fn in_lower_case(token: &str) -> &str {
    match token {
        "AND" | "And" => "and",
        "OR" | "Or" => "or",
        "NOT" | "Not" => "not",
        "IN" | "In" => "in",
        "IS" | "Is" => "is",
        other => other,
    }
}

/// Returns `true` if `token` is a name, a number or a string.
pub(super) fn is_value(token: &str) -> bool {
    let is_word =
        |word: &str| !["else", "in", "is"].contains(&word) && !FORMER_OPERATORS.contains(&word);
    token.starts_with(|first: char| {
        first.is_alphanumeric() || "_'\"".contains(first) || closing(first).is_some()
    }) && is_word(token)
}

/// Returns the quote that closes one of another language or of a word processor.
fn closing(quote: char) -> Option<char> {
    match quote {
        '\u{2018}' => Some('\u{2019}'),
        '\u{201c}' => Some('\u{201d}'),
        '\u{2019}' | '\u{201d}' | '`' => Some(quote),
        _ => None,
    }
}

/// Returns the content of a text in quotes that CEL does not have.
pub(super) fn foreign_text(token: &str) -> Option<&str> {
    let end = token.chars().next().and_then(closing)?;
    let mut content = token.chars();
    content.next();
    content.as_str().strip_suffix(end)
}

/// Splits `text` into strings, words, numbers and operators, each with its offset in bytes.
pub(super) fn tokens(text: &str) -> Vec<(usize, &str)> {
    let (mut tokens, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let is_part = |one: char| one.is_alphanumeric() || one == '_';
        let length = match (first, closing(first)) {
            ('"' | '\'', _) => quoted(rest, first),
            (_, Some(end)) => {
                let inside = &rest[first.len_utf8()..];
                let content = inside.find(end).map(|end| end + first.len_utf8());
                content.map_or(rest.len(), |content| content + end.len_utf8())
            }
            ('0'..='9', _) => rest
                .find(|one| !is_part(one) && one != '.')
                .unwrap_or(rest.len()),
            _ if is_part(first) => rest.find(|one| !is_part(one)).unwrap_or(rest.len()),
            _ => {
                let signs = [
                    "===", "!==", "==", "!=", "<=", ">=", "<>", "&&", "||", "//", "?.", ".?",
                ];
                let sign = signs.iter().find(|sign| rest.starts_with(**sign));
                sign.map_or(first.len_utf8(), |sign| sign.len())
            }
        };
        let (token, after) = rest.split_at(length);
        tokens.push((text.len() - rest.len(), token));
        rest = after.trim_start();
    }
    tokens
}

/// Returns the length of the string at the start of `text`, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = true;
    let end = text.find(|one| {
        let is_end = one == quote && !is_escaped;
        is_escaped = one == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 1)
}
