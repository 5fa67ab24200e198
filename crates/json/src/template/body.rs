//! JSON documents with placeholders in their strings.

use serde_json::Value;

use super::{Part, Reference, Template, TemplateError};

/// Parses the strings of `document` as templates, and adds their placeholders to `references`.
/// Returns a template whose literal text is JSON.
///
/// # Errors
/// Returns an error if a string is not a valid template, or if a member name has a placeholder.
pub(super) fn parse(
    document: &Value,
    references: &mut Vec<Reference>,
) -> Result<Template, TemplateError> {
    let mut out = Template::default();
    let mut body = BodyParser {
        references,
        out: &mut out,
    };
    body.value(document)?;
    Ok(out)
}

struct BodyParser<'b> {
    references: &'b mut Vec<Reference>,
    out: &'b mut Template,
}

impl BodyParser<'_> {
    /// Appends a JSON value.
    fn value(&mut self, value: &Value) -> Result<(), TemplateError> {
        match value {
            Value::String(text) => self.string(text)?,
            Value::Array(items) => {
                self.out.text("[");
                for (place, item) in items.iter().enumerate() {
                    self.out.text(if place == 0 { "" } else { "," });
                    self.value(item)?;
                }
                self.out.text("]");
            }
            Value::Object(members) => {
                self.out.text("{");
                for (place, (name, value)) in members.iter().enumerate() {
                    self.out.text(if place == 0 { "" } else { "," });
                    self.name(name)?;
                    self.out.text(":");
                    self.value(value)?;
                }
                self.out.text("}");
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.out.text(&value.to_string()),
        }
        Ok(())
    }

    /// Appends a member name. Names are templates too, so that braces are doubled everywhere in a
    /// document.
    fn name(&mut self, name: &str) -> Result<(), TemplateError> {
        let known = self.references.len();
        self.string(name)?;
        if self.references.len() > known {
            return Err(TemplateError::new(format!(
                "a member name must not have a placeholder, got \"{name}\""
            )));
        }
        Ok(())
    }

    /// Appends a string.
    fn string(&mut self, text: &str) -> Result<(), TemplateError> {
        let template = Template::parse(text, self.references)?;
        if let [Part::Value(index)] = template.parts[..] {
            self.out.parts.push(Part::Json(index));
            return Ok(());
        }
        self.out.text("\"");
        for part in template.parts {
            match part {
                Part::Text(text) => self.out.text(&escaped(&text)),
                value => self.out.parts.push(value),
            }
        }
        self.out.text("\"");
        Ok(())
    }
}

/// Returns `text` as the content of a JSON string, without the quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Appends `text` as the content of a JSON string, as an [`Escape`](super::Escape).
pub(super) fn escape(text: &str, out: &mut String) {
    out.push_str(&escaped(text));
}
