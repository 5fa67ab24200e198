//! Keeps secrets of a configuration out of its diagnostics.
//!
//! An excerpt of the file is masked by default ([`excerpt`]): keys, structure and harmless values are visible, and so is
//! the value that a diagnostic is about, if its key cannot hold a secret ([`key`]). Messages quote values where that is
//! useful, and lose the parts that may be secret ([`message`]). URLs lose their credentials in both ([`url`]).

mod excerpt;
mod key;
mod message;
mod token;
mod url;

use std::ops::Range;

pub(super) use self::{
    excerpt::{Named, mask_excerpts, names},
    key::{is_secret, longest_public, shown_key},
    message::{redact_message, redact_path, redact_words},
    token::tokens,
    url::is_url,
};

/// The beginning of a key or a certificate in PEM format.
pub(super) const PEM: &str = "-----BEGIN";

/// Replaces each character in `ranges` of `text` by a star, so that lines and columns stay the same.
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

/// Returns `true` for a character of a name.
fn is_part(one: char) -> bool {
    one.is_alphanumeric() || "_-".contains(one)
}
