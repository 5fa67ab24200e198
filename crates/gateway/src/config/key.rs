//! Reads the keys of calls, by which a policy keeps separate limits and circuit breakers.

use std::fmt::Display;

use tower_fanout::layers::CallKey;
use tower_fanout_json::template::{Lookup, Reference, Root, TextTemplate};

use super::{
    reader::split_advice,
    text::{Fault, Shape, Text},
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

/// The placeholders of a key must be values of the request, because plans with different nodes can call the
/// downstream.
impl Text for KeyTemplate {
    const FORMAT: &'static str = "key-template";
    const EXPECTED: &'static str = "a template with values of the request, such as \"{jwt.sub}\"";
    const SHAPE: Shape = Shape::Pattern(concat!(
        r"^([^{}]|\{\{|\}\})*\{(body|query|header|jwt|route|tier)([.|][^}]*)?\}",
        r"([^{}]|\{\{|\}\}|\{(body|query|header|jwt|route|tier)([.|][^}]*)?\})*$"
    ));

    fn parse(text: &str) -> Result<Self, Fault> {
        let fault = |code, got: String, hint: Option<String>| Fault {
            got,
            help: Some(match hint {
                Some(hint) => format!("{hint} {}", readable()),
                None => readable(),
            }),
            ..Fault::new(code, "")
        };
        let template = TextTemplate::parse(text);
        let template = template.map_err(|error| {
            let error = error.to_string();
            let (message, advice) = split_advice(&error);
            fault(
                "template",
                message.to_owned(),
                advice.map(|advice| format!("{advice};")),
            )
        })?;
        let node = template
            .references()
            .find_map(|reference| match &reference.root {
                Root::Node(name) => Some(name),
                _ => None,
            });
        if let Some(name) = node {
            let message = format!("a key cannot use \"{name}\", which is no value of the request");
            let hint = did_you_mean(name, Root::RESERVED);
            return Err(fault("reference", message, hint));
        }
        if template.references().next().is_none() {
            let message = "expected a placeholder, got the same key for all requests";
            let hint = "add a placeholder, or set the limits of the policy itself;".to_owned();
            return Err(fault("invalid", message.to_owned(), Some(hint)));
        }
        Ok(Self {
            written: text.to_owned(),
            template,
        })
    }

    fn written(&self) -> impl Display {
        &self.written
    }
}
