//! Redacts secrets and URL credentials in text from a configuration file.

use std::ops::Range;

/// Words that mark a key as that of a secret.
const SECRET: [&str; 5] = ["secret", "password", "authorization", "cookie", "api-key"];

/// Words that mark a key as that of a secret only as they are written, because other keys are similar to them.
const SECRET_AS_WRITTEN: [&str; 2] = ["token", "private_key"];

/// Replaces each character of a secret by a star, so that lines and columns stay the same.
///
/// Works on the text, not on parsed YAML, because snippets of invalid files are shown too. In doubt it
/// redacts. A reference such as `${NAME}` stays visible.
pub(super) fn redact(text: &str) -> String {
    mask(text, secrets(text).chain(credentials(text)))
}

/// Replaces each character of credentials in URLs by a star.
pub(super) fn redact_credentials(text: &str) -> String {
    mask(text, credentials(text))
}

fn mask(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut hidden = vec![false; text.len()];
    for range in ranges {
        // Ranges are in bytes. A character is hidden if its first byte is.
        hidden[range].fill(true);
    }
    let masked = text.char_indices().map(|(at, char)| match char {
        '\n' => char,
        _ if hidden[at] => '*',
        _ => char,
    });
    masked.collect()
}

/// Returns the ranges of values whose keys look like those of secrets.
fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices(':').filter_map(|(colon, _)| {
        let key = text[..colon].trim_end();
        let before = key.trim_end_matches(['"', '\'']);
        // YAML allows a value directly after the colon only if the key is quoted.
        let separate = text[colon + 1..].starts_with(char::is_whitespace);
        // The key is the last word before the colon.
        let name = before
            .rsplit(|c: char| !(c.is_alphanumeric() || "_-".contains(c)))
            .next()?;
        ((separate || before.len() < key.len()) && is_secret(name))
            .then(|| value(text, before.len() - name.len(), colon + 1))?
    })
}

/// Returns `true` if `name` contains a word for secrets, or is a misspelling of one. Keys that end in
/// `_file` hold a path, not a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let contains = |word| name.contains(word) || strsim::damerau_levenshtein(&name, word) <= 2;
    let is_listed = SECRET.into_iter().any(contains)
        || SECRET_AS_WRITTEN
            .into_iter()
            .any(|word| name.contains(word));
    name.len() <= 64 && !name.ends_with("_file") && is_listed
}

/// Returns the range of the value that starts at or after `from` and belongs to the key at `key`.
fn value(text: &str, key: usize, from: usize) -> Option<Range<usize>> {
    let start = from + text[from..].len() - text[from..].trim_start().len();
    let value = &text[start..];
    // The name of a variable is not secret, and helps to find the mistake.
    if is_reference(value) {
        return None;
    }
    let line = text[..key].rfind('\n').map_or(0, |end| end + 1);
    // More opening than closing braces on the line mean that the value is inside a flow map.
    let braces = |brace| text[line..key].matches(brace).count();
    let length = match value.chars().next()? {
        quote @ ('"' | '\'') => quoted(value, quote),
        _ if braces('{') > braces('}') => {
            let end = value.find([',', '}', ']', '\n']).unwrap_or(value.len());
            value[..end].trim_end().len()
        }
        _ => plain(value, key - line),
    };
    Some(start..start + length)
}

/// Returns `true` if the value is a variable reference without a default.
fn is_reference(value: &str) -> bool {
    let inside = value
        .trim_start_matches(['"', '\''])
        .strip_prefix("${")
        .and_then(|rest| rest.split_once('}'));
    inside.is_some_and(|(name, after)| {
        !name.contains(":-")
            && (after.chars().next()).is_none_or(|c| c.is_whitespace() || "\"',}]".contains(c))
    })
}

/// Returns the length of a quoted string. A quote ends the string only before whitespace, a comma or a
/// closing bracket. Without one, the string is the rest of the text.
fn quoted(value: &str, quote: char) -> usize {
    let ends = |at: &usize| {
        !value[..*at].ends_with('\\')
            && value[at + 1..]
                .chars()
                .next()
                .is_none_or(|next| next.is_whitespace() || ",}]".contains(next))
    };
    let mut quotes = value.match_indices(quote).skip(1).map(|(at, _)| at);
    quotes.find(ends).map_or(value.len(), |end| end + 1)
}

/// Returns the length of an unquoted value: the rest of its line, and the following lines that are
/// indented further than its key.
fn plain(value: &str, indent: usize) -> usize {
    let belongs = |line: &str| {
        let trimmed = line.trim_start();
        trimmed.is_empty() || line.len() - trimmed.len() > indent
    };
    let mut lines = value.split_inclusive('\n');
    let first = lines.next().map_or(0, str::len);
    first
        + lines
            .take_while(|line| belongs(line))
            .map(str::len)
            .sum::<usize>()
}

/// Returns the ranges of credentials in URLs: everything between `://` and the last `@`.
fn credentials(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(|(at, mark)| {
        let start = at + mark.len();
        let rest = &text[start..];
        let end = rest
            .find(|c: char| c.is_whitespace() || "\"'".contains(c))
            .unwrap_or(rest.len());
        Some(start..start + rest[..end].rfind('@')?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i17_l4_masks_secrets_in_any_notation() {
        for (text, masked) in [
            ("secret: abc, def # ghi", "secret: **************"),
            (
                "{ \"secret\": \"a\\\", b\", kid: c }",
                "{ \"secret\": ********, kid: c }",
            ),
            ("{ secret: 'it''s', kid: c }", "{ secret: *******, kid: c }"),
            (
                "{ secret: \"never closed\nkid: a",
                "{ secret: *************\n******",
            ),
            (
                "  - secret: |\n      abc\n\n      def\n    kid: a",
                "  - secret: *\n*********\n\n*********\n    kid: a",
            ),
            (
                "{ b: { secret: abc }, kid: c }",
                "{ b: { secret: *** }, kid: c }",
            ),
            ("secret:\n  abc\nkid: a", "secret:\n  ***\nkid: a"),
            ("secert: é1\nkid: a", "secert: **\nkid: a"),
            ("client_password: a", "client_password: *"),
            ("X-Api-Key: a", "X-Api-Key: *"),
            ("{ secret: ${NAME}, kid: a }", "{ secret: ${NAME}, kid: a }"),
            ("secret: \"${NAME}\"", "secret: \"${NAME}\""),
            ("secret: ${NAME:-abc}", "secret: ************"),
            ("secret: ${NAME}abc", "secret: **********"),
            ("secret_file: /run/a", "secret_file: /run/a"),
            (
                "url: \"http://ada:b@c/d@host/\", kid: a",
                "url: \"http://*********@host/\", kid: a",
            ),
            ("url: http://host/", "url: http://host/"),
            ("secret:", "secret:"),
            ("{\"secret\":\"a\"}", "{\"secret\":***}"),
            ("secret: ${A_SECRET:?set it}", "secret: ${A_SECRET:?set it}"),
            ("select: a, server: b", "select: a, server: b"),
        ] {
            assert_eq!(redact(text), masked, "{text}");
        }
    }
}
