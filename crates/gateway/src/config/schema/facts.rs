//! Facts about the schemas of a file, each of which is the schema of many values.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use serde_json::{Map, Value};

use super::{EXACTLY_ONE, PARTIAL, alternatives, flatten, resolve, unknown};

/// A schema with its parts that a check needs, each of which takes look-ups to find.
pub(super) struct Facts<'s> {
    /// The schema to which the references of the declared one lead.
    pub(super) schema: &'s Value,
    /// `true` if a list must have items.
    pub(super) needs_items: bool,
    pub(super) has_type: bool,
    /// The alternatives of a schema without a type.
    pub(super) choice: Option<Vec<&'s Value>>,
    /// The keys that have a meaning of their own.
    pub(super) keys: Option<&'s Map<String, Value>>,
    /// The schema of the values under other names.
    pub(super) any: Option<&'s Value>,
    /// The schema of the names.
    pub(super) names: Option<&'s Value>,
    pub(super) required: Vec<&'s str>,
    /// `true` if a map without a required key is read too.
    pub(super) is_partial: bool,
    /// `true` if some keys exclude or require others.
    pub(super) has_relations: bool,
}

impl<'s> Facts<'s> {
    fn new(root: &'s Value, declared: &'s Value) -> Self {
        let schema = resolve(root, declared);
        let has_type = schema.get("type").is_some();
        let choice = alternatives(schema).filter(|_| !has_type);
        let any = schema.get("additionalProperties");
        Self {
            schema,
            // Is beside a reference if a key limits a type of its own.
            needs_items: declared.get("minItems").is_some(),
            has_type,
            choice: choice.map(|choice| flatten(root, choice)),
            keys: schema.get("properties").and_then(Value::as_object),
            any: any.filter(|any| any.is_object()),
            names: schema.get("propertyNames"),
            required: unknown::required(schema).collect(),
            is_partial: schema.get(PARTIAL).is_some(),
            has_relations: [EXACTLY_ONE, "dependencies"]
                .iter()
                .any(|key| schema.get(key).is_some()),
        }
    }
}

/// The facts about all schemas in a root schema, found once for each.
pub(super) struct AllFacts<'s> {
    root: &'s Value,
    found: RefCell<HashMap<*const Value, Rc<Facts<'s>>>>,
}

impl<'s> AllFacts<'s> {
    pub(super) fn new(root: &'s Value) -> Self {
        Self {
            root,
            found: RefCell::default(),
        }
    }

    /// Returns the facts about `schema`, which is a part of the root schema.
    pub(super) fn of(&self, schema: &'s Value) -> Rc<Facts<'s>> {
        let mut found = self.found.borrow_mut();
        let facts = found.entry(std::ptr::from_ref(schema));
        let new = || Rc::new(Facts::new(self.root, schema));
        facts.or_insert_with(new).clone()
    }
}
