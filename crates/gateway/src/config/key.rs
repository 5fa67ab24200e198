//! Reads the keys of calls, by which a policy keeps separate limits and circuit breakers.

use std::fmt::Display;

use tower_fanout::layers::CallKey;
use tower_fanout_json::template::{Lookup, Reference, Root, TextTemplate};

use super::{
    reader::split_advice,
    text::{Fault, Shape, Text, name, request_value},
    value::did_you_mean,
};

/// Maximum length of a key in bytes. A subject identifier has at most 255 (OpenID Connect Core 1.0 §2).
const MAX_LENGTH: usize = 512;

/// The template of the key that the calls of a downstream have.
#[derive(Clone, Debug)]
pub(crate) struct KeyTemplate {
    /// The text of the template.
    written: String,
    template: TextTemplate,
}

impl KeyTemplate {
    /// Returns the key with the values of `source`.
    ///
    /// Returns `None` if a value without a default is missing, if a value is no text, or if the key is longer than
    /// [`MAX_LENGTH`], which bounds the memory of all keys. All such calls share one state.
    #[must_use]
    pub(crate) fn render(&self, source: &impl Lookup) -> Option<CallKey> {
        let text = self.template.render(source, MAX_LENGTH).ok()?;
        Some(text.into())
    }

    /// Returns the placeholders.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.template.references()
    }
}

/// Returns the description of the values that a key may have.
fn readable() -> String {
    let roots = Root::RESERVED.join(", ");
    format!("a key can read {roots}, as in \"{{jwt.sub}}\"")
}

/// Returns the fault of a key, with what a key can read after the hint.
fn fault(code: &'static str, got: String, hint: Option<String>, column: Option<usize>) -> Fault {
    Fault {
        got,
        help: Some(match hint {
            Some(hint) => format!("{hint} {}", readable()),
            None => readable(),
        }),
        column,
        ..Fault::new(code, "")
    }
}

/// The placeholders of a key must be values of the request, because plans with different nodes can call the
/// downstream.
impl Text for KeyTemplate {
    const FORMAT: &'static str = "key-template";
    const EXPECTED: &'static str = "a template with values of the request, such as \"{jwt.sub}\"";
    const SHAPE: Shape = Shape::Pattern(concat!(
        r"^([^{}]|\{\{|\}\})*\{",
        request_value!(),
        r"(\|[^}]*)?\}([^{}]|\{\{|\}\}|\{",
        request_value!(),
        r"(\|[^}]*)?\})*$"
    ));

    fn parse(text: &str) -> Result<Self, Fault> {
        match Self::faults(text).into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(Self {
                written: text.to_owned(),
                template: TextTemplate::parse(text)
                    .map_err(|error| Fault::new("template", error.to_string()))?,
            }),
        }
    }

    fn faults(text: &str) -> Vec<Fault> {
        let errors = TextTemplate::errors(text);
        let placeholders = TextTemplate::placeholders(text);
        if errors.is_empty() && placeholders.is_empty() {
            let message = "expected a placeholder, got the same key for all requests".to_owned();
            let hint = "add a placeholder, or set the limits of the policy itself;".to_owned();
            return vec![fault("invalid", message, Some(hint), None)];
        }
        let nodes = placeholders.iter().filter_map(|(column, reference)| {
            let Root::Node(name) = &reference.root else {
                return None;
            };
            let message = format!("a key cannot use \"{name}\", which is no value of the request");
            let hint = did_you_mean(name, Root::RESERVED);
            Some(fault("reference", message, hint, Some(*column)))
        });
        let errors = errors.iter().map(|error| {
            let message = error.to_string();
            let (message, advice) = split_advice(&message);
            let hint = advice.map(|advice| format!("{advice};"));
            fault("template", message.to_owned(), hint, error.column())
        });
        errors.chain(nodes).collect()
    }

    fn written(&self) -> impl Display {
        &self.written
    }
}
