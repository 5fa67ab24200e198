//! What of a file is shown to nobody: secrets that are written in it, and credentials in addresses.

use std::ops::Range;

/// What the names of secrets contain.
const SECRET: [&str; 5] = ["secret", "password", "authorization", "cookie", "api-key"];

/// `text` with a star for each character of a secret, so that lines and columns stay as they are.
///
/// It goes by what stands there, as a file that cannot be read as YAML is shown too, and hides rather
/// too much. A reference such as `${NAME}` is no secret.
pub(super) fn redact(text: &str) -> String {
    starred(text, secrets(text).chain(credentials(text)))
}

/// `text` with a star for each character of the credentials in addresses.
pub(super) fn redact_credentials(text: &str) -> String {
    starred(text, credentials(text))
}

fn starred(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut hidden = vec![false; text.len()];
    for range in ranges {
        hidden[range].fill(true);
    }
    let shown = text.char_indices().map(|(at, char)| match char {
        '\n' => char,
        _ if hidden[at] => '*',
        _ => char,
    });
    shown.collect()
}

/// The values of keys that are named like secrets.
fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices(':').filter_map(|(colon, _)| {
        let key = text[..colon].trim_end();
        let before = key.trim_end_matches(['"', '\'']);
        // Only after a key in quotes nothing needs to come between.
        let separate = text[colon + 1..].starts_with(char::is_whitespace);
        let name = before
            .rsplit(|c: char| !(c.is_alphanumeric() || "_-".contains(c)))
            .next()?;
        ((separate || before.len() < key.len()) && is_secret(name))
            .then(|| value(text, before.len() - name.len(), colon + 1))?
    })
}

/// Whether it is a key of secrets, or was meant to be one. A file's path is none.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let contains = |word| name.contains(word) || strsim::damerau_levenshtein(&name, word) <= 2;
    name.len() <= 64 && !name.ends_with("_file") && SECRET.into_iter().any(contains)
}

/// The value that follows at `from` the key at `key`.
fn value(text: &str, key: usize, from: usize) -> Option<Range<usize>> {
    let start = from + text[from..].len() - text[from..].trim_start().len();
    let value = &text[start..];
    if is_reference(value) {
        return None;
    }
    let line = text[..key].rfind('\n').map_or(0, |end| end + 1);
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

/// Whether it is the name of a variable, without a default.
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

/// How long a string in quotes is: it ends before what can follow one, or not at all.
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

/// How long anything else is: to the end of its line, with the lines that are indented further than
/// its key.
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

/// What stands before an `@` in an address.
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
    fn fault_i17_l4_secrets_are_stars_however_they_are_written() {
        for (text, shown) in [
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
            assert_eq!(redact(text), shown, "{text}");
        }
    }
}
