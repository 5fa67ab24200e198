//! Classes of keys, by the values that they can hold.

use std::collections::HashSet;

use tower_fanout_json::template::Root;

use super::{
    super::{
        diagnostic::Position,
        schema::{self, Place},
        tree::{Kind, Tree},
    },
    Redactor, SHORT, Value,
    form::is_plain,
    is_part, with_stars,
    words::Words,
};

/// A class of keys, by the values that they can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A secret: the key is unknown, or is that of a secret, or the file chooses it, as that of a header or of JSON.
    Secret,
    /// A text that is shorter than a secret: a boolean, the value of a misspelt key, or a text in place of a map.
    Short,
    /// A number, a duration, a size or an address.
    Measure,
    /// A name, a path or words of the format.
    Text,
    /// The path of a file.
    File,
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
    } else if keys.ends_with("_file") {
        Class::File
    } else if formats.contains(&"url") {
        Class::Url
    } else if formats.iter().any(|format| MEASURES.contains(format))
        || place.accepts_numbers()
        || item.accepts_numbers()
    {
        Class::Measure
    } else if place.accepts_texts() || item.accepts_texts() {
        Class::Text
    } else if place.accepts_scalars()
        || item.accepts_scalars()
        || !item.keys().is_empty()
        || public_member(item, "").is_some()
    {
        Class::Short
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
                let inside = place.and_then(|place| match last {
                    // The values are names too.
                    "rename" => place.member(name),
                    _ => public_member(place, name),
                });
                each(value, inside, &format!("{last}.{name}"), secrets, visit);
            }
        }
    }
    visit(Visited { tree, place, keys });
}

impl Redactor {
    /// Adds the values and the names of `tree`.
    pub(super) fn add(&mut self, tree: &Tree) {
        self.names.extend(Root::RESERVED.map(str::to_owned));
        let root = Some(Place::root(schema::of_file()));
        let mut not_names = Vec::new();
        each(tree, root, "", &anchors_of_secrets(tree), &mut |one| {
            let class = match one.place {
                Some(place) if !one.tree.is_suspect() => class(place, &one.keys),
                // Another key may be meant.
                Some(_) => Class::Short,
                None => Class::Secret,
            };
            match &one.tree.kind {
                Kind::Scalar(_) => not_names.extend(self.add_scalar(&one, class)),
                Kind::Map { members, .. } => {
                    let of_members = members.iter().map(|(name, (at, value))| (name, at, value));
                    let repeated = one.tree.repeated().iter();
                    let repeated = repeated.map(|(name, at)| (name, at, one.tree));
                    for (name, position, value) in of_members.chain(repeated) {
                        let is_name = self.add_key(name, *position, value);
                        // Other messages have the names that the file chooses.
                        if !is_name && one.place.is_none_or(Place::has_names) {
                            let class = self.class_of_key(name, value);
                            not_names.push((name.clone(), class));
                        }
                    }
                }
                Kind::List(_) => {}
            }
        });
        not_names.retain(|(name, _)| name.len() > SHORT && !self.is_known(name));
        let not_names = not_names.into_iter().map(|(name, class)| {
            let hidden = self.hidden(&name, class, true);
            let shown = with_stars(&name, hidden);
            (name, shown)
        });
        self.not_names = not_names.collect();
        self.not_names
            .sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then(one.cmp(other)));
        self.not_names.dedup();
        self.words = Words::default();
        for (index, (name, _)) in self.not_names.iter().enumerate() {
            self.words.add(index, name);
        }
    }

    /// Returns the class of a key. Without a value, a key that does not consist of words may be a secret in place of both.
    pub(super) fn class_of_key(&self, name: &str, value: &Tree) -> Class {
        let is_null = matches!(&value.kind, Kind::Scalar(value) if value.is_null());
        let word = name.split(|one| !is_part(one)).next().unwrap_or_default();
        let is_known = || is_plain(name) || self.is_near(word) || is_secret(word);
        match is_null && name.len() > SHORT && !is_known() {
            true => Class::Secret,
            false => Class::Text,
        }
    }

    /// Adds a key. Returns `true` if it is a name.
    fn add_key(&mut self, name: &str, position: Position, value: &Tree) -> bool {
        let class = self.class_of_key(name, value);
        let is_line = false;
        self.values.insert(position, Value { class, is_line });
        let is_name = class == Class::Text && self.hidden(name, class, true).is_empty();
        self.names.extend(is_name.then(|| name.to_owned()));
        is_name
    }

    /// Adds a value. Returns its text if it is in place of a name, and is not a name.
    fn add_scalar(&mut self, one: &Visited<'_, '_>, class: Class) -> Option<(String, Class)> {
        for (position, is_line) in one.tree.lines() {
            self.values.insert(position, Value { class, is_line });
        }
        self.has_variables |= one.tree.variables().is_some();
        let text = one.tree.as_text()?;
        if one.tree.variables().is_some() || class == Class::Secret {
            return None;
        }
        if one.keys == "match.path" {
            let parameters = text.split('{').skip(1);
            let parameters = parameters.filter_map(|rest| rest.split_once('}'));
            let parameters = parameters.map(|(name, _)| name.trim_matches('*'));
            let parameters = parameters.filter(|name| name.chars().all(is_part));
            self.names.extend(parameters.map(str::to_owned));
        }
        if !one.keys.ends_with(".name") {
            return None;
        }
        if !self.hidden(text, Class::Text, true).is_empty() {
            return Some((text.to_owned(), Class::Text));
        }
        self.names.insert(text.to_owned());
        None
    }
}
