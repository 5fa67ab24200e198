//! The way from the root of the schema to a key.

use serde_json::Value;

use super::{PLANNED, alternatives, flatten, resolve, words};

/// The schema of a value, beside the schema of the whole file.
#[derive(Clone, Copy)]
pub(in super::super) struct Place<'s> {
    root: &'s Value,
    /// The schema where the value is declared, with its default.
    declared: &'s Value,
}

impl<'s> Place<'s> {
    /// Returns the place of the whole file, of which `schema` is the schema.
    pub(in super::super) fn root(schema: &'s Value) -> Self {
        Self {
            root: schema,
            declared: schema,
        }
    }

    /// Returns the schemas of which the value may match one.
    fn schemas(self) -> Vec<&'s Value> {
        let schema = resolve(self.root, self.declared);
        let choice = alternatives(schema);
        choice.map_or_else(|| vec![schema], |choice| flatten(self.root, choice))
    }

    fn at(self, declared: &'s Value) -> Self {
        Self { declared, ..self }
    }

    /// Returns `true` if the keys of the map are names that the file chooses.
    pub(in super::super) fn has_names(self) -> bool {
        self.names().is_some()
    }

    /// Returns the place of the values under names that the file chooses.
    fn names(self) -> Option<Self> {
        self.names_of(&self.schemas())
    }

    fn names_of(self, schemas: &[&'s Value]) -> Option<Self> {
        let mut any = schemas
            .iter()
            .filter_map(|schema| schema.get("additionalProperties"));
        let named = any.find(|any| any.is_object());
        named.map(|named| self.at(named))
    }

    /// Returns the keys of the map that have a meaning of their own, with their places.
    pub(in super::super) fn keys(self) -> Vec<(&'s str, Self)> {
        let keys = self.schemas().into_iter();
        let keys = keys.filter_map(|schema| schema.get("properties")?.as_object());
        keys.flatten()
            .map(|(name, schema)| (name.as_str(), self.at(schema)))
            .collect()
    }

    /// Returns the places of the members of the map by their names.
    pub(in super::super) fn members(self) -> impl Fn(&str) -> Option<Self> {
        let schemas = self.schemas();
        let names = self.names_of(&schemas);
        let keys = schemas.into_iter();
        let keys: Vec<_> = keys.filter_map(|schema| schema.get("properties")).collect();
        move |name| {
            let key = keys.iter().find_map(|keys| keys.get(name));
            key.map(|key| self.at(key)).or(names)
        }
    }

    /// Returns the place of the member `name` of the map.
    pub(in super::super) fn member(self, name: &str) -> Option<Self> {
        self.members()(name)
    }

    /// Returns `true` if the map has the key `name`, with a meaning of its own.
    pub(in super::super) fn is_key(self, name: &str) -> bool {
        let mut keys = self
            .schemas()
            .into_iter()
            .filter_map(|schema| schema.get("properties"));
        keys.any(|keys| keys.get(name).is_some())
    }

    /// Returns the text formats that the value may have.
    pub(in super::super) fn formats(self) -> Vec<&'s str> {
        let formats = self.schemas().into_iter();
        let formats = formats.filter_map(|schema| schema.get("format")?.as_str());
        formats.collect()
    }

    /// Returns `true` if the map will have the key `name`, of a feature that is not implemented yet.
    pub(super) fn is_planned(self, name: &str) -> bool {
        let mut planned = self
            .schemas()
            .into_iter()
            .filter_map(|schema| schema.get(PLANNED));
        planned.any(|planned| planned.get(name).is_some())
    }

    /// Returns the place of the items of the list.
    pub(in super::super) fn item(self) -> Option<Self> {
        let items = self.schemas().into_iter();
        let items = items.filter_map(|schema| schema.get("items")).next();
        items.map(|items| self.at(items))
    }

    /// Returns `true` if the map has the defaults of its keys if the file does not have it.
    pub(in super::super) fn has_default(self) -> bool {
        self.declared.get("default").is_some()
    }

    /// Returns `true` if the value may be a text, a number or a boolean.
    pub(in super::super) fn accepts_scalars(self) -> bool {
        let is_scalar = |schema: &&Value| {
            let kind = schema.get("type").and_then(Value::as_str);
            !words(schema).is_empty()
                || kind.is_some_and(|kind| kind != "object" && kind != "array")
        };
        self.schemas().iter().any(is_scalar)
    }

    /// Returns `true` if the value may be a text.
    pub(in super::super) fn accepts_texts(self) -> bool {
        let is_text = |schema: &&Value| {
            let kind = schema.get("type");
            !words(schema).is_empty() || kind.is_some_and(|kind| kind == "string")
        };
        self.schemas().iter().any(is_text)
    }

    /// Returns `true` if the value may be a number.
    pub(in super::super) fn accepts_numbers(self) -> bool {
        let kinds = self.schemas().into_iter();
        let mut kinds = kinds.filter_map(|schema| schema.get("type")?.as_str());
        kinds.any(|kind| kind == "integer" || kind == "number")
    }

    /// Returns the scalar with this text: a number or boolean if the value may be one, and may not be the text.
    pub(in super::super) fn scalar(self, text: &str) -> Value {
        let schemas = self.schemas();
        let accepts = |kind: &str| {
            let accepted = schemas
                .iter()
                .filter_map(|schema| schema.get("type")?.as_str());
            accepted.into_iter().any(|accepted| accepted == kind)
        };
        let is_word = schemas.iter().any(|schema| words(schema).contains(&text));
        let parsed = serde_json::from_str(text)
            .ok()
            .filter(|parsed| match parsed {
                Value::Bool(_) => accepts("boolean"),
                Value::Number(_) => accepts("integer") || accepts("number"),
                _ => false,
            });
        let is_text = schemas.iter().any(|schema| {
            let is_text = schema.get("type").is_some_and(|kind| kind == "string");
            is_text && words(schema).is_empty()
        });
        match parsed {
            Some(parsed) if !is_word && !is_text => parsed,
            _ => text.into(),
        }
    }
}
