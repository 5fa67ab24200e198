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
    /// The words of `not_names`.
    words: Words,
    /// Number of names that words were compared with.
    compared: Cell<usize>,
    /// The mask of the value that was masked last.
    last: RefCell<Option<(Position, Rc<Mask>)>>,
    /// The masks of the list or map that was masked last, with its address.
    last_inside: RefCell<Option<(*const Tree, Position, Rc<Masks>)>>,
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
        for whole in [Some(&self.written), self.value.as_ref()]
            .into_iter()
            .flatten()
        {
            text = text.replace(&format!("\"{whole}\""), &self.shown);
        }
        // A message may have parts of the value, or its words in another form.
        let hidden = self.hidden.iter();
        hidden.fold(text, |text, part| replaced(&text, part, &stars(part)))
    }
}

/// The masks of the values inside of a list or a map, and the words of what each replaces.
#[derive(Default)]
struct Masks {
    all: Vec<Rc<Mask>>,
    words: Words,
}

impl Masks {
    fn add(&mut self, mask: Rc<Mask>) {
        let quoted = [&mask.written].into_iter().chain(&mask.value);
        let texts = quoted.chain(&mask.hidden).filter(|text| !text.is_empty());
        texts.for_each(|text| self.words.add(self.all.len(), text));
        self.all.push(mask);
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
        let text = tree.redact(text.to_owned(), &|tree| self.shown(tree));
        if text.len() > LONGEST_MESSAGE {
            let quote = text.find('"').unwrap_or_default();
            return text[..quote].to_owned() + "…";
        }
        if let Kind::Scalar(_) = &tree.kind {
            return self.mask(tree).masked(text);
        }
        let masks = self.masks_inside(tree);
        let quoted = masks.words.among(&text).into_iter();
        quoted.fold(text, |text, index| masks.all[index].masked(text))
    }

    /// Returns the masks of the values inside of a list or a map. It can have thousands of mistakes, so the last ones are
    /// kept.
    fn masks_inside(&self, tree: &Tree) -> Rc<Masks> {
        let last = self.last_inside.borrow();
        if let Some((address, position, masks)) = &*last
            && std::ptr::eq(*address, tree)
            && *position == tree.position
        {
            return masks.clone();
        }
        drop(last);
        let all = RefCell::new((Masks::default(), HashSet::new()));
        tree.any(&|value| {
            if matches!(value.kind, Kind::Scalar(_)) {
                let mask = self.mask(value);
                let (masks, known) = &mut *all.borrow_mut();
                let is_new =
                    known.insert((mask.written.clone(), mask.shown.clone(), mask.value.clone()));
                if is_new && !mask.is_empty() {
                    masks.add(mask);
                }
            }
            false
        });
        let masks = Rc::new(all.into_inner().0);
        let last = (std::ptr::from_ref(tree), tree.position, masks.clone());
        self.last_inside.replace(Some(last));
        masks
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
            value: value.map(str::to_owned),
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
        let found = self.words.among(text).into_iter();
        found.fold(text.to_owned(), |text, index| {
            let (name, shown) = &self.not_names[index];
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
