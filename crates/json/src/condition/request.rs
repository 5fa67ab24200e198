//! The request as an object of the expression engine.
//!
//! The engine needs values that it can own, but the source of values is only borrowed. Reading a
//! value that is not known yet therefore ends the evaluation with an error. The value is then
//! looked up and stored, and the expression is evaluated again. This repeats until all values are
//! known.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minijinja::{
    Error, ErrorKind, Value,
    value::{Enumerator, Object, ObjectRepr},
};
use serde_json::Value as Tree;

use super::EvalError;
use crate::template::{Found, Lookup, Reference, Root};

/// Maximum size of a text or list that a condition can read, in bytes of its JSON: 64 KiB.
const MAX_VALUE: usize = 64 << 10;

/// The values that have been read from a request.
#[derive(Debug, Default)]
pub(super) struct Request(Mutex<Reads>);

#[derive(Debug, Default)]
struct Reads {
    known: Vec<(Reference, Known)>,
    /// The first value that this evaluation read and that is not known yet.
    wanted: Option<Reference>,
    /// The missing values that this evaluation read. An entry becomes `None` once the expression
    /// tests if the value is defined.
    missing: Vec<Option<Reference>>,
    /// The first value that this evaluation used in a way that it does not support.
    unusable: Option<Reference>,
    /// The value that was read last.
    last: Option<Reference>,
}

/// The result of a lookup.
#[derive(Clone, Debug)]
enum Known {
    Missing,
    /// An object. Its members are looked up separately.
    Object,
    /// A scalar or a list.
    Plain(Arc<Tree>),
    /// A value above [`MAX_VALUE`], a number out of range, or no text.
    Unusable,
}

impl Request {
    /// Takes the value to look up before the next evaluation. Returns `None` if all values that the
    /// last evaluation read are known.
    pub(super) fn take_wanted(&self) -> Option<Reference> {
        self.reads().wanted.take()
    }

    /// Looks up `reference` and prepares the next evaluation.
    pub(super) fn learn(&self, reference: Reference, source: &impl Lookup) {
        let known = source.lookup(&reference).map_or(Known::Missing, known);
        let mut reads = self.reads();
        reads.known.push((reference, known));
        reads.missing.clear();
        reads.unusable = None;
    }

    /// Returns the error of the last evaluation if it read a missing value or misused one. Such an
    /// evaluation is invalid whatever its result is.
    pub(super) fn verdict(&self) -> Result<(), EvalError> {
        let reads = self.reads();
        match reads.missing.iter().flatten().next() {
            Some(reference) => Err(EvalError::Missing(reference.clone())),
            None if reads.unusable.is_some() => Err(EvalError::Unusable(reads.unusable.clone())),
            None => Ok(()),
        }
    }

    /// Returns the value that the last evaluation read last.
    pub(super) fn last_read(&self) -> Option<Reference> {
        self.reads().last.clone()
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value of `reference`. A value that is not known yet is recorded and read as an
    /// error.
    fn read(self: &Arc<Self>, reference: Reference) -> Value {
        let mut reads = self.reads();
        let known = reads.known.iter().find(|(known, _)| *known == reference);
        let known = known.map(|(_, known)| known.clone());
        reads.last = Some(reference.clone());
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
                reads.unusable.get_or_insert(reference);
                Error::from(ErrorKind::InvalidOperation).into()
            }
            None => {
                reads.wanted.get_or_insert(reference);
                Error::from(ErrorKind::UndefinedError).into()
            }
        }
    }

    /// Returns the object at `reference`.
    fn members(self: &Arc<Self>, reference: Reference) -> Value {
        let request = Arc::clone(self);
        Value::from_object(Members { request, reference })
    }

    /// Converts a parsed value. `reference` is its position, for errors about missing members.
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

/// Converts a value that is not an object or a list.
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

/// Converts the result of a lookup to a form that can be kept.
fn known(found: Found<'_>) -> Known {
    match found {
        Found::Text(text) => plain(Tree::from(text)),
        Found::Tree(Tree::Object(_)) => Known::Object,
        Found::Tree(tree) => plain(tree.clone()),
        Found::Unusable => Known::Unusable,
        Found::Json(value) => match value.as_raw().as_bytes() {
            [b'{', ..] => Known::Object,
            text if text.len() > MAX_VALUE => Known::Unusable,
            text => serde_json::from_slice(text).map_or(Known::Unusable, plain),
        },
    }
}

/// Returns a reference to the member or item `name` of `reference`.
fn step(reference: &Reference, name: impl ToString) -> Reference {
    let mut reference = reference.clone();
    reference.path.push(name.to_string());
    reference
}

// === impl Object: the operations that an expression can apply ===

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
        // Header names are case-insensitive.
        if self.reference.root == Root::Header {
            name.make_ascii_lowercase();
        }
        Some(self.request.read(step(&self.reference, name)))
    }

    /// Marks the evaluation as invalid. Members are looked up one by one, so an object can be
    /// neither compared nor counted.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let mut reads = self.request.reads();
        reads.unusable.get_or_insert_with(|| self.reference.clone());
        drop(reads);
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
        // An index out of range reads as a missing value.
        let other = || self.request.read(step(&self.reference, key));
        Some(value.cloned().unwrap_or_else(other))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.values.len())
    }
}

/// A missing value.
#[derive(Debug)]
pub(super) struct Absent {
    request: Arc<Request>,
    /// Index in `Reads::missing`.
    place: usize,
}

impl Absent {
    /// Clears the error for this value. Called when the expression tests if the value is defined.
    pub(super) fn excuse(&self) {
        self.request.reads().missing[self.place] = None;
    }
}

impl Object for Absent {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    /// Returns the missing value itself: its members are missing too.
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        Some(Value::from_dyn_object(Arc::clone(self)))
    }
}
