//! Keeps secrets of a configuration out of its diagnostics.
//!
//! The key of a value says by the schema if the value can be a secret ([`class`]). All texts are masked word by word: a
//! word that the place of its value does not allow ([`mask`]) is replaced by stars in excerpts, and in messages about the
//! value. A word that looks like a part of a secret is replaced in every message.

mod class;
mod excerpt;
mod mask;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    rc::Rc,
};

use self::{class::Class, mask::words};
use super::{
    diagnostic::{Diagnostic, Position},
    path::Paths,
    tree::{Kind, Tree},
};

pub(super) use self::{
    class::{PEM, is_secret, is_url},
    excerpt::{Line, Lines},
    mask::is_plain,
};

/// The parts of a value that messages about it may not show.
#[derive(Default)]
struct Masks {
    /// The words of the value, and of the values inside it, that may not be shown.
    words: HashSet<String>,
    /// The values of variables, each with the text of the file in its place, as it is written and as it may be shown.
    variables: Vec<[String; 3]>,
}

impl Masks {
    /// Returns `message`, which quotes the value `tree`, with stars in place of words that may not be shown, and of parts
    /// of such words, as a parser quotes them.
    fn without_words(&self, message: &str, tree: &Tree) -> String {
        let is_scalar = matches!(tree.kind, Kind::Scalar(_));
        let is_part = |word: &str| self.words.iter().any(|hidden| hidden.contains(word));
        let is_hidden = |word: &str| {
            self.words.contains(word) || is_scalar && word.len() > mask::SHORT && is_part(word)
        };
        without(message, is_hidden)
    }

    /// Returns `message` with the text of the file, such as `${NAME}`, in place of the values of variables.
    fn without_values(&self, message: String) -> String {
        // A text of the file can contain a value, as a default. So the texts are inserted when no value is left, in
        // place of characters that no message has. A message may have some of the texts already.
        let found = self.variables.iter().filter(|texts| {
            let [value, written, shown] = texts;
            let escaped = value.escape_debug().to_string();
            [value, written, shown, &escaped]
                .into_iter()
                .any(|text| message.contains(text))
        });
        let found: Vec<_> = found.collect();
        let marks = || ('\u{F0000}'..).map(String::from).zip(&found);
        let marked = marks().fold(message, |message, (mark, [value, written, shown])| {
            let message = message.replace(written, &mark).replace(shown, &mark);
            // Messages have words in lower case of their own, outside of quotes.
            if value.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return message.replace(&format!("\"{value}\""), &format!("\"{mark}\""));
            }
            // Messages of serde quote strings in their escaped form.
            let escaped = value.escape_debug().to_string();
            message.replace(&escaped, &mark).replace(value, &mark)
        });
        marks().fold(marked, |message, (mark, [_, _, shown])| {
            message.replace(&mark, shown)
        })
    }
}

/// The parts of a configuration that may be shown.
#[derive(Default)]
pub(super) struct Redactor {
    /// The classes of the values and the keys, by their positions.
    classes: BTreeMap<Position, Class>,
    /// Names that the configuration defines.
    names: HashSet<String>,
    /// Words of the configuration that have neither the form of a name nor that of a number.
    odd: HashSet<String>,
    /// `true` if the configuration has variables.
    has_variables: bool,
    /// The masks of values by their addresses. A value can have thousands of mistakes.
    masks: RefCell<HashMap<(*const Tree, Position), Rc<Masks>>>,
}

/// Messages that quote a longer text show no part of it.
const LONGEST_MESSAGE: usize = 10_000;

impl Redactor {
    /// Returns the value `tree` as the file has it, with stars in place of the parts that may not be shown.
    pub(super) fn shown(&self, tree: &Tree) -> String {
        match &tree.kind {
            Kind::Scalar(_) => self.mask(&tree.as_written(), self.class(tree)),
            _ => tree.as_written(),
        }
    }

    fn class(&self, tree: &Tree) -> Class {
        let class = self.classes.get(&tree.position).copied();
        class.unwrap_or(Class::Secret)
    }

    /// Returns `text`, which a parser or a library says about the value `tree`, with stars in place of the words of the
    /// value that may not be shown.
    pub(super) fn masked(&self, text: &str, tree: &Tree) -> String {
        let masks = self.masks(tree);
        let text = masks.without_values(self.without_text(text, tree));
        // Before what they quote, messages have words of their own.
        let starts = [text.find(['"', '\'', '{', '}']), text.find(", got ")];
        let start = starts.into_iter().flatten().min();
        let (own, quoted) = text.split_at(start.unwrap_or(text.len()));
        match text.len() > LONGEST_MESSAGE {
            true => own.to_owned() + "…",
            false => own.to_owned() + &masks.without_words(quoted, tree),
        }
    }

    /// Returns `message` with the text of the value `tree` as it may be shown, if the text has an `@`: as a whole it may be a
    /// secret, although its words are none.
    fn without_text(&self, message: &str, tree: &Tree) -> String {
        let written = tree.as_written();
        let is_text = matches!(self.class(tree), Class::Known | Class::Text);
        match is_text && written.contains('@') {
            true => message.replace(&written, &self.shown(tree)),
            false => message.to_owned(),
        }
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
        let found = RefCell::new(Masks::default());
        tree.any(&|value| {
            if matches!(value.kind, Kind::Scalar(_)) {
                self.add_masks(value, &mut found.borrow_mut());
            }
            false
        });
        let found = Rc::new(found.into_inner());
        self.masks.borrow_mut().insert(key, found.clone());
        found
    }

    fn add_masks(&self, value: &Tree, masks: &mut Masks) {
        let written = value.as_written();
        let hidden = self.hidden(&written, self.class(value)).into_iter();
        let hidden = hidden.flat_map(|range| words(&written[range]));
        let variable = value.as_text().filter(|_| value.variables().is_some());
        let variable = variable.unwrap_or_default();
        let of_variable = words(variable).filter(|word| !written.contains(word));
        let hidden = hidden.chain(of_variable);
        let hidden = hidden.filter(|word| !self.is_harmless(word, false));
        masks.words.extend(hidden.map(str::to_owned));
        // A shorter value is unlikely to be a secret, and would match unrelated text.
        if variable.len() >= 6 {
            let texts = [variable.to_owned(), written, self.shown(value)];
            masks.variables.push(texts);
        }
    }

    /// Returns the condition `code` with stars in place of the parts that may not be shown.
    pub(super) fn condition(&self, code: &str) -> String {
        self.mask(code, Class::Condition)
    }

    /// Returns a key with stars in place of what may be a secret.
    pub(super) fn key(&self, name: &str) -> String {
        self.mask(name, Class::Text)
    }

    /// Returns a path in the file with stars in place of what may be a secret in its keys.
    pub(super) fn path(&self, paths: &Paths<'_>, path: &str) -> String {
        let steps = paths.steps(path).into_iter();
        let shown = steps.fold(String::new(), |path, step| {
            let is_key = !step.starts_with('[');
            let joint = if path.is_empty() || !is_key { "" } else { "." };
            path + joint
                + &if is_key {
                    self.key(step)
                } else {
                    step.to_owned()
                }
        });
        // The last key may be empty.
        shown + if path.ends_with('.') { "." } else { "" }
    }

    /// Hides secrets in a diagnostic.
    fn redact(&self, diagnostic: &mut Diagnostic) {
        diagnostic.message = without(&diagnostic.message, |word| self.odd.contains(word));
        let help = diagnostic.help.as_deref();
        diagnostic.help = help.map(|help| without(help, |word| self.odd.contains(word)));
    }
}

/// Returns `text` with stars in place of the words for which `is_hidden` returns `true`.
fn without(text: &str, is_hidden: impl Fn(&str) -> bool) -> String {
    let found = mask::ranges(text).filter(|range| is_hidden(&text[range.clone()]));
    mask::with_stars(text, found)
}
