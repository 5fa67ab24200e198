//! Credentials in URLs.

use std::ops::Range;

use super::{is_part, key::is_secret};

/// Returns `true` if `text` begins like a URL, or with a host and a port. Other text in place of a URL may be a secret.
pub(in super::super) fn is_url(text: &str) -> bool {
    let has_port = |(_, port): (&str, &str)| is_port(port);
    text.contains("://") || text.split_once(':').is_some_and(has_port)
}

/// Returns `true` if `value` begins with a port: the name before it is that of a host.
pub(super) fn is_port(value: &str) -> bool {
    let digits = value.len()
        - value
            .trim_start_matches(|one: char| one.is_ascii_digit())
            .len();
    (1..=5).contains(&digits) && !value[digits..].starts_with(is_part)
}

/// Returns the ranges of credentials in URLs, and of what may be some: query and fragment of an absolute URL, and the
/// values of other parameters with the names of secrets. `is_value` is `true` if the text is one value, and not a message.
pub(super) fn credentials(text: &str, is_value: bool) -> impl Iterator<Item = Range<usize>> {
    user_information(text)
        .chain(parameters(text))
        .chain(rest_of_urls(text, is_value))
}

/// Returns the ranges before the last `@` of a URL: everything after `://`, or the whole text with a colon, as in
/// `user:password@host`.
fn user_information(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices('@').filter_map(|(at, _)| {
        let word = start_of_word(text, at);
        let before = &text[word..at];
        let start = match before.find("://") {
            Some(scheme) => scheme + "://".len(),
            None => before.contains(':').then_some(0)?,
        };
        Some(word + start..at)
    })
}

/// Returns the ranges of the values of query parameters whose names are those of secrets. A placeholder without a default
/// stays visible.
fn parameters(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices(['?', '&']).filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        let name = &rest[..rest.find(|one: char| !is_part(one))?];
        let value = rest[name.len()..].strip_prefix('=')?;
        let is_end = |one: char| one.is_whitespace() || "\"'&#".contains(one);
        let value = &value[..value.find(is_end).unwrap_or(value.len())];
        let inside = value.trim_start_matches('$').strip_prefix('{');
        let inside = inside.and_then(|inside| inside.strip_suffix('}'));
        let is_reference = inside.is_some_and(|inside| !inside.contains(['|', '-', '}']));
        let start = at + 1 + name.len() + 1;
        (!value.is_empty() && !is_reference && is_secret(name)).then(|| start..start + value.len())
    })
}

/// Returns the ranges of absolute URLs after their paths. White space is a part of a URL in quotes.
fn rest_of_urls(text: &str, is_value: bool) -> impl Iterator<Item = Range<usize>> {
    text.match_indices("://").filter_map(move |(at, scheme)| {
        let before = &text[..start_of_word(text, at)];
        let is_quoted = before.ends_with(['"', '\'']);
        let start = at + scheme.len();
        let ends =
            |one: char| !is_value && ("\"'".contains(one) || !is_quoted && one.is_whitespace());
        let end = text[start..]
            .find(ends)
            .map_or(text.len(), |end| start + end);
        let url = &text[start..end];
        let authority = &url[..url.find('/').unwrap_or(url.len())];
        // A second colon is that of a password without the sign after it.
        if authority.matches(':').count() > 1 && !authority.contains('[') {
            return Some(start..end);
        }
        let is_rest = |one: char| "?#=\"'".contains(one) || one.is_whitespace();
        let rest = url.find(is_rest)?;
        // The sign itself is visible, because messages are about it.
        let shown = text[start + rest..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        Some(start + rest + shown..end)
    })
}

/// Returns where the word with the character at `at` starts.
fn start_of_word(text: &str, at: usize) -> usize {
    let is_end = |(_, one): &(usize, char)| one.is_whitespace() || "\"'".contains(*one);
    let end = text[..at].char_indices().rev().find(is_end);
    end.map_or(0, |(end, one)| end + one.len_utf8())
}
