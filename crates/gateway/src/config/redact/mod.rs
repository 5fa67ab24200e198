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
mod words;

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    ops::Range,
    rc::Rc,
};

use indexmap::IndexSet;

use self::{class::Class, words::Words};
use super::{
    diagnostic::{Diagnostic, Position},
    path::Paths,
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
    /// The words of `not_names`.
    words: Words,
    /// Number of names that words were compared with.
    compared: Cell<usize>,
    /// The masks of values by their addresses. A value can have thousands of mistakes.
    masks: RefCell<HashMap<(*const Tree, Position), Rc<Masks>>>,
    /// `true` if the configuration has variables.
    has_variables: bool,
}

/// The parts of a value that may be shown, and the others.
struct Mask {
    /// The value as the file has it.
    written: String,
    /// The value in quotes, with stars in place of the other parts.
    shown: String,
    /// The value, if the file has variables in place of it.
    value: Option<String>,
    /// The other parts, and their words.
    hidden: IndexSet<String>,
}

impl Mask {
    /// Returns `true` if all of the value may be shown.
    fn is_empty(&self) -> bool {
        self.hidden.is_empty()
            && self.value.is_none()
            && self.shown == format!("\"{}\"", self.written)
    }

    /// Returns `text` with stars in place of the parts of the value that may not be shown.
    fn masked(&self, mut text: String) -> String {
        for whole in [&self.written].into_iter().chain(&self.value) {
            // A short message about one of the many parts of a long text cannot quote all of it.
            if whole.len() < text.len() {
                text = text.replace(&format!("\"{whole}\""), &self.shown);
            }
        }
        // A message may have parts of the value, or its words in another form.
        let hidden = self.hidden.iter();
        hidden.fold(text, |text, part| replaced(&text, part, &stars(part)))
    }
}

/// The masks of a value and of the values inside it, and the words of what each replaces.
#[derive(Default)]
struct Masks {
    all: Vec<Mask>,
    words: Words,
    /// The values of variables, each with the text of the file in its place.
    variables: Vec<(String, String)>,
    words_of_variables: Words,
}

impl Masks {
    fn add(&mut self, mask: Mask) {
        let quoted = [&mask.written].into_iter().chain(&mask.value);
        let texts = quoted.chain(&mask.hidden).filter(|text| !text.is_empty());
        texts.for_each(|text| self.words.add(self.all.len(), text));
        self.all.push(mask);
    }

    fn add_variable(&mut self, value: &str, shown: String) {
        let index = self.variables.len();
        for text in [value, &shown, &value.escape_debug().to_string()] {
            self.words_of_variables.add(index, text);
        }
        self.variables.push((value.to_owned(), shown));
    }

    /// Returns `message` with the text of the file, such as `${NAME}`, in place of the values of variables.
    fn without_values(&self, message: String) -> String {
        let found = self.words_of_variables.among(&message).into_iter();
        let found: Vec<_> = found.map(|index| &self.variables[index]).collect();
        // A text of the file can contain a value, as a default. So the texts are inserted when no value is left, in
        // place of characters that no message has. A message may have some of the texts already.
        let marks = || ('\u{F0000}'..).map(String::from).zip(&found);
        let marked = marks().fold(message, |message, (mark, (value, shown))| {
            let message = message.replace(shown, &mark);
            // Messages have words in lower case of their own, outside of quotes.
            if value.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return message.replace(&format!("\"{value}\""), &format!("\"{mark}\""));
            }
            // Messages of serde quote strings in their escaped form.
            let escaped = value.escape_debug().to_string();
            message.replace(&escaped, &mark).replace(value, &mark)
        });
        marks().fold(marked, |message, (mark, (_, shown))| {
            message.replace(&mark, shown)
        })
    }
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
        let masks = self.masks(tree);
        let text = masks.without_values(text.to_owned());
        if text.len() > LONGEST_MESSAGE {
            let quote = text.find('"').unwrap_or_default();
            return text[..quote].to_owned() + "…";
        }
        if let Kind::Scalar(_) = &tree.kind {
            return masks.all.iter().fold(text, |text, mask| mask.masked(text));
        }
        let quoted = masks.words.among(&text).into_iter();
        quoted.fold(text, |text, index| masks.all[index].masked(text))
    }

    /// Returns `message`, which is about the value `tree`, with the text of the file, such as `${NAME}`, in place of the
    /// values of variables, because a value may be a secret.
    pub(super) fn without_values(&self, message: String, tree: &Tree) -> String {
        let is_plain = matches!(tree.kind, Kind::Scalar(_)) && tree.variables().is_none();
        match self.has_variables && !is_plain {
            true => self.masks(tree).without_values(message),
            false => message,
        }
    }

    /// Returns the masks of a value and of the values inside it.
    fn masks(&self, tree: &Tree) -> Rc<Masks> {
        let key = (std::ptr::from_ref(tree), tree.position);
        if let Some(known) = self.masks.borrow().get(&key) {
            return known.clone();
        }
        let all = RefCell::new((Masks::default(), HashSet::new()));
        tree.any(&|value| {
            if matches!(value.kind, Kind::Scalar(_)) {
                let (masks, known) = &mut *all.borrow_mut();
                let mask = self.mask(value);
                let id = (mask.written.clone(), mask.shown.clone(), mask.value.clone());
                if known.insert(id) && !mask.is_empty() {
                    // A shorter value is unlikely to be a secret, and would match unrelated text.
                    if let Some(text) = mask.value.as_deref().filter(|text| text.len() >= 6) {
                        masks.add_variable(text, self.shown(value));
                    }
                    masks.add(mask);
                }
            }
            false
        });
        let masks = Rc::new(all.into_inner().0);
        self.masks.borrow_mut().insert(key, masks.clone());
        masks
    }

    /// Returns the mask of the scalar `tree`.
    fn mask(&self, tree: &Tree) -> Mask {
        let written = tree.as_written();
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
        Mask {
            value: value.map(str::to_owned),
            written,
            shown,
            hidden,
        }
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
        let found = self.words.among(text).into_iter();
        found.fold(text.to_owned(), |text, index| {
            let (name, shown) = &self.not_names[index];
            replaced(&text, name, shown)
        })
    }

    /// Returns a path in the file with stars in place of what may be a secret in its keys.
    pub(super) fn path(&self, paths: &Paths<'_>, path: &str) -> String {
        let mut shown = String::new();
        for (step, value) in paths.values(path) {
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
