//! Keeps secrets of a configuration out of its diagnostics.
//!
//! The key of a value says by the schema what the value can hold ([`class`]), and so which parts of the value may be shown
//! by a diagnostic about it ([`form`]). A value enters a message, a help or an excerpt only with stars in place of its
//! other parts, and so does what a library says about it. A name that the file defines may be shown everywhere, with stars
//! from the first character on that names do not have.

mod class;
mod condition;
mod excerpt;
mod form;
mod token;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use indexmap::IndexSet;

use self::class::Class;
use super::{
    acknowledge::steps,
    diagnostic::{Diagnostic, Position},
    tree::{Kind, Tree},
};

pub(super) use self::{
    class::is_secret,
    excerpt::{Line, Lines},
    form::{PEM, is_plain, is_url},
};

/// The parts of a configuration that may be shown.
#[derive(Default)]
pub(super) struct Redactor {
    /// The values, and the keys that may be values, by their positions.
    values: HashMap<Position, Value>,
    /// Names that the configuration defines.
    names: HashSet<String>,
    /// Texts in place of names that may be secrets, each as it may be shown. The longest are first.
    not_names: Vec<(String, String)>,
    /// Number of names that words were compared with.
    compared: Cell<usize>,
    /// The mask of the value that was masked last.
    last: RefCell<Option<(Position, Rc<Mask>)>>,
}

/// The parts of a value that may be shown, and the others.
struct Mask {
    /// The value as the file has it.
    written: String,
    /// The value in quotes, with stars in place of the other parts.
    shown: String,
    /// The other parts, and their words.
    hidden: IndexSet<String>,
}

/// A value of the configuration.
#[derive(Clone, Copy)]
struct Value {
    class: Class,
    /// `true` if the rest of the line is a line of the text.
    is_line: bool,
}

/// Texts of at most this length are no secrets.
const SHORT: usize = 3;

/// Messages that quote a longer text show no part of it.
const LONGEST_MESSAGE: usize = 10_000;

impl Redactor {
    /// Creates the redactor of a configuration.
    pub(super) fn new(tree: &Tree) -> Self {
        let mut redactor = Self::default();
        redactor.add(tree);
        redactor
    }

    /// Returns the value `tree` as the file has it, with stars in place of the parts that may not be shown.
    pub(super) fn shown(&self, tree: &Tree) -> String {
        let written = tree.as_written();
        match &tree.kind {
            Kind::Scalar(_) => with_stars(&written, self.hidden(&written, self.class(tree), true)),
            _ => written,
        }
    }

    fn class(&self, tree: &Tree) -> Class {
        let value = self.values.get(&tree.position);
        value.map_or(Class::Secret, |value| value.class)
    }

    /// Returns `text`, which a parser or a library says about the value `tree`, with stars in place of the parts of the
    /// value that may not be shown.
    pub(super) fn masked(&self, text: &str, tree: &Tree) -> String {
        match &tree.kind {
            Kind::Scalar(_) => self.masked_by(text, tree),
            Kind::List(items) => items
                .iter()
                .fold(text.to_owned(), |text, item| self.masked(&text, item)),
            Kind::Map { members, .. } => {
                members.values().fold(text.to_owned(), |text, (_, value)| {
                    self.masked(&text, value)
                })
            }
        }
    }

    fn masked_by(&self, text: &str, tree: &Tree) -> String {
        let mask = self.mask(tree);
        let value = tree.as_text().filter(|_| tree.variables().is_some());
        let mut text = tree.redact(text.to_owned(), &|tree| self.shown(tree));
        for whole in [Some(&*mask.written), value].into_iter().flatten() {
            text = text.replace(&format!("\"{whole}\""), &mask.shown);
        }
        if text.len() > LONGEST_MESSAGE {
            let quote = text.find('"').unwrap_or_default();
            return text[..quote].to_owned() + "…";
        }
        // A message may have parts of the value, or its words in another form.
        let hidden = mask.hidden.iter();
        hidden.fold(text, |text, part| replaced(&text, part, &stars(part)))
    }

    /// Returns the mask of the value `tree`. A text can have thousands of mistakes, so the last mask is kept.
    fn mask(&self, tree: &Tree) -> Rc<Mask> {
        let written = tree.as_written();
        let last = self.last.borrow().clone();
        if let Some((_, mask)) =
            last.filter(|(position, mask)| *position == tree.position && mask.written == written)
        {
            return mask;
        }
        let ranges = self.hidden(&written, self.class(tree), true);
        let shown = format!("\"{}\"", with_stars(&written, ranges.clone()));
        let parts = ranges.into_iter().map(|range| written[range].trim());
        let parts: IndexSet<_> = parts.collect();
        let value = tree.as_text().filter(|_| tree.variables().is_some());
        let of_variables = words(value.unwrap_or_default()).filter(|word| !written.contains(word));
        let own: IndexSet<_> = parts.iter().flat_map(|part| words(part)).collect();
        let own = parts.into_iter().chain(own).chain(of_variables);
        // A short word is no secret.
        let own = own.filter(|part| part.len() > SHORT && !self.is_known(part));
        let hidden = own.map(str::to_owned).collect();
        let mask = Rc::new(Mask {
            written,
            shown,
            hidden,
        });
        self.last.replace(Some((tree.position, mask.clone())));
        mask
    }

    /// Returns the condition `code` with stars in place of the parts that may not be shown.
    pub(super) fn condition(&self, code: &str) -> String {
        with_stars(code, self.hidden(code, Class::Condition, true))
    }

    /// Returns the key `name` of `value` with stars in place of what may be a secret.
    pub(super) fn key(&self, name: &str, value: &Tree) -> String {
        with_stars(
            name,
            self.hidden(name, self.class_of_key(name, value), true),
        )
    }

    /// Returns a text with names, such as a message, with stars in place of what may be a secret in them.
    pub(super) fn names_in(&self, text: &str) -> String {
        let all = self.not_names.iter();
        all.fold(text.to_owned(), |text, (name, shown)| {
            replaced(&text, name, shown)
        })
    }

    /// Returns a path in the file `tree` with stars in place of what may be a secret in its keys.
    pub(super) fn path(&self, tree: &Tree, path: &str) -> String {
        let (mut value, mut shown) = (Some(tree), String::new());
        for step in steps(tree, path) {
            value = value.and_then(|value| value.inside(step));
            if step.starts_with('[') {
                shown += step;
            } else {
                shown += if shown.is_empty() { "" } else { "." };
                // A key that the file does not have is one of the format.
                shown += &value.map_or_else(|| step.to_owned(), |value| self.key(step, value));
            }
        }
        // The last key may be empty.
        shown + if path.ends_with('.') { "." } else { "" }
    }

    /// Hides secrets in the names that a diagnostic has.
    fn redact(&self, diagnostic: &mut Diagnostic) {
        diagnostic.message = self.names_in(&diagnostic.message);
        diagnostic.help = diagnostic.help.as_deref().map(|help| self.names_in(help));
    }
}

/// Returns `text` with `shown` in place of `part`, where it is not inside of a word. Outside of quotes, messages have words in
/// lower case of their own.
fn replaced(text: &str, part: &str, shown: &str) -> String {
    let is_word = part.bytes().all(|byte| byte.is_ascii_lowercase());
    // A text in quotes may have quotes itself.
    let marks = ['"', '\'', '{', '}'];
    let quoted = text.find(marks).zip(text.rfind(marks));
    let quoted = quoted.map_or(0..0, |(first, last)| first..last);
    let (mut out, mut end) = (String::new(), 0);
    for (at, _) in text.match_indices(part) {
        let after = at + part.len();
        let is_inside = part.starts_with(is_part) && text[..at].ends_with(is_part)
            || part.ends_with(is_part) && text[after..].starts_with(is_part);
        if !is_inside && (!is_word || quoted.contains(&at)) {
            out = out + &text[end..at] + shown;
            end = after;
        }
    }
    out + &text[end..]
}

/// Returns `text` with stars in place of the ranges `hidden`, which are in ascending order.
fn with_stars(text: &str, hidden: Vec<Range<usize>>) -> String {
    let (mut out, mut end) = (String::new(), 0);
    for range in hidden {
        let start = range.start.max(end);
        out = out + &text[end..start] + &stars(&text[start..range.end.max(start)]);
        end = range.end.max(start);
    }
    out + &text[end..]
}

fn stars(text: &str) -> String {
    "*".repeat(text.chars().count())
}

/// Returns `true` for a character of a name.
fn is_part(one: char) -> bool {
    one.is_alphanumeric() || "_-".contains(one)
}

/// Returns the words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|one| !is_part(one))
}
