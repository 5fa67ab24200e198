//! Templates for single texts.

use super::{
    Bounded, Lookup, Reference, RenderError, Template, TemplateError, lookup::Values, verbatim,
};

/// A template for one text, such as the key of a call.
///
/// Literal text and values are inserted unchanged. A template whose placeholders are next to each other gives
/// different values the same text: `{jwt.a}{jwt.b}` does for `1`, `23` and `12`, `3`.
///
/// ```
/// use tower_fanout_json::template::{Found, Lookup, Reference, TextTemplate};
///
/// struct Acme;
///
/// impl Lookup for Acme {
///     fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
///         (reference.path == ["tenant"]).then(|| Found::Text("acme".into()))
///     }
/// }
///
/// let key = TextTemplate::parse("{jwt.tenant}/{header.x-region|eu}")?;
/// assert_eq!(key.render(&Acme, 100)?, "acme/eu");
/// assert!(key.render(&Acme, 6).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextTemplate {
    text: Template,
    references: Vec<Reference>,
}

impl TextTemplate {
    /// Parses `text`.
    ///
    /// # Errors
    /// Returns an error if `text` is not a valid template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut references = Vec::new();
        let text = Template::parse(text, &mut references)?;
        Ok(Self { text, references })
    }

    /// Returns all mistakes in the placeholders and braces of `text`, in the order of the text.
    #[must_use]
    pub fn errors(text: &str) -> Vec<TemplateError> {
        Template::parse_all(text, &mut Vec::new()).1
    }

    /// Returns the valid placeholders of `text`, which may have mistakes elsewhere. Each has the number of its first
    /// character, counted from 1.
    #[must_use]
    pub fn placeholders(text: &str) -> Vec<(usize, Reference)> {
        let mut found = Vec::new();
        Template::parse_each(text, |column, reference| {
            found.push((column, reference));
            found.len() - 1
        });
        found
    }

    /// Returns all placeholders, in the order of the text. [`Reference::node`] is `None`.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter()
    }

    /// Returns the text with the values of `source`.
    ///
    /// # Errors
    /// Returns a [`RenderError`] if a value is missing or is no text, or if the text would be longer than `max`
    /// bytes.
    pub fn render(&self, source: &impl Lookup, max: usize) -> Result<String, RenderError> {
        let values = &Values {
            references: &self.references,
            source,
        };
        let mut text = Bounded::new("the text", max);
        self.text.render(values, verbatim, verbatim, &mut text)?;
        Ok(text.text)
    }
}
