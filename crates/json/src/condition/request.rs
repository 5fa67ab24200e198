//! A request as an expression sees it.
//!
//! What an expression reads must live as long as the expression likes, and a source is only borrowed.
//! So a value that is not known yet ends the evaluation; it is looked up, and the expression evaluated
//! anew, as often as it reads another value.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Object, ObjectRepr},
};
use serde_json::Value as Tree;

use super::EvalError;
use crate::template::{Found, Lookup, Reference, Root};

/// The longest text or list that is looked into, in bytes of its JSON: 64 KiB.
const MAX_VALUE: usize = 64 << 10;

/// What has been read of a request.
#[derive(Debug, Default)]
pub(super) struct Request(Mutex<Reads>);

#[derive(Debug, Default)]
struct Reads {
    known: Vec<(Reference, Known)>,
    /// The first value in this evaluation that was not known.
    wanted: Option<Reference>,
    /// What was not there in this evaluation, but for what was excused.
    missing: Vec<Option<Reference>>,
    /// Whether something was done in this evaluation that cannot be done.
    unusable: bool,
}

/// What is known of a value.
#[derive(Clone, Debug)]
enum Known {
    Missing,
    /// It has members, each of which is a value of its own.
    Object,
    /// Anything else.
    Plain(Arc<Tree>),
    /// It is too large to be looked into, or a number that is too large.
    Unusable,
}

impl Request {
    /// The value to look up before the expression is evaluated anew.
    pub(super) fn take_wanted(&self) -> Option<Reference> {
        self.reads().wanted.take()
    }

    /// Looks up a value for the next evaluation.
    pub(super) fn learn(&self, reference: Reference, source: &impl Lookup) {
        let known = source.lookup(&reference).map_or(Known::Missing, known);
        let mut reads = self.reads();
        reads.known.push((reference, known));
        reads.missing.clear();
        reads.unusable = false;
    }

    /// What is wrong with the last evaluation, whatever its result is.
    pub(super) fn verdict(&self) -> Result<(), EvalError> {
        let reads = self.reads();
        match reads.missing.iter().flatten().next() {
            Some(reference) => Err(EvalError::Missing(reference.clone())),
            None if reads.unusable => Err(EvalError::Unusable),
            None => Ok(()),
        }
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of `reference`, as far as it is known.
    fn read(self: &Arc<Self>, reference: Reference) -> Value {
        let mut reads = self.reads();
        let known = reads.known.iter().find(|(known, _)| *known == reference);
        let known = known.map(|(_, known)| known.clone());
        match known {
            Some(Known::Object) => self.members(reference),
            Some(Known::Plain(tree)) => self.value(&tree, reference),
            Some(Known::Missing) => {
                let place = reads.missing.len();
                reads.missing.push(Some(reference));
                let request = Arc::clone(self);
                Value::from_object(Absent { request, place })
            }
            Some(Known::Unusable) => {
                reads.unusable = true;
                Error::from(ErrorKind::InvalidOperation).into()
            }
            None => {
                reads.wanted.get_or_insert(reference);
                Error::from(ErrorKind::UndefinedError).into()
            }
        }
    }

    fn members(self: &Arc<Self>, reference: Reference) -> Value {
        let request = Arc::clone(self);
        Value::from_object(Members { request, reference })
    }

    fn value(self: &Arc<Self>, tree: &Tree, reference: Reference) -> Value {
        match tree {
            Tree::Object(_) => self.members(reference),
            Tree::Array(items) => {
                let item = |(place, item): (usize, &Tree)| match item {
                    Tree::Object(_) | Tree::Array(_) => self.value(item, step(&reference, place)),
                    _ => scalar(item),
                };
                let values = items.iter().enumerate().map(item).collect();
                let request = Arc::clone(self);
                Value::from_object(Items {
                    request,
                    reference,
                    values,
                })
            }
            _ => scalar(tree),
        }
    }
}

/// A value that has no members and no items.
fn scalar(tree: &Tree) -> Value {
    match tree {
        Tree::Bool(truth) => Value::from(*truth),
        Tree::String(text) => Value::from(text.as_str()),
        Tree::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64()),
        },
        Tree::Null | Tree::Array(_) | Tree::Object(_) => Value::from(()),
    }
}

fn plain(tree: Tree) -> Known {
    Known::Plain(Arc::new(tree))
}

fn known(found: Found<'_>) -> Known {
    match found {
        Found::Text(text) => plain(Tree::from(text)),
        Found::Tree(Tree::Object(_)) => Known::Object,
        Found::Tree(tree) => plain(tree.clone()),
        Found::Json(value) => match value.as_raw().as_bytes() {
            [b'{', ..] => Known::Object,
            text if text.len() > MAX_VALUE => Known::Unusable,
            text => serde_json::from_slice(text).map_or(Known::Unusable, plain),
        },
    }
}

/// What is at `name` in the value of `reference`.
fn step(reference: &Reference, name: impl ToString) -> Reference {
    let mut reference = reference.clone();
    reference.path.push(name.to_string());
    reference
}

// === impl Object: what an expression can do with each ===

impl Object for Request {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let root = Root::parse(key.as_str()?);
        let reference = Reference::to(root);
        match reference.root {
            Root::Node(_) => None,
            Root::Tier => Some(self.read(reference)),
            _ => Some(self.members(reference)),
        }
    }
}

/// The members of an object.
#[derive(Debug)]
struct Members {
    request: Arc<Request>,
    reference: Reference,
}

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let mut name = key.to_string();
        if self.reference.root == Root::Header {
            name.make_ascii_lowercase();
        }
        Some(self.request.read(step(&self.reference, name)))
    }

    /// It is not known which members there are, so an object is neither compared nor counted.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.request.reads().unusable = true;
        Enumerator::NonEnumerable
    }
}

/// The items of a list.
#[derive(Debug)]
struct Items {
    request: Arc<Request>,
    reference: Reference,
    values: Vec<Value>,
}

impl Object for Items {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let value = key.as_usize().and_then(|place| self.values.get(place));
        // What is not one of them is as missing as anything else.
        let other = || self.request.read(step(&self.reference, key));
        Some(value.cloned().unwrap_or_else(other))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.values.len())
    }
}

/// A value that is not there.
#[derive(Debug)]
pub(super) struct Absent {
    request: Arc<Request>,
    place: usize,
}

impl Absent {
    /// It was asked whether it is there: then it may be missing.
    pub(super) fn excuse(&self) {
        self.request.reads().missing[self.place] = None;
    }
}

impl Object for Absent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    /// There is nothing in it either.
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(Arc::clone(self)))
    }
}
