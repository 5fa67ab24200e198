//! Reads the keys of calls, by which a policy keeps separate limits and circuit breakers.

use tower_fanout::layers::CallKey;
use tower_fanout_json::template::{Lookup, Reference, Root, TextTemplate};

use super::{reader::ValueReader, value::did_you_mean};

/// Maximum length of a key in bytes. A subject identifier has at most 255 (OpenID Connect Core 1.0 §2).
const MAX_LENGTH: usize = 512;

/// The template of the key that the calls of a downstream have.
#[derive(Clone, Debug)]
pub(crate) struct KeyTemplate(TextTemplate);

impl KeyTemplate {
    /// Returns the key with the values of `source`.
    ///
    /// Returns `None` if a value without a default is missing, if a value is no text, or if the key is longer than
    /// [`MAX_LENGTH`], which bounds the memory of all keys. All such calls share one state.
    #[must_use]
    pub(crate) fn render(&self, source: &impl Lookup) -> Option<CallKey> {
        let text = self.0.render(source, MAX_LENGTH).ok()?;
        Some(text.into())
    }

    /// Returns the placeholders.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.references()
    }
}

/// Reads `text`, the template of a key at `reader`. Its placeholders must be values of the request, because plans with different nodes
/// can call the downstream.
pub(super) fn key(reader: &ValueReader<'_>, text: &str) -> Option<KeyTemplate> {
    let template = TextTemplate::parse(text);
    let template = template.map_err(|error| reader.error("template", error));
    let template = template.ok()?;
    let node = template
        .references()
        .find_map(|reference| match &reference.root {
            Root::Node(name) => Some(name.clone()),
            _ => None,
        });
    if let Some(name) = node {
        let message = format!("a key cannot use \"{name}\", which is no value of the request");
        let known = Root::RESERVED.join(", ");
        let help = did_you_mean(&name, Root::RESERVED)
            .unwrap_or_else(|| format!("a placeholder of a key must begin with {known}"));
        reader.error_with_help("reference", message, Some(help));
        return None;
    }
    if template.references().next().is_none() {
        let message = "expected a placeholder such as {jwt.sub}, got the same key for all requests";
        let help = "add a placeholder, or set the limits of the policy itself".to_owned();
        reader.error_with_help("invalid", message, Some(help));
        return None;
    }
    Some(KeyTemplate(template))
}
