//! Keeps secrets of a configuration out of its diagnostics.
//!
//! There is one rule, for messages, helps, paths and excerpts in each output format: a text of the file is shown only if
//! it is harmless. Harmless are the keys, the words of the format, the names that the file defines, and measures at keys of
//! measures. The schema says what the key of a value can hold ([`class`]), and so which part of the value may be shown if a
//! diagnostic is about it ([`form`]). All other texts of the file are stars.

mod class;
mod excerpt;
mod form;
mod token;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use self::class::Class;
use super::{
    diagnostic::{Diagnostic, Position},
    tree::Tree,
};

pub(super) use self::{
    class::{holds_secret, is_secret},
    excerpt::{Line, Lines},
    form::{PEM, is_url},
};

/// The parts of a configuration that may be shown.
#[derive(Default)]
pub(super) struct Redactor<'t> {
    /// The values, and the keys that may be values, by their positions.
    values: HashMap<Position, Value<'t>>,
    /// Names that the configuration defines.
    names: HashSet<&'t str>,
    /// Words of the configuration that may be secrets.
    secrets: HashSet<String>,
}

/// A value of the configuration.
#[derive(Clone)]
struct Value<'t> {
    class: Class,
    text: Cow<'t, str>,
    /// The text of the file, such as `${NAME}`, if it has variables.
    written: Option<&'t str>,
    /// `true` if the rest of the line is a line of the text.
    is_line: bool,
}

/// Words of at most this length are unlikely to be secrets.
const LONGEST_WORD: usize = 3;

impl<'t> Redactor<'t> {
    /// Creates the redactor of a configuration.
    pub(super) fn new(tree: &'t Tree) -> Self {
        let mut redactor = Self::default();
        redactor.add(tree);
        let mut secrets = HashSet::new();
        for value in redactor.values.values() {
            let found = redactor.secrets_of(value);
            let found = found.iter().flat_map(|part| words(part));
            let is_secret = |word: &&str| word.len() > LONGEST_WORD && !redactor.is_known(word);
            secrets.extend(found.filter(is_secret).map(str::to_owned));
        }
        Self {
            secrets,
            ..redactor
        }
    }

    /// Returns the parts of a value that no diagnostic may show, not even one about the value. They include the values of
    /// variables.
    fn secrets_of<'v>(&self, value: &'v Value<'t>) -> Vec<&'v str> {
        let text = value.written.unwrap_or(&value.text);
        let hidden = self.hidden(text, value.class, true).into_iter();
        let hidden = hidden.map(|range| text[range].trim());
        let of_variables = words(&value.text).filter(|word| !text.contains(word));
        hidden.chain(of_variables).collect()
    }

    /// Hides secrets in a diagnostic about `value`.
    fn redact(&self, diagnostic: &mut Diagnostic, value: Option<&Value<'t>>) {
        let own: Vec<_> = value.iter().flat_map(|own| self.secrets_of(own)).collect();
        let message = self.redacted(&diagnostic.message, &own, false);
        let is_template = ["template", "reference", "unknown_node"].contains(&diagnostic.code);
        let is_literal =
            value.is_some_and(|one| one.written.is_some() || one.class == Class::Secret);
        let help = diagnostic.help.as_deref().unwrap_or_default();
        if is_template && is_literal && message.contains("{*") && !help.contains(" quotes") {
            diagnostic.help = Some("write \"{{\" and \"}}\" for braces in the value".to_owned());
        }
        diagnostic.message = message;
        let help = diagnostic.help.as_deref();
        diagnostic.help = help.map(|help| self.redacted(help, &own, false));
        diagnostic.path = self.redacted(&diagnostic.path, &own, true);
    }

    /// Returns a path with stars for its secrets.
    pub(super) fn path(&self, path: &str) -> String {
        self.redacted(path, &[], true)
    }

    /// Returns `text` with stars for the secrets of the configuration in quotes and braces, or anywhere if `is_quoted`, and
    /// for those of the value that it is about, which are `own`.
    fn redacted(&self, text: &str, own: &[&str], is_quoted: bool) -> String {
        let mut text = text.to_owned();
        // Messages have words in lower case of their own.
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase());
        // A path has the numbers of items.
        let is_long = |text: &str| text.len() > LONGEST_WORD || is_digits(text) && !is_quoted;
        let is_hidden = |text: &str| is_long(text) && !self.is_known(text);
        for part in own.iter().filter(|part| is_hidden(part) && !is_word(part)) {
            text = text.replace(part, &stars(part));
        }
        let own: HashSet<_> = own.iter().flat_map(|part| words(part)).collect();
        // A text in quotes may have quotes itself.
        let marks = ['"', '\'', '{', '}'];
        let quoted = match (text.find(marks), text.rfind(marks)) {
            _ if is_quoted => 0..text.len(),
            (Some(first), Some(last)) => first..last,
            _ => 0..0,
        };
        let mut at = 0;
        let pieces = text.split_inclusive(|one| !is_part(one)).map(|piece| {
            let is_inside = quoted.contains(&at);
            at += piece.len();
            let word = piece.trim_end_matches(|one| !is_part(one));
            let is_own = own.contains(word) && is_hidden(word) && (is_inside || !is_word(word));
            match is_own || is_inside && self.secrets.contains(word) {
                true => stars(word) + &piece[word.len()..],
                false => piece.to_owned(),
            }
        });
        pieces.collect()
    }
}

fn stars(text: &str) -> String {
    "*".repeat(text.chars().count())
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `true` for a character of a name.
fn is_part(one: char) -> bool {
    one.is_alphanumeric() || "_-".contains(one)
}

/// Returns the words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|one| !is_part(one))
}
