//! Classes of values, by what their keys can hold.

use std::collections::HashSet;

use serde_json::Value;
use tower_fanout::nearest_name;
use tower_fanout_json::template::Root;

use super::{
    super::{
        diagnostic::Position,
        schema::{self, Place},
        tree::{Kind, Tree},
    },
    Redactor,
    mask::{is_part, ranges, words},
};

/// The beginning of a key or a certificate in PEM format.
pub(in super::super) const PEM: &str = "-----BEGIN";

/// A class of values, by what may be shown of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing: the key is unknown, or is that of a secret, or the file chooses it, as that of a header or of JSON.
    Secret,
    /// Words of the format and names that the file defines: another key may be meant, or a value has another type.
    Known,
    /// Words in the form of a name or a number.
    Text,
    /// Names of a condition.
    Condition,
    /// All: a number, or the path of a file.
    Shown,
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

/// Returns the class of `text` at a place of the schema. In place of a list, one of its items may be written.
fn class(place: Place<'_>, keys: &str, text: &str) -> Class {
    let item = place.item().unwrap_or(place);
    let formats = [place.formats(), item.formats()].concat();
    let is_measured = formats.iter().any(|format| MEASURES.contains(format))
        || place.accepts_numbers()
        || item.accepts_numbers();
    if keys.ends_with(".when") {
        Class::Condition
    } else if keys.ends_with("_file") && is_path(text) || is_measured && is_measure(text) {
        Class::Shown
    } else if keys.ends_with("_file")
        || formats.contains(&"url") && !is_url(text)
        || is_measured && !is_like_measure(text)
    {
        Class::Known
    } else if is_measured
        || place.accepts_texts()
        || item.accepts_texts()
        || text.len() <= 5 && (place.accepts_scalars() || !item.keys().is_empty())
    {
        Class::Text
    } else if place.accepts_scalars()
        || item.accepts_scalars()
        || !item.keys().is_empty()
        || public_member(item, "").is_some()
    {
        Class::Known
    } else {
        Class::Secret
    }
}

/// Returns the place of the member `name`, if its value cannot be a secret.
fn public_member<'s>(place: Place<'s>, name: &str) -> Option<Place<'s>> {
    match place.is_key(name) {
        true => place.member(name).filter(|_| !is_secret(name)),
        false => place.member(name).filter(|named| !named.accepts_scalars()),
    }
}

/// Returns `true` for a text that begins like the path of a file, or ends like one. Other text may be the content.
fn is_path(text: &str) -> bool {
    let end = text.rsplit_once('.').map_or("", |(_, end)| end);
    let is_extension =
        (1..=5).contains(&end.len()) && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_name = |one: char| is_part(one) || "./~".contains(one);
    // The other signs are in a secret in Base64.
    (is_extension || text.starts_with(['/', '.', '~'])) && text.chars().all(is_name)
}

/// Returns `true` if `text` begins like a URL, or with a host and a port. Other text in place of a URL may be a secret.
pub(in super::super) fn is_url(text: &str) -> bool {
    let authority = &text[..text.find('/').unwrap_or(text.len())];
    text.contains("://") || text.contains("${") || authority.contains(':') && is_host(authority)
}

/// Returns `true` for a host, of which a port may follow.
fn is_host(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_name = |one: char| is_part(one) || ".{}$[]:".contains(one);
    host.chars().all(is_name) && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `true` for a number, with a unit or without one, and for an address of numbers.
fn is_measure(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-', '[']);
    let unit = number.trim_start_matches(|one: char| one.is_ascii_digit() || "._:]/".contains(one));
    let digits = number.len() - unit.len();
    let is_unit = unit.len() <= 3
        && unit
            .bytes()
            .all(|one| one.is_ascii_alphabetic() || one == b'%');
    (1..=21).contains(&digits) && is_unit || text.len() <= 21 && text.parse::<f64>().is_ok()
}

/// Returns `true` for a text that may be meant to be a number.
fn is_like_measure(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-', '[', '“', '‘']);
    text.starts_with('$')
        || number.starts_with(|first: char| first.is_ascii_digit())
        || text.len() <= 5
        || is_url(text)
        || nearest_name(text, schema::vocabulary().iter().copied()).is_some()
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
    match &tree.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            let inside = place.and_then(Place::item);
            items
                .iter()
                .for_each(|item| each(item, inside, keys, secrets, visit));
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
    let keys = keys.to_owned();
    visit(Visited { tree, place, keys });
}

impl Redactor {
    /// Creates the redactor of a configuration.
    pub(in super::super) fn new(tree: &Tree) -> Self {
        let root = || Some(Place::root(schema::of_file()));
        // The value of an anchor is also that of a secret, and may be at any other key.
        let mut secrets = HashSet::new();
        each(tree, root(), "", &HashSet::new(), &mut |one| {
            secrets.extend(one.tree.anchor().filter(|_| one.place.is_none()));
        });
        let mut redactor = Self::default();
        redactor.names.extend(Root::RESERVED.map(str::to_owned));
        each(tree, root(), "", &secrets, &mut |one| {
            redactor.add_names(&one)
        });
        each(tree, root(), "", &secrets, &mut |one| redactor.add(&one));
        redactor
    }

    /// Adds the names that a value defines.
    fn add_names(&mut self, one: &Visited<'_, '_>) {
        let text = one
            .tree
            .as_text()
            .filter(|_| one.tree.variables().is_none());
        let text = text.filter(|_| one.place.is_some()).unwrap_or_default();
        if one.keys == "match.path" {
            let parameters = text.split('{').skip(1);
            let parameters = parameters.filter_map(|rest| rest.split_once('}'));
            parameters.for_each(|(name, _)| self.add_name(name.trim_matches('*')));
        } else if one.keys.ends_with(".name") {
            self.add_name(text);
        }
        let has_names = one.place.is_some_and(Place::has_names);
        for (name, (_, value)) in one
            .tree
            .members()
            .into_iter()
            .flatten()
            .filter(|_| has_names)
        {
            // Without a value, a key may be a secret in place of both.
            if !matches!(value.kind, Kind::Scalar(Value::Null)) {
                self.add_name(name);
            }
        }
    }

    fn add_name(&mut self, name: &str) {
        if name.chars().all(|one| is_part(one) || one == '.') {
            self.names.extend(words(name).map(str::to_owned));
        }
    }

    /// Adds the classes of a value and of the keys in it.
    fn add(&mut self, one: &Visited<'_, '_>) {
        let members = one.tree.members().into_iter().flatten();
        let keys = members.map(|(name, (position, _))| (name, position));
        let repeated = one
            .tree
            .repeated()
            .iter()
            .map(|(name, position)| (name, position));
        for (name, position) in keys.chain(repeated) {
            self.classes.insert(*position, Class::Text);
            self.add_odd(name);
        }
        if !matches!(one.tree.kind, Kind::Scalar(_)) {
            return;
        }
        self.has_variables |= one.tree.variables().is_some();
        let written = one.tree.as_written();
        let class = match one.place {
            Some(_) if one.tree.is_suspect() => Class::Known,
            Some(place) => class(place, &one.keys, &written),
            None => Class::Secret,
        };
        self.classes.insert(one.tree.position, class);
        if class != Class::Shown {
            self.add_odd(&written);
        }
    }

    /// Adds the words of `text` that have not the form of a name, except for names of variables.
    fn add_odd(&mut self, text: &str) {
        let is_variable = |start: usize| text[..start].ends_with("${");
        let words = ranges(text).filter(|range| !is_variable(range.start));
        let odd = words.map(|range| &text[range]);
        let odd = odd
            .filter(|word| !self.is_harmless(word, true))
            .map(str::to_owned);
        let odd: Vec<_> = odd.collect();
        self.odd.extend(odd);
    }
}
