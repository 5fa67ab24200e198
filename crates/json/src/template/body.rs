//! JSON documents with placeholders in their strings.

use std::fmt;

use serde_json::{Value, value::RawValue};

use super::{
    Bounded, Lookup, Part, Reference, RenderError, Template, TemplateError, debug, verbatim,
};

/// Maximum size of a rendered body: 1 MiB.
const MAX_BODY: usize = 1 << 20;

/// A JSON document whose strings may have placeholders, as a sequence of literal JSON and
/// placeholders.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct BodyTemplate {
    pieces: Vec<Piece>,
}

impl fmt::Debug for BodyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("BodyTemplate", self.references(), f)
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    /// Literal JSON text.
    Json(String),
    /// A placeholder that is a whole string. The value keeps its JSON type.
    Whole(Reference),
    /// A placeholder within a longer string. The value is inserted as text.
    Within(Reference),
}

impl BodyTemplate {
    /// Parses the strings of `document`.
    ///
    /// # Errors
    /// Returns an error if a string is not a valid template, or if a member name has a placeholder.
    pub(super) fn new(document: &Value) -> Result<Self, TemplateError> {
        let mut body = Self::default();
        body.value(document)?;
        Ok(body)
    }

    pub(super) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Whole(reference) | Piece::Within(reference) => Some(reference),
            Piece::Json(_) => None,
        })
    }

    pub(super) fn references_mut(&mut self) -> impl Iterator<Item = &mut Reference> {
        self.pieces.iter_mut().filter_map(|piece| match piece {
            Piece::Whole(reference) | Piece::Within(reference) => Some(reference),
            Piece::Json(_) => None,
        })
    }

    /// Returns the document with the values of `source`.
    pub(super) fn render(&self, source: &impl Lookup) -> Result<String, RenderError> {
        let mut out = Bounded::new("the body", MAX_BODY);
        for piece in &self.pieces {
            match piece {
                Piece::Json(json) => out.push(json, verbatim)?,
                Piece::Within(reference) => out.push(&reference.text(source)?, escape)?,
                Piece::Whole(reference) => match source.lookup(reference) {
                    Some(found) => out.push(&found.into_json(), verbatim)?,
                    None => out.push(&default(reference)?, verbatim)?,
                },
            }
        }
        Ok(out.into_text())
    }

    /// Appends a JSON value.
    fn value(&mut self, value: &Value) -> Result<(), TemplateError> {
        match value {
            Value::String(text) => self.string(&Template::parse(text)?),
            Value::Array(items) => {
                self.json("[");
                for (place, item) in items.iter().enumerate() {
                    self.json(if place == 0 { "" } else { "," });
                    self.value(item)?;
                }
                self.json("]");
            }
            Value::Object(members) => {
                self.json("{");
                for (place, (name, value)) in members.iter().enumerate() {
                    self.json(if place == 0 { "" } else { "," });
                    self.name(name)?;
                    self.value(value)?;
                }
                self.json("}");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.json(&value.to_string()),
        }
        Ok(())
    }

    /// Appends a member name and its colon.
    fn name(&mut self, name: &str) -> Result<(), TemplateError> {
        let template = Template::parse(name)?;
        if template.references().next().is_some() {
            return Err(TemplateError::new(format!(
                "placeholder in member name \"{name}\"; only values may have placeholders"
            )));
        }
        // Names are templates too, so that braces are doubled everywhere in a document.
        self.string(&template);
        self.json(":");
        Ok(())
    }

    /// Appends a string.
    fn string(&mut self, template: &Template) {
        if let [Part::Value(reference)] = &template.parts[..] {
            self.pieces.push(Piece::Whole(reference.clone()));
            return;
        }
        self.json("\"");
        for part in &template.parts {
            match part {
                Part::Text(text) => self.json(&escaped(text)),
                Part::Value(reference) => self.pieces.push(Piece::Within(reference.clone())),
            }
        }
        self.json("\"");
    }

    /// Appends literal JSON.
    fn json(&mut self, json: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Json(last)) => last.push_str(json),
            _ => self.pieces.push(Piece::Json(json.to_owned())),
        }
    }
}

/// Returns the default of `reference` as JSON: a number, `true`, `false` or `null` with its type,
/// and any other text as a string.
fn default(reference: &Reference) -> Result<String, RenderError> {
    let Some(text) = &reference.default else {
        return Err(RenderError::Missing(reference.clone()));
    };
    match serde_json::from_str::<&RawValue>(text).map(RawValue::get) {
        Ok(json) if !json.starts_with(['"', '{', '[']) => Ok(json.to_owned()),
        _ => Ok(Value::from(text.as_str()).to_string()),
    }
}

/// Returns `text` as the content of a JSON string, without the quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Appends `text` as the content of a JSON string, as an [`Escape`](super::Escape).
fn escape(text: &str, out: &mut String) {
    out.push_str(&escaped(text));
}
