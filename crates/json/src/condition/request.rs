//! The request as values of the expression engine.
//!
//! Values are looked up when the expression reads them, each at most once, and are kept until the evaluation ends. The
//! lookups of one evaluation are bounded together.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer},
        types::{CelString, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};

use super::{
    convert::{self, Converted},
    reads::step,
};
use crate::{
    Value,
    check::{members, unescaped},
    template::{Found, Lookup, Reference, Root},
};

/// Maximum size of a text or list that a condition can use, in bytes of its JSON: 8 KiB.
pub(super) const MAX_VALUE: usize = 8 << 10;

/// Maximum number of items of a list that a condition can use, with the items and members inside of them.
pub(super) const MAX_ITEMS: usize = 256;

/// Maximum number of members that one evaluation passes to find its values, and of items that it converts.
const MAX_WORK: usize = 4096;

/// A request, and the values that an evaluation has read from it.
pub(super) struct Request<'s> {
    source: &'s (dyn Lookup + Sync),
    first: Link<'s>,
    /// Members passed and items converted so far.
    work: AtomicUsize,
    /// The first value that was used although it is too large.
    too_large: OnceLock<Reference>,
}

type Link<'s> = OnceLock<Box<Read<'s>>>;

/// A value that was read, and a link to the value that was read after it.
///
/// The engine borrows values during the whole evaluation, so they must not move.
struct Read<'s> {
    reference: Reference,
    value: Known<'s>,
    next: Link<'s>,
}

/// The result of a lookup.
enum Known<'s> {
    Missing,
    /// Not text, or a number out of range.
    Unusable,
    /// An object whose members are looked up one by one.
    Object,
    /// A text or list above the limits, or found after too much work.
    Large,
    Value(Box<dyn Val + 's>),
}

impl<'s> Request<'s> {
    pub(super) fn new(source: &'s (dyn Lookup + Sync)) -> Self {
        Self {
            source,
            first: OnceLock::new(),
            work: AtomicUsize::new(0),
            too_large: OnceLock::new(),
        }
    }

    /// Returns the value that was used although it is too large.
    pub(super) fn too_large(&self) -> Option<&Reference> {
        self.too_large.get()
    }

    /// Returns the value of `reference`.
    fn read(&self, reference: Reference) -> &Known<'s> {
        let mut link = &self.first;
        loop {
            let read = match link.get() {
                Some(read) => read,
                None => {
                    let value = self.find(&reference);
                    let reference = reference.clone();
                    let next = OnceLock::new();
                    link.get_or_init(|| {
                        Box::new(Read {
                            reference,
                            value,
                            next,
                        })
                    })
                }
            };
            if read.reference == reference {
                return &read.value;
            }
            link = &read.next;
        }
    }

    /// Looks `reference` up.
    fn find(&self, reference: &Reference) -> Known<'s> {
        // The work for a member of the body depends on the body, so the body itself is looked up.
        let found = match reference.root {
            Root::Body => match self.source.lookup(&Reference::to(Root::Body)) {
                Some(Found::Json(body)) => match self.member_of(body, &reference.path) {
                    Ok(member) => member.map(Found::Json),
                    Err(known) => return known,
                },
                _ => self.source.lookup(reference),
            },
            _ => self.source.lookup(reference),
        };
        let Some(found) = found else {
            return Known::Missing;
        };
        match convert::convert(found) {
            Converted::Value(value, work) => match self.works(work) {
                true => Known::Value(value),
                false => Known::Large,
            },
            Converted::Object => Known::Object,
            Converted::Large => Known::Large,
            Converted::Unusable => Known::Unusable,
        }
    }

    /// Returns the member of `body` at `path`, or the result that ends the search.
    fn member_of<'j>(
        &self,
        body: Value<'j>,
        path: &[String],
    ) -> Result<Option<Value<'j>>, Known<'s>> {
        let mut value = body;
        for step in path {
            if !value.is_object() {
                return Ok(None);
            }
            let mut found = None;
            for (name, member) in members(value) {
                if !self.works(1) {
                    return Err(Known::Large);
                }
                // The last of several members with one name counts.
                if *unescaped(name) == *step.as_bytes() {
                    found = Some(member);
                }
            }
            match found {
                Some(member) => value = member,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// Adds `work`, and returns `true` if its sum is within the limit.
    fn works(&self, work: usize) -> bool {
        self.work.fetch_add(work, Ordering::Relaxed) + work <= MAX_WORK
    }
}

/// Shows no values, which may be secret.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request(…)")
    }
}

impl VariableResolver for Request<'_> {
    /// Returns the value called `name`. The engine asks for `query.page` before it asks for `query`.
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let (root, path) = name
            .split_once('.')
            .map_or((name, None), |(root, path)| (root, Some(path)));
        let root = Root::parse(root);
        if matches!(root, Root::Node(_)) {
            return None;
        }
        let is_map = root != Root::Tier;
        let mut reference = Reference::to(root);
        match path {
            Some(path) => reference = path.split('.').fold(reference, step),
            None if is_map => return Some(CowVal::owned(Unread::new(self, reference, true))),
            None => {}
        }
        match self.read(reference) {
            Known::Value(value) => Some(CowVal::Borrowed(value.as_ref())),
            // The engine then asks for the map that should have the member, which reports the error.
            _ => None,
        }
    }
}

/// A map of the request, of which only members are read, or a value that is too large to be used.
#[derive(Clone, Debug)]
struct Unread<'e, 's> {
    request: &'e Request<'s>,
    reference: Reference,
    is_map: bool,
}

/// The type of a value that is too large. No function accepts it.
static LARGE: Type = Type::new_unspecified_type("too_large");

impl<'e, 's> Unread<'e, 's> {
    const fn new(request: &'e Request<'s>, reference: Reference, is_map: bool) -> Self {
        Self {
            request,
            reference,
            is_map,
        }
    }

    /// Fails the evaluation, because the value is too large for its use.
    fn reject(&self) {
        self.request
            .too_large
            .get_or_init(|| self.reference.clone());
    }

    /// Returns the member called `key`, or `None` if it is missing.
    fn member(&self, key: &dyn Val) -> Result<Option<CowVal<'e, 'e>>, ExecutionError> {
        let Some(name) = key.downcast_ref::<CelString<'_>>() else {
            return Err(ExecutionError::no_such_overload("_[_]", Vec::new()));
        };
        let reference = step(self.reference.clone(), name.inner());
        Ok(match self.request.read(reference.clone()) {
            Known::Value(value) => Some(CowVal::Borrowed(value.as_ref())),
            Known::Missing => None,
            Known::Unusable => {
                return Err(ExecutionError::function_error("read", "unusable value"));
            }
            Known::Object => Some(CowVal::owned(Self::new(self.request, reference, true))),
            Known::Large => Some(CowVal::owned(Self::new(self.request, reference, false))),
        })
    }
}

impl Val for Unread<'_, '_> {
    fn get_type(&self) -> &Type {
        if self.is_map {
            return Self::cel_type();
        }
        // Each use but a test with `has` or `in` asks for the type.
        self.reject();
        &LARGE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.is_map.then_some(self as &dyn Container)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        self.is_map.then_some(self as &'b (dyn Indexer + 'v))
    }

    /// Fails the evaluation: the value is not read as a whole, so nothing equals it.
    fn equals(&self, _: &dyn Val) -> bool {
        self.reject();
        false
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

impl Container for Unread<'_, '_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.member(key)?.is_some())
    }
}

impl Indexer for Unread<'_, '_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        // The engine takes this error as the answer of `has`.
        let missing = || ExecutionError::no_such_key("");
        self.member(key)?.ok_or_else(missing)
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.get(key)?.into_owned())
    }
}
