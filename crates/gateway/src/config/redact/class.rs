//! Classes of keys, by the values that they can hold.

use std::{borrow::Cow, collections::HashSet};

use tower_fanout_json::template::Root;

use super::{
    super::{
        diagnostic::Position,
        schema::{self, Place},
        tree::{Kind, Tree},
    },
    Redactor, Value,
    form::LONGEST_WORD,
    is_part,
};

/// A class of keys, by the values that they can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A secret: the key is unknown, or is that of a secret, or the file chooses it, as that of a header or of JSON.
    Secret,
    /// A map or a list, in place of which something else is written.
    Map,
    /// A number, a duration, a size, an address or a boolean.
    Measure,
    /// A name, a path or words of the format.
    Text,
    /// A URL.
    Url,
    /// A condition.
    Condition,
}

/// Words that mark a key as that of a secret.
const SECRET: [&str; 5] = ["secret", "password", "authorization", "cookie", "api-key"];

/// Words that mark a key as that of a secret only as they are written, because other keys are similar to them.
const SECRET_AS_WRITTEN: [&str; 2] = ["token", "private_key"];

/// Formats of texts that begin with a number.
const MEASURES: [&str; 4] = ["duration", "size", "address", "network"];

/// Returns `true` if `name` contains a word for secrets, or is a misspelling of one. Keys that end in
/// `_file` hold a path, not a secret.
pub(in super::super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let contains = |word| name.contains(word) || strsim::damerau_levenshtein(&name, word) <= 2;
    let is_listed = SECRET.into_iter().any(contains)
        || SECRET_AS_WRITTEN
            .into_iter()
            .any(|word| name.contains(word));
    name.len() <= 64 && !name.ends_with("_file") && is_listed
}

/// Returns the class of the values at a place of the schema. In place of a list, one of its items may be written.
fn class(place: Place<'_>, keys: &str) -> Class {
    let item = place.item().unwrap_or(place);
    let formats = [place.formats(), item.formats()].concat();
    if keys.ends_with(".when") {
        Class::Condition
    } else if formats.contains(&"url") {
        Class::Url
    } else if formats.iter().any(|format| MEASURES.contains(format))
        || place.accepts_numbers()
        || item.accepts_numbers()
    {
        Class::Measure
    } else if place.accepts_texts() || item.accepts_texts() {
        Class::Text
    } else if place.accepts_scalars() || item.accepts_scalars() {
        Class::Measure
    } else if !item.keys().is_empty() || public_member(item, "").is_some() {
        Class::Map
    } else {
        Class::Secret
    }
}

/// Returns the place of the member `name`, if its value cannot be a secret.
fn public_member<'s>(place: Place<'s>, name: &str) -> Option<Place<'s>> {
    let key = name.strip_suffix("_file").unwrap_or(name);
    match place.is_key(name) {
        true => place.member(name).filter(|_| !is_secret(key)),
        false => place.member(name).filter(|named| !named.accepts_scalars()),
    }
}

/// Returns `true` if the value at `path` can be a secret.
pub(in super::super) fn holds_secret(path: &str) -> bool {
    let mut steps = path.split(['.', '[']).filter(|step| !step.is_empty());
    let root = Place::root(schema::of_file());
    let place = steps.try_fold(root, |place, step| match step.ends_with(']') {
        true => place.item(),
        false => public_member(place, step),
    });
    place.is_none_or(|place| class(place, path) == Class::Secret)
}

/// Returns the positions of values that keys of secrets have by an alias. They may be at any other key.
fn anchors_of_secrets(tree: &Tree) -> HashSet<Position> {
    let mut anchors = HashSet::new();
    let root = Some(Place::root(schema::of_file()));
    each(tree, root, "", &HashSet::new(), &mut |one| {
        anchors.extend(one.tree.anchor().filter(|_| one.place.is_none()));
    });
    anchors
}

/// A value of the tree with its key.
struct Visited<'t, 's> {
    tree: &'t Tree,
    /// `None` if the value may be a secret.
    place: Option<Place<'s>>,
    /// The key of the value, and that of the map around it, as in `match.path`.
    keys: String,
}

/// Calls `visit` for each value in `tree`. Values at the positions `secrets` may be secrets.
fn each<'t, 's>(
    tree: &'t Tree,
    place: Option<Place<'s>>,
    keys: &str,
    secrets: &HashSet<Position>,
    visit: &mut impl FnMut(Visited<'t, 's>),
) {
    let place = place.filter(|_| !secrets.contains(&tree.position));
    let keys = keys.to_owned();
    match &tree.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            let inside = place.and_then(Place::item);
            items
                .iter()
                .for_each(|item| each(item, inside, &keys, secrets, visit));
        }
        Kind::Map { members, .. } => {
            let last = keys.rsplit('.').next().unwrap_or_default();
            for (name, (_, value)) in members {
                let inside = place.and_then(|place| public_member(place, name));
                each(value, inside, &format!("{last}.{name}"), secrets, visit);
            }
        }
    }
    visit(Visited { tree, place, keys });
}

impl<'t> Redactor<'t> {
    /// Adds the values and the names of `tree`.
    pub(super) fn add(&mut self, tree: &'t Tree) {
        self.names.extend(Root::RESERVED);
        let root = Some(Place::root(schema::of_file()));
        each(tree, root, "", &anchors_of_secrets(tree), &mut |one| {
            let class = match one.place {
                Some(place) if !one.tree.is_suspect() => class(place, &one.keys),
                // Another key may be meant.
                Some(_) => Class::Measure,
                None => Class::Secret,
            };
            match &one.tree.kind {
                Kind::Scalar(_) => self.add_scalar(&one, class),
                Kind::Map { members, .. } => {
                    for (name, (position, value)) in members {
                        self.add_key(name, *position, value);
                    }
                    for (name, position) in one.tree.repeated() {
                        self.add_key(name, *position, one.tree);
                    }
                }
                Kind::List(_) => {}
            }
        });
    }

    /// Adds a key, which is a name if its value is not missing. A secret may be written in place of key and value.
    fn add_key(&mut self, name: &'t str, position: Position, value: &Tree) {
        let is_null = matches!(&value.kind, Kind::Scalar(value) if value.is_null());
        let word = name.split(|one| !is_part(one)).next().unwrap_or_default();
        let is_known = self.is_near(word) || is_secret(word);
        let is_alone = is_null && name.len() > LONGEST_WORD && !is_known;
        let class = if is_alone { Class::Secret } else { Class::Text };
        if !is_alone && self.hidden(name, class, true).is_empty() {
            self.names.insert(name);
        }
        let key = Value {
            class,
            text: name.into(),
            written: None,
            is_line: false,
        };
        self.values.insert(position, key);
    }

    fn add_scalar(&mut self, one: &Visited<'t, '_>, class: Class) {
        let text = match &one.tree.kind {
            Kind::Scalar(serde_json::Value::String(text)) => Cow::Borrowed(&**text),
            Kind::Scalar(value) if !value.is_null() => {
                let written = one.tree.ambiguous_number();
                let written = written.filter(|_| class == Class::Secret);
                Cow::Owned(match written {
                    Some(written) => format!("{written} {value}"),
                    None => value.to_string(),
                })
            }
            _ => return,
        };
        let written = one.tree.variables();
        if let (Cow::Borrowed(text), None) = (&text, written)
            && class != Class::Secret
        {
            if one.keys.ends_with(".name") && self.hidden(text, Class::Text, true).is_empty() {
                self.names.insert(text);
            } else if one.keys == "match.path" {
                let parameters = text.split('{').skip(1);
                let parameters = parameters.filter_map(|rest| rest.split_once('}'));
                let parameters = parameters.map(|(name, _)| name.trim_matches('*'));
                (self.names).extend(parameters.filter(|name| name.chars().all(is_part)));
            }
        }
        for (position, is_line) in one.tree.lines() {
            let text = text.clone();
            let value = Value {
                class,
                text,
                written,
                is_line,
            };
            self.values.insert(position, value);
        }
    }
}
