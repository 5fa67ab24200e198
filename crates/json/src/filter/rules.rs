//! Applies the paths of a field filter to a document, in one pass.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ptr,
};

use super::{FieldFilterConfig, path::Path};
use crate::check::{Json, depth, is_white, quoted, string_end, unescaped, value_end};

/// The rules of a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    root: Rule,
    /// `true` if only allowed members are kept.
    lists: bool,
}

/// The rules for a member, and for the members below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    /// `true` if the member is allowed with everything in it.
    allowed: bool,
    /// `true` if a path of `allow` leads through the member.
    leads_to_allowed: bool,
    denied: bool,
    /// The new name, with quotes and escapes.
    new_name: Option<Vec<u8>>,
    /// The rules for the members of this one, by decoded names.
    members: BTreeMap<Vec<u8>, Self>,
    /// `true` if the name of a member may be an index.
    has_index: bool,
    /// The new names of members.
    taken: BTreeSet<Vec<u8>>,
}

impl Rules {
    /// Creates the rules of a valid `config`.
    pub(super) fn new(config: &FieldFilterConfig) -> Self {
        let mut root = Rule::default();
        for path in config
            .allow
            .iter()
            .filter_map(|path| Path::parse(path).ok())
        {
            let rule = path.steps().fold(&mut root, |rule, step| {
                rule.leads_to_allowed = true;
                rule.member(step)
            });
            rule.allowed = true;
        }
        for path in config.deny.iter().filter_map(|path| Path::parse(path).ok()) {
            path.steps().fold(&mut root, Rule::member).denied = true;
        }
        for (old, new) in &config.rename {
            let new = Path::parse(new).ok().and_then(Path::into_first);
            let names = Path::parse(old).ok().zip(new);
            let Some((old, new)) = names else { continue };
            path_parent(&old, &mut root)
                .taken
                .insert(new.clone().into_bytes());
            let rule = old.steps().fold(&mut root, Rule::member);
            rule.new_name = Some(quoted(&new));
        }
        Self {
            root,
            lists: !config.allow.is_empty(),
        }
    }

    /// Returns the filtered document, or `None` if nothing changes.
    pub(super) fn apply(&self, answer: &Json) -> Option<Json> {
        if *self == Self::default() {
            return None;
        }
        let mut walk = Walk {
            text: answer.as_bytes(),
            at: 0,
            out: Vec::with_capacity(answer.as_bytes().len()),
            changed: false,
        };
        if !walk.value(&[&self.root], self.lists) {
            return Some(Json::NULL);
        }
        let depth = depth(&walk.out);
        walk.changed.then(|| Json::new(walk.out.into(), depth))
    }
}

/// Returns the rule of the object that has the member at `path`.
fn path_parent<'r>(path: &Path, root: &'r mut Rule) -> &'r mut Rule {
    let parents = path.steps().count() - 1;
    path.steps().take(parents).fold(root, Rule::member)
}

impl Rule {
    fn member(&mut self, name: &str) -> &mut Self {
        self.has_index |= name.bytes().all(|byte| byte.is_ascii_digit());
        self.members.entry(name.into()).or_default()
    }
}

/// The rules that apply to one value. There are several where an index and a name lead to it.
type Active<'r> = [&'r Rule];

/// Copies a document without the members that the rules remove.
struct Walk<'j> {
    /// A valid JSON value. Its depth is limited, so the recursion is too.
    text: &'j [u8],
    at: usize,
    out: Vec<u8>,
    changed: bool,
}

/// The rules for a member or item, or its removal.
enum Fate<'r> {
    Keep {
        rules: Vec<&'r Rule>,
        /// `true` if only allowed members of the value are kept.
        lists: bool,
        new_name: Option<&'r [u8]>,
    },
    Remove,
}

impl Walk<'_> {
    /// Copies the value at the current position. `lists` is `true` if only its allowed members are kept.
    /// Returns `false`, and copies nothing, if the whole value is not allowed.
    fn value(&mut self, rules: &Active<'_>, lists: bool) -> bool {
        let has_rules = rules.iter().any(|rule| !rule.members.is_empty());
        match self.text.get(self.at) {
            Some(b'{') if lists || has_rules => self.object(rules, lists),
            Some(b'[') if lists || has_rules => self.array(rules, lists),
            _ => {
                let start = self.at;
                self.skip();
                if lists {
                    return false;
                }
                self.out.extend_from_slice(&self.text[start..self.at]);
            }
        }
        true
    }

    fn object(&mut self, rules: &Active<'_>, lists: bool) {
        self.out.push(b'{');
        self.at += 1;
        while !self.ends() {
            let start = self.at;
            self.at = string_end(self.text, start + 1);
            let key = &self.text[start..self.at];
            self.separator();
            let Fate::Keep {
                rules,
                lists,
                new_name,
            } = fate(rules, lists, &unescaped(key), true)
            else {
                self.changed = true;
                self.skip();
                continue;
            };
            self.changed |= new_name.is_some();
            let before = self.begin(b'{');
            self.out.extend_from_slice(new_name.unwrap_or(key));
            self.out.push(b':');
            self.finish(before, &rules, lists);
        }
        self.out.push(b'}');
    }

    fn array(&mut self, rules: &Active<'_>, lists: bool) {
        self.out.push(b'[');
        self.at += 1;
        let has_index = rules.iter().any(|rule| rule.has_index);
        for index in 0_usize.. {
            if self.ends() {
                break;
            }
            let item = if has_index {
                Self::item(rules, lists, index)
            } else {
                Some((Cow::Borrowed(rules), lists))
            };
            let Some((rules, lists)) = item else {
                self.changed = true;
                self.skip();
                continue;
            };
            let before = self.begin(b'[');
            self.finish(before, &rules, lists);
        }
        self.out.push(b']');
    }

    /// Returns the rules for the item at `index`: those that lead through the array, and those in which
    /// the index is a step. Returns `None` if the item is removed.
    fn item<'r>(
        rules: &Active<'r>,
        lists: bool,
        index: usize,
    ) -> Option<(Cow<'r, Active<'r>>, bool)> {
        let name = index.to_string();
        let Fate::Keep {
            rules: own,
            lists: listed,
            ..
        } = fate(rules, lists, name.as_bytes(), false)
        else {
            return None;
        };
        let mut all = rules.to_vec();
        // Each rule once, as nested arrays would double them at every level.
        for rule in own {
            if !all.iter().any(|known| ptr::eq(*known, rule)) {
                all.push(rule);
            }
        }
        Some((Cow::Owned(all), listed))
    }

    /// Writes the separator before a member or item. Returns the length of the output before it.
    fn begin(&mut self, open: u8) -> usize {
        let before = self.out.len();
        if self.out.last() != Some(&open) {
            self.out.push(b',');
        }
        before
    }

    /// Copies the value of a member or item, or removes it from the output, which then has the length
    /// `before` again.
    fn finish(&mut self, before: usize, rules: &Active<'_>, lists: bool) {
        if !self.value(rules, lists) {
            self.changed = true;
            self.out.truncate(before);
        }
    }

    /// Moves to the next member or item. Returns `true` at the end of the object or array, and moves
    /// behind it.
    fn ends(&mut self) -> bool {
        self.separator();
        let ends = matches!(self.text.get(self.at), None | Some(b'}' | b']'));
        self.at += usize::from(ends);
        ends
    }

    /// Skips white space, commas and colons.
    fn separator(&mut self) {
        let between = |byte: &u8| matches!(byte, b',' | b':') || is_white(*byte);
        while self.text.get(self.at).is_some_and(between) {
            self.at += 1;
        }
    }

    /// Skips the value at the current position.
    fn skip(&mut self) {
        self.at = value_end(self.text, self.at);
    }
}

/// Decides about the member `name` of a value with these `rules`. An item has an index for a name, and is
/// removed only if that is denied.
fn fate<'r>(rules: &Active<'r>, lists: bool, name: &[u8], is_member: bool) -> Fate<'r> {
    let own: Vec<&Rule> = (rules.iter())
        .filter_map(|rule| rule.members.get(name))
        .collect();
    let new_name = own.iter().find_map(|rule| rule.new_name.as_deref());
    let taken = rules.iter().any(|rule| rule.taken.contains(name));
    let allowed = own.iter().any(|rule| rule.allowed);
    let leads = own.iter().any(|rule| rule.leads_to_allowed);
    let removed = own.iter().any(|rule| rule.denied)
        || is_member && (lists && !allowed && !leads || taken && new_name.is_none());
    if removed {
        return Fate::Remove;
    }
    Fate::Keep {
        rules: own,
        lists: lists && !allowed,
        new_name,
    }
}
