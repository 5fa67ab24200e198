//! Converts values of a request to values of the expression engine.

use std::{borrow::Cow, collections::HashMap};

use cel::common::{
    types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt},
    value::Val,
};
use serde_json::Value as Tree;

use super::request::{MAX_ITEMS, MAX_VALUE};
use crate::template::Found;

/// A value for the engine, or the reason why it has none.
pub(super) enum Converted<'s> {
    /// A value, and the number of the items in it.
    Value(Box<dyn Val + 's>, usize),
    /// An object above the limits.
    Object,
    /// A text or list above the limits.
    Large,
    /// Not text, or a number out of range.
    Unusable,
}

/// Converts a value that was found.
pub(super) fn convert(found: Found<'_>) -> Converted<'_> {
    match found {
        Found::Text(text) => of_text(text),
        Found::Tree(Tree::String(text)) => of_text(Cow::Borrowed(text)),
        Found::Tree(tree) => of_tree(tree),
        Found::Unusable => Converted::Unusable,
        Found::Json(value) => match value.as_raw() {
            raw if raw.len() > MAX_VALUE => above(raw.starts_with('{')),
            raw if raw.starts_with('"') => match value.as_text() {
                Some(text) => of_text(text),
                None => Converted::Unusable,
            },
            raw => match serde_json::from_str(raw) {
                Ok(tree) => of_owned_tree(tree),
                Err(_) => Converted::Unusable,
            },
        },
    }
}

const fn above(is_object: bool) -> Converted<'static> {
    if is_object {
        Converted::Object
    } else {
        Converted::Large
    }
}

fn of_text(text: Cow<'_, str>) -> Converted<'_> {
    let work = text.len() / 64;
    match text {
        text if text.len() > MAX_VALUE => Converted::Large,
        Cow::Borrowed(text) => Converted::Value(Box::new(CelString::from(text)), 1),
        Cow::Owned(text) => Converted::Value(Box::new(CelString::from(text)), 1 + work),
    }
}

fn of_tree(tree: &Tree) -> Converted<'static> {
    let (mut items, mut bytes) = (MAX_ITEMS, MAX_VALUE);
    match fits(tree, &mut items, &mut bytes) {
        true => of_owned_tree(tree.clone()),
        false => above(tree.is_object()),
    }
}

fn of_owned_tree(tree: Tree) -> Converted<'static> {
    let (mut items, mut bytes) = (MAX_ITEMS, MAX_VALUE);
    if !fits(&tree, &mut items, &mut bytes) {
        return above(tree.is_object());
    }
    let work = 1 + MAX_ITEMS - items + (MAX_VALUE - bytes) / 64;
    match value(tree) {
        Some(value) => Converted::Value(value, work),
        None => Converted::Unusable,
    }
}

/// Subtracts the items and bytes of `tree` from those that are left. Returns `false` if there are fewer.
fn fits(tree: &Tree, items: &mut usize, bytes: &mut usize) -> bool {
    let mut take = |count: usize, size: usize| {
        let left = (items.checked_sub(count), bytes.checked_sub(size));
        let (Some(some), Some(rest)) = left else {
            return false;
        };
        (*items, *bytes) = (some, rest);
        true
    };
    match tree {
        Tree::Array(list) => {
            take(list.len(), 0) && list.iter().all(|item| fits(item, items, bytes))
        }
        Tree::Object(map) => {
            let names = map.keys().map(String::len).sum();
            take(map.len(), names) && map.values().all(|item| fits(item, items, bytes))
        }
        Tree::String(text) => take(0, text.len()),
        _ => true,
    }
}

/// Converts a value. Returns `None` for a number that the engine cannot express.
fn value(tree: Tree) -> Option<Box<dyn Val>> {
    Some(match tree {
        Tree::Null => Box::new(CelNull),
        Tree::Bool(value) => Box::new(CelBool::from(value)),
        Tree::String(text) => Box::new(CelString::from(text)),
        Tree::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Box::new(CelInt::from(number)),
            (None, Some(number)) => Box::new(CelUInt::from(number)),
            (None, None) => Box::new(CelDouble::from(number.as_f64()?)),
        },
        Tree::Array(items) => {
            let items: Vec<Box<dyn Val>> = items.into_iter().map(value).collect::<Option<_>>()?;
            Box::new(CelList::from(items))
        }
        Tree::Object(members) => {
            let members = members
                .into_iter()
                .map(|(name, item)| Some((CelMapKey::from(name), value(item)?)));
            let members: HashMap<_, _> = members.collect::<Option<_>>()?;
            Box::new(CelMap::from(members))
        }
    })
}
