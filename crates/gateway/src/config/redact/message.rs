//! Removes secrets from messages and paths, which may quote keys, values and URLs of the file.

use std::ops::Range;

use super::{
    PEM, is_part,
    key::{LONGEST_WORD, is_secret, is_separator, shown_key},
    mask,
    url::{credentials, is_port},
};

/// Replaces each character of credentials in URLs by a star, and what follows the name of a secret in quotes: a key that
/// was meant to be a key and a value.
pub(in super::super) fn redact_message(text: &str) -> String {
    mask(
        text,
        unseparated(text)
            .chain(pem(text))
            .chain(credentials(text, false)),
    )
}

/// Replaces each character by a star after one that keys do not have: a key that was meant to be a key and a value.
pub(in super::super) fn redact_path(text: &str) -> String {
    shown_key(text)
}

/// Replaces the words of `text` that are words of `value` too, unless `written`, the text of the file, has them.
pub(in super::super) fn redact_words(text: &str, value: &str, written: &str) -> String {
    let is_hidden = |word: &str| {
        word.len() > LONGEST_WORD
            && value.split(|one| !is_part(one)).any(|own| own == word)
            && !written.contains(word)
    };
    let words = text.split_inclusive(|one| !is_part(one)).map(|piece| {
        let word = piece.trim_end_matches(|one| !is_part(one));
        match is_hidden(word) {
            true => piece.replacen(word, "***", 1),
            false => piece.to_owned(),
        }
    });
    words.collect()
}

/// Returns the ranges of what follows the name of a secret at the start of a text in quotes: `secret:hunter2` and
/// `secret hunter2`.
fn unseparated(text: &str) -> impl Iterator<Item = Range<usize>> {
    let quotes = text.match_indices('"').map(|(at, _)| at + 1);
    quotes.filter_map(|start| {
        let quoted = &text[start..];
        let quoted = &quoted[..quoted.find('"').unwrap_or(quoted.len())];
        let name = &quoted[..quoted.find(|one| !is_part(one))?];
        let value = quoted[name.len()..].trim_start_matches(is_separator);
        let is_separated = name.len() + value.len() < quoted.len();
        let is_value = is_separated && !value.is_empty() && !is_port(value);
        let end = start + quoted.len();
        (is_value && is_secret(name)).then(|| end - value.len()..end)
    })
}

/// Returns the range of a key or a certificate in PEM format.
fn pem(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.find(PEM).map(|start| start..text.len()).into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i17_masks_values_that_are_quoted_as_keys() {
        for (text, masked) in [
            (
                "unknown key \"secret:hunter2\"",
                "unknown key \"secret:*******\"",
            ),
            (
                "unknown key \"secret hunter2\" here",
                "unknown key \"secret *******\" here",
            ),
            ("got \"/?api_key=hunter2\"", "got \"/?api_key=*******\""),
            (
                "got \"http://up/?a=hunter2&b=2#hunter2\"",
                "got \"http://up/?*********************\"",
            ),
            (
                "the token of \"up\" is a secret: x",
                "the token of \"up\" is a secret: x",
            ),
            (
                "expected \"secret\" or \"pem_file\"",
                "expected \"secret\" or \"pem_file\"",
            ),
        ] {
            assert_eq!(redact_message(text), masked, "{text}");
        }
        assert_eq!(
            redact_path("keys[0].secret:hunter2"),
            "keys[0].secret:*******"
        );
        assert_eq!(
            redact_path("keys[0].cooki@e hunter2"),
            "keys[0].cooki@e *******"
        );
        assert_eq!(redact_path("keys[0].secret"), "keys[0].secret");
    }
}
